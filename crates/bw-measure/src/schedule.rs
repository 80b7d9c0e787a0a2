//! What to measure next: a state machine without clock, network or threads.
//!
//! Every relay has a budget, what it is expected to carry. A running measurement
//! reserves its expected rate on the target (which is in no other measurement), on each
//! helper, on the destination and on the scanner's own link; a new one starts
//! only if what it needs is free everywhere.

mod capacity;
mod correction;
mod destinations;
mod ending;
mod health;
mod limits;
mod opinion;
mod rooms;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bw_file::Fingerprint;
use bw_results::{
    Failure, FailureKind, NetworkSnapshot, Outcome, Position, RelayFacts, TargetFacts,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

pub use destinations::DestinationReport;
pub use limits::{Limits, Placement};

use self::capacity::{Expectation, Scale, burst};
use self::destinations::Destinations;
use self::health::{Health, State};
use self::opinion::Opinions;
use self::rooms::Rooms;
use crate::{Assignment, Destination, HelperChoice, HelperPolicy, HelperRequest};

/// A running measurement, as its scheduler knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(u64);

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Step {
    /// Make this measurement, and call [`Scheduler::end`] with what comes of it.
    Start(RunId, Assignment),
    /// This relay cannot be measured; record it.
    Unable {
        /// The relay, with what is known of it.
        target: TargetFacts,
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

/// What a measurement that ended means for its relay.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Ended {
    /// What to record.
    pub outcome: Outcome,
    /// Whether the relay is done with.
    pub settled: bool,
    /// Whether it only had to show that anything works: then it is not to be recorded.
    pub is_control: bool,
}

/// What changes for a running measurement and for others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Correction {
    /// Relays that join it as helpers.
    pub join: Vec<Fingerprint>,
    /// Whether it takes less than was expected, so that others may fit now.
    pub freed: bool,
}

/// A relay that is to be measured.
#[derive(Clone, Debug)]
struct Pending {
    target: Fingerprint,
    /// Attempts that failed and count.
    failures: u32,
    /// Whether circuits through it were complete, whatever became of them then.
    answered: bool,
    /// How many measurements of other relays there were before the first of them.
    before: Option<u64>,
    /// Helpers of earlier attempts.
    avoid: Vec<Fingerprint>,
    not_before: Duration,
    /// Since when it has not fitted although it was its turn.
    unfit_since: Option<Duration>,
    /// Where in the circuit it is to be measured.
    positions: &'static [Position],
    /// What earlier measurements of this round found.
    opinions: Opinions,
}

/// The order of relays: never measured first, then the one measured longest ago.
/// Among equals first exits, since exits are the scarcest helpers and it is
/// good to know what they carry; then the one expected to be the fastest,
/// since what is large is hardest to fit in later.
type Turn = (u64, bool, Reverse<u64>, Fingerprint);

/// What a measurement takes of one helper, in bytes per second.
#[derive(Clone, Copy, Debug)]
struct Share {
    helper: Fingerprint,
    /// What is kept free for it.
    reserved: f64,
    /// What was last seen.
    load: f64,
}

#[derive(Debug)]
struct Running {
    assignment: Assignment,
    /// `None` for a control.
    pending: Option<(Turn, Pending)>,
    destination: usize,
    /// What it is expected to take of target, link and destination, in bytes per second.
    reserved: f64,
    /// What it was expected to take, and whether its rate is not seen yet.
    guess: f64,
    unseen: bool,
    /// Whether the link holds it back.
    held: bool,
    /// Since when, in its own time, nothing has held it back.
    ramp: Duration,
    /// What it takes of each helper.
    shares: Vec<Share>,
    /// When its rate was last looked at: since its start, and the bytes then.
    seen: (Duration, Vec<(Fingerprint, u64)>),
}

/// What a search for helpers found.
enum Choice {
    /// These, with the room that each has.
    Found(HelperChoice, Vec<f64>),
    /// There are some, but they are busy.
    NotNow,
    /// No relay can help.
    Never,
}

/// Why a relay does not fit now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unfit {
    /// The link or the destination has no room.
    Link,
    /// It helps others.
    Target,
    /// Helpers have no room.
    Helpers,
}

const SECOND: Duration = Duration::from_secs(1);
/// How many searches for helpers may fail before something has to end first.
const SEARCHES: u32 = 8;
/// What is kept free of what a target is expected to take, where many
/// measurements meet: some of them are still opening their circuits.
const EVEN: f64 = 0.7;
/// What is kept free beside that for wrong guesses, as a share of the root of
/// the sum of their squares.
const GUESSES: f64 = 0.1;
/// How many measurements may wait for room on the link, their circuits open,
/// before none begins any more: with some, room is used as soon as there is any.
const QUEUED: usize = 6;

