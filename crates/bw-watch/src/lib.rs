#![doc = include_str!("../README.md")]

mod attached;
mod event;
mod hub;
mod screen;
mod shared;
mod state;
mod terminal;
pub mod text;

pub use attached::attach;
pub use event::{AttemptFacts, HelperBytes, RoundFacts, ScanEvent};
pub use hub::{Hub, Listening};
pub use shared::Shared;
pub use state::{Cause, Destination, Helper, Load, Rate, Recent, Round, Running, State};
pub use terminal::{End, show};
