//! The choice of the next measurement: a state machine without clock, network or threads.
//!
//! Every relay has a budget, what it is expected to carry. A measurement reserves what its
//! target is expected to carry on the target itself (which is in no other measurement), on
//! each helper and on the destination; its circuits are opened only if that is free. When its
//! payload begins to flow, the [`Link`] decides.

mod capacity;
mod completion;
mod correction;
mod destinations;
mod evidence;
mod health;
mod limits;
mod reservations;
mod search;
mod together;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bw_file::Fingerprint;
use bw_results::{
    Failure, FailureKind, Measurement, NetworkSnapshot, Outcome, Position, RelayFacts, ScanId,
    TargetFacts, UnixMillis, Verdict,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tokio::time::Instant;

pub use destinations::DestinationReport;
pub use limits::{Limits, Placement};
pub(crate) use together::Batch;

use self::capacity::{Expectation, Promise, Scale, burst, low_default};
use self::destinations::Destinations;
use self::evidence::Evidence;
use self::health::{Health, State};
use self::reservations::Reservations;
use self::search::{Choice, Search};
use crate::link::{Lease, Link};
use crate::{Assignment, Change, Destination, HelperChoice, HelperPolicy};

/// Decides which relay is measured when, through whom, against what.
///
/// Times are since the scheduler was made. The same calls in the same order
/// with the same seed give the same decisions.
#[derive(Debug)]
pub struct Scheduler<P> {
    policy: P,
    limits: Limits,
    link: Link,
    /// The scan that the newest target is of.
    scan: Option<ScanId>,
    snapshot: Arc<NetworkSnapshot>,
    reservations: Reservations,
    destinations: Destinations,
    queue: BTreeMap<Priority, Pending>,
    running: BTreeMap<RunId, Running>,
    scale: Scale,
    /// The most that relays are counted on for that nobody measured, in bytes per second.
    low_default: f64,
    /// Rates measured: in earlier scans, then in this one.
    known: HashMap<Fingerprint, f64>,
    /// The relay that helpers are kept free for.
    booking: Option<Priority>,
    next_id: u64,
    health: Health,
    /// Changes that nobody was told yet.
    changes: Vec<Change>,
    /// New verdicts of earlier records that belong to no completion.
    revised: Vec<(RunId, Verdict)>,
    /// True if the directory failed when it was last asked.
    directory_lost: bool,
    /// When circuits were last begun, to limit their number per second.
    begun: VecDeque<Duration>,
    /// Payload of the last day.
    spent: VecDeque<(Duration, u64)>,
    rng: StdRng,
}

/// A measurement, as its scheduler knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub(crate) u64);

/// A relay to measure.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Target {
    /// The relay.
    pub relay: Fingerprint,
    /// When it was last measured; `None` if never.
    pub last_measured: Option<UnixMillis>,
    /// The scan that wants it, which its records name.
    pub scan: Option<ScanId>,
    /// The records that an interrupted scan made of it already, in order, with the verdicts.
    pub records: Vec<(Measurement, Verdict)>,
}

impl Target {
    /// A relay that was never measured.
    pub const fn new(relay: Fingerprint) -> Self {
        Self {
            relay,
            last_measured: None,
            scan: None,
            records: Vec::new(),
        }
    }
}

/// The next step.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Action {
    /// Make this measurement, with the lease of this run, and call [`Scheduler::end`] with
    /// its record.
    Start(RunId, Assignment),
    /// This relay cannot be measured; record it.
    Unable {
        /// The run that this counts as.
        run: RunId,
        /// The relay, with what is known of it.
        target: TargetFacts,
        /// The scan that wanted it.
        scan: Option<ScanId>,
        /// Why.
        kind: FailureKind,
    },
    /// Nothing fits now: ask again when something ends or changes, and at this time.
    Wait(Option<Duration>),
    /// Nothing works, and has not for [`Limits::outage`]:
    /// [`Scheduler::last_failure`] tells more.
    Broken,
    /// Every relay has its value or its cause.
    Done,
}

