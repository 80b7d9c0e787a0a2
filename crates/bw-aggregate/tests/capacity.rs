//! Weights that are estimates of capacity, and the bound on what relays say of
//! themselves.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::Duration;

use bw_aggregate::*;
use bw_file::{BytesPerSecond, Fingerprint, KilobytesPerSecond};
use bw_results::*;
use proptest::prelude::*;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

const NOW: u64 = 1_790_000_000;

/// The part of a rate that tor lets pass as payload.
const PAYLOAD: f64 = 0.78;

/// A relay: the rates of its measurements, an hour apart and through changing
/// helpers, and what it says of itself.
#[derive(Clone, Debug)]
struct Case {
    rates: Vec<f64>,
    bounds: Vec<f64>,
    observed: Option<f64>,
    weight: u64,
    /// The last byte of its address.
    address: Option<u8>,
    /// The rate that it carried in joint measurements.
    together: Vec<f64>,
}

impl Case {
    fn new(rates: &[f64], observed: f64) -> Self {
        Self {
            rates: rates.to_vec(),
            bounds: Vec::new(),
            observed: Some(observed),
            weight: 1_000,
            address: None,
            together: Vec::new(),
        }
    }
}

fn fingerprint(number: usize) -> Fingerprint {
    let mut bytes = [0; 20];
    bytes[12..].copy_from_slice(&(number as u64).to_be_bytes());
    Fingerprint::from_bytes(bytes)
}

fn network(cases: &[Case]) -> NetworkSnapshot {
    let time = UnixMillis::from_secs(NOW);
    let facts = cases.iter().enumerate().map(|(number, case)| {
        let weight = KilobytesPerSecond::new(case.weight);
        let mut relay = RelayFacts::new(fingerprint(number), "x", weight);
        relay.address = case.address.map(|last| [192, 0, 2, last].into());
        relay.descriptor = case.observed.map(|observed| {
            let observed = BytesPerSecond::new(observed as u64);
            let rate = BytesPerSecond::new(1 << 30);
            DescriptorFacts::new(time, rate, rate, observed)
        });
        relay
    });
    NetworkSnapshot::new(time, time, time, Default::default(), facts.collect())
}

/// Aggregates with each relay's newest measurement `hours` after the first hour.
fn aggregates_at(cases: &[Case], hours: u64) -> Aggregates {
    let network = network(cases);
    let mut aggregator = Aggregator::new(AggregateOptions::default(), &network);
    for (number, case) in cases.iter().enumerate() {
        let exact = case.rates.iter().map(|&rate| (rate, Verdict::Accepted));
        let bound = Verdict::LowerBound(Blame::Scanner);
        let bounds = case.bounds.iter().map(|&rate| (rate, bound));
        let of_machine = Verdict::LowerBound(Blame::Target);
        let parts = case.together.iter().map(|&rate| (rate, of_machine));
        for (index, (rate, verdict)) in exact.chain(bounds).chain(parts).enumerate() {
            let ended = UnixMillis::from_secs(NOW + 3_600 * hours - 3_600 * index as u64);
            let target = TargetFacts::from(&network.relays[number]);
            let mut attempt = Attempt::new(target, Position::Entry, ended);
            attempt.helpers = vec![fingerprint(1_000_000 + index)];
            // Whole bytes over a thousand seconds: nearly any rate.
            let slices = vec![Slice::new(Duration::from_secs(1_000), (rate * 1e3) as u64)];
            let transfer = Transfer::new(slices, 0, StopReason::Complete);
            let timings = Timings::default();
            let measured = Measurement::new(attempt, ended, timings, vec![transfer]);
            aggregator.add(OutcomeSummary::new(&Outcome::Measured(measured), verdict));
        }
    }
    aggregator.finish()
}

/// The estimates as they are: no cap, and whatever they add up to.
fn plain() -> ScaleOptions {
    let mut options = ScaleOptions::new(Method::Capacity);
    options.max_share = Some(1.0);
    options.capacity.normalisation = Normalisation::None;
    options.capacity.smoothing = 0.5;
    options.digits = 9;
    options
}

fn scaled(cases: &[Case], options: &ScaleOptions) -> Scaled {
    scale(&aggregates_at(cases, 0), options)
}

fn steps(scaled: &Scaled, number: usize) -> Explanation {
    match scaled.relays[number].answer {
        Answer::Weight(steps) => steps,
        Answer::Excluded(reason) => panic!("{reason}"),
    }
}

