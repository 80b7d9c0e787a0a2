//! `bwscan file show`, `convert`, and `stats`.

use std::path::PathBuf;

use bw_file::{
    Document, Fingerprint, HeaderFields, KilobytesPerSecond, RelayFields, RelayLineRef, UnixTime,
    write_csv, write_json_lines,
};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::Output;
use super::input::{for_each_document, read_one};
use super::style::printable;

#[derive(Args, Debug)]
pub(super) struct ShowArgs {
    /// The file; `-` for standard input.
    path: PathBuf,
    /// Shows this relay only.
    fingerprint: Option<Fingerprint>,
}

#[derive(Args, Debug)]
pub(super) struct ConvertArgs {
    /// The file; `-` for standard input.
    path: PathBuf,
    /// What to write.
    #[arg(long, value_enum)]
    to: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Comma-separated values.
    Csv,
    /// A JSON object a line.
    Jsonl,
}

#[derive(Args, Debug)]
pub(super) struct StatsArgs {
    /// Files, archives of them, or `-` for standard input.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

#[derive(Serialize)]
struct Header<'a> {
    timestamp: Option<UnixTime>,
    header: HeaderFields<'a>,
}

#[derive(Serialize)]
struct Stats<'a> {
    file: &'a str,
    timestamp: Option<UnixTime>,
    relays: usize,
    voted: usize,
    total: KilobytesPerSecond,
    median: Option<KilobytesPerSecond>,
}

/// True if there is something to show.
pub(super) fn show(args: &ShowArgs, output: &mut Output<'_>) -> anyhow::Result<bool> {
    let bytes = read_one(&args.path)?;
    let document = Document::parse(&bytes);
    if let Some(wanted) = args.fingerprint {
        let line = document.index().by_fingerprint(&wanted);
        let Some(relay) = line.and_then(|line| document.relay(line)) else {
            return Ok(false);
        };
        show_relay(relay, output)?;
        return Ok(true);
    }
    let header = HeaderFields::new(&document);
    if output.json {
        let timestamp = document.timestamp().value();
        output.json_line(&Header { timestamp, header })?;
        write_json_lines(document.relays(), &mut *output.out)?;
        return Ok(true);
    }
    if let Some(timestamp) = document.timestamp().value() {
        writeln!(output.out, "timestamp = {timestamp}")?;
    }
    show_pairs(|visit| header.for_each(visit), output)?;
    writeln!(
        output.out,
        "\n{:40}  {:>12}  vote  nick",
        "fingerprint", "kB/s"
    )?;
    for relay in document.relays() {
        let shown = |value: Option<String>| value.unwrap_or_else(|| "?".to_owned());
        writeln!(
            output.out,
            "{:40}  {:>12}  {:4}  {}",
            shown(relay.fingerprint().map(|id| id.to_string())),
            shown(relay.bandwidth().map(|bw| bw.value().to_string())),
            if relay.is_voted() { "yes" } else { "no" },
            printable(&relay.nick().value().unwrap_or_default())
        )?;
    }
    Ok(true)
}

fn show_relay(relay: RelayLineRef<'_>, output: &mut Output<'_>) -> anyhow::Result<()> {
    let fields = RelayFields::new(relay);
    if output.json {
        return output.json_line(&fields);
    }
    show_pairs(|visit| fields.for_each(visit), output)
}

fn show_pairs(
    pairs: impl FnOnce(&mut dyn FnMut(&str, &str)),
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    let mut text = String::new();
    pairs(&mut |key, value| text.push_str(&format!("{key} = {}\n", value.escape_debug())));
    output.out.write_all(text.as_bytes())?;
    Ok(())
}

pub(super) fn convert(args: &ConvertArgs, output: &mut Output<'_>) -> anyhow::Result<bool> {
    let bytes = read_one(&args.path)?;
    let document = Document::parse(&bytes);
    match args.to {
        Format::Csv => write_csv(&document, &mut *output.out)?,
        Format::Jsonl => write_json_lines(document.relays(), &mut *output.out)?,
    }
    Ok(true)
}

pub(super) fn stats(args: &StatsArgs, output: &mut Output<'_>) -> anyhow::Result<bool> {
    for path in &args.paths {
        for_each_document(path, |name, document| {
            let mut voted: Vec<u64> = document
                .relays()
                .filter(|relay| relay.is_voted())
                .filter_map(|relay| relay.bandwidth())
                .map(KilobytesPerSecond::value)
                .collect();
            voted.sort_unstable();
            let total = voted.iter().fold(0, |sum: u64, bw| sum.saturating_add(*bw));
            let stats = Stats {
                file: name,
                timestamp: document.timestamp().value(),
                relays: document.relays().count(),
                voted: voted.len(),
                total: KilobytesPerSecond::new(total),
                median: voted
                    .get(voted.len() / 2)
                    .copied()
                    .map(KilobytesPerSecond::new),
            };
            if output.json {
                return output.json_line(&stats);
            }
            writeln!(
                output.out,
                "{name}: {} relays, {} voted, total {}, median {}",
                stats.relays,
                stats.voted,
                stats.total,
                stats
                    .median
                    .map_or_else(|| "-".to_owned(), |bw| bw.to_string())
            )?;
            Ok(())
        })?;
    }
    Ok(true)
}
