#![doc = include_str!("../README.md")]

mod content;
mod key;
mod nonce;
mod proof;
mod receipts;

pub use content::Content;
pub use key::{ContentKey, KeyError};
pub use nonce::{Nonce, NonceError};
pub use proof::Proof;
pub use receipts::{Receipt, Receipts};

/// The response's header with which a server tells its limit: the bytes per
/// second of all its clients together, in decimal.
pub const RATE_HEADER: &str = "bwscan-rate";
