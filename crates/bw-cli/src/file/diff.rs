//! `bwscan file diff`.

use std::cmp::Reverse;
use std::path::PathBuf;

use bw_file::{Diff, KeyChange, KilobytesPerSecond, NetworkComparison, RelayChange};
use clap::Args;
use serde::Serialize;

use super::Output;
use super::input::read_one;
use super::style::{at_least_one, paint_change};
use crate::text::factor;
use crate::text::printable;

#[derive(Args, Debug)]
pub(super) struct DiffArgs {
    /// Take this file as the old one.
    before: PathBuf,
    /// Take this file as the new one.
    after: PathBuf,
    /// Compare all keys of each relay, not only those that authorities use.
    #[arg(long)]
    keys: bool,
    /// Show only this many relays of each kind: changed, gained, lost.
    ///
    /// Relays that changed are ordered by factor, the others by bandwidth.
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// Show only changes of bandwidth by this factor or more.
    #[arg(long, value_parser = at_least_one, value_name = "FACTOR")]
    min_factor: Option<f64>,
}

impl DiffArgs {
    /// Leaves out the relays that are not to be shown; returns their number.
    fn choose(&self, diff: &mut Diff) -> usize {
        let all = diff.changed.len() + diff.gained.len() + diff.lost.len();
        if let Some(least) = self.min_factor {
            diff.changed.retain(|change| change.factor() >= least);
        }
        if let Some(top) = self.top {
            diff.changed
                .sort_by(|a, b| b.factor().total_cmp(&a.factor()));
            diff.gained.sort_by_key(|gained| Reverse(gained.after));
            diff.lost.sort_by_key(|lost| Reverse(lost.before));
            for changes in [&mut diff.changed, &mut diff.gained, &mut diff.lost] {
                changes.truncate(top);
            }
        }
        all - diff.changed.len() - diff.gained.len() - diff.lost.len()
    }
}

#[derive(Serialize)]
struct Compared<'a> {
    diff: &'a Diff,
    /// Relays that differ and are not shown.
    left_out: usize,
    network: NetworkComparison,
}

pub(super) fn run(args: &DiffArgs, output: &mut Output<'_>) -> anyhow::Result<bool> {
    let (before, after) = (read_one(&args.before)?, read_one(&args.after)?);
    let compare = if args.keys {
        Diff::of_all_keys
    } else {
        Diff::between
    };
    let mut diff = compare(&before, &after);
    let same = diff.is_empty();
    let left_out = args.choose(&mut diff);
    let network = NetworkComparison::between(&before, &after);
    if output.json {
        output.json_line(&Compared {
            diff: &diff,
            left_out,
            network,
        })?;
        return Ok(same);
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
    if left_out > 0 {
        writeln!(output.out, "{left_out} relays that differ are not shown")?;
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
    Ok(same)
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
        .map_or_else(String::new, |ratio| format!(" ({})", factor(ratio)));
    let nick = change
        .nick
        .as_ref()
        .map_or_else(String::new, |nick| format!(" {nick}"));
    format!(
        "{}{nick}{old_name} {before} -> {after}{ratio}",
        change.relay
    )
}
