//! Outcomes as JSON Lines: one scan or outcome a line, for backups, for other
//! tools, and for moving them to another store.

use std::io::{self, BufRead, Write};
use std::ops::ControlFlow;

use bw_file::Fingerprint;
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::store::{Fault, GIVEN_UP, PENDING, Writer};
use crate::{Filter, Outcome, SbwsFacts, Scan, ScanId, Store};

/// How many lines are imported in one transaction.
const BATCH: usize = 10_000;

/// The longest line that is read, in bytes.
const LINE_LIMIT: u64 = 1 << 24;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
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
        outcome: Box<Outcome>,
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
                    let line = Line::Scan {
                        scan: self.scan(&stored.scan)?,
                        pending: self.pending_targets(&stored.scan)?,
                        given_up: self.targets_given_up(&stored.scan)?,
                    };
                    write_line(writer, &line).map_err(failed)?;
                }
                let (outcome, facts) = stored.value;
                let line = Line::Outcome {
                    scan: stored.scan,
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
    /// and described in the report.
    ///
    /// # Errors
    /// If the store or `reader` fails; what was read until then may be in the store.
    pub fn import_jsonl(&mut self, reader: &mut impl BufRead) -> Result<ImportReport> {
        let mut report = ImportReport::default();
        let mut lines = Lines::new(reader);
        let path = self.path().to_owned();
        loop {
            let more = self.write(|writer| {
                for _ in 0..BATCH {
                    match lines.read().map_err(|e| Error::io(&path, "importing", e))? {
                        Some(Ok(text)) if text.trim_ascii().is_empty() => {}
                        Some(Ok(text)) => match serde_json::from_slice(text) {
                            Ok(line) => import(writer, line, lines.number, &mut report)?,
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

fn write_line(writer: &mut impl Write, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *writer, line)?;
    writer.write_all(b"\n")
}

fn import(
    writer: &mut Writer<'_>,
    line: Line,
    number: u64,
    report: &mut ImportReport,
) -> Result<(), Fault> {
    match line {
        Line::Scan {
            scan,
            pending,
            given_up,
        } => {
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
            outcome,
            sbws,
        } => {
            let found = writer
                .transaction
                .prepare_cached("SELECT id, scanner FROM scan WHERE identity = ?1")?
                .query_row(params![scan.as_bytes()], |row| {
                    Ok((row.get(0)?, row.get::<_, String>(1)?))
                })
                .optional()?;
            match found {
                Some((row, scanner)) => {
                    match writer.insert_outcome(row, &scanner, &outcome, sbws.as_deref())? {
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
    use crate::UnixMillis;
    use crate::testing::{failed, fingerprint, measured, scan, snapshot};

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
            store.record(&scan.id, &measured(1, base)).unwrap();
            store.record(&scan.id, &failed(2, base)).unwrap();
            store.record(&scan.id, &failed(3, base)).unwrap();
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
        let report = to.import_jsonl(&mut text.as_slice()).unwrap();
        assert_eq!((report.added, report.known, report.scans), (6, 0, 2));
        assert_eq!(report.bad_lines, 0, "{report:?}");
        assert_eq!(to.scans().unwrap(), from.scans().unwrap());
        assert_eq!(export(&to), text);
        let again = to.import_jsonl(&mut text.as_slice()).unwrap();
        assert_eq!((again.added, again.known, again.scans), (0, 6, 0));
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
        let report = to.import_jsonl(&mut text.as_slice()).unwrap();
        assert_eq!((report.added, report.scans, report.bad_lines), (6, 2, 5));
        let lines: Vec<_> = report.problems.iter().map(|p| p.line).collect();
        assert_eq!(lines, [2, 3, 4, 5, 14]);
        assert!(report.problems[3].problem.contains("not announced"));
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
