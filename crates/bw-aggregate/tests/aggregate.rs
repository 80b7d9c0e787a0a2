//! Aggregation and scaling, from outcomes to the file's bytes.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::time::Duration;

use bw_aggregate::{ErrorKind, *};
use bw_file::{BytesPerSecond, Document, Fingerprint, KilobytesPerSecond};
use bw_results::*;
use proptest::prelude::*;

const NOW: u64 = 1_790_000_000;

fn fingerprint(number: u64) -> Fingerprint {
    let mut bytes = [0; 20];
    // Spread out, so that the order of fingerprints is not that of numbers.
    bytes[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    bytes[12..].copy_from_slice(&number.to_be_bytes());
    Fingerprint::from_bytes(bytes)
}

fn relay(number: u64, observed: u64, burst: u64, average: u64) -> RelayFacts {
    let mut relay = RelayFacts::new(
        fingerprint(number),
        &format!("relay{number}"),
        KilobytesPerSecond::new(number + 1),
    );
    relay.descriptor = Some(DescriptorFacts::new(
        UnixMillis::from_secs(NOW),
        BytesPerSecond::new(average),
        BytesPerSecond::new(burst),
        BytesPerSecond::new(observed),
    ));
    relay
}

fn network(relays: Vec<RelayFacts>) -> NetworkSnapshot {
    let now = UnixMillis::from_secs(NOW);
    NetworkSnapshot::new(now, now, now, BTreeMap::new(), relays)
}

/// A measurement of `bytes` in `micros`, `age` seconds old.
fn measured(relay: &RelayFacts, bytes: u64, micros: u64, age: u64) -> Outcome {
    let ended = UnixMillis::from_secs(NOW - age);
    let attempt = Attempt::new(TargetFacts::from(relay), Position::Entry, ended);
    let slices = vec![Slice::new(Duration::from_micros(micros), bytes)];
    let transfer = Transfer::new(slices, 0, StopReason::Complete);
    Outcome::Measured(Measurement::new(
        attempt,
        ended,
        Timings::default(),
        vec![transfer],
    ))
}

fn failed(relay: &RelayFacts, stage: Stage, kind: FailureKind, age: u64) -> Outcome {
    let ended = UnixMillis::from_secs(NOW - age);
    let attempt = Attempt::new(TargetFacts::from(relay), Position::Entry, ended);
    Outcome::Failed(Failure::new(attempt, ended, stage, kind, Blame::Path, "x"))
}

fn aggregates(network: &NetworkSnapshot, outcomes: &[Outcome]) -> Aggregates {
    aggregates_with(AggregateOptions::default(), network, outcomes)
}

fn aggregates_with(
    options: AggregateOptions,
    network: &NetworkSnapshot,
    outcomes: &[Outcome],
) -> Aggregates {
    let mut aggregator = Aggregator::new(options, network);
    for outcome in outcomes {
        aggregator.add(outcome);
    }
    aggregator.finish()
}

fn uncapped() -> ScaleOptions {
    let mut options = ScaleOptions::default();
    options.max_share = Some(1.0);
    options
}

/// The weights in the order of `relays`.
fn weights(scaled: &Scaled, relays: &[RelayFacts]) -> Vec<Option<u64>> {
    relays
        .iter()
        .map(|relay| {
            let answer = &scaled.relay(&relay.fingerprint).unwrap().answer;
            answer.weight().map(KilobytesPerSecond::value)
        })
        .collect()
}

fn reason(scaled: &Scaled, relay: &RelayFacts) -> Reason {
    match scaled.relay(&relay.fingerprint).unwrap().answer {
        Answer::Excluded(reason) => reason,
        Answer::Weight(weight) => panic!("a weight: {weight:?}"),
    }
}

#[test]
fn a_network_small_enough_to_reckon_by_hand() {
    let relays = vec![
        relay(0, 4_000_000, 9_000_000, 8_000_000),
        relay(1, 9_000_000, 2_000_000, 8_000_000),
        relay(2, 9_000_000, 9_000_000, 1_000_000),
    ];
    let network = network(relays.clone());
    let outcomes = [
        measured(&relays[0], 1_000_000, 1_000_000, 50),
        measured(&relays[0], 3_000_000, 1_000_000, 40),
        measured(&relays[1], 2_000_000, 1_000_000, 30),
        measured(&relays[2], 2_000_000, 1_000_000, 20),
    ];
    let scaled = scale(&aggregates(&network, &outcomes), &uncapped());
    // Means 2, 2, 2 MB/s: all at the mean of 2; filtered 3, 2, 2 to 7/3.
    assert_eq!(scaled.network.mean, 2e6);
    assert_eq!(scaled.network.filtered_mean, 7_000_000.0 / 3.0);
    // 9/7 of 4,000; then 1 of 2,000 and of 1,000.
    assert_eq!(
        weights(&scaled, &relays),
        [Some(5100), Some(2000), Some(1000)]
    );
    assert!(!scaled.network.under_minimum);

    // Nobody gets more than 40 % of what all get: 5,142.86 · 0.4 would be 2,000
    // of 5,000, as the others have 3,000.
    let mut options = ScaleOptions::default();
    options.max_share = Some(0.4);
    let scaled = scale(&aggregates(&network, &outcomes), &options);
    assert_eq!(
        weights(&scaled, &relays),
        [Some(2000), Some(2000), Some(1000)]
    );
    let Answer::Weight(first) = scaled.relay(&relays[0].fingerprint).unwrap().answer else {
        panic!()
    };
    assert!(first.is_limited && first.limited < first.unlimited);
    assert_eq!(first.advertised, BytesPerSecond::new(4_000_000));

    options.method = Method::Raw;
    let scaled = scale(&aggregates(&network, &outcomes), &options);
    assert_eq!(weights(&scaled, &relays), [Some(2000); 3]);
}

#[test]
fn every_reason() {
    let relays: Vec<_> = (0..9)
        .map(|number| {
            let mut relay = relay(number, 1_000_000, 1_000_000, 1_000_000);
            relay.flags.authority = number == 0;
            if number == 7 {
                relay.descriptor = None;
            }
            relay
        })
        .collect();
    let one = |number: usize, age| measured(&relays[number], 1_000_000, 1_000_000, age);
    let mut outcomes = vec![
        one(0, 10),
        failed(&relays[2], Stage::Extend, FailureKind::Timeout, 20),
        failed(&relays[2], Stage::Begin, FailureKind::Refused, 10),
        one(3, 90_000),
        one(3, 89_990),
        one(4, 900_000),
        one(4, 600_000),
        one(5, 10),
        one(7, 100_000),
        one(7, 50),
        one(8, 100_000),
        one(8, 50),
    ];
    for age in [100_000, 20] {
        outcomes.push(measured(&relays[6], u64::MAX / 4, 1, age));
    }
    let mut options = AggregateOptions::default();
    options.min_separation = Some(Duration::from_secs(60));
    options.since = Some(UnixMillis::from_secs(NOW - 200_000));
    options.min_measurements = 2;
    let network = network(relays.clone());
    let scaled = scale(&aggregates_with(options, &network, &outcomes), &uncapped());
    assert_eq!(reason(&scaled, &relays[0]), Reason::Authority);
    assert_eq!(reason(&scaled, &relays[1]), Reason::NotTried);
    let only_failures = reason(&scaled, &relays[2]);
    assert!(matches!(
        only_failures,
        Reason::OnlyFailures {
            failures: 2,
            stage: Stage::Begin,
            kind: FailureKind::Refused,
            ..
        }
    ));
    assert!(
        only_failures.to_string().contains("begin"),
        "{only_failures}"
    );
    assert!(matches!(
        reason(&scaled, &relays[3]),
        Reason::TooClose {
            measurements: 2,
            ..
        }
    ));
    assert!(matches!(
        reason(&scaled, &relays[4]),
        Reason::TooOld {
            measurements: 2,
            ..
        }
    ));
    let few = reason(&scaled, &relays[5]);
    assert!(matches!(
        few,
        Reason::TooFew {
            measurements: 1,
            needed: 2,
            ..
        }
    ));
    let implausible = reason(&scaled, &relays[6]);
    assert!(
        implausible
            .to_string()
            .contains("2000000 B/s, the most that is believed by its descriptor"),
        "{implausible}"
    );
    assert_eq!(reason(&scaled, &relays[7]), Reason::NoDescriptor);
    assert_eq!(weights(&scaled, &relays[8..]), [Some(1000)]);
    // One of eight relays that are no authorities.
    assert_eq!(
        (scaled.network.consensus_relays, scaled.network.minimum),
        (8, 5)
    );
    assert!(scaled.network.under_minimum);

    let gone = relay(99, 1, 1, 1);
    let aggregates = aggregates(&network, &[measured(&gone, 9, 9, 9)]);
    let gone = aggregates.relay(&gone.fingerprint).unwrap();
    assert_eq!(gone.verdict, Err(Reason::NotInConsensus));
    assert_eq!(scale(&aggregates, &uncapped()).relays.len(), 9);
}

#[test]
fn descriptors_come_from_the_snapshot_and_else_from_measurements() {
    let known = relay(0, 0, 5_000_000, 5_000_000);
    let mut unknown = relay(1, 3_000_000, 2_000_000, 9_000_000);
    let mut past = known.clone();
    past.descriptor.as_mut().unwrap().observed = BytesPerSecond::new(4_000_000);
    let outcomes = [
        measured(&past, 1_000_000, 1_000_000, 10),
        measured(&unknown, 1_000_000, 1_000_000, 10),
    ];
    unknown.descriptor = None;
    let relays = vec![known, unknown];
    let network = network(relays.clone());
    let scaled = scale(&aggregates(&network, &outcomes), &uncapped());
    // Observed 0 now: the mean of those at the measurements is used.
    assert_eq!(weights(&scaled, &relays), [Some(4000), Some(2000)]);
}

#[test]
fn an_outcome_of_two_stores_counts_once() {
    let target = relay(0, 1, 1, 1);
    let network = network(vec![target.clone()]);
    let outcome = measured(&target, 5, 5, 5);
    let mut aggregator = Aggregator::new(AggregateOptions::default(), &network);
    for scanner in ["a", "a", "b"] {
        aggregator.add_once(OutcomeId::new(scanner, &outcome), &outcome);
    }
    let aggregates = aggregator.finish();
    assert_eq!(aggregates.relays[0].counts.measured, 2);
}

#[test]
fn the_file_has_a_line_for_every_relay() {
    let relays: Vec<_> = (0..4)
        .map(|n| relay(n, 3_000_000, 2_000_000, 2_500_000))
        .collect();
    let network = network(relays.clone());
    let outcomes = [
        measured(&relays[0], 1_000_000, 1_000_000, 7_200),
        measured(&relays[1], 3_000_000, 1_000_000, 3_600),
        failed(&relays[2], Stage::Extend, FailureKind::Timeout, 60),
        failed(&relays[1], Stage::Path, FailureKind::NoHelper, 30),
        failed(&relays[1], Stage::Path, FailureKind::NoDestination, 30),
        failed(&relays[1], Stage::Content, FailureKind::Content, 30),
        failed(&relays[1], Stage::Create, FailureKind::Local, 30),
    ];
    let scaled = scale(&aggregates(&network, &outcomes), &uncapped());
    let mut facts = FileFacts::new("bwscan", "0.1.0");
    facts.file_created = Some(UnixMillis::from_secs(NOW));
    let file = scaled.to_bandwidth_file(&facts).unwrap().build().unwrap();
    let text = String::from_utf8(file.clone()).unwrap();
    let expected = "1789996400
version=1.9.0
earliest_bandwidth=2026-09-21T12:13:20
file_created=2026-09-21T14:13:20
latest_bandwidth=2026-09-21T13:13:20
minimum_number_eligible_relays=2
minimum_percent_eligible_relays=60
mu=2000000
muf=2000000
number_consensus_relays=4
number_eligible_relays=2
percent_eligible_relays=50
recent_measurement_failure_count=5
recent_measurements_excluded_error_count=1
recent_measurements_excluded_few_count=0
recent_measurements_excluded_near_count=0
recent_measurements_excluded_old_count=0
software=bwscan
software_version=0.1.0
time_to_report_half_network=3600
=====
";
    assert_eq!(text.split_inclusive("=====\n").next(), Some(expected));
    let lines: Vec<_> = text
        .lines()
        .skip_while(|line| *line != "=====")
        .skip(1)
        .collect();
    assert!(lines[0].starts_with("bw=1000 bw_mean=1000000 bw_median=1000000 consensus_bandwidth=1000 consensus_bandwidth_is_unmeasured=False"));
    assert!(lines[1].contains("bw=3000 ") && lines[1].contains(" r_strm=1.50 r_strm_filt=1.50 "));
    for count in [
        "success=1",
        "error_circ=0",
        "error_destination=1",
        "error_misc=1",
        "error_second_relay=1",
        "error_stream=1",
        "time=2026-09-21T14:12:50",
    ] {
        assert!(lines[1].contains(&format!(" {count}")), "{count}");
    }
    for line in &lines[2..] {
        assert!(line.starts_with("bw=1 "), "{line}");
        assert!(line.ends_with(" unmeasured=1 vote=0"), "{line}");
    }
    assert_eq!(lines.len(), 4);
    let document = Document::parse(&file);
    assert_eq!(document.relays().count(), 4);
}

#[test]
fn too_few_relays_are_not_voted_with_but_keep_their_value() {
    let relays: Vec<_> = (0..5)
        .map(|n| relay(n, 3_000_000, 2_000_000, 2_500_000))
        .collect();
    let network = network(relays.clone());
    let outcomes: Vec<_> = relays[..2]
        .iter()
        .map(|r| measured(r, 1_000, 1_000, 60))
        .collect();
    let scaled = scale(&aggregates(&network, &outcomes), &uncapped());
    assert!(scaled.network.under_minimum);
    let file = scaled
        .to_bandwidth_file(&FileFacts::new("bwscan", "0"))
        .unwrap();
    let text = String::from_utf8(file.build().unwrap()).unwrap();
    assert_eq!(text.matches("under_min_report=1 vote=0").count(), 2);
    assert_eq!(text.matches("bw=2000 ").count(), 2);
    assert_eq!(text.matches("unmeasured=1 vote=0").count(), 3);
    assert!(!text.contains("time_to_report_half_network"));

    let empty = scale(&aggregates(&network, &[]), &uncapped());
    let error = empty
        .to_bandwidth_file(&FileFacts::new("bwscan", "0"))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NothingMeasured);
}

