//! Errors of reading and writing, with their places.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::identity::{Ed25519Identity, Fingerprint};
use crate::time::UnixTime;
use crate::units::KilobytesPerSecond;

/// A place in a bandwidth file.
///
/// Lines and columns count from 1, as editors do; a column is a byte, not a
/// character. The byte offset counts from 0 at the start of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Position {
    /// Offset of the byte from the start of the input, from 0.
    pub byte: u64,
    /// Number of the line, from 1.
    pub line: u64,
    /// Number of the byte in its line, from 1.
    pub column: u64,
}

impl Position {
    /// The first byte of an input.
    pub const START: Self = Self {
        byte: 0,
        line: 1,
        column: 1,
    };

    pub(crate) fn new(byte: u64, line: u64, column: u64) -> Self {
        Self { byte, line, column }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}, column {} (byte {})",
            self.line, self.column, self.byte
        )
    }
}

/// A quantity that [`Limits`](crate::Limits) bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// Bytes in one file.
    FileBytes,
    /// Bytes in one line.
    LineBytes,
    /// Lines in one file.
    Lines,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FileBytes => "bytes in a file",
            Self::LineBytes => "bytes in a line",
            Self::Lines => "lines in a file",
        })
    }
}

/// An error of this crate.
///
/// Reading a document has no syntax errors: what is wrong with a file is told
/// by [diagnostics](crate::Report). Errors come from input and output, from
/// exceeded [limits](crate::Limits), and from asking for a file that must not
/// be written.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    /// The relay whose line was to be written.
    relay: Option<Fingerprint>,
}

/// The kind of an [`Error`].
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An archive has what no archive of bandwidth files has.
    BadArchive {
        /// The problem in words.
        problem: String,
    },
    /// A relay's `bw` is not in 1..=2147483647: zero should not be written
    /// (bandwidth-file-spec 2.4) and tor casts no vote with larger values.
    BandwidthOutOfRange {
        /// Its bandwidth.
        value: KilobytesPerSecond,
    },
    /// A header is given twice.
    DuplicateHeader {
        /// Its key.
        key: String,
    },
    /// Two relays have the same Ed25519 key.
    DuplicateIdentity {
        /// The key.
        identity: Ed25519Identity,
    },
    /// A key is given twice for one relay.
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A relay is given twice.
    DuplicateRelay,
    /// The header would not fit into a vote, so tor would leave it out or
    /// cut it short.
    HeaderBudget {
        /// Entries in the vote's line, the timestamp's among them; at most 50.
        entries: usize,
        /// Bytes of the joined entries; at most 1024.
        bytes: usize,
    },
    /// A file, a link or a directory cannot be read, written or put in its
    /// place.
    File {
        /// The file.
        path: PathBuf,
        /// The action that failed: `cannot write`.
        problem: &'static str,
        /// The system's error.
        error: io::Error,
    },
    /// Format 1.0.0 has no header lines.
    HeadersBeforeVersion110 {
        /// The first header that was given.
        key: String,
    },
    /// A key is empty or has bytes other than letters, digits, `-` and `_`.
    InvalidKey {
        /// The key.
        key: String,
    },
    /// A value does not fit its key.
    InvalidValue {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// The values that the key takes.
        expected: &'static str,
    },
    /// Reading or writing failed.
    Io(io::Error),
    /// `latest_bandwidth` is not the file's timestamp
    /// (bandwidth-file-spec 2.2).
    LatestBandwidth {
        /// The time that was given.
        latest_bandwidth: UnixTime,
        /// The file's timestamp.
        timestamp: UnixTime,
    },
    /// The input is larger than the reader was told to take.
    LimitExceeded {
        /// The limit that is exceeded.
        limit: Limit,
        /// The most that is taken.
        maximum: u64,
        /// Where the limit was reached.
        position: Position,
    },
    /// A relay's line is longer than the oldest tor to support reads.
    LineTooLong {
        /// Bytes that the line would have, without its line feed.
        bytes: usize,
        /// Bytes that are read.
        maximum: usize,
    },
    /// There is no such line, or it is not of the kind asked for.
    NoSuchLine {
        /// Its index, from 0.
        index: usize,
        /// The expected form.
        expected: &'static str,
    },
    /// A key belongs to relay lines, or is set by other means, and cannot be
    /// given here.
    ReservedKey {
        /// The key.
        key: String,
    },
    /// A relay has `unmeasured=1` with a `bw` other than 1
    /// (bandwidth-file-spec 2.4).
    UnmeasuredBandwidth {
        /// Its bandwidth.
        value: KilobytesPerSecond,
    },
}

