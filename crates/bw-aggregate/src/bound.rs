//! The bound on what a relay says of itself.

use serde::Serialize;

use crate::aggregate::{Aggregates, RelayAggregate};
use crate::formula::claimed;
use crate::proven::Proven;
use crate::statistics::sorted;

/// The least that is believed to be payload: tor lets 0.76 to 0.80 of a rate pass as
/// payload (docs/estimator.md). What clients take is no part of it: else κ would fall with the load of
/// all, and nothing would make up for what they took of one.
const LEAST_SHARE: f64 = 0.76;

/// The limit to which a relay's own claims may raise its weight: P/(κ(1 − r)).
///
/// P is what it has proven ([`Proven`]), κ the share of relays' bandwidth that
/// measurements show as payload, and r the share that clients may have taken
/// meanwhile. FlashFlow has the same bound, 1/(1 − r), with the help of relays
/// (Traudt, Jansen and Johnson, 2021; Tor proposal 316).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Bound {
    /// r, from 0 on, below 1.
    pub share: f64,
    /// κ: the median, over the relays with rates, of what each has proven over
    /// what it claims, at most 1. A relay that claims nothing counts as 1: so
    /// less than half of the relays cannot move it beyond what the others show,
    /// and where most descriptors know nothing it is 1. Not below 0.76, as clients take
    /// of all relays.
    pub payload_share: f64,
    /// The variation of rates: the median, over the relays with three measurements or
    /// more, of what a quarter of them has reached over what three quarters have.
    /// What clients take comes and goes; where all rates are steady, nobody takes
    /// anything. 1 where no relay has been measured so often.
    pub variation: f64,
}

/// From how many measurements on a relay shows how its rate varies.
const ENOUGH: u64 = 3;

impl Bound {
    /// FlashFlow's r.
    pub const SHARE: f64 = 0.25;

    pub(crate) fn of(aggregates: &Aggregates, share: f64) -> Self {
        let relays = || {
            let relays = aggregates.in_consensus();
            let relays = relays.filter(|r| !r.rates.is_empty() && r.can_be_weighed());
            relays.filter_map(|r| Some((r, r.proven.filter(|proven| !proven.at_least)?)))
        };
        let often = relays().filter(|(_, p)| p.measurements - p.lower_bounds >= ENOUGH);
        Self {
            share,
            payload_share: median(relays().map(|(relay, proven)| kept(relay, &proven)))
                .clamp(LEAST_SHARE, 1.0),
            variation: median(often.map(|(_, proven)| proven.rate / proven.usual)).max(1.0),
        }
    }

    /// The most that is believed of the bandwidth of a relay that has proven
    /// this, in bytes per second.
    pub fn ceiling(&self, proven: &Proven) -> f64 {
        proven.rate * self.factor() / self.payload_share
    }

    /// The bound on a relay's estimate above what it has proven: as far as
    /// clients seem to have taken something, and by [`factor`](Self::factor) at most.
    pub fn lift(&self) -> f64 {
        self.factor().min(self.variation)
    }

    /// 1 / (1 − r).
    pub fn factor(&self) -> f64 {
        1.0 / (1.0 - self.share)
    }
}

/// The median, the upper one of two; 1 of none.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let values = sorted(values.collect());
    values.get(values.len() / 2).copied().unwrap_or(1.0)
}

/// The share of its claims that a relay has proven, at most 1.
fn kept(relay: &RelayAggregate, proven: &Proven) -> f64 {
    let claimed = claimed(relay).1.value() as f64;
    if claimed > proven.rate {
        proven.rate / claimed
    } else {
        1.0
    }
}