#[test]
fn the_rows_of_scans() {
    let relays: Vec<_> = (0..3)
        .map(|n| relay(n, 3_000_000, 2_000_000, 2_500_000))
        .collect();
    let network = network(relays.clone());
    let outcomes = [
        measured(&relays[0], 10, 1_000_000, 10),
        measured(&relays[0], 13, 1_000_000, 20),
        measured(&relays[0], 20, 1_000_000, 30),
        failed(&relays[0], Stage::Extend, FailureKind::Timeout, 5),
        failed(&relays[0], Stage::Http, FailureKind::Status, 5),
        failed(&relays[1], Stage::Extend, FailureKind::Timeout, 5),
    ];
    let rows = scan_rows(&aggregates(&network, &outcomes));
    let [row] = rows.as_slice() else {
        panic!("{rows:?}")
    };
    assert_eq!((row.mean.value(), row.filtered.value()), (14, 20));
    assert_eq!((row.measurements, row.failures), (3, 2));
    assert_eq!(row.circuit_failure_rate, 0.2);
    assert_eq!(
        row.descriptor_bandwidth,
        Some(BytesPerSecond::new(2_500_000))
    );
    assert_eq!(row.consensus_bandwidth, Some(KilobytesPerSecond::new(1)));
}

/// Numbers that look random, always the same ones.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// From 1 to 10^9, small and large alike.
    fn bandwidth(&mut self) -> u64 {
        let digits = u32::try_from(self.below(6)).unwrap() + 4;
        1 + self.below(10_u64.pow(digits))
    }
}

