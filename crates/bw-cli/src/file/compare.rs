//! `bwscan file diff`.

use std::path::PathBuf;

use bw_file::{Diff, Document, NetworkComparison};
use clap::Args;
use serde::Serialize;

use super::Output;
use super::input::read_one;
use super::style::printable;

#[derive(Args, Debug)]
pub(super) struct DiffArgs {
    /// The first file.
    before: PathBuf,
    /// The second file.
    after: PathBuf,
}

#[derive(Serialize)]
struct Compared<'a> {
    diff: &'a Diff,
    network: NetworkComparison,
}

pub(super) fn run(args: &DiffArgs, output: &mut Output<'_>) -> anyhow::Result<bool> {
    let (before, after) = (read_one(&args.before)?, read_one(&args.after)?);
    let (before, after) = (Document::parse(&before), Document::parse(&after));
    let diff = Diff::between(&before, &after);
    let network = NetworkComparison::between(&before, &after);
    if output.json {
        output.json_line(&Compared {
            diff: &diff,
            network,
        })?;
        return Ok(diff.is_empty());
    }
    let none = || "-".to_owned();
    for change in &diff.headers {
        writeln!(
            output.out,
            "header {}: {} -> {}",
            printable(&change.key),
            change.before.as_deref().map_or_else(none, printable),
            change.after.as_deref().map_or_else(none, printable)
        )?;
    }
    for (sign, changes) in [("-", &diff.lost), ("+", &diff.gained), ("~", &diff.changed)] {
        for change in changes {
            let shown = |bw: Option<bw_file::KilobytesPerSecond>, voted: bool| match bw {
                Some(bw) if voted => bw.to_string(),
                Some(bw) => format!("{bw} (vote=0)"),
                None => none(),
            };
            writeln!(
                output.out,
                "{sign} {} {} -> {}",
                change.relay,
                shown(change.before, change.voted_before),
                shown(change.after, change.voted_after)
            )?;
        }
    }
    let number = |value: Option<f64>| value.map_or_else(none, |value| format!("{value:.4}"));
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
