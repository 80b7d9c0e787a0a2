//! What can go wrong, and where.

use std::fmt;
use std::io;

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
pub struct Error(Box<ErrorKind>);

/// What went wrong.
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A relay's `bw` is not in 1..=2147483647: zero should not be written
    /// (bandwidth-file-spec 2.4) and tor casts no vote with larger values.
    BandwidthOutOfRange {
        /// The relay concerned.
        relay: Fingerprint,
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
        /// The relay that was refused.
        relay: Fingerprint,
        /// The key.
        identity: Ed25519Identity,
    },
    /// A key is given twice for one relay.
    DuplicateKey {
        /// The relay concerned.
        relay: Fingerprint,
        /// The key.
        key: String,
    },
    /// A relay is given twice.
    DuplicateRelay {
        /// The relay concerned.
        relay: Fingerprint,
    },
    /// The header would not fit into a vote, so tor would leave it out or
    /// cut it short.
    HeaderBudget {
        /// Entries in the vote's line, the timestamp's among them; at most 50.
        entries: usize,
        /// Bytes of the joined entries; at most 1024.
        bytes: usize,
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
        /// What the key takes.
        expected: &'static str,
    },
    /// Reading or writing failed.
    Io(io::Error),
    /// `latest_bandwidth` is not the file's timestamp
    /// (bandwidth-file-spec 2.2).
    LatestBandwidth {
        /// What was given.
        latest_bandwidth: UnixTime,
        /// The file's timestamp.
        timestamp: UnixTime,
    },
    /// The input is larger than the reader was told to take.
    LimitExceeded {
        /// What there is too much of.
        limit: Limit,
        /// How much is taken.
        maximum: u64,
        /// Where the limit was reached.
        position: Position,
    },
    /// A relay's line is longer than the oldest tor to support reads.
    LineTooLong {
        /// The relay concerned.
        relay: Fingerprint,
        /// Bytes that the line would have, without its line feed.
        bytes: usize,
        /// Bytes that are read.
        maximum: usize,
    },
    /// There is no such line, or it is not of the kind asked for.
    NoSuchLine {
        /// Its index, from 0.
        index: usize,
        /// What was expected there.
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
        /// The relay concerned.
        relay: Fingerprint,
        /// Its bandwidth.
        value: KilobytesPerSecond,
    },
    /// Neither a bandwidth file nor an archive of them.
    UnknownArchive {
        /// What was wrong.
        problem: String,
    },
}

impl Error {
    pub(crate) fn new(kind: ErrorKind) -> Self {
        Self(Box::new(kind))
    }

    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.0
    }

    /// What went wrong, by value.
    pub fn into_kind(self) -> ErrorKind {
        *self.0
    }

    /// Where in the input, if the input is to blame.
    pub fn position(&self) -> Option<Position> {
        match *self.0 {
            ErrorKind::LimitExceeded { position, .. } => Some(position),
            _ => None,
        }
    }

    /// Whether reading or writing failed, as opposed to what was read or
    /// written.
    pub fn is_io_error(&self) -> bool {
        matches!(*self.0, ErrorKind::Io(_))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            ErrorKind::BandwidthOutOfRange { relay, value } => write!(
                f,
                "relay {relay}: bw={} is not in 1..=2147483647 kB/s",
                value.value()
            ),
            ErrorKind::DuplicateHeader { key } => write!(f, "header {key:?} is given twice"),
            ErrorKind::DuplicateIdentity { relay, identity } => write!(
                f,
                "relay {relay}: another relay has the Ed25519 key {identity} too"
            ),
            ErrorKind::DuplicateKey { relay, key } => {
                write!(f, "relay {relay}: key {key:?} is given twice")
            }
            ErrorKind::DuplicateRelay { relay } => write!(f, "relay {relay} is given twice"),
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
            ErrorKind::LineTooLong {
                relay,
                bytes,
                maximum,
            } => write!(
                f,
                "relay {relay}: the line would have {bytes} bytes, and the oldest tor to support reads {maximum}: give it fewer keys"
            ),
            ErrorKind::NoSuchLine { index, expected } => {
                write!(f, "line {}: no {expected} there", index.saturating_add(1))
            }
            ErrorKind::ReservedKey { key } => write!(f, "key {key:?} cannot be given here"),
            ErrorKind::UnknownArchive { problem } => write!(f, "archive: {problem}"),
            ErrorKind::UnmeasuredBandwidth { relay, value } => write!(
                f,
                "relay {relay}: unmeasured=1 goes with bw=1, not bw={}",
                value.value()
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.0 {
            ErrorKind::Io(error) => Some(error),
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
        match *error.0 {
            ErrorKind::Io(inner) => inner,
            _ => io::Error::new(io::ErrorKind::InvalidData, error),
        }
    }
}

/// `usize` as `u64`: no platform has a wider `usize`.
pub(crate) fn wide(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
