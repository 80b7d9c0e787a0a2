//! The ways in which reading, importing and exporting fail.

use std::path::{Path, PathBuf};

use bw_results::DocumentError;

/// The result of an operation on files of sbws.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A home of sbws, or a store, that could not be read or written.
///
/// The text is for people: it names the file. Code looks at [`kind`](Self::kind).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of sbws could not be read or written.
    #[error("{}: {action}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operation that failed.
        action: &'static str,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file of sbws's tor could not be read.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] bw_store::Error),
}

/// The kind of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file is missing, unreadable, or not what it should be.
    File,
    /// The store failed in this way.
    Store(bw_store::ErrorKind),
}

impl Error {
    /// The kind of the error: what a program may act on.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::File { .. } | Self::Document(_) => ErrorKind::File,
            Self::Store(error) => ErrorKind::Store(error.kind()),
        }
    }

    pub(crate) fn file(
        path: &Path,
        action: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::File {
            path: path.to_owned(),
            action,
            source: source.into(),
        }
    }
}
