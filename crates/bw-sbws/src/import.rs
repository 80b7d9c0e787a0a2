//! Results of sbws (`datadir/YYYY-MM-DD.txt`, one JSON object a line, version 4),
//! its network and its state, into a store.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};

use bw_results::{DocumentError, Lines, Scan, ScanId, ScanParameters, UnixMillis, Verdict};
use bw_store::{Encoded, Encoder, Import, Store};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use sha2::{Digest, Sha256};

use crate::{Error, Home, LineError, Result, ResultFile, ResultLine};

/// The number of bad lines that are described; the others are only counted.
const PROBLEMS_SHOWN: usize = 20;

/// About how many bytes of lines are parsed at once and written in one
/// transaction, for which others that write to the store wait some 50 ms.
const BATCH_BYTES: usize = 1 << 22;

const SECONDS_A_DAY: u64 = 86_400;

/// The result of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportReport {
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
    /// Files that could not be read, results or not.
    pub unreadable: u64,
    /// The number of relays of the consensus in `tor/cached-consensus`, if there is one.
    pub consensus_relays: Option<u64>,
    /// The number of them that have a descriptor in tor's files.
    pub descriptors: u64,
    /// `true` if there is a `state.dat`.
    pub state: bool,
    /// The first lines that could not be used, with file and line.
    pub problems: Vec<Problem>,
}

/// A line, or a file, that could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// The line's number, from 1; 0 for the file itself.
    pub line: u64,
    /// The problem, in words.
    pub problem: String,
}

impl Home {
    /// Adds what is in this home to `store`: results, each once, however
    /// often it is imported, and while sbws still writes; the network as tor's
    /// cached files show it, as a snapshot; `state.dat`.
    ///
    /// Result files are those that [`files`](Self::files) lists, in that order,
    /// which is the one in which `generate` of sbws sees results. Each
    /// scanner's day becomes a completed scan. A line or file that cannot be
    /// used is counted and described. So is a result, or a consensus, that is
    /// dated more than an hour [ahead of](UnixMillis::is_ahead_of) `now`.
    ///
    /// An [`Outcome`](bw_results::Outcome) keeps durations in microseconds; what its
    /// line says beyond it is kept as [`Facts`](crate::Facts). Others can write to
    /// the store meanwhile: every 4 MiB of lines are a transaction.
    ///
    /// # Errors
    /// [`Error::File`] if the directory cannot be read, or a failure of the
    /// store. A single file that cannot be read is described in the report.
    pub fn import_into(&self, store: &mut Store, now: UnixMillis) -> Result<ImportReport> {
        let files = self.files()?;
        store.in_bulk(|store| {
            let mut report = ImportReport::default();
            for file in files {
                report.files += 1;
                import_file(store, &file, now, &mut report)?;
            }
            self.import_network(store, now, &mut report)?;
            self.import_state(store, &mut report)?;
            Ok(report)
        })
    }

    fn import_network(
        &self,
        store: &mut Store,
        now: UnixMillis,
        report: &mut ImportReport,
    ) -> Result<()> {
        let network = match self.network(true) {
            Ok(None) => return Ok(()),
            Ok(Some(network)) => network,
            Err(error) => {
                report.unreadable(&error);
                return Ok(());
            }
        };
        let late = network.valid_after.problem_ahead_of(now, "this consensus");
        if let Some(problem) = late {
            report.unreadable += 1;
            report.problem(&self.consensus(), 0, &problem);
            return Ok(());
        }
        store.put_snapshot(&network)?;
        let described = network.relays.iter();
        let described = described.filter(|relay| relay.descriptor.is_some());
        report.descriptors = described.count() as u64;
        report.consensus_relays = Some(network.relays.len() as u64);
        Ok(())
    }

    fn import_state(&self, store: &mut Store, report: &mut ImportReport) -> Result<()> {
        match self.state() {
            Ok(None) => {}
            Ok(Some(state)) => {
                store.put_imported_state(&state)?;
                report.state = true;
            }
            Err(error) => report.unreadable(&error),
        }
        Ok(())
    }
}

impl ImportReport {
    /// Returns whether there was nothing of an sbws at all.
    pub const fn is_empty(&self) -> bool {
        self.files == 0 && self.consensus_relays.is_none() && !self.state && self.unreadable == 0
    }