impl Error {
    pub(crate) fn new(kind: ErrorKind) -> Self {
        Self(Box::new(Inner { kind, relay: None }))
    }

    /// The same error, of this relay's line.
    pub(crate) fn of_relay(mut self, relay: Fingerprint) -> Self {
        self.0.relay = Some(relay);
        self
    }

    /// An error of the system about a file.
    pub(crate) fn file(problem: &'static str, path: &Path, error: io::Error) -> Self {
        Self::new(ErrorKind::File {
            path: path.to_owned(),
            problem,
            error,
        })
    }

    /// The kind of error.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The kind of error, by value.
    pub fn into_kind(self) -> ErrorKind {
        self.0.kind
    }

    /// The relay whose line could not be written, if it was one's.
    pub fn relay(&self) -> Option<Fingerprint> {
        self.0.relay
    }

    /// Where in the input, if the input is to blame.
    pub fn position(&self) -> Option<Position> {
        match self.0.kind {
            ErrorKind::LimitExceeded { position, .. } => Some(position),
            _ => None,
        }
    }

    /// Returns true if reading or writing failed, as opposed to the content that was read
    /// or written.
    pub fn is_io_error(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Io(_) | ErrorKind::File { .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(relay) = self.0.relay {
            write!(f, "relay {relay}: ")?;
        }
        match &self.0.kind {
            ErrorKind::BadArchive { problem } => write!(f, "the archive has {problem}"),
            ErrorKind::BandwidthOutOfRange { value } => {
                write!(f, "bw={} is not in 1..=2147483647 kB/s", value.value())
            }
            ErrorKind::DuplicateHeader { key } => write!(f, "header {key:?} is given twice"),
            ErrorKind::DuplicateIdentity { identity } => {
                write!(f, "another relay has the Ed25519 key {identity} too")
            }
            ErrorKind::DuplicateKey { key } => write!(f, "key {key:?} is given twice"),
            ErrorKind::DuplicateRelay => write!(f, "it is given twice"),
            ErrorKind::File {
                path,
                problem,
                error,
            } => write!(f, "{problem} {}: {error}", path.display()),
            ErrorKind::HeaderBudget { entries, bytes } => write!(
                f,
                "the header has {entries} entries of {bytes} bytes in a vote; tor takes 50 entries (one is the timestamp) and 1024 bytes: shorten or drop some"
            ),
            ErrorKind::HeadersBeforeVersion110 { key } => write!(
                f,
                "format 1.0.0 has no headers, so {key:?} cannot be written: declare 1.1.0 or later"
            ),
            ErrorKind::InvalidKey { key } => write!(
                f,
                "{key:?} is not a key: letters, digits, '-' and '_' are, at least one"
            ),
            ErrorKind::InvalidValue {
                key,
                value,
                expected,
            } => write!(f, "{key}={value:?}: expected {expected}"),
            ErrorKind::Io(error) => error.fmt(f),
            ErrorKind::LatestBandwidth {
                latest_bandwidth,
                timestamp,
            } => write!(
                f,
                "latest_bandwidth is {latest_bandwidth}, but must be the timestamp, {timestamp}"
            ),
            ErrorKind::LimitExceeded {
                limit,
                maximum,
                position,
            } => write!(
                f,
                "{position}: more than {maximum} {limit}; raise the limit if the input is to be trusted"
            ),
            ErrorKind::LineTooLong { bytes, maximum } => write!(
                f,
                "the line would have {bytes} bytes, and the oldest tor to support reads {maximum}: give it fewer keys"
            ),
            ErrorKind::NoSuchLine { index, expected } => {
                write!(f, "line {}: no {expected} there", index.saturating_add(1))
            }
            ErrorKind::ReservedKey { key } => write!(f, "key {key:?} cannot be given here"),
            ErrorKind::UnmeasuredBandwidth { value } => {
                write!(f, "unmeasured=1 goes with bw=1, not bw={}", value.value())
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.kind {
            ErrorKind::Io(error) | ErrorKind::File { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::new(ErrorKind::Io(error))
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match *error.0 {
            Inner {
                kind: ErrorKind::Io(error),
                ..
            } => return error,
            Inner {
                kind: ErrorKind::File { ref error, .. },
                ..
            } => error.kind(),
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}

/// `usize` as `u64`: no platform has a wider `usize`.
pub(crate) fn wide(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
