//! The scan loop over simulated networks, in virtual time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "figures, for --no-capture")]

mod attacks;
mod faults;
mod links;
mod model;
mod round;
mod rounds;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use bw_file::{BytesPerSecond, Fingerprint};
use bw_measure::{
    Destination, EachOnce, Event, HelperChoice, HelperPolicy, HelperRequest, Limits, Observer,
    Scan, ScanReport, SpareHelpers,
};
use bw_results::RelayFacts;
use bw_sim::{Builder, Ledger, Model, Population, Server};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// 1 Gbit/s.
const GIGABIT: u64 = 125_000_000;

fn destination(number: u8) -> Destination {
    format!("https://d{number}.example/1GiB").parse().unwrap()
}

/// A network of `population` with one server.
fn network(population: &Population, seed: u64) -> Builder {
    let relays = population.generate(&mut StdRng::seed_from_u64(seed));
    let server = Server::new(destination(1));
    Model::builder().relays(relays).server(server).seed(seed)
}

/// The default limits with a link of 1 Gbit/s.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.link = BytesPerSecond::new(GIGABIT);
    limits
}

/// Passes everything on to the model, and fails if a relay that is being
/// measured is in any other measurement.
struct Watch<'a> {
    model: &'a Model,
    targets: Mutex<BTreeSet<Fingerprint>>,
}

impl Observer for Watch<'_> {
    fn observe(&self, event: &Event<'_>) {
        self.model.observe(event);
        let mut targets = self.targets.lock().unwrap();
        match event {
            Event::Attempt(attempt) => {
                for helper in &attempt.helpers {
                    assert!(!targets.contains(helper), "{helper} is being measured");
                }
                let target = attempt.target.fingerprint;
                assert!(targets.insert(target), "{target} is measured twice");
            }
            Event::Ended(completion) => {
                targets.remove(&completion.outcome.attempt().target.fingerprint);
            }
            Event::Control(outcome) => {
                targets.remove(&outcome.attempt().target.fingerprint);
            }
            _ => {}
        }
    }
}

/// Chooses as [`SpareHelpers`] does, and fails if the helpers have not the room
/// that is needed, so that what is reserved on a helper never exceeds its budget.
#[derive(Debug)]
struct Checked;

impl HelperPolicy for Checked {
    fn choose(
        &mut self,
        request: &HelperRequest<'_>,
        rng: &mut dyn rand::Rng,
    ) -> Option<HelperChoice> {
        let choice = SpareHelpers::default().choose(request, rng)?;
        let relays = request.snapshot.relays.iter().enumerate();
        let helps = |relay: &RelayFacts| choice.helpers.contains(&relay.fingerprint);
        let room = relays.filter(|(_, relay)| helps(relay));
        let room: f64 = room.map(|(index, _)| (request.room)(index)).sum();
        assert!(room >= request.need * (1.0 - 1e-9), "{room} of {request:?}");
        assert!(choice.helpers.len() <= request.most, "{choice:?}");
        Some(choice)
    }
}

/// A round over all relays.
async fn round(model: &Model, limits: Limits, seed: u64) -> (ScanReport, Ledger) {
    let ledger = Ledger::new(model);
    let watch = Watch {
        model,
        targets: Mutex::default(),
    };
    let mut scan = Scan::builder(model, model.clone()).limits(limits);
    for server in model.servers() {
        scan = scan.destination(server.destination.clone());
    }
    let scan = scan.helper_policy(Checked).clock(model.clock()).seed(seed);
    let scan = scan.observer(watch);
    let report = scan.run(&EachOnce::default(), &ledger).await;
    (report.unwrap(), ledger)
}

fn minutes(time: Duration) -> f64 {
    time.as_secs_f64() / 60.0
}
