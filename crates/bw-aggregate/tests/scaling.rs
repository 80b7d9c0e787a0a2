//! The scalings beside sbws's own: each against a few plain lines that share
//! nothing with it, on 8,000 random relays; Torflow's controller over rounds.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::time::Duration;

use bw_aggregate::*;
use bw_file::{BytesPerSecond, Fingerprint, KilobytesPerSecond};
use bw_results::*;
use proptest::prelude::*;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

const NOW: u64 = 1_790_000_000;

/// A relay with rates (in bytes per second), failed circuits, and facts.
#[derive(Clone, Debug)]
struct Case {
    rates: Vec<u64>,
    failed: u64,
    observed: u64,
    average: u64,
    weight: u64,
    guard: bool,
    exit: bool,
    age: u64,
}

fn random_cases(seed: u64, count: u64) -> Vec<Case> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut bandwidth = move || 10_u64.pow(rng.random_range(4..9)) * rng.random_range(1..10);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed + 1);
    (0..count)
        .map(|_| {
            let rates: Vec<u64> = (0..rng.random_range(1..7)).map(|_| bandwidth()).collect();
            (rates, bandwidth())
        })
        .collect::<Vec<_>>()
        .into_iter()
        .map(|(rates, observed)| Case {
            // What a token bucket lets pass.
            average: rates.iter().max().unwrap() / 2 + observed / 3,
            rates,
            failed: rng.random_range(0..4),
            observed,
            weight: rng.random_range(1..100_000),
            guard: rng.random(),
            exit: rng.random(),
            age: rng.random_range(0..100_000),
        })
        .collect()
}

fn fingerprint(number: usize) -> Fingerprint {
    let mut bytes = [0; 20];
    bytes[12..].copy_from_slice(&(number as u64).to_be_bytes());
    Fingerprint::from_bytes(bytes)
}

/// The aggregates of `cases`, their newest measurement `case.age` before `now`.
fn aggregates(cases: &[Case], now: u64) -> Aggregates {
    let time = UnixMillis::from_secs(now);
    let facts = cases.iter().enumerate().map(|(number, case)| {
        let weight = KilobytesPerSecond::new(case.weight);
        let mut relay = RelayFacts::new(fingerprint(number), "x", weight);
        (relay.flags.guard, relay.flags.exit) = (case.guard, case.exit);
        let [average, observed] = [case.average, case.observed].map(BytesPerSecond::new);
        relay.descriptor = Some(DescriptorFacts::new(time, average, average, observed));
        relay
    });
    let params = BTreeMap::new();
    let mut network = NetworkSnapshot::new(time, time, time, params, facts.collect());
    network.bandwidth_weights.insert("Wgd".to_owned(), 4_131);
    let mut aggregator = Aggregator::new(AggregateOptions::default(), &network);
    for (number, case) in cases.iter().enumerate() {
        let ended = UnixMillis::from_secs(now - case.age);
        let relay = &network.relays[number];
        let attempt = Attempt::new(TargetFacts::from(relay), Position::Entry, ended);
        let transfers = case.rates.iter().map(|&rate| {
            let slices = vec![Slice::new(Duration::from_secs(1), rate)];
            Transfer::new(slices, 0, StopReason::Complete)
        });
        let timings = Timings::default();
        let measurement = Measurement::new(attempt.clone(), ended, timings, transfers.collect());
        aggregator.add(&Outcome::Measured(measurement));
        for _ in 0..case.failed {
            let failure = Failure::new(
                attempt.clone(),
                ended,
                Stage::Extend,
                FailureKind::Timeout,
                Blame::Path,
                "",
            );
            aggregator.add(&Outcome::Failed(failure));
        }
    }
    aggregator.finish()
}

fn weights(scaled: &Scaled) -> Vec<u64> {
    let relays = scaled.relays.iter();
    relays
        .map(|relay| relay.answer.weight().unwrap().value())
        .collect()
}

fn steps(scaled: &Scaled, number: usize) -> Explanation {
    match scaled.relays[number].answer {
        Answer::Weight(steps) => steps,
        Answer::Excluded(reason) => panic!("{reason}"),
    }
}