    fn problem(&mut self, path: &Path, line: u64, problem: &dyn ToString) {
        if self.problems.len() < PROBLEMS_SHOWN {
            self.problems.push(Problem {
                path: path.to_owned(),
                line,
                problem: problem.to_string(),
            });
        }
    }

    /// Counts and describes a file that could not be read.
    fn unreadable(&mut self, error: &Error) {
        self.unreadable += 1;
        match error {
            Error::File { path, source, .. } => self.problem(path, 0, source),
            Error::Document(DocumentError::File { path, source }) => self.problem(path, 0, source),
            error => self.problem(Path::new(""), 0, error),
        }
    }

    fn bad(&mut self, path: &Path, line: u64, error: &LineError) {
        match error {
            LineError::Line(_) => self.bad_lines += 1,
            LineError::Type(_) => self.unknown_types += 1,
            LineError::Version(_) => self.other_versions += 1,
        }
        self.problem(path, line, error);
    }
}

/// The scanner's name and the outcome of a line.
type Parsed = Result<(String, Encoded), LineError>;

/// Lines with their numbers.
type Batch = Vec<(u64, Parsed)>;

/// Reads and parses on other threads while this one writes.
fn import_file(
    store: &mut Store,
    file: &ResultFile,
    now: UnixMillis,
    report: &mut ImportReport,
) -> Result<()> {
    let (sender, batches) = sync_channel(1);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if let Err(error) = read_batches(file, now, &sender) {
                let _ = sender.send(Err(error));
            }
        });
        let mut days = Days::default();
        for batch in batches {
            match batch {
                Ok(batch) => {
                    store.import(|import| write_batch(import, batch, &mut days, file, report))?;
                }
                Err(error) => {
                    report.unreadable += 1;
                    report.problem(&file.path, 0, &error);
                }
            }
        }
        Ok(())
    })
}

fn write_batch(
    import: &mut Import<'_>,
    batch: Batch,
    days: &mut Days,
    file: &ResultFile,
    report: &mut ImportReport,
) -> Result<()> {
    for (number, parsed) in batch {
        let (scanner, outcome) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                report.bad(&file.path, number, &error);
                continue;
            }
        };
        let scan = days.scan(import, scanner, outcome.ended())?;
        match import.add(&scan, &outcome)? {
            true => report.added += 1,
            false => report.known += 1,
        }
    }
    Ok(())
}

/// The scans that stand for what each scanner did on each day.
#[derive(Default)]
struct Days(HashMap<(String, u64), ScanId>);

impl Days {
    /// The scan of what `scanner` did on the day of `time`; one that is not in the
    /// store yet is added.
    fn scan(
        &mut self,
        import: &mut Import<'_>,
        scanner: String,
        time: UnixMillis,
    ) -> Result<ScanId> {
        let day = time.as_secs() / SECONDS_A_DAY;
        let key = (scanner, day);
        if let Some(&id) = self.0.get(&key) {
            return Ok(id);
        }
        let scan = day_scan(&key.0, day);
        import.add_scan(&scan)?;
        self.0.insert(key, scan.id);
        Ok(scan.id)
    }
}

fn day_scan(scanner: &str, day: u64) -> Scan {
    let digest: [u8; 32] = Sha256::digest(format!("sbws {day} {scanner}")).into();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    let mut parameters = ScanParameters::new(Vec::new());
    parameters.transfer = serde_json::json!({ "imported_from": "sbws" });
    let midnight = |day: u64| UnixMillis::from_secs(day * SECONDS_A_DAY);
    let id = ScanId::from_bytes(id);
    let mut scan = Scan::new(id, scanner.to_owned(), midnight(day), parameters);
    scan.ended = Some(midnight(day + 1));
    scan
}

/// Some lines of a file, one after the other.
#[derive(Default)]
struct Texts {
    bytes: Vec<u8>,
    lines: Vec<(u64, Range<usize>)>,
}

impl Texts {
    fn push(&mut self, number: u64, text: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(text);
        self.lines.push((number, start..self.bytes.len()));
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.lines.clear();
    }

