//! `bwscan export` and `bwscan import`: results in and out of the store.

mod args;

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context;
use bw_sbws::{Config, Facts, Home};
use bw_store::{Filter, Store};
use serde_json::json;

use super::sbws_config::converted;
use crate::exit::{Exit, UsageError};
use crate::paths::DataDir;
use crate::text::{print, print_json};

pub(crate) use self::args::{ExportArgs, ExportFormat, ImportArgs, ImportSource};

/// Writes all results as JSON Lines, or as sbws does.
pub(super) fn export(args: &ExportArgs, data: &DataDir) -> anyhow::Result<Exit> {
    let store = Store::open_read_only(data.store())?;
    if args.format == ExportFormat::Sbws {
        let Some(directory) = &args.output else {
            return Err(UsageError("--format sbws needs --output DIR".to_owned()).into());
        };
        std::fs::create_dir_all(directory)
            .with_context(|| format!("{}: the directory cannot be made", directory.display()))?;
        let count = bw_sbws::export(&store, &Filter::all(), directory)?;
        print(format!("{count} results in {}", directory.display()))?;
        return Ok(Exit::Success);
    }
    match &args.output {
        None => {
            let mut output = BufWriter::new(io::stdout().lock());
            store.export_jsonl::<Facts>(&Filter::all(), &mut output)?;
        }
        Some(path) => {
            let write = || -> anyhow::Result<u64> {
                // Written beside its place, so that no half of it is ever there.
                let parent = path
                    .parent()
                    .filter(|parent| !parent.as_os_str().is_empty());
                let mut file =
                    tempfile::NamedTempFile::new_in(parent.unwrap_or_else(|| Path::new(".")))?;
                let mut output = BufWriter::new(file.as_file_mut());
                let count = store.export_jsonl::<Facts>(&Filter::all(), &mut output)?;
                drop(output);
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
    let now = SystemTime::now().into();
    match &args.source {
        ImportSource::Jsonl { files } => {
            for path in files {
                let report = if path.as_os_str() == "-" {
                    store.import_jsonl::<Facts>(io::stdin().lock(), now)
                } else {
                    let file = File::open(path).with_context(|| unreadable(path))?;
                    store.import_jsonl::<Facts>(BufReader::new(file), now)
                };
                let report = report.with_context(|| unreadable(path))?;
                total.added += report.added;
                total.known += report.known;
                total.bad += report.bad_lines;
                for problem in &report.problems {
                    complain(path, problem.line, &problem.problem);
                }
            }
        }
        ImportSource::Sbws {
            home,
            sbws_config,
            write_config,
        } => {
            let config = sbws_config.clone().or_else(|| Home::new(home).config());
            // Read before anything is written, so that a wrong one stops all.
            let settings = config.as_deref().map(Config::read).transpose()?;
            if let Some(path) = write_config {
                let Some(settings) = &settings else {
                    let text = "there is no sbws.ini in the home; give --sbws-config";
                    return Err(UsageError(text.to_owned()).into());
                };
                write_new(path, &converted(settings).to_string())?;
                total.config = Some(path.clone());
            }
            total.add_home(&mut store, home)?;
        }
    }
    total.show(args.json)?;
    Ok(if total.is_whole() {
        Exit::Success
    } else {
        Exit::NotGoodEnough
    })
}

fn complain(path: &Path, line: u64, problem: &str) {
    let place = match line {
        0 => String::new(),
        line => format!(":{line}"),
    };
    let _ = writeln!(io::stderr(), "{}{place}: {problem}", path.display());
}

fn unreadable(path: &Path) -> String {
    format!("{}: cannot be imported", path.display())
}

/// Writes a file that is not there yet.
fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    let written = File::create_new(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    match written {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let text = "exists already; remove it, or give another file";
            Err(UsageError(format!("--write-config: {} {text}", path.display())).into())
        }
        written => written.with_context(|| format!("{}: not written", path.display())),
    }
}

/// The sum over all files.
#[derive(Default)]
pub(super) struct Total {
    added: u64,
    known: u64,
    /// Lines that could not be used, those of the next two kinds among them.
    bad: u64,
    unknown_types: u64,
    other_versions: u64,
    consensus_relays: Option<u64>,
    descriptors: u64,
    state: bool,
    /// Files that could not be read.
    unreadable: u64,
    /// The configuration that was written.
    config: Option<PathBuf>,
}

impl Total {
    /// Adds results, network and state of an sbws to the store.
    pub(super) fn add_home(&mut self, store: &mut Store, home: &Path) -> anyhow::Result<()> {
        let now = SystemTime::now().into();
        let report = Home::new(home).import_into(store, now)?;
        if report.is_empty() {
            return Err(UsageError(format!(
                "{}: this is no home of sbws: there are neither results (datadir/YYYY-MM-DD.txt) \
                 nor tor/cached-consensus nor state.dat",
                home.display()
            ))
            .into());
        }
        self.unreadable = report.unreadable;
        self.consensus_relays = report.consensus_relays;
        self.descriptors = report.descriptors;
        self.state = report.state;
        self.added = report.added;
        self.known = report.known;
        self.bad = report.bad_lines + report.unknown_types + report.other_versions;
        self.unknown_types = report.unknown_types;
        self.other_versions = report.other_versions;
        for problem in &report.problems {
            complain(&problem.path, problem.line, &problem.problem);
        }
        Ok(())
    }

    /// Returns true if all could be read.
    pub(super) const fn is_whole(&self) -> bool {
        self.bad + self.unreadable == 0
    }

    pub(super) fn show(&self, json: bool) -> anyhow::Result<()> {
        if json {
            return print_json(&json!({
                "added": self.added,
                "known": self.known,
                "bad_lines": self.bad,
                "unknown_types": self.unknown_types,
                "other_versions": self.other_versions,
                "consensus_relays": self.consensus_relays,
                "descriptors": self.descriptors,
                "state": self.state,
                "unreadable_files": self.unreadable,
                "config": self.config,
            }));
        }
        if let Some(path) = &self.config {
            print(format!(
                "wrote {}: give it to bwscan with --config",
                path.display()
            ))?;
        }
        if self.unreadable > 0 {
            print(format!("{} files could not be read", self.unreadable))?;
        }
        if let Some(relays) = self.consensus_relays {
            print(format!(
                "a consensus of {relays} relays, {} of them with a descriptor",
                self.descriptors
            ))?;
        }
        print(format!(
            "{} outcomes added, {} known already, {} lines could not be used",
            self.added, self.known, self.bad
        ))?;
        if self.unknown_types + self.other_versions > 0 {
            print(format!(
                "of these lines {} are results of an unknown type, {} of another version than 4",
                self.unknown_types, self.other_versions
            ))?;
        }
        Ok(())
    }
}