fn plain_mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Mean, filtered mean and median, in whole bytes per second.
fn plain_statistics(rates: &[u64]) -> (f64, f64, f64) {
    let mut rates: Vec<f64> = rates.iter().map(|&rate| rate as f64).collect();
    rates.sort_by(f64::total_cmp);
    let mean = plain_mean(&rates).round_ties_even();
    let above: Vec<f64> = rates.iter().copied().filter(|&rate| rate >= mean).collect();
    let filtered = if above.is_empty() {
        mean
    } else {
        plain_mean(&above).round_ties_even()
    };
    let half = rates.len() / 2;
    let median = f64::midpoint(rates[half], rates[(rates.len() - 1) / 2]);
    (mean, filtered, median.round_ties_even())
}

#[test]
fn medians_are_scaled_as_reckoned_plainly() {
    for seed in 0..3 {
        let cases = random_cases(seed, 8_000);
        let aggregates = aggregates(&cases, NOW);
        let medians: Vec<f64> = cases
            .iter()
            .map(|case| plain_statistics(&case.rates).2)
            .collect();
        let mut sorted = medians.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = f64::midpoint(sorted[3_999], sorted[4_000]);
        let mean = plain_mean(&medians);
        for (method, value) in [
            (
                Method::Raw,
                &(|_, median| median) as &dyn Fn(usize, f64) -> f64,
            ),
            (Method::Sbws, &|number, median| {
                (median * (123_456.0 / middle)).min(cases[number].average as f64)
            }),
            (Method::Linear, &|_, median| median * (2_000_000.0 / mean)),
        ] {
            let mut options = ScaleOptions::new(method);
            options.constant = 123_456;
            options.quota = KilobytesPerSecond::new(2_000);
            options.digits = 9;
            let expected: Vec<u64> = medians
                .iter()
                .enumerate()
                .map(|(number, &median)| {
                    ((value(number, median) / 1_000.0).round_ties_even() as u64).max(1)
                })
                .collect();
            let scaled = scale(&aggregates, &options);
            assert_eq!(weights(&scaled), expected, "{method:?}");
        }
        let mut options = ScaleOptions::new(Method::Linear);
        options.digits = 9;
        let sum: u64 = weights(&scale(&aggregates, &options)).iter().sum();
        assert!((7_499..7_501).contains(&(sum / 8_000)), "{sum}");
    }
}

/// The controller in plain lines: the error, and the value by the newest error.
fn plain_controller(
    cases: &[Case],
    number: usize,
    params: &TorflowParams,
    previous: Option<&PidVote>,
) -> (f64, f64) {
    let case = &cases[number];
    let peers: Vec<&Case> = cases
        .iter()
        .filter(|peer| !params.by_class || (peer.guard, peer.exit) == (case.guard, case.exit))
        .collect();
    let fail = |case: &Case| case.failed as f64 / (case.failed + 1) as f64;
    let desc = |case: &Case| case.average.min(case.observed) as f64;
    let list = |value: &dyn Fn(&Case) -> f64| {
        let values: Vec<f64> = peers.iter().map(|peer| value(peer)).collect();
        plain_mean(&values)
    };
    let strm = |case: &Case| plain_statistics(&case.rates).0;
    let filt = |case: &Case| plain_statistics(&case.rates).1;
    let (s, f, c) = (list(&strm), list(&filt), list(&|case| 1.0 - fail(case)));
    let (rs, rf) = (strm(case) / s, filt(case) / f);
    let mut error = if params.best_ratio && rs > rf {
        rs - 1.0
    } else {
        rf - 1.0
    };
    if params.circuit_failures && case.failed > 0 && 1.0 - fail(case) < c && -fail(case) < error {
        error = -fail(case);
    }
    let (mut base, mut mercy) = (desc(case), false);
    if params.consensus_feedback {
        base = case.weight as f64 * 1_000.0;
        if base / desc(case) > params.pid_max && error > 0.0 {
            error = 0.0;
        }
        if params.mercy && desc(case) > base && error < 0.0 {
            base = desc(case);
            mercy = true;
        }
    }
    let Some(previous) = previous else {
        return (error, base * (1.0 + params.k_p * error));
    };
    if params.consensus_feedback && case.guard && !case.exit {
        let base = if mercy { base } else { previous.pid_bw };
        return (error, base * (1.0 + params.k_p * error));
    }
    let delta = error - previous.pid_error;
    let damp = if case.guard && case.exit && base != desc(case) {
        1.0 - 0.4131
    } else {
        1.0
    };
    let d = params.k_p * params.t_d;
    (
        error,
        base * (1.0 + damp * (params.k_p * error + 0.0 + d * delta)),
    )
}