fn values(scaled: &Scaled) -> Vec<f64> {
    let numbers = 0..scaled.relays.len();
    numbers
        .map(|number| steps(scaled, number).limited)
        .collect()
}

/// ½ Σ |share of the values − share of the truth|.
fn network_weight_error(values: &[f64], truth: &[f64]) -> f64 {
    let (all, total) = (values.iter().sum::<f64>(), truth.iter().sum::<f64>());
    let pairs = values.iter().zip(truth);
    pairs.map(|(v, t)| (v / all - t / total).abs()).sum::<f64>() / 2.0
}

/// Standard normal, from twelve even numbers.
fn normal(rng: &mut Xoshiro256PlusPlus) -> f64 {
    (0..12).map(|_| rng.random_range(0.0..1.0)).sum::<f64>() - 6.0
}

/// An idle network: 400 relays of 50 kB/s to 50 MB/s, measured so many times
/// with a spread of 2 %, with descriptors that are wrong by `sigma`, or know nothing.
fn idle(seed: u64, measurements: usize, sigma: Option<f64>) -> (Vec<Case>, Vec<f64>) {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let truth: Vec<f64> = (0..400)
        .map(|_| 50e3 * 1e3_f64.powf(rng.random_range(0.0..1.0)))
        .collect();
    let cases = truth.iter().map(|capacity| {
        let rates: Vec<f64> = (0..measurements)
            .map(|_| PAYLOAD * capacity * (0.02 * normal(&mut rng)).exp())
            .collect();
        let wrong = sigma.map_or(0.0, |sigma| (sigma * normal(&mut rng)).exp());
        Case::new(&rates, capacity * wrong)
    });
    (cases.collect(), truth)
}

#[test]
fn on_an_idle_network_weights_are_capacities_whatever_descriptors_say() {
    for measurements in [1, 3, 24] {
        for sigma in [Some(0.0), Some(0.4), None] {
            let (cases, truth) = idle(1, measurements, sigma);
            let error = |method| {
                let mut options = ScaleOptions::new(method);
                options.digits = 3;
                network_weight_error(&values(&scaled(&cases, &options)), &truth)
            };
            let found = error(Method::Capacity);
            let torflow = sigma.map(|_| error(Method::Torflow));
            println!("{measurements} measurements, σ {sigma:?}: {found:.4}, torflow {torflow:.4?}");
            assert!(found < 0.03, "{measurements} {sigma:?}: {found}");
            // Torflow's weights are squares: 0.26 to 0.31, or nothing at all.
            assert!(torflow.is_none_or(|found| found > 0.2));
        }
    }
}

#[test]
fn payload_is_a_share_that_a_minority_cannot_move() {
    let share = |cases: &[Case]| {
        let scaled = scaled(cases, &plain());
        scaled.network.bound.unwrap().payload_share
    };
    let (cases, _) = idle(2, 3, Some(0.0));
    let honest = share(&cases);
    assert!((honest - PAYLOAD).abs() < 0.02, "{honest}");
    for lie in [0.0, 1e-3, 10.0, 1e9] {
        let mut lying = cases.clone();
        for case in lying.iter_mut().step_by(3) {
            case.observed = Some((case.observed.unwrap() * lie).min(2e9));
        }
        assert!((share(&lying) - honest).abs() < 0.02, "{lie}");
    }
    // Descriptors that know nothing: all is payload.
    assert_eq!(share(&idle(2, 3, None).0), 1.0);
    assert_eq!(share(&[]), 1.0);
}

#[test]
fn clients_that_took_something_are_made_up_for_up_to_the_bound() {
    // 20 relays of 780 kB/s of payload, of which clients take a tenth most of the
    // time, and one of which they take half.
    let mut cases = vec![Case::new(&[780e3, 780e3, 702e3], 1e6); 20];
    cases.push(Case::new(&[390e3, 390e3, 390e3], 1e6));
    let busy = |cases: &[Case]| {
        let found = scaled(cases, &plain());
        (found.network.bound.unwrap(), steps(&found, 20).limited)
    };
    let (bound, estimate) = busy(&cases);
    assert!((bound.variation - 780.0 / 702.0).abs() < 1e-3, "{bound:?}");
    assert!(
        (estimate - 390e3 * 780.0 / 702.0).abs() < 100.0,
        "{estimate}"
    );
    // Where they take more, up to the bound.
    for case in &mut cases {
        case.rates[2] /= 2.0;
    }
    let (_, estimate) = busy(&cases);
    assert!((estimate - 390e3 / 0.75).abs() < 100.0, "{estimate}");
    // It says less of itself than that.
    cases[20].observed = Some(600e3);
    let (bound, estimate) = busy(&cases);
    assert!((estimate - 600e3 * bound.payload_share).abs() < 100.0);
    // Rates that never change: nobody took anything.
    let steady: Vec<Case> = cases
        .iter()
        .map(|_| Case::new(&[5e5, 5e5, 5e5], 9e9))
        .collect();
    assert_eq!(
        scaled(&steady[..3], &plain()).network.eligible,
        0,
        "more than tor takes"
    );
    let steady: Vec<Case> = cases
        .iter()
        .map(|_| Case::new(&[5e5, 5e5, 5e5], 2e9))
        .collect();
    assert_eq!(busy(&steady), (busy(&steady).0, 5e5));
}

