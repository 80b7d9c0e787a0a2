//! Rounds over networks as large as the public one.

use std::collections::BTreeMap;
use std::time::Instant;

use bw_sim::{Ledger, Model, Nature, Population};

use crate::{GIGABIT, limits, minutes, network, round};

/// What a scan took and found.
fn print(name: &str, model: &Model, ledger: &Ledger, begin: Instant) {
    let usage = model.usage();
    let bytes: u64 = ledger.entries().values().map(|entry| entry.bytes).sum();
    println!(
        "{name}: {:.1} min virtual, {:.1} s real, {:.1} GB; {} circuits, at most {} at a time \
         and {} begun in a second; link at most {:.1} MB/s in a tick, {:.1} in a second, {:.1} in ten",
        minutes(model.elapsed()),
        begin.elapsed().as_secs_f64(),
        bytes as f64 / 1e9,
        usage.circuits,
        usage.most_flows,
        usage.most_circuits_per_second,
        usage.link.peak / 1e6,
        usage.link_peak(20) * 20.0 / 1e6,
        usage.link_peak(200) * 20.0 / 1e6,
    );
    println!(
        "  honest relays: {:?}",
        ledger.accuracy(|nature| *nature == Nature::Honest)
    );
    let mut found = BTreeMap::new();
    for entry in ledger.entries().values() {
        *found
            .entry((entry.rate.is_some(), entry.cause))
            .or_insert(0) += 1;
    }
    println!("  (measured, last failure): {found:?}");
}

#[tokio::test(start_paused = true)]
async fn eight_thousand_relays() {
    let begin = Instant::now();
    let model = network(&Population::public_network(8000), 1).build();
    let (report, ledger) = round(&model, limits(), 1).await;
    print("8,000 relays", &model, &ledger, begin);
    assert_eq!((report.measured, report.failed, report.left), (8000, 0, 0));
    assert!(minutes(model.elapsed()) <= 60.0);
    // What holds now; the goal is the link's limit in every second.
    let usage = model.usage();
    let ten_seconds = usage.link_peak(200) * 20.0;
    assert!(ten_seconds <= 1.05 * GIGABIT as f64, "{ten_seconds} B/s");
    assert!(usage.most_circuits_per_second <= limits().circuits_per_second);
    assert!(usage.most_flows <= limits().circuits);
    let entries = ledger.entries();
    assert!(
        entries
            .values()
            .all(|entry| entry.settled.is_some() && entry.attempts <= 3)
    );
    let accuracy = ledger.accuracy(|_| true).unwrap();
    // The link is planned to be full, so that the pacer slows fast relays at times;
    // without it the error is less than half, and the link's limit means little.
    assert!(accuracy.sigma < 0.02 && accuracy.nwe < 0.08, "{accuracy:?}");
}

#[tokio::test(start_paused = true)]
async fn no_link_is_overdrawn_if_relays_are_what_they_are_said_to_be() {
    let begin = Instant::now();
    let mut population = Population::public_network(2000);
    (
        population.prior_sigma,
        population.limited,
        population.unmeasured,
    ) = (0.0, 0.0, 0.0);
    let model = network(&population, 3).build();
    let (report, ledger) = round(&model, limits(), 3).await;
    print("as they say", &model, &ledger, begin);
    assert_eq!(report.measured, 2000);
    let ten_seconds = model.usage().link_peak(200) * 20.0;
    assert!(ten_seconds <= GIGABIT as f64, "{ten_seconds} B/s");
}