fn params(settings: &[(&str, i32)]) -> TorflowParams {
    let mut params = TorflowParams::default();
    for (name, value) in settings {
        params.set(name, *value).unwrap();
    }
    params
}

#[test]
fn the_controller_is_as_reckoned_plainly() {
    // Means of all peers for each relay: fewer relays than elsewhere.
    let cases = random_cases(9, 500);
    let mut later = random_cases(10, 500);
    for (case, before) in later.iter_mut().zip(&cases) {
        (case.guard, case.exit) = (before.guard, before.exit);
    }
    for settings in [
        &[][..],
        &[("bwauthbyclass", 1), ("bwauthbestratio", 0)],
        &[("bwauthcircs", 1), ("bwauthkp", 3_000)],
        &[
            ("bwauthnsbw", 1),
            ("bwauthpidmax", 20_000),
            ("bwauthtd", 5_000),
        ],
        &[
            ("bwauthnsbw", 1),
            ("bwauthmercy", 1),
            ("bwauthcircs", 1),
            ("bwauthbyclass", 1),
        ],
    ] {
        let mut options = ScaleOptions::new(Method::TorflowPid);
        options.torflow = params(settings);
        options.max_share = Some(1.0);
        let first = scale(&aggregates(&cases, NOW), &options);
        for number in 0..cases.len() {
            let pid = steps(&first, number).pid.unwrap();
            let (error, value) = plain_controller(&cases, number, &options.torflow, None);
            assert_eq!(
                (pid.vote.pid_error, pid.value),
                (error, value.max(0.0)),
                "{settings:?}"
            );
            assert_eq!(pid.feedback, Feedback::First);
            options.previous.insert(fingerprint(number), pid.vote);
        }
        let second = scale(&aggregates(&later, NOW + 200_000), &options);
        for number in 0..cases.len() {
            let previous = &options.previous[&fingerprint(number)];
            let pid = steps(&second, number).pid.unwrap();
            let (error, value) = plain_controller(&later, number, &options.torflow, Some(previous));
            let known = previous.pid_error != 0.0;
            if !known {
                continue;
            }
            if pid.feedback == Feedback::Guard {
                assert!(later[number].guard && !later[number].exit);
                assert_eq!(pid.vote.pid_error, previous.pid_error);
                assert_ne!(pid.vote.measured_at, pid.vote.updated_at);
            } else {
                assert_eq!(pid.vote.pid_error, error, "{settings:?}");
                assert_eq!(pid.vote.pid_delta, error - previous.pid_error);
            }
            let near = (pid.value - value.max(0.0)).abs() <= value.abs() * 1e-12;
            let damped_past =
                pid.feedback == Feedback::Guard && !options.torflow.consensus_feedback;
            assert!(near || damped_past, "{settings:?}: {pid:?} {value}");
        }
    }
}

