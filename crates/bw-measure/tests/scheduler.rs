//! Properties of the scheduler, on arbitrary networks with arbitrary outcomes
//! in arbitrary order: no clock, no network, no waiting.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bw_file::{BytesPerSecond, Fingerprint, KilobytesPerSecond};
use bw_measure::{
    Action, Assignment, Completion, Destination, HelperChoice, HelperPolicy, HelperRequest, Limits,
    RunId, Scheduler, SpareHelpers, Target,
};
use bw_results::{
    Attempt, Blame, Failure, FailureKind, Measurement, NetworkSnapshot, Outcome, PortRanges,
    RelayFacts, Slice, Stage, StopReason, Timings, Transfer, UnixMillis, Verdict,
};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A relay as it is: the scheduler sees the weight only.
#[derive(Clone, Debug)]
struct Relay {
    /// kB/s.
    weight: u64,
    /// The share of that which it really carries.
    truth: f64,
    exit: bool,
    /// The share of attempts at it that fail.
    fails: f64,
    /// True if it is in the first consensus.
    begins: bool,
}

#[derive(Clone, Debug)]
struct Case {
    relays: Vec<Relay>,
    /// kB/s.
    link: u64,
    circuits: usize,
    per_second: u32,
    helpers: usize,
    /// The rate that each destination may be asked for, in kB/s.
    destinations: usize,
    destination: Option<u64>,
    /// True if relays come and go and change while measurements run.
    changes: bool,
    seed: u64,
}

fn relay() -> impl Strategy<Value = Relay> {
    let fails = prop_oneof![3 => Just(0.0), 1 => 0.0..0.5_f64, 1 => Just(1.0)];
    (
        1_u64..50_000,
        0.2..3.0_f64,
        prop::bool::weighted(0.4),
        fails,
        prop::bool::weighted(0.7),
    )
        .prop_map(|(weight, truth, exit, fails, begins)| Relay {
            weight,
            truth,
            exit,
            fails,
            begins,
        })
}

fn case() -> impl Strategy<Value = Case> {
    let limits = (1_usize..20, 1_u32..20, 1_usize..9);
    let destinations = (1_usize..4, prop::option::of(100_u64..30_000));
    (
        prop::collection::vec(relay(), 1..40),
        100_u64..60_000,
        limits,
        destinations,
        any::<bool>(),
        any::<u64>(),
    )
        .prop_map(|(relays, link, limits, destinations, changes, seed)| Case {
            relays,
            link,
            circuits: limits.0,
            per_second: limits.1,
            helpers: limits.2,
            destinations: destinations.0,
            destination: destinations.1,
            changes,
            seed,
        })
}

fn id(number: usize) -> Fingerprint {
    let mut bytes = [0; 20];
    bytes[0] = number as u8 + 1;
    Fingerprint::from_bytes(bytes)
}

fn number(relay: &Fingerprint) -> usize {
    usize::from(relay.as_bytes()[0]) - 1
}

/// The consensus with those relays that have a weight, in kB/s, in `weights`.
fn snapshot(case: &Case, weights: &[Option<u64>]) -> Arc<NetworkSnapshot> {
    let relays = case.relays.iter().zip(weights).enumerate();
    let relays = relays.filter_map(|(number, (relay, weight))| {
        let weight = KilobytesPerSecond::new((*weight)?);
        let mut facts = RelayFacts::new(id(number), "r", weight);
        (facts.flags.running, facts.flags.valid) = (true, true);
        if relay.exit {
            facts.flags.exit = true;
            facts.exit_ports = PortRanges::all();
        }
        Some(facts)
    });
    let now = UnixMillis::from_secs(1_790_000_000);
    let relays = relays.collect();
    Arc::new(NetworkSnapshot::new(now, now, now, BTreeMap::new(), relays))
}

/// Notes whether the helpers that are chosen have the room that is needed.
#[derive(Debug)]
struct Watched(SpareHelpers);

impl HelperPolicy for Watched {
    fn choose(&mut self, request: &HelperRequest<'_>, rng: &mut dyn Rng) -> Option<HelperChoice> {
        let choice = self.0.choose(request, rng)?;
        let position = |id: &Fingerprint| {
            let relays = request.snapshot.relays.iter();
            relays
                .enumerate()
                .find(|(_, relay)| relay.fingerprint == *id)
                .unwrap()
                .0
        };
        let rooms = choice.helpers.iter().map(|id| (request.room)(position(id)));
        let offered: f64 = rooms.sum();
        let needed = request.need;
        assert!(offered >= needed * (1.0 - 1e-9), "{offered} of {needed}");
        assert!(choice.helpers.len() <= request.most);
        Some(choice)
    }
}