/// The formula in a few plain lines, sharing nothing with the crate: the
/// weight of each relay that has rates, from (rates, min of the descriptor).
fn plainly(relays: &[(Vec<f64>, u64)], share: f64, digits: i32) -> Vec<u64> {
    fn python_round(x: f64, places: i32) -> f64 {
        let unit = 10_f64.powi(places);
        let (low, high) = ((x / unit).floor() * unit, (x / unit).floor() * unit + unit);
        let odd = ((x / unit).floor() % 2.0) == 1.0;
        if x - low > high - x || (x - low == high - x && odd) {
            high
        } else {
            low
        }
    }
    let average = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let means: Vec<f64> = relays
        .iter()
        .map(|r| python_round(average(&r.0), 0))
        .collect();
    let filtered: Vec<f64> = relays
        .iter()
        .zip(&means)
        .map(|(r, &m)| {
            let kept: Vec<f64> = r.0.iter().copied().filter(|&b| b >= m).collect();
            if kept.is_empty() {
                m
            } else {
                python_round(average(&kept), 0)
            }
        })
        .collect();
    let (mu, muf) = (average(&means), average(&filtered));
    let values: Vec<f64> = (0..relays.len())
        .map(|i| (means[i] / mu).max(filtered[i] / muf) * relays[i].1 as f64)
        .collect();
    let mut limit = f64::INFINITY;
    for _ in 0..10_000 {
        limit = values.iter().map(|value| value.min(limit)).sum::<f64>() * share;
    }
    values
        .iter()
        .map(|&value| {
            let kb = value.min(limit) / 1000.0;
            if kb <= 1.0 {
                return 1;
            }
            let places = (kb.log10().floor() as i32 + 1 - digits).max(0);
            python_round(kb, places).max(1.0) as u64
        })
        .collect()
}

