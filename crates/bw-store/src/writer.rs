//! Writing to a store without waiting for it.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::Store;
use crate::error::{Error, Result};

/// The number of changes that may wait. An outcome has some 10 kB, so that a store that
/// stays locked costs 40 MB at most before those who write wait too.
const QUEUE: usize = 4096;

/// The pause before a change is tried again that found the store locked; SQLite
/// itself has waited before, unless waiting could not help.
const PAUSE: Duration = Duration::from_millis(50);

type Job = Box<dyn FnMut(&mut Store) -> Result<()> + Send>;

/// A store that a thread of its own writes to.
///
/// Changes are made in the order in which they are submitted. While another
/// process keeps the store locked they wait, however long that takes. Any other
/// failure is final: what comes after it is not written, and whoever submits
/// or flushes next is told. Dropping the writer waits until everything is
/// written.
#[derive(Debug)]
pub struct StoreWriter {
    path: PathBuf,
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    failure: Arc<Mutex<Failure>>,
}

/// An early end of the writing.
#[derive(Debug, Default)]
enum Failure {
    /// It did not.
    #[default]
    None,
    /// With this error, of which nobody was told yet.
    New(Error),
    /// With an error that was told, in these words.
    Told(String),
}

impl StoreWriter {
    /// Opens the store at `path`, as [`Store::open`] does, but waits while it is
    /// locked. `waiting` is told how long a change has waited for another
    /// process: when that is noticed, and each time that it has doubled.
    ///
    /// # Errors
    /// Those of [`Store::open`] but [`Busy`](Error::Busy), and
    /// [`Io`](Error::Io) if there can be no thread.
    pub fn open(
        path: impl AsRef<Path>,
        waiting: impl Fn(Duration) + Send + 'static,
    ) -> Result<Self> {
        let path = path.as_ref();
        let mut store = patiently(&waiting, || Store::open(path))?;
        let (jobs, queue) = sync_channel(QUEUE);
        let failure = Arc::default();
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn({
            let failure = Arc::clone(&failure);
            move || write(&mut store, &queue, &failure, &waiting)
        });
        let thread = thread.map_err(|error| Error::io(path, "starting to write", error))?;
        Ok(Self {
            path: path.to_owned(),
            jobs: Some(jobs),
            thread: Some(thread),
            failure,
        })
    }

    /// Has `change` made after all others, and returns at once unless thousands
    /// of them wait.
    ///
    /// If the store is locked `change` is called again, so that what it has done
    /// before must do no harm when it is repeated.
    ///
    /// # Errors
    /// The error with which an earlier change failed.
    pub fn submit(
        &self,
        change: impl FnMut(&mut Store) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        self.check()?;
        match &self.jobs {
            Some(jobs) if jobs.send(Box::new(change)).is_ok() => Ok(()),
            _ => Err(self.stopped("its thread ended")),
        }
    }

    /// Has `action` run after all changes, and waits for what it returns.
    ///
    /// # Errors
    /// The error of `action`, or the one with which an earlier change failed.
    pub fn call<T: Send + 'static>(
        &self,
        mut action: impl FnMut(&mut Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (sender, answer) = sync_channel(1);
        self.submit(move |store| match action(store) {
            Err(error @ Error::Busy { .. }) => Err(error),
            done => {
                let _ = sender.send(done);
                Ok(())
            }
        })?;
        match answer.recv() {
            Ok(done) => done,
            Err(_) => {
                let ended = || self.stopped("its thread ended");
                Err(self.check().err().unwrap_or_else(ended))
            }
        }
    }

    /// Waits until everything that was submitted is written.
    ///
    /// # Errors
    /// The error with which a change failed.
    pub fn flush(&self) -> Result<()> {
        self.call(|_| Ok(()))
    }

    fn check(&self) -> Result<()> {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::take(&mut *failure) {
            Failure::None => Ok(()),
            Failure::New(error) => {
                *failure = Failure::Told(reason(&error));
                Err(error)
            }
            Failure::Told(reason) => {
                let error = self.stopped(&reason);
                *failure = Failure::Told(reason);
                Err(error)
            }
        }
    }

    /// The error of a thread that writes no more, for `reason`.
    fn stopped(&self, reason: &str) -> Error {
        let text = format!("nothing is written after a failure ({reason})");
        Error::io(&self.path, "writing", text)
    }
}

