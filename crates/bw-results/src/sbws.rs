//! Results of sbws: `datadir/YYYY-MM-DD.txt`, one JSON object a line, version 4.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bw_file::{BytesPerSecond, Ed25519Identity, Fingerprint, KilobytesPerSecond};
use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::jsonl::Lines;
use crate::store::{Fault, Writer};
use crate::{
    Attempt, Blame, DescriptorFacts, Failure, FailureKind, Measurement, Outcome, Position, Scan,
    ScanId, ScanParameters, Slice, Stage, StopReason, Store, TargetFacts, Timings, Transfer,
    UnixMillis,
};

/// The version of result lines that is read; every sbws since 0.5 writes it.
const VERSION: u64 = 4;

/// What tor takes for no limit, in bytes per second.
const UNLIMITED: BytesPerSecond = BytesPerSecond::new(2_147_483_647);

/// How many bad lines are described; the others are only counted.
const PROBLEMS_SHOWN: usize = 20;

/// What an import of sbws's results did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SbwsImport {
    /// Files read.
    pub files: u64,
    /// Outcomes added.
    pub added: u64,
    /// Results that the store had already.
    pub known: u64,
    /// Lines that are not a result, or lack what a result must have. The last
    /// line of a file that sbws is writing can be one; import again later.
    pub bad_lines: u64,
    /// Results of a type that is not known.
    pub unknown_types: u64,
    /// Results of another version than 4.
    pub other_versions: u64,
    /// The first lines that could not be used, with file and line.
    pub problems: Vec<SbwsProblem>,
}

/// A line, or a file, that could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SbwsProblem {
    /// The file.
    pub path: PathBuf,
    /// The line's number, from 1; 0 for the file itself.
    pub line: u64,
    /// What is wrong.
    pub problem: String,
}

impl Store {
    /// Adds the results of an sbws home (or of a `datadir`), each once,
    /// however often it is imported, and while sbws still writes.
    ///
    /// Read are files whose name begins with a date, also gzipped ones, in
    /// `datadir` and one directory below it. Each scanner's day becomes a
    /// completed scan. A line that cannot be used is counted and described.
    ///
    /// Durations are kept in microseconds; round-trip times, the times of
    /// consensuses and of priority lists are not kept.
    ///
    /// # Errors
    /// [`Io`](Error::Io) if the directory cannot be read, or a failure of the
    /// store. A single file that cannot be read is described in the report.
    pub fn import_sbws(&mut self, home: impl AsRef<Path>) -> Result<SbwsImport> {
        let home = home.as_ref();
        let datadir = home.join("datadir");
        let root = if datadir.is_dir() { &datadir } else { home };
        let files = result_files(root)
            .map_err(|error| Error::io(root, "reading the directory of sbws's results", error))?;
        let mut report = SbwsImport::default();
        for path in files {
            report.files += 1;
            let imported = self.write(|writer| {
                // One file is one transaction, so that a report of a failure is true.
                let mut copy = report.clone();
                match import_file(writer, &path, &mut copy) {
                    Ok(()) => Ok(copy),
                    Err(Fault::Codec(error)) => {
                        copy.problem(&path, 0, &error);
                        Ok(copy)
                    }
                    Err(fault) => Err(fault),
                }
            })?;
            report = imported;
        }
        Ok(report)
    }
}

impl SbwsImport {
    fn problem(&mut self, path: &Path, line: u64, problem: &dyn ToString) {
        if self.problems.len() < PROBLEMS_SHOWN {
            self.problems.push(SbwsProblem {
                path: path.to_owned(),
                line,
                problem: problem.to_string(),
            });
        }
    }
}

/// The files of results in `root` and one level below, sorted.
fn result_files(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in root.read_dir()? {
        let path = entry?.path();
        if path.is_dir() {
            for entry in path.read_dir()? {
                files.push(entry?.path());
            }
        } else {
            files.push(path);
        }
    }
    files.retain(|path| is_result_file(path));
    files.sort_unstable();
    Ok(files)
}

