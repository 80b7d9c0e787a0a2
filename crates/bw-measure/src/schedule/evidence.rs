//! Verdicts on the records of one relay, made from the records alone.

use bw_file::Fingerprint;
use bw_results::{Blame, Measurement, Remeasure, Verdict};

use crate::RunId;

/// By which factor a rate may be above an earlier one, before another measurement decides:
/// relays grow, and so does what clients leave.
const ROSE: f64 = 2.0;
/// By which factor it may be below: a helper that wants to harm its rivals has to stay within.
const FELL: f64 = 4.0 / 3.0;
/// The largest factor between two measurements that confirm each other.
const AGREE: f64 = 1.25;
/// The number of measurements after which the middle one is taken.
const ENOUGH: usize = 3;
/// The same with those that helpers bounded: each tells what the next one must offer.
const ENOUGH_WITH_BOUND: usize = 6;
/// The part of what its helpers are expected to carry that a target may take before
/// it seems that they, not it, bound the rate.
const CEILING: f64 = 0.92;
/// The same for a rate at which helpers bounded it before: what they offer is a guess, which
/// has been wrong.
const CEILING_AGAIN: f64 = 0.5;

/// The records of one relay in one round, as long as none of them settles it.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    /// The rate that the latest round before found.
    previous: Option<f64>,
    records: Vec<Record>,
    /// The number of times that the link withheld too much.
    pub(super) throttled: u32,
}

/// The part of a record that counts here.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) run: RunId,
    /// Bytes per second.
    pub(super) rate: f64,
    pub(super) helpers: Vec<Fingerprint>,
    /// The one who bounded the rate, if it was not the relay.
    pub(super) bound: Option<Blame>,
}

/// The meaning of a further record.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Judgement {
    pub(super) verdict: Verdict,
    /// Verdicts of earlier records that are other ones now.
    pub(super) revised: Vec<(RunId, Verdict)>,
    /// The relay's rate, or what it carries at least: then it is settled.
    pub(super) value: Option<f64>,
    /// Helpers through which it looked much slower.
    pub(super) slow: Vec<Fingerprint>,
}

impl Judgement {
    const fn again(reason: Remeasure) -> Self {
        Self {
            verdict: Verdict::Remeasure(reason),
            revised: Vec::new(),
            value: None,
            slow: Vec::new(),
        }
    }
}

fn near(a: f64, b: f64) -> bool {
    a <= b * AGREE && b <= a * AGREE
}

impl Evidence {
    pub(super) fn new(previous: Option<f64>) -> Self {
        Self {
            previous,
            ..Self::default()
        }
    }

    /// Takes note of a record without a rate.
    pub(super) fn throttle(&mut self) -> Judgement {
        self.throttled += 1;
        Judgement::again(Remeasure::Throttled)
    }

    /// Takes note of a record of an interrupted scan, which was not believed.
    pub(super) fn recall(&mut self, run: RunId, measurement: &Measurement, verdict: &Verdict) {
        let bound = match verdict {
            Verdict::Remeasure(Remeasure::HelperBound) => Some(Blame::Helper),
            Verdict::Remeasure(Remeasure::DestinationBound) => Some(Blame::Destination),
            _ => None,
        };
        match measurement.rates().next() {
            Some(rate) => self.records.push(Record {
                run,
                rate,
                helpers: measurement.attempt.helpers.clone(),
                bound,
            }),
            None => self.throttled += 1,
        }
    }

    /// The share of what helpers offer above which they seem to bound a `rate`.
    pub(super) fn ceiling(&self, rate: f64) -> f64 {
        let bounded = |one: &Record| one.bound == Some(Blame::Helper) && rate <= one.rate * AGREE;
        if self.records.iter().any(bounded) {
            CEILING_AGAIN
        } else {
            CEILING
        }
    }

    /// Returns true if a further measurement would tell no more.
    fn is_enough(&self) -> bool {
        let bounded = |one: &&Record| one.bound == Some(Blame::Helper);
        let free = self.records.iter().filter(|one| !bounded(one)).count();
        free >= ENOUGH || self.records.len() >= ENOUGH_WITH_BOUND
    }

