//! Rounds over networks as large as the public one.

use std::collections::BTreeMap;
use std::time::Instant;

use bw_file::BytesPerSecond;
use bw_sim::{Accuracy, Ledger, Model, Nature, Population, UsageReport};

use crate::{GIGABIT, limits, minutes, network, round};

/// The bytes that a stream may bring while nobody reads: 500 cells.
const UNREAD: f64 = 500.0 * 498.0;
/// The streams that may begin in one second when the link is full: those of three measurements.
const STREAMS: f64 = 12.0;

/// The cost and the findings of a scan.
fn print(name: &str, model: &Model, ledger: &Ledger, (link, begin): (u64, Instant)) {
    let usage = model.usage();
    let bytes: u64 = ledger.entries().values().map(|entry| entry.bytes).sum();
    println!(
        "{name}: {:.1} min virtual, {:.1} s real, {:.1} GB; {} circuits, at most {} at a time \
         and {} begun in a second",
        minutes(model.elapsed()),
        begin.elapsed().as_secs_f64(),
        bytes as f64 / 1e9,
        usage.circuits,
        usage.most_flows,
        usage.most_circuits_per_second,
    );
    let over = |bytes: &&u64| **bytes * 20 > link;
    println!(
        "  link: at most {:.1} MB/s in a tick ({:.1} read), {:.1} in a second, {:.1} in ten; \
         {} ticks of {} above the limit",
        usage.link.peak / 1e6,
        usage.most_read as f64 * 20.0 / 1e6,
        usage.link_peak(20) * 20.0 / 1e6,
        usage.link_peak(200) * 20.0 / 1e6,
        usage.link_trace.iter().filter(over).count(),
        usage.link_trace.len(),
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
    // The most memory that this process ever had (proc(5)); of all tests, if they share it.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM"));
    println!("  {}", peak.unwrap_or("memory unknown"));
}

/// No budget is exceeded.
fn check(model: &Model) {
    let usage = model.usage();
    check_link(&usage, GIGABIT as f64);
    assert!(usage.most_circuits_per_second <= limits().circuits_per_second);
    assert!(usage.most_flows <= limits().circuits);
}

/// The link is kept to: 95 % of it over ten seconds, and in each second no more than its token
/// bucket and what streams bring before their senders know that nobody reads.
fn check_link(usage: &UsageReport, link: f64) {
    let second = usage.link_peak(20) * 20.0;
    assert!(second <= link * 1.2 + STREAMS * UNREAD, "{second} B/s");
    let ten_seconds = usage.link_peak(200) * 20.0;
    assert!(ten_seconds <= link, "{ten_seconds} B/s");
}

#[tokio::test(start_paused = true)]
async fn eight_thousand_relays() {
    let mut rounds = Vec::new();
    for _ in 0..2 {
        let begin = Instant::now();
        let model = network(&Population::public_network(8000), 1).build();
        let (report, ledger) = round(&model, limits(), 1).await;
        print("8,000 relays", &model, &ledger, (GIGABIT, begin));
        check(&model);
        assert!(minutes(model.elapsed()) <= 60.0);
        assert_eq!((report.measured, report.failed, report.left), (8000, 0, 0));
        let entries = ledger.entries();
        assert!(
            entries
                .values()
                .all(|entry| entry.settled.is_some() && entry.attempts <= 60)
        );
        let accuracy = ledger.accuracy(|_| true).unwrap();
        assert!(
            accuracy.sigma < 0.005 && accuracy.nwe < 0.02,
            "{accuracy:?}"
        );
        rounds.push((report, entries, model.usage()));
    }
    assert!(rounds[0] == rounds[1], "the same seed, another round");
}

#[tokio::test(start_paused = true)]
async fn eight_thousand_relays_of_which_a_fifth_fails() {
    let begin = Instant::now();
    let mut population = Population::public_network(8000);
    (population.load, population.swing) = (0.3, 0.1);
    population.natures = vec![
        (0.04, Nature::Refuses),
        (0.04, Nature::Silent),
        (0.04, Nature::Flaky { share: 0.5 }),
        (0.04, Nature::Stalls { after: 50_000 }),
        (0.02, Nature::Cuts { after: 50_000 }),
        (0.02, Nature::AccusesServers),
    ];
    let model = network(&population, 2).build();
    let (report, ledger) = round(&model, limits(), 2).await;
    print("a fifth fails", &model, &ledger, (GIGABIT, begin));
    check(&model);
    assert_eq!((report.measured + report.failed, report.left), (8000, 0));
    for (fingerprint, entry) in &ledger.entries() {
        let nature = model.relay(fingerprint).unwrap().nature;
        let bound = entry.lower_bound.is_some();
        let answered = entry.rate.is_some() || bound || entry.cause.is_some();
        assert!(answered && entry.settled.is_some(), "{nature:?} {entry:?}");
        if matches!(nature, Nature::Refuses | Nature::Silent) {
            assert_eq!(entry.rate, None);
        }
    }
    // What others do wrong costs honest relays nothing but tries.
    let measured = ledger.accuracy(|nature| *nature == Nature::Honest).unwrap();
    let all = model.relays().iter();
    let honest = all.filter(|relay| relay.nature == Nature::Honest).count();
    // One in a hundred is faster than the link.
    assert!(measured.relays * 100 >= honest * 98, "{measured:?}");
}

/// A small link, at which streams that nobody reads are large: the limit holds
/// on average, and relays that fit are measured right.
#[tokio::test(start_paused = true)]
async fn a_small_link_is_kept_to() {
    let begin = Instant::now();
    let model = network(&Population::public_network(800), 1).build();
    let mut limits = limits();
    limits.link = BytesPerSecond::new(GIGABIT / 10);
    let (report, ledger) = round(&model, limits.clone(), 1).await;
    print("100 Mbit/s", &model, &ledger, (GIGABIT / 10, begin));
    assert_eq!((report.measured, report.failed, report.left), (800, 0, 0));
    let link = limits.link.value() as f64;
    check_link(&model.usage(), link);
    let slow = ledger.entries().into_iter().filter_map(|(id, entry)| {
        let available = model.relay(&id)?.available();
        (available < 0.7 * link).then_some((entry.rate?, available))
    });
    let accuracy = Accuracy::of(slow).unwrap();
    println!("  relays below 70 % of the link: {accuracy:?}");
    assert!(
        accuracy.sigma < 0.005 && accuracy.nwe < 0.05,
        "{accuracy:?}"
    );
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
    print("as they say", &model, &ledger, (GIGABIT, begin));
    assert_eq!(report.measured, 2000);
    check(&model);
}
