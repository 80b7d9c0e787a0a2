//! Whether a measurement can be believed, or another one has to decide.

use bw_file::Fingerprint;
use bw_results::{Blame, FailureKind, Measurement};

/// How far from an earlier measurement a new one may be, as a factor, before
/// another one is made: relays change, and so does their load.
const CHANGED: f64 = 2.0;
/// Below which share of what consensus and descriptor promise at least a
/// relay's first measurement is doubted.
const POOR: f64 = 0.4;
/// How near, as a factor, two measurements confirm each other.
const AGREE: f64 = 1.25;
/// How many measurements there are at most before the middle one is taken.
const ENOUGH: usize = 3;

/// What this round's measurements of one relay found so far, as long as none
/// of them is believed.
#[derive(Clone, Debug, Default)]
pub(super) struct Opinions {
    /// The rate of the latest scan before this one.
    previous: Option<f64>,
    /// Rates that helpers or the scanner's link may have limited.
    limited: Vec<(f64, Measurement)>,
    /// Rates that contradict what was known.
    disputed: Vec<(f64, Measurement)>,
}

/// What a measurement is worth.
#[derive(Debug)]
pub(super) enum Verdict {
    /// This is the relay's value.
    Accept {
        measurement: Box<Measurement>,
        rate: f64,
        /// Helpers with which it had looked much slower.
        slow: Vec<Fingerprint>,
    },
    /// It has to be measured again, for this reason.
    Again(FailureKind, String),
}

fn near(a: f64, b: f64, factor: f64) -> bool {
    a <= b * factor && b <= a * factor
}

impl Opinions {
    pub(super) fn new(previous: Option<f64>) -> Self {
        Self {
            previous,
            ..Self::default()
        }
    }

    /// How many measurements were not believed.
    fn count(&self) -> usize {
        self.limited.len() + self.disputed.len()
    }

    /// Judges a measurement of `rate`; `limit` is who seems to have limited it
    /// other than the target, `promised` what consensus and descriptor say at least.
    pub(super) fn judge(
        &mut self,
        measurement: Measurement,
        rate: f64,
        limit: Option<Blame>,
        promised: f64,
    ) -> Verdict {
        let last = self.count() + 1 >= ENOUGH;
        if let Some(limit) = limit
            && !last
        {
            self.limited.push((rate, measurement));
            let detail = if limit == Blame::Scanner {
                format!(
                    "{rate:.0} B/s is what others left of the scanner's link; to be measured again"
                )
            } else {
                format!(
                    "{rate:.0} B/s may be all that its helpers carry; to be measured with more of them"
                )
            };
            return Verdict::Again(FailureKind::Limited, detail);
        }
        let (doubtful, known) = match self.previous {
            Some(previous) => (!near(rate, previous, CHANGED), previous),
            None => (rate < promised * POOR, promised),
        };
        let confirmed = self
            .disputed
            .iter()
            .any(|(other, _)| near(*other, rate, AGREE));
        if doubtful && !confirmed && !last {
            self.disputed.push((rate, measurement));
            let detail = format!(
                "{rate:.0} B/s contradicts the {known:.0} B/s known so far; other helpers decide"
            );
            return Verdict::Again(FailureKind::Disputed, detail);
        }
        self.decide(
            measurement,
            rate,
            limit.is_some() || (doubtful && !confirmed),
        )
    }

    /// The relay's value: the newest measurement, or the middle one of those
    /// that contradict each other, or the highest if helpers limited them all.
    fn decide(&mut self, measurement: Measurement, rate: f64, choose: bool) -> Verdict {
        let mut slow = Vec::new();
        let mut all = std::mem::take(&mut self.disputed);
        let limited = std::mem::take(&mut self.limited);
        all.push((rate, measurement));
        let newest = all.len() - 1;
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_by(|&a, &b| all[a].0.total_cmp(&all[b].0));
        let chosen = if choose {
            order[order.len() / 2]
        } else {
            newest
        };
        let value = all[chosen].0;
        for (rate, measurement) in &all {
            if rate * AGREE < value {
                slow.extend(&measurement.attempt.helpers);
            }
        }
        let (mut rate, mut measurement) = all.swap_remove(chosen);
        for (other, of) in limited {
            // What was limited is a lower bound.
            if other > rate {
                (rate, measurement) = (other, of);
            }
        }
        Verdict::Accept {
            measurement: Box::new(measurement),
            rate,
            slow,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bw_results::{Attempt, Position, TargetFacts, Timings, UnixMillis};

    fn with_helper(helper: u8) -> Measurement {
        let target = TargetFacts::new(Fingerprint::from_bytes([1; 20]));
        let mut attempt = Attempt::new(target, Position::Entry, UnixMillis::new(1));
        attempt.helpers = vec![Fingerprint::from_bytes([helper; 20])];
        Measurement::new(attempt, UnixMillis::new(2), Timings::default(), Vec::new())
    }

    /// The rates in turn, with helpers 1, 2, 3: the value and the slow helpers,
    /// or how many were not enough.
    fn judge(previous: Option<f64>, rates: &[f64], ceiling: f64) -> Result<(f64, Vec<u8>), usize> {
        let mut opinions = Opinions::new(previous);
        for (helper, &rate) in (1..).zip(rates) {
            let limit = (rate >= ceiling).then_some(Blame::Helper);
            if let Verdict::Accept { rate, slow, .. } =
                opinions.judge(with_helper(helper), rate, limit, 100.0)
            {
                assert_eq!(usize::from(helper), rates.len(), "decided before the last");
                let slow = slow.iter().map(|id| id.as_bytes()[0]);
                return Ok((rate, slow.collect()));
            }
        }
        Err(rates.len())
    }

    const NO_LIMIT: f64 = 1e9;

    #[test]
    fn what_agrees_with_what_is_known_is_believed() {
        assert_eq!(judge(None, &[80.0], NO_LIMIT), Ok((80.0, vec![])));
        assert_eq!(judge(None, &[900.0], NO_LIMIT), Ok((900.0, vec![])));
        assert_eq!(judge(Some(50.0), &[80.0], NO_LIMIT), Ok((80.0, vec![])));
    }

    #[test]
    fn a_contradiction_needs_another_opinion() {
        assert_eq!(judge(None, &[30.0], NO_LIMIT), Err(1));
        assert_eq!(judge(None, &[30.0, 29.0], NO_LIMIT), Ok((29.0, vec![])));
        assert_eq!(judge(None, &[30.0, 90.0], NO_LIMIT), Ok((90.0, vec![1])));
        assert_eq!(
            judge(Some(50.0), &[120.0, 120.0], NO_LIMIT),
            Ok((120.0, vec![]))
        );
        // All three differ: the middle one, and who was slower is noted.
        assert_eq!(
            judge(Some(50.0), &[5.0, 150.0, 11.0], NO_LIMIT),
            Ok((11.0, vec![1]))
        );
    }

    #[test]
    fn what_helpers_limit_is_a_lower_bound() {
        assert_eq!(judge(None, &[500.0], 450.0), Err(1));
        assert_eq!(judge(None, &[500.0, 400.0], 450.0), Ok((500.0, vec![])));
        assert_eq!(
            judge(None, &[500.0, 600.0, 550.0], 450.0),
            Ok((600.0, vec![]))
        );
    }
}
