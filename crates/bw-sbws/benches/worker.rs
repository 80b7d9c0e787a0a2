//! The steps that `against_sbws.py` measures: one a process, so that each has its
//! own time and memory.

#![allow(clippy::unwrap_used, reason = "a failed step ends the benchmark")]
#![allow(clippy::print_stdout, reason = "a benchmark prints")]

#[path = "../tests/compatible/mod.rs"]
mod compatible;
#[path = "../tests/support/mod.rs"]
mod support;

use std::ops::ControlFlow;
use std::path::Path;

use bw_aggregate::{AggregateOptions, Aggregator, FileFacts, ScaleOptions, scale};
use bw_results::UnixMillis;
use bw_sbws::{Header, Home, Options, Version};
use bw_store::{Filter, Store};
use support::{HomePlan, iso, write_home};

/// 2026-11-20 12:00:00 UTC, to which made-up results reach.
const END: u64 = 1_795_176_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["home", path, relays, days, times] => {
            let plan = HomePlan {
                seed: 1,
                relays: relays.parse().unwrap(),
                days: days.parse().unwrap(),
                per_day: 1.0,
                consensus_times: times.parse().unwrap(),
                end: END,
                odd: false,
            };
            let results = write_home(Path::new(path), &plan).unwrap();
            println!("{results} {}", iso(END + 1_800).replace('T', " "));
        }
        ["import", home, store] => {
            let mut store = Store::open(store).unwrap();
            let report = Home::new(home)
                .import_into(&mut store, UnixMillis::new(u64::MAX))
                .unwrap();
            assert_eq!(report.bad_lines, 0);
            println!("{}", report.added + report.known);
        }
        ["generate", store, file] => generate(&open(store), Path::new(file)),
        ["compat", store, file] => compat(&open(store), Path::new(file)),
        // `cargo bench` without arguments of ours.
        _ => println!("run benches/against_sbws.py, which runs this"),
    }
}

fn open(path: &str) -> Store {
    Store::open_read_only(path).unwrap()
}

/// The work of `bwscan generate`.
fn generate(store: &Store, path: &Path) {
    let (_, network) = store.latest_snapshot().unwrap().unwrap();
    let since = UnixMillis::from_secs(END + 1_800 - 28 * 86_400);
    let mut aggregator = Aggregator::new(AggregateOptions::default(), &network);
    let end = store.for_each_summary(&Filter::all().since(since), |stored| {
        aggregator.add(stored.value);
        ControlFlow::<()>::Continue(())
    });
    assert!(end.unwrap().is_continue());
    let scaled = scale(&aggregator.finish(), &ScaleOptions::default());
    let file = scaled.to_bandwidth_file(&FileFacts::new("bench", "0"));
    std::fs::write(path, file.unwrap().build().unwrap()).unwrap();
}

/// The work of `bwscan generate --compat sbws=1.5.2`.
fn compat(store: &Store, path: &Path) {
    let options = Options::new(Version::V1_5_2, (END + 1_800) as f64);
    let file = compatible::from_store(store, options, Header::default()).unwrap();
    std::fs::write(path, file).unwrap();
}
