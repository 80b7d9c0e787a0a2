//! From a network's figures and a relay's measurements to its value.

use bw_file::{BytesPerSecond, KilobytesPerSecond};

use crate::aggregate::{Aggregates, RelayAggregate};
use crate::bound::Bound;
use crate::capacity::{CapacitySteps, worth_of_consensus};
use crate::censored::LowerBoundSteps;
use crate::reason::Reason;
use crate::scale::{Answer, Explanation, Method, NetworkFigures, ScaleOptions};
use crate::statistics::Statistics;
use crate::torflow::{PidSteps, PidVote, Torflow, TorflowRelay};

/// One method with all that it needs to know of the whole network.
pub(crate) struct Formula<'a> {
    options: &'a ScaleOptions,
    network: &'a NetworkFigures,
    controller: Option<Torflow>,
    /// The newest measurement, in Unix seconds.
    pub(crate) newest: u64,
    /// The worth of a byte of a weight in the consensus, in values.
    worth: f64,
}

impl<'a> Formula<'a> {
    pub(crate) fn new(
        aggregates: &Aggregates,
        options: &'a ScaleOptions,
        network: &'a NetworkFigures,
    ) -> Self {
        let measured = aggregates.in_consensus().filter_map(|r| r.last_measured);
        let mut formula = Self {
            options,
            network,
            controller: None,
            newest: measured.max().unwrap_or_default().as_secs(),
            worth: 1.0,
        };
        match options.method {
            Method::TorflowPid => {
                let compared = aggregates.in_consensus();
                let compared = compared.filter(|relay| options.method.compares(relay));
                let relays = compared.filter_map(|relay| {
                    Some(torflow_relay(relay, relay.statistics?, network.bound))
                });
                let wgd = f64::from(aggregates.guard_exit_damping) / 10_000.0;
                let relays: Vec<_> = relays.collect();
                formula.controller = Some(Torflow::new(options.torflow, wgd, &relays));
            }
            Method::Capacity => {
                let exact = aggregates.in_consensus().filter(|r| !r.rates.is_empty());
                let exact = exact.filter(|relay| options.method.refuses(relay).is_none());
                formula.worth = worth_of_consensus(
                    exact.filter_map(|relay| Some((formula.capacity(relay)?.smoothed, relay))),
                );
            }
            _ => {}
        }
        formula
    }

    /// The answer for one relay before the limit.
    pub(crate) fn answer(&self, relay: &RelayAggregate) -> Answer {
        if let Some(reason) = self.options.method.refuses(relay) {
            return Answer::Excluded(reason);
        }
        let bound = relay.lower_bound.filter(|_| relay.statistics.is_none());
        let alone = || Statistics::new(vec![bound?.rate]);
        let Some(statistics) = relay.statistics.or_else(alone) else {
            return Answer::Excluded(Reason::NoRate);
        };
        let mut steps = explain(relay, statistics, self.network);
        if let Some(pid) = self.vote(relay, statistics) {
            steps.unlimited = pid.value;
            steps.pid = Some(pid).filter(|_| bound.is_none());
        }
        if let Some(capacity) = self.capacity(relay) {
            steps.unlimited = capacity.smoothed;
            steps.capacity = Some(capacity);
        }
        if let Some(bound) = bound {
            let censored = LowerBoundSteps::new(relay, bound, steps.unlimited, self.worth);
            steps.unlimited = censored.value();
            steps.lower_bound = Some(censored);
        }
        Answer::Weight(steps)
    }

    fn capacity(&self, relay: &RelayAggregate) -> Option<CapacitySteps> {
        let bound = (self.network.bound).filter(|_| self.options.method == Method::Capacity)?;
        CapacitySteps::new(relay, bound, &self.options.capacity)
    }

    fn vote(&self, relay: &RelayAggregate, statistics: Statistics) -> Option<PidSteps> {
        let controller = self.controller.as_ref()?;
        // A vote of the future would be taken for newer than every measurement.
        let previous: Option<&PidVote> = self.options.previous.get(&relay.fingerprint);
        let previous = previous.filter(|vote| vote.measured_at <= self.newest);
        let relay = torflow_relay(relay, statistics, self.network.bound);
        Some(controller.vote(&relay, previous))
    }
}

/// The input of Torflow's controller for one relay.
fn torflow_relay(
    relay: &RelayAggregate,
    statistics: Statistics,
    bound: Option<Bound>,
) -> TorflowRelay {
    let measured_at = relay.last_measured.unwrap_or_default().as_secs();
    let mut torflow = TorflowRelay::new(
        relay.flags.into(),
        statistics.mean.value() as f64,
        statistics.filtered.value() as f64,
        measured_at,
    );
    torflow.circuit_failure_rate = relay.counts.circuit_failure_rate();
    let descriptor = relay.descriptor.filter(|_| relay.verdict.is_ok());
    torflow.descriptor = descriptor.map_or(0.0, |facts| {
        let claimed = facts.observed.min(facts.average).value() as f64;
        believed(relay, claimed, bound)
    });
    torflow.consensus = relay
        .consensus_weight
        .map_or(0.0, |weight| weight.to_bytes().value() as f64);
    torflow
}

/// The part that counts of a bandwidth that a relay claims.
fn believed(relay: &RelayAggregate, claimed: f64, bound: Option<Bound>) -> f64 {
    match (bound, relay.proven) {
        (Some(bound), Some(proven)) => claimed.min(bound.ceiling(&proven)),
        _ => claimed,
    }
}

/// A relay's own claim: its observed bandwidth, the last or, if that is
/// 0, the mean; and the smallest of that, burst and rate. 0 without a descriptor.
pub(crate) fn claimed(relay: &RelayAggregate) -> (BytesPerSecond, BytesPerSecond) {
    let zero = BytesPerSecond::new(0);
    let Some(facts) = relay.descriptor else {
        return (zero, zero);
    };
    let observed = match facts.observed {
        none if none == zero => relay.observed_mean.unwrap_or(zero),
        observed => observed,
    };
    (observed, observed.min(facts.burst).min(facts.average))
}

/// The steps as far as they concern this relay alone.
fn explain(
    relay: &RelayAggregate,
    statistics: Statistics,
    network: &NetworkFigures,
) -> Explanation {
    let ratio = |value: BytesPerSecond, mean: f64| {
        if mean > 0.0 {
            value.value() as f64 / mean
        } else {
            0.0
        }
    };
    let stream_ratio = ratio(statistics.mean, network.mean);
    let filtered_ratio = ratio(statistics.filtered, network.filtered_mean);
    let (observed, advertised) = claimed(relay);
    let believed = believed(relay, advertised.value() as f64, network.bound);
    let ratio = stream_ratio.max(filtered_ratio);
    let median = statistics.median.value() as f64;
    let rate = relay.descriptor.map(|facts| facts.average.value() as f64);
    let unlimited = match network.method {
        Method::Torflow | Method::TorflowPid => ratio * believed,
        Method::Sbws => (median * network.factor).min(rate.unwrap_or(f64::INFINITY)),
        Method::Linear => median * network.factor,
        Method::Raw | Method::Capacity => median,
    };
    Explanation {
        statistics,
        stream_ratio,
        filtered_ratio,
        ratio,
        observed,
        advertised,
        believed,
        unlimited,
        limited: unlimited,
        is_limited: false,
        pid: None,
        capacity: None,
        lower_bound: None,
        weight: KilobytesPerSecond::new(1),
    }
}
