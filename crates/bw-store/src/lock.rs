//! One scanner at a time for each store.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use bw_results::UnixMillis;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The longest description of a holder that is read, in bytes.
const HOLDER_LIMIT: u64 = 4096;

/// The right to scan into a store, which one process at a time has.
///
/// It is an advisory lock on a file beside the store, `STORE.lock`. Reading and
/// importing need none. It ends with this value or, whatever happens, with the
/// process; the file stays.
#[derive(Debug)]
#[must_use = "the lock ends when it is dropped"]
pub struct ScanLock {
    _file: File,
}

/// The process that scans into a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LockHolder {
    /// Its process number.
    pub pid: u32,
    /// The time at which it began.
    pub since: UnixMillis,
}

impl ScanLock {
    /// Takes the lock of the store at `store`, which need not exist yet; others
    /// are told that this process has it since `now`.
    ///
    /// # Errors
    /// [`Locked`](Error::Locked) if another process has it, and
    /// [`Io`](Error::Io) if the file beside the store cannot be written.
    pub fn acquire(store: impl AsRef<Path>, now: UnixMillis) -> Result<Self> {
        let store = store.as_ref();
        let path = path_of(store);
        let failed = |error| Error::io(&path, "locking the store", error);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Locked {
                    path: store.to_owned(),
                    holder: read_holder(&file),
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let holder = LockHolder {
            pid: std::process::id(),
            since: now,
        };
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| Ok(serde_json::to_vec(&holder)?))
            .and_then(|text| file.write_all(&text))
            .map_err(failed)?;
        Ok(Self { _file: file })
    }
}

/// The lock's file: the same whichever way leads to the store.
fn path_of(store: &Path) -> PathBuf {
    let mut path = match (store.canonicalize(), store.parent(), store.file_name()) {
        (Ok(path), _, _) => path,
        (_, Some(parent), Some(name)) => parent
            .canonicalize()
            .map_or_else(|_| store.to_owned(), |parent| parent.join(name)),
        _ => store.to_owned(),
    }
    .into_os_string();
    path.push(".lock");
    path.into()
}

/// The holder as it described itself; `None` while it is doing so.
fn read_holder(file: &File) -> Option<LockHolder> {
    let mut text = Vec::new();
    file.take(HOLDER_LIMIT).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// `process 4711 since 2026-11-20T12:30:00 UTC`, for messages.
pub(crate) fn describe(holder: Option<&LockHolder>) -> String {
    let Some(LockHolder { pid, since }) = holder else {
        return "another process".to_owned();
    };
    format!("process {pid} since {} UTC", since.to_iso())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::{ErrorKind, Store};

    #[test]
    fn the_second_is_told_who_has_it() {
        let directory = TempDir::new().unwrap();
        let store = directory.path().join("store.db");
        let now = UnixMillis::from_secs(1_790_000_000);
        let lock = ScanLock::acquire(&store, now).unwrap();
        let error = ScanLock::acquire(&store, now).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked);
        let text = error.to_string();
        let pid = format!(
            "process {} since 2026-09-21T14:13:20 UTC",
            std::process::id()
        );
        for part in ["store.db", &pid] {
            assert!(text.contains(part), "{part}: {text}");
        }
        // Others read and write meanwhile.
        drop(Store::open(&store).unwrap());
        drop(Store::open_read_only(&store).unwrap());
        // Another way to the same store.
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(directory.path(), &link).unwrap();
        assert!(ScanLock::acquire(link.join("store.db"), now).is_err());
        drop(lock);
        let _lock = ScanLock::acquire(&store, now).unwrap();
    }

    #[test]
    fn a_holder_that_cannot_be_read_is_another_process() {
        let directory = TempDir::new().unwrap();
        let store = directory.path().join("store.db");
        let now = UnixMillis::from_secs(1);
        let _lock = ScanLock::acquire(&store, now).unwrap();
        std::fs::write(directory.path().join("store.db.lock"), "{").unwrap();
        let text = ScanLock::acquire(&store, now).unwrap_err().to_string();
        assert!(text.contains("another process"), "{text}");
        let nowhere = directory.path().join("no/such/store.db");
        let error = ScanLock::acquire(nowhere, now).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    }
}
