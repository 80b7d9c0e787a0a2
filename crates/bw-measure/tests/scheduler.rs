//! Properties of the scheduler, on arbitrary networks with arbitrary outcomes
//! in arbitrary order: no clock, no network, no waiting.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bw_file::{BytesPerSecond, Fingerprint, KilobytesPerSecond};
use bw_measure::{
    Assignment, Destination, HelperChoice, HelperPolicy, HelperRequest, Limits, RunId, Scheduler,
    SpareHelpers, Step,
};
use bw_results::{
    Attempt, Blame, Failure, FailureKind, Measurement, NetworkSnapshot, Outcome, PortRanges,
    RelayFacts, Slice, Stage, StopReason, Timings, Transfer, UnixMillis,
};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A relay as it is: the scheduler sees the weight only.
#[derive(Clone, Debug)]
struct Relay {
    /// kB/s.
    weight: u64,
    /// What it really carries of that.
    truth: f64,
    exit: bool,
    /// The share of attempts at it that fail.
    fails: f64,
}

#[derive(Clone, Debug)]
struct Case {
    relays: Vec<Relay>,
    /// kB/s.
    link: u64,
    circuits: usize,
    per_second: u32,
    helpers: usize,
    seed: u64,
}

fn relay() -> impl Strategy<Value = Relay> {
    let fails = prop_oneof![3 => Just(0.0), 1 => 0.0..0.5_f64, 1 => Just(1.0)];
    (
        1_u64..50_000,
        0.2..3.0_f64,
        prop::bool::weighted(0.4),
        fails,
    )
        .prop_map(|(weight, truth, exit, fails)| Relay {
            weight,
            truth,
            exit,
            fails,
        })
}

fn case() -> impl Strategy<Value = Case> {
    (
        prop::collection::vec(relay(), 1..40),
        100_u64..60_000,
        1_usize..20,
        1_u32..20,
        1_usize..9,
        any::<u64>(),
    )
        .prop_map(|(relays, link, circuits, per_second, helpers, seed)| Case {
            relays,
            link,
            circuits,
            per_second,
            helpers,
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

fn snapshot(case: &Case) -> Arc<NetworkSnapshot> {
    let relays = case.relays.iter().enumerate().map(|(number, relay)| {
        let weight = KilobytesPerSecond::new(relay.weight);
        let mut facts = RelayFacts::new(id(number), "r", weight);
        (facts.flags.running, facts.flags.valid) = (true, true);
        if relay.exit {
            facts.flags.exit = true;
            facts.exit_ports = PortRanges::all();
        }
        facts
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
    /// How many circuits each helper that joined later has.
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
    settled: BTreeSet<Fingerprint>,
    circuits: Vec<Duration>,
    seen: BTreeSet<RunId>,
    /// What was decided, in order.
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
        let destination: Destination = "https://bw.example/1GiB".parse().unwrap();
        let mut scheduler = Scheduler::new(
            Watched(SpareHelpers::default()),
            limits.clone(),
            vec![destination],
            snapshot(case),
            StdRng::seed_from_u64(case.seed),
        );
        (0..case.relays.len()).for_each(|number| scheduler.add(id(number), None));
        Self {
            case,
            scheduler,
            limits,
            rng: StdRng::seed_from_u64(!case.seed),
            now: Duration::ZERO,
            running: Vec::new(),
            settled: BTreeSet::new(),
            circuits: Vec::new(),
            seen: BTreeSet::new(),
            log: Vec::new(),
        }
    }

    /// The whole round; false if it ended because nothing works.
    fn run(&mut self) -> bool {
        for _ in 0..200_000 {
            let step = self.scheduler.next(self.now);
            self.log.push(format!("{:?} {step:?}", self.now));
            self.check_link();
            match step {
                Step::Start(id, assignment) => self.start(id, assignment),
                Step::Unable { target, .. } => self.settle(target.fingerprint),
                Step::Wait(wake) => self.wait(wake),
                Step::Broken => return false,
                Step::Done => {
                    assert!(self.running.is_empty());
                    assert_eq!(self.settled.len(), self.case.relays.len());
                    return true;
                }
                other => panic!("{other:?}"),
            }
        }
        panic!(
            "no end: {} of {} settled",
            self.settled.len(),
            self.case.relays.len()
        );
    }

    fn check_link(&self) {
        let (reserved, link) = (self.scheduler.reserved(), self.limits.link.value() as f64);
        assert!(reserved <= link * (1.0 + 1e-9), "{reserved} of {link}");
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
        self.running.push(Running {
            id,
            assignment,
            begun: self.now,
            ends: self.now + takes,
            slices: Vec::new(),
            joined: Vec::new(),
            moved,
        });
    }

    /// Lets time pass until something happens: a measurement is looked at, or ends.
    fn wait(&mut self, wake: Option<Duration>) {
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
        self.check_link();
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
        let slices = ((now - one.begun).as_millis() / SLICE.as_millis()) as usize;
        let bytes = (truth * SLICE.as_secs_f64()) as u64;
        let fresh = slices.saturating_sub(one.slices.len()) as u64;
        one.slices.resize(slices, Slice::new(SLICE, bytes));
        let circuits = one.moved.len() as u64;
        one.moved
            .values_mut()
            .for_each(|sum| *sum += fresh * bytes / circuits);
        let moved: Vec<_> = one.moved.iter().map(|(id, sum)| (*id, *sum)).collect();
        let correction = self
            .scheduler
            .observe(one.id, now, &one.slices, &moved, false);
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
        let outcome = if self.rng.random_bool(fails) {
            let stages = [Stage::Channel, Stage::Extend, Stage::Begin, Stage::Transfer];
            let stage = stages[self.rng.random_range(0..stages.len())];
            let (kind, blame) = (FailureKind::Timeout, Blame::Path);
            Outcome::Failed(Failure::new(attempt, wall, stage, kind, blame, "simulated"))
        } else {
            let rate = self.truth(&target) * self.rng.random_range(0.3..1.2);
            let slices = vec![Slice::new(Duration::from_secs(1), rate as u64)];
            let transfer = Transfer::new(slices, 0, StopReason::Confident);
            let timings = Timings::default();
            Outcome::Measured(Measurement::new(attempt, wall, timings, vec![transfer]))
        };
        let ended = self.scheduler.end(one.id, self.now, outcome, false);
        self.log
            .push(format!("{:?} {target} {}", self.now, ended.settled));
        if ended.settled {
            self.settle(target);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Budgets hold, nobody is measured twice at a time or helps meanwhile,
    /// something goes on as long as there is something to do, and in the end
    /// every relay is settled, once.
    #[test]
    fn every_relay_is_settled_within_the_budgets(case in case()) {
        let mut world = World::new(&case);
        let whole = world.run();
        prop_assert!(whole || case.relays.iter().any(|relay| relay.fails > 0.0));
    }

    #[test]
    fn the_same_seed_decides_the_same(case in case()) {
        let (mut first, mut second) = (World::new(&case), World::new(&case));
        prop_assert_eq!(first.run(), second.run());
        prop_assert_eq!(first.log, second.log);
    }
}