    /// Judges a further record; a first one below `least` is doubted.
    pub(super) fn judge(&mut self, record: Record, least: f64) -> Judgement {
        let reason = self.doubt(&record, least);
        let is_links = record.bound == Some(Blame::Scanner);
        let newest = self.records.len();
        self.records.push(record);
        let (chosen, verdict) = match reason {
            // It is faster than the link, and will be as long as the link is what it is.
            _ if is_links => (newest, Verdict::LowerBound(Blame::Scanner)),
            None => (newest, Verdict::Accepted),
            Some(reason) if !self.is_enough() => return Judgement::again(reason),
            Some(_) => self.decide(),
        };
        let value = self.records[chosen].rate;
        let slower = self.records.iter().filter(|one| one.rate * AGREE < value);
        Judgement {
            verdict: match reason {
                Some(reason) if chosen != newest => Verdict::Remeasure(reason),
                _ => verdict,
            },
            revised: (chosen != newest)
                .then(|| (self.records[chosen].run, verdict))
                .into_iter()
                .collect(),
            value: Some(value),
            slow: slower.flat_map(|one| one.helpers.clone()).collect(),
        }
    }

    /// Why a record is not believed.
    fn doubt(&self, record: &Record, least: f64) -> Option<Remeasure> {
        match record.bound {
            Some(Blame::Destination) => return Some(Remeasure::DestinationBound),
            Some(_) => return Some(Remeasure::HelperBound),
            None => {}
        }
        let rate = record.rate;
        let carries_more = |one: &Record| one.bound.is_some() && one.rate > rate * AGREE;
        let doubtful = self.records.iter().any(carries_more)
            || match self.previous {
                Some(previous) => rate > previous * ROSE || rate * FELL < previous,
                None => rate < least,
            };
        let mut free = self.records.iter().filter(|one| one.bound.is_none());
        let confirmed = free.any(|one| near(one.rate, rate));
        (doubtful && !confirmed).then_some(Remeasure::Disputed)
    }