#[test]
fn no_relay_needs_a_descriptor_and_none_lies_itself_up() {
    let mut cases = vec![Case::new(&[780e3, 780e3, 780e3], 1e6); 50];
    cases[1].observed = None;
    cases[2].observed = Some(0.0);
    for (number, lie) in [2e6, 1e7, 1e8, 1e9, 2.1e9].into_iter().enumerate() {
        cases[10 + number].observed = Some(lie);
    }
    for method in [Method::Capacity, Method::Torflow, Method::TorflowPid] {
        let mut options = ScaleOptions::new(method);
        options.bound = Some(0.25);
        options.digits = 9;
        let found = scaled(&cases, &options);
        let honest = steps(&found, 0).weight.value() as f64;
        for number in 10..15 {
            let gain = steps(&found, number).weight.value() as f64 / honest;
            assert!(gain <= 1.0 / 0.75 * 1.0001, "{method:?}: {gain}");
        }
        let without = &found.relays[1].answer;
        if method == Method::Capacity {
            assert_eq!(without.weight(), found.relays[0].answer.weight());
            assert_eq!(steps(&found, 2).weight.value() as f64, honest);
        } else {
            assert_eq!(*without, Answer::Excluded(Reason::NoDescriptor));
        }
    }
    // Without a bound, weight follows the lie.
    let mut options = ScaleOptions::default();
    options.max_share = Some(1.0);
    let found = scaled(&cases, &options);
    assert_eq!(
        steps(&found, 12).weight.value(),
        100 * steps(&found, 0).weight.value()
    );
}

#[test]
fn a_descriptor_that_is_refused_moves_nobody_else() {
    let rate = |number: u32| 1e5 * f64::from(number);
    let mut cases: Vec<Case> = (1..=30)
        .map(|number| Case::new(&[rate(number); 3], rate(number)))
        .collect();
    for method in [Method::Torflow, Method::TorflowPid] {
        let mut options = ScaleOptions::new(method);
        (options.max_share, options.digits) = (Some(1.0), 9);
        let others = |cases: &[Case]| {
            let found = scaled(cases, &options);
            let others = (0..29).map(|number| steps(&found, number).limited);
            (others.collect::<Vec<_>>(), found.network.eligible)
        };
        cases[29].observed = Some(2e9);
        let (before, all) = others(&cases);
        cases[29].observed = Some(3e9);
        assert_eq!((all, others(&cases)), (30, (before, 29)), "{method:?}");
    }
}

#[test]
fn lower_bounds_are_believed_as_far_as_they_go() {
    let mut cases = vec![Case::new(&[780e3, 780e3, 780e3], 1e6); 20];
    // Never measured to its limit; it has twice the others' weight so far.
    cases[0] = Case::new(&[], 3e6);
    cases[0].bounds = vec![500e3, 500e3, 400e3];
    cases[0].weight = 2_000;
    let found = steps(&scaled(&cases, &plain()), 0);
    let capacity = found.capacity.unwrap();
    assert!(capacity.proven.at_least);
    assert!((capacity.estimate - 500e3 / 0.75).abs() < 1.0);
    // Twice what the others get, whatever unit that is in.
    assert_eq!(found.limited, 2.0 * 780e3);
    assert_eq!(found.lower_bound.unwrap().taken, Taken::Consensus);
    cases[0].bounds = vec![1.6e6, 1.7e6];
    let found = steps(&scaled(&cases, &plain()), 0);
    assert!((found.limited - 1.6e6 / 0.75).abs() < 1.0);
}

