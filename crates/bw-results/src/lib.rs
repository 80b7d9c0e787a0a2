#![doc = include_str!("../README.md")]

mod outcome;
mod scan;
mod snapshot;
mod time;

pub use outcome::{
    Attempt, Blame, Direction, Failure, FailureKind, Measurement, Outcome, Position, Slice, Stage,
    StopReason, TargetFacts, Timings, Transfer,
};
pub use scan::{Scan, ScanId, ScanIdError, ScanParameters};
pub use snapshot::{DescriptorFacts, NetworkSnapshot, PortRanges, RelayFacts, RelayFlags};
pub use time::UnixMillis;
