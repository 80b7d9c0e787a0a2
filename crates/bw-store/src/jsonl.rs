//! Outcomes as JSON Lines: one scan or outcome a line, for backups, for other
//! tools, and for moving them to another store.

use std::io::{self, BufRead, Write};
use std::ops::ControlFlow;

use bw_file::Fingerprint;
use bw_results::{Judged, Lines, Outcome, Scan, ScanId, UnixMillis, Verdict};
use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::store::{GIVEN_UP, PENDING};
use crate::transaction::Transaction;
use crate::{Encoded, Error, Filter, Result, Store, Supplement};

/// The most lines that are written in one transaction: others that write to
/// the store wait for it, some 50 ms.
const SLICE_LINES: usize = 1_000;

/// The most bytes of lines that are kept in memory for one transaction.
const SLICE_BYTES: usize = 1 << 24;

/// One line: `O` is an outcome as it is written or read, `S` its supplement.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line<O, S> {
    /// A scan, before its outcomes.
    Scan(ScanLine),
    /// The outcome of one attempt.
    Outcome(OutcomeLine<O, S>),
}

#[derive(Debug, Serialize, Deserialize)]
struct ScanLine {
    #[serde(flatten)]
    scan: Scan,
    /// Relays without a final outcome.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pending: Vec<Fingerprint>,
    /// Relays that were given up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    given_up: Vec<Fingerprint>,
}

#[derive(Debug, Serialize, Deserialize)]
struct OutcomeLine<O, S> {
    scan: ScanId,
    /// Lines of older software have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    verdict: Option<Verdict>,
    outcome: Box<O>,
    /// Named after the only program whose results have had one.
    #[serde(
        rename = "sbws",
        default = "Option::default",
        skip_serializing_if = "Option::is_none"
    )]
    supplement: Option<Box<S>>,
}

/// The result of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportReport {
    /// Outcomes added.
    pub added: u64,
    /// Outcomes that the store had already.
    pub known: u64,
    /// Scans added.
    pub scans: u64,
    /// Lines that could not be used.
    pub bad_lines: u64,
    /// The first of them, at most [`ImportReport::BAD_LINES_SHOWN`].
    pub problems: Vec<ImportProblem>,
}

/// A line that could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportProblem {
    /// Its number, from 1.
    pub line: u64,
    /// The problem, in words.
    pub problem: String,
}

impl ImportReport {
    /// The number of bad lines that are described; the others are only counted.
    pub const BAD_LINES_SHOWN: usize = 20;

    fn bad(&mut self, line: u64, problem: impl ToString) {
        self.bad_lines += 1;
        if self.problems.len() < Self::BAD_LINES_SHOWN {
            let problem = problem.to_string();
            self.problems.push(ImportProblem { line, problem });
        }
    }
}

impl Store {
    /// Writes the selected outcomes, each after the line of its scan, one JSON
    /// object a line; returns how many.
    ///
    /// # Errors
    /// If the store or `writer` fails.
    pub fn export_jsonl<S: Supplement>(
        &self,
        filter: &Filter,
        writer: &mut impl Write,
    ) -> Result<u64> {
        let failed = |error| Error::io(self.path(), "exporting", error);
        let mut announced = Vec::new();
        let mut count = 0;
        let end = self.for_each_supplemented(filter, |stored| {
            let write = || -> Result<()> {
                if !announced.contains(&stored.scan) {
                    announced.push(stored.scan);
                    let line = Line::Scan(self.scan_line(&stored.scan)?);
                    write_line::<S>(writer, &line).map_err(failed)?;
                }
                let (outcome, supplement) = stored.value;
                let line = Line::Outcome(OutcomeLine {
                    scan: stored.scan,
                    verdict: Some(stored.verdict),
                    outcome: outcome.into(),
                    supplement: supplement.map(Box::new),
                });
                write_line::<S>(writer, &line).map_err(failed)
            };
            match write() {
                Ok(()) => {
                    count += 1;
                    ControlFlow::Continue(())
                }
                Err(error) => ControlFlow::Break(error),
            }
        })?;
        match end {
            ControlFlow::Continue(()) => {
                writer.flush().map_err(failed)?;
                Ok(count)
            }
            ControlFlow::Break(error) => Err(error),
        }
    }

