//! Back to sbws: results as the files of a `datadir`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bw_file::{DateTime, UnixTime};
use bw_store::{Filter, Store};

use crate::{Error, Result, for_each_result};

const SECONDS_A_DAY: u64 = 86_400;

/// Writes the selected outcomes of `store`, those of our own scans too, as result
/// lines that sbws loads, into `directory/YYYY-MM-DD.txt`, by the UTC day on
/// which they ended; returns how many.
///
/// # Errors
/// If one of these files exists (sbws would count its results twice), if
/// writing fails, or if the store fails. Files that it wrote are removed then.
pub fn export(store: &Store, filter: &Filter, directory: &Path) -> Result<u64> {
    let mut files = Files::new(directory);
    let end = for_each_result(store, filter, |result| {
        let seconds = result.facts.time as u64;
        match files.write(seconds / SECONDS_A_DAY, &result.to_line()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    });
    let done = end.and_then(|end| match end {
        ControlFlow::Continue(()) => files.finish(),
        ControlFlow::Break(error) => Err(error),
    });
    if done.is_err() {
        files.remove();
    }
    done
}

/// The files, each under a temporary name until all are complete.
struct Files<'d> {
    directory: &'d Path,
    /// The newest ones are open: outcomes come nearly in the order of time.
    open: BTreeMap<u64, BufWriter<File>>,
    all: BTreeMap<u64, (PathBuf, PathBuf)>,
    lines: u64,
}

/// The number of files that are open at once.
const OPEN_FILES: usize = 16;

impl<'d> Files<'d> {
    const fn new(directory: &'d Path) -> Self {
        Self {
            directory,
            open: BTreeMap::new(),
            all: BTreeMap::new(),
            lines: 0,
        }
    }

    fn write(&mut self, day: u64, line: &str) -> Result<()> {
        if !self.open.contains_key(&day) {
            while self.open.len() >= OPEN_FILES
                && let Some((day, mut file)) = self.open.pop_first()
            {
                file.flush().map_err(|error| self.failed(day, error))?;
            }
            let file = self.open_day(day)?;
            self.open.insert(day, BufWriter::new(file));
        }
        let Some(file) = self.open.get_mut(&day) else {
            return Ok(());
        };
        let written = writeln!(file, "{line}");
        self.lines += 1;
        written.map_err(|error| self.failed(day, error))
    }

    fn open_day(&mut self, day: u64) -> Result<File> {
        if let Some((temporary, _)) = self.all.get(&day) {
            let file = File::options().append(true).open(temporary);
            return file.map_err(|error| self.failed(day, error));
        }
        let name = date(day);
        let place = self.directory.join(format!("{name}.txt"));
        // No name that begins with a date: sbws must not read it.
        let temporary = self.directory.join(format!(".export-{name}.tmp"));
        if place.exists() {
            let error = "it exists already; give an empty directory";
            return Err(Error::file(&place, "exporting", error));
        }
        let file = File::create(&temporary)
            .map_err(|error| Error::file(&temporary, "exporting", error))?;
        self.all.insert(day, (temporary, place));
        Ok(file)
    }

    fn finish(&mut self) -> Result<u64> {
        let open = std::mem::take(&mut self.open);
        for (day, mut file) in open {
            file.flush().map_err(|error| self.failed(day, error))?;
        }
        for (temporary, place) in self.all.values() {
            File::open(temporary)
                .and_then(|file| file.sync_all())
                .and_then(|()| fs::rename(temporary, place))
                .map_err(|error| Error::file(place, "exporting", error))?;
        }
        Ok(self.lines)
    }

    /// Removes what was written. A file that has its name already stays away
    /// from sbws too: an export is whole or not there.
    fn remove(&self) {
        for (temporary, place) in self.all.values() {
            if fs::remove_file(temporary).is_err() {
                let _ = fs::remove_file(place);
            }
        }
    }

    fn failed(&self, day: u64, error: io::Error) -> Error {
        let place = self.directory.join(format!("{}.txt", date(day)));
        Error::file(&place, "exporting", error)
    }
}

/// `2026-11-20`
fn date(day: u64) -> String {
    let seconds = i64::try_from(day.saturating_mul(SECONDS_A_DAY)).unwrap_or(i64::MAX);
    DateTime::new(UnixTime::new(seconds)).map_or_else(
        || format!("day-{day}"),
        |time| time.to_string().chars().take(10).collect(),
    )
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::{Home, ResultLine};
    use bw_results::testing::{failed, measured, scan, snapshot};
    use bw_results::{Remeasure, Verdict};

    #[test]
    fn own_outcomes_come_back_as_results_of_their_day() {
        let directory = TempDir::new().unwrap();
        let mut store = Store::open(directory.path().join("store.db")).unwrap();
        let network = store.put_snapshot(&snapshot(3, 0)).unwrap();
        let scan = scan(1, 0);
        store.begin_scan(&scan, &[], network).unwrap();
        let mut outcomes = Vec::new();
        // Days in any order, and more of them than files are open.
        for day in (0..40).rev().chain([5, 39]) {
            let number = outcomes.len() as u64;
            let outcome = match number % 3 {
                0 => failed(number, 1_790_000_000_000 + day * 86_400_000),
                _ => measured(number, 1_790_000_000_000 + day * 86_400_000),
            };
            let verdict = Verdict::default_of(&outcome);
            store.record(&scan.id, &outcome, &verdict, true).unwrap();
            outcomes.push(ResultLine::from_outcome("test", &outcome, None));
        }
        // What sbws would not have kept stays here.
        let verdict = Verdict::Remeasure(Remeasure::Disputed);
        let unused = measured(1, 1_790_000_000_000);
        store.record(&scan.id, &unused, &verdict, false).unwrap();
        let to = directory.path().join("datadir");
        fs::create_dir(&to).unwrap();
        assert_eq!(export(&store, &Filter::all(), &to).unwrap(), 42);
        let files = Home::new(directory.path()).files().unwrap();
        assert_eq!(files.len(), 40);
        let mut found = Vec::new();
        for file in &files {
            file.for_each_result(|_, result| {
                let result = result.unwrap();
                let day = date(result.facts.time as u64 / SECONDS_A_DAY);
                assert_eq!(day, file.date);
                found.push(result);
            })
            .unwrap();
        }
        let key = |result: &ResultLine| result.to_line();
        found.sort_by_key(key);
        outcomes.sort_by_key(key);
        assert_eq!(found, outcomes);

        // Once more into the same place: refused, and nothing is changed.
        let before = fs::read_dir(&to).unwrap().count();
        let error = export(&store, &Filter::all(), &to).unwrap_err();
        assert!(error.to_string().contains("exists already"), "{error}");
        assert_eq!(fs::read_dir(&to).unwrap().count(), before);
    }
}