#[test]
fn eight_thousand_random_relays_are_as_reckoned_plainly() {
    for (seed, share, digits) in [(1, 0.05, 2), (2, 0.0005, 3), (3, 1.0, 2)] {
        let mut numbers = Numbers(seed * 0x2545_F491_4F6C_DD1D);
        let mut usual: BTreeMap<Fingerprint, u64> = BTreeMap::new();
        let mut relays: Vec<_> = (0..8_000)
            .map(|n| {
                // A token bucket lets pass all that is measured below.
                let rate = 1_000 + numbers.bandwidth() / 5;
                usual.insert(fingerprint(n), rate);
                let [burst, average] = [0, 1].map(|_| 2 * rate + numbers.bandwidth());
                relay(n, numbers.bandwidth(), burst, average)
            })
            .collect();
        relays.sort_by_key(|relay| relay.fingerprint);
        let mut outcomes = Vec::new();
        let mut plain = Vec::new();
        for relay in &relays {
            let count = numbers.below(6);
            let mut rates = Vec::new();
            for age in 0..count {
                // All within a factor of three, which is believed.
                let rate = usual[&relay.fingerprint] as f64
                    * (1.0 + numbers.below(2_000) as f64 / 1_000.0);
                let micros = 1 + numbers.below(10_000_000);
                let bytes = (rate * micros as f64 / 1e6) as u64;
                outcomes.push(measured(relay, bytes, micros, age));
                if bytes > 0 {
                    rates.push(bytes as f64 * 1e6 / micros as f64);
                }
            }
            rates.sort_by(f64::total_cmp);
            let facts = relay.descriptor.unwrap();
            let least = facts.observed.min(facts.burst).min(facts.average).value();
            plain.push((rates, least));
        }
        let mut options = ScaleOptions::default();
        options.max_share = Some(share);
        options.digits = digits;
        let network = network(relays.clone());
        let scaled = scale(&aggregates(&network, &outcomes), &options);
        let found: Vec<u64> = weights(&scaled, &relays).into_iter().flatten().collect();
        plain.retain(|(rates, _)| !rates.is_empty());
        let share = if share < 1.0 { share } else { f64::INFINITY };
        assert_eq!(
            found,
            plainly(&plain, share, i32::try_from(digits).unwrap())
        );
        assert!(found.len() > 6_000);
        let limited = scaled
            .relays
            .iter()
            .filter(|relay| matches!(relay.answer, Answer::Weight(weight) if weight.is_limited));
        assert_eq!(limited.count() > 0, share < 0.05);
    }
}

