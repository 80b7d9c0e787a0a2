//! Why a relay has its weight, or none.

use bw_file::Fingerprint;
use bw_results::{OutcomeSummary, SummaryResult, Verdict};
use serde::Serialize;

use crate::aggregate::{AggregateOptions, RelayAggregate};
use crate::reason::Reason;
use crate::scale::{Method, Scaled};
use crate::torflow::RelayClass;

/// What became of one outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Use {
    /// Its rates count.
    Counted,
    /// It failed, and the failure is charged to the relay.
    Failed,
    /// It failed through somebody else's fault.
    Excused,
    /// Its rate is a lower bound; see [`LowerBoundSteps`](crate::LowerBoundSteps).
    LowerBound,
    /// It gives no rate, so that the relay was measured again.
    Remeasured,
    /// It holds no rate that can be believed.
    NoRate,
    /// All measurements of the relay are too close to each other.
    TooClose,
    /// Too few measurements are left.
    TooFew,
    /// It is too old.
    TooOld,
    /// It is dated ahead of the clock.
    AheadOfClock,
}

impl Use {
    /// Its name in words, with the reason that the verdict gives.
    pub fn in_words(self, verdict: &Verdict) -> String {
        let reason = verdict.reason().unwrap_or("unknown").replace('_', " ");
        match self {
            Self::Counted => "counts".to_owned(),
            Self::LowerBound => format!("lower bound, by the {reason}"),
            Self::Remeasured => format!("measured again: {reason}"),
            Self::Failed => "failed".to_owned(),
            Self::Excused => format!("failed, through the {reason}'s fault"),
            Self::NoRate => "left out: no rate that is believed".to_owned(),
            Self::AheadOfClock => "left out: dated ahead of the clock".to_owned(),
            Self::TooClose => "left out: too close to the others".to_owned(),
            Self::TooFew => "left out: too few of them".to_owned(),
            Self::TooOld => "left out: too old".to_owned(),
        }
    }
}

/// A condition for a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Check {
    /// The condition.
    pub condition: &'static str,
    /// Whether it holds; none if an earlier one does not, so that it does not matter.
    pub holds: Option<bool>,
}

/// A relay's place among others, by falling weight.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Standing {
    /// Its place among all relays with a weight, from 1.
    pub rank: u64,
    /// How many relays have a weight.
    pub of: u64,
    /// Its class.
    pub class: RelayClass,
    /// Its place in its class, from 1.
    pub class_rank: u64,
    /// How many of its class have a weight.
    pub class_of: u64,
    /// Its share of the sum of all weights.
    pub share: f64,
}

impl RelayAggregate {
    /// What became of `outcome`, which is one of those that were aggregated
    /// with `options`.
    pub fn use_of(&self, outcome: &OutcomeSummary, options: &AggregateOptions) -> Use {
        if options.is_ahead(outcome.ended) {
            return Use::AheadOfClock;
        }
        let is_old = options.since.is_some_and(|since| outcome.ended < since);
        let rates = match (outcome.verdict, &outcome.result) {
            (Verdict::Accepted, SummaryResult::Measured(rates)) => rates,
            (Verdict::LowerBound(_), _) if is_old => return Use::TooOld,
            (Verdict::LowerBound(_), _) => return Use::LowerBound,
            (Verdict::Charged, _) => return Use::Failed,
            (Verdict::Excused(_), _) => return Use::Excused,
            _ => return Use::Remeasured,
        };
        if self.counts.too_close > 0 {
            Use::TooClose
        } else if is_old {
            Use::TooOld
        } else if self.counts.too_few > 0 {
            Use::TooFew
        } else if !rates.iter().any(|&rate| self.rate_limit.allows(rate)) {
            Use::NoRate
        } else {
            Use::Counted
        }
    }

    /// The conditions for a weight, in the order in which they are looked at,
    /// up to the first that does not hold. [`Method::Capacity`] asks for no
    /// descriptor.
    pub fn checks(&self, method: Method) -> Vec<Check> {
        let failed = match self.verdict {
            Err(Reason::NoDescriptor) if !method.needs_descriptor() => usize::MAX,
            Ok(()) => usize::MAX,
            Err(Reason::NotInConsensus) => 0,
            Err(Reason::Authority) => 1,
            Err(Reason::NotTried | Reason::AheadOfClock { .. }) => 2,
            Err(Reason::OnlyFailures { .. } | Reason::Excused { .. }) => 3,
            Err(Reason::TooClose { .. }) => 4,
            Err(Reason::TooOld { .. }) => 5,
            Err(Reason::TooFew { .. }) => 6,
            Err(Reason::NoRate | Reason::Implausible { .. }) => 7,
            Err(Reason::ImpossibleDescriptor { .. }) => 8,
            Err(Reason::NoDescriptor) => 9,
        };
        let mut conditions = vec![
            "in the consensus",
            "not a directory authority",
            "tried in the days that are looked at",
            "measured at least once",
            "measured at times far enough apart",
            "measured recently enough",
            "measured often enough",
            "a rate that can be believed",
            "no impossible number in its descriptor",
        ];
        if method.needs_descriptor() {
            conditions.push("an observed bandwidth is known");
        }
        let conditions = conditions.into_iter();
        conditions
            .enumerate()
            .map(|(index, condition)| Check {
                condition,
                holds: (index <= failed).then_some(index < failed),
            })
            .collect()
    }
}

impl Scaled {
    /// A relay's place among the others; none if it has no weight.
    pub fn standing(&self, fingerprint: &Fingerprint) -> Option<Standing> {
        let own = self.relay(fingerprint)?;
        let weight = own.answer.weight()?;
        let class = RelayClass::from(own.aggregate.flags);
        let mut standing = Standing {
            rank: 1,
            of: 0,
            class,
            class_rank: 1,
            class_of: 0,
            share: 0.0,
        };
        let mut total = 0_u64;
        for relay in &self.relays {
            let Some(other) = relay.answer.weight() else {
                continue;
            };
            let ahead = u64::from(other > weight);
            standing.of += 1;
            standing.rank += ahead;
            if RelayClass::from(relay.aggregate.flags) == class {
                standing.class_of += 1;
                standing.class_rank += ahead;
            }
            total = total.saturating_add(other.value());
        }
        standing.share = weight.value() as f64 / total.max(1) as f64;
        Some(standing)
    }
}
