//! Weights that are estimates of what relays can carry.

use std::collections::BTreeMap;

use bw_file::{BytesPerSecond, Fingerprint, KilobytesPerSecond};
use serde::Serialize;

use crate::aggregate::RelayAggregate;
use crate::bound::Bound;
use crate::formula::claimed;
use crate::machine::MachineShare;
use crate::proven::Proven;
use crate::scale::{Answer, ScaledRelay};

/// Options of [`Method::Capacity`](crate::Method::Capacity).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CapacityOptions {
    /// The step by which each new measurement moves a weight from the one before, as a
    /// share of the way in logarithms; 0.15. With 1 there is no memory. In the closed loop (docs/scaling.md)
    /// weights swing half as much as with 0.3, and are no farther from the truth.
    pub smoothing: f64,
    /// The sum of the weights.
    pub normalisation: Normalisation,
    /// The estimates of the previous file.
    pub previous: BTreeMap<Fingerprint, PreviousCapacity>,
}

impl Default for CapacityOptions {
    fn default() -> Self {
        Self {
            smoothing: 0.15,
            normalisation: Normalisation::default(),
            previous: BTreeMap::new(),
        }
    }
}

/// The sum of all weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Normalisation {
    /// As much as the same relays have in the consensus: of those whose weight
    /// there was measured. Where that is half of the relays or less, nothing
    /// is changed.
    #[default]
    Consensus,
    /// Whatever the estimates add up to.
    None,
    /// This much.
    Total(KilobytesPerSecond),
}

/// A relay's estimate in the previous file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PreviousCapacity {
    /// In bytes of payload per second; above 0.
    pub capacity: f64,
    /// The newest measurement that is in it, in Unix seconds.
    pub measured_at: u64,
}

impl PreviousCapacity {
    /// An estimate in bytes of payload per second, and its newest measurement in
    /// Unix seconds.
    pub const fn new(capacity: f64, measured_at: u64) -> Self {
        Self {
            capacity,
            measured_at,
        }
    }
}

/// From what a relay has proven to the estimate of its capacity.
///
/// With P proven, O claimed, κ and r of the [`Bound`], the estimate is
/// O within P/κ and P/(κ(1 − r)). All of it is written as payload here, that is
/// times κ, which is the same for all relays. Where others share the relay's machine, only its
/// share of it counts of P and O ([`MachineShare`]). Of what O may raise, no more counts than
/// [`Bound::lift`] says that clients took, unless the best that the relay has shown is
/// a lower bound; and nothing if no two measurements support P.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CapacitySteps {
    /// P, before others on the same machine come in.
    pub proven: Proven,
    /// The part that counts of it, if others share the relay's machine.
    pub machine: Option<MachineShare>,
    /// O, the smallest of observed bandwidth, burst and rate, as the descriptor
    /// has it; 0 if it is not known.
    pub claimed: BytesPerSecond,
    /// κ and r.
    pub bound: Bound,
    /// The most that O can raise the estimate to, in bytes of payload per second.
    pub ceiling: f64,
    /// The estimate, in bytes of payload per second.
    pub estimate: f64,
    /// The estimate before, if there is one.
    pub previous: Option<PreviousCapacity>,
    /// Measurements that are newer than that.
    pub new_measurements: u64,
    /// The smoothed estimate, in bytes of payload per second: what the next
    /// file goes on from.
    pub smoothed: f64,
    /// The newest measurement, in Unix seconds.
    pub measured_at: u64,
}

impl CapacitySteps {
    /// The steps of a relay; none if it has proven nothing.
    pub(crate) fn new(
        relay: &RelayAggregate,
        bound: Bound,
        options: &CapacityOptions,
    ) -> Option<Self> {
        let proven = relay.proven?;
        let claimed = claimed(relay).1;
        // Each of them may claim the whole line, and show it.
        let share = relay.machine.map_or(1.0, |machine| machine.share);
        let rate = proven.rate * share;
        let ceiling = if !proven.supported {
            rate
        } else if proven.at_least {
            rate * bound.factor()
        } else {
            rate * bound.lift()
        };
        let payload = claimed.value() as f64 * bound.payload_share * share;
        let estimate = payload.min(ceiling).max(rate);
        let measured_at = relay.last_measured.unwrap_or_default().as_secs();
        // An estimate of the future would never be moved.
        let previous = options.previous.get(&relay.fingerprint).copied();
        let previous = previous.filter(|one| one.measured_at <= measured_at && one.capacity > 0.0);
        let new = |one: &PreviousCapacity| {
            let known = (relay.times).partition_point(|time| time.as_secs() <= one.measured_at);
            relay.times.len() - known
        };
        let new_measurements = previous.as_ref().map_or(relay.times.len(), new);
        let smoothed = previous.map_or(estimate, |one| {
            let kept = (1.0 - options.smoothing).powi(new_measurements.try_into().unwrap_or(9999));
            estimate * (one.capacity / estimate).powf(kept)
        });
        Some(Self {
            proven,
            machine: relay.machine,
            claimed,
            bound,
            ceiling,
            estimate,
            previous,
            new_measurements: new_measurements as u64,
            smoothed,
            measured_at,
        })
    }
}

/// The worth of a weight in the consensus, in estimates: the median over the
/// relays that have both. 1 if none has.
pub(crate) fn worth_of_consensus<'r>(
    estimates: impl Iterator<Item = (f64, &'r RelayAggregate)>,
) -> f64 {
    let worth = estimates.filter_map(|(estimate, relay)| {
        let weight = measured_weight(relay)?;
        Some(estimate / weight)
    });
    let worth = crate::statistics::sorted(worth.collect());
    worth.get(worth.len() / 2).copied().unwrap_or(1.0)
}

/// A relay's weight in the consensus, in bytes per second, if scanners measured it.
fn measured_weight(relay: &RelayAggregate) -> Option<f64> {
    let weight = relay
        .consensus_weight
        .filter(|_| relay.unmeasured == Some(false))?;
    Some(weight.to_bytes().value() as f64).filter(|&weight| weight > 0.0)
}

impl Normalisation {
    /// The factor from values after the limit to weights in bytes per second.
    pub(crate) fn factor(self, relays: &[ScaledRelay]) -> f64 {
        let (mut all, mut measured, mut weighed) = (0_usize, 0_usize, 0.0);
        let (mut ours, mut total) = (0.0, 0.0);
        for relay in relays {
            let Answer::Weight(steps) = &relay.answer else {
                continue;
            };
            all += 1;
            total += steps.limited;
            if let Some(weight) = measured_weight(&relay.aggregate) {
                measured += 1;
                weighed += weight;
                ours += steps.limited;
            }
        }
        let factor = match self {
            Self::None => 1.0,
            Self::Total(wanted) => wanted.to_bytes().value() as f64 / total,
            // The sum of a few says little of the others.
            Self::Consensus if measured * 2 <= all => 1.0,
            Self::Consensus => weighed / ours,
        };
        if factor.is_finite() && factor > 0.0 {
            factor
        } else {
            1.0
        }
    }
}
