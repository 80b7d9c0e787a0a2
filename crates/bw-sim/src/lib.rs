#![doc = include_str!("../README.md")]

mod accuracy;
mod ledger;
mod load;
mod memory_journal;
mod model;
mod population;
mod relay;
mod server;
mod share;
mod traffic;
mod transport;
mod usage;

pub use accuracy::Accuracy;
pub use ledger::{Entry, Ledger};
pub use load::Load;
pub use memory_journal::{JournalRecord, JournalRound, MemoryJournal};
pub use model::{Builder, Model};
pub use population::Population;
pub use relay::{Nature, Relay};
pub use server::{Outage, Server};
pub use transport::SimFlow;
pub use usage::{Usage, UsageReport};
