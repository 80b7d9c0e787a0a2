//! The bound on what a relay says of itself.

use serde::Serialize;

use crate::aggregate::{Aggregates, RelayAggregate};
use crate::formula::claimed;
use crate::proven::Proven;
use crate::statistics::sorted;

/// The least that is believed to be payload: tor lets 0.76 to 0.80 of a rate
/// pass as payload (docs/estimator.md), of which clients may take three quarters.
const LEAST_SHARE: f64 = 0.2;

/// How far what a relay says of itself may raise its weight: to P/(κ(1 − r)).
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
    /// and where most descriptors know nothing it is 1. Not below 0.2.
    pub payload_share: f64,
}

impl Bound {
    /// FlashFlow's r.
    pub const SHARE: f64 = 0.25;

    pub(crate) fn of(aggregates: &Aggregates, share: f64) -> Self {
        let shares = aggregates.in_consensus().filter_map(|relay| {
            let proven = relay.proven.filter(|proven| !proven.at_least)?;
            (!relay.rates.is_empty() && relay.can_be_weighed()).then(|| kept(relay, &proven))
        });
        let shares = sorted(shares.collect());
        let median = shares.get(shares.len() / 2).copied().unwrap_or(1.0);
        Self {
            share,
            payload_share: median.clamp(LEAST_SHARE, 1.0),
        }
    }

    /// The most that is believed of the bandwidth of a relay that has proven
    /// this, in bytes per second.
    pub fn ceiling(&self, proven: &Proven) -> f64 {
        proven.rate * self.factor() / self.payload_share
    }

    /// 1 / (1 − r).
    pub fn factor(&self) -> f64 {
        1.0 / (1.0 - self.share)
    }
}

/// What a relay has proven over what it claims, at most 1.
fn kept(relay: &RelayAggregate, proven: &Proven) -> f64 {
    let claimed = claimed(relay).1.value() as f64;
    if claimed > proven.rate {
        proven.rate / claimed
    } else {
        1.0
    }
}
