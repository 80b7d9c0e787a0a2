//! Findings beside the weights: scanners that disagree, files not fit to
//! be published, why a relay has its weight.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::time::Duration;

use bw_aggregate::*;
use bw_file::{BytesPerSecond, Fingerprint, KilobytesPerSecond};
use bw_results::*;

const NOW: u64 = 1_790_000_000;

fn fingerprint(number: u64) -> Fingerprint {
    let mut bytes = [0; 20];
    bytes[12..].copy_from_slice(&number.to_be_bytes());
    Fingerprint::from_bytes(bytes)
}

fn network(relays: u64) -> NetworkSnapshot {
    let now = UnixMillis::from_secs(NOW);
    let facts = (0..relays).map(|number| {
        let weight = KilobytesPerSecond::new(1_000);
        let mut relay = RelayFacts::new(fingerprint(number), "x", weight);
        let bandwidth = BytesPerSecond::new(1_000_000);
        let rate = BytesPerSecond::new(1 << 30);
        relay.descriptor = Some(DescriptorFacts::new(now, rate, rate, bandwidth));
        relay
    });
    NetworkSnapshot::new(now, now, now, BTreeMap::new(), facts.collect())
}

/// A measurement at `rate` bytes per second, `age` seconds ago.
fn measured(relay: &RelayFacts, rate: u64, age: u64) -> Outcome {
    let ended = UnixMillis::from_secs(NOW - age);
    let attempt = Attempt::new(TargetFacts::from(relay), Position::Entry, ended);
    let slices = vec![Slice::new(Duration::from_secs(1), rate)];
    let transfer = Transfer::new(slices, 0, StopReason::Complete);
    let timings = Timings::default();
    Outcome::Measured(Measurement::new(attempt, ended, timings, vec![transfer]))
}

fn scaled(network: &NetworkSnapshot, rates: &[u64], age: u64) -> Scaled {
    let mut aggregator = Aggregator::new(AggregateOptions::default(), network);
    for (relay, &rate) in network.relays.iter().zip(rates) {
        aggregator.add(&measured(relay, rate, age));
    }
    let mut options = ScaleOptions::default();
    options.max_share = Some(1.0);
    scale(&aggregator.finish(), &options)
}

fn file(scaled: &Scaled) -> PreviousFile {
    let file = scaled.to_bandwidth_file(&FileFacts::new("x", "0")).unwrap();
    PreviousFile::parse(&file.build().unwrap())
}

/// Whatever relays call themselves, the others have their weights.
#[test]
fn no_nickname_stops_a_file() {
    let mut network = network(5);
    for (relay, name) in network
        .relays
        .iter_mut()
        .zip(["None", "a b", "é\u{1b}[2J", "", "x=\ny"])
    {
        relay.nickname = name.to_owned();
    }
    let scaled = scaled(&network, &[1_000_000; 5], 60);
    let file = scaled.to_bandwidth_file(&FileFacts::new("x", "0")).unwrap();
    let bytes = file.build().unwrap();
    assert_eq!(PreviousFile::parse(&bytes).relays.len(), 5);
    let text = String::from_utf8(bytes).unwrap();
    assert_eq!(text.matches(" nick=").count(), 1);
    assert!(text.contains(" nick=None "), "{text}");
}