    fn parse(&self, now: UnixMillis) -> io::Result<Batch> {
        self.lines
            .par_iter()
            .map_init(Encoder::new, |encoder, (number, range)| {
                let encoder = encoder
                    .as_mut()
                    .map_err(|error| io::Error::other(error.to_string()))?;
                let parsed = match result_by(now, &self.bytes[range.clone()]) {
                    Ok(result) => Ok(encode(encoder, result)?),
                    Err(error) => Err(error),
                };
                Ok((*number, parsed))
            })
            .collect()
    }
}

/// The result in a line, if it is not dated ahead of `now`.
fn result_by(now: UnixMillis, line: &[u8]) -> Result<ResultLine, LineError> {
    let result = ResultLine::parse(line)?;
    let what = format!("a result of relay {}", result.fingerprint);
    match result.ended().problem_ahead_of(now, what) {
        None => Ok(result),
        Some(problem) => Err(LineError::Line(problem)),
    }
}

fn encode(encoder: &mut Encoder, result: ResultLine) -> io::Result<(String, Encoded)> {
    let outcome = result.to_outcome();
    let verdict = Verdict::default_of(&outcome);
    let encoded = encoder.encode(&result.scanner, &outcome, verdict, Some(&result.facts))?;
    Ok((result.scanner, encoded))
}

