//! Weights of relays of which only a lower bound is known.

use bw_file::KilobytesPerSecond;
use serde::Serialize;

use crate::aggregate::{LowerBound, RelayAggregate};

/// The steps from a lower bound to the value of a relay that was never
/// measured to its own limit (a censored value).
///
/// The relay keeps what else is known of it: its value is the larger of what
/// the formula gives to the lower bound, and of its weight in the consensus if
/// that was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LowerBoundSteps {
    /// The highest lower bound.
    pub bound: LowerBound,
    /// The value that the formula gives to it, in bytes per second.
    pub scaled: f64,
    /// The weight in the consensus, if that was measured.
    pub consensus: Option<KilobytesPerSecond>,
    /// Its worth in values of the formula, in bytes per second.
    pub worth: f64,
    /// The one of the two that was taken.
    pub taken: Taken,
}

/// The source of a censored relay's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Taken {
    /// The value that the formula gives to the lower bound.
    LowerBound,
    /// The weight in the consensus.
    Consensus,
}

impl LowerBoundSteps {
    /// The steps of `relay`, to the bound of which the formula gives `scaled`;
    /// to each byte of a weight in the consensus it gives `worth`.
    pub(crate) fn new(relay: &RelayAggregate, bound: LowerBound, scaled: f64, worth: f64) -> Self {
        let consensus = relay
            .consensus_weight
            .filter(|_| relay.unmeasured == Some(false));
        let kept = consensus.map_or(0.0, |weight| weight.to_bytes().value() as f64) * worth;
        Self {
            bound,
            scaled,
            consensus,
            worth: kept,
            taken: if kept > scaled {
                Taken::Consensus
            } else {
                Taken::LowerBound
            },
        }
    }

    /// The value before the limit, in bytes per second.
    pub fn value(&self) -> f64 {
        match self.taken {
            Taken::Consensus => self.worth,
            Taken::LowerBound => self.scaled,
        }
    }
}
