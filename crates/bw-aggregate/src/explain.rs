//! Why a relay has its weight, or none.

use std::collections::{BTreeMap, HashMap};

use bw_file::{Fingerprint, KilobytesPerSecond};
use bw_results::{OutcomeSummary, SummaryResult, Verdict};
use serde::Serialize;

use crate::aggregate::{AggregateOptions, RelayAggregate};
use crate::reason::Reason;
use crate::scale::{Method, Scaled};
use crate::torflow::RelayClass;

/// The use of one outcome.
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
    /// True if it holds; none if an earlier one does not, so that it does not matter.
    pub holds: Option<bool>,
}

/// A relay's place among others, by falling weight.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Standing {
    /// Its place among all relays with a weight, from 1.
    pub rank: u64,
    /// The number of relays with a weight.
    pub of: u64,
    /// Its class.
    pub class: RelayClass,
    /// Its place in its class, from 1.
    pub class_rank: u64,
    /// The number of relays of its class with a weight.
    pub class_of: u64,
    /// Its share of the sum of all weights.
    pub share: f64,
}

impl RelayAggregate {
    /// The use of `outcome`, which is one of those that were aggregated
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
    /// A relay's place among the others; none if it has no weight. For many relays,
    /// [`standings`](Self::standings) is faster.
    pub fn standing(&self, fingerprint: &Fingerprint) -> Option<Standing> {
        self.relay(fingerprint)?.answer.weight()?;
        self.standings().remove(fingerprint)
    }

    /// The places of all relays with a weight; equal weights share a place.
    pub fn standings(&self) -> HashMap<Fingerprint, Standing> {
        let mut weights: Vec<_> = self
            .relays
            .iter()
            .filter_map(|relay| {
                let class = RelayClass::from(relay.aggregate.flags);
                Some((relay.answer.weight()?, class, relay.aggregate.fingerprint))
            })
            .collect();
        weights.sort_unstable_by(|one, other| other.cmp(one));
        let total = weights.iter().map(|weight| weight.0.value());
        let total = total.fold(0, u64::saturating_add);
        let mut all = Places::default();
        let mut classes: BTreeMap<RelayClass, Places> = BTreeMap::new();
        let mut standings = HashMap::with_capacity(weights.len());
        for &(weight, class, relay) in &weights {
            let standing = Standing {
                rank: all.next(weight),
                of: weights.len() as u64,
                class,
                class_rank: classes.entry(class).or_default().next(weight),
                class_of: 0,
                share: weight.value() as f64 / total.max(1) as f64,
            };
            standings.insert(relay, standing);
        }
        for standing in standings.values_mut() {
            standing.class_of = classes
                .get(&standing.class)
                .map_or(0, |places| places.given);
        }
        standings
    }
}

/// Gives places by falling weight.
#[derive(Default)]
struct Places {
    given: u64,
    last: Option<(KilobytesPerSecond, u64)>,
}

impl Places {
    fn next(&mut self, weight: KilobytesPerSecond) -> u64 {
        self.given += 1;
        let rank = match self.last {
            Some((last, rank)) if last == weight => rank,
            _ => self.given,
        };
        self.last = Some((weight, rank));
        rank
    }
}