/// Sends the file's lines, parsed; ends early if nobody wants them any more.
fn read_batches(
    file: &ResultFile,
    now: UnixMillis,
    sender: &SyncSender<io::Result<Batch>>,
) -> io::Result<()> {
    let mut lines = Lines::new(file.open()?);
    let mut texts = Texts::default();
    loop {
        let number = lines.number() + 1;
        let ended = match lines.read()? {
            Some(Ok(text)) => {
                if !text.trim_ascii().is_empty() {
                    texts.push(number, text);
                }
                false
            }
            Some(Err(problem)) => {
                let bad = Err(LineError::Line(problem.to_owned()));
                if sender.send(Ok(vec![(number, bad)])).is_err() {
                    return Ok(());
                }
                false
            }
            None => true,
        };
        if ended || texts.bytes.len() >= BATCH_BYTES {
            if sender.send(Ok(texts.parse(now)?)).is_err() || ended {
                return Ok(());
            }
            texts.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::ops::ControlFlow;

    use bw_file::{BytesPerSecond, KilobytesPerSecond};
    use tempfile::TempDir;

    use super::*;
    use crate::{Facts, State, for_each_facts, for_each_result};
    use bw_results::{OutcomeSummary, Position, SummaryResult};
    use bw_store::{Filter, Stores};

    /// After all that these tests import.
    const NOW: UnixMillis = UnixMillis::from_secs(1_800_000_000);

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

    fn import(files: &[(&str, String)]) -> (TempDir, Store, ImportReport) {
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
        let report = Home::new(home.path()).import_into(&mut store, NOW).unwrap();
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
        assert_eq!(descriptor.average, BytesPerSecond::new(2_147_483_647));
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
    fn what_is_dated_ahead_of_the_clock_is_refused_by_name() {
        let now = NOW.as_secs();
        let at = |time: f64| line(serde_json::json!({"time": time})) + "\n";
        let times = [now + 3_600, now + 3_601, 4_102_444_800, 249_000_000_000];
        let text: String = times.iter().map(|&time| at(time as f64)).collect();
        let (home, mut store, report) = import(&[("2026-11-18.txt", text)]);
        assert_eq!((report.added, report.bad_lines), (1, 3), "{report:?}");
        let [first, second, _] = &report.problems[..] else {
            panic!("{report:?}")
        };
        assert_eq!(first.line, 2);
        assert!(first.problem.contains(&"01".repeat(20)), "{first:?}");
        assert!(second.problem.contains("2100-01-01"), "{second:?}");

        std::fs::create_dir(home.path().join("tor")).unwrap();
        let consensus = "vote-status consensus\nvalid-after 2099-11-18 12:00:00\n\
             fresh-until 2099-11-18 13:00:00\nvalid-until 2099-11-18 15:00:00\n\
             directory-footer\n";
        std::fs::write(home.path().join("tor/cached-consensus"), consensus).unwrap();
        let report = Home::new(home.path()).import_into(&mut store, NOW).unwrap();
        let problem = report.problems.last().unwrap();
        assert!(problem.path.ends_with("cached-consensus"), "{report:?}");
        assert!(problem.problem.contains("2099-11-18T12"), "{report:?}");
        assert_eq!(store.latest_snapshot().unwrap(), None);
    }

    #[test]
    fn a_name_cannot_steer_a_terminal() {
        let name = "a\u{1b}]0;x\u{7}b";
        let text = line(serde_json::json!({"scanner": name, "dest_url": name}));
        let (_home, store, _) = import(&[("2026-11-18.txt", text)]);
        let scan = &store.scans().unwrap()[0].scan;
        assert_eq!(scan.scanner, r"a\u{1b}]0;x\u{7}b");
        assert!(!results(&store)[0].destination.contains('\u{1b}'));
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
        let again = Home::new(home.path().join("datadir"))
            .import_into(&mut store, NOW)
            .unwrap();
        assert_eq!((again.added, again.known), (0, 6));
        assert_eq!(store.scans().unwrap().len(), 3, "one a day");
    }

    fn results(store: &Store) -> Vec<ResultLine> {
        let mut found = Vec::new();
        let end = for_each_result(store, &Filter::all(), |result| {
            found.push(result);
            ControlFlow::<()>::Continue(())
        });
        assert!(end.unwrap().is_continue());
        found
    }

    /// One line of each kind, with all that an outcome has no place for.
    fn exact_lines() -> String {
        let success = serde_json::json!({
            "time": 1_795_005_000.123_456_7, "rtts": [0.25], "relay_average_bandwidth": null,
            "downloads": [{"duration": 8.123_456_789_012_3, "amount": 16_000_001}],
            "xoff_sent": ["2026-11-18T11:30:00"], "consensus_bandwidth": 1_234,
        });
        let error = serde_json::json!({
            "type": "error-auth", "msg": "boom", "time": 1_795_005_001.5, "downloads": "gone",
            "relay_burst_bandwidth": "gone", "relay_observed_bandwidth": "gone",
            "consensus_bandwidth": "gone", "consensus_bandwidth_is_unmeasured": "gone",
        });
        format!("{}\n{}\n", line(success), line(error))
    }

    #[test]
    fn what_a_line_says_is_kept_exactly_and_moves_to_other_stores() {
        let text = exact_lines();
        let expected: Vec<ResultLine> = text
            .lines()
            .map(|line| ResultLine::parse(line.as_bytes()).unwrap())
            .collect();
        let (home, store, _) = import(&[("2026-11-18.txt", text)]);
        assert_eq!(results(&store), expected);
        let mut lines = Vec::new();
        store
            .export_jsonl::<Facts>(&Filter::all(), &mut lines)
            .unwrap();
        let mut other = Store::open(home.path().join("other.db")).unwrap();
        other.import_jsonl::<Facts>(lines.as_slice(), NOW).unwrap();
        assert_eq!(results(&other), expected);
        let mut fast = Vec::new();
        let stores = Stores::open_read_only([other.path()]).unwrap();
        let end = for_each_facts(&stores, &Filter::all(), |relay, facts| {
            fast.push((relay, facts));
            ControlFlow::<()>::Continue(())
        });
        assert!(end.unwrap().is_continue());
        let facts = expected.into_iter().map(|one| (one.fingerprint, one.facts));
        assert_eq!(fast, facts.collect::<Vec<_>>());
    }

    #[test]
    fn results_imported_before_get_what_was_not_kept_then() {
        let (home, store, _) = import(&[("2026-11-18.txt", exact_lines())]);
        let expected = results(&store);
        // As software wrote them that kept no facts.
        let mut old = Store::open(home.path().join("old.db")).unwrap();
        let mut encoder = Encoder::new().unwrap();
        let added: Result<()> = old.import(|import| {
            for line in &expected {
                let outcome = line.to_outcome();
                let verdict = Verdict::default_of(&outcome);
                let none = None::<&Facts>;
                let encoded = encoder.encode(&line.scanner, &outcome, verdict, none);
                let mut days = Days::default();
                let scan = days.scan(import, line.scanner.clone(), outcome.ended())?;
                import.add(&scan, &encoded.unwrap())?;
            }
            Ok(())
        });
        added.unwrap();
        assert_ne!(results(&old), expected, "rounded");
        let report = Home::new(home.path()).import_into(&mut old, NOW).unwrap();
        assert_eq!((report.added, report.known), (0, 2));
        assert_eq!(results(&old), expected);
    }

    #[test]
    fn while_sbws_writes_nothing_is_lost_and_nothing_doubled() {
        let text = exact_lines();
        // Cut anywhere in the second line.
        let first = text.find('\n').unwrap() + 1;
        for cut in [first + 1, first + 40, text.len() - 2] {
            let (home, mut store, report) = import(&[("2026-11-18.txt", text[..cut].to_owned())]);
            assert_eq!((report.added, report.bad_lines), (1, 1));
            std::fs::write(home.path().join("datadir/2026-11-18.txt"), &text).unwrap();
            let report = Home::new(home.path()).import_into(&mut store, NOW).unwrap();
            assert_eq!((report.added, report.known, report.bad_lines), (1, 1, 0));
        }
    }

    #[test]
    fn tors_files_and_the_state_come_with_the_results() {
        let (home, mut store, report) = import(&[("2026-11-18.txt", exact_lines())]);
        assert_eq!((report.consensus_relays, report.state), (None, false));
        let tor = home.path().join("tor");
        std::fs::create_dir(&tor).unwrap();
        let write = |name: &str, text: &str| std::fs::write(home.path().join(name), text).unwrap();
        write(
            "tor/cached-consensus",
            "vote-status consensus\nvalid-after 2026-11-18 12:00:00\n\
             fresh-until 2026-11-18 13:00:00\nvalid-until 2026-11-18 15:00:00\n\
             r one AQEBAQEBAQEBAQEBAQEBAQEBAQE 2026-11-18 01:02:03 192.0.2.1 9001 0\n\
             w Bandwidth=30\ndirectory-footer\n",
        );
        let descriptor = |hour: u32, observed: u32| {
            format!(
                "router one 192.0.2.1 9001 0 0\npublished 2026-11-18 {hour:02}:00:00\n\
                 fingerprint {}\nbandwidth 9 8 {observed}\nrouter-signature\n",
                "0101 ".repeat(10)
            )
        };
        write("tor/cached-descriptors", &descriptor(5, 500));
        write("tor/cached-descriptors.new", &descriptor(6, 600));
        write("state.dat", "{\"tor_version\": \"0.4.8.10\"}");
        let report = Home::new(home.path()).import_into(&mut store, NOW).unwrap();
        assert_eq!((report.consensus_relays, report.descriptors), (Some(1), 1));
        let (_, network) = store.latest_snapshot().unwrap().unwrap();
        let facts = network.relays[0].descriptor.unwrap();
        assert_eq!(facts.observed, BytesPerSecond::new(600), "of the journal");
        let state = store.imported_state::<State>().unwrap().unwrap();
        assert_eq!(state.tor_version.as_deref(), Some("0.4.8.10"));
        // sbws itself does not look at the journal.
        let network = Home::new(home.path()).network(false).unwrap().unwrap();
        let facts = network.relays[0].descriptor.unwrap();
        assert_eq!(facts.observed, BytesPerSecond::new(500));

        write("tor/cached-consensus", "nonsense");
        write("state.dat", "{\"tor_ver");
        let report = Home::new(home.path()).import_into(&mut store, NOW).unwrap();
        assert_eq!(report.problems.len(), 2, "{report:?}");
        assert!(report.problems[0].path.ends_with("tor/cached-consensus"));
        assert!(
            store.imported_state::<State>().unwrap().is_some(),
            "the old one stays"
        );
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
        let report = Home::new(home.path()).import_into(&mut store, NOW).unwrap();
        assert_eq!((report.files, report.known), (2, 1));
        assert_eq!(
            (report.problems.len(), report.unreadable),
            (1, 1),
            "{report:?}"
        );
        assert_eq!(report.problems[0].line, 0);
        let missing = Home::new("/no/such/home")
            .import_into(&mut store, NOW)
            .unwrap_err();
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
            let report = Home::new(&home).import_into(&mut store, NOW).unwrap();
            println!("{what} import in {:?}: {report:#?}", start.elapsed());
        }
        let size = store.path().metadata().unwrap().len();
        println!("store: {:.1} MB", size as f64 / 1e6);
    }
}
