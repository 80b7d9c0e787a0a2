#![doc = include_str!("../README.md")]

mod attempt;
mod circuits;
mod destination;
mod directory;
mod error;
mod estimator;
mod helper;
mod meter;
mod observer;
mod partition;
mod scan;
mod tls;
pub mod tor;
mod transfer;

pub use attempt::{Assignment, Measurer, WallClock};
pub use circuits::{Circuit, CircuitError, Circuits, Fault, StageTimeouts, TwoHops};
pub use destination::Destination;
pub use directory::Directory;
pub use error::{Error, ErrorKind};
pub use estimator::{Estimator, LevelHalf};
pub use helper::{FasterHelper, HelperChoice, HelperPolicy};
pub use meter::Meter;
pub use observer::{Event, Observer};
pub use partition::Partition;
pub use scan::{Recorder, ScanOptions, ScanReport, scan};
pub use tls::Tls;
pub use transfer::{TransferError, TransferOptions, download};