    fn scan_line(&self, scan: &ScanId) -> Result<ScanLine> {
        Ok(ScanLine {
            scan: self.scan(scan)?,
            pending: self.pending_targets(scan)?,
            given_up: self.targets_given_up(scan)?,
        })
    }

    /// Adds what [`export_jsonl`](Self::export_jsonl) wrote. What the store has
    /// already is counted and left alone; a line that cannot be used is counted
    /// and described in the report. So is a scan or an outcome that is dated
    /// more than an hour [ahead of](UnixMillis::is_ahead_of) `now`.
    ///
    /// Lines are read first and written a thousand at a time: others can write to
    /// the store while `reader` waits for its input.
    ///
    /// # Errors
    /// If the store or `reader` fails; the slices before are in the store.
    pub fn import_jsonl<S: Supplement>(
        &mut self,
        reader: impl BufRead,
        now: UnixMillis,
    ) -> Result<ImportReport> {
        let mut report = ImportReport::default();
        let mut lines = Lines::new(reader);
        loop {
            let slice = Slice::<S>::read(&mut lines, now)
                .map_err(|error| Error::io(self.path(), "importing", error))?;
            let is_last = slice.is_last;
            self.write(|transaction| slice.write(transaction, &mut report))?;
            if is_last {
                return Ok(report);
            }
        }
    }
}

fn write_line<S: Supplement>(writer: &mut impl Write, line: &Line<Outcome, S>) -> io::Result<()> {
    serde_json::to_writer(&mut *writer, line)?;
    writer.write_all(b"\n")
}

/// A line that was read, or what is wrong with it.
type Parsed<S> = Result<Line<Judged, S>, String>;

/// Some lines with their numbers.
struct Slice<S> {
    lines: Vec<(u64, Parsed<S>)>,
    /// `true` if the input ends with them.
    is_last: bool,
}

impl<S: Supplement> Slice<S> {
    /// Waits for the next lines.
    fn read(lines: &mut Lines<impl BufRead>, now: UnixMillis) -> io::Result<Self> {
        let mut slice = Self {
            lines: Vec::new(),
            is_last: false,
        };
        let mut bytes = 0;
        while slice.lines.len() < SLICE_LINES && bytes < SLICE_BYTES {
            let line = match lines.read()? {
                None => {
                    slice.is_last = true;
                    break;
                }
                Some(Ok(text)) if text.trim_ascii().is_empty() => continue,
                Some(Ok(text)) => {
                    bytes += text.len();
                    Line::parse(text, now)
                }
                Some(Err(problem)) => Err(problem.to_owned()),
            };
            slice.lines.push((lines.number(), line));
        }
        Ok(slice)
    }

    fn write(self, to: &mut Transaction<'_>, report: &mut ImportReport) -> Result<(), Fault> {
        for (number, line) in self.lines {
            let problem = match line {
                Ok(Line::Scan(line)) => line.write(to, report)?,
                Ok(Line::Outcome(line)) => line.write(to, report)?,
                Err(problem) => Some(problem),
            };
            if let Some(problem) = problem {
                report.bad(number, problem);
            }
        }
        Ok(())
    }
}

impl<S: Supplement> Line<Judged, S> {
    fn parse(text: &[u8], now: UnixMillis) -> Result<Self, String> {
        let line: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        match line.problem(now) {
            None => Ok(line),
            Some(problem) => Err(problem),
        }
    }

    /// The reason why no store takes it.
    fn problem(&self, now: UnixMillis) -> Option<String> {
        match self {
            Self::Scan(ScanLine { scan, .. }) if scan.scanner.contains(char::is_control) => {
                Some(format!("impossible scanner name {:?}", scan.scanner))
            }
            Self::Scan(ScanLine { scan, .. }) => {
                let what = format!("scan {}", scan.id);
                scan.started.problem_ahead_of(now, what)
            }
            Self::Outcome(line) => {
                let outcome = &line.outcome.outcome;
                let relay = outcome.attempt().target.fingerprint;
                let what = format!("an outcome of relay {relay}");
                outcome.ended().problem_ahead_of(now, what)
            }
        }
    }
}

