//! A relay, as it is and as the directory shows it.

use std::time::Duration;

use bw_file::{BytesPerSecond, Fingerprint, KilobytesPerSecond};
use bw_results::{PortRanges, RelayFacts};

use crate::Load;

/// A relay of the simulated network: what is true of it, and what the
/// directory says of it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Relay {
    /// The directory's word. The model never looks at weight or descriptor.
    pub facts: RelayFacts,
    /// The payload that it can carry for any length of time.
    pub capacity: BytesPerSecond,
    /// The bytes that it may send beyond that before its token bucket is
    /// empty; it refills while the relay carries less than its capacity.
    pub bucket: u64,
    /// The rate at which it sends as long as its bucket is not empty.
    pub line: BytesPerSecond,
    /// The load of clients.
    pub load: Load,
    /// The time of a packet between it and the middle of the Internet:
    /// paths between any two places go through there.
    pub delay: Duration,
    /// Its behaviour.
    pub nature: Nature,
    /// When it joins the network, since the beginning; it is in the next consensus.
    pub joins: Duration,
    /// When it dies, since the beginning; the next consensus does not have it.
    pub leaves: Option<Duration>,
}

impl Relay {
    /// An honest relay without clients or token bucket, 15 ms from the
    /// middle of the Internet, whose weight is its capacity.
    pub fn new(fingerprint: Fingerprint, capacity: BytesPerSecond) -> Self {
        let weight = KilobytesPerSecond::new((capacity.value() / 1000).max(1));
        let mut facts = RelayFacts::new(fingerprint, "sim", weight);
        facts.flags.running = true;
        facts.flags.valid = true;
        facts.flags.fast = true;
        facts.flow_control_2 = true;
        Self {
            facts,
            capacity,
            bucket: 0,
            line: capacity,
            load: Load::NONE,
            delay: Duration::from_millis(15),
            nature: Nature::Honest,
            joins: Duration::ZERO,
            leaves: None,
        }
    }

    /// The same relay as an exit to all ports.
    #[must_use]
    pub fn exit(mut self) -> Self {
        self.facts.flags.exit = true;
        self.facts.exit_ports = PortRanges::all();
        self
    }

    /// The same relay with another nature.
    #[must_use]
    pub const fn with(mut self, nature: Nature) -> Self {
        self.nature = nature;
        self
    }

    /// The mean rate of a flow that takes all that it gets,
    /// in bytes per second: what clients leave, or its fair share if that is more.
    pub fn available(&self) -> f64 {
        let capacity = self.capacity.value() as f64;
        let left = 1.0 - self.load.share.clamp(0.0, 1.0);
        capacity * left.max(1.0 / (1.0 + self.load.circuits.max(0.0)))
    }

    /// Returns true if it runs at `time` since the beginning.
    pub(crate) fn is_there(&self, time: Duration) -> bool {
        self.joins <= time && self.leaves.is_none_or(|leaves| time < leaves)
    }
}

/// The behaviour of a relay.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Nature {
    /// As it should.
    #[default]
    Honest,
    /// Refuses every connection.
    Refuses,
    /// Takes connections and never answers.
    Silent,
    /// Answers every step of opening a circuit so much later.
    AnswersLate {
        /// Just below what a scanner waits, to keep it waiting.
        by: Duration,
    },
    /// Closes this share of the circuits that are built through it.
    Flaky {
        /// From 0 to 1.
        share: f64,
    },
    /// Moves nothing any more on a circuit after so many bytes, but keeps it.
    Stalls {
        /// Bytes of payload.
        after: u64,
    },
    /// Closes each circuit after so many bytes.
    Cuts {
        /// Bytes of payload.
        after: u64,
    },
    /// As exit, says of every web server that it refused the connection.
    AccusesServers,
    /// Carries this share of its capacity whenever it helps to measure
    /// another relay. It is told what is measured (by [`Model`] as observer),
    /// which a real one could only guess.
    ///
    /// [`Model`]: crate::Model
    Throttles {
        /// From 0 to 1.
        factor: f64,
    },
    /// Knows the scanner, drops its clients for it, and serves it with so
    /// many times the capacity that clients can ever have.
    Favours {
        /// 1 or more.
        factor: f64,
    },
}
