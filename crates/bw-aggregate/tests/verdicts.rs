//! Verdicts on records, and weights.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use bw_aggregate::*;
use bw_file::{BytesPerSecond, Document, Fingerprint, KilobytesPerSecond};
use bw_results::*;
use bw_store::{Filter, Store};
use proptest::prelude::*;

const NOW: u64 = 1_790_000_000;
const MEGABYTE: u64 = 1_000_000;

/// A relay of 4 MB/s by its descriptor, 1,000 kB/s in the consensus.
fn relay(number: u8) -> RelayFacts {
    let fingerprint = Fingerprint::from_bytes([number; 20]);
    let name = format!("relay{number}");
    let mut relay = RelayFacts::new(fingerprint, &name, KilobytesPerSecond::new(1_000));
    let observed = BytesPerSecond::new(4 * MEGABYTE);
    let unlimited = BytesPerSecond::new(1 << 30);
    relay.descriptor = Some(DescriptorFacts::new(
        UnixMillis::from_secs(NOW),
        unlimited,
        unlimited,
        observed,
    ));
    relay
}

fn network(relays: &[RelayFacts]) -> NetworkSnapshot {
    let now = UnixMillis::from_secs(NOW);
    NetworkSnapshot::new(now, now, now, BTreeMap::new(), relays.to_vec())
}

fn measurement(relay: &RelayFacts, slices: Vec<Slice>, age: u64) -> Measurement {
    let ended = UnixMillis::from_secs(NOW - age);
    let attempt = Attempt::new(TargetFacts::from(relay), Position::Entry, ended);
    let transfer = Transfer::new(slices, 0, StopReason::Confident);
    Measurement::new(attempt, ended, Timings::default(), vec![transfer])
}

/// A measurement of `rate` bytes per second with this verdict.
fn measured(relay: &RelayFacts, rate: u64, age: u64, verdict: Verdict) -> OutcomeSummary {
    let slices = vec![Slice::new(Duration::from_secs(1), rate)];
    let outcome = Outcome::Measured(measurement(relay, slices, age));
    OutcomeSummary::new(&outcome, verdict)
}

fn failed(relay: &RelayFacts, age: u64, verdict: Verdict) -> OutcomeSummary {
    let ended = UnixMillis::from_secs(NOW - age);
    let attempt = Attempt::new(TargetFacts::from(relay), Position::Entry, ended);
    let (stage, kind) = (Stage::Begin, FailureKind::Closed);
    let failure = Failure::new(attempt, ended, stage, kind, Blame::Path, "x");
    OutcomeSummary::new(&Outcome::Failed(failure), verdict)
}

fn aggregates(network: &NetworkSnapshot, outcomes: &[OutcomeSummary]) -> Aggregates {
    let mut aggregator = Aggregator::new(AggregateOptions::default(), network);
    for outcome in outcomes {
        aggregator.add(outcome.clone());
    }
    aggregator.finish()
}

fn scaled(network: &NetworkSnapshot, outcomes: &[OutcomeSummary]) -> Scaled {
    let mut options = ScaleOptions::default();
    options.max_share = Some(1.0);
    scale(&aggregates(network, outcomes), &options)
}

fn steps(scaled: &Scaled, relay: &RelayFacts) -> Explanation {
    match scaled.relay(&relay.fingerprint).unwrap().answer {
        Answer::Weight(steps) => steps,
        Answer::Excluded(reason) => panic!("no weight: {reason}"),
    }
}

const BOUND: Verdict = Verdict::LowerBound(Blame::Scanner);
const AGAIN: Verdict = Verdict::Remeasure(Remeasure::Throttled);

