//! Web servers that relays are measured against.

use std::time::Duration;

use bw_file::BytesPerSecond;
use bw_measure::Destination;

/// A web server of the simulated Internet.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Server {
    /// Its URL, by which an order finds it.
    pub destination: Destination,
    /// The rate that it can send or receive.
    pub capacity: BytesPerSecond,
    /// The time of a packet between it and the middle of the Internet.
    pub delay: Duration,
    /// When it is not there.
    pub outages: Vec<Outage>,
    /// After so many bytes of a transfer its content is not what it should be.
    pub lies_after: Option<u64>,
}

impl Server {
    /// A server of 10 Gbit/s, 5 ms from the middle of the Internet.
    pub const fn new(destination: Destination) -> Self {
        Self {
            destination,
            capacity: BytesPerSecond::new(1_250_000_000),
            delay: Duration::from_millis(5),
            outages: Vec::new(),
            lies_after: None,
        }
    }

    pub(crate) fn outage(&self, time: Duration) -> Option<&Outage> {
        self.outages
            .iter()
            .find(|outage| outage.from <= time && time < outage.until)
    }
}

/// A time in which a server does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "two ends and a manner")]
pub struct Outage {
    /// Its begin, since that of the simulation.
    pub from: Duration,
    /// Its end.
    pub until: Duration,
    /// True if it does not answer (its host is gone) instead of refusing
    /// connections (only the server is).
    pub silent: bool,
}
