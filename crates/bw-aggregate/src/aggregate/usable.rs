//! The measurements of one relay that count, and the verdict on the relay.

use std::cmp::Ordering::Equal;

use bw_file::{BytesPerSecond, Fingerprint};
use bw_results::UnixMillis;

use super::{AggregateOptions, Collected, Counts, LowerBound, Measured};
use crate::plausible::RateLimit;
use crate::proven::Shown;
use crate::reason::Reason;
use crate::rounding::round_half_even;

/// A relay's outcomes by the rules of [`AggregateOptions`].
pub(super) struct Usable<'a> {
    outcomes: &'a Collected,
    options: &'a AggregateOptions,
    limit: RateLimit,
    /// True if all of its measurements lie within the least separation.
    too_close: bool,
    /// Measurements that are too old.
    old: u64,
    /// The highest lower bound that is neither too old nor beyond belief.
    pub(super) lower_bound: Option<LowerBound>,
    /// The rates that count, ascending.
    pub(super) rates: Vec<f64>,
    /// Rates beyond belief.
    implausible: u64,
}

impl<'a> Usable<'a> {
    pub(super) fn new(
        outcomes: &'a Collected,
        options: &'a AggregateOptions,
        limit: RateLimit,
    ) -> Self {
        let times = || outcomes.measured.iter().map(|one| one.ended);
        let span = times().min().zip(times().max());
        let span = span.map(|(first, last)| last.since(first));
        let too_close = options.min_separation.is_some_and(|separation| {
            outcomes.measured.len() > 1 && span.is_some_and(|span| span <= separation)
        });
        let mut usable = Self {
            outcomes,
            options,
            limit,
            too_close,
            old: 0,
            lower_bound: None,
            rates: Vec::new(),
            implausible: 0,
        };
        usable.old = times().filter(|&at| usable.is_old(at)).count() as u64;
        let bounds = usable.bounds().map(|(bound, _)| bound);
        usable.lower_bound = bounds
            .filter(|bound| limit.allows(bound.rate))
            .max_by(|one, other| one.order().partial_cmp(&other.order()).unwrap_or(Equal))
            .copied();
        let rates = usable.measured().flat_map(|one| &one.rates).copied();
        let (mut believed, others): (Vec<f64>, Vec<f64>) =
            rates.partition(|&rate| limit.allows(rate));
        believed.sort_unstable_by(f64::total_cmp);
        usable.rates = believed;
        usable.implausible = others.len() as u64;
        usable
    }

    fn is_old(&self, at: UnixMillis) -> bool {
        self.options.since.is_some_and(|since| at < since)
    }

    /// Measurements that count.
    fn measured(&self) -> impl Iterator<Item = &'a Measured> {
        let measured = self.outcomes.measured.iter();
        measured.filter(|one| !self.too_close && !self.is_old(one.ended))
    }

    /// Lower bounds that are not too old.
    fn bounds(&self) -> impl Iterator<Item = &'a (LowerBound, Vec<Fingerprint>)> {
        let bounds = self.outcomes.bounds.iter();
        bounds.filter(|(bound, _)| !self.is_old(bound.ended))
    }

    /// All accepted measurements, whether they count or not.
    const fn all(&self) -> u64 {
        self.outcomes.measured.len() as u64
    }

    /// True if nothing but a lower bound is known.
    const fn is_censored(&self) -> bool {
        self.lower_bound.is_some() && self.all() == self.old
    }

    /// Ok if it can be given a weight as far as outcomes tell; exclusion is in sbws's order:
    /// errors, near, old, few.
    pub(super) fn verdict(&self) -> Result<(), Reason> {
        let all = self.all();
        let usable = all - self.old;
        if self.is_censored() {
            return Ok(());
        }
        if all == 0 {
            return Err(self.reason_of_none());
        }
        if self.too_close {
            return Err(Reason::TooClose { measurements: all });
        }
        if usable == 0 {
            return Err(Reason::TooOld { measurements: all });
        }
        let needed = self.options.min_measurements;
        if usable < needed {
            let measurements = usable;
            return Err(Reason::TooFew {
                measurements,
                needed,
            });
        }
        match (self.rates.is_empty(), self.implausible) {
            (false, _) => Ok(()),
            (true, 0) => Err(Reason::NoRate),
            (true, _) => Err(self.implausible()),
        }
    }

    /// The reason why no measurement was accepted.
    fn reason_of_none(&self) -> Reason {
        let outcomes = self.outcomes;
        match (outcomes.newest_failure, outcomes.newest_excused) {
            (Some((_, stage, kind)), _) => Reason::OnlyFailures {
                failures: outcomes.failures.values().sum(),
                stage,
                kind,
            },
            _ if self.bounds().next().is_some() => self.implausible(),
            _ if !outcomes.bounds.is_empty() => Reason::TooOld {
                measurements: outcomes.bounds.len() as u64,
            },
            _ if outcomes.remeasured > 0 => Reason::NoRate,
            (None, Some((_, by))) => Reason::Excused {
                failures: outcomes.excused,
                by,
            },
            _ if outcomes.ahead > 0 => Reason::AheadOfClock {
                outcomes: outcomes.ahead,
            },
            (None, None) => Reason::NotTried,
        }
    }

    fn implausible(&self) -> Reason {
        Reason::Implausible {
            limit: BytesPerSecond::new(round_half_even(self.limit.rate)),
            basis: self.limit.basis,
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let outcomes = self.outcomes;
        let mut counts = Counts {
            measured: self.all(),
            lower_bounds: outcomes.bounds.len() as u64,
            remeasured: outcomes.remeasured,
            excused: outcomes.excused,
            failed: outcomes.failures.values().sum(),
            failures: outcomes.failures.clone().into_iter().collect(),
            ahead: outcomes.ahead,
            too_old: self.old,
            implausible_rates: self.implausible,
            ..Counts::default()
        };
        match self.verdict() {
            Err(Reason::TooClose { measurements }) => {
                (counts.too_close, counts.too_old) = (measurements, 0);
            }
            Err(Reason::TooFew { measurements, .. }) => counts.too_few = measurements,
            _ => {}
        }
        counts
    }

    /// The ends of what counts: measurements, or else lower bounds.
    pub(super) fn times(&self) -> impl Iterator<Item = UnixMillis> {
        let bounds = self.bounds().filter(|_| self.is_censored());
        let bounds = bounds.map(|(bound, _)| bound.ended);
        self.measured().map(|one| one.ended).chain(bounds)
    }

    /// The rates that measurements and believed lower bounds showed, with their helpers.
    pub(super) fn shown(&self) -> Vec<Shown> {
        let measured = self.measured().filter_map(|one| one.shown(self.limit));
        let bounds = self.bounds();
        let bounds = bounds.filter(|(bound, _)| self.limit.allows(bound.rate));
        let bounds = bounds.map(|(bound, helpers)| Shown {
            ended: bound.ended,
            rate: bound.rate,
            is_lower_bound: true,
            helpers: helpers.clone(),
        });
        measured.chain(bounds).collect()
    }
}
