//! What the end of a measurement means for its relay.

use std::time::Duration;

use bw_file::Fingerprint;
use bw_results::{Attempt, Blame, Failure, FailureKind, Measurement, Outcome, Stage};

use super::capacity::Expectation;
use super::opinion::{Opinions, Verdict};
use super::{Ended, RunId, Running, Scheduler};
use crate::{HelperPolicy, TokenBucket};

/// How long a relay that failed is left alone at first; doubled each time.
const BACK_OFF: Duration = Duration::from_secs(2);
/// How long at most.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);
/// How much of what its helpers are expected to carry a target may take before
/// it seems that they, not it, limit the rate.
const CEILING: f64 = 0.92;

impl<P: HelperPolicy> Scheduler<P> {
    /// Takes note of what came of a measurement, which the scanner's own link
    /// held back to its end if `held`.
    pub fn end(&mut self, id: RunId, now: Duration, outcome: Outcome, held: bool) -> Ended {
        let Some(running) = self.running.remove(&id) else {
            return control(outcome);
        };
        let target = running.assignment.target.fingerprint;
        let limiter = self.limiter(&running, &outcome, held);
        self.rooms.free_target(&target);
        for share in &running.shares {
            self.rooms.help(&share.helper, false);
            self.rooms.reserve(&share.helper, -share.reserved);
            self.rooms.load(&share.helper, -share.load);
        }
        self.destinations.end(running.destination, running.reserved);
        let bytes = match &outcome {
            Outcome::Measured(measurement) => measurement.bytes(),
            Outcome::Failed(failure) => failure.bytes,
        };
        if self.limits.bytes_per_day.is_some() {
            self.spent.push_back((now, bytes));
        }
        match outcome {
            Outcome::Measured(measurement) => self.measured(running, measurement, limiter, now),
            Outcome::Failed(failure) => self.failed(running, failure, now),
        }
    }

    /// Whether the token bucket of `target` is what limits it to `rate`.
    pub(super) fn is_own_limit(&self, target: &Fingerprint, rate: f64) -> bool {
        let descriptor = self
            .snapshot
            .relay(target)
            .and_then(|relay| relay.descriptor);
        descriptor.is_some_and(|descriptor| TokenBucket::from(&descriptor).explains(rate))
    }

    /// Who seems to have limited a measurement, if not its target. To be asked before
    /// what it takes of its helpers is given back.
    fn limiter(&self, running: &Running, outcome: &Outcome, held: bool) -> Option<Blame> {
        let Outcome::Measured(measurement) = outcome else {
            return None;
        };
        if held {
            return Some(Blame::Scanner);
        }
        let Attempt {
            target, helpers, ..
        } = &measurement.attempt;
        let shares = running.shares.iter();
        let offered: f64 = shares
            .filter(|share| helpers.contains(&share.helper))
            .map(|share| self.rooms.offered(&share.helper, share.load))
            .sum();
        let rate = rate_of(measurement);
        let crowded = rate >= CEILING * offered && !self.is_own_limit(&target.fingerprint, rate);
        crowded.then_some(Blame::Helper)
    }

    fn measured(
        &mut self,
        running: Running,
        measurement: Measurement,
        limiter: Option<Blame>,
        now: Duration,
    ) -> Ended {
        let target = running.assignment.target.fingerprint;
        let rate = rate_of(&measurement);
        let promise = self
            .snapshot
            .relay(&target)
            .map(|relay| Expectation::of(relay, 1.0));
        let ratio = promise
            .filter(|_| limiter != Some(Blame::Scanner))
            .map(|promise| rate / promise.middle());
        self.health.worked();
        self.destinations
            .succeeded(running.destination, now, measurement.bytes(), ratio);
        if let Some(ratio) = ratio {
            self.scale.add(ratio);
        }
        let Some((turn, mut pending)) = running.pending else {
            return control(Outcome::Measured(measurement));
        };
        let promised = promise.map_or(0.0, |promise| promise.low * self.scale.get());
        match pending
            .opinions
            .judge(measurement.clone(), rate, limiter, promised)
        {
            Verdict::Accept {
                measurement,
                rate,
                slow,
            } => {
                slow.iter().for_each(|helper| self.rooms.strike(helper));
                self.remember(target, rate);
                let position = measurement.attempt.position;
                let further = self.limits.placement.then(position);
                if let Some(positions) = further {
                    pending.positions = positions;
                    pending.unfit_since = None;
                    pending.opinions = Opinions::new(Some(rate));
                    self.queue.insert(turn, pending);
                }
                Ended {
                    outcome: Outcome::Measured(*measurement),
                    settled: further.is_none(),
                    is_control: false,
                }
            }
            Verdict::Again(kind, detail) => {
                if let Some(mut expected) = self.rooms.expectation(&target)
                    && kind == FailureKind::Limited
                {
                    expected.low = expected.low.max(rate);
                    expected.high = expected.high.max(rate * 2.0);
                    self.rooms.expect(&target, expected);
                } else {
                    pending.avoid.extend(&measurement.attempt.helpers);
                }
                pending.unfit_since = None;
                self.queue.insert(turn, pending);
                let bytes = measurement.bytes();
                let (stage, blame) = (Stage::Transfer, limiter.unwrap_or(Blame::Helper));
                let mut failure = Failure::new(
                    measurement.attempt,
                    measurement.ended,
                    stage,
                    kind,
                    blame,
                    detail,
                );
                failure.timings = measurement.timings;
                failure.bytes = bytes;
                Ended {
                    outcome: Outcome::Failed(failure),
                    settled: false,
                    is_control: false,
                }
            }
        }
    }

    fn failed(&mut self, running: Running, failure: Failure, now: Duration) -> Ended {
        let Some((turn, mut pending)) = running.pending else {
            self.health.control_failed(Some(&failure), now);
            return control(Outcome::Failed(failure));
        };
        self.health.failed(&failure);
        // Only what is behind the circuit can be the destination's fault.
        let excused = failure.stage >= Stage::Begin
            && self
                .destinations
                .failed(running.destination, now, failure.bytes, &mut self.rng);
        pending.avoid.extend(&failure.attempt.helpers);
        pending.unfit_since = None;
        pending.failures += u32::from(!excused);
        // A helper that has just left the consensus is no reason.
        let gone = failure.kind == FailureKind::UnknownRelay && failure.blame == Blame::Target;
        let before = *pending.before.get_or_insert(self.health.count());
        // It has answered: a relay that clients keep busy is worth more tries.
        pending.answered |= failure.stage >= Stage::Begin;
        let times = if pending.answered { 2 } else { 1 };
        let given_up = pending.failures >= self.limits.attempts.saturating_mul(times);
        let tells = self.health.tells(before);
        if given_up && !tells {
            self.health.doubt();
        }
        let settled = gone || (given_up && tells);
        if !settled {
            let times = pending.failures.saturating_sub(1).min(10);
            let back_off = (BACK_OFF * 2_u32.pow(times)).min(LONGEST_BACK_OFF);
            pending.not_before = now + back_off;
            self.queue.insert(turn, pending);
        }
        Ended {
            outcome: Outcome::Failed(failure),
            settled,
            is_control: false,
        }
    }
}

/// What a measurement found, in bytes per second.
fn rate_of(measurement: &Measurement) -> f64 {
    measurement.rates().next().unwrap_or(0.0)
}

/// The end of a measurement that only had to show whether anything works.
const fn control(outcome: Outcome) -> Ended {
    Ended {
        outcome,
        settled: false,
        is_control: true,
    }
}
