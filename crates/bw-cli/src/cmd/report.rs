//! `bwscan report`: what the store and the bandwidth files say, as pages.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::Context;
use bw_file::{BytesPerSecond, Fingerprint};
use bw_report::{Address, BandwidthFile, Facts, Records, Round, Site};
use bw_results::UnixMillis;
use bw_store::ScanSummary;
use clap::Args as ClapArgs;
use serde::Deserialize;
use serde_json::json;

use super::publication::{LATEST, directory, make_directory};
use super::scaling::Scaling;
use crate::args::OUTPUT;
use crate::cmd::ScalingArgs;
use crate::exit::{Exit, UsageError};
use crate::paths::DataDir;
use crate::text::{format_utc, grouped, print, print_json, size};

#[derive(Debug, ClapArgs)]
pub(crate) struct ReportArgs {
    /// Write the pages into this directory, over an earlier report if there is one.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Compare these bandwidth files, each with its own --file.
    #[arg(long = "file", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Show the history of the dated files in this directory [default: v3bw in the
    /// data directory].
    #[arg(long, value_name = "DIR")]
    pub(crate) v3bw: Option<PathBuf>,
    /// Compare rates with the true capacities in this file, as "bwscan testnet up" writes it.
    #[arg(long, hide_short_help = true, value_name = "FILE")]
    pub(crate) truth: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) scaling: ScalingArgs,
    /// Print what was written as JSON.
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) json: bool,
}

/// Marks a directory as a report, which the next one may overwrite.
const MARK: &str = ".bwscan-report";

/// Days of which the newest bandwidth file is part of a relay's history.
const HISTORY: usize = 60;

/// The largest bandwidth file that is read; one of 10,000 relays has some 5 MB.
const FILE_LIMIT: u64 = 1 << 28;

/// Writes the report.
pub(super) fn run(args: &ReportArgs, data: &DataDir) -> anyhow::Result<Exit> {
    let begin = Instant::now();
    let written = write(args, data)?;
    if args.json {
        print_json(&json!({
            "path": written.first_page,
            "pages": written.pages,
            "bytes": written.bytes,
            "seconds": begin.elapsed().as_secs_f64(),
        }))?;
    } else {
        print(format!("wrote {}", written.first_page.display()))?;
        print(format!(
            "{} pages, {}",
            grouped(written.pages),
            size(written.bytes)
        ))?;
    }
    Ok(Exit::Success)
}

/// The pages that were written.
pub(super) struct Written {
    pub(super) first_page: PathBuf,
    pages: usize,
    bytes: u64,
}

/// Writes the report of the stores and of the bandwidth files beside them.
pub(super) fn write(args: &ReportArgs, data: &DataDir) -> anyhow::Result<Written> {
    let output = &args.output;
    prepare(output)?;
    let sources = Sources {
        scaling: &args.scaling,
        v3bw: args.v3bw.as_deref(),
        compared: &args.files,
        truth: args.truth.as_deref(),
    };
    let site = sources.site(data)?;
    let addresses = site.addresses();
    let bytes = write_pages(&site, &addresses, output)?;
    Ok(Written {
        first_page: output.join("index.html"),
        pages: addresses.len(),
        bytes,
    })
}

/// The stores and files that pages are made of.
pub(super) struct Sources<'a> {
    pub(super) scaling: &'a ScalingArgs,
    /// The directory of dated bandwidth files, if it is not in the data directory.
    pub(super) v3bw: Option<&'a Path>,
    /// Bandwidth files that are compared.
    pub(super) compared: &'a [PathBuf],
    /// A file of true capacities.
    pub(super) truth: Option<&'a Path>,
}

impl Sources<'_> {
    /// The pages, as the stores and files are now.
    pub(super) fn site(&self, data: &DataDir) -> anyhow::Result<Site> {
        let v3bw = directory(self.v3bw, data);
        let compared = self.compared.iter().map(|path| bandwidth_file(path));
        let compared = compared.collect::<Result<_, _>>()?;
        let scaling = Scaling::new(&data.store(), self.scaling, &v3bw.join(LATEST), None)?;
        let mut rounds = Vec::new();
        for store in scaling.stores.iter() {
            rounds.extend(store.scans()?.iter().map(round));
        }
        rounds.retain(|round| scaling.is_recent(round.last_outcome.unwrap_or(round.started)));
        let filter = scaling.filter();
        let aggregates = Arc::new(scaling.aggregates);
        let mut records = Records::new(Arc::clone(&aggregates), scaling.options);
        let _ = scaling.stores.for_each_outcome(&filter, |stored| {
            records.add(stored.scanner, stored.scan, &stored.value, stored.verdict);
            ControlFlow::<()>::Continue(())
        })?;
        let mut facts = Facts::new(
            scaling.now,
            format!("bwscan {}", env!("CARGO_PKG_VERSION")),
            Arc::new(scaling.network),
            aggregates,
            Arc::new(scaling.scaled),
        );
        facts.scanners = scaling.scanners;
        facts.rounds = rounds;
        facts.files = published(&v3bw, facts.now)?;
        facts.compared = compared;
        facts.truth = self.truth.map(capacities).transpose()?.unwrap_or_default();
        Ok(Site::new(facts, records))
    }
}