fn problems(scaled: &Scaled, previous: Option<&PreviousFile>) -> Vec<String> {
    let now = UnixMillis::from_secs(NOW);
    let sanity = scaled.sanity(previous, now, &SanityLimits::default());
    assert_eq!(sanity.is_fit(), sanity.problems.is_empty());
    sanity.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn a_file_like_the_one_before_is_fit() {
    let network = network(20);
    let rates: Vec<u64> = (1..=20).map(|number| number * 100_000).collect();
    let before = file(&scaled(&network, &rates, 90_000));
    let next: Vec<u64> = rates.iter().map(|rate| rate * 2).collect();
    assert_eq!(
        problems(&scaled(&network, &next, 60), Some(&before)),
        [""; 0]
    );
    assert_eq!(problems(&scaled(&network, &next, 60), None), [""; 0]);
}

#[test]
fn what_makes_a_file_unfit() {
    let mut network = network(20);
    let rates = [1_000_000; 20];
    let before = file(&scaled(&network, &rates, 90_000));

    let old = problems(&scaled(&network, &rates, 40 * 3600), Some(&before));
    assert!(old[0].contains("40 hours old"), "{old:?}");

    let few = problems(&scaled(&network, &rates[..5], 60), Some(&before));
    assert!(
        few[0].contains("only 5 relays") && few.len() == 1,
        "{few:?}"
    );
    let first = problems(&scaled(&network, &rates[..5], 60), None);
    assert_eq!(first, [""; 0], "nobody votes with it anyway");

    // Half of the relays ten times faster than they were.
    let mut wild = rates;
    wild[..10].fill(100_000_000);
    let wild = problems(&scaled(&network, &wild, 60), Some(&before));
    assert!(
        wild.iter().any(|text| text.contains("50 % of the relays")),
        "{wild:?}"
    );

    // The relay that has nearly all of the weight is missing.
    network.relays[19].consensus_weight = KilobytesPerSecond::new(1_000_000);
    let light = problems(&scaled(&network, &rates[..19], 60), Some(&before));
    assert!(
        light
            .iter()
            .any(|text| text.contains("2 % of the consensus")),
        "{light:?}"
    );

    for relay in &mut network.relays {
        relay.consensus_weight = KilobytesPerSecond::new(100);
        relay.descriptor.as_mut().unwrap().observed = BytesPerSecond::new(900_000);
    }
    let far = problems(&scaled(&network, &rates, 60), Some(&before));
    assert!(
        far[0].contains("9.00 times that of the same relays"),
        "{far:?}"
    );

    let mut small = before;
    for relay in small.relays.values_mut() {
        relay.weight = KilobytesPerSecond::new(300);
    }
    let jump = problems(&scaled(&network, &rates, 60), Some(&small));
    assert!(
        jump[0].contains("3.00 times that of the previous"),
        "{jump:?}"
    );
}

#[test]
fn results_ahead_of_the_clock_count_for_nothing_and_many_stop_the_file() {
    let network = network(20);
    let until = UnixMillis::from_secs(NOW + 3_600);
    let mut options = AggregateOptions::default();
    options.until = Some(until);
    let with = |late: usize, others: u64| {
        let mut aggregator = Aggregator::new(options.clone(), &network);
        for (number, relay) in network.relays.iter().enumerate() {
            for other in 1..=others {
                aggregator.add(&measured(relay, 1_000_000, 3_600 * other));
            }
            if number < late {
                let mut outcome = measured(relay, 900_000_000, 0);
                let Outcome::Measured(measurement) = &mut outcome else {
                    unreachable!()
                };
                measurement.ended = UnixMillis::from_secs(NOW + 7_200);
                aggregator.add(&outcome);
            }
        }
        scale(&aggregator.finish(), &ScaleOptions::default())
    };
    let honest = with(0, 1);
    for late in [1, 2] {
        let scaled = with(late, 1);
        assert_eq!(file(&scaled), file(&honest), "{late}");
        assert_eq!(problems(&scaled, None), [""; 0]);
    }
    let wrong = problems(&with(3, 1), None);
    assert!(wrong[0].contains("15 % of the relays"), "{wrong:?}");
    assert!(wrong[0].contains("clock"), "{wrong:?}");
    // A clock that was ahead for a while and was set right stops nothing.
    assert_eq!(problems(&with(20, 2), None), [""; 0]);

    // Nothing else is known of this one.
    let mut aggregator = Aggregator::new(options.clone(), &network);
    let mut outcome = measured(&network.relays[0], 5, 0);
    if let Outcome::Measured(measurement) = &mut outcome {
        measurement.ended = UnixMillis::from_secs(316_000_000_000);
    }
    aggregator.add(&outcome);
    let aggregates = aggregator.finish();
    let reason = aggregates.relays[0].verdict.unwrap_err();
    assert_eq!(reason, Reason::AheadOfClock { outcomes: 1 });
    let summary = OutcomeSummary::from(&outcome);
    assert_eq!(
        aggregates.relays[0].use_of(&summary, &options),
        Use::AheadOfClock
    );
    // A time that no file can hold counts for nothing whatever was asked for.
    assert!(AggregateOptions::default().is_ahead(outcome.ended()));
}

/// The statistics of two scanners: the second sees `factor` times what the
/// first does, over its own relays or the same ones.
fn two_scanners(factor: f64, shared: bool) -> Vec<ScannerStatistics> {
    let network = network(60);
    let mut scanners = Scanners::default();
    for (number, relay) in network.relays.iter().enumerate() {
        let noise = 1.0 + 0.2 * ((number * 7 % 11) as f64 / 11.0 - 0.5);
        let rate = 400_000.0 * noise;
        let second = (rate * factor / noise * (2.0 - noise)) as u64;
        if shared || number % 2 == 0 {
            scanners.add("a", &(&measured(relay, rate as u64, 60)).into());
        }
        if shared || number % 2 == 1 {
            scanners.add("b", &(&measured(relay, second, 50)).into());
        }
    }
    scanners.finish()
}

#[test]
fn a_scanner_that_disagrees_is_told() {
    for (shared, basis) in [
        (true, Basis::SharedRelays),
        (false, Basis::ObservedBandwidth),
    ] {
        for (factor, disagrees) in [(1.0, false), (1.3, false), (2.0, true), (0.4, true)] {
            let [a, b] = <[_; 2]>::try_from(two_scanners(factor, shared)).unwrap();
            let (of_a, of_b) = (a.comparison.unwrap(), b.comparison.unwrap());
            assert_eq!((of_a.basis, of_b.basis), (basis, basis));
            assert_eq!(
                (of_a.disagrees, of_b.disagrees),
                (disagrees, disagrees),
                "{factor}"
            );
            assert!(
                (of_b.factor / factor).ln().abs() < 0.1,
                "{factor}: {of_b:?}"
            );
            assert_eq!(b.relays, if shared { 60 } else { 30 });
        }
    }
}

#[test]
fn one_scanner_has_nobody_to_disagree_with() {
    let network = network(30);
    let mut scanners = Scanners::default();
    for relay in &network.relays {
        scanners.add("alone", &(&measured(relay, 5, 9)).into());
    }
    let statistics = scanners.finish();
    assert_eq!(statistics.len(), 1);
    assert_eq!(statistics[0].comparison, None);
}

#[test]
fn every_outcome_has_its_use_and_every_relay_its_checks() {
    let network = network(4);
    let mut options = AggregateOptions::default();
    options.since = Some(UnixMillis::from_secs(NOW - 1_000));
    options.min_measurements = 2;
    let outcomes = [
        measured(&network.relays[0], 1_000, 10),
        measured(&network.relays[0], 1_000, 20),
        measured(&network.relays[0], 1_000, 2_000),
        measured(&network.relays[1], 1_000, 10),
        measured(&network.relays[2], 1_000_000_000_000, 10),
        measured(&network.relays[2], 1_000_000_000_000, 20),
    ];
    let mut aggregator = Aggregator::new(options.clone(), &network);
    for outcome in &outcomes {
        aggregator.add(outcome);
    }
    let aggregates = aggregator.finish();
    let uses: Vec<Use> = outcomes
        .iter()
        .map(|outcome| {
            let fingerprint = outcome.attempt().target.fingerprint;
            let relay = aggregates.relay(&fingerprint).unwrap();
            relay.use_of(&outcome.into(), &options)
        })
        .collect();
    use Use::{Counted, NoRate, TooFew, TooOld};
    assert_eq!(uses, [Counted, Counted, TooOld, TooFew, NoRate, NoRate]);
    let failed = |number: u64| {
        let relay = aggregates.relay(&fingerprint(number)).unwrap();
        let checks = relay.checks(Method::Torflow);
        assert_eq!(checks.len(), 10);
        assert_eq!(relay.checks(Method::Capacity).len(), 9);
        let failed = checks.iter().find(|check| check.holds == Some(false));
        failed.map(|check| check.condition)
    };
    assert_eq!(failed(0), None);
    assert_eq!(failed(1), Some("measured often enough"));
    assert_eq!(failed(2), Some("a rate that can be believed"));
    assert_eq!(failed(3), Some("tried in the days that are looked at"));
}

#[test]
fn places_among_all_and_among_the_class() {
    let mut network = network(5);
    for number in [1, 3] {
        network.relays[number].flags.exit = true;
    }
    let rates = [100_000, 200_000, 300_000, 400_000];
    let scaled = scaled(&network, &rates, 60);
    let standing = scaled.standing(&fingerprint(1)).unwrap();
    assert_eq!((standing.rank, standing.of), (3, 4));
    assert_eq!((standing.class_rank, standing.class_of), (2, 2));
    assert!((standing.share - 0.2).abs() < 0.01, "{standing:?}");
    assert_eq!(scaled.standing(&fingerprint(4)), None);
}
