//! The one place that knows arti: a real Tor network behind the traits
//! [`Directory`](crate::Directory) and [`Circuits`](crate::Circuits).
//!
//! arti changes its API with every monthly release; nothing outside this
//! module names a type of it.

mod circuits;
mod client;
mod configuration;
mod consensus;
mod descriptors;
mod directory;
mod lanes;
mod words;

pub use circuits::{TorCircuit, TorCircuits, TorStream};
pub use client::{Bootstrap, TorClient, TorSettings};
pub use directory::TorDirectory;

use self::lanes::{Lane, Lanes};
use bw_file::Fingerprint;
use tor_llcrypto::pk::rsa::RsaIdentity;

/// arti's form of a fingerprint.
fn rsa_identity(fingerprint: &Fingerprint) -> Option<RsaIdentity> {
    RsaIdentity::from_bytes(fingerprint.as_bytes())
}

/// Our form of a fingerprint; `None` only if its length is wrong.
fn fingerprint(identity: &RsaIdentity) -> Option<Fingerprint> {
    let bytes: [u8; 20] = identity.as_bytes().try_into().ok()?;
    Some(Fingerprint::from_bytes(bytes))
}
