//! `bwscan file compare`.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::ensure;
use bw_file::{Document, Fingerprint, KilobytesPerSecond, RelayAcross, UnixTime, Weights};
use clap::Args;
use serde::Serialize;

use super::Output;
use super::input::read_one;
use super::style::at_least_one;
use crate::text::printable;
use crate::text::{factor, grouped};

#[derive(Args, Debug)]
pub(super) struct CompareArgs {
    /// Compare these files, two or more.
    #[arg(required = true, num_args = 2.., value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Call a weight an outlier from this factor above or below the median of all files.
    #[arg(long, default_value = "2", value_parser = at_least_one, value_name = "FACTOR")]
    min_factor: f64,
    /// Show only this many relays, those with the farthest outliers.
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// Show relays without outliers too.
    #[arg(long)]
    all: bool,
}

/// A file as a whole beside the others.
#[derive(Serialize)]
struct Summary {
    column: String,
    file: PathBuf,
    timestamp: Option<UnixTime>,
    relays: usize,
    /// Relays of the other files that it has no vote for.
    missing: usize,
    total: KilobytesPerSecond,
    high: usize,
    low: usize,
}

#[derive(Serialize)]
struct Row<'a> {
    nick: Option<&'a str>,
    #[serde(flatten)]
    relay: &'a RelayAcross,
    outliers: Vec<Outlier>,
}

#[derive(Serialize)]
struct Outlier {
    column: String,
    factor: f64,
}

/// True if there is no outlier.
pub(super) fn run(args: &CompareArgs, output: &mut Output<'_>) -> anyhow::Result<bool> {
    let standard_inputs = args.files.iter().filter(|file| file.as_os_str() == "-");
    ensure!(
        standard_inputs.count() < 2,
        "standard input is one file only"
    );
    let (mut weights, mut times, mut nicks) = (Vec::new(), Vec::new(), HashMap::new());
    for path in &args.files {
        let document = read_one(path)?;
        weights.push(Weights::of(&document));
        times.push(document.timestamp().value());
        nicks.extend(nicknames(&document));
    }
    let mut across = Weights::across(&weights);
    let summaries = summaries(args, &weights, &times, &across);
    let outliers = across
        .iter()
        .filter(|relay| relay.spread() >= args.min_factor)
        .count();
    if !args.all {
        across.retain(|relay| relay.spread() >= args.min_factor);
    }
    across.sort_by(|a, b| b.spread().total_cmp(&a.spread()));
    across.truncate(args.top.unwrap_or(usize::MAX));
    let rows: Vec<Row<'_>> = across
        .iter()
        .map(|relay| Row {
            nick: nicks.get(&relay.relay).map(String::as_str),
            relay,
            outliers: outliers_of(relay, args.min_factor),
        })
        .collect();
    if output.json {
        for summary in &summaries {
            output.json_line(summary)?;
        }
        for row in &rows {
            output.json_line(row)?;
        }
    } else {
        show(&summaries, &rows, outliers, args, output)?;
    }
    Ok(outliers == 0)
}

fn nicknames(document: &Document<'_>) -> impl Iterator<Item = (Fingerprint, String)> {
    document.relays().filter_map(|line| {
        let nick = line.nick().value()?;
        Some((line.fingerprint()?, nick.into_owned()))
    })
}

/// `A` to `Z`, then `A1` to `Z1` and so on.
fn column(index: usize) -> String {
    let letter = char::from(b'A' + u8::try_from(index % 26).unwrap_or(0));
    match index / 26 {
        0 => letter.to_string(),
        round => format!("{letter}{round}"),
    }
}

fn outliers_of(relay: &RelayAcross, least: f64) -> Vec<Outlier> {
    let factors = relay.factors().into_iter().enumerate();
    factors
        .filter_map(|(index, factor)| Some((index, factor?)))
        .filter(|(_, factor)| *factor >= least || *factor * least <= 1.0)
        .map(|(index, factor)| Outlier {
            column: column(index),
            factor,
        })
        .collect()
}

fn summaries(
    args: &CompareArgs,
    weights: &[Weights],
    times: &[Option<UnixTime>],
    across: &[RelayAcross],
) -> Vec<Summary> {
    let (mut high, mut low) = (vec![0; weights.len()], vec![0; weights.len()]);
    for relay in across {
        for (index, factor) in relay.factors().into_iter().enumerate() {
            let factor = factor.unwrap_or(1.0);
            high[index] += usize::from(factor >= args.min_factor);
            low[index] += usize::from(factor * args.min_factor <= 1.0);
        }
    }
    let files = args.files.iter().zip(weights).zip(times).enumerate();
    files
        .map(|(index, ((file, weights), timestamp))| Summary {
            column: column(index),
            file: file.clone(),
            timestamp: *timestamp,
            relays: weights.relays(),
            missing: across.len() - weights.relays(),
            total: weights.total(),
            high: high[index],
            low: low[index],
        })
        .collect()
}

fn show(
    summaries: &[Summary],
    rows: &[Row<'_>],
    outliers: usize,
    args: &CompareArgs,
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    writeln!(
        output.out,
        "{} relays have a weight that is {} times its median, or that part of it.\n",
        grouped(outliers),
        args.min_factor
    )?;
    for summary in summaries {
        writeln!(
            output.out,
            "{:3}  {} relays, {} missing, total {}, {} outliers high, {} low: {}",
            summary.column,
            grouped(summary.relays),
            grouped(summary.missing),
            summary.total,
            grouped(summary.high),
            grouped(summary.low),
            summary.file.display()
        )?;
    }
    if rows.is_empty() {
        return Ok(());
    }
    write!(output.out, "\n{:40}  {:19}", "relay (kB/s)", "nick")?;
    for summary in summaries {
        write!(output.out, "  {:>9}", summary.column)?;
    }
    writeln!(output.out, "  {:>9}  outliers", "median")?;
    for row in rows {
        let relay = row.relay;
        let nick = printable(row.nick.unwrap_or_default());
        write!(output.out, "{:40}  {nick:19}", relay.relay)?;
        for weight in &relay.weights {
            let weight = weight.map_or_else(|| "-".to_owned(), |weight| weight.value().to_string());
            write!(output.out, "  {weight:>9}")?;
        }
        let outliers: Vec<String> = row
            .outliers
            .iter()
            .map(|outlier| format!("{} {}", outlier.column, factor(outlier.factor)))
            .collect();
        let (median, outliers) = (relay.median.value(), outliers.join(", "));
        writeln!(output.out, "  {median:>9}  {outliers}")?;
    }
    Ok(())
}