#[test]
fn relays_on_one_machine_share_what_it_showed() {
    // Relays 0 to 2 at one address, 3 and 4 at another, and five elsewhere.
    let mut cases = vec![Case::new(&[780e3, 780e3, 780e3], 1e6); 10];
    for (number, case) in cases.iter_mut().enumerate().take(5) {
        case.address = Some(if number < 3 { 1 } else { 2 });
    }
    let of = |cases: &[Case], number| steps(&scaled(cases, &plain()), number);
    // Nobody measures relays together: nothing is known against them.
    assert_eq!(of(&cases, 0).limited, 780e3);
    // Somebody does: as long as these were not, they have shown what the fastest has.
    for case in &mut cases[3..5] {
        case.together = vec![770e3];
    }
    let (one, apart) = (of(&cases, 0), of(&cases, 3));
    assert!((one.limited - 260e3).abs() < 1.0, "{one:?}");
    assert_eq!(apart.limited, 780e3, "each has its own line");
    // One that claims the whole line, or a hundred of them, gains what anybody does.
    cases[0].observed = Some(1e8);
    assert!((of(&cases, 0).limited - 260e3).abs() < 1.0);
    // Together they carry a little more than one alone.
    for case in &mut cases[..3] {
        case.together = vec![300e3, 290e3];
    }
    let found = of(&cases, 1);
    assert!((found.limited - 290e3).abs() < 1.0, "{found:?}");
    let machine = found.capacity.unwrap().machine.unwrap();
    assert_eq!((machine.relays, machine.alone), (3, 2_340e3));
    assert_eq!(machine.together, Some(870e3));
    assert_eq!(of(&cases, 9).capacity.unwrap().machine, None);
}

#[test]
fn weights_add_up_as_wanted() {
    let mut cases = vec![Case::new(&[780e3, 780e3], 1e6); 40];
    for (number, case) in cases.iter_mut().enumerate() {
        case.weight = 100 + number as u64;
    }
    let consensus: u64 = cases.iter().map(|case| case.weight).sum();
    for (normalisation, sum) in [
        (Normalisation::Consensus, consensus as f64),
        (Normalisation::None, 40.0 * 780.0),
        (
            Normalisation::Total(KilobytesPerSecond::new(4_000)),
            4_000.0,
        ),
    ] {
        let mut options = plain();
        options.capacity.normalisation = normalisation;
        let found = scaled(&cases, &options);
        let weights = found
            .relays
            .iter()
            .filter_map(|relay| relay.answer.weight());
        let total: u64 = weights.map(KilobytesPerSecond::value).sum();
        assert!((total as f64 / sum - 1.0).abs() < 0.01, "{total} {sum}");
    }
}

#[test]
fn estimates_go_on_from_the_file_before() {
    let mut cases = vec![Case::new(&[1e6], 1e6); 20];
    let facts = FileFacts::new("bwscan", "0");
    let mut options = plain();
    let next = |cases: &[Case], hours: u64, options: &mut ScaleOptions| {
        let scaled = scale(&aggregates_at(cases, hours), options);
        let file = scaled.to_bandwidth_file(&facts).unwrap().build().unwrap();
        let file = PreviousFile::parse(&file);
        let estimates = file.relays.iter();
        options.capacity.previous = estimates
            .filter_map(|(relay, line)| Some((*relay, line.capacity?)))
            .collect();
        assert_eq!(options.capacity.previous.len(), 20);
        scaled
    };
    next(&cases, 0, &mut options);
    // The same measurements again change nothing, whatever the descriptor says.
    cases[0].observed = Some(9e6);
    let found = next(&cases, 0, &mut options);
    assert_eq!(steps(&found, 0).limited, 1e6);
    // One new measurement goes half of the way in logarithms, two three quarters.
    cases[0].rates = vec![4e6];
    cases[1].rates = vec![4e6, 4e6];
    let found = next(&cases, 5, &mut options);
    assert!((steps(&found, 0).limited - 2e6).abs() < 10.0);
    assert!((steps(&found, 1).limited - 4e6 / 2_f64.sqrt()).abs() < 10.0);
    // An estimate of the future counts for nothing.
    let later = options.capacity.previous.get_mut(&fingerprint(0)).unwrap();
    later.measured_at = 2 * NOW;
    let found = next(&cases, 5, &mut options);
    assert_eq!(steps(&found, 0).limited, 4e6);
}