#[test]
fn the_controller_goes_on_from_the_file_before() {
    let mut cases = random_cases(3, 300);
    let mut options = ScaleOptions::new(Method::TorflowPid);
    options.torflow = params(&[
        ("bwauthti", 50_000),
        ("bwauthtidecay", 10_000),
        ("bwauthtd", 5_000),
    ]);
    let facts = FileFacts::new("bwscan", "0");
    let file = |cases: &[Case], now: u64, options: &ScaleOptions| {
        let scaled = scale(&aggregates(cases, now), options);
        scaled.to_bandwidth_file(&facts).unwrap().build().unwrap()
    };
    let first = PreviousFile::parse(&file(&cases, NOW, &options));
    assert_eq!(first.relays.len(), 300);
    for (fingerprint, relay) in &first.relays {
        options.previous.insert(*fingerprint, relay.pid.unwrap());
    }
    // An hour later, a third has been measured again.
    for (number, case) in cases.iter_mut().enumerate() {
        match number % 3 {
            0 => {
                (case.rates, case.age) = (vec![1_000 + 77_777 * number as u64], 0);
                case.average = case.average.max(1_000 + 77_777 * number as u64);
            }
            _ => case.age += 3_600,
        }
    }
    let second = PreviousFile::parse(&file(&cases, NOW + 3_600, &options));
    let (mut fed_back, mut guards) = (0, 0);
    for (number, case) in cases.iter().enumerate() {
        let [before, after] =
            [&first, &second].map(|file| file.relays[&fingerprint(number)].pid.unwrap());
        if number % 3 != 0 {
            // The same vote, but for the cap, which depends on the others.
            let mut kept = after;
            kept.weight = before.weight;
            kept.pid_error_sum = before.pid_error_sum;
            assert_eq!(kept, before);
            assert!(after.weight <= before.weight);
        } else if case.guard && !case.exit {
            guards += 1;
            assert_eq!(after.pid_error, before.pid_error);
            assert_eq!(after.measured_at, before.measured_at);
            assert_eq!(after.updated_at, NOW + 3_600);
        } else {
            fed_back += 1;
            assert_eq!(after.pid_delta, after.pid_error - before.pid_error);
            let sum = before.pid_error_sum * 0.8 + after.pid_error;
            assert!((after.pid_error_sum - sum).abs() < 1e-9 || after.pid_error_sum == 0.0);
        }
    }
    assert!(fed_back > 50 && guards > 10);
}

/// A relay whose rates are both `rate`.
fn torflow_relay(rate: f64, descriptor: f64, consensus: f64, at: u64) -> TorflowRelay {
    let mut relay = TorflowRelay::new(RelayClass::Guard, rate, rate, at);
    (relay.descriptor, relay.consensus) = (descriptor, consensus);
    relay
}

#[test]
fn the_filtered_target_is_that_of_relays_that_promise_the_mean() {
    let target = |settings: &[(&str, i32)], relays: &[(f64, f64)]| {
        let relays: Vec<_> = relays
            .iter()
            .map(|&(rate, descriptor)| torflow_relay(rate, descriptor, 0.0, 1))
            .collect();
        let torflow = Torflow::new(params(settings), 0.0, &relays);
        torflow.vote(&relays[0], None).means.target
    };
    let all = &[("bwauthpidtgt", 1)];
    let class = &[("bwauthpidtgt", 1), ("bwauthbyclass", 1)];
    for settings in [&all[..], class] {
        // The mean is 3 MB/s, which only one promises.
        let found = target(settings, &[(1e6, 1e6), (2e6, 2e6), (6e6, 6e6)]);
        assert_eq!(found, 6e6);
        // Those that promise it are slower.
        assert_eq!(target(settings, &[(1.0, 9.0), (2.0, 9.0), (9.0, 1.0)]), 1.5);
        // Nobody promises it.
        assert_eq!(target(settings, &[(1.0, 0.0), (3.0, 0.0)]), 2.0);
    }
    // From the mean of 4 to 2; the second promises that too, in its class.
    let relays = &[(2.0, 9.0), (1.0, 3.0), (9.0, 1.0)];
    assert_eq!((target(all, relays), target(class, relays)), (2.0, 1.5));
}

#[test]
fn mercy_on_a_guard_begins_from_its_descriptor() {
    // Lowered to almost nothing in the consensus, and measured below the mean.
    let relay = |at| torflow_relay(8e6, 30_000.0, 1_000.0, at);
    let relays = [relay(NOW), torflow_relay(12e6, 1e6, 1e6, NOW)];
    let mercy = params(&[("bwauthnsbw", 1), ("bwauthmercy", 1)]);
    let torflow = Torflow::new(mercy, 0.0, &relays);
    let mut previous = torflow.vote(&relays[0], None).vote;
    previous.pid_bw = 1_000.0;
    let steps = torflow.vote(&relay(NOW + 3_600), Some(&previous));
    assert_eq!(steps.feedback, Feedback::Guard);
    assert_eq!((steps.base, steps.value), (30_000.0, 24_000.0));
    // Without mercy from what was voted before.
    let torflow = Torflow::new(params(&[("bwauthnsbw", 1)]), 0.0, &relays);
    let steps = torflow.vote(&relay(NOW + 3_600), Some(&previous));
    assert_eq!((steps.base, steps.value), (1_000.0, 800.0));
}

