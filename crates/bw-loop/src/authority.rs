//! Scanners with an authority each, and what authorities make of their votes.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bw_aggregate::{AggregateOptions, Aggregator, Answer, PreviousCapacity, ScaleOptions, scale};
use bw_file::{Fingerprint, KilobytesPerSecond};
use bw_results::{
    Attempt, Measurement, NetworkSnapshot, Outcome, OutcomeSummary, Position, RelayFacts, Slice,
    StopReason, TargetFacts, Timings, Transfer, UnixMillis, Verdict,
};

/// As many days of results as `bwscan generate` uses.
const DAYS: usize = 28;

/// One scanner, its results, and the state of its previous file.
pub(crate) struct Authority {
    options: ScaleOptions,
    results: VecDeque<Vec<OutcomeSummary>>,
    last: BTreeMap<Fingerprint, f64>,
}

impl Authority {
    pub(crate) const fn new(options: ScaleOptions) -> Self {
        Self {
            options,
            results: VecDeque::new(),
            last: BTreeMap::new(),
        }
    }

    /// The last rate that was accepted of this relay.
    pub(crate) fn last(&self, relay: &Fingerprint) -> Option<f64> {
        self.last.get(relay).copied()
    }

    /// The results of one more day.
    pub(crate) fn add(&mut self, results: Vec<OutcomeSummary>, rates: Vec<(Fingerprint, f64)>) {
        self.last.extend(rates);
        self.results.push_back(results);
        if self.results.len() > DAYS {
            self.results.pop_front();
        }
    }

    /// Its votes for each relay of the network, in its order.
    pub(crate) fn vote(&mut self, network: &NetworkSnapshot) -> Vec<Option<KilobytesPerSecond>> {
        let mut aggregator = Aggregator::new(AggregateOptions::default(), network);
        for outcome in self.results.iter().flatten() {
            aggregator.add(outcome.clone());
        }
        let scaled = scale(&aggregator.finish(), &self.options);
        for relay in &scaled.relays {
            let Answer::Weight(steps) = &relay.answer else {
                continue;
            };
            let fingerprint = relay.aggregate.fingerprint;
            if let Some(pid) = &steps.pid {
                self.options.previous.insert(fingerprint, pid.vote);
            }
            if let Some(capacity) = &steps.capacity {
                let previous = PreviousCapacity::new(capacity.smoothed, capacity.measured_at);
                self.options.capacity.previous.insert(fingerprint, previous);
            }
        }
        if scaled.network.under_minimum {
            return vec![None; scaled.relays.len()];
        }
        let weights = scaled.relays.iter().map(|relay| relay.answer.weight());
        weights.collect()
    }
}

/// A measurement as a scanner would keep it.
pub(crate) fn result(
    relay: &RelayFacts,
    helper: Fingerprint,
    ended: UnixMillis,
    rate: f64,
    verdict: Verdict,
) -> OutcomeSummary {
    let mut attempt = Attempt::new(TargetFacts::from(relay), Position::Entry, ended);
    attempt.helpers = vec![helper];
    let slices = vec![Slice::new(Duration::from_secs(1), rate.max(1.0) as u64)];
    let transfer = Transfer::new(slices, 0, StopReason::Complete);
    let measurement = Measurement::new(attempt, ended, Timings::default(), vec![transfer]);
    OutcomeSummary::new(&Outcome::Measured(measurement), verdict)
}

/// The low median of each relay's votes, if at least half of the scanners, but
/// three where there are as many, have one (dir-spec, 3.8: three `Measured=`).
pub(crate) fn median(votes: &[Vec<Option<KilobytesPerSecond>>]) -> Vec<Option<KilobytesPerSecond>> {
    let needed = votes.len().min(3);
    let relays = votes.first().map_or(0, Vec::len);
    let one = |relay: usize| {
        let values = votes.iter().filter_map(|votes| votes[relay]);
        let mut values: Vec<KilobytesPerSecond> = values.collect();
        values.sort_unstable();
        (values.len() >= needed).then(|| values.get((values.len() - 1) / 2).copied())?
    };
    (0..relays).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_three_votes_counts_and_two_of_three_are_too_few() {
        let vote = |weights: &[u64]| {
            let weights = weights
                .iter()
                .map(|&weight| (weight > 0).then_some(KilobytesPerSecond::new(weight)));
            weights.collect::<Vec<_>>()
        };
        let found = median(&[vote(&[1, 5]), vote(&[9, 6]), vote(&[2, 0])]);
        assert_eq!(found, vote(&[2, 0]));
        assert_eq!(median(&[vote(&[4, 0])]), vote(&[4, 0]));
        assert_eq!(median(&[]), []);
    }
}
