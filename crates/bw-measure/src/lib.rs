#![doc = include_str!("../README.md")]

mod assignment;
mod circuits;
mod clock;
mod destination;
mod direct;
mod direction;
mod directory;
mod error;
mod estimator;
mod helper;
#[cfg(feature = "http")]
mod http;
mod journal;
mod link;
mod measurer;
mod meter;
mod observer;
mod partition;
mod path;
mod plan;
mod records;
mod rounds;
mod scan;
mod schedule;
mod selection;
mod sustained;
mod targets;
#[cfg(feature = "http")]
mod tls;
mod together;
mod token_bucket;
#[cfg(feature = "tor")]
pub mod tor;
mod transferring;
mod transport;
mod window;

pub use assignment::Assignment;
#[cfg(feature = "http")]
pub use bw_protocol::{ContentKey, KeyError};
pub use circuits::{Circuit, Circuits};
pub use clock::WallClock;
pub use destination::Destination;
pub use direct::Direct;
pub use direction::preferred_direction;
pub use directory::Directory;
pub use error::{Error, ErrorKind};
pub use estimator::{Estimator, LevelHalf};
pub use helper::{FasterHelper, HelperChoice, HelperPolicy, HelperRequest, SpareHelpers};
#[cfg(feature = "http")]
pub use http::{HttpFlow, HttpTransport};
pub use journal::{Interrupted, Journal, Known};
pub use link::{Lease, Link};
pub use measurer::{Control, Measurer, TransferOptions};
pub use meter::Meter;
pub use observer::{Change, Event, Observer};
pub use partition::Partition;
pub use path::{Fault, PathError, StageTimeouts, TwoHops};
pub use plan::{Plan, Planned};
pub use records::Records;
pub use rounds::{RoundOptions, RoundReport, Rounds, RoundsError, Totals};
pub use scan::{Scan, ScanError, ScanReport};
pub use schedule::{
    Action, Adjustment, Completion, DestinationReport, Limits, Placement, RunId, Scheduler, Target,
};
pub use selection::{EachOnce, Selection};
pub use sustained::{Estimate, Sustained};
pub use targets::Targets;
#[cfg(feature = "http")]
pub use tls::Tls;
pub use token_bucket::TokenBucket;
pub use transport::{Flow, Order, Transport};
pub use window::Window;