/// The weights of 4,000 relays, with and without `hostile` records of relay 7,
/// one of the slow ones: its weight, and the others' as they are without.
fn beside(hostile: &[Outcome], relays: &[RelayFacts]) -> (u64, usize) {
    let network = network(relays.to_vec());
    let mut numbers = Numbers(77);
    let mut outcomes = Vec::new();
    for relay in relays {
        let observed = relay.descriptor.unwrap().observed.value();
        for age in 1..=1 + numbers.below(4) {
            let rate = observed * (700 + numbers.below(600)) / 1_000;
            outcomes.push(measured(relay, rate, 1_000_000, age * 9_000));
        }
    }
    let made = |outcomes: &[Outcome]| {
        let scaled = scale(&aggregates(&network, outcomes), &ScaleOptions::default());
        assert!(scaled.to_bandwidth_file(&FileFacts::new("x", "0")).is_ok());
        let sanity = scaled.sanity(None, UnixMillis::from_secs(NOW), &SanityLimits::default());
        assert!(sanity.problems.is_empty(), "{:?}", sanity.problems);
        weights(&scaled, relays)
            .into_iter()
            .map(Option::unwrap)
            .collect::<Vec<_>>()
    };
    let honest = made(&outcomes);
    outcomes.extend_from_slice(hostile);
    let found = made(&outcomes);
    let others = (0..relays.len()).filter(|&number| number != 7);
    (
        found[7],
        others
            .filter(|&number| found[number] != honest[number])
            .count(),
    )
}

