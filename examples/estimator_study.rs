//! A study of how the error of a measurement depends on its length: replays recorded downloads
//! of many seconds through the estimator with other settings, and compares with
//! the relays' true capacities. `docs/estimator.md` has the results.
//!
//!     bwscan testnet up net --relays 16 --exits 8 --max-rate 8MB
//!     bwscan serve &
//!     bwscan scan -d http://127.0.0.1:8000/ --tor-config net/arti.toml \
//!         --min-time 12s --sample-time 12s --max-time 15s --data-dir study
//!     bwscan export --data-dir study -o study.jsonl
//!     cargo run --example estimator_study -- net/capacities.json study.jsonl

#![expect(clippy::print_stdout, reason = "examples show what they do")]

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use bw_file::Fingerprint;
use bw_measure::{Estimator, Sustained};
use bw_results::{Measurement, Slice, StopReason};
use serde_json::Value;

/// A recorded download and what its relay can carry, in bytes per second.
struct Trace {
    measurement: Measurement,
    capacity: f64,
}

/// The result of an estimator on a trace.
struct Replayed {
    /// Natural logarithm of measured over true.
    error: f64,
    /// Share of the interval that holds the rate of the whole download.
    held: bool,
    seconds: f64,
    bytes: u64,
    stop: StopReason,
}

fn replay(trace: &Trace, mut estimator: Sustained) -> Option<Replayed> {
    let slices = &trace.measurement.transfers.first()?.slices;
    estimator = estimator.for_target(&trace.measurement.attempt.target);
    let whole = estimator.estimate(slices)?.rate;
    let (end, stop) = (1..=slices.len())
        .find_map(|end| Some((end, estimator.observe(&slices[..end])?)))
        .unwrap_or((slices.len(), StopReason::Complete));
    let seen = &slices[..end];
    let estimate = estimator.estimate(seen)?;
    let sum = |f: fn(&Slice) -> u64| seen.iter().map(f).sum::<u64>();
    Some(Replayed {
        error: (estimate.rate / trace.capacity).ln(),
        held: (estimate.rate - whole).abs() <= estimate.half_width,
        seconds: sum(|slice| slice.micros) as f64 / 1e6,
        bytes: sum(|slice| slice.bytes),
        stop,
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let capacities = arguments
        .next()
        .context("first the capacities, then exports")?;
    let nodes: Vec<Value> = serde_json::from_slice(&std::fs::read(capacities)?)?;
    let capacities: BTreeMap<Fingerprint, f64> = nodes
        .iter()
        .map(|node| {
            let relay: Fingerprint = serde_json::from_value(node["fingerprint"].clone())?;
            Ok((relay, node["rate"].as_f64().context("a rate")?))
        })
        .collect::<anyhow::Result<_>>()?;
    let mut traces = Vec::new();
    for export in arguments {
        for line in std::fs::read_to_string(export)?.lines() {
            let mut value: Value = serde_json::from_str(line)?;
            let measured = value["outcome"]["outcome"]["measured"].take();
            let Ok(measurement) = serde_json::from_value::<Measurement>(measured) else {
                continue;
            };
            let relay = measurement.attempt.target.fingerprint;
            let capacity = capacities.get(&relay).copied();
            traces.extend(capacity.map(|capacity| Trace {
                measurement,
                capacity,
            }));
        }
    }
    println!("{} downloads", traces.len());
    println!(
        "| counted at most | confident | seconds | MB | spread | weight error | interval holds |"
    );
    println!("|---|---|---|---|---|---|---|");
    for enough in [0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0] {
        let estimator = || {
            let mut estimator = Sustained::default();
            estimator.enough = Duration::from_secs_f64(enough);
            estimator.least = estimator.least.min(estimator.enough);
            estimator.longest = Duration::from_secs(15);
            estimator
        };
        let replayed: Vec<(&Trace, Replayed)> = traces
            .iter()
            .filter_map(|trace| Some((trace, replay(trace, estimator())?)))
            .collect();
        let count = replayed.len() as f64;
        let share = |of: &dyn Fn(&Replayed) -> bool| {
            let matching = replayed.iter().filter(|(_, one)| of(one)).count();
            100.0 * matching as f64 / count
        };
        let mean = |of: &dyn Fn(&Replayed) -> f64| {
            replayed.iter().map(|(_, one)| of(one)).sum::<f64>() / count
        };
        let middle = median(replayed.iter().map(|(_, one)| one.error).collect());
        let off = replayed.iter().map(|(_, one)| (one.error - middle).abs());
        let spread = 1.4826 * median(off.collect());
        // The error of normalised weights, if each download were a relay.
        let rate = |trace: &Trace, one: &Replayed| trace.capacity * one.error.exp();
        let measured: f64 = replayed.iter().map(|(trace, one)| rate(trace, one)).sum();
        let capacity: f64 = replayed.iter().map(|(trace, _)| trace.capacity).sum();
        let shares = replayed
            .iter()
            .map(|(trace, one)| (rate(trace, one) / measured - trace.capacity / capacity).abs());
        println!(
            "| {enough} s | {:.0} % | {:.2} | {:.1} | {spread:.3} | {:.4} | {:.0} % |",
            share(&|one| one.stop == StopReason::Confident),
            mean(&|one| one.seconds),
            mean(&|one| one.bytes as f64) / 1e6,
            shares.sum::<f64>() / 2.0,
            share(&|one| one.held),
        );
    }
    Ok(())
}