/// A measurement under way.
struct Running {
    id: RunId,
    assignment: Assignment,
    begun: Duration,
    ends: Duration,
    slices: Vec<Slice>,
    /// The number of circuits of each helper that joined later.
    joined: Vec<Fingerprint>,
    moved: BTreeMap<Fingerprint, u64>,
}

struct World<'a> {
    case: &'a Case,
    scheduler: Scheduler<Watched>,
    limits: Limits,
    rng: StdRng,
    now: Duration,
    running: Vec<Running>,
    /// The consensus weights, in kB/s, of the relays that are there.
    weights: Vec<Option<u64>>,
    added: BTreeSet<Fingerprint>,
    settled: BTreeSet<Fingerprint>,
    circuits: Vec<Duration>,
    seen: BTreeSet<RunId>,
    /// The decisions, in order.
    log: Vec<String>,
}

const SLICE: Duration = Duration::from_millis(50);

impl<'a> World<'a> {
    fn new(case: &'a Case) -> Self {
        let mut limits = Limits::default();
        limits.link = BytesPerSecond::new(case.link * 1000);
        limits.circuits = case.circuits;
        limits.circuits_per_second = case.per_second;
        limits.helpers = case.helpers;
        limits.destination = case
            .destination
            .map(|limit| BytesPerSecond::new(limit * 1000));
        let weights: Vec<_> = case
            .relays
            .iter()
            .map(|relay| (relay.begins || !case.changes).then_some(relay.weight))
            .collect();
        let destinations = (0..case.destinations)
            .map(|number| format!("https://d{number}.example/1GiB").parse().unwrap());
        let scheduler = Scheduler::new(
            Watched(SpareHelpers::default()),
            limits.clone(),
            destinations.collect(),
            snapshot(case, &weights),
            StdRng::seed_from_u64(case.seed),
        );
        let mut world = Self {
            case,
            scheduler,
            limits,
            rng: StdRng::seed_from_u64(!case.seed),
            now: Duration::ZERO,
            running: Vec::new(),
            weights,
            added: BTreeSet::new(),
            settled: BTreeSet::new(),
            circuits: Vec::new(),
            seen: BTreeSet::new(),
            log: Vec::new(),
        };
        world.add();
        world
    }

    /// Adds the relays that are there and were not before.
    fn add(&mut self) {
        for (number, weight) in self.weights.iter().enumerate() {
            if weight.is_some() && self.added.insert(id(number)) {
                self.scheduler.add(Target::new(id(number)));
            }
        }
    }

    /// Goes on in another consensus.
    fn change(&mut self) {
        for (weight, relay) in self.weights.iter_mut().zip(&self.case.relays) {
            match self.rng.random_range(0..10) {
                0..=1 => *weight = None,
                2..=4 => *weight = Some(relay.weight),
                5 => *weight = Some(self.rng.random_range(1..50_000)),
                _ => {}
            }
        }
        let snapshot = snapshot(self.case, &self.weights);
        self.scheduler.set_network(snapshot);
        self.add();
    }

    fn is_there(&self, relay: &Fingerprint) -> bool {
        self.weights[number(relay)].is_some()
    }

    /// The whole round; false if it ended because nothing works.
    fn run(&mut self) -> bool {
        for _ in 0..200_000 {
            let step = self.scheduler.next(self.now);
            self.log.push(format!("{:?} {step:?}", self.now));
            match step {
                Action::Start(id, assignment) => self.start(id, assignment),
                Action::Unable { target, kind, .. } => {
                    let unknown = kind == FailureKind::UnknownRelay;
                    assert_eq!(unknown, !self.is_there(&target.fingerprint), "{kind}");
                    self.settle(target.fingerprint);
                }
                Action::Wait(wake) => self.wait(wake),
                Action::Broken => return false,
                Action::Done => {
                    assert!(self.running.is_empty());
                    assert_eq!(self.settled, self.added);
                    let mut destinations = self.scheduler.destinations().into_iter();
                    assert!(destinations.all(|one| one.reserved == 0.0));
                    return true;
                }
                other => panic!("{other:?}"),
            }
        }
        panic!(
            "no end: {} of {} settled",
            self.settled.len(),
            self.added.len()
        );
    }

