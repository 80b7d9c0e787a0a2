//! Stores and bandwidth files, from which `report` and `web` make their pages.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use bw_file::{BytesPerSecond, Fingerprint};
use bw_report::{BandwidthFile, Facts, Records, Round, Site};
use bw_results::UnixMillis;
use bw_store::ScanSummary;
use clap::Args;
use serde::Deserialize;

use super::super::publication::{LATEST, directory};
use super::super::scaling::{Scaling, ScalingArgs};
use crate::exit::UsageError;
use crate::paths::DataDir;
use crate::text::{format_utc, size};

/// Days of which the newest bandwidth file is part of a relay's history.
const HISTORY: usize = 60;

/// The largest bandwidth file that is read; one of 10,000 relays has some 5 MB.
const FILE_LIMIT: u64 = 1 << 28;

/// The stores and files that pages are made of.
#[derive(Clone, Debug, Args)]
pub(crate) struct Sources {
    /// Compare these bandwidth files or votes, each with its own --file [default: our own of
    /// the last days].
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
}

impl Sources {
    /// The pages, as the stores and files are now.
    pub(crate) fn site(&self, data: &DataDir) -> anyhow::Result<Site> {
        let v3bw = directory(self.v3bw.as_deref(), data);
        let compared = self.files.iter().map(|path| bandwidth_file(path));
        let compared = compared.collect::<Result<_, _>>()?;
        let scaling = Scaling::new(&data.store(), &self.scaling, &v3bw.join(LATEST), None)?;
        let mut rounds = Vec::new();
        for store in &scaling.stores {
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
        facts.truth = self
            .truth
            .as_deref()
            .map(capacities)
            .transpose()?
            .unwrap_or_default();
        Ok(Site::new(facts, records))
    }

    /// When stores and files changed last.
    pub(crate) fn state(&self, data: &DataDir) -> Vec<Option<(u64, SystemTime)>> {
        let stores = &self.scaling.stores.stores;
        let stores = if stores.is_empty() {
            vec![data.store()]
        } else {
            stores.clone()
        };
        let logs: Vec<PathBuf> = stores
            .iter()
            .map(|store| {
                let mut path = store.clone().into_os_string();
                path.push("-wal");
                path.into()
            })
            .collect();
        let files = [directory(self.v3bw.as_deref(), data)];
        let paths = stores.iter().chain(&logs).chain(&self.files).chain(&files);
        paths
            .map(|path| {
                let facts = std::fs::metadata(path).ok()?;
                Some((facts.len(), facts.modified().ok()?))
            })
            .collect()
    }
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
}
