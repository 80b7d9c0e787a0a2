//! The meaning of a measurement's end for its relay.

use std::time::Duration;

use bw_file::{BytesPerSecond, Fingerprint};
use bw_results::{
    Blame, Failure, FailureKind, Measurement, Outcome, Remeasure, Slice, Stage, Transfer, Verdict,
};

use super::capacity::{Expectation, Promise, UNKNOWN};
use super::correction::RECENT;
use super::destinations::Suspicion;
use super::evidence::{Evidence, Judgement, Record};
use super::health::Outage;
use super::{Completion, Pending, Priority, RunId, Running, SECOND, Scheduler};
use crate::{Change, HelperPolicy, TokenBucket};

/// The time for which a relay that failed is left alone at first; doubled each time.
const BACK_OFF: Duration = Duration::from_secs(2);
/// The longest such time.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);
/// The attempts that may fail by fault of helpers alone, as a multiple of those that may fail
/// otherwise: a bound on what hostile helpers can cost, and never met where half of all are dead.
const HELPER_FAULTS: usize = 4;
/// The rate that a relay is expected to carry whose measurement the link had to stop, as a multiple of
/// the rate that it had: it may still have grown.
const GREW: f64 = 1.25;

impl<P: HelperPolicy> Scheduler<P> {
    /// Takes note of the record of a measurement.
    pub fn end(&mut self, id: RunId, now: Duration, mut outcome: Outcome) -> Completion {
        self.link.end(id, now);
        let Some(running) = self.running.remove(&id) else {
            return control(outcome);
        };
        let bytes = match &mut outcome {
            Outcome::Measured(measurement) => {
                measurement.offered = running.offered_while(measurement.transfers.first());
                measurement.bytes()
            }
            Outcome::Failed(failure) => failure.bytes,
        };
        self.give_back(&running, &outcome);
        if self.limits.bytes_per_day.is_some() {
            self.spent.push_back((now, bytes));
        }
        match outcome {
            Outcome::Measured(measurement) => self.measured(id, running, measurement, now),
            Outcome::Failed(failure) => self.failed(id, running, failure, now),
        }
    }

    /// Frees what a measurement reserved, and remembers how its helpers did.
    fn give_back(&mut self, running: &Running, outcome: &Outcome) {
        self.reservations
            .free_target(&running.assignment.target.fingerprint);
        self.destinations.end(running.destination, running.reserved);
        for share in &running.shares {
            let helper = &share.helper;
            self.reservations.help(helper, false);
            self.reservations.reserve(helper, -share.reserved);
            match outcome {
                Outcome::Measured(one) if one.attempt.helpers.contains(helper) => {
                    self.reservations.opened(helper, true);
                }
                // Others opened, or it came too late.
                Outcome::Measured(_) if !share.joined => self.reservations.opened(helper, false),
                // Where none of several opens, the target is the likelier cause.
                Outcome::Failed(failure)
                    if failure.stage >= Stage::Extend
                        && (failure.stage == Stage::Transfer || running.shares.len() == 1)
                        && matches!(failure.blame, Blame::Helper | Blame::Path) =>
                {
                    self.reservations.opened(helper, false);
                }
                _ => {}
            }
        }
        let Outcome::Measured(measurement) = outcome else {
            return;
        };
        let helpers = measurement.attempt.helpers.iter();
        for relay in helpers.chain([&running.assignment.target.fingerprint]) {
            self.reservations.works(relay);
        }
        // A mean over all of the transfer, so that no burst counts for much.
        let brought: u64 = running.shares.iter().map(|share| share.brought).sum();
        if let Some(rate) = rate_of(measurement).filter(|_| running.seen >= SECOND) {
            for share in &running.shares {
                let part = share.brought as f64 / brought.max(1) as f64;
                self.reservations.carried(&share.helper, rate * part);
            }
        }
    }