/// The meaning of a record for its relay.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Completion {
    /// The record, as it is to be kept.
    pub outcome: Outcome,
    /// The worth of the record.
    pub verdict: Verdict,
    /// Verdicts of earlier records that are other ones now.
    pub revised: Vec<(RunId, Verdict)>,
    /// True if the relay is done with.
    pub settled: bool,
    /// True if it only had to show that anything works: then it is not to be recorded.
    pub is_control: bool,
}

/// A change for a running measurement and for others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Adjustment {
    /// Relays that join it as helpers.
    pub join: Vec<Fingerprint>,
    /// True if it takes less than was expected, so that others may fit now.
    pub freed: bool,
}

/// A relay that is to be measured.
#[derive(Clone, Debug)]
struct Pending {
    target: Fingerprint,
    scan: Option<ScanId>,
    /// Attempts that failed and that it is charged with.
    failures: Vec<RunId>,
    /// The number of attempts that failed by fault of helpers.
    helper_faults: usize,
    /// True if circuits through it were complete, whatever became of them then.
    answered: bool,
    /// The number of measurements of other relays before the first of them.
    before: Option<u64>,
    /// Helpers of earlier attempts.
    avoid: Vec<Fingerprint>,
    not_before: Duration,
    /// Since when it has not fitted although it was its turn.
    unfit_since: Option<Duration>,
    /// Where in the circuit it is to be measured.
    positions: &'static [Position],
    /// The findings of earlier measurements of this round.
    evidence: Evidence,
}

impl Pending {
    /// Returns true if it may be dead, or may only have met helpers that are.
    const fn is_doubtful(&self) -> bool {
        !self.answered && !self.failures.is_empty()
    }
}

/// The order of relays: never measured first, then the one measured longest ago.
/// Among equals first exits, since exits are the scarcest helpers and it is
/// good to know what they carry; then the one expected to be the fastest,
/// since what is large is hardest to fit in later. The last is a number of its own.
type Priority = (u64, bool, Reverse<u64>, u64);

/// The rate that a measurement takes of one helper, in bytes per second.
#[derive(Clone, Copy, Debug)]
struct Share {
    helper: Fingerprint,
    /// The rate kept free for it.
    reserved: f64,
    /// Bytes that it brought.
    brought: u64,
    /// When its first byte came, since the measurement's start.
    flows_since: Option<Duration>,
    /// True if it joined while the measurement ran.
    joined: bool,
    /// True if its circuit broke.
    gone: bool,
    /// The bytes that it had brought, to this measurement and to all, when that was last looked at.
    seen: (u64, u64),
}

#[derive(Debug)]
struct Running {
    assignment: Assignment,
    /// `None` for a control.
    pending: Option<(Priority, Pending)>,
    destination: usize,
    /// The rate that it is expected to take of the destination, in bytes per second.
    reserved: f64,
    /// The rate that it takes of each helper.
    shares: Vec<Share>,
    /// When its rate was last looked at, since its start.
    seen: Duration,
    /// True if payload was seen.
    flows: bool,
    /// The rates that its helpers offered until when, since its start, in bytes per second.
    offered: Vec<(Duration, f64)>,
}

/// Why a relay does not fit now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unfit {
    /// Enough is in store for the link, or the destination has no room.
    Link,
    /// It helps others.
    Target,
    /// Helpers have no room.
    Helpers,
}

const SECOND: Duration = Duration::from_secs(1);
/// The searches for helpers that may fail before something has to end first.
const SEARCHES: u32 = 8;
/// The share of a target's expected rate that is kept free of a destination, where many
/// measurements meet: some of them are still opening their circuits.
const EVEN: f64 = 0.7;
/// The rate for which one circuit is trusted, in bytes per second: over 160 ms of round trip
/// tor's congestion window let one alone carry 1.5 MB/s after two seconds, 3 MB/s after six.
const PER_CIRCUIT: f64 = 1_500_000.0;
/// Over how many circuits a measurement is spread where helpers allow it. A busy relay gives
/// each connection a share: at a third of load the weight error was 0.107 through one, 0.080
/// through four, 0.076 through eight (docs/estimator.md).
const SIDE_BY_SIDE: usize = 4;