    /// The measurement that has just begun fits at its destination: it has room
    /// there, or is alone.
    fn check_destination(&self, destination: &Destination) {
        let Some(limit) = self.limits.destination else {
            return;
        };
        let running = self.running.iter();
        let there = running.filter(|one| one.assignment.destination == *destination);
        let reports = self.scheduler.destinations();
        let report = reports.iter().find(|one| one.destination == *destination);
        let (reserved, limit) = (report.unwrap().reserved, limit.value() as f64);
        assert!(
            reserved <= limit * (1.0 + 1e-9) || there.count() == 1,
            "{reserved} of {limit}"
        );
    }

    /// Returns true if a record settles its relay with its rate. A verdict fits its record.
    fn accept(&self, ended: &Completion) -> bool {
        let measured = matches!(ended.outcome, Outcome::Measured(_));
        match ended.verdict {
            Verdict::Accepted => ended.settled,
            Verdict::LowerBound(_) | Verdict::Remeasure(_) => {
                assert!(measured, "{ended:?}");
                false
            }
            _ => {
                assert!(!measured, "{ended:?}");
                false
            }
        }
    }

    fn settle(&mut self, target: Fingerprint) {
        assert!(self.settled.insert(target), "{target} is settled twice");
    }

    fn helpers(&self) -> impl Iterator<Item = &Fingerprint> {
        let running = self.running.iter();
        running.flat_map(|one| one.assignment.helpers.iter().chain(&one.joined))
    }