    /// Returns true if the token bucket of `target` is what limits it to `rate`.
    pub(super) fn is_own_limit(&self, target: &Fingerprint, rate: f64) -> bool {
        let descriptor = self
            .snapshot
            .relay(target)
            .and_then(|relay| relay.descriptor);
        descriptor.is_some_and(|descriptor| TokenBucket::from(&descriptor).explains(rate))
    }

    /// The one who bounded the rate of a measurement, if not its target: its helpers, above `ceiling`
    /// of what they offered.
    fn bound(&self, measurement: &Measurement, rate: f64, ceiling: f64) -> Option<Blame> {
        let fact = measurement.transfers.iter().find_map(|one| one.bound);
        let target = &measurement.attempt.target.fingerprint;
        let offered = measurement
            .offered
            .map_or(f64::INFINITY, |rate| rate.value() as f64);
        let crowded = rate >= ceiling * offered && !self.is_own_limit(target, rate);
        fact.or(crowded.then_some(Blame::Helper))
    }

    /// The rate below which a first measurement, of `rate`, is doubted: what is promised says
    /// more, or so few circuits may carry no more.
    fn least(&self, measurement: &Measurement, promise: Option<Promise>, rate: f64) -> f64 {
        let target = &measurement.attempt.target.fingerprint;
        let circuits = measurement.attempt.helpers.len();
        if self.circuits_for(rate) > circuits && !self.is_own_limit(target, rate) {
            return f64::INFINITY;
        }
        let share = self.scale.ratio() * self.scale.poor();
        promise.map_or(0.0, |promise| promise.low * share)
    }

    fn measured(
        &mut self,
        id: RunId,
        running: Running,
        measurement: Measurement,
        now: Duration,
    ) -> Completion {
        let target = running.assignment.target.fingerprint;
        let promise = self.snapshot.relay(&target).and_then(Promise::of);
        let rate = rate_of(&measurement);
        if self.health.worked() {
            self.changes.push(Change::WorksAgain);
        }
        let Some((priority, mut pending)) = running.pending else {
            return control(Outcome::Measured(measurement));
        };
        let judgement = match rate {
            Some(rate) => {
                let least = self.least(&measurement, promise, rate);
                let record = Record {
                    run: id,
                    rate,
                    helpers: measurement.attempt.helpers.clone(),
                    bound: self.bound(&measurement, rate, pending.evidence.ceiling(rate)),
                };
                pending.evidence.judge(record, least)
            }
            None => pending.evidence.throttle(),
        };
        let counts = judgement.value.filter(|_| judgement.verdict.gives_rate());
        let ratio = counts.and_then(|rate| Some(rate / promise?.middle()));
        self.answered(running.destination, now, measurement.bytes(), ratio);
        if let Some(rate) = counts {
            self.scale.add(promise, rate);
        }
        for helper in &judgement.slow {
            self.reservations.strike(helper);
        }
        let settled = match judgement.value {
            Some(rate) => {
                self.remember(target, rate);
                self.go_on(priority, pending, &measurement, rate)
            }
            None => {
                self.expect_more(&measurement, &judgement);
                if judgement.verdict != Verdict::Remeasure(Remeasure::Throttled) {
                    pending.avoid.extend(&measurement.attempt.helpers);
                }
                pending.unfit_since = None;
                self.queue.insert(priority, pending);
                false
            }
        };
        Completion {
            outcome: Outcome::Measured(measurement),
            verdict: judgement.verdict,
            revised: judgement.revised,
            settled,
            is_control: false,
        }
    }

    /// After a value in one position: whether that was all.
    fn go_on(
        &mut self,
        priority: Priority,
        mut pending: Pending,
        measurement: &Measurement,
        rate: f64,
    ) -> bool {
        let further = self.limits.placement.then(measurement.attempt.position);
        if let Some(positions) = further {
            pending.positions = positions;
            pending.unfit_since = None;
            pending.evidence = Evidence::new(Some(rate));
            self.queue.insert(priority, pending);
        }
        further.is_none()
    }

