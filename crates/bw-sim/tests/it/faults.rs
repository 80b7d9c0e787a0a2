//! Networks in which not everything is as it should be.

use std::time::Duration;

use bw_sim::{Accuracy, Entry, Model, Nature, Outage, Population, Server};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::{destination, limits, network, round};

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_scan() {
    let mut population = Population::public_network(400);
    (population.load, population.swing) = (0.3, 0.1);
    population.natures = vec![(0.1, Nature::Silent), (0.1, Nature::Flaky { share: 0.5 })];
    let mut scans = Vec::new();
    for seed in [7, 7, 8] {
        let model = network(&population, seed).build();
        let (report, ledger) = round(&model, limits(), seed).await;
        scans.push((report, ledger.entries(), model.usage()));
    }
    assert!(scans[0] == scans[1]);
    assert!(scans[0] != scans[2]);
}

#[tokio::test(start_paused = true)]
async fn helpers_that_throttle_cost_honest_relays_little() {
    let mut population = Population::public_network(2000);
    population.natures = vec![(0.2, Nature::Throttles { factor: 0.3 })];
    let model = network(&population, 1).build();
    let (report, ledger) = round(&model, limits(), 1).await;
    assert_eq!(report.left, 0);
    let honest = ledger.accuracy(|nature| *nature == Nature::Honest).unwrap();
    println!("a fifth of the helpers throttles: honest relays {honest:?}");
    let off = (honest.ratio - 1.0).abs().max(honest.off);
    assert!(off <= 0.1, "{honest:?}");
}

#[tokio::test(start_paused = true)]
async fn liars_are_seen_as_they_serve() {
    let mut population = Population::public_network(500);
    population.natures = vec![(0.05, Nature::Favours { factor: 2.0 })];
    let model = network(&population, 1).build();
    let (_, ledger) = round(&model, limits(), 1).await;
    // No download can tell; this is what is left to be found by other means. But who declares
    // a limit has no more than that lets pass.
    let model = &model;
    let ratios = |limited: bool| {
        let liars = ledger.entries().into_iter().filter_map(move |(id, entry)| {
            let relay = model.relay(&id)?;
            let counts = relay.nature != Nature::Honest && (relay.bucket > 0) == limited;
            counts.then_some((entry.rate?, relay.available()))
        });
        Accuracy::of(liars).unwrap()
    };
    let (free, limited) = (ratios(false), ratios(true));
    assert!((free.ratio - 2.0).abs() < 0.2, "{free:?}");
    assert!((limited.ratio - 1.0).abs() < 0.1, "{limited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_dies_and_comes_back_stops_nothing() {
    for silent in [false, true] {
        let relays = Population::public_network(1500).generate(&mut StdRng::seed_from_u64(1));
        let mut dying = Server::new(destination(2));
        let (from, until) = (Duration::from_secs(60), Duration::from_secs(240));
        dying.outages = vec![Outage {
            from,
            until,
            silent,
        }];
        let servers = [Server::new(destination(1)), dying];
        let [steady, dying] = servers;
        let model = Model::builder()
            .relays(relays)
            .server(steady)
            .server(dying)
            .build();
        let (report, ledger) = round(&model, limits(), 1).await;
        println!("silent: {silent}: {report:?}");
        assert_eq!((report.measured, report.failed, report.left), (1500, 0, 0));
        assert!(ledger.entries().values().all(is_answered));
        let [steady, dying] = &report.destinations[..] else {
            panic!("{report:?}");
        };
        assert!(steady.outages == 0 && dying.outages > 0, "{report:?}");
        // Used before and after.
        assert!(model.elapsed() > until * 2 && dying.measured * 4 > steady.measured);
    }
}

#[tokio::test(start_paused = true)]
async fn relays_that_come_and_go_are_answered_for() {
    let mut relays = Population::public_network(600).generate(&mut StdRng::seed_from_u64(1));
    for (number, relay) in relays.iter_mut().enumerate() {
        if number % 10 == 0 {
            relay.leaves = Some(Duration::from_secs(60 + number as u64));
        }
    }
    let model = Model::builder()
        .relays(relays)
        .server(Server::new(destination(1)))
        .consensus_interval(Duration::from_secs(120))
        .build();
    let (report, ledger) = round(&model, limits(), 1).await;
    println!("{report:?}");
    assert_eq!((report.measured + report.failed, report.left), (600, 0));
    for (fingerprint, entry) in ledger.entries() {
        let stays = model.relay(&fingerprint).unwrap().leaves.is_none();
        assert!(
            entry.settled.is_some() && (is_answered(&entry) || !stays),
            "{entry:?}"
        );
    }
}

/// Returns true if a relay has a rate, or a lower bound if it is faster than the link.
fn is_answered(entry: &Entry) -> bool {
    entry.rate.is_some() || entry.lower_bound.is_some()
}