impl<P: HelperPolicy> Scheduler<P> {
    /// A scheduler without relays to measure, against `destinations`.
    pub fn new(
        policy: P,
        limits: Limits,
        destinations: Vec<Destination>,
        snapshot: Arc<NetworkSnapshot>,
        rng: StdRng,
    ) -> Self {
        let per_destination = limits.destination.map(|limit| limit.value() as f64);
        let mut scheduler = Self {
            policy,
            link: Link::new(limits.link),
            scan: None,
            reservations: Reservations::default(),
            destinations: Destinations::new(destinations, per_destination),
            queue: BTreeMap::new(),
            running: BTreeMap::new(),
            scale: Scale::default(),
            low_default: f64::INFINITY,
            known: HashMap::new(),
            booking: None,
            next_id: 0,
            health: Health::new(limits.doubt, limits.outage),
            changes: Vec::new(),
            revised: Vec::new(),
            directory_lost: false,
            begun: VecDeque::new(),
            spent: VecDeque::new(),
            snapshot: Arc::clone(&snapshot),
            limits,
            rng,
        };
        scheduler.set_network(snapshot);
        scheduler
    }

    /// Goes on in another consensus.
    pub fn set_network(&mut self, snapshot: Arc<NetworkSnapshot>) {
        self.snapshot = snapshot;
        self.low_default = low_default(&self.snapshot);
        let (known, scale, most) = (&self.known, &self.scale, self.low_default);
        self.reservations
            .set_relays(&self.snapshot.relays, |relay| {
                known.get(&relay.fingerprint).map_or_else(
                    || Expectation::of(Promise::of(relay), scale, most),
                    |&rate| Expectation::known(rate),
                )
            });
    }

    /// Tells what `relay` was found to carry in an earlier scan, in bytes per second.
    pub fn remember(&mut self, relay: Fingerprint, rate: f64) {
        if rate.is_finite() && rate > 0.0 {
            self.known.insert(relay, rate);
            self.reservations.expect(&relay, Expectation::known(rate));
        }
    }

    /// Tells that nothing worked before: relays that are fast show whether anything does.
    pub(crate) fn doubt(&mut self) {
        self.health.doubt();
    }

    /// Tells that the directory answered, or why it did not.
    pub(crate) fn directory(&mut self, lost: Option<String>) {
        let was_lost = std::mem::replace(&mut self.directory_lost, lost.is_some());
        match lost {
            Some(detail) if !was_lost => self.changes.push(Change::DirectoryLost(detail)),
            None if was_lost => self.changes.push(Change::DirectoryBack),
            _ => {}
        }
    }

    /// Returns what was lost or came back since this was last asked.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Returns verdicts of earlier records that changed although no measurement ended.
    pub(crate) fn take_revised(&mut self) -> Vec<(RunId, Verdict)> {
        std::mem::take(&mut self.revised)
    }

    /// Tells that `bytes` of payload were moved in the day before now, which
    /// count for [`Limits::bytes_per_day`].
    pub fn remember_spent(&mut self, bytes: u64) {
        if bytes > 0 {
            self.spent.push_back((Duration::ZERO, bytes));
        }
    }

    /// Adds a relay to measure. Returns the runs that stand for its earlier records.
    pub fn add(&mut self, target: Target) -> Vec<RunId> {
        let relay = target.relay;
        self.scan = target.scan;
        let previous = self.known.get(&relay).copied();
        let (mut evidence, mut positions) =
            (Evidence::new(previous), self.limits.placement.positions());
        let mut runs = Vec::with_capacity(target.records.len());
        for (record, verdict) in &target.records {
            let run = self.next_run();
            runs.push(run);
            match verdict {
                Verdict::Accepted | Verdict::LowerBound(_) => {
                    let further = self.limits.placement.then(record.attempt.position);
                    positions = further.unwrap_or(positions);
                    evidence = Evidence::new(record.rates().next());
                }
                _ => evidence.recall(run, record, verdict),
            }
        }
        let priority = (
            target
                .last_measured
                .map_or(0, |last| last.value().saturating_add(1)),
            !self
                .snapshot
                .relay(&relay)
                .is_some_and(|facts| facts.flags.exit),
            Reverse(self.expected_rate(&relay) as u64),
            self.next_run().0,
        );
        let pending = Pending {
            target: relay,
            scan: target.scan,
            failures: Vec::new(),
            helper_faults: 0,
            answered: false,
            before: None,
            avoid: Vec::new(),
            not_before: Duration::ZERO,
            unfit_since: None,
            positions,
            evidence,
        };
        self.queue.insert(priority, pending);
        runs
    }