/// An error with its causes.
fn reason(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl Drop for StoreWriter {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Makes the changes, until there are no more to come.
fn write(
    store: &mut Store,
    queue: &Receiver<Job>,
    failure: &Mutex<Failure>,
    waiting: &impl Fn(Duration),
) {
    let mut failed = false;
    for mut job in queue {
        if failed {
            continue;
        }
        if let Err(error) = patiently(waiting, || job(store)) {
            *failure.lock().unwrap_or_else(PoisonError::into_inner) = Failure::New(error);
            failed = true;
        }
    }
}

/// Tries `action` until the store is not locked, and tells `waiting` of it.
fn patiently<T>(waiting: &impl Fn(Duration), mut action: impl FnMut() -> Result<T>) -> Result<T> {
    let begin = Instant::now();
    let mut told = Duration::ZERO;
    loop {
        match action() {
            Err(Error::Busy { .. }) => {
                let waited = begin.elapsed();
                if waited >= told * 2 {
                    waiting(waited);
                    told = waited;
                }
                std::thread::sleep(PAUSE);
            }
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tempfile::TempDir;

    use super::*;
    use crate::testing::{keep, measured, scan, snapshot};
    use crate::{ErrorKind, Filter};
    use bw_results::ScanId;

    const SOON: Duration = Duration::from_millis(20);

    /// A writer to a store with one scan, and how often it told of waiting.
    fn new_writer(directory: &TempDir) -> (StoreWriter, ScanId, Arc<AtomicUsize>) {
        let waits = Arc::new(AtomicUsize::new(0));
        let told = Arc::clone(&waits);
        let path = directory.path().join("store.db");
        let writer = StoreWriter::open(path, move |_| {
            told.fetch_add(1, Ordering::SeqCst);
        });
        let writer = writer.unwrap();
        let scan = scan(1, 1_000);
        let id = scan.id;
        writer
            .submit(move |store| {
                store.connection.busy_timeout(SOON).unwrap();
                let network = store.put_snapshot(&snapshot(3, 0))?;
                store.begin_scan(&scan, &[], network)
            })
            .unwrap();
        (writer, id, waits)
    }

    fn count(store: &Store) -> usize {
        let mut count = 0;
        let _ = store.for_each_summary(&Filter::all(), |_| {
            count += 1;
            std::ops::ControlFlow::<()>::Continue(())
        });
        count
    }

    #[test]
    fn a_locked_store_is_waited_for_and_blocks_nobody() {
        let directory = TempDir::new().unwrap();
        let (writer, id, waits) = new_writer(&directory);
        writer.flush().unwrap();
        let other = rusqlite::Connection::open(directory.path().join("store.db")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let begin = Instant::now();
        for number in 0..100 {
            let outcome = measured(number, number);
            writer
                .submit(move |store| keep(store, &id, &outcome).map(drop))
                .unwrap();
        }
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "{:?}",
            begin.elapsed()
        );
        while waits.load(Ordering::SeqCst) < 3 {
            std::thread::sleep(SOON);
        }
        // Readers are free.
        let reader = Store::open_read_only(directory.path().join("store.db")).unwrap();
        assert_eq!(count(&reader), 0);
        other.execute_batch("COMMIT").unwrap();
        assert_eq!(writer.call(|store| Ok(count(store))).unwrap(), 100);
    }

    #[test]
    fn dropping_it_writes_all_that_waits() {
        let directory = TempDir::new().unwrap();
        let (writer, id, _) = new_writer(&directory);
        for number in 0..200 {
            let outcome = measured(number, number);
            writer
                .submit(move |store| keep(store, &id, &outcome).map(drop))
                .unwrap();
        }
        drop(writer);
        let reader = Store::open_read_only(directory.path().join("store.db")).unwrap();
        assert_eq!(count(&reader), 200);
    }

    #[test]
    fn another_failure_is_told_and_ends_the_writing() {
        let directory = TempDir::new().unwrap();
        let (writer, id, _) = new_writer(&directory);
        let unknown = ScanId::from_bytes([9; 16]);
        writer
            .submit(move |store| keep(store, &unknown, &measured(1, 1)).map(drop))
            .unwrap();
        let error = writer.flush().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unknown, "{error}");
        let again = writer.submit(move |store| keep(store, &id, &measured(1, 1)).map(drop));
        let again = again.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Io);
        // Whoever is told last is told the reason, too.
        let text = again.to_string();
        assert!(text.contains(&error.to_string()), "{text}");
        drop(writer);
        let reader = Store::open_read_only(directory.path().join("store.db")).unwrap();
        assert_eq!(count(&reader), 0);
    }

    #[test]
    fn what_a_call_returns_is_the_callers() {
        let directory = TempDir::new().unwrap();
        let (writer, id, _) = new_writer(&directory);
        let unknown = ScanId::from_bytes([9; 16]);
        let error = writer.call(move |store| store.scan(&unknown)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unknown);
        assert_eq!(writer.call(move |store| store.scan(&id)).unwrap().id, id);
    }
}
