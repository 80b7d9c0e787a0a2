//! True if a file is fit to be published in place of the one before.

use std::time::Duration;

use bw_results::UnixMillis;
use serde::{Serialize, Serializer};

use crate::previous::PreviousFile;
use crate::scale::{Answer, Scaled};

/// Conditions that a file must meet.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SanityLimits {
    /// The least share of the consensus's weight that the relays with a weight
    /// have; 0.5.
    pub min_weight_share: f64,
    /// The largest factor between the sum of all weights and that of the
    /// previous file, either way; 2.
    pub max_total_change: f64,
    /// The largest factor between the sum of the weights and that of the same
    /// relays in the consensus, either way; 4.
    pub max_total_against_consensus: f64,
    /// From which factor on a relay's weight has changed, either way; 5.
    pub relay_change: f64,
    /// The largest share of relays whose weight may have changed; 0.2.
    pub max_changed_share: f64,
    /// The largest share of relays of whose results half or more are dated ahead of the
    /// clock; 0.1. A few are wrong records; many, a wrong clock.
    pub max_ahead_share: f64,
    /// The largest age of the newest measurement; 36 hours. In seconds when serialised.
    #[serde(serialize_with = "seconds")]
    pub max_age: Duration,
}

impl Default for SanityLimits {
    fn default() -> Self {
        Self {
            min_weight_share: 0.5,
            max_total_change: 2.0,
            max_total_against_consensus: 4.0,
            relay_change: 5.0,
            max_changed_share: 0.2,
            max_ahead_share: 0.1,
            max_age: Duration::from_secs(36 * 3600),
        }
    }
}

/// The figures that were looked at, and what is wrong with them.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Sanity {
    /// Relays with a weight, over those of the consensus that could have one.
    pub relay_share: f64,
    /// Their share of the consensus's weight; none if it has no weights.
    pub weight_share: Option<f64>,
    /// The sum of all weights over that of the previous file.
    pub total_change: Option<f64>,
    /// The sum of the weights over that of the same relays in the consensus:
    /// of those whose weight there comes from scanners.
    pub total_against_consensus: Option<f64>,
    /// The share of relays in both files whose weight has changed.
    pub changed_share: Option<f64>,
    /// The share of relays of whose results half or more are dated ahead of the clock.
    pub ahead_share: f64,
    /// The age of the newest measurement; none without one. In seconds when serialised.
    #[serde(serialize_with = "optional_seconds")]
    pub age: Option<Duration>,
    /// The conditions that do not hold; none if the file is fit.
    pub problems: Vec<SanityProblem>,
}

/// Why a file is not fit to be published.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, thiserror::Error)]
#[serde(tag = "problem", rename_all = "snake_case")]
#[non_exhaustive]
pub enum SanityProblem {
    /// Too few relays for a file to vote with, and the previous one has votes.
    #[error(
        "only {eligible} relays have a weight ({minimum} are needed), while the previous file is voted with"
    )]
    FewRelays {
        /// Their number.
        eligible: u64,
        /// The least number.
        minimum: u64,
    },
    /// The fast relays are missing.
    #[error("relays with only {:.0} % of the consensus's weight have one (at least {:.0} %)", share * 100.0, limit * 100.0)]
    LittleWeight {
        /// Their share.
        share: f64,
        /// The limit.
        limit: f64,
    },
    /// The sum jumped.
    #[error(
        "the sum of all weights is {factor:.2} times that of the previous file (at most {limit} times, either way)"
    )]
    TotalChanged {
        /// The factor.
        factor: f64,
        /// The limit.
        limit: f64,
    },
    /// The sum is far from what is in use.
    #[error(
        "the sum of the weights is {factor:.2} times that of the same relays in the consensus (at most {limit} times, either way)"
    )]
    FarFromConsensus {
        /// The factor.
        factor: f64,
        /// The limit.
        limit: f64,
    },
    /// Many relays jumped.
    #[error("the weight of {:.0} % of the relays has changed more than {factor} times (at most {:.0} % may)", share * 100.0, limit * 100.0)]
    ManyChanged {
        /// Their share.
        share: f64,
        /// The factor from which a relay has changed.
        factor: f64,
        /// The limit.
        limit: f64,
    },
    /// The clock is behind that of the scanners.
    #[error(
        "half of the results of {:.0} % of the relays or more are dated ahead of now (at most {:.0} % may): \
         this machine's clock is behind, or that of a scanner was ahead",
        share * 100.0, limit * 100.0
    )]
    AheadOfClock {
        /// Their share.
        share: f64,
        /// The limit.
        limit: f64,
    },
    /// The scanner has stopped.
    #[error("the newest measurement is {} hours old (at most {} hours)", age.as_secs() / 3600, limit.as_secs() / 3600)]
    Old {
        /// Its age. In seconds when serialised.
        #[serde(serialize_with = "seconds")]
        age: Duration,
        /// The limit. In seconds when serialised.
        #[serde(serialize_with = "seconds")]
        limit: Duration,
    },
}

