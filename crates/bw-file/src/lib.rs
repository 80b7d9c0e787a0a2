#![doc = include_str!("../README.md")]

mod builder;
mod compare;
#[cfg(feature = "compression")]
mod compression;
mod convert;
pub mod cookbook;
mod digest;
mod document;
mod error;
mod escape;
mod fields;
mod identity;
mod keys;
mod line;
mod lint;
mod number;
mod pair;
mod reader;
mod relay;
mod relay_builder;
mod report;
mod spec;
#[cfg(feature = "csv")]
mod table;
mod target;
mod time;
mod tor;
mod units;
mod value;
mod version;
mod vote;
mod weights;
mod writer;

pub use builder::FileBuilder;
pub use compare::{Diff, KeyChange, NetworkComparison, RelayChange};
#[cfg(feature = "compression")]
pub use compression::decompress;
#[cfg(feature = "archive")]
pub use compression::{for_each_member, is_archive};
pub use convert::JSON_SCHEMA;
#[cfg(feature = "json")]
pub use convert::{write_json_lines, write_json_lines_of};
pub use digest::{DigestError, FileDigest};
pub use document::{Document, Limits, RelayIndex};
pub use error::{Error, ErrorKind, Limit, Position};
pub use escape::escaped;
pub use fields::{HeaderFields, OtherPair, RelayFields};
pub use identity::{Ed25519Identity, Fingerprint, IdentityError};
pub use keys::{HEADER_KEYS, KeyInfo, KeyScope, RELAY_KEYS};
pub use line::{HeaderLine, Line, LineEnding, LineKind};
pub use lint::{LintContext, lint};
pub use pair::{Pair, Pairs};
pub use reader::{Boundary, Reader, ReaderBuilder, StreamLine};
pub use relay::{RelayLine, RelayLineRef};
pub use relay_builder::RelayBuilder;
pub use report::{Code, Diagnostic, Report, Severity};
pub use spec::spec;
#[cfg(feature = "csv")]
pub use table::{write_csv, write_csv_head, write_csv_of};
pub use target::{KeyOrder, Target};
pub use time::{DateTime, DateTimeError, UnixTime};
pub use tor::{
    MAX_FILE_AGE_SECONDS, MAX_VOTE_HEADER_BYTES, MAX_VOTE_HEADERS, TorJudge, TorJudgement,
    TorWarning, TorWarningKind, UsedLine,
};
pub use units::{BytesPerSecond, KilobytesPerSecond};
pub use value::{
    CountryCode, CountryCodeError, Field, FieldValue, Milliseconds, Percent, PythonBool, Seconds,
    is_nickname,
};
pub use version::{FormatVersion, TorVersion, VersionError};
pub use vote::{VoteLines, VoteMismatch};
pub use weights::{RelayAcross, Standing, Weights};
pub use writer::Writer;
