//! The use of everything: the instruments of the model.

use std::collections::BTreeMap;
use std::time::Duration;

use bw_file::Fingerprint;

/// The scanner's use of a link, a relay or a server.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Usage {
    /// Payload.
    pub bytes: u64,
    /// The highest rate in any tick, in bytes per second.
    pub peak: f64,
    /// For how long it, and nothing else, limited at least one flow.
    pub limiting: Duration,
    /// For how long it did so to measurements of other relays, in which it
    /// was to help: there the schedule asked too much of it.
    pub hampering: Duration,
}

/// The use of everything so far.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct UsageReport {
    /// The scanner's own link.
    pub link: Usage,
    /// Bytes on the scanner's link in each tick, from the beginning.
    pub link_trace: Vec<u64>,
    /// The most that the scanner read in a tick, in bytes. More than that can be on the
    /// link only as long as streams bring what then waits to be read.
    pub most_read: u64,
    /// Each relay that was used.
    pub relays: BTreeMap<Fingerprint, Usage>,
    /// Each web server, in the order in which they were given.
    pub servers: Vec<Usage>,
    /// The most circuits with payload at a time.
    pub most_flows: usize,
    /// Circuits that were begun.
    pub circuits: u64,
    /// The most circuits begun within one second.
    pub most_circuits_per_second: u32,
}

impl UsageReport {
    /// The highest rate on the scanner's link over `ticks` ticks in a row, in
    /// bytes per tick.
    pub fn link_peak(&self, ticks: usize) -> f64 {
        let windows = self.link_trace.windows(ticks.max(1));
        let most = windows.map(|window| window.iter().sum::<u64>()).max();
        most.unwrap_or(0) as f64 / ticks.max(1) as f64
    }
}