    fn next_run(&mut self) -> RunId {
        self.next_id += 1;
        RunId(self.next_id)
    }

    /// The place on the link of a measurement that was started, whose time begins at `epoch`.
    pub fn lease(&self, run: RunId, epoch: Instant) -> Lease {
        self.link.lease(run, epoch)
    }

    /// The scanner's link.
    pub const fn link(&self) -> &Link {
        &self.link
    }

    /// The network in which it plans.
    pub fn network(&self) -> Arc<NetworkSnapshot> {
        Arc::clone(&self.snapshot)
    }

    /// Returns true if there is nothing to do and nothing running.
    pub fn is_done(&self) -> bool {
        self.queue.is_empty() && self.running.is_empty()
    }

    /// Relays that are not done with.
    pub fn left(&self) -> usize {
        let running = self.running.values().filter(|one| one.pending.is_some());
        self.queue.len() + running.count()
    }

    /// Relays that wait for a measurement, running ones not counted.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Measurements that run.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// The rate that `relay` is expected to carry, in bytes per second; 0 if it is not
    /// in the network.
    pub fn expected_rate(&self, relay: &Fingerprint) -> f64 {
        let relay = self.snapshot.relay(relay);
        relay.map_or(0.0, |relay| self.expected(relay).middle)
    }

    /// The results of each web server.
    pub fn destinations(&self) -> Vec<DestinationReport> {
        self.destinations.report()
    }

    /// The next step. To be asked again until it says to wait.
    pub fn next(&mut self, now: Duration) -> Action {
        if self.is_done() {
            return Action::Done;
        }
        if let Some(until) = self.limited(now) {
            return Action::Wait(Some(until));
        }
        self.release_unbacked(now);
        match self.health.state(now) {
            State::Normal => self.next_target(now),
            State::Probing => self.next_control(now),
            State::Pause(until) => Action::Wait(Some(until)),
            State::Broken => Action::Broken,
        }
    }

    /// The last failure of any relay, if nothing was measured since.
    pub fn last_failure(&self) -> Option<&Failure> {
        self.health.last_failure()
    }

    /// Until when the limits on new circuits and on bytes allow nothing.
    fn limited(&mut self, now: Duration) -> Option<Duration> {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        self.forget_begun(now);
        let least = self.side_by_side().min(self.per_second());
        if self.begun.len() + least > self.per_second() {
            return self.begun.front().map(|&at| at + SECOND);
        }
        let most = self.limits.bytes_per_day?;
        while self.spent.front().is_some_and(|&(at, _)| at + DAY <= now) {
            self.spent.pop_front();
        }
        let spent: u64 = self.spent.iter().map(|&(_, bytes)| bytes).sum();
        (spent >= most).then(|| self.spent.front().map(|&(at, _)| at + DAY))?
    }

    fn forget_begun(&mut self, now: Duration) {
        while self.begun.front().is_some_and(|&at| at + SECOND <= now) {
            self.begun.pop_front();
        }
    }

