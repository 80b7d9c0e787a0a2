//! The model of a measurement, held to what the real scan loop finds on small
//! networks of `bw-sim`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bw_file::BytesPerSecond;
use bw_loop::{CIRCUITS, SPREAD, left};
use bw_measure::{EachOnce, Limits, Scan};
use bw_sim::{Accuracy, Ledger, Load, Model, Population, Server};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// The rates that the scan loop finds of 60 relays of which clients want this share, over
/// what the model says, relay by relay.
async fn found(load: f64, seed: u64) -> Accuracy {
    let mut population = Population::public_network(60);
    population.exits = 0.5;
    let mut relays = population.generate(&mut StdRng::seed_from_u64(seed));
    for relay in &mut relays {
        relay.load = Load::steady(load);
        // The model knows rates that last, not bursts.
        (relay.bucket, relay.line) = (0, relay.capacity);
    }
    let destination: bw_measure::Destination = "https://bw.example/1GiB".parse().unwrap();
    let server = Server::new(destination.clone());
    let model = Model::builder()
        .relays(relays)
        .server(server)
        .seed(seed)
        .build();
    let mut limits = Limits::default();
    limits.link = BytesPerSecond::new(125_000_000);
    let ledger = Ledger::new(&model);
    Scan::builder(&model, model.clone())
        .limits(limits)
        .destination(destination)
        .clock(model.clock())
        .observer(model.clone())
        .seed(seed)
        .run(&EachOnce::default(), &ledger)
        .await
        .unwrap();
    let entries = ledger.entries();
    let pairs = entries.iter().filter_map(|(fingerprint, entry)| {
        let capacity = model.relay(fingerprint)?.capacity.value() as f64;
        Some((entry.rate?, capacity * left(CIRCUITS, load)))
    });
    Accuracy::of(pairs.collect::<Vec<_>>()).unwrap()
}

#[tokio::test(flavor = "current_thread", start_paused = true)]
async fn the_scan_loop_finds_what_the_model_says() {
    for load in [0.0, 0.3, 0.5] {
        let found = found(load, 7).await;
        println!("load {load}: {found:?}");
        assert!(found.relays >= 50, "{found:?}");
        assert!((0.95..=1.05).contains(&found.ratio), "{load}: {found:?}");
        // Real relays are less steady than the fluid of bw-sim.
        assert!(found.sigma <= 2.0 * SPREAD, "{load}: {found:?}");
    }
}

/// Where clients leave less than a fair share, it depends on how many circuits the
/// scheduler uses, which is not modelled for each relay.
#[tokio::test(flavor = "current_thread", start_paused = true)]
async fn on_a_full_network_it_finds_about_as_much() {
    for load in [0.7, 0.9] {
        let found = found(load, 7).await;
        println!("load {load}: {found:?}");
        assert!((0.8..=1.6).contains(&found.ratio), "{found:?}");
    }
}