#[test]
fn a_relay_that_was_away_goes_on_from_its_vote() {
    let mut cases = random_cases(4, 60);
    for case in &mut cases {
        (case.guard, case.age) = (false, 0);
    }
    let mut options = ScaleOptions::new(Method::TorflowPid);
    options.torflow = params(&[("bwauthnsbw", 1)]);
    let facts = FileFacts::new("bwscan", "0");
    let next = |aggregates: &Aggregates, options: &mut ScaleOptions| {
        let scaled = scale(aggregates, options);
        let bytes = scaled.to_bandwidth_file(&facts).unwrap().build().unwrap();
        let file = PreviousFile::parse(&bytes);
        options.previous = file
            .relays
            .iter()
            .filter_map(|(&relay, line)| Some((relay, line.pid?)))
            .collect();
        file
    };
    let first = next(&aggregates(&cases, NOW), &mut options);
    // An hour without the last relay, and without a result of the one before it.
    let without = |hour: u64| {
        let mut aggregates = aggregates(&cases[..59], NOW + hour * 3_600);
        aggregates.relays[58].verdict = Err(Reason::NotTried);
        aggregates
    };
    for away in [58, 59] {
        let before = first.relays[&fingerprint(away)];
        let second = next(&without(1), &mut options);
        let line = second.relays[&fingerprint(away)];
        assert!(!line.voted);
        assert_eq!((line.pid, line.weight), (before.pid, before.weight));
        assert_eq!(second.relays.len(), 60);
    }
    // Until after four weeks.
    let long = next(&without(29 * 24), &mut options);
    assert_eq!(long.relays.len(), 59);
    assert_eq!(long.relays[&fingerprint(58)].pid, None);
    // A vote of the future stops nobody: this is the first.
    let mut late = first.relays[&fingerprint(0)].pid.unwrap();
    late.measured_at = NOW * 2;
    options.previous.insert(fingerprint(0), late);
    let scaled = scale(&aggregates(&cases, NOW), &options);
    assert_eq!(steps(&scaled, 0).pid.unwrap().feedback, Feedback::First);
}

#[test]
fn the_cap_is_a_share_of_what_all_get() {
    let mut cases = random_cases(6, 1_000);
    for case in &mut cases {
        (case.rates, case.average, case.observed) = (vec![1_000_000], 1 << 30, 1_000_000);
    }
    let honest = scale(&aggregates(&cases, NOW), &ScaleOptions::default());
    assert!(!steps(&honest, 0).is_limited);
    let file = honest.to_bandwidth_file(&FileFacts::new("x", "0")).unwrap();
    let before = PreviousFile::parse(&file.build().unwrap());
    let mut limits = SanityLimits::default();
    // The made-up weights of the consensus have nothing to do with it.
    limits.max_total_against_consensus = f64::INFINITY;
    for lie in [100, 1_000, 2_147, 10_000, 100_000, 1_000_000_000] {
        cases[7].observed = 1_000_000 * lie;
        let scaled = scale(&aggregates(&cases, NOW), &ScaleOptions::default());
        let reason = Reason::ImpossibleDescriptor {
            field: DescriptorField::Observed,
            value: BytesPerSecond::new(1_000_000 * lie),
        };
        let refused = lie > 2_147;
        let answer = scaled.relays[7].answer;
        assert_eq!(answer == Answer::Excluded(reason), refused, "{answer:?}");
        let found = scaled.relays.iter();
        let found: Vec<u64> = found
            .map(|relay| relay.answer.weight().map_or(0, KilobytesPerSecond::value))
            .collect();
        let share = found[7] as f64 / found.iter().sum::<u64>() as f64;
        // Rounded to two digits.
        assert!(share < 0.0515, "{lie}: {share}");
        let others = |found: &[u64]| [&found[..7], &found[8..]].concat();
        assert_eq!(others(&found), others(&weights(&honest)), "{lie}");
        // It does not stop the file either.
        let sanity = scaled.sanity(Some(&before), UnixMillis::from_secs(NOW), &limits);
        assert!(sanity.is_fit(), "{lie}: {:?}", sanity.problems);
    }
}

