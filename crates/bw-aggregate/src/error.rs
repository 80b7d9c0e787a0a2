//! Errors that keep a file from being made.

/// A bandwidth file that could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No relay of the snapshot has a measurement, so that the file would have
    /// no time.
    #[error("no relay of the network snapshot has been measured yet: nothing to write")]
    NothingMeasured,
    /// A time is not one that a bandwidth file can hold.
    #[error("the time {seconds} (in Unix seconds) cannot be written to a bandwidth file")]
    ImpossibleTime {
        /// The time, in seconds since the Unix epoch.
        seconds: u64,
    },
}

/// The kind of an error, by which the caller can act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Wait until something has been measured.
    NothingMeasured,
    /// A record or a clock is wrong.
    ImpossibleTime,
}

impl Error {
    /// The kind of error.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::NothingMeasured => ErrorKind::NothingMeasured,
            Self::ImpossibleTime { .. } => ErrorKind::ImpossibleTime,
        }
    }
}
