//! Outcomes as JSON Lines: one scan or outcome a line, for backups, for other
//! tools, and for moving them to another store.

use std::io::{self, BufRead, Write};
use std::ops::ControlFlow;

use bw_file::Fingerprint;
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::judged::Judged;
use crate::sbws::format_iso;
use crate::store::{Fault, GIVEN_UP, PENDING, Writer};
use crate::{Filter, Outcome, SbwsFacts, Scan, ScanId, Store, UnixMillis, Verdict};

/// How many lines are imported in one transaction.
const BATCH: usize = 10_000;

/// The longest line that is read, in bytes.
const LINE_LIMIT: u64 = 1 << 24;

/// One line: `O` is an outcome as it is written or read.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line<O> {
    /// A scan, before its outcomes.
    Scan {
        #[serde(flatten)]
        scan: Scan,
        /// Relays without a final outcome.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pending: Vec<Fingerprint>,
        /// Relays that were given up.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        given_up: Vec<Fingerprint>,
    },
    /// What came of one attempt.
    Outcome {
        scan: ScanId,
        /// Lines of older software have none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        verdict: Option<Verdict>,
        outcome: Box<O>,
        /// What a result line of sbws said beyond it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sbws: Option<Box<SbwsFacts>>,
    },
}

/// What an import did.
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
    /// What is wrong with it.
    pub problem: String,
}

impl ImportReport {
    /// How many bad lines are described; the others are only counted.
    pub const BAD_LINES_SHOWN: usize = 20;

