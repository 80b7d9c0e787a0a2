//! The ways in which a store fails.

use std::path::{Path, PathBuf};

use bw_results::ScanId;

use crate::LockHolder;
use crate::lock::describe;

/// The result of an operation on a store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An operation on a store that failed.
///
/// The text is for people: it names the file and says what to do. Code looks
/// at [`kind`](Self::kind).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process kept the store locked for longer than we wait.
    #[error("{}: another process keeps the store locked", path.display())]
    Busy {
        /// The store.
        path: PathBuf,
    },
    /// The contents of the store contradict themselves.
    #[error("{}: the store is damaged: {detail}", path.display())]
    Damaged {
        /// The store.
        path: PathBuf,
        /// The finding.
        detail: String,
    },
    /// Reading or writing failed below the store: disk full, I/O error.
    #[error("{}: {action}: {source}", path.display())]
    Io {
        /// The store, or the file being exported or imported.
        path: PathBuf,
        /// The operation that failed.
        action: &'static str,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another process scans into this store.
    #[error(
        "{}: {} scans into this store already, and two scanners would falsify each other's \
         rates; end that scan, or use another data directory",
        path.display(),
        describe(holder.as_ref())
    )]
    Locked {
        /// The store.
        path: PathBuf,
        /// The process that does, if it could be found out.
        holder: Option<LockHolder>,
    },
    /// There is no store at this path.
    #[error("{}: there is no store here; a scan or an import makes one", path.display())]
    Missing {
        /// The path at which it should be.
        path: PathBuf,
    },
    /// The store was written by a newer version of this software.
    #[error(
        "{}: the store has format {found}, this version of the software knows up to {known}; \
         use the version that wrote it, or a newer one",
        path.display()
    )]
    Newer {
        /// The store.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// The file is something else.
    #[error("{}: this file is not a store of measurements ({detail}); give another path", path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// The finding.
        detail: String,
    },
    /// The store has an older format, and reading only cannot convert it.
    #[error(
        "{}: the store has the older format {found} and is opened for reading only; \
         any command that writes to it converts it to format {known}",
        path.display()
    )]
    Older {
        /// The store.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The format that is read.
        known: u32,
    },
    /// A scan with this identity is in the store already.
    #[error("scan {scan} is in the store already")]
    ScanExists {
        /// The scan.
        scan: ScanId,
    },
    /// The scan cannot be finished yet.
    #[error("scan {scan} is not finished: {pending} of its relays have no final outcome")]
    ScanPending {
        /// The scan.
        scan: ScanId,
        /// The number of relays that are left.
        pending: u64,
    },
    /// No such scan in this store.
    #[error("scan {scan} is not in this store")]
    UnknownScan {
        /// The scan.
        scan: ScanId,
    },
    /// No such snapshot in this store.
    #[error("network snapshot {snapshot} is not in this store")]
    UnknownSnapshot {
        /// Its number.
        snapshot: i64,
    },
    /// The store cannot be opened or created: a directory is missing, or not
    /// writable.
    #[error(
        "{}: the store cannot be opened: {detail}; its directory must exist and be writable",
        path.display()
    )]
    Unusable {
        /// The store.
        path: PathBuf,
        /// The finding.
        detail: String,
    },
}

/// The kind of an [`Error`], by which a program acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Try again later.
    Busy,
    /// The file must be repaired or replaced.
    Damaged,
    /// The disk or the file system failed.
    Io,
    /// Another scan must end first.
    Locked,
    /// There is no store.
    Missing,
    /// Another version of the software is needed.
    Newer,
    /// The path is that of something else.
    NotAStore,
    /// It must be opened for writing once.
    Older,
    /// The operation does not fit the state of the scan.
    Refused,
    /// There is no such scan or snapshot.
    Unknown,
    /// The directory is missing or not writable.
    Unusable,
}

impl Error {
    /// The kind of the error.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Busy { .. } => ErrorKind::Busy,
            Self::Damaged { .. } => ErrorKind::Damaged,
            Self::Io { .. } => ErrorKind::Io,
            Self::Locked { .. } => ErrorKind::Locked,
            Self::Missing { .. } => ErrorKind::Missing,
            Self::Newer { .. } => ErrorKind::Newer,
            Self::NotAStore { .. } => ErrorKind::NotAStore,
            Self::Older { .. } => ErrorKind::Older,
            Self::ScanExists { .. } | Self::ScanPending { .. } => ErrorKind::Refused,
            Self::UnknownScan { .. } | Self::UnknownSnapshot { .. } => ErrorKind::Unknown,
            Self::Unusable { .. } => ErrorKind::Unusable,
        }
    }

    pub(crate) fn io(
        path: &Path,
        action: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Io {
            path: path.to_owned(),
            action,
            source: source.into(),
        }
    }

    pub(crate) fn damaged(path: &Path, detail: impl ToString) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            detail: detail.to_string(),
        }
    }

    /// The error that SQLite's error at `path` amounts to.
    pub(crate) fn sqlite(path: &Path, error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        let path_buf = path.to_owned();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Self::Busy { path: path_buf }
            }
            Some(ErrorCode::NotADatabase) => Self::NotAStore {
                path: path_buf,
                detail: "not a database".to_owned(),
            },
            Some(ErrorCode::DatabaseCorrupt) => Self::damaged(path, error),
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                Self::Unusable {
                    detail: why_unusable(path).unwrap_or_else(|| error.to_string()),
                    path: path_buf,
                }
            }
            _ => match error {
                rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::InvalidColumnType(..) => Self::damaged(path, error),
                error => Self::io(path, "the database failed", error),
            },
        }
    }
}

/// The reason, by the file system, why SQLite could not open a path.
fn why_unusable(path: &Path) -> Option<String> {
    if path.is_dir() {
        return Some("it is a directory".to_owned());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => return None,
    };
    match parent.metadata() {
        Ok(metadata) if metadata.is_dir() => None,
        Ok(_) => Some(format!("{} is not a directory", parent.display())),
        Err(error) => Some(format!("{}: {error}", parent.display())),
    }
}