#[test]
fn no_record_moves_the_weights_of_other_relays() {
    let mut numbers = Numbers(5);
    let relays: Vec<_> = (0..4_000)
        .map(|n| {
            // From 100 kB/s to 25 MB/s, and 40 of up to 100 MB/s.
            let most = if n % 100 == 0 {
                100_000_000
            } else {
                25_000_000
            };
            let observed = if n == 7 {
                200_000
            } else {
                100_000 + numbers.below(most)
            };
            let mut relay = relay(n, observed, 1 << 30, 1 << 30);
            relay.consensus_weight = KilobytesPerSecond::new(observed / 1_000);
            relay
        })
        .collect();
    let (usual, _) = beside(&[], &relays);
    // 24 GB/s of a 404; what tor could do and nobody does; and hardly anything.
    for (bytes, micros) in [
        (1 << 30, 40_000),
        (2_000_000_000, 1_000_000),
        (900_000_000, 1_000_000),
    ] {
        let (weight, moved) = beside(&[measured(&relays[7], bytes, micros, 5)], &relays);
        assert_eq!((weight, moved), (usual, 0), "{bytes} in {micros}");
    }
    let (weight, moved) = beside(&[measured(&relays[7], 1, 1 << 60, 5)], &relays);
    assert!(weight <= usual && moved == 0, "{weight} {moved}");
    // However many there are: they raise only its own weight, up to the cap.
    let many: Vec<_> = (0..50)
        .map(|age| measured(&relays[7], 2_000_000_000, 1_000_000, age))
        .collect();
    let (_, moved) = beside(&many, &relays);
    assert!(moved < 400, "the last digit of {moved} of 4,000");
    // A relay that was never measured else, at more than anybody.
    let stranger = measured(&relays[7], 2_000_000_000, 1_000_000, 5);
    let network = network(relays.clone());
    let mut outcomes: Vec<_> = relays
        .iter()
        .skip(8)
        .map(|relay| measured(relay, 1_000_000, 1_000_000, 50))
        .collect();
    outcomes.push(stranger);
    let reason = reason(
        &scale(&aggregates(&network, &outcomes), &uncapped()),
        &relays[7],
    );
    assert!(
        matches!(
            reason,
            Reason::Implausible {
                basis: LimitBasis::Network,
                ..
            }
        ),
        "{reason}"
    );
}

#[test]
fn one_of_many_rates_of_a_relay_does_not_carry_its_weight() {
    for (count, factor) in [(84, 10), (300, 50)] {
        let relays: Vec<_> = (0..20)
            .map(|n| relay(n, 1_000_000, 1 << 30, 1 << 30))
            .collect();
        let network = network(relays.clone());
        let mut outcomes = Vec::new();
        for relay in &relays {
            for age in 0..count {
                outcomes.push(measured(relay, 1_000_000, 1_000_000, age));
            }
        }
        outcomes.push(measured(&relays[0], 1_000_000 * factor, 1_000_000, 1));
        let scaled = scale(&aggregates(&network, &outcomes), &uncapped());
        let Answer::Weight(steps) = scaled.relay(&relays[0].fingerprint).unwrap().answer else {
            panic!()
        };
        assert_eq!((steps.ratio, steps.weight.value()), (1.0, 1_000));
    }
}

/// The time that it takes for the public network. Run with
/// `cargo nextest run --release -p bw-aggregate --run-ignored only --no-capture figures`.
#[test]
#[ignore = "prints figures"]
fn figures() {
    let mut numbers = Numbers(7);
    let relays: Vec<_> = (0..8_000)
        .map(|n| relay(n, numbers.bandwidth(), 1 << 30, 1 << 30))
        .collect();
    let network = network(relays.clone());
    let outcomes: Vec<OutcomeSummary> = (0..28)
        .flat_map(|day| relays.iter().map(move |relay| (day, relay)))
        .map(|(day, relay)| {
            let outcome = measured(relay, numbers.bandwidth(), 3_000_000, day * 86_400);
            OutcomeSummary::from(&outcome)
        })
        .collect();
    let start = std::time::Instant::now();
    let mut aggregator = Aggregator::new(AggregateOptions::default(), &network);
    for outcome in &outcomes {
        aggregator.add(outcome.clone());
    }
    let aggregates = aggregator.finish();
    println!(
        "{} outcomes aggregated: {:?}",
        outcomes.len(),
        start.elapsed()
    );
    let start = std::time::Instant::now();
    let scaled = scale(&aggregates, &ScaleOptions::default());
    println!("scaled: {:?}", start.elapsed());
    let start = std::time::Instant::now();
    let file = scaled
        .to_bandwidth_file(&FileFacts::new("bwscan", "0"))
        .unwrap();
    let bytes = file.build().unwrap();
    println!("file of {} bytes: {:?}", bytes.len(), start.elapsed());
}