    pub(crate) fn bad(&mut self, line: u64, problem: impl ToString) {
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
    pub fn export_jsonl(&self, filter: &Filter, writer: &mut impl Write) -> Result<u64> {
        let failed = |error| Error::io(self.path(), "exporting", error);
        let mut written = Vec::new();
        let mut count = 0;
        let end = self.for_each_with_facts(filter, |stored| {
            let write = || -> Result<()> {
                if !written.contains(&stored.scan) {
                    written.push(stored.scan);
                    let line = Line::<Outcome>::Scan {
                        scan: self.scan(&stored.scan)?,
                        pending: self.pending_targets(&stored.scan)?,
                        given_up: self.targets_given_up(&stored.scan)?,
                    };
                    write_line(writer, &line).map_err(failed)?;
                }
                let (outcome, facts) = stored.value;
                let line = Line::Outcome {
                    scan: stored.scan,
                    verdict: Some(stored.verdict),
                    outcome: outcome.into(),
                    sbws: facts.map(Box::new),
                };
                write_line(writer, &line).map_err(failed)
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

    /// Adds what [`export_jsonl`](Self::export_jsonl) wrote. What the store has
    /// already is counted and left alone; a line that cannot be used is counted
    /// and described in the report. So is a scan or an outcome that is dated
    /// more than an hour [ahead of](crate::UnixMillis::is_ahead_of) `now`.
    ///
    /// # Errors
    /// If the store or `reader` fails; what was read until then may be in the store.
    pub fn import_jsonl(
        &mut self,
        reader: &mut impl BufRead,
        now: UnixMillis,
    ) -> Result<ImportReport> {
        let mut report = ImportReport::default();
        let mut lines = Lines::new(reader);
        let path = self.path().to_owned();
        loop {
            let more = self.write(|writer| {
                for _ in 0..BATCH {
                    match lines.read().map_err(|e| Error::io(&path, "importing", e))? {
                        Some(Ok(text)) if text.trim_ascii().is_empty() => {}
                        Some(Ok(text)) => match serde_json::from_slice(text) {
                            Ok(line) => match line_ahead_of(&line, now) {
                                None => import(writer, line, lines.number, &mut report)?,
                                Some(problem) => report.bad(lines.number, problem),
                            },
                            Err(error) => report.bad(lines.number, error),
                        },
                        Some(Err(problem)) => report.bad(lines.number, problem),
                        None => return Ok(false),
                    }
                }
                Ok(true)
            })?;
            if !more {
                return Ok(report);
            }
        }
    }
}

/// What is wrong with a line that is dated too far after `now`.
fn line_ahead_of(line: &Line<Judged>, now: UnixMillis) -> Option<String> {
    let (what, time) = match line {
        Line::Scan { scan, .. } => (format!("scan {}", scan.id), scan.started),
        Line::Outcome { outcome, .. } => {
            let outcome = &outcome.outcome;
            let relay = outcome.attempt().target.fingerprint;
            (format!("an outcome of relay {relay}"), outcome.ended())
        }
    };
    time.is_ahead_of(now).then(|| ahead(&what, time, now))
}

/// What is said of a record that is dated too far after `now`.
pub(crate) fn ahead(what: &str, time: UnixMillis, now: UnixMillis) -> String {
    let [time, now] = [time, now].map(|time| format_iso(time.as_secs()));
    format!("{what} is dated {time}, more than an hour ahead of now ({now}): a clock is wrong")
}

fn write_line(writer: &mut impl Write, line: &Line<Outcome>) -> io::Result<()> {
    serde_json::to_writer(&mut *writer, line)?;
    writer.write_all(b"\n")
}

fn import(
    writer: &mut Writer<'_>,
    line: Line<Judged>,
    number: u64,
    report: &mut ImportReport,
) -> Result<(), Fault> {
    match line {
        Line::Scan {
            scan,
            pending,
            given_up,
        } => {
            if scan.scanner.contains(char::is_control) {
                report.bad(
                    number,
                    format!("impossible scanner name {:?}", scan.scanner),
                );
                return Ok(());
            }
            match writer.insert_scan(&scan) {
                Ok(()) => report.scans += 1,
                Err(Fault::Store(Error::ScanExists { .. })) => return Ok(()),
                Err(fault) => return Err(fault),
            }
            let row = writer.scan_row(&scan.id)?;
            for (targets, state) in [(pending, PENDING), (given_up, GIVEN_UP)] {
                for target in targets {
                    writer.insert_target(row, &target, state)?;
                }
            }
        }
        Line::Outcome {
            scan,
            verdict,
            outcome,
            sbws,
        } => {
            let Judged { outcome, implied } = *outcome;
            let verdict = verdict
                .or(implied)
                .unwrap_or_else(|| Verdict::default_of(&outcome));
            let found = writer
                .transaction
                .prepare_cached("SELECT id, scanner FROM scan WHERE identity = ?1")?
                .query_row(params![scan.as_bytes()], |row| {
                    Ok((row.get(0)?, row.get::<_, String>(1)?))
                })
                .optional()?;
            match found {
                Some((row, scanner)) => {
                    let facts = sbws.as_deref();
                    match writer.insert_outcome(row, &scanner, &outcome, verdict, facts)? {
                        true => report.added += 1,
                        false => report.known += 1,
                    }
                }
                None => report.bad(number, format!("scan {scan} was not announced before")),
            }
        }
    }
    Ok(())
}

/// Reads lines of bounded length.
pub(crate) struct Lines<'r, R> {
    reader: &'r mut R,
    buffer: Vec<u8>,
    /// The number of the line read last, from 1.
    pub(crate) number: u64,
}

impl<'r, R: BufRead> Lines<'r, R> {
    pub(crate) const fn new(reader: &'r mut R) -> Self {
        Self {
            reader,
            buffer: Vec::new(),
            number: 0,
        }
    }

    /// The next line, or what is wrong with it; `None` at the end.
    pub(crate) fn read(&mut self) -> io::Result<Option<Result<&[u8], &'static str>>> {
        self.buffer.clear();
        let read =
            io::Read::take(&mut *self.reader, LINE_LIMIT).read_until(b'\n', &mut self.buffer)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        if self.buffer.last() != Some(&b'\n') && read as u64 == LINE_LIMIT {
            self.reader.skip_until(b'\n')?;
            return Ok(Some(Err("longer than any line should be")));
        }
        Ok(Some(Ok(&self.buffer)))
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
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
        store.export_jsonl(&Filter::all(), &mut text).unwrap();
        text
    }

    #[test]
    fn what_is_exported_is_imported_once() {
        let directory = TempDir::new().unwrap();
        let from = filled(&directory);
        let text = export(&from);
        let mut to = new_store(&directory, "to.db");
        let report = to.import_jsonl(&mut text.as_slice(), NOW).unwrap();
        assert_eq!((report.added, report.known, report.scans), (6, 0, 2));
        assert_eq!(report.bad_lines, 0, "{report:?}");
        assert_eq!(to.scans().unwrap(), from.scans().unwrap());
        assert_eq!(export(&to), text);
        let again = to.import_jsonl(&mut text.as_slice(), NOW).unwrap();
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
        other.import_jsonl(&mut changed.as_bytes(), NOW).unwrap();
        let other = verdicts(&other)[0];
        assert_eq!((other.accepted, other.charged, other.excused), (1, 0, 2));

        // As software wrote them that knew no verdicts.
        let old = text
            .replace(r#""verdict":{"kind":"accepted"},"#, "")
            .replace(r#""verdict":{"kind":"charged"},"#, "");
        assert!(!old.contains("verdict"));
        let mut again = new_store(&directory, "again.db");
        let report = again.import_jsonl(&mut old.as_bytes(), NOW).unwrap();
        assert_eq!((report.added, report.bad_lines), (6, 0));
        assert_eq!(verdicts(&again), verdicts(&from));
        let unknown = text.replace("accepted", "applauded");
        let report = again.import_jsonl(&mut unknown.as_bytes(), NOW).unwrap();
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
            let report = store.import_jsonl(&mut text.as_bytes(), NOW).unwrap();
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
        let report = to.import_jsonl(&mut text.as_slice(), NOW).unwrap();
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
        let report = to.import_jsonl(&mut export(&from).as_slice(), now).unwrap();
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

    #[test]
    fn endless_lines_are_cut() {
        let mut text = vec![b'x'; LINE_LIMIT as usize + 5];
        text.extend_from_slice(b"\nshort\n");
        let mut reader = text.as_slice();
        let mut lines = Lines::new(&mut reader);
        assert!(matches!(lines.read(), Ok(Some(Err(_)))));
        assert!(matches!(lines.read(), Ok(Some(Ok(b"short\n")))));
        assert!(matches!(lines.read(), Ok(None)));
    }

    #[test]
    fn a_writer_that_fails_is_an_error() {
        let directory = TempDir::new().unwrap();
        let store = filled(&directory);
        let mut small = [0; 100];
        let result = store.export_jsonl(&Filter::all(), &mut small.as_mut_slice());
        assert!(matches!(result, Err(Error::Io { .. })));
        assert!(store.scan(&scan(1, 0).id).unwrap().started < UnixMillis::new(200));
    }
}
