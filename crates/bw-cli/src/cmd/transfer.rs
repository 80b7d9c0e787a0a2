//! `bwscan export` and `bwscan import`: results in and out of the store.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use bw_results::{Filter, Store};
use serde_json::json;

use crate::args::{ExportArgs, ImportArgs, ImportSource};
use crate::exit::Exit;
use crate::paths::DataDir;
use crate::text::{print, print_json};

/// Writes all results as JSON Lines.
pub(super) fn export(args: &ExportArgs, data: &DataDir) -> anyhow::Result<Exit> {
    let store = Store::open_read_only(data.store())?;
    match &args.output {
        None => {
            store.export_jsonl(&Filter::all(), &mut BufWriter::new(io::stdout().lock()))?;
        }
        Some(path) => {
            let write = || -> anyhow::Result<u64> {
                // Written beside its place, so that no half of it is ever there.
                let parent = path
                    .parent()
                    .filter(|parent| !parent.as_os_str().is_empty());
                let mut file =
                    tempfile::NamedTempFile::new_in(parent.unwrap_or_else(|| Path::new(".")))?;
                let count =
                    store.export_jsonl(&Filter::all(), &mut BufWriter::new(file.as_file_mut()))?;
                file.as_file().sync_all()?;
                file.persist(path)?;
                Ok(count)
            };
            let count = write().with_context(|| format!("{}: not written", path.display()))?;
            print(format!("{count} outcomes in {}", path.display()))?;
        }
    }
    Ok(Exit::Success)
}

/// Adds the results of other scanners, each once however often it is imported.
pub(super) fn import(args: &ImportArgs, data: &DataDir) -> anyhow::Result<Exit> {
    data.create()?;
    let mut store = Store::open(data.store())?;
    let mut total = Total::default();
    match &args.source {
        ImportSource::Jsonl { files } => {
            for path in files {
                let report = if path.as_os_str() == "-" {
                    store.import_jsonl(&mut io::stdin().lock())?
                } else {
                    let file = File::open(path)
                        .with_context(|| format!("{}: cannot be read", path.display()))?;
                    store.import_jsonl(&mut BufReader::new(file))?
                };
                total.added += report.added;
                total.known += report.known;
                total.bad += report.bad_lines;
                for problem in &report.problems {
                    complain(path, problem.line, &problem.problem);
                }
            }
        }
        ImportSource::Sbws { home } => {
            let report = store.import_sbws(home)?;
            total.added = report.added;
            total.known = report.known;
            total.bad = report.bad_lines + report.unknown_types + report.other_versions;
            for problem in &report.problems {
                complain(&problem.path, problem.line, &problem.problem);
            }
        }
    }
    total.show(args.json)?;
    Ok(if total.bad > 0 {
        Exit::NotGoodEnough
    } else {
        Exit::Success
    })
}

fn complain(path: &Path, line: u64, problem: &str) {
    let _ = writeln!(io::stderr(), "{}:{line}: {problem}", path.display());
}

/// What all files together gave.
#[derive(Default)]
struct Total {
    added: u64,
    known: u64,
    bad: u64,
}

impl Total {
    fn show(&self, json: bool) -> anyhow::Result<()> {
        if json {
            return print_json(&json!({
                "added": self.added,
                "known": self.known,
                "bad_lines": self.bad,
            }));
        }
        print(format!(
            "{} outcomes added, {} known already, {} lines could not be used",
            self.added, self.known, self.bad
        ))
    }
}
