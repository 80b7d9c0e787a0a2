#![doc = include_str!("../README.md")]

mod aggregate;
mod bound;
mod cap;
mod capacity;
mod censored;
mod error;
mod error_class;
mod explain;
mod file;
mod formula;
mod machine;
mod plausible;
mod previous;
mod proven;
mod reason;
mod rounding;
mod rows;
mod sanity;
mod scale;
mod scanners;
mod sentence;
mod statistics;
mod steps;
mod torflow;

pub use aggregate::{AggregateOptions, Aggregates, Aggregator, Counts, LowerBound, RelayAggregate};
pub use bound::Bound;
pub use capacity::{CapacityOptions, CapacitySteps, Normalisation, PreviousCapacity};
pub use censored::{LowerBoundSteps, Taken};
pub use error::{Error, ErrorKind};
pub use error_class::ErrorClass;
pub use explain::{Check, Standing, Use};
pub use file::FileFacts;
pub use machine::MachineShare;
pub use plausible::{LimitBasis, MAX_PLAUSIBLE_RATE, RateLimit};
pub use previous::{PreviousFile, PreviousRelay};
pub use proven::Proven;
pub use reason::{DescriptorField, Reason};
pub use rounding::{round_half_even, round_significant, round_torflow};
pub use rows::{ScanRow, scan_rows};
pub use sanity::{Sanity, SanityLimits, SanityProblem};
pub use scale::{
    Answer, Explanation, Method, NetworkFigures, ScaleOptions, Scaled, ScaledRelay, scale,
};
pub use scanners::{Basis, Comparison, ScannerStatistics, Scanners};
pub use statistics::{Statistics, exact_mean, median_of_sorted};
pub use steps::Step;
pub use torflow::{
    ClassMeans, Feedback, PidSteps, PidVote, RelayClass, Torflow, TorflowParamError, TorflowParams,
    TorflowRelay,
};