    /// A relay was too fast for its helpers, or for what the link had left.
    fn expect_more(&mut self, measurement: &Measurement, judgement: &Judgement) {
        let Verdict::Remeasure(reason) = judgement.verdict else {
            return;
        };
        let target = measurement.attempt.target.fingerprint;
        let seen = match reason {
            Remeasure::Throttled => GREW * latest_rate(measurement),
            Remeasure::HelperBound => GREW * rate_of(measurement).unwrap_or(0.0),
            _ => return,
        };
        if let Some(expected) = self.reservations.expectation(&target) {
            let middle = expected.middle.max(seen);
            self.reservations
                .expect(&target, Expectation { middle, ..expected });
        }
    }

    /// A relay kept the link waiting and gave nothing: whatever it claims, it does not have the
    /// link's room once more.
    fn expect_less(&mut self, failure: &Failure) {
        if failure.stage < Stage::Begin || failure.bytes > 0 {
            return;
        }
        let target = failure.attempt.target.fingerprint;
        if let Some(expected) = self.reservations.expectation(&target) {
            let middle = expected.middle.min(self.low_default);
            let less = Expectation {
                low: expected.low.min(middle),
                middle,
                spread: expected.spread.max(UNKNOWN),
            };
            self.reservations.expect(&target, less);
        }
    }

    /// A destination was measured against.
    fn answered(&mut self, index: usize, now: Duration, bytes: u64, ratio: Option<f64>) {
        let was_down = self.destinations.succeeded(index, now, bytes, ratio);
        if let Some(destination) = self.destinations.get(index).filter(|_| was_down) {
            self.changes
                .push(Change::DestinationUp(destination.clone()));
        }
    }

    fn failed(
        &mut self,
        id: RunId,
        running: Running,
        failure: Failure,
        now: Duration,
    ) -> Completion {
        let Some((priority, mut pending)) = running.pending else {
            let outage = self.health.control_failed(Some(&failure), now);
            let revised = outage.map(|outage| self.begin_outage(outage, &failure.detail));
            return Completion {
                revised: revised.unwrap_or_default(),
                ..control(Outcome::Failed(failure))
            };
        };
        let (excuse, revised) = self.excuse_of(id, running.destination, &failure, now);
        pending.avoid.extend(&failure.attempt.helpers);
        pending.unfit_since = None;
        let most = HELPER_FAULTS.saturating_mul(self.limits.attempts as usize);
        pending.helper_faults += usize::from(excuse == Some(Blame::Helper));
        let excuse = excuse.filter(|&by| by != Blame::Helper || pending.helper_faults <= most);
        if excuse.is_none() {
            pending.failures.push(id);
            self.expect_less(&failure);
        }
        let settled = self.is_given_up(&mut pending, &failure);
        if !settled {
            let times = pending.failures.len().saturating_sub(1).min(10);
            let back_off = (BACK_OFF * 2_u32.pow(times as u32)).min(LONGEST_BACK_OFF);
            pending.not_before = now + back_off;
            self.queue.insert(priority, pending);
        }
        Completion {
            verdict: excuse.map_or(Verdict::Charged, Verdict::Excused),
            outcome: Outcome::Failed(failure),
            revised,
            settled,
            is_control: false,
        }
    }

    /// The other one who is at fault for a failure, if not its relays, and the verdicts of earlier
    /// failures that are other ones by that.
    fn excuse_of(
        &mut self,
        id: RunId,
        destination: usize,
        failure: &Failure,
        now: Duration,
    ) -> (Option<Blame>, Vec<(RunId, Verdict)>) {
        let own = (failure.blame == Blame::Helper).then_some(Blame::Helper);
        let outage = self.health.failed(id, failure).or(own);
        // Only what is behind the circuit can be the destination's fault.
        if failure.stage < Stage::Begin {
            return (outage, Vec::new());
        }
        let run = (id, now);
        let suspicion = self
            .destinations
            .failed(destination, run, failure.bytes, &mut self.rng);
        match suspicion {
            Suspicion::None => (outage, Vec::new()),
            Suspicion::StillDown => (Some(Blame::Destination), Vec::new()),
            Suspicion::Down(runs) => {
                let url = self.destinations.get(destination).cloned();
                self.changes.extend(url.map(Change::DestinationDown));
                let revised = self.excuse(&runs, Blame::Destination);
                (Some(Blame::Destination), revised)
            }
        }
    }

