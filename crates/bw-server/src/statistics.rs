//! Numbers on the work of a server.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts what a server does; shared by all its connections.
#[derive(Debug, Default)]
pub struct Statistics {
    accepted: Count,
    closed: Count,
    turned_away: Count,
    refused: Count,
    gave_way: Count,
    too_slow: Count,
    tls_failures: Count,
    proofs: Count,
    downloads: Count,
    uploads: Count,
    sent: Count,
    received: Count,
}

/// The counts at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections that ended.
    pub closed: u64,
    /// Connections closed without a word, as too many have not asked yet.
    pub turned_away: u64,
    /// Requests answered with 503, as all places were taken.
    pub refused: u64,
    /// Connections closed for new ones.
    pub gave_way: u64,
    /// Clients that took or sent too little for too long.
    pub too_slow: u64,
    /// TLS handshakes that failed or took too long.
    pub tls_failures: u64,
    /// Requests that proved the key.
    pub proofs: u64,
    /// Downloads begun.
    pub downloads: u64,
    /// Uploads begun.
    pub uploads: u64,
    /// Bytes of files handed to the connections.
    pub sent: u64,
    /// Bytes of uploads confirmed.
    pub received: u64,
}

impl Counts {
    /// Returns the number of connections that are open.
    pub const fn open(&self) -> u64 {
        self.accepted
            .saturating_sub(self.closed)
            .saturating_sub(self.turned_away)
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counts {
    ($($name:ident)*) => {
        impl Statistics {
            $(pub(crate) const fn $name(&self) -> &Count {
                &self.$name
            })*

            /// Returns the counts of now.
            pub fn counts(&self) -> Counts {
                Counts { $($name: self.$name.get()),* }
            }
        }
    };
}

counts! {
    accepted closed turned_away refused gave_way too_slow tls_failures proofs downloads uploads sent
    received
}
