//! A failure inside an operation, before it is known at which path.

use std::io;
use std::path::Path;

use crate::Error;

/// A failure inside an operation, before it is known at which path.
pub(crate) enum Fault {
    Sqlite(rusqlite::Error),
    Codec(io::Error),
    Store(Error),
}

impl Fault {
    pub(crate) fn at(self, path: &Path) -> Error {
        match self {
            Self::Sqlite(error) => Error::sqlite(path, error),
            Self::Codec(error) => Error::damaged(path, error),
            Self::Store(error) => error,
        }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Codec(error)
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Self::Codec(error.into())
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}