    /// The first relay in priority that fits.
    fn next_target(&mut self, now: Duration) -> Action {
        let free = self.circuits_free();
        if free < self.side_by_side().min(self.limits.circuits) {
            return Action::Wait(None);
        }
        if let Some(until) = self.destinations.all_down_until(now) {
            return Action::Wait(Some(until));
        }
        let room = self.link.room(now);
        // Small ones leave circuits for the next large one.
        let spare = free >= self.side_by_side() + self.limits.helpers;
        let snapshot = Arc::clone(&self.snapshot);
        let mut wake: Option<Duration> = None;
        let mut searches = 0;
        let order: Vec<Priority> = self.queue.keys().copied().collect();
        for priority in order {
            let Some(pending) = self.queue.get(&priority) else {
                continue;
            };
            let (target, not_before) = (pending.target, pending.not_before);
            if not_before > now {
                wake = Some(wake.map_or(not_before, |wake| wake.min(not_before)));
                continue;
            }
            let Some(relay) = snapshot.relay(&target) else {
                let facts = TargetFacts::new(target);
                return self.unable(priority, facts, FailureKind::UnknownRelay);
            };
            let expected = self.expected(relay);
            let reserved = self.reservation(expected);
            let peak = (expected.middle + burst(relay, expected)).min(self.link.payload());
            let takes = room.takes(peak) || (spare && room.is_small(peak));
            let destination = takes
                .then(|| self.destinations.choose(reserved, now, &mut self.rng))
                .flatten();
            let unfit = match destination {
                None => Unfit::Link,
                Some(_) if self.reservations.is_taken(&target) => Unfit::Target,
                Some(_) if searches >= SEARCHES => Unfit::Helpers,
                Some(destination) => {
                    searches += 1;
                    let search = Search::new(relay, priority, expected, destination);
                    match self.choose(&search) {
                        Choice::Found(choice, rooms) => {
                            let pending = self.queue.remove(&priority);
                            let pending = pending.map(|pending| (priority, pending));
                            let plan = Plan {
                                choice,
                                rooms,
                                destination,
                                reserved,
                            };
                            return self.start(pending, relay, plan, now);
                        }
                        Choice::Never => {
                            return self.unable(priority, relay.into(), FailureKind::NoHelper);
                        }
                        Choice::NotNow => Unfit::Helpers,
                    }
                }
            };
            self.overtake(priority, relay, unfit, now);
        }
        Action::Wait(wake)
    }

    /// Others go before a relay: if they have done so long enough, what it needs is kept free.
    fn overtake(&mut self, priority: Priority, relay: &RelayFacts, unfit: Unfit, now: Duration) {
        let Some(pending) = self.queue.get_mut(&priority) else {
            return;
        };
        let since = *pending.unfit_since.get_or_insert(now);
        let waited = now.saturating_sub(since);
        match unfit {
            Unfit::Target if waited >= self.limits.patience / 2 => {
                self.reservations.claim(&relay.fingerprint);
            }
            Unfit::Helpers if waited >= self.limits.patience => self.book(priority, relay),
            _ => {}
        }
    }

    fn expected(&self, relay: &RelayFacts) -> Expectation {
        self.reservations
            .expectation(&relay.fingerprint)
            .unwrap_or_else(|| self.promised(relay))
    }

    fn promised(&self, relay: &RelayFacts) -> Expectation {
        Expectation::of(Promise::of(relay), &self.scale, self.low_default)
    }

    /// The rate to keep free of a destination for a target.
    fn reservation(&self, expected: Expectation) -> f64 {
        (expected.middle * EVEN).min(self.link.payload())
    }

    /// Over how many circuits a measurement is spread where that can be.
    fn side_by_side(&self) -> usize {
        SIDE_BY_SIDE.min(self.limits.helpers).max(1)
    }

    /// The least number of circuits that are trusted with `rate`.
    fn circuits_for(&self, rate: f64) -> usize {
        ((rate / PER_CIRCUIT).ceil() as usize).min(self.side_by_side())
    }

    /// The number of circuits that there may be more.
    fn circuits_free(&self) -> usize {
        let running: usize = self.running.values().map(|one| one.shares.len()).sum();
        self.limits.circuits.saturating_sub(running)
    }

    /// The number of circuits that may be begun in a second.
    fn per_second(&self) -> usize {
        self.limits.circuits_per_second.max(1) as usize
    }

    /// The number of circuits that may be begun now.
    fn circuits_left(&self) -> usize {
        let left = self.per_second().saturating_sub(self.begun.len());
        left.min(self.circuits_free())
    }

    fn unable(&mut self, priority: Priority, target: TargetFacts, kind: FailureKind) -> Action {
        self.reservations.unclaim(&target.fingerprint);
        let scan = self
            .queue
            .remove(&priority)
            .and_then(|pending| pending.scan);
        let run = self.next_run();
        Action::Unable {
            run,
            target,
            scan,
            kind,
        }
    }

