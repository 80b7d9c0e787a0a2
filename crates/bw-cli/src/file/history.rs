//! `bwscan file history`.

use std::path::PathBuf;

use bw_file::{Document, Fingerprint, KilobytesPerSecond, Standing, UnixTime, Weights};
use clap::Args;
use serde::Serialize;

use super::Output;
use super::input::{Reading, for_each_input};
use super::relay_name::{RelayArgs, find};
use super::style::time;
use crate::relay_name::RelayName;
use crate::text::printable;
use crate::text::{factor, grouped};

#[derive(Args, Debug)]
pub(super) struct HistoryArgs {
    /// Show this relay: its fingerprint or the beginning of it, Ed25519 key,
    /// nickname, or with --consensus address.
    ///
    /// A short name is looked up in the first file that has it.
    relay: RelayName,
    /// Read these files or archives; - is standard input.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    network: RelayArgs,
}

/// The relay in one file.
#[derive(Serialize)]
struct Row {
    file: String,
    timestamp: Option<UnixTime>,
    relay: Option<Fingerprint>,
    nick: Option<String>,
    bandwidth: Option<KilobytesPerSecond>,
    /// None if it has no vote.
    standing: Option<Standing>,
}

impl Row {
    fn new(file: &str, document: &Document<'_>, line: Option<usize>) -> Self {
        let line = line.and_then(|line| document.relay(line));
        let relay = line.and_then(|line| line.fingerprint());
        Self {
            file: file.to_owned(),
            timestamp: document.timestamp().value(),
            relay,
            nick: line
                .and_then(|line| line.nick().value())
                .map(std::borrow::Cow::into_owned),
            bandwidth: line.and_then(|line| line.bandwidth()),
            standing: relay.and_then(|relay| Weights::of(document).standing(&relay)),
        }
    }

    fn is_there(&self) -> bool {
        self.relay.is_some()
    }
}

/// True if the relay is in some file.
pub(super) fn run(args: &HistoryArgs, output: &mut Output<'_>) -> anyhow::Result<bool> {
    let network = args.network.network()?;
    let (mut rows, mut known) = (Vec::new(), None::<Fingerprint>);
    let read = for_each_input(&args.files, Reading::SEVERAL, |input| {
        let document = input.document;
        let line = match known {
            Some(relay) => document.index().by_fingerprint(&relay),
            None => find(&args.relay, document, network.as_ref())?,
        };
        let row = Row::new(input.name, document, line);
        known = known.or(row.relay);
        rows.push(row);
        Ok(())
    });
    rows.sort_by_key(|row| row.timestamp);
    let found = rows.iter().any(Row::is_there);
    if output.json {
        for row in &rows {
            output.json_line(row)?;
        }
    } else if found {
        show(&rows, output)?;
    }
    read?;
    Ok(found)
}

fn show(rows: &[Row], output: &mut Output<'_>) -> anyhow::Result<()> {
    let last = rows.iter().rev().find(|row| row.is_there());
    let relay = last.and_then(|row| row.relay);
    let nick = last.and_then(|row| row.nick.as_deref()).unwrap_or_default();
    let there = rows.iter().filter(|row| row.is_there()).count();
    let mut weights: Vec<_> = rows
        .iter()
        .filter_map(|row| row.standing.map(|standing| standing.weight))
        .collect();
    weights.sort_unstable();
    let shown = |weight: Option<&KilobytesPerSecond>| {
        weight.map_or_else(|| "-".to_owned(), |weight| weight.value().to_string())
    };
    writeln!(
        output.out,
        "{} {} is in {} of {} files, with a vote in {}: from {} to {} kB/s, median {}.\n",
        relay.map_or_else(String::new, |relay| relay.to_string()),
        printable(nick),
        grouped(there),
        grouped(rows.len()),
        grouped(weights.len()),
        shown(weights.first()),
        shown(weights.last()),
        shown(weights.get(weights.len().saturating_sub(1) / 2)),
    )?;
    writeln!(
        output.out,
        "{:19}  {:>10}  {:>7}  {:>8}  {:16}  file",
        "time", "kB/s", "factor", "share", "place"
    )?;
    let mut before = None;
    for row in rows {
        show_row(row, before, output)?;
        before = row.standing.map(|standing| standing.weight).or(before);
    }
    Ok(())
}

/// A row; `before` is the weight of the file before.
fn show_row(
    row: &Row,
    before: Option<KilobytesPerSecond>,
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    let (factor, share, place) = match row.standing {
        Some(standing) => (
            before
                .and_then(|before| change(before, standing.weight))
                .map_or_else(String::new, factor),
            format!("{:.4} %", standing.share * 100.0),
            format!("{} of {}", grouped(standing.place), grouped(standing.of)),
        ),
        None if row.is_there() => (String::new(), String::new(), "no vote".to_owned()),
        None => (String::new(), String::new(), "not there".to_owned()),
    };
    let bandwidth = row
        .bandwidth
        .map_or_else(|| "-".to_owned(), |bw| bw.value().to_string());
    writeln!(
        output.out,
        "{:19}  {bandwidth:>10}  {factor:>7}  {share:>8}  {place:16}  {}",
        row.timestamp.map_or_else(|| "-".to_owned(), time),
        row.file
    )?;
    Ok(())
}

/// The second weight as a multiple of the first, if it is another.
#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "for two digits"
)]
fn change(before: KilobytesPerSecond, after: KilobytesPerSecond) -> Option<f64> {
    (before != after && before.value() > 0).then(|| after.value() as f64 / before.value() as f64)
}