prop_compose! {
    /// A network of up to 30 relays with whatever descriptors say.
    fn any_relays()(facts in prop::collection::vec(
        (any_bandwidth(), any_bandwidth(), any_bandwidth(), any::<bool>(), prop::bool::weighted(0.1)),
        1..30,
    )) -> Vec<RelayFacts> {
        (0..).zip(facts).map(|(number, (observed, burst, average, described, authority))| {
            let mut relay = relay(number, observed, burst, average);
            relay.flags.authority = authority;
            if !described {
                relay.descriptor = None;
            }
            relay
        }).collect()
    }
}

fn any_bandwidth() -> impl Strategy<Value = u64> {
    prop_oneof![
        1 => Just(0),
        1 => Just(u64::MAX),
        4 => 1..100_000_000_u64,
        1 => any::<u64>()
    ]
}

/// Outcomes of relays 0 to 35, some of which are not in the network.
fn any_outcomes() -> impl Strategy<Value = Vec<Outcome>> {
    let time = prop_oneof![Just(0), Just(u64::MAX), 1..100_000_000_u64];
    let outcome = (
        0..35_u64,
        any_bandwidth(),
        time,
        0..100_000_u64,
        any::<bool>(),
    );
    prop::collection::vec(outcome, 0..120).prop_map(|outcomes| {
        outcomes
            .into_iter()
            .map(|(number, bytes, micros, age, success)| {
                let target = relay(number, bytes / 3, bytes, bytes);
                if success {
                    measured(&target, bytes, micros, age)
                } else {
                    failed(&target, Stage::Extend, FailureKind::Timeout, age)
                }
            })
            .collect()
    })
}

/// 200 relays of 1 to 4 MB/s, and three measurements of each.
fn usual() -> (NetworkSnapshot, Vec<Outcome>) {
    let relays: Vec<_> = (0..200)
        .map(|n| relay(n, 1_000_000 + n * 15_000, 1 << 30, 1 << 30))
        .collect();
    let outcomes = relays.iter().flat_map(|relay| {
        let observed = relay.descriptor.unwrap().observed.value();
        (1..=3).map(move |age| measured(relay, observed * (19 + age) / 20, 1_000_000, age * 3_600))
    });
    (network(relays.clone()), outcomes.collect())
}