#[test]
fn in_a_small_network_a_large_share_is_no_lie() {
    // 13 relays of 0.3 to 5 MB/s.
    let mut cases = random_cases(8, 13);
    for (number, case) in cases.iter_mut().enumerate() {
        let rate = 300_000 * (1 + number as u64) + if number == 12 { 1_100_000 } else { 0 };
        (case.rates, case.average, case.observed) = (vec![rate], 1 << 30, rate);
    }
    let aggregates = aggregates(&cases, NOW);
    let with = |share| {
        let mut options = ScaleOptions::default();
        options.max_share = share;
        weights(&scale(&aggregates, &options))
    };
    assert_eq!(with(None), with(Some(1.0)));
    // What was asked for is done, even where it makes all equal.
    let flat = with(Some(0.05));
    assert!(flat.iter().all(|weight| *weight == flat[0]), "{flat:?}");
}

#[test]
fn torflows_own_file_is_read() {
    let line = "node_id=$221C91D4C51E4C73CB6A8F0BEE01B0A6BB4A8476 bw=38000 nick=a \
        measured_at=1546325250 updated_at=1546325999 pid_error=-4.88593489094 \
        pid_error_sum=4.5 pid_bw=38037642 pid_delta=3.83770474524 circ_fail=0.0 \
        scanner=/scanner.3/scan-data/bws-29.1:29.9-done-2019-01-01-00:47:30\n";
    let old =
        "node_id=$1F509589F7F70B69A38719A201451CF4B70F89C6 bw=589 nick=b measured_at=1546325251\n";
    let none = "node_id=$AAAA9589F7F70B69A38719A201451CF4B70F89C6 bw=7 nick=c\n";
    let file = PreviousFile::parse(format!("1547487689\n{line}{old}{none}").as_bytes());
    let pid: Vec<_> = file.relays.values().map(|relay| relay.pid).collect();
    let [old, new, none] = pid[..] else {
        panic!("{file:?}")
    };
    let new = new.unwrap();
    assert_eq!(
        (new.measured_at, new.updated_at),
        (1_546_325_250, 1_546_325_999)
    );
    assert_eq!(
        (new.pid_error, new.pid_delta),
        (-4.885_934_890_94, 3.837_704_745_24)
    );
    assert_eq!((new.pid_error_sum, new.pid_bw), (4.5, 38_037_642.0));
    let old = old.unwrap();
    assert_eq!(
        (old.updated_at, old.pid_bw, old.pid_error),
        (1_546_325_251, 589_000.0, 0.0)
    );
    assert_eq!(none, None);
}

#[test]
fn with_its_defaults_the_controller_is_torflows_scaling() {
    let mut cases = random_cases(5, 400);
    for case in &mut cases {
        // Where burst and rate limit nothing, both mean the same bandwidth.
        case.average = 1 << 30;
    }
    let aggregates = aggregates(&cases, NOW);
    let mut plain = ScaleOptions::new(Method::Torflow);
    let mut pid = ScaleOptions::new(Method::TorflowPid);
    (plain.digits, pid.digits) = (9, 9);
    let (plain, pid) = (scale(&aggregates, &plain), scale(&aggregates, &pid));
    for (a, b) in weights(&plain).into_iter().zip(weights(&pid)) {
        assert!(a.abs_diff(b) <= 1, "{a} {b}");
    }
}

#[test]
fn parameters_of_the_consensus() {
    let consensus = BTreeMap::from([
        ("bwauthpid".to_owned(), 0),
        ("bwauthkp".to_owned(), 5_000),
        ("bwauthguardrate".to_owned(), 86_400),
        ("bwauthti".to_owned(), -1),
        ("cc_alg".to_owned(), 2),
    ]);
    let params = TorflowParams::from_consensus(&consensus);
    assert!(!params.pid);
    assert_eq!((params.k_p, params.t_i), (0.5, 0.0));
    assert_eq!(params.guard_rate, Duration::from_secs(86_400));
    let error = TorflowParams::default().set("bwauthxyz", 1).unwrap_err();
    assert!(error.to_string().contains("bwauthpidtgt"), "{error}");
}