#[test]
fn a_lower_bound_is_no_rate_and_its_relay_keeps_what_is_known_of_it() {
    let relays = [relay(1), relay(2), relay(3)];
    let network = network(&relays);
    let accepted = [
        measured(&relays[0], 2 * MEGABYTE, 9, Verdict::Accepted),
        measured(&relays[1], 2 * MEGABYTE, 8, Verdict::Accepted),
    ];
    let without = scaled(&network, &accepted);

    // The bound is 1.5 times the mean: 6,000, more than the consensus's 1,000.
    let high = [
        measured(&relays[2], 3 * MEGABYTE, 7, BOUND),
        measured(&relays[2], MEGABYTE, 6, BOUND),
    ];
    let with = scaled(&network, &[&accepted[..], &high].concat());
    assert_eq!(with.network.mean, without.network.mean);
    assert_eq!(with.network.filtered_mean, without.network.filtered_mean);
    assert_eq!(with.network.median, without.network.median);
    assert_eq!((with.network.eligible, with.network.censored), (3, 1));
    let censored = steps(&with, &relays[2]);
    let bound = censored.lower_bound.unwrap();
    assert_eq!((bound.bound.rate, bound.bound.by), (3e6, Blame::Scanner));
    assert_eq!((bound.taken, bound.value()), (Taken::LowerBound, 6e6));
    assert_eq!(censored.weight.value(), 6_000);
    let aggregate = &with.relay(&relays[2].fingerprint).unwrap().aggregate;
    assert!(aggregate.is_censored() && aggregate.rates.is_empty());
    assert_eq!(
        aggregate.last_measured,
        Some(UnixMillis::from_secs(NOW - 6))
    );
    assert_eq!(
        steps(&with, &relays[0]).weight,
        steps(&without, &relays[0]).weight
    );

    // A bound of 0.1 times the mean says less than the consensus, if that was measured.
    let low = [measured(&relays[2], MEGABYTE / 5, 7, BOUND)];
    let outcomes = [&accepted[..], &low].concat();
    let kept = steps(&scaled(&network, &outcomes), &relays[2]);
    assert_eq!(kept.lower_bound.unwrap().taken, Taken::Consensus);
    assert_eq!(kept.weight.value(), 1_000);
    let mut unmeasured = network.clone();
    unmeasured.relays[2].unmeasured = true;
    let taken = steps(&scaled(&unmeasured, &outcomes), &relays[2]);
    assert_eq!(taken.lower_bound.unwrap().taken, Taken::LowerBound);
    assert_eq!(taken.weight.value(), 400);

    // With an accepted rate, a bound is only shown.
    let outcomes = [
        &accepted[..],
        &high,
        &[measured(&relays[2], MEGABYTE, 5, Verdict::Accepted)],
    ]
    .concat();
    let both = scaled(&network, &outcomes);
    assert_eq!(steps(&both, &relays[2]).lower_bound, None);
    let aggregate = &both.relay(&relays[2].fingerprint).unwrap().aggregate;
    assert_eq!(aggregate.rates, [1e6]);
    assert_eq!(aggregate.lower_bound.unwrap().rate, 3e6);
    assert_eq!(both.network.censored, 0);
}

#[test]
fn every_formula_leaves_lower_bounds_out_of_its_means() {
    let relays = [relay(1), relay(2), relay(3)];
    let network = network(&relays);
    let accepted = [
        measured(&relays[0], 2 * MEGABYTE, 9, Verdict::Accepted),
        measured(&relays[1], MEGABYTE, 8, Verdict::Accepted),
    ];
    let bound = [measured(&relays[2], 50 * MEGABYTE, 7, BOUND)];
    for method in Method::ALL {
        let mut options = ScaleOptions::new(method);
        options.max_share = Some(1.0);
        // Where all add up to a sum, one more takes from the others.
        options.capacity.normalisation = Normalisation::None;
        let weights = |outcomes: &[OutcomeSummary]| {
            let scaled = scale(&aggregates(&network, outcomes), &options);
            [0, 1].map(|n| steps(&scaled, &relays[n]).weight)
        };
        let with = weights(&[&accepted[..], &bound].concat());
        assert_eq!(with, weights(&accepted), "{method:?}");
        let scaled = scale(
            &aggregates(&network, &[&accepted[..], &bound].concat()),
            &options,
        );
        let censored = steps(&scaled, &relays[2]);
        assert!(
            censored.weight >= KilobytesPerSecond::new(1_000),
            "{method:?}"
        );
        assert_eq!(censored.pid, None, "a controller learns nothing of it");
        let bytes = scaled
            .to_bandwidth_file(&FileFacts::new("bwscan", "0"))
            .unwrap();
        let bytes = bytes.build().unwrap();
        assert_eq!(Document::parse(&bytes).relays().count(), 3);
    }
}