impl Scaled {
    /// Looks at the file that would be made `now`, beside the one in use.
    pub fn sanity(
        &self,
        previous: Option<&PreviousFile>,
        now: UnixMillis,
        limits: &SanityLimits,
    ) -> Sanity {
        let network = &self.network;
        let mut weight = Totals::default();
        let mut consensus_total = 0.0;
        let mut measured_weight = Totals::default();
        for relay in &self.relays {
            let in_consensus = relay.aggregate.consensus_weight;
            let in_consensus = in_consensus.map_or(0.0, |weight| weight.value() as f64);
            if !relay.aggregate.flags.authority {
                consensus_total += in_consensus;
            }
            if let Answer::Weight(steps) = &relay.answer {
                let value = steps.weight.value() as f64;
                weight.add(value, in_consensus);
                if relay.aggregate.unmeasured == Some(false) && in_consensus > 0.0 {
                    measured_weight.add(value, in_consensus);
                }
            }
        }
        // A clock that was ahead for an hour and was set right stops nothing.
        let ahead = self.relays.iter().filter(|relay| {
            let counts = &relay.aggregate.counts;
            counts.ahead > 0 && counts.ahead >= counts.attempts()
        });
        let ahead = ahead.count();
        let newest = self.relays.iter().filter_map(|r| r.aggregate.last_measured);
        let age = newest.max().map(|newest| now.since(newest));
        let mut sanity = Sanity {
            relay_share: network.eligible as f64 / network.consensus_relays.max(1) as f64,
            weight_share: (consensus_total > 0.0).then(|| weight.consensus / consensus_total),
            total_change: None,
            // With few of them, their sum says little of the others.
            total_against_consensus: (measured_weight.relays * 2 > weight.relays)
                .then(|| measured_weight.ours / measured_weight.consensus),
            changed_share: None,
            ahead_share: ahead as f64 / network.consensus_relays.max(1) as f64,
            age,
            problems: Vec::new(),
        };
        if let Some(previous) = previous {
            self.compare(previous, limits, weight.ours, &mut sanity);
        }
        sanity.judge(self, previous, limits);
        sanity
    }

    fn compare(
        &self,
        previous: &PreviousFile,
        limits: &SanityLimits,
        total: f64,
        sanity: &mut Sanity,
    ) {
        let voted = previous.relays.values().filter(|relay| relay.voted);
        let before: f64 = voted.map(|relay| relay.weight.value() as f64).sum();
        // What is left of a damaged file has no sum to compare with.
        if before > 0.0 && previous.damage().is_none() {
            sanity.total_change = Some(total / before);
        }
        let (mut both, mut changed) = (0_u64, 0_u64);
        for relay in &self.relays {
            let (Some(now), Some(before)) = (
                relay.answer.weight(),
                previous.relays.get(&relay.aggregate.fingerprint),
            ) else {
                continue;
            };
            if before.voted {
                both += 1;
                let factor = now.value() as f64 / before.weight.value().max(1) as f64;
                changed += u64::from(is_beyond(factor, limits.relay_change));
            }
        }
        if both > 0 {
            sanity.changed_share = Some(changed as f64 / both as f64);
        }
    }
}

#[derive(Default)]
struct Totals {
    relays: u64,
    ours: f64,
    consensus: f64,
}

impl Totals {
    fn add(&mut self, ours: f64, consensus: f64) {
        self.relays += 1;
        self.ours += ours;
        self.consensus += consensus;
    }
}

impl Sanity {
    /// Returns true if nothing is wrong.
    pub fn is_fit(&self) -> bool {
        self.problems.is_empty()
    }

    fn judge(&mut self, scaled: &Scaled, previous: Option<&PreviousFile>, limits: &SanityLimits) {
        let network = &scaled.network;
        if let (Some(age), limit) = (self.age, limits.max_age)
            && age > limit
        {
            self.problems.push(SanityProblem::Old { age, limit });
        }
        if self.ahead_share > limits.max_ahead_share {
            self.problems.push(SanityProblem::AheadOfClock {
                share: self.ahead_share,
                limit: limits.max_ahead_share,
            });
        }
        if network.under_minimum {
            // Nobody votes with such a file: it does no harm but in the place
            // of one with votes.
            let voted = previous.is_some_and(|file| file.relays.values().any(|r| r.voted));
            if voted {
                self.problems.push(SanityProblem::FewRelays {
                    eligible: network.eligible,
                    minimum: network.minimum,
                });
            }
            return;
        }
        if let (Some(share), limit) = (self.weight_share, limits.min_weight_share)
            && share < limit
        {
            self.problems
                .push(SanityProblem::LittleWeight { share, limit });
        }
        if let (Some(factor), limit) = (self.total_change, limits.max_total_change)
            && is_beyond(factor, limit)
        {
            self.problems
                .push(SanityProblem::TotalChanged { factor, limit });
        }
        if let (Some(factor), limit) = (
            self.total_against_consensus,
            limits.max_total_against_consensus,
        ) && is_beyond(factor, limit)
        {
            self.problems
                .push(SanityProblem::FarFromConsensus { factor, limit });
        }
        if let (Some(share), limit) = (self.changed_share, limits.max_changed_share)
            && share > limit
        {
            let factor = limits.relay_change;
            self.problems.push(SanityProblem::ManyChanged {
                share,
                factor,
                limit,
            });
        }
    }
}

/// Returns true if a factor is beyond `limit` either way.
fn is_beyond(factor: f64, limit: f64) -> bool {
    factor > limit || factor * limit < 1.0
}

/// A duration as seconds.
pub(crate) fn seconds<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(duration.as_secs_f64())
}

#[expect(clippy::ref_option, reason = "the form that serde calls")]
fn optional_seconds<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    duration
        .map(|duration| duration.as_secs_f64())
        .serialize(to)
}
