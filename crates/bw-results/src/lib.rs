#![doc = include_str!("../README.md")]

mod codec;
mod country;
mod documents;
mod error;
mod jsonl;
mod judged;
mod lock;
mod outcome;
mod read;
mod sbws;
mod scan;
mod schema;
mod snapshot;
mod snapshots;
mod store;
mod summary;
#[cfg(test)]
mod testing;
mod time;
mod verdict;
mod writer;

pub use country::{Country, CountryError};
pub use documents::DocumentError;
pub use error::{Error, ErrorKind, Result};
pub use jsonl::{ImportProblem, ImportReport};
pub use lock::{LockHolder, ScanLock};
pub use outcome::{
    Attempt, Blame, Direction, Failure, FailureKind, Measurement, Outcome, Position, Slice, Stage,
    StopReason, TargetFacts, Timings, Transfer,
};
pub use read::{Filter, Record, Stored};
pub use sbws::{
    SbwsDownload, SbwsFacts, SbwsFile, SbwsHome, SbwsImport, SbwsKind, SbwsLineError, SbwsProblem,
    SbwsResult, SbwsState, SbwsTimes,
};
pub use scan::{Scan, ScanId, ScanIdError, ScanParameters};
pub use snapshot::{DescriptorFacts, NetworkSnapshot, PortRanges, RelayFacts, RelayFlags};
pub use snapshots::{SnapshotId, SnapshotInfo};
pub use store::{RelayHistory, ScanSummary, Store, VerdictCounts};
pub use summary::{OutcomeId, OutcomeSummary, SummaryResult};
pub use time::{CLOCK_TOLERANCE, UnixMillis};
pub use verdict::{Remeasure, Verdict};
pub use writer::StoreWriter;