    /// Chooses among records that all are in doubt: the middle one of those that nobody bounded, unless
    /// what a bound let pass was more; then that is a lower bound.
    fn decide(&self) -> (usize, Verdict) {
        let rate = |index: &usize| self.records[*index].rate;
        let (mut free, bound): (Vec<usize>, Vec<usize>) =
            (0..self.records.len()).partition(|&index| self.records[index].bound.is_none());
        free.sort_by(|a, b| rate(a).total_cmp(&rate(b)));
        let middle = free.get(free.len() / 2);
        let most = bound.iter().max_by(|a, b| rate(a).total_cmp(&rate(b)));
        match (middle, most) {
            (Some(middle), most) if most.is_none_or(|most| rate(most) <= rate(middle) * AGREE) => {
                (*middle, Verdict::Accepted)
            }
            (_, Some(&most)) => {
                let by = self.records[most].bound.unwrap_or(Blame::Helper);
                (most, Verdict::LowerBound(by))
            }
            (_, None) => (self.records.len() - 1, Verdict::Accepted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(run: u64, rate: f64, bound: Option<Blame>) -> Record {
        Record {
            run: RunId(run),
            rate,
            helpers: vec![Fingerprint::from_bytes([run as u8; 20])],
            bound,
        }
    }

    /// The rates in turn, with helpers 1, 2, 3, those from `ceiling` on bounded by them: the
    /// verdict of each, the value and the slow helpers.
    fn judge(
        previous: Option<f64>,
        rates: &[f64],
        ceiling: f64,
    ) -> (Vec<Verdict>, Option<f64>, Vec<u8>) {
        let mut evidence = Evidence::new(previous);
        let (mut verdicts, mut value, mut slow) = (Vec::new(), None, Vec::new());
        for (run, &rate) in (1..).zip(rates) {
            assert_eq!(value, None, "decided before the last");
            let bound = (rate >= ceiling).then_some(Blame::Helper);
            let judgement = evidence.judge(record(run, rate, bound), 40.0);
            verdicts.push(judgement.verdict);
            for (RunId(run), verdict) in judgement.revised {
                verdicts[run as usize - 1] = verdict;
            }
            value = judgement.value;
            slow = judgement.slow.iter().map(|id| id.as_bytes()[0]).collect();
        }
        (verdicts, value, slow)
    }

    const NO_LIMIT: f64 = 1e9;
    const DISPUTED: Verdict = Verdict::Remeasure(Remeasure::Disputed);
    const HELPERS: Verdict = Verdict::Remeasure(Remeasure::HelperBound);

    #[test]
    fn what_agrees_with_what_is_known_is_believed() {
        let believed = |previous, rate: f64| {
            let one = (vec![Verdict::Accepted], Some(rate), vec![]);
            assert_eq!(judge(previous, &[rate], NO_LIMIT), one);
        };
        believed(None, 80.0);
        believed(None, 900.0);
        believed(Some(50.0), 80.0);
        believed(Some(50.0), 38.0);
    }

    #[test]
    fn a_contradiction_needs_another_opinion() {
        let (verdicts, value, _) = judge(None, &[30.0], NO_LIMIT);
        assert_eq!((verdicts, value), (vec![DISPUTED], None));
        let (verdicts, value, _) = judge(None, &[30.0, 29.0], NO_LIMIT);
        assert_eq!((verdicts[1], value), (Verdict::Accepted, Some(29.0)));
        let (_, value, slow) = judge(None, &[30.0, 90.0], NO_LIMIT);
        assert_eq!((value, slow), (Some(90.0), vec![1]));
        let (_, value, _) = judge(Some(50.0), &[37.0], NO_LIMIT);
        assert_eq!(value, None, "it fell by more than a quarter");
        let (_, value, _) = judge(Some(50.0), &[120.0, 120.0], NO_LIMIT);
        assert_eq!(value, Some(120.0));
        // All three differ: the middle one, and who was slower is noted.
        let (verdicts, value, slow) = judge(Some(50.0), &[5.0, 150.0, 11.0], NO_LIMIT);
        assert_eq!((value, slow), (Some(11.0), vec![1]));
        assert_eq!(verdicts, [DISPUTED, DISPUTED, Verdict::Accepted]);
        let (verdicts, value, _) = judge(Some(50.0), &[11.0, 150.0, 5.0], NO_LIMIT);
        assert_eq!(value, Some(11.0));
        assert_eq!(verdicts, [Verdict::Accepted, DISPUTED, DISPUTED]);
    }

    #[test]
    fn what_helpers_bound_is_no_rate() {
        let (verdicts, value, _) = judge(None, &[500.0, 400.0], 450.0);
        assert_eq!(
            (verdicts, value),
            (vec![HELPERS, Verdict::Accepted], Some(400.0))
        );
        let rates = [500.0, 600.0, 550.0, 580.0, 590.0, 500.0];
        let (verdicts, value, _) = judge(None, &rates, 450.0);
        let mut expected = vec![HELPERS; 6];
        expected[1] = Verdict::LowerBound(Blame::Helper);
        assert_eq!((verdicts, value), (expected, Some(600.0)));
    }

    #[test]
    fn where_helpers_bounded_a_rate_they_have_to_offer_more() {
        let mut evidence = Evidence::new(None);
        assert_eq!(evidence.ceiling(500.0), CEILING);
        evidence.judge(record(1, 500.0, Some(Blame::Helper)), 0.0);
        assert_eq!(evidence.ceiling(450.0), CEILING_AGAIN);
        assert_eq!(evidence.ceiling(620.0), CEILING_AGAIN);
        assert_eq!(
            evidence.ceiling(630.0),
            CEILING,
            "other helpers carried more"
        );
    }

    #[test]
    fn what_is_faster_than_the_link_is_a_lower_bound_at_once() {
        let mut evidence = Evidence::new(Some(900.0));
        assert_eq!(evidence.throttle().value, None);
        let judgement = evidence.judge(record(1, 500.0, Some(Blame::Scanner)), 0.0);
        assert_eq!(judgement.verdict, Verdict::LowerBound(Blame::Scanner));
        assert_eq!((judgement.value, evidence.throttled), (Some(500.0), 1));
    }
}