/// Decides which relay is measured when, through whom, against what.
///
/// Times are since the scheduler was made. The same calls in the same order
/// with the same seed give the same decisions.
#[derive(Debug)]
pub struct Scheduler<P> {
    policy: P,
    limits: Limits,
    snapshot: Arc<NetworkSnapshot>,
    rooms: Rooms,
    destinations: Destinations,
    queue: BTreeMap<Turn, Pending>,
    running: BTreeMap<RunId, Running>,
    most_reserved: f64,
    scale: Scale,
    /// Rates measured: in earlier scans, then in this one.
    known: HashMap<Fingerprint, f64>,
    next_id: u64,
    health: Health,
    /// When circuits were last begun, to limit their number per second.
    begun: VecDeque<Duration>,
    /// Payload of the last day.
    spent: VecDeque<(Duration, u64)>,
    rng: StdRng,
}

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
            rooms: Rooms::default(),
            destinations: Destinations::new(destinations, per_destination),
            queue: BTreeMap::new(),
            running: BTreeMap::new(),
            most_reserved: 0.0,
            scale: Scale::default(),
            known: HashMap::new(),
            next_id: 0,
            health: Health::new(limits.doubt, limits.outage),
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
        let (known, scale) = (&self.known, self.scale.get());
        self.rooms.set_relays(&self.snapshot.relays, |relay| {
            known.get(&relay.fingerprint).map_or_else(
                || Expectation::of(relay, scale),
                |&rate| Expectation::known(rate),
            )
        });
    }

    /// Tells what `relay` was found to carry in an earlier scan, in bytes per second.
    pub fn remember(&mut self, relay: Fingerprint, rate: f64) {
        if rate.is_finite() && rate > 0.0 {
            self.known.insert(relay, rate);
            self.rooms.expect(&relay, Expectation::known(rate));
        }
    }

    /// Tells that `bytes` of payload were moved in the day before now, which
    /// count for [`Limits::bytes_per_day`].
    pub fn remember_spent(&mut self, bytes: u64) {
        self.spent.push_back((Duration::ZERO, bytes));
    }

    /// Adds a relay to measure, last measured at `last` (any unit; `None` if never).
    pub fn add(&mut self, target: Fingerprint, last: Option<u64>) {
        let relay = self.snapshot.relay(&target);
        let expected = self.expected_rate(&target);
        let turn = (
            last.map_or(0, |last| last.saturating_add(1)),
            relay.is_none_or(|relay| !relay.flags.exit),
            Reverse(expected as u64),
            target,
        );
        let previous = self.known.get(&target).copied();
        let pending = Pending {
            target,
            failures: 0,
            answered: false,
            before: None,
            avoid: Vec::new(),
            not_before: Duration::ZERO,
            unfit_since: None,
            positions: self.limits.placement.positions(),
            opinions: Opinions::new(previous),
        };
        self.queue.insert(turn, pending);
    }

    /// The network in which it plans.
    pub fn network(&self) -> Arc<NetworkSnapshot> {
        Arc::clone(&self.snapshot)
    }

    /// Whether there is nothing to do and nothing running.
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

    /// What running measurements are expected to take of the scanner's link, in
    /// bytes per second.
    pub fn reserved(&self) -> f64 {
        self.running.values().map(|running| running.reserved).sum()
    }

    /// The most that this ever was.
    pub fn most_reserved(&self) -> f64 {
        self.most_reserved
    }

    /// What `relay` is expected to carry, in bytes per second; 0 if it is not
    /// in the network.
    pub fn expected_rate(&self, relay: &Fingerprint) -> f64 {
        let relay = self.snapshot.relay(relay);
        relay.map_or(0.0, |relay| self.expected(relay).middle())
    }

    /// How each web server did.
    pub fn destinations(&self) -> Vec<DestinationReport> {
        self.destinations.report()
    }

    /// What to do next. To be asked again until it says to wait.
    pub fn next(&mut self, now: Duration) -> Step {
        if self.is_done() {
            return Step::Done;
        }
        if let Some(until) = self.limited(now) {
            return Step::Wait(Some(until));
        }
        match self.health.state(now) {
            State::Normal => self.next_target(now),
            State::Probing => self.next_control(now),
            State::Pause(until) => Step::Wait(Some(until)),
            State::Broken => Step::Broken,
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
        if self.begun.len() >= self.limits.circuits_per_second.max(1) as usize {
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

    /// The first relay in turn that fits.
    fn next_target(&mut self, now: Duration) -> Step {
        if self.circuits_left() == 0 {
            return Step::Wait(None);
        }
        if let Some(until) = self.destinations.all_down_until(now) {
            return Step::Wait(Some(until));
        }
        let idle = self.running.is_empty();
        let snapshot = Arc::clone(&self.snapshot);
        let mut wake: Option<Duration> = None;
        let mut searches = 0;
        let turns: Vec<Turn> = self.queue.keys().copied().collect();
        for turn in turns {
            let Some(pending) = self.queue.get(&turn) else {
                continue;
            };
            let (target, not_before) = (pending.target, pending.not_before);
            if not_before > now {
                wake = Some(wake.map_or(not_before, |wake| wake.min(not_before)));
                continue;
            }
            let Some(relay) = snapshot.relay(&target) else {
                return self.unable(turn, TargetFacts::new(target), FailureKind::UnknownRelay);
            };
            let expected = self.expected(relay);
            let reserved = self.reservation(expected);
            let destination = if !idle && !self.link_fits(expected) {
                None
            } else {
                self.destinations.choose(reserved, now, &mut self.rng)
            };
            let unfit = match destination {
                None => Unfit::Link,
                Some(_) if self.rooms.is_taken(&target) => Unfit::Target,
                Some(_) if searches >= SEARCHES => Unfit::Helpers,
                Some(destination) => {
                    searches += 1;
                    match self.choose(relay, &turn, expected, destination, idle) {
                        Choice::Found(choice, rooms) => {
                            let pending = self.queue.remove(&turn).map(|pending| (turn, pending));
                            let plan = Plan {
                                choice,
                                rooms,
                                destination,
                                reserved,
                            };
                            return self.start(pending, relay, plan, now);
                        }
                        Choice::Never => {
                            return self.unable(turn, relay.into(), FailureKind::NoHelper);
                        }
                        Choice::NotNow => Unfit::Helpers,
                    }
                }
            };
            let Some(pending) = self.queue.get_mut(&turn) else {
                continue;
            };
            let since = *pending.unfit_since.get_or_insert(now);
            let waited = now.saturating_sub(since);
            if unfit == Unfit::Target {
                if waited >= self.limits.patience / 2 {
                    self.rooms.claim(&target);
                }
            } else if waited >= self.limits.patience {
                // It has been overtaken long enough: make room for it.
                break;
            }
        }
        Step::Wait(wake)
    }

    fn expected(&self, relay: &RelayFacts) -> Expectation {
        self.rooms
            .expectation(&relay.fingerprint)
            .unwrap_or_else(|| Expectation::of(relay, self.scale.get()))
    }

    /// What helpers should be able to carry for a target: enough to be faster
    /// than it, and to empty its token bucket.
    fn need(&self, relay: &RelayFacts, expected: Expectation) -> f64 {
        let middle = expected.middle();
        (middle * self.limits.headroom).max(middle + burst(relay, expected))
    }

    /// What to keep free of the link and of a destination for a target. Those
    /// carry many measurements, so that wrong guesses even out.
    fn reservation(&self, expected: Expectation) -> f64 {
        (expected.middle() * EVEN).min(self.limits.link.value() as f64)
    }

    /// Whether the link has room for a further target: for what all are
    /// expected to take, and for wrong guesses, whose squares add up.
    fn link_fits(&self, expected: Expectation) -> bool {
        if self.running.values().filter(|one| one.held).count() > QUEUED {
            return false;
        }
        let middle = expected.middle();
        let unseen = self.running.values().filter(|one| one.unseen);
        let guesses = unseen.map(|one| one.guess * one.guess);
        let doubt = (guesses.sum::<f64>() + middle * middle).sqrt();
        let spare = GUESSES * doubt;
        self.reserved() + middle * EVEN + spare <= self.limits.link.value() as f64
    }

    /// How many circuits may be begun now.
    fn circuits_left(&self) -> usize {
        let running: usize = self.running.values().map(|one| one.shares.len()).sum();
        let left = self.limits.circuits.saturating_sub(running);
        let per_second = self.limits.circuits_per_second.max(1) as usize;
        left.min(per_second.saturating_sub(self.begun.len()))
    }

    fn unable(&mut self, turn: Turn, target: TargetFacts, kind: FailureKind) -> Step {
        self.rooms.unclaim(&target.fingerprint);
        self.queue.remove(&turn);
        Step::Unable { target, kind }
    }

    /// Helpers for `relay`, and the room that each of them has.
    fn choose(
        &mut self,
        relay: &RelayFacts,
        turn: &Turn,
        expected: Expectation,
        destination: usize,
        idle: bool,
    ) -> Choice {
        // No more can be had than the fastest possible helpers have together.
        let attainable = self.rooms.attainable(self.limits.helpers);
        let need = self.need(relay, expected).min(0.9 * attainable);
        let rooms = &self.rooms;
        let room = |index: usize| rooms.room(index);
        let port = self
            .destinations
            .get(destination)
            .map_or(0, Destination::port);
        let pending = self.queue.get(turn);
        let natural = self.limits.placement.positions();
        let mut request = HelperRequest {
            snapshot: &self.snapshot,
            target: relay,
            positions: &[],
            port,
            need,
            room: &room,
            avoid: pending.map_or(&[], |pending| &pending.avoid),
            most: self.limits.helpers.min(self.circuits_left()),
        };
        // While others run, more room may come; when none does, this is all there is.
        let shares: &[f64] = if idle {
            &[1.0, 0.5, 0.25, 0.1, 0.0]
        } else {
            &[1.0]
        };
        for position in pending.map_or(natural, |pending| pending.positions) {
            request.positions = std::slice::from_ref(position);
            for share in shares {
                request.need = need * share;
                if let Some(choice) = self.policy.choose(&request, &mut self.rng) {
                    let helpers = choice.helpers.iter();
                    let rooms = helpers.map(|id| self.rooms.room_of(id)).collect();
                    return Choice::Found(choice, rooms);
                }
            }
            // Another position is for relays that nobody can ever help in this one.
            let anybody = HelperRequest {
                room: &|_| 1.0,
                need: 0.0,
                most: 1,
                ..request
            };
            if let Some(choice) = self.policy.choose(&anybody, &mut self.rng) {
                if !idle {
                    return Choice::NotNow;
                }
                // All are set aside or claimed: better one of them than nobody.
                let rooms = vec![0.0; choice.helpers.len()];
                return Choice::Found(choice, rooms);
            }
        }
        Choice::Never
    }

    fn start(
        &mut self,
        pending: Option<(Turn, Pending)>,
        relay: &RelayFacts,
        plan: Plan,
        now: Duration,
    ) -> Step {
        let Plan {
            choice,
            rooms,
            destination,
            reserved,
        } = plan;
        let Some(url) = self.destinations.get(destination).cloned() else {
            return Step::Wait(None); // It was chosen among those there are.
        };
        let mut assignment = Assignment::new(relay, choice.position, choice.helpers, url);
        assignment.direction = self.limits.direction;
        self.rooms.unclaim(&relay.fingerprint);
        self.rooms.take_target(&relay.fingerprint);
        self.destinations.begin(destination, reserved);
        let expected = self.expected(relay);
        let (guess, wanted) = (expected.middle(), self.need(relay, expected));
        let shares = self.share(&assignment.helpers, &rooms, wanted, now);
        let running = Running {
            assignment: assignment.clone(),
            pending,
            destination,
            reserved,
            guess,
            unseen: true,
            held: false,
            ramp: Duration::ZERO,
            shares,
            seen: (Duration::ZERO, Vec::new()),
        };
        let id = RunId(self.next_id);
        self.next_id += 1;
        self.running.insert(id, running);
        self.most_reserved = self.most_reserved.max(self.reserved());
        Step::Start(id, assignment)
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
                load: 0.0,
            };
            self.rooms.help(helper, true);
            self.rooms.reserve(helper, share.reserved);
            self.begun.push_back(now);
            shares.push(share);
        }
        shares
    }

    /// A fast relay, to see whether anything works.
    fn next_control(&mut self, now: Duration) -> Step {
        if self.running.values().any(|one| one.pending.is_none()) {
            return Step::Wait(None);
        }
        let idle = self.running.is_empty();
        let snapshot = Arc::clone(&self.snapshot);
        let mut relays: Vec<&RelayFacts> = snapshot
            .relays
            .iter()
            .filter(|relay| relay.flags.running && !relay.flags.authority)
            .filter(|relay| !self.rooms.is_taken(&relay.fingerprint))
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
            if !idle && !self.link_fits(expected) {
                return Step::Wait(None);
            }
            let turn = (0, false, Reverse(0), relay.fingerprint);
            if let Choice::Found(choice, rooms) =
                self.choose(relay, &turn, expected, destination, idle)
            {
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
            self.health.control_failed(None, now);
            return self.next(now);
        }
        // All that could be tried is in use, and will tell.
        Step::Wait(None)
    }
}

/// Whom a measurement that starts goes through, and what it takes.
struct Plan {
    choice: HelperChoice,
    /// The room of each helper.
    rooms: Vec<f64>,
    destination: usize,
    reserved: f64,
}