impl ScanLine {
    /// Adds the scan, if it is not known; returns what is wrong with it.
    fn write(
        self,
        to: &mut Transaction<'_>,
        report: &mut ImportReport,
    ) -> Result<Option<String>, Fault> {
        match to.insert_scan(&self.scan) {
            Ok(()) => report.scans += 1,
            Err(Fault::Store(Error::ScanExists { .. })) => return Ok(None),
            Err(fault) => return Err(fault),
        }
        let row = to.scan_row(&self.scan.id)?;
        for (targets, state) in [(self.pending, PENDING), (self.given_up, GIVEN_UP)] {
            for target in targets {
                to.insert_target(row, &target, state)?;
            }
        }
        Ok(None)
    }
}

impl<S: Supplement> OutcomeLine<Judged, S> {
    /// The same of an outcome.
    fn write(
        self,
        to: &mut Transaction<'_>,
        report: &mut ImportReport,
    ) -> Result<Option<String>, Fault> {
        let Some(scanner) = to.scanner(&self.scan)? else {
            return Ok(Some(format!("scan {} was not announced before", self.scan)));
        };
        let Judged {
            outcome, implied, ..
        } = *self.outcome;
        let verdict = self
            .verdict
            .or(implied)
            .unwrap_or_else(|| Verdict::default_of(&outcome));
        let supplement = self.supplement.as_deref();
        let encoded = Encoded::new(to.codec, &scanner, &outcome, verdict, supplement)?;
        let row = to.scan_row(&self.scan)?;
        match to.insert_encoded(row, &encoded)? {
            true => report.added += 1,
            false => report.known += 1,
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::NoSupplement;
    use crate::testing::{failed, fingerprint, keep, measured, scan, snapshot};

    /// After all that these tests record.
    const NOW: UnixMillis = UnixMillis::from_secs(2_000_000_000);

    fn new_store(directory: &TempDir, name: &str) -> Store {
        Store::open(directory.path().join(name)).unwrap()
    }

    fn filled(directory: &TempDir) -> Store {
        let mut store = new_store(directory, "from.db");
        let network = store.put_snapshot(&snapshot(3, 0)).unwrap();
        for number in 1..=2 {
            let scan = scan(number, 100);
            let targets: Vec<_> = (1..=4).map(fingerprint).collect();
            store.begin_scan(&scan, &targets, network).unwrap();
            let base = u64::from(number) * 1_000_000;
            keep(&mut store, &scan.id, &measured(1, base)).unwrap();
            keep(&mut store, &scan.id, &failed(2, base)).unwrap();
            keep(&mut store, &scan.id, &failed(3, base)).unwrap();
            store.settle(&scan.id, &fingerprint(2)).unwrap();
        }
        store
    }

    fn export(store: &Store) -> Vec<u8> {
        let mut text = Vec::new();
        store
            .export_jsonl::<NoSupplement>(&Filter::all(), &mut text)
            .unwrap();
        text
    }

    #[test]
    fn what_is_exported_is_imported_once() {
        let directory = TempDir::new().unwrap();
        let from = filled(&directory);
        let text = export(&from);
        let mut to = new_store(&directory, "to.db");
        let report = to
            .import_jsonl::<NoSupplement>(text.as_slice(), NOW)
            .unwrap();
        assert_eq!((report.added, report.known, report.scans), (6, 0, 2));
        assert_eq!(report.bad_lines, 0, "{report:?}");
        assert_eq!(to.scans().unwrap(), from.scans().unwrap());
        assert_eq!(export(&to), text);
        let again = to
            .import_jsonl::<NoSupplement>(text.as_slice(), NOW)
            .unwrap();
        assert_eq!((again.added, again.known, again.scans), (0, 6, 0));
    }

    #[test]
    fn verdicts_travel_and_lines_without_one_get_the_default() {
        let directory = TempDir::new().unwrap();
        let from = filled(&directory);
        let text = String::from_utf8(export(&from)).unwrap();
        assert!(text.contains(r#""verdict":{"kind":"accepted"}"#), "{text}");
        let verdicts = |store: &Store| {
            let scans = store.scans().unwrap();
            scans.iter().map(|scan| scan.verdicts).collect::<Vec<_>>()
        };
        let mut other = new_store(&directory, "other.db");
        let changed = text.replace(
            r#""verdict":{"kind":"charged"}"#,
            r#""verdict":{"kind":"excused","reason":"destination"}"#,
        );
        other
            .import_jsonl::<NoSupplement>(changed.as_bytes(), NOW)
            .unwrap();
        let other = verdicts(&other)[0];
        assert_eq!((other.accepted, other.charged, other.excused), (1, 0, 2));

        // As software wrote them that knew no verdicts.
        let old = text
            .replace(r#""verdict":{"kind":"accepted"},"#, "")
            .replace(r#""verdict":{"kind":"charged"},"#, "");
        assert!(!old.contains("verdict"));
        let mut again = new_store(&directory, "again.db");
        let report = again
            .import_jsonl::<NoSupplement>(old.as_bytes(), NOW)
            .unwrap();
        assert_eq!((report.added, report.bad_lines), (6, 0));
        assert_eq!(verdicts(&again), verdicts(&from));
        let unknown = text.replace("accepted", "applauded");
        let report = again
            .import_jsonl::<NoSupplement>(unknown.as_bytes(), NOW)
            .unwrap();
        assert_eq!(report.bad_lines, 2, "{report:?}");
    }

    #[test]
    fn a_judgement_of_old_and_the_measurement_that_it_was_of_are_one_record() {
        let directory = TempDir::new().unwrap();
        let mut store = new_store(&directory, "to.db");
        let whole = measured(1, 1_000);
        let mut judged = serde_json::to_value(failed(1, 1_000)).unwrap();
        let attempt = serde_json::to_value(whole.attempt()).unwrap();
        judged["failed"]["attempt"] = attempt;
        judged["failed"]["ended"] = serde_json::to_value(whole.ended()).unwrap();
        judged["failed"]["kind"] = "disputed".into();
        judged["failed"]["bytes"] = whole.bytes().into();
        let scan = scan(1, 100);
        let lines = [
            serde_json::json!({"scan": {"id": scan.id, "scanner": "test", "started": 1,
                "ended": null, "parameters": scan.parameters}}),
            serde_json::json!({"outcome": {"scan": scan.id, "outcome": judged}}),
            serde_json::json!({"outcome": {"scan": scan.id, "outcome": whole}}),
        ];
        let text = lines.map(|line| line.to_string()).join("\n");
        for _ in 0..2 {
            let report = store
                .import_jsonl::<NoSupplement>(text.as_bytes(), NOW)
                .unwrap();
            assert_eq!(report.bad_lines, 0, "{report:?}");
            let records = store.records_of(&scan.id, &fingerprint(1)).unwrap();
            let [record] = records.as_slice() else {
                panic!("{records:?}")
            };
            assert_eq!(
                (&record.outcome, record.verdict),
                (&whole, Verdict::Accepted)
            );
        }
    }

    #[test]
    fn bad_lines_are_counted_and_described() {
        let directory = TempDir::new().unwrap();
        let mut text = b"\n{\"scan\": 5}\nnot json\n\xff\xfe\n".to_vec();
        let good = export(&filled(&directory));
        let orphan = good.split_inclusive(|&byte| byte == b'\n').nth(1).unwrap();
        text.extend_from_slice(orphan);
        text.extend_from_slice(&good);
        text.extend_from_slice(b"{\"outcome\":{\"scan\":\"00"); // cut off
        let mut to = new_store(&directory, "to.db");
        let report = to
            .import_jsonl::<NoSupplement>(text.as_slice(), NOW)
            .unwrap();
        assert_eq!((report.added, report.scans, report.bad_lines), (6, 2, 5));
        let lines: Vec<_> = report.problems.iter().map(|p| p.line).collect();
        assert_eq!(lines, [2, 3, 4, 5, 14]);
        assert!(report.problems[3].problem.contains("not announced"));
    }

    #[test]
    fn what_is_dated_ahead_of_the_clock_is_refused_by_name() {
        let directory = TempDir::new().unwrap();
        let mut from = filled(&directory);
        let hour = 3_600_000;
        let now = UnixMillis::new(2_000_000 + 10 * hour);
        for ended in [
            now.value() + hour,
            now.value() + hour + 1,
            316_000_000_000_000,
        ] {
            let started = ended - 4_000;
            keep(&mut from, &scan(1, 0).id, &measured(4, started)).unwrap();
        }
        let mut late = scan(3, 0);
        late.started = UnixMillis::new(now.value() + 2 * hour);
        from.write(|writer| writer.insert_scan(&late)).unwrap();
        keep(&mut from, &late.id, &measured(1, 1_000)).unwrap();
        let mut to = new_store(&directory, "to.db");
        let report = to
            .import_jsonl::<NoSupplement>(export(&from).as_slice(), now)
            .unwrap();
        assert_eq!((report.added, report.scans), (7, 2), "{report:?}");
        assert_eq!(report.bad_lines, 4, "{report:?}");
        let texts: Vec<_> = report.problems.iter().map(|p| &p.problem).collect();
        let relay = fingerprint(4).to_string();
        assert!(
            texts[0].contains(&relay) && texts[0].contains("1970-01-01T11:33:20"),
            "{texts:?}"
        );
        assert!(
            texts[1].contains(&relay) && texts[1].contains("9999-12-31"),
            "{texts:?}"
        );
        assert!(texts[2].contains(&late.id.to_string()), "{texts:?}");
    }

    /// An input that waits for a test to let it go on.
    struct Waiting<'w> {
        text: &'w [u8],
        /// The byte before which it waits.
        at: usize,
        /// The test's doing while it waits.
        meanwhile: Option<Box<dyn FnOnce() + 'w>>,
    }

    impl io::Read for Waiting<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if self.at == 0
                && let Some(meanwhile) = self.meanwhile.take()
            {
                meanwhile();
            }
            let end = into
                .len()
                .min(if self.at > 0 { self.at } else { usize::MAX });
            let read = io::Read::read(&mut self.text, &mut into[..end])?;
            self.at = self.at.saturating_sub(read);
            Ok(read)
        }
    }

    #[test]
    fn others_can_write_while_an_import_waits_for_its_input() {
        let directory = TempDir::new().unwrap();
        let text = export(&filled(&directory));
        let mut to = new_store(&directory, "to.db");
        let mut other = new_store(&directory, "to.db");
        // A wait would be a failure at once.
        other
            .connection
            .busy_timeout(std::time::Duration::ZERO)
            .unwrap();
        let input = Waiting {
            text: &text,
            at: text.len() / 2,
            meanwhile: Some(Box::new(move || {
                other.put_snapshot(&snapshot(3, 1)).unwrap();
            })),
        };
        let input = io::BufReader::with_capacity(64, input);
        let report = to.import_jsonl::<NoSupplement>(input, NOW).unwrap();
        assert_eq!((report.added, report.scans), (6, 2));
        assert_eq!(to.snapshots().unwrap().len(), 1);
    }

    #[test]
    fn what_comes_in_many_slices_is_all_imported() {
        let directory = TempDir::new().unwrap();
        let mut from = filled(&directory);
        let count = 2 * SLICE_LINES as u64 + 1;
        for number in 0..count {
            let id = scan(1, 0).id;
            keep(&mut from, &id, &failed(number, 5_000_000)).unwrap();
        }
        let mut to = new_store(&directory, "to.db");
        let text = export(&from);
        let report = to.import_jsonl::<NoSupplement>(text.as_slice(), NOW);
        assert_eq!(report.unwrap().added, count + 6);
    }

    #[test]
    fn a_writer_that_fails_is_an_error() {
        let directory = TempDir::new().unwrap();
        let store = filled(&directory);
        let mut small = [0; 100];
        let result = store.export_jsonl::<NoSupplement>(&Filter::all(), &mut small.as_mut_slice());
        assert!(matches!(result, Err(Error::Io { .. })));
        assert!(store.scan(&scan(1, 0).id).unwrap().started < UnixMillis::new(200));
    }
}