proptest! {
    /// Whatever one record says: it neither stops the file, nor moves what the
    /// other relays get by more than 2 %, in a network of 200.
    #[test]
    fn one_record_moves_no_other_relay(
        number in 0..200_u64,
        (bytes, micros) in (any_bandwidth(), prop_oneof![Just(0), Just(1), 1..10_000_000_u64, any::<u64>()]),
        (observed, rate) in (any_bandwidth(), any_bandwidth()),
        ended in prop_oneof![NOW * 1_000 - 9_000_000..NOW * 1_000, any::<u64>()],
        success in any::<bool>(),
    ) {
        let (network, mut outcomes) = usual();
        let mut options = AggregateOptions::default();
        options.until = Some(UnixMillis::from_secs(NOW + 3_600));
        options.since = Some(UnixMillis::from_secs(NOW - 28 * 86_400));
        let made = |outcomes: &[Outcome]| {
            scale(&aggregates_with(options.clone(), &network, outcomes), &ScaleOptions::default())
        };
        let before = made(&outcomes);
        let target = relay(number, observed, rate, rate);
        let mut hostile = if success {
            measured(&target, bytes, micros, 0)
        } else {
            failed(&target, Stage::Extend, FailureKind::Timeout, 0)
        };
        match &mut hostile {
            Outcome::Measured(measurement) => measurement.ended = UnixMillis::new(ended),
            Outcome::Failed(failure) => failure.ended = UnixMillis::new(ended),
        }
        outcomes.push(hostile);
        let after = made(&outcomes);
        for (before, after) in before.relays.iter().zip(&after.relays) {
            let (Answer::Weight(one), Answer::Weight(other)) = (before.answer, after.answer) else {
                panic!("all have a weight: {after:?}")
            };
            let factor = other.limited / one.limited;
            let is_target = after.aggregate.fingerprint == target.fingerprint;
            prop_assert!(is_target || (factor - 1.0).abs() < 0.02, "{factor}");
        }
        let facts = FileFacts::new("x", "0");
        let published = before.to_bandwidth_file(&facts).unwrap().build().unwrap();
        prop_assert!(after.to_bandwidth_file(&facts).unwrap().build().is_ok());
        let mut limits = SanityLimits::default();
        // Those of the made-up consensus mean nothing.
        limits.max_total_against_consensus = f64::INFINITY;
        let previous = PreviousFile::parse(&published);
        let sanity = after.sanity(Some(&previous), UnixMillis::from_secs(NOW), &limits);
        prop_assert!(sanity.is_fit(), "{:?}", sanity.problems);
    }

    #[test]
    fn the_order_of_outcomes_makes_no_difference(
        relays in any_relays(),
        (outcomes, shuffled) in any_outcomes()
            .prop_flat_map(|outcomes| (Just(outcomes.clone()), Just(outcomes).prop_shuffle())),
    ) {
        let network = network(relays);
        let one = aggregates(&network, &outcomes);
        let other = aggregates(&network, &shuffled);
        prop_assert_eq!(&one, &other);
        let options = ScaleOptions::default();
        prop_assert_eq!(scale(&one, &options), scale(&other, &options));
    }

    #[test]
    fn whatever_comes_in_every_relay_has_one_answer_and_the_file_is_sound(
        relays in any_relays(),
        outcomes in any_outcomes(),
        max_share in prop_oneof![Just(0.05), Just(1.0), -1.0..2.0, Just(f64::NAN)],
        digits in 0..20_u32,
        raw in any::<bool>(),
    ) {
        let network = network(relays.clone());
        let mut options = ScaleOptions::default();
        options.max_share = Some(max_share);
        options.digits = digits;
        if raw {
            options.method = Method::Raw;
        }
        let aggregates = aggregates(&network, &outcomes);
        let scaled = scale(&aggregates, &options);
        let answered: Vec<_> = scaled.relays.iter().map(|r| r.aggregate.fingerprint).collect();
        let asked: Vec<_> = network.relays.iter().map(|r| r.fingerprint).collect();
        prop_assert_eq!(answered, asked);
        for relay in &scaled.relays {
            if let Answer::Weight(weight) = relay.answer {
                prop_assert!((1..=2_147_483_647).contains(&weight.weight.value()));
                prop_assert!(weight.unlimited.is_finite() && weight.limited.is_finite());
                prop_assert!(weight.limited <= scaled.network.limit);
            }
        }
        for row in scan_rows(&aggregates) {
            prop_assert!((0.0..=1.0).contains(&row.circuit_failure_rate));
        }
        match scaled.to_bandwidth_file(&FileFacts::new("bwscan", "0")) {
            Ok(file) => {
                let bytes = file.build().unwrap();
                for bad in ["NaN", "nan", "inf", "None"] {
                    prop_assert!(!String::from_utf8_lossy(&bytes).contains(bad));
                }
                let document = Document::parse(&bytes);
                prop_assert_eq!(document.relays().count(), relays.len());
            }
            Err(error) => prop_assert_eq!(error.kind(), ErrorKind::NothingMeasured),
        }
    }

    #[test]
    fn a_scanner_on_a_faster_link_gives_the_same_weights(
        rates in prop::collection::vec((100_000..10_000_000_u64, 100_000..10_000_000_u64), 2..30),
        factor in 2..50_u64,
    ) {
        let relays: Vec<_> = (0..rates.len() as u64)
            .map(|n| relay(n, 1_000_000 + n * 77_777, 1 << 30, 1 << 30))
            .collect();
        let network = network(relays.clone());
        let scaled = [1, factor].map(|factor| {
            let outcomes: Vec<_> = relays
                .iter()
                .zip(&rates)
                .flat_map(|(relay, &(first, second))| {
                    [(first, 1), (second, 2)]
                        .map(|(rate, age)| measured(relay, rate * factor, 1_000_000, age))
                })
                .collect();
            scale(&aggregates(&network, &outcomes), &ScaleOptions::default())
        });
        for (slow, fast) in scaled[0].relays.iter().zip(&scaled[1].relays) {
            let (Answer::Weight(slow), Answer::Weight(fast)) = (slow.answer, fast.answer) else {
                panic!("all were measured")
            };
            // Rates are rounded to whole bytes on the way.
            prop_assert!((slow.limited / fast.limited - 1.0).abs() < 1e-4);
            let weights = [slow.weight.value() as f64, fast.weight.value() as f64];
            prop_assert!((weights[0] / weights[1] - 1.0).abs() < 0.11);
        }
    }
}