/// Makes the directory, unless something else than a report is in it.
fn prepare(output: &Path) -> anyhow::Result<()> {
    make_directory(output)?;
    let mark = output.join(MARK);
    let is_empty = output
        .read_dir()
        .is_ok_and(|mut entries| entries.next().is_none());
    if !is_empty && !mark.exists() {
        let text = format!(
            "{} is not empty and holds no report; give another --output",
            output.display()
        );
        return Err(UsageError(text).into());
    }
    for folder in ["relay", "list", "figure"] {
        make_directory(&output.join(folder))?;
    }
    std::fs::write(&mark, "").with_context(|| format!("{}: cannot be written", mark.display()))
}

/// Makes and writes pages on all processors; returns the bytes of all.
fn write_pages(site: &Site, addresses: &[Address], output: &Path) -> anyhow::Result<u64> {
    let next = AtomicUsize::new(0);
    let work = || -> anyhow::Result<u64> {
        let mut bytes = 0;
        while let Some(address) = addresses.get(next.fetch_add(1, Ordering::Relaxed)) {
            let page = site.render(address);
            let path = output.join(address.path());
            std::fs::write(&path, &page)
                .with_context(|| format!("{}: the page cannot be written", path.display()))?;
            bytes += page.len() as u64;
        }
        Ok(bytes)
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let results = workers.into_iter().map(|worker| {
            worker
                .join()
                .unwrap_or_else(|_| Err(anyhow::anyhow!("a page cannot be made")))
        });
        results.sum()
    })
}

/// A relay's entry in a file of true capacities.
#[derive(Deserialize)]
struct Capacity {
    fingerprint: Fingerprint,
    rate: BytesPerSecond,
}

fn capacities(path: &Path) -> anyhow::Result<BTreeMap<Fingerprint, BytesPerSecond>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("--truth {}: cannot be read", path.display()))?;
    let relays: Vec<Capacity> = serde_json::from_str(&text).map_err(|error| {
        UsageError(format!(
            "--truth {}: {error}; give capacities.json of a private network",
            path.display()
        ))
    })?;
    let capacities = relays
        .into_iter()
        .map(|relay| (relay.fingerprint, relay.rate));
    Ok(capacities.collect())
}

fn round(summary: &ScanSummary) -> Round {
    let scan = &summary.scan;
    let mut round = Round::new(scan.id, scan.scanner.clone(), scan.started);
    round.ended = scan.ended;
    round.abandoned = summary.abandoned;
    round.targets = summary.targets;
    round.measured = summary.measured;
    round.failed = summary.failed;
    round.outcomes = summary.outcomes;
    round.bytes = summary.bytes;
    round.last_outcome = summary.last_outcome;
    round
}

fn bandwidth_file(path: &Path) -> anyhow::Result<BandwidthFile> {
    let context = || format!("{}: the bandwidth file cannot be read", path.display());
    let length = std::fs::metadata(path).with_context(context)?.len();
    anyhow::ensure!(
        length <= FILE_LIMIT,
        "{}: {} is too large for a bandwidth file",
        path.display(),
        size(length)
    );
    let content = std::fs::read(path).with_context(context)?;
    let name = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy();
    Ok(BandwidthFile::new(name, &content))
}

/// The files that `generate` published until `now`, by their names: the newest of
/// each day, and the last two.
fn published(directory: &Path, now: UnixMillis) -> anyhow::Result<Vec<BandwidthFile>> {
    let Ok(entries) = directory.read_dir() else {
        return Ok(Vec::new());
    };
    let last = format_utc(now, "%Y%m%d_%H%M%S.v3bw");
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter(|name| is_dated(name) && *name <= last)
        .collect();
    names.sort_unstable();
    let mut days: BTreeMap<&str, &String> = BTreeMap::new();
    for name in &names {
        days.insert(&name[..8], name);
    }
    let mut chosen: Vec<&String> = days.into_values().rev().take(HISTORY).collect();
    chosen.extend(names.iter().rev().take(2));
    chosen.sort_unstable();
    chosen.dedup();
    chosen
        .into_iter()
        .map(|name| bandwidth_file(&directory.join(name)))
        .collect()
}

/// Returns whether a name is such as `20261120_123000.v3bw`.
fn is_dated(name: &str) -> bool {
    let Some((day, rest)) = name.split_once('_') else {
        return false;
    };
    let digits =
        |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    digits(day, 8)
        && rest
            .strip_suffix(".v3bw")
            .is_some_and(|time| digits(time, 6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_names() {
        assert!(is_dated("20261120_123000.v3bw"));
        for name in [
            "latest.v3bw",
            "20261120_12300.v3bw",
            "2026112x_123000.v3bw",
            "20261120_123000.v3bw.tmp",
        ] {
            assert!(!is_dated(name), "{name}");
        }
    }

    #[test]
    fn the_newest_file_of_a_day_and_the_last_two_are_read() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "20261118_010000",
            "20261118_020000",
            "20261120_100000",
            "20261120_110000",
            "20261121_000000",
        ] {
            let line = "1700000000\nnode_id=$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA bw=5\n";
            std::fs::write(folder.path().join(format!("{name}.v3bw")), line).unwrap();
        }
        // 2026-11-20 12:00:00
        let files = published(folder.path(), UnixMillis::from_secs(1_795_176_000)).unwrap();
        let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "20261118_020000.v3bw",
                "20261120_100000.v3bw",
                "20261120_110000.v3bw"
            ]
        );
        assert_eq!(files[0].weights.total().value(), 5);
    }

    #[test]
    fn only_reports_are_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("report");
        prepare(&output).unwrap();
        prepare(&output).unwrap();
        std::fs::write(folder.path().join("mine"), "").unwrap();
        assert!(
            prepare(folder.path())
                .unwrap_err()
                .to_string()
                .contains("holds no report")
        );
    }
}