#[test]
fn only_charged_failures_count() {
    let relays = [relay(1), relay(2), relay(3), relay(4)];
    let network = network(&relays);
    let outcomes = [
        measured(&relays[0], MEGABYTE, 9, Verdict::Accepted),
        measured(&relays[0], MEGABYTE, 8, AGAIN),
        failed(&relays[0], 7, Verdict::Charged),
        failed(&relays[0], 6, Verdict::Excused(Blame::Destination)),
        measured(&relays[1], MEGABYTE, 5, AGAIN),
        failed(&relays[2], 4, Verdict::Excused(Blame::Destination)),
        failed(&relays[3], 3, Verdict::Charged),
        failed(&relays[3], 2, Verdict::Excused(Blame::Scanner)),
    ];
    let aggregates = aggregates(&network, &outcomes);
    let counts = &aggregates.relay(&relays[0].fingerprint).unwrap().counts;
    assert_eq!((counts.measured, counts.remeasured), (1, 1));
    assert_eq!(
        (counts.failed, counts.excused, counts.attempts()),
        (1, 1, 3)
    );
    let reasons = relays[1..].iter().map(|relay| {
        let aggregate = aggregates.relay(&relay.fingerprint).unwrap();
        aggregate.verdict.unwrap_err()
    });
    assert_eq!(
        reasons.collect::<Vec<_>>(),
        [
            Reason::NoRate,
            Reason::Excused {
                failures: 1,
                by: Blame::Destination
            },
            Reason::OnlyFailures {
                failures: 1,
                stage: Stage::Begin,
                kind: FailureKind::Closed
            },
        ]
    );
    let uses: Vec<_> = outcomes[..4]
        .iter()
        .map(|outcome| {
            let relay = aggregates.relay(&relays[0].fingerprint).unwrap();
            relay.use_of(outcome, &AggregateOptions::default())
        })
        .collect();
    assert_eq!(
        uses,
        [Use::Counted, Use::Remeasured, Use::Failed, Use::Excused]
    );

    let scaled = scale(&aggregates, &ScaleOptions::default());
    let file = scaled.to_bandwidth_file(&FileFacts::new("bwscan", "0"));
    let text = String::from_utf8(file.unwrap().build().unwrap()).unwrap();
    assert!(
        text.contains("recent_measurement_failure_count=2\n"),
        "{text}"
    );
    let line = text
        .lines()
        .find(|line| line.contains("nick=relay1 "))
        .unwrap();
    for part in ["success=1 ", "error_stream=1 ", "attempt_count=3"] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

/// Slices of relay, time and bytes; of some, flows were throttled.
fn any_record() -> impl Strategy<Value = (u8, Vec<(u64, bool)>, usize, usize, u64, u8)> {
    (
        0..6_u8,
        prop::collection::vec((0..1_000_000_u64, prop::bool::weighted(0.2)), 1..40),
        0..10_usize,
        0..10_usize,
        0..1_000_000_u64,
        0..6_u8,
    )
}

/// The record, and the verdict on it: its own, or what its facts say.
fn record(
    (number, slices, warm_up, cool_down, age, verdict): &(
        u8,
        Vec<(u64, bool)>,
        usize,
        usize,
        u64,
        u8,
    ),
    throttled_bytes: u64,
) -> (Outcome, Verdict) {
    let slices = slices.iter().map(|&(bytes, throttled)| {
        let length = Duration::from_millis(50);
        match throttled {
            true => Slice::new(length, throttled_bytes).with_throttled(2),
            false => Slice::new(length, bytes),
        }
    });
    let mut measurement = measurement(&relay(*number), slices.collect(), *age);
    let transfer = measurement.transfers[0].clone();
    measurement.transfers[0] = Transfer::new(transfer.slices, *warm_up, transfer.stop)
        .ending_at(*cool_down)
        .bounded_by((*verdict == 1).then_some(Blame::Destination));
    let outcome = Outcome::Measured(measurement);
    let verdict = match verdict {
        2 => AGAIN,
        3 => Verdict::Remeasure(Remeasure::Superseded),
        _ => Verdict::default_of(&outcome),
    };
    (outcome, verdict)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_throttled_slice_enters_a_rate(
        records in prop::collection::vec(any_record(), 1..40),
        bytes in [1..10_000_000_u64, 1..10_000_000_u64],
    ) {
        let relays: Vec<_> = (0..6).map(relay).collect();
        let network = network(&relays);
        let [one, other] = bytes.map(|bytes| {
            let outcomes: Vec<_> = records
                .iter()
                .map(|parts| {
                    let (outcome, verdict) = record(parts, bytes);
                    OutcomeSummary::new(&outcome, verdict)
                })
                .collect();
            aggregates(&network, &outcomes)
        });
        for (one, other) in one.relays.iter().zip(&other.relays) {
            prop_assert_eq!(&one.rates, &other.rates);
        }
        let options = ScaleOptions::default();
        let [one, other] = [one, other].map(|aggregates| scale(&aggregates, &options).network);
        prop_assert_eq!(one.mean, other.mean);
        prop_assert_eq!(one.filtered_mean, other.filtered_mean);
        prop_assert_eq!(one.median, other.median);
    }

    #[test]
    fn records_and_verdicts_give_the_same_weights_after_a_restart(
        records in prop::collection::vec(any_record(), 1..40),
        changed in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
    ) {
        let relays: Vec<_> = (0..6).map(relay).collect();
        let network = network(&relays);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.db");
        let mut store = Store::open(&path).unwrap();
        let snapshot = store.put_snapshot(&network).unwrap();
        let parameters = ScanParameters::new(Vec::new());
        let now = UnixMillis::from_secs(NOW);
        let scan = Scan::new(ScanId::from_bytes([1; 16]), "a".to_owned(), now, parameters);
        store.begin_scan(&scan, &[], snapshot).unwrap();
        let mut before = BTreeMap::new();
        for parts in &records {
            let (outcome, verdict) = record(parts, 7);
            let id = OutcomeId::new("a", &outcome);
            if store.record(&scan.id, &outcome, &verdict, false).unwrap() {
                before.insert(id, (outcome, verdict));
            }
        }
        // Some verdicts are made anew.
        for index in changed {
            let index = index.index(before.len());
            let (id, (_, verdict)) = before.iter_mut().nth(index).unwrap();
            *verdict = Verdict::Remeasure(Remeasure::Disputed);
            prop_assert!(store.set_verdict(*id, verdict).unwrap());
        }
        drop(store);

        let summaries = before.values().map(|(outcome, verdict)| {
            OutcomeSummary::new(outcome, *verdict)
        });
        let before = aggregates(&network, &summaries.collect::<Vec<_>>());
        let store = Store::open_read_only(&path).unwrap();
        let mut again = Vec::new();
        let mut whole = Vec::new();
        let _ = store.for_each_summary(&Filter::all(), |stored| {
            again.push(stored.value);
            ControlFlow::<()>::Continue(())
        }).unwrap();
        let _ = store.for_each_outcome(&Filter::all(), |stored| {
            whole.push(OutcomeSummary::new(&stored.value, stored.verdict));
            ControlFlow::<()>::Continue(())
        }).unwrap();
        prop_assert_eq!(&again, &whole);
        let after = aggregates(&network, &again);
        prop_assert_eq!(&before, &after);
        let options = ScaleOptions::default();
        prop_assert_eq!(scale(&before, &options), scale(&after, &options));
    }
}