    fn start(
        &mut self,
        pending: Option<(Priority, Pending)>,
        relay: &RelayFacts,
        plan: Plan,
        now: Duration,
    ) -> Action {
        let Plan {
            choice,
            rooms,
            destination,
            reserved,
        } = plan;
        let Some(url) = self.destinations.get(destination).cloned() else {
            return Action::Wait(None); // It was chosen among those there are.
        };
        let mut assignment = Assignment::new(relay, choice.position, choice.helpers, url);
        assignment.direction = self.limits.direction;
        self.reservations.unclaim(&relay.fingerprint);
        self.reservations.take_target(&relay.fingerprint);
        self.destinations.begin(destination, reserved);
        assignment.scan = pending.as_ref().and_then(|(_, pending)| pending.scan);
        let expected = self.expected(relay);
        let id = self.next_run();
        if pending
            .as_ref()
            .is_some_and(|(own, _)| self.booking == Some(*own))
        {
            self.booking = None;
            self.reservations.book(&[]);
        }
        // A full token bucket adds to what comes at first.
        let peak = expected.middle + burst(relay, expected);
        self.link.open(id, peak, expected.deviation(), now);
        let wanted = self.need(relay, expected);
        let shares = self.share(&assignment.helpers, &rooms, wanted, now);
        let running = Running {
            assignment: assignment.clone(),
            pending,
            destination,
            reserved,
            shares,
            seen: Duration::ZERO,
            flows: false,
            offered: Vec::new(),
        };
        self.running.insert(id, running);
        Action::Start(id, assignment)
    }

    /// Reserves `rate` on `helpers`, in proportion to the room that each has.
    fn share(
        &mut self,
        helpers: &[Fingerprint],
        rooms: &[f64],
        rate: f64,
        now: Duration,
    ) -> Vec<Share> {
        let offered: f64 = rooms.iter().sum();
        let mut shares = Vec::with_capacity(helpers.len());
        for (helper, room) in helpers.iter().zip(rooms) {
            let part = if offered > 0.0 { room / offered } else { 0.0 };
            let share = Share {
                helper: *helper,
                reserved: (rate * part).min(*room),
                brought: 0,
                flows_since: None,
                joined: false,
                gone: false,
                seen: (0, self.reservations.total(helper)),
            };
            self.reservations.help(helper, true);
            self.reservations.reserve(helper, share.reserved);
            self.begun.push_back(now);
            shares.push(share);
        }
        shares
    }

    /// A fast relay, to see whether anything works.
    fn next_control(&mut self, now: Duration) -> Action {
        if self.running.values().any(|one| one.pending.is_none()) {
            return Action::Wait(None);
        }
        let room = self.link.room(now);
        let snapshot = Arc::clone(&self.snapshot);
        let mut relays: Vec<&RelayFacts> = snapshot
            .relays
            .iter()
            .filter(|relay| relay.flags.running && !relay.flags.authority)
            .filter(|relay| !self.reservations.is_taken(&relay.fingerprint))
            .collect();
        relays.sort_by_key(|relay| Reverse(relay.consensus_weight));
        // The fastest tenth, so that it is not always the same few.
        relays.truncate((relays.len() / 10).max(3));
        let relay = relays.choose(&mut self.rng).copied();
        let found = relay.and_then(|relay| {
            let expected = self.expected(relay);
            let reserved = self.reservation(expected);
            let destination = self.destinations.choose(reserved, now, &mut self.rng)?;
            Some((relay, expected, reserved, destination))
        });
        if let Some((relay, expected, reserved, destination)) = found {
            if !room.takes(expected.middle) {
                return Action::Wait(None);
            }
            let priority = (0, false, Reverse(0), 0);
            let search = Search::new(relay, priority, expected, destination);
            if let Choice::Found(choice, rooms) = self.choose(&search) {
                let plan = Plan {
                    choice,
                    rooms,
                    destination,
                    reserved,
                };
                return self.start(None, relay, plan, now);
            }
        }
        if self.running.is_empty() {
            if let Some(outage) = self.health.control_failed(None, now) {
                self.revised = self.begin_outage(outage, "no circuit can be planned");
            }
            return self.next(now);
        }
        // All that could be tried is in use, and will tell.
        Action::Wait(None)
    }
}

/// The path of a measurement that starts, and what it takes.
struct Plan {
    choice: HelperChoice,
    /// The room of each helper.
    rooms: Vec<f64>,
    destination: usize,
    reserved: f64,
}
