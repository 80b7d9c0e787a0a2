//! `bwscan file diff`.

use std::path::PathBuf;

use bw_file::{Diff, Document, KeyChange, KilobytesPerSecond, NetworkComparison, RelayChange};
use clap::Args;
use serde::Serialize;

use super::Output;
use super::input::read_one;
use super::style::{paint_change, printable};

#[derive(Args, Debug)]
pub(super) struct DiffArgs {
    /// The first file.
    before: PathBuf,
    /// The second file.
    after: PathBuf,
    /// Compares all keys of each relay, not only what authorities use.
    #[arg(long)]
    keys: bool,
}

#[derive(Serialize)]
struct Compared<'a> {
    diff: &'a Diff,
    network: NetworkComparison,
}

pub(super) fn run(args: &DiffArgs, output: &mut Output<'_>) -> anyhow::Result<bool> {
    let (before, after) = (read_one(&args.before)?, read_one(&args.after)?);
    let (before, after) = (Document::parse(&before), Document::parse(&after));
    let compare = if args.keys {
        Diff::of_all_keys
    } else {
        Diff::between
    };
    let diff = compare(&before, &after);
    let network = NetworkComparison::between(&before, &after);
    if output.json {
        output.json_line(&Compared {
            diff: &diff,
            network,
        })?;
        return Ok(diff.is_empty());
    }
    for change in &diff.headers {
        writeln!(output.out, "header {}", shown_key(change))?;
    }
    for (sign, changes) in [('-', &diff.lost), ('+', &diff.gained), ('~', &diff.changed)] {
        for change in changes {
            let line = format!("{sign} {}", shown_relay(change));
            writeln!(output.out, "{}", paint_change(&line, sign, output.color))?;
            for key in &change.keys {
                writeln!(output.out, "    {}", shown_key(key))?;
            }
        }
    }
    let number =
        |value: Option<f64>| value.map_or_else(|| NONE.to_owned(), |value| format!("{value:.4}"));
    writeln!(
        output.out,
        "{} relays in both; total {} -> {}; rank correlation {}; total variation {}",
        network.common,
        network.total_before,
        network.total_after,
        number(network.rank_correlation),
        number(network.total_variation)
    )?;
    Ok(diff.is_empty())
}

const NONE: &str = "-";

fn shown_key(change: &KeyChange) -> String {
    let value =
        |value: &Option<String>| value.as_deref().map_or_else(|| NONE.to_owned(), printable);
    let (before, after) = (value(&change.before), value(&change.after));
    format!("{}: {before} -> {after}", printable(&change.key))
}

fn shown_relay(change: &RelayChange) -> String {
    let shown = |bw: Option<KilobytesPerSecond>, voted: bool| match bw {
        Some(bw) if voted => bw.to_string(),
        Some(bw) => format!("{bw} (vote=0)"),
        None => NONE.to_owned(),
    };
    let before = shown(change.before, change.voted_before);
    let after = shown(change.after, change.voted_after);
    let old_name = change
        .relay_before
        .map_or_else(String::new, |old| format!(" (was {old})"));
    let ratio = change
        .ratio()
        .map_or_else(String::new, |ratio| format!(" (x{ratio:.2})"));
    format!("{}{old_name} {before} -> {after}{ratio}", change.relay)
}
