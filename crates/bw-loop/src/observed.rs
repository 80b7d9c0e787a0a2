//! The observed bandwidth of descriptors.

use std::collections::VecDeque;

use crate::random::normal;

/// tor keeps the best ten seconds of each of the last five days
/// (`NUM_TOTALS`, `NUM_SECS_ROLLING_MEASURE` in bwhist.c).
const DAYS: usize = 5;

/// σ of ln(10 s mean / day's mean) of what clients take of a relay.
const BURSTS: f64 = 0.25;

/// The time that a measurement takes, of the ten seconds, in seconds.
const PROBE: f64 = 2.0;

/// The bandwidth that one relay has observed of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    best: VecDeque<f64>,
}

impl Observed {
    /// A relay that observed this on its first day.
    pub(crate) fn starting(rate: f64) -> Self {
        Self {
            best: VecDeque::from([rate]),
        }
    }

    /// A day in which clients took `load` of a relay in the mean, 0 and more, and
    /// at the busiest hour so many times that; and scanners measured `shown`.
    pub(crate) fn day(
        &mut self,
        capacity: f64,
        load: f64,
        busiest: f64,
        shown: f64,
        rng: &mut impl rand::Rng,
    ) {
        // The largest of some thousand normal numbers is 3.2 to 3.6.
        let burst = (BURSTS * (3.4 + 0.2 * normal(rng))).exp();
        let clients = capacity * (load * busiest * burst).min(1.0);
        let probed = capacity * load.min(1.0) + shown * PROBE / 10.0;
        self.best.push_back(clients.max(probed).min(capacity));
        while self.best.len() > DAYS {
            self.best.pop_front();
        }
    }

    /// The best of the five days.
    pub(crate) fn rate(&self) -> f64 {
        self.best.iter().copied().fold(0.0, f64::max)
    }
}