fn any_cases() -> impl Strategy<Value = Vec<Case>> {
    let rates = prop::collection::vec(1e4..1e7_f64, 1..8);
    let observed = prop_oneof![Just(None), (0.0..2.1e9_f64).prop_map(Some), Just(Some(0.0))];
    let case = (rates, observed, 1..9_999_u64).prop_map(|(rates, observed, weight)| Case {
        observed,
        weight,
        ..Case::new(&rates, 0.0)
    });
    prop::collection::vec(case, 1..25)
}

/// The rate that a relay has proven, as share of all.
fn proven_share(scaled: &Scaled, number: usize) -> f64 {
    let proven = |number| steps(scaled, number).capacity.unwrap().proven.rate;
    let all: f64 = (0..scaled.relays.len()).map(proven).sum();
    proven(number) / all
}

proptest! {
    /// Not even where all others lie too, and κ with them.
    #[test]
    fn nothing_that_relays_say_moves_a_share_by_more_than_the_bound(
        cases in any_cases(), which in 0..25_usize, bound in 0.0..0.5_f64,
    ) {
        let mut options = plain();
        options.bound = Some(bound);
        let found = scaled(&cases, &options);
        prop_assume!(found.relays.iter().all(|relay| relay.answer.weight().is_some()));
        let which = which % cases.len();
        let values = values(&found);
        let share = values[which] / values.iter().sum::<f64>();
        let gain = share / proven_share(&found, which);
        let most = 1.0 / (1.0 - bound) * (1.0 + 1e-9);
        prop_assert!(gain <= most && gain * most >= 1.0, "{gain}");
    }

    /// Whatever its members show alone or say of themselves.
    #[test]
    fn a_machine_gets_no_more_than_it_showed_together_and_the_bound(
        members in prop::collection::vec((1e5..2e6_f64, 0.0..2e9_f64, 1e5..2e6_f64), 2..8),
    ) {
        let mut cases = vec![Case::new(&[1e6, 1e6, 1e6], 1e6); 20];
        cases[0].address = Some(2);
        for &(alone, observed, together) in &members {
            let mut case = Case::new(&[alone, alone], observed);
            case.together = vec![together; 2];
            case.address = Some(1);
            cases.push(case);
        }
        let found = scaled(&cases, &plain());
        let all: f64 = values(&found)[20..].iter().sum();
        let alone = members.iter().map(|one| one.0).fold(0.0, f64::max);
        let together: f64 = members.iter().map(|one| one.2).sum();
        // What a joint measurement shows of a relay, it has.
        let most = alone.max(together) / 0.75 / 0.75;
        prop_assert!(all <= most * (1.0 + 1e-6), "{all} of {most}");
    }

    /// The estimate, before other relays and κ come in.
    #[test]
    fn more_proven_is_never_less_weight(
        cases in any_cases(), which in 0..25_usize, factor in 1.0..3.0_f64,
    ) {
        let which = which % cases.len();
        let before = scaled(&cases, &plain());
        let mut more = cases;
        for rate in &mut more[which].rates {
            *rate *= factor;
        }
        let after = scaled(&more, &plain());
        prop_assume!([&before, &after].iter().all(|scaled| {
            scaled.relays.iter().all(|relay| relay.answer.weight().is_some())
                && scaled.relays.iter().all(|relay| relay.aggregate.counts.implausible_rates == 0)
        }));
        let [before, after] = [&before, &after].map(|scaled| steps(scaled, which));
        // κ and the variation are those of the whole network, of few relays here.
        let same = after.capacity.unwrap().bound == before.capacity.unwrap().bound;
        let least = if same { 1.0 } else { 0.75 };
        prop_assert!(after.limited >= before.limited * least * (1.0 - 1e-9));
    }

    /// It stays within what the others show, and what it says of itself may add.
    #[test]
    fn one_record_of_many_moves_a_weight_within_what_the_others_show(
        rates in prop::collection::vec(5e5..2e6_f64, 3..20), outlier in 1e3..1e9_f64,
        observed in 0.0..2e9_f64,
    ) {
        let mut cases = vec![Case::new(&[1e6, 1e6, 1e6], 1e6); 30];
        cases[0] = Case::new(&rates, observed);
        cases[0].rates.push(outlier);
        let found = scaled(&cases, &plain());
        let value = steps(&found, 0).limited;
        let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
        let most = rates.iter().copied().fold(0.0, f64::max);
        prop_assert!(value >= least * (1.0 - 1e-6) && value <= most / 0.75 * (1.0 + 1e-6));
        // The others are not moved at all.
        prop_assert!((steps(&found, 7).limited - 1e6).abs() < 1.0);
    }
}