    fn begin_circuits(&mut self, helpers: &[Fingerprint], target: Fingerprint) {
        let mut distinct: Vec<_> = helpers.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), helpers.len(), "a helper helps twice");
        for helper in helpers {
            assert_ne!(*helper, target, "it helps itself");
            assert!(self.is_there(helper), "{helper} has left");
            let measured = |one: &Running| one.assignment.target.fingerprint == *helper;
            assert!(
                !self.running.iter().any(measured),
                "{helper} is being measured"
            );
            self.circuits.push(self.now);
        }
        let recent = self.circuits.iter().rev();
        let recent = recent.take_while(|&&at| at + Duration::from_secs(1) > self.now);
        // One measurement's circuits may go over it, if they begin alone.
        let (recent, most) = (recent.count(), self.limits.circuits_per_second as usize);
        assert!(
            recent <= most.max(helpers.len()),
            "{recent} circuits in a second"
        );
    }

    fn start(&mut self, id: RunId, assignment: Assignment) {
        assert!(self.seen.insert(id), "{id:?} was given before");
        let target = assignment.target.fingerprint;
        let measured = |one: &Running| one.assignment.target.fingerprint == target;
        assert!(
            !self.running.iter().any(measured),
            "{target} is measured twice"
        );
        assert!(
            !self.helpers().any(|helper| *helper == target),
            "{target} helps"
        );
        assert!(!assignment.helpers.is_empty());
        assert!(self.is_there(&target), "{target} has left");
        self.begin_circuits(&assignment.helpers, target);
        let circuits = self.helpers().count() + assignment.helpers.len();
        let most = self.limits.circuits.max(assignment.helpers.len());
        assert!(circuits <= most, "{circuits} circuits at a time");
        let takes = Duration::from_millis(self.rng.random_range(200..6000));
        let moved = assignment
            .helpers
            .iter()
            .map(|helper| (*helper, 0))
            .collect();
        let destination = assignment.destination.clone();
        self.running.push(Running {
            id,
            assignment,
            begun: self.now,
            ends: self.now + takes,
            slices: Vec::new(),
            joined: Vec::new(),
            moved,
        });
        self.check_destination(&destination);
    }

    /// Lets time pass until something happens: a measurement is looked at, or ends.
    fn wait(&mut self, wake: Option<Duration>) {
        if self.case.changes && self.rng.random_bool(0.2) {
            self.change();
            return;
        }
        if self.running.is_empty() {
            // Progress: nothing runs, so there must be a time to go on at.
            let wake =
                wake.unwrap_or_else(|| panic!("stuck with {} waiting", self.scheduler.waiting()));
            assert!(wake > self.now, "{wake:?} is not later than {:?}", self.now);
            self.now = wake;
            return;
        }
        let index = self.rng.random_range(0..self.running.len());
        if self.rng.random_bool(0.4) {
            self.now += Duration::from_millis(self.rng.random_range(1..300));
            self.look_at(index);
        } else {
            let one = self.running.swap_remove(index);
            self.now = self.now.max(one.ends);
            self.end(one);
        }
    }

    fn truth(&self, relay: &Fingerprint) -> f64 {
        let relay = &self.case.relays[number(relay)];
        relay.weight as f64 * 1000.0 * relay.truth
    }

    fn look_at(&mut self, index: usize) {
        let target = self.running[index].assignment.target.fingerprint;
        let truth = self.truth(&target) * self.rng.random_range(0.5..1.5);
        let now = self.now;
        let one = &mut self.running[index];
        let slices = (now.saturating_sub(one.begun).as_millis() / SLICE.as_millis()) as usize;
        let bytes = (truth * SLICE.as_secs_f64()) as u64;
        let fresh = slices.saturating_sub(one.slices.len()) as u64;
        one.slices.resize(slices, Slice::new(SLICE, bytes));
        let circuits = one.moved.len() as u64;
        one.moved
            .values_mut()
            .for_each(|sum| *sum += fresh * bytes / circuits);
        let moved: Vec<_> = one.moved.iter().map(|(id, sum)| (*id, *sum)).collect();
        let correction = self.scheduler.observe(one.id, now, &one.slices, &moved);
        self.log.push(format!("{now:?} {correction:?}"));
        self.begin_circuits(&correction.join, target);
        let circuits = self.helpers().count() + correction.join.len();
        assert!(correction.join.is_empty() || circuits <= self.limits.circuits);
        let one = &mut self.running[index];
        for helper in correction.join {
            assert!(
                one.moved.insert(helper, 0).is_none(),
                "{helper} joins twice"
            );
            one.joined.push(helper);
        }
    }

    fn end(&mut self, one: Running) {
        let target = one.assignment.target.fingerprint;
        let wall = UnixMillis::from_secs(1_790_000_000).after(self.now);
        let position = one.assignment.position;
        let mut attempt = Attempt::new(one.assignment.target.clone(), position, wall);
        attempt.helpers.clone_from(&one.assignment.helpers);
        attempt.helpers.extend(one.joined);
        let fails = self.case.relays[number(&target)].fails;
        let outcome = if !self.is_there(&target) && self.rng.random_bool(0.5) {
            let (stage, kind) = (Stage::Channel, FailureKind::UnknownRelay);
            let failure = Failure::new(attempt, wall, stage, kind, Blame::Target, "it left");
            Outcome::Failed(failure)
        } else if self.rng.random_bool(fails) {
            let stages = [Stage::Channel, Stage::Extend, Stage::Begin, Stage::Transfer];
            let stage = stages[self.rng.random_range(0..stages.len())];
            let (kind, blame) = (FailureKind::Timeout, Blame::Path);
            Outcome::Failed(Failure::new(attempt, wall, stage, kind, blame, "simulated"))
        } else {
            let rate = self.truth(&target) * self.rng.random_range(0.3..1.2);
            let slices = vec![Slice::new(Duration::from_secs(1), rate as u64)];
            let throttled = self.rng.random_bool(0.2);
            let transfer = Transfer::new(slices, usize::from(throttled), StopReason::Confident);
            let timings = Timings::default();
            Outcome::Measured(Measurement::new(attempt, wall, timings, vec![transfer]))
        };
        let slices = |outcome: &Outcome| match outcome {
            Outcome::Measured(measurement) => Some(measurement.transfers.clone()),
            Outcome::Failed(_) => None,
        };
        let before = slices(&outcome);
        let ended = self.scheduler.end(one.id, self.now, outcome);
        // A record is a fact: whatever is thought of it, it stays what it was.
        assert_eq!(slices(&ended.outcome), before);
        assert_eq!(
            ended.verdict.gives_rate() && ended.settled,
            self.accept(&ended)
        );
        self.log
            .push(format!("{:?} {target} {:?}", self.now, ended.verdict));
        if ended.settled {
            self.settle(target);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Budgets hold, nobody is measured twice at a time or helps meanwhile,
    /// something goes on as long as there is something to do, and in the end
    /// every relay is settled, once; whatever the consensus says meanwhile.
    #[test]
    fn every_relay_is_settled_within_the_budgets(case in case()) {
        let mut world = World::new(&case);
        let whole = world.run();
        let may_break = case.changes || case.relays.iter().any(|relay| relay.fails > 0.0);
        prop_assert!(whole || may_break);
    }

    #[test]
    fn the_same_seed_decides_the_same(case in case()) {
        let (mut first, mut second) = (World::new(&case), World::new(&case));
        prop_assert_eq!(first.run(), second.run());
        prop_assert_eq!(first.log, second.log);
    }
}
