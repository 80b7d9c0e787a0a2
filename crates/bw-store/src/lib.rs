#![doc = include_str!("../README.md")]

mod codec;
mod columns;
mod day;
mod encoded;
mod error;
mod fault;
mod filter;
mod import;
mod jsonl;
mod lock;
mod prune;
mod read;
mod schema;
mod snapshots;
mod store;
mod stores;
mod supplement;
#[cfg(test)]
mod testing;
mod transaction;
mod writer;

pub use day::Day;
pub use encoded::{Encoded, Encoder};
pub use error::{Error, ErrorKind, Result};
pub use filter::Filter;
pub use import::Import;
pub use jsonl::{ImportProblem, ImportReport};
pub use lock::{LockHolder, ScanLock};
pub use prune::{Prune, Pruned};
pub use read::{Record, Stored};
pub use snapshots::{SnapshotId, SnapshotInfo};
pub use store::{RelayHistory, ScanSummary, Store, VerdictCounts};
pub use stores::Stores;
pub use supplement::{NoSupplement, Supplement, Supplemented};
pub use writer::StoreWriter;