prop_compose! {
    fn any_relay()(
        rates in prop::array::uniform5(any::<f64>()), guard: bool, exit: bool, measured_at: u64,
    ) -> TorflowRelay {
        let mut flags = RelayFlags::default();
        (flags.guard, flags.exit) = (guard, exit);
        let mut relay = TorflowRelay::new(flags.into(), rates[0], rates[1], measured_at);
        relay.circuit_failure_rate = rates[2];
        (relay.descriptor, relay.consensus) = (rates[3], rates[4]);
        relay
    }
}

proptest! {
    #[test]
    fn no_input_makes_the_controller_panic_or_vote_nonsense(
        relays in prop::collection::vec(any_relay(), 0..9),
        settings in prop::collection::vec((0..13_usize, prop_oneof![Just(0), Just(1), any::<i32>()]), 0..9),
        state in prop::array::uniform4(any::<f64>()), times: (u64, u64),
    ) {
        let mut params = TorflowParams::default();
        for (name, value) in settings {
            let _ = params.set(TorflowParams::NAMES[name], value);
        }
        let torflow = Torflow::new(params, state[0], &relays);
        let file = format!(
            "1\nnode_id=${} bw=5 measured_at={} updated_at={} pid_error={} pid_error_sum={} \
             pid_bw=7 pid_delta={}\n",
            "A".repeat(40), times.0, times.1, state[1], state[2], state[3],
        );
        let previous = PreviousFile::parse(file.as_bytes());
        let previous = previous.relays.values().next().and_then(|relay| relay.pid);
        for relay in &relays {
            for previous in [None, previous.as_ref()] {
                let value = torflow.vote(relay, previous).value;
                prop_assert!(value.is_finite() && value >= 0.0, "{value}");
            }
        }
    }

    #[test]
    fn caps_hold_and_every_file_is_sound(
        seed: u64, count in 1..60_u64, share in 0.001..0.5_f64, digits in 1..6_u32,
    ) {
        let cases = random_cases(seed % 1_000_000, count);
        let aggregates = aggregates(&cases, NOW);
        for method in Method::ALL {
            let mut options = ScaleOptions::new(method);
            (options.max_share, options.digits) = (Some(share), digits);
            let scaled = scale(&aggregates, &options);
            let file = scaled.to_bandwidth_file(&FileFacts::new("x", "0")).unwrap();
            prop_assert!(file.build().is_ok());
            // One that was measured once, far above all others, has none.
            let weights = scaled.relays.iter().filter_map(|relay| match relay.answer {
                Answer::Weight(steps) => Some(steps),
                Answer::Excluded(_) => None,
            });
            let weights: Vec<Explanation> = weights.collect();
            prop_assert!(weights.len() + 1 >= cases.len(), "at most the fastest is left out");
            for steps in &weights {
                prop_assert!(steps.limited <= scaled.network.limit);
                prop_assert!(steps.limited <= steps.unlimited && steps.limited >= 0.0);
                // Rounding to significant digits goes up by half a digit at most.
                let kilobytes = steps.limited * scaled.network.normalisation / 1_000.0;
                let most = kilobytes * (1.0 + 0.5 * 10_f64.powi(1 - digits as i32));
                prop_assert!(steps.weight.value() as f64 <= most.max(1.0) + 1.0);
            }
            if matches!(method, Method::Torflow | Method::TorflowPid | Method::Capacity) {
                // Of what all get; fewer relays than that can only be made equal.
                let limits: Vec<f64> = weights.iter().map(|steps| steps.limited).collect();
                let sum: f64 = limits.iter().sum();
                let most = limits.iter().copied().fold(0.0, f64::max);
                let least = limits.iter().copied().fold(f64::INFINITY, f64::min);
                prop_assert!(most <= sum * share * (1.0 + 1e-9) || most <= least * (1.0 + 1e-9));
            }
        }
    }
}
