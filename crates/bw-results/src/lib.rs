#![doc = include_str!("../README.md")]

mod documents;
mod judged;
mod lines;
mod machines;
mod outcome;
mod scan;
mod snapshot;
mod summary;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod text;
mod time;
mod verdict;

pub use documents::{DescriptorChoice, DocumentError};
pub use judged::Judged;
pub use lines::{LINE_LIMIT, Lines};
pub use machines::{Machines, Pair};
pub use outcome::{
    Attempt, Blame, Direction, Failure, FailureKind, Measurement, Outcome, Position, Slice, Stage,
    StopReason, TargetFacts, Timings, Transfer,
};
pub use scan::{Scan, ScanId, ScanIdError, ScanParameters};
pub use snapshot::{DescriptorFacts, NetworkSnapshot, PortRanges, RelayFacts, RelayFlags};
pub use summary::{OutcomeId, OutcomeSummary, SummaryResult};
pub use time::{CLOCK_TOLERANCE, UnixMillis};
pub use verdict::{Remeasure, Verdict};
