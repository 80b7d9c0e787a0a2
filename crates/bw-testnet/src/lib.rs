#![doc = include_str!("../README.md")]

mod block;
mod client;
mod directory;
mod error;
mod event;
mod files;
mod home;
mod http;
mod limit;
mod line;
mod load;
mod manifest;
mod network;
mod node;
mod plan;
mod process;
mod programs;
mod torrc;
mod up;

pub use directory::{StatusDocument, StatusEntry};
pub use error::{Error, ErrorKind};
pub use event::Event;
pub use limit::Limit;
pub use line::{LineCommand, serve_lines};
pub use load::{Load, LoadPlan, LoadTotals};
pub use manifest::NodeRecord;
pub use network::{ConsensusTimes, Network, NodeStatus, Status};
pub use node::{Authority, Node};
pub use plan::{Lifetime, MIN_RATE, Observed, Plan, PlanBuilder, Prior, RelaySpec, Role, Seeded};
pub use process::{ProcessId, ProcessState};
