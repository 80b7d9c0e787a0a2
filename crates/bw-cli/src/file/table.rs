//! `bwscan file show`, `convert`, and `stats`.

use std::borrow::Cow;
use std::path::PathBuf;
use std::str::FromStr;

use bw_file::{
    Boundary, Document, Ed25519Identity, Fingerprint, FormatVersion, HeaderFields,
    KilobytesPerSecond, RelayFields, RelayLineRef, UnixTime, write_csv, write_json_lines,
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
    /// Shows this relay only: its fingerprint or its Ed25519 key.
    relay: Option<RelayId>,
}

/// One of a relay's two identities.
#[derive(Clone, Copy, Debug)]
enum RelayId {
    Rsa(Fingerprint),
    Ed25519(Ed25519Identity),
}

impl FromStr for RelayId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rsa = text.parse().map(Self::Rsa);
        rsa.or_else(|_| text.parse().map(Self::Ed25519))
            .map_err(|_| "40 hexadecimal digits, or 43 characters of base64, expected")
    }
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
    version: Option<FormatVersion>,
    software: Option<Cow<'a, str>>,
    relays: usize,
    voted: usize,
    unmeasured: usize,
    total: KilobytesPerSecond,
    median: Option<KilobytesPerSecond>,
    largest: Option<KilobytesPerSecond>,
}

/// True if there is something to show.
pub(super) fn show(args: &ShowArgs, output: &mut Output<'_>) -> anyhow::Result<bool> {
    let bytes = read_one(&args.path)?;
    let document = Document::parse(&bytes);
    if let Some(wanted) = args.relay {
        let index = document.index();
        let line = match wanted {
            RelayId::Rsa(fingerprint) => index.by_fingerprint(&fingerprint),
            RelayId::Ed25519(identity) => index.by_identity(&identity),
        };
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
        for_each_document(path, Boundary::default(), |name, document| {
            let mut voted: Vec<u64> = document
                .relays()
                .filter(|relay| relay.is_voted())
                .filter_map(|relay| relay.bandwidth())
                .map(KilobytesPerSecond::value)
                .collect();
            voted.sort_unstable();
            let unmeasured = document
                .relays()
                .filter(|relay| relay.unmeasured().value() == Some(true))
                .count();
            let total = voted.iter().fold(0, |sum: u64, bw| sum.saturating_add(*bw));
            let stats = Stats {
                file: name,
                timestamp: document.timestamp().value(),
                version: document.version().value(),
                software: HeaderFields::new(document).software.value(),
                relays: document.relays().count(),
                voted: voted.len(),
                unmeasured,
                total: KilobytesPerSecond::new(total),
                median: voted
                    .get(voted.len() / 2)
                    .copied()
                    .map(KilobytesPerSecond::new),
                largest: voted.last().copied().map(KilobytesPerSecond::new),
            };
            if output.json {
                return output.json_line(&stats);
            }
            let shown = |bw: Option<KilobytesPerSecond>| {
                bw.map_or_else(|| "-".to_owned(), |bw| bw.to_string())
            };
            writeln!(
                output.out,
                "{name}: {} relays, {} voted, total {}, median {}, largest {}; {} unmeasured",
                stats.relays,
                stats.voted,
                stats.total,
                shown(stats.median),
                shown(stats.largest),
                stats.unmeasured,
            )?;
            Ok(())
        })?;
    }
    Ok(true)
}
