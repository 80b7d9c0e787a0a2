//! By which means a relay carries no more than its rate.

use std::ops::RangeInclusive;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

/// By which means a relay carries no more than its rate.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// `BandwidthRate` and `BandwidthBurst`: all that tor sends, and all that it receives.
    #[default]
    Node,
    /// `RelayBandwidthRate` and `RelayBandwidthBurst`: what tor carries for others, except
    /// on connections that it has used as a client in the last 30 s (proposal 111).
    Relay,
    /// The line to everybody else, in each direction, as for most public relays: tor knows of
    /// no limit. What an exit exchanges with destinations does not pass the line.
    Line,
}

/// The limits of a plan's relays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Limits {
    All(Limit),
    /// By line or by relay, as this seed decides.
    Mixed(u64),
}

impl Limits {
    /// One for each relay, in order.
    pub(crate) fn draw(&self) -> impl FnMut() -> Limit + use<> {
        let limits = *self;
        let seed = match limits {
            Self::Mixed(seed) => seed,
            Self::All(_) => 0,
        };
        // The rates come from the same seed, and must not decide the limits.
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed ^ 0x006c_696d_6974);
        move || match limits {
            Self::All(limit) => limit,
            Self::Mixed(_) if rng.random() => Limit::Line,
            Self::Mixed(_) => Limit::Relay,
        }
    }
}

/// The distances of a plan's relays.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Distances {
    pub(crate) delays: RangeInclusive<Duration>,
    pub(crate) seed: u64,
}

impl Distances {
    /// One for each relay, in order, in whole milliseconds.
    pub(crate) fn draw(&self) -> impl FnMut() -> Duration + use<> {
        let millis = |delay: &Duration| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        let (low, high) = (millis(self.delays.start()), millis(self.delays.end()));
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(self.seed ^ 0x0064_656c_6179);
        move || Duration::from_millis(rng.random_range(low..=high.max(low)))
    }
}
