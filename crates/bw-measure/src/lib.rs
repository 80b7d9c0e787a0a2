#![doc = include_str!("../README.md")]

mod assignment;
mod circuits;
mod clock;
mod content;
mod destination;
mod direction;
mod directory;
mod error;
mod estimator;
mod helper;
mod http;
mod link;
mod measurer;
mod meter;
mod observer;
mod partition;
mod path;
mod plan;
mod receipts;
mod scan;
mod schedule;
mod sustained;
mod tls;
mod token_bucket;
#[cfg(feature = "tor")]
pub mod tor;
mod transferring;
mod transport;
mod window;

pub use assignment::Assignment;
pub use circuits::{Circuit, Circuits};
pub use clock::WallClock;
pub use content::{Content, ContentKey, Nonce};
pub use destination::Destination;
pub use direction::preferred_direction;
pub use directory::Directory;
pub use error::{Error, ErrorKind};
pub use estimator::{Estimator, LevelHalf};
pub use helper::{FasterHelper, HelperChoice, HelperPolicy, HelperRequest, SpareHelpers};
pub use http::{HttpFlow, HttpTransport, RATE_HEADER};
pub use link::{Lease, Link};
pub use measurer::{Control, Measurer, TransferOptions};
pub use meter::Meter;
pub use observer::{Event, Observer};
pub use partition::Partition;
pub use path::{Fault, PathError, StageTimeouts, TwoHops};
pub use plan::{Plan, Planned};
pub use receipts::{Receipt, Receipts};
pub use scan::{Recorder, ScanReport, scan};
pub use schedule::{
    Action, Adjustment, Completion, DestinationReport, Limits, Placement, RunId, Scheduler, Target,
};
pub use sustained::{Estimate, Sustained};
pub use tls::Tls;
pub use token_bucket::TokenBucket;
pub use transport::{Flow, Order, Transport};
pub use window::Window;