/// Whether the name is `YYYY-MM-DD*.txt` or the same with `.gz`.
fn is_result_file(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return false;
    };
    let dated = name.len() >= 10
        && name
            .bytes()
            .take(10)
            .enumerate()
            .all(|(at, byte)| match at {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
    let plain = name.strip_suffix(".gz").unwrap_or(name);
    dated && (plain.ends_with(".txt") || plain != name) && path.is_file()
}

fn import_file(writer: &mut Writer<'_>, path: &Path, report: &mut SbwsImport) -> Result<(), Fault> {
    let file = BufReader::with_capacity(1 << 17, File::open(path)?);
    let mut reader: Box<dyn BufRead> = if path.extension().is_some_and(|end| end == "gz") {
        Box::new(BufReader::new(MultiGzDecoder::new(file)))
    } else {
        Box::new(file)
    };
    let mut scans = BTreeMap::new();
    let mut lines = Lines::new(&mut reader);
    loop {
        let number = lines.number + 1;
        let text = match lines.read()? {
            Some(Ok(text)) if text.trim_ascii().is_empty() => continue,
            Some(Ok(text)) => text,
            Some(Err(problem)) => {
                report.bad_lines += 1;
                report.problem(path, number, &problem);
                continue;
            }
            None => return Ok(()),
        };
        match ResultLine::parse(text).and_then(ResultLine::into_outcome) {
            Ok((scanner, outcome)) => {
                let day = outcome.ended().as_secs() / 86_400;
                let key = (scanner, day);
                let row = match scans.get(&key) {
                    Some(&row) => row,
                    None => {
                        let row = day_scan(writer, &key.0, day)?;
                        scans.insert(key.clone(), row);
                        row
                    }
                };
                match writer.insert_outcome(row, &key.0, &outcome)? {
                    true => report.added += 1,
                    false => report.known += 1,
                }
            }
            Err(bad) => {
                match &bad {
                    Bad::Line(_) => report.bad_lines += 1,
                    Bad::Type(_) => report.unknown_types += 1,
                    Bad::Version(_) => report.other_versions += 1,
                }
                report.problem(path, number, &bad);
            }
        }
    }
}

/// The scan that stands for what `scanner` did on `day`.
fn day_scan(writer: &Writer<'_>, scanner: &str, day: u64) -> Result<i64, Fault> {
    let digest: [u8; 32] = Sha256::digest(format!("sbws {day} {scanner}")).into();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    let mut parameters = ScanParameters::new(Vec::new());
    parameters.transfer = serde_json::json!({ "imported_from": "sbws" });
    let scan = Scan {
        id: ScanId::from_bytes(id),
        scanner: scanner.to_owned(),
        started: UnixMillis::from_secs(day * 86_400),
        ended: Some(UnixMillis::from_secs((day + 1) * 86_400)),
        parameters,
    };
    match writer.insert_scan(&scan) {
        Ok(()) | Err(Fault::Store(Error::ScanExists { .. })) => writer.scan_row(&scan.id),
        Err(fault) => Err(fault),
    }
}

/// Why a line cannot be used.
#[derive(Debug, thiserror::Error)]
enum Bad {
    #[error("{0}")]
    Line(String),
    #[error("a result of unknown type {0:?}")]
    Type(String),
    #[error("a result of version {0}, not 4")]
    Version(u64),
}

/// What is used of a result line.
#[derive(Debug, Deserialize)]
struct ResultLine {
    version: u64,
    r#type: String,
    time: f64,
    fingerprint: Fingerprint,
    #[serde(default)]
    nickname: Option<String>,
    #[serde(default)]
    address: Option<String>,
    #[serde(default)]
    master_key_ed25519: Option<String>,
    #[serde(default)]
    circ: Option<Vec<Fingerprint>>,
    #[serde(default)]
    dest_url: Option<String>,
    #[serde(default)]
    scanner: Option<String>,
    #[serde(default)]
    msg: Option<String>,
    #[serde(default)]
    downloads: Option<Vec<Download>>,
    #[serde(default)]
    relay_average_bandwidth: Option<u64>,
    #[serde(default)]
    relay_burst_bandwidth: Option<u64>,
    #[serde(default)]
    relay_observed_bandwidth: Option<u64>,
    #[serde(default)]
    consensus_bandwidth: Option<u64>,
    #[serde(default)]
    consensus_bandwidth_is_unmeasured: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Download {
    duration: f64,
    amount: u64,
}

impl ResultLine {
    fn parse(text: &[u8]) -> Result<Self, Bad> {
        #[derive(Deserialize)]
        struct Version {
            version: u64,
        }
        serde_json::from_slice(text).map_err(|error| {
            // A result of another version need not have our fields.
            match serde_json::from_slice(text) {
                Ok(Version { version }) if version != VERSION => Bad::Version(version),
                _ => Bad::Line(error.to_string()),
            }
        })
    }

    /// The scanner's name, and the result as an outcome.
    fn into_outcome(self) -> Result<(String, Outcome), Bad> {
        if self.version != VERSION {
            return Err(Bad::Version(self.version));
        }
        let ended = seconds(self.time)
            .map(|time| UnixMillis::default().after(time))
            .ok_or_else(|| Bad::Line(format!("impossible time {}", self.time)))?;
        let transfers = self.transfers()?;
        let took = transfers.iter().map(Transfer::duration).sum();
        let attempt = self.attempt(ended.before(took));
        let scanner = match self.scanner {
            Some(name) if !name.is_empty() => name,
            // sbws forgets the name in some of its errors.
            _ => "sbws".to_owned(),
        };
        let (stage, kind, blame) = match self.r#type.as_str() {
            "success" => {
                let timings = Timings::default();
                let measurement = Measurement::new(attempt, ended, timings, transfers);
                return Ok((scanner, Outcome::Measured(measurement)));
            }
            "error-auth" => (Stage::Content, FailureKind::Content, Blame::Path),
            "error-circ" => (Stage::Extend, FailureKind::Closed, Blame::Path),
            "error-destination" => (Stage::Path, FailureKind::NoDestination, Blame::Destination),
            "error-misc" => (Stage::Path, FailureKind::Local, Blame::Scanner),
            "error-second-relay" => (Stage::Path, FailureKind::NoHelper, Blame::Scanner),
            "error-stream" => (Stage::Http, FailureKind::Closed, Blame::Path),
            _ => return Err(Bad::Type(self.r#type)),
        };
        let detail = self.msg.unwrap_or_default();
        let failure = Failure::new(attempt, ended, stage, kind, blame, detail);
        Ok((scanner, Outcome::Failed(failure)))
    }

    fn transfers(&self) -> Result<Vec<Transfer>, Bad> {
        let downloads = self.downloads.as_deref().unwrap_or_default();
        let transfer = |download: &Download| {
            let duration = seconds(download.duration)
                .ok_or_else(|| Bad::Line(format!("impossible duration {}", download.duration)))?;
            let slices = vec![Slice::new(duration, download.amount)];
            Ok(Transfer::new(slices, 0, StopReason::Complete))
        };
        downloads.iter().map(transfer).collect()
    }

    fn attempt(&self, started: UnixMillis) -> Attempt {
        let mut target = TargetFacts::new(self.fingerprint);
        target.nickname = self.nickname.clone().unwrap_or_default();
        target.address = self
            .address
            .as_deref()
            .and_then(|text| text.parse::<IpAddr>().ok());
        target.ed25519 = self
            .master_key_ed25519
            .as_deref()
            .and_then(|text| Ed25519Identity::parse(text.as_bytes()).ok());
        target.consensus_weight = self
            .consensus_bandwidth
            .map(|bytes| KilobytesPerSecond::new(bytes / 1000));
        target.unmeasured = self.consensus_bandwidth_is_unmeasured;
        // What is not known limits nothing; without an observed bandwidth
        // there is nothing to limit.
        let limit = |value: Option<u64>| value.map_or(UNLIMITED, BytesPerSecond::new);
        target.descriptor = self.relay_observed_bandwidth.map(|observed| {
            DescriptorFacts::new(
                UnixMillis::default(),
                limit(self.relay_average_bandwidth),
                limit(self.relay_burst_bandwidth),
                BytesPerSecond::new(observed),
            )
        });
        let circuit = self.circ.as_deref().unwrap_or_default();
        let position = match circuit.first() {
            Some(first) if *first != self.fingerprint => Position::Exit,
            _ => Position::Entry,
        };
        let mut attempt = Attempt::new(target, position, started);
        let others = circuit.iter().filter(|relay| **relay != self.fingerprint);
        attempt.helpers = others.copied().collect();
        attempt.destination = self.dest_url.clone().unwrap_or_default();
        attempt
    }
}

/// A number of seconds that makes sense: not negative, less than 10,000 years.
fn seconds(value: f64) -> Option<Duration> {
    (0.0..=3e11)
        .contains(&value)
        .then(|| Duration::try_from_secs_f64(value).ok())?
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::ops::ControlFlow;

    use tempfile::TempDir;

    use super::*;
    use crate::{Filter, OutcomeSummary, SummaryResult};

    /// A line as sbws writes it, with `changes` to its fields.
    fn line(changes: serde_json::Value) -> String {
        let mut line = serde_json::json!({
            "version": 4, "type": "success", "time": 1_795_005_000.25, "scanner": "edge",
            "fingerprint": "01".repeat(20), "nickname": "one", "address": "192.0.2.1",
            "master_key_ed25519": null,
            "circ": ["01".repeat(20), "EE".repeat(20)], "dest_url": "https://x.example/1G",
            "relay_in_recent_consensus": ["2026-11-18T11:30:00+00:00"],
            "relay_recent_priority_list": 7, "rtts": null,
            "downloads": [{"duration": 8.0, "amount": 16_000_000}, {"duration": 4.0, "amount": 4_000_000}],
            "relay_average_bandwidth": null, "relay_burst_bandwidth": 2_000_000,
            "relay_observed_bandwidth": 5_000_000, "consensus_bandwidth": 3_000_000,
            "consensus_bandwidth_is_unmeasured": true,
        });
        let fields = line.as_object_mut().unwrap();
        fields.extend(changes.as_object().unwrap().clone());
        fields.retain(|_, value| value != "gone");
        line.to_string()
    }

    fn import(files: &[(&str, String)]) -> (TempDir, Store, SbwsImport) {
        let home = TempDir::new().unwrap();
        for (name, text) in files {
            let path = home.path().join("datadir").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut file = File::create(path).unwrap();
            if name.ends_with(".gz") {
                let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
                encoder.write_all(text.as_bytes()).unwrap();
                encoder.finish().unwrap();
            } else {
                file.write_all(text.as_bytes()).unwrap();
            }
        }
        let mut store = Store::open(home.path().join("store.db")).unwrap();
        let report = store.import_sbws(home.path()).unwrap();
        (home, store, report)
    }

    fn summaries(store: &Store) -> Vec<OutcomeSummary> {
        let mut found = Vec::new();
        let end = store.for_each_summary(&Filter::all(), |stored| {
            found.push(stored.value);
            ControlFlow::<()>::Continue(())
        });
        assert!(end.unwrap().is_continue());
        found
    }

    #[test]
    fn a_success_with_all_it_says() {
        let text = line(serde_json::json!({}));
        let (_home, store, report) = import(&[("2026-11-18.txt", text)]);
        assert_eq!((report.files, report.added), (1, 1), "{report:?}");
        let [found] = <[_; 1]>::try_from(summaries(&store)).unwrap();
        assert_eq!(found.result, SummaryResult::Measured(vec![2e6, 1e6]));
        assert_eq!(found.ended, UnixMillis::new(1_795_005_000_250));
        assert_eq!(found.started, UnixMillis::new(1_795_004_988_250));
        assert_eq!(found.position, Position::Entry);
        assert_eq!(found.consensus_weight, Some(KilobytesPerSecond::new(3_000)));
        assert_eq!(found.unmeasured, Some(true));
        let descriptor = found.descriptor.unwrap();
        assert_eq!(descriptor.observed, BytesPerSecond::new(5_000_000));
        assert_eq!(descriptor.average, UNLIMITED);
        let scans = store.latest_completed_scans(9).unwrap();
        assert_eq!(scans.len(), 1);
        assert_eq!(scans[0].scanner, "edge");
    }

    #[test]
    fn every_kind_of_error_and_of_bad_line() {
        let mut text = String::new();
        for kind in [
            "auth",
            "circ",
            "destination",
            "misc",
            "second-relay",
            "stream",
        ] {
            let change = serde_json::json!({
                "type": format!("error-{kind}"), "msg": "boom", "downloads": "gone",
                "circ": [], "scanner": "", "dest_url": "",
            });
            text.push_str(&line(change));
            text.push('\n');
        }
        let bad = [
            serde_json::json!({"type": "error-new"}),
            serde_json::json!({"version": 3}),
            serde_json::json!({"version": 5, "fingerprint": "gone"}),
            serde_json::json!({"version": "gone"}),
            serde_json::json!({"fingerprint": "0x"}),
            serde_json::json!({"time": -1.0}),
            serde_json::json!({"time": 1e300}),
            serde_json::json!({"downloads": [{"duration": -1.0, "amount": 1}]}),
            serde_json::json!({"downloads": [{"duration": 1.0, "amount": -1}]}),
        ];
        for change in bad {
            text.push_str(&line(change));
            text.push('\n');
        }
        text.push_str("\n[]\n5\nnull\n{\"version\":4,\"ti");
        let (_home, store, report) = import(&[("2026-11-18.txt", text)]);
        assert_eq!((report.added, report.unknown_types), (6, 1), "{report:?}");
        assert_eq!(
            (report.other_versions, report.bad_lines),
            (2, 10),
            "{report:?}"
        );
        assert_eq!(report.problems[0].line, 7);
        assert_eq!(report.problems.last().unwrap().line, 20);
        assert_eq!(store.scans().unwrap()[0].scan.scanner, "sbws");
    }

    #[test]
    fn each_result_comes_once_from_whatever_file() {
        let at = |time: f64| line(serde_json::json!({"time": time})) + "\n";
        let files = [
            ("2026-11-18.txt", at(1_795_005_000.0) + &at(1_795_005_000.0)),
            ("2026-11-18.txt.gz", at(1_795_005_000.0)),
            ("2026-11-18-more.txt", at(1_795_005_100.0)),
            ("other/2026-11-19.txt", at(1_795_091_400.0)),
            ("other/deep/2026-11-19.txt", at(1.0)),
            ("notes.txt", at(2.0)),
            ("2026-11-18.json", at(3.0)),
            ("2026-11-20.gz", at(1_795_177_800.0)),
        ];
        let (home, mut store, report) = import(&files);
        assert_eq!(
            (report.files, report.added, report.known),
            (5, 4, 2),
            "{report:?}"
        );
        let again = store.import_sbws(home.path().join("datadir")).unwrap();
        assert_eq!((again.added, again.known), (0, 6));
        assert_eq!(store.scans().unwrap().len(), 3, "one a day");
    }

    #[test]
    fn a_broken_archive_is_described_and_the_rest_is_read() {
        let good = line(serde_json::json!({}));
        let (home, mut store, _) = import(&[("2026-11-18.txt", good)]);
        std::fs::write(
            home.path().join("datadir/2026-11-17.gz"),
            b"\x1f\x8bnonsense",
        )
        .unwrap();
        let report = store.import_sbws(home.path()).unwrap();
        assert_eq!((report.files, report.known), (2, 1));
        assert_eq!(report.problems.len(), 1, "{report:?}");
        assert_eq!(report.problems[0].line, 0);
        let missing = store.import_sbws("/no/such/home").unwrap_err();
        assert!(missing.to_string().contains("/no/such/home"), "{missing}");
    }

    /// Run with the path of an sbws home in `BW_SBWS_HOME`.
    #[test]
    #[ignore = "needs an sbws home; prints figures"]
    fn figures() {
        let Some(home) = std::env::var_os("BW_SBWS_HOME") else {
            println!("skipped: BW_SBWS_HOME is not set");
            return;
        };
        let directory = TempDir::new().unwrap();
        let mut store = Store::open(directory.path().join("store.db")).unwrap();
        for what in ["first", "second"] {
            let start = std::time::Instant::now();
            let report = store.import_sbws(&home).unwrap();
            println!("{what} import in {:?}: {report:#?}", start.elapsed());
        }
        let size = store.path().metadata().unwrap().len();
        println!("store: {:.1} MB", size as f64 / 1e6);
    }
}