    /// Nothing works: earlier failures were not their relays'.
    pub(super) fn begin_outage(&mut self, outage: Outage, last: &str) -> Vec<(RunId, Verdict)> {
        self.changes.push(Change::NothingWorks {
            suspect: outage.suspect,
            detail: last.to_owned(),
        });
        self.excuse(&outage.excused, outage.suspect)
    }

    /// Failures that relays were charged with were the fault of `blame`.
    fn excuse(&mut self, runs: &[RunId], blame: Blame) -> Vec<(RunId, Verdict)> {
        let running = self.running.values_mut();
        let running = running.filter_map(|one| Some(&mut one.pending.as_mut()?.1));
        for pending in self.queue.values_mut().chain(running) {
            pending.failures.retain(|run| !runs.contains(run));
        }
        let verdicts = runs.iter().map(|&run| (run, Verdict::Excused(blame)));
        verdicts.collect()
    }

    /// Returns true if a relay is given up after a failure.
    fn is_given_up(&mut self, pending: &mut Pending, failure: &Failure) -> bool {
        // A helper that has just left the consensus is no reason.
        let gone = failure.kind == FailureKind::UnknownRelay && failure.blame == Blame::Target;
        let before = *pending.before.get_or_insert(self.health.count());
        // It has answered: a relay that clients keep busy is worth more tries.
        pending.answered |= failure.stage >= Stage::Begin;
        let times = if pending.answered { 2 } else { 1 };
        let most = self.limits.attempts.saturating_mul(times) as usize;
        let enough = pending.failures.len() >= most;
        let tells = self.health.tells(before);
        if enough && !tells {
            self.health.doubt();
        }
        gone || (enough && tells)
    }
}

impl Running {
    /// The least that its helpers offered while the slices came that count.
    fn offered_while(&self, transfer: Option<&Transfer>) -> Option<BytesPerSecond> {
        let left_out = &transfer?.slices[..transfer?.warm_up.min(transfer?.slices.len())];
        let from = Duration::from_micros(left_out.iter().map(|slice| slice.micros).sum());
        let offered = self
            .offered
            .iter()
            .filter(|&&(until, _)| until > from + RECENT);
        let least = offered.map(|&(_, rate)| rate).min_by(f64::total_cmp)?;
        Some(BytesPerSecond::new(least.round() as u64))
    }
}

impl Completion {
    /// A failure that settles its relay, which is charged with it.
    pub(crate) const fn charged(outcome: Outcome) -> Self {
        Self {
            outcome,
            verdict: Verdict::Charged,
            revised: Vec::new(),
            settled: true,
            is_control: false,
        }
    }
}

/// The rate that a measurement found, in bytes per second.
fn rate_of(measurement: &Measurement) -> Option<f64> {
    measurement.rates().next()
}

/// The rate of the last slices that the link did not throttle, in bytes per second.
fn latest_rate(measurement: &Measurement) -> f64 {
    /// As many as the link looks at.
    const SLICES: usize = 8;
    let slices = measurement.transfers.iter().flat_map(|one| &one.slices);
    let free: Vec<_> = slices.filter(|one| !one.is_throttled()).copied().collect();
    let latest = &free[free.len().saturating_sub(SLICES)..];
    Slice::rate_of(latest).unwrap_or(0.0)
}

/// The end of a measurement that only had to show whether anything works.
fn control(outcome: Outcome) -> Completion {
    Completion {
        verdict: Verdict::default_of(&outcome),
        outcome,
        revised: Vec::new(),
        settled: false,
        is_control: true,
    }
}
