#![doc = include_str!("../README.md")]

mod identity;
mod units;

pub use identity::{Ed25519Identity, Fingerprint, IdentityError};
pub use units::{BytesPerSecond, KilobytesPerSecond};
