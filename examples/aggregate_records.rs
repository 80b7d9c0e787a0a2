//! From records to a bandwidth file, without a network and without a store:
//! three relays, a few synthetic outcomes, Torflow's formula.
//!
//! `cargo run --example aggregate_records`

#![expect(clippy::print_stdout, reason = "examples show what they do")]

use std::time::Duration;

use bw_aggregate::{AggregateOptions, Aggregator, Answer, FileFacts, ScaleOptions, scale};
use bw_file::{BytesPerSecond, Fingerprint, KilobytesPerSecond};
use bw_results::{
    Attempt, Blame, DescriptorFacts, Failure, FailureKind, Measurement, NetworkSnapshot, Outcome,
    Position, RelayFacts, Slice, Stage, StopReason, TargetFacts, Timings, Transfer, UnixMillis,
};

const NOW: u64 = 1_790_000_000;

fn main() -> anyhow::Result<()> {
    let now = UnixMillis::from_secs(NOW);
    let relays = vec![
        relay(1, "alder", 2_000_000),
        relay(2, "birch", 2_000_000),
        relay(3, "cedar", 500_000),
    ];
    let network = NetworkSnapshot::new(now, now, now, Default::default(), relays.clone());

    // alder and birch say the same of themselves; birch delivers half of it.
    // cedar could not be reached.
    let mut aggregator = Aggregator::new(AggregateOptions::default(), &network);
    aggregator.add(&measured(&relays[0], 1_600_000));
    aggregator.add(&measured(&relays[0], 1_500_000));
    aggregator.add(&measured(&relays[1], 800_000));
    aggregator.add(&failed(&relays[2]));

    let mut options = ScaleOptions::default();
    options.max_share = Some(1.0); // no cap: it would bind in so small a network
    let scaled = scale(&aggregator.finish(), &options);
    for relay in &scaled.relays {
        let name = &relay.aggregate.nickname;
        match &relay.answer {
            Answer::Weight(steps) => println!(
                "{name}: {:.2} of the mean, times {} B/s advertised = {} kB/s",
                steps.ratio,
                steps.advertised.value(),
                steps.weight.value()
            ),
            Answer::Excluded(reason) => println!("{name}: no weight: {reason}"),
        }
    }

    let facts = FileFacts::new("aggregate_records", env!("CARGO_PKG_VERSION"));
    let file = scaled.to_bandwidth_file(&facts)?.build()?;
    println!("\n{}", String::from_utf8_lossy(&file));
    Ok(())
}

/// A relay whose rate, burst and observed bandwidth are all `rate` bytes per second.
fn relay(id: u8, nickname: &str, rate: u64) -> RelayFacts {
    let fingerprint = Fingerprint::from_bytes([id; 20]);
    let mut relay = RelayFacts::new(fingerprint, nickname, KilobytesPerSecond::new(20));
    let rate = BytesPerSecond::new(rate);
    let published = UnixMillis::from_secs(NOW - 3600);
    relay.descriptor = Some(DescriptorFacts::new(published, rate, rate, rate));
    relay
}

/// A download of three seconds: one of warm-up and two at `rate` bytes per second.
fn measured(relay: &RelayFacts, rate: u64) -> Outcome {
    let second = Duration::from_secs(1);
    let slices = vec![
        Slice::new(second, rate / 2),
        Slice::new(second, rate),
        Slice::new(second, rate),
    ];
    let transfer = Transfer::new(slices, 1, StopReason::Confident);
    let started = UnixMillis::from_secs(NOW);
    let attempt = Attempt::new(TargetFacts::from(relay), Position::Entry, started);
    let ended = started.after(3 * second);
    Outcome::Measured(Measurement::new(
        attempt,
        ended,
        Timings::default(),
        vec![transfer],
    ))
}

/// An attempt that found nobody at the relay's address.
fn failed(relay: &RelayFacts) -> Outcome {
    let started = UnixMillis::from_secs(NOW);
    Outcome::Failed(Failure::new(
        Attempt::new(TargetFacts::from(relay), Position::Entry, started),
        started.after(Duration::from_secs(20)),
        Stage::Channel,
        FailureKind::Timeout,
        Blame::Target,
        "not done within 20 s".to_owned(),
    ))
}
