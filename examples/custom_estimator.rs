//! An estimator of one's own, tried on a simulated network: two seconds, the
//! first of them not counted. It is quick, and takes bursts for rates.
//!
//! `cargo run --example custom_estimator`

#![expect(clippy::print_stdout, reason = "examples show what they do")]

use anyhow::Context as _;
use bw_measure::{Destination, EachOnce, Estimator, Scan, Sustained};
use bw_results::{Slice, StopReason, TargetFacts};
use bw_sim::{Ledger, Model, Population, Server};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Counts the second of two seconds.
struct SecondSecond;

/// The number of the first `slices` that are over after so many seconds.
fn slices_in(seconds: u64, slices: &[Slice]) -> usize {
    let mut micros = 0;
    let ends = slices.iter().map(|slice| {
        micros += slice.micros;
        micros
    });
    ends.take_while(|&end| end <= seconds * 1_000_000).count()
}

impl Estimator for SecondSecond {
    fn observe(&mut self, slices: &[Slice]) -> Option<StopReason> {
        let micros: u64 = slices.iter().map(|slice| slice.micros).sum();
        (micros >= 2_000_000).then_some(StopReason::TimeLimit)
    }

    fn warm_up(&self, slices: &[Slice]) -> usize {
        slices_in(1, slices)
    }
}

/// Measures the same network with the estimators that `make` makes.
async fn measure<E: Estimator>(
    name: &str,
    make: impl Fn(&TargetFacts) -> E + Send + Sync,
) -> anyhow::Result<()> {
    let destination: Destination = "https://bw.example/1GiB".parse()?;
    let relays = Population::public_network(300).generate(&mut StdRng::seed_from_u64(1));
    let server = Server::new(destination.clone());
    let model = Model::builder().relays(relays).server(server).build();
    let ledger = Ledger::new(&model);
    let report = Scan::builder(&model, model.clone())
        .destination(destination)
        .estimator(make)
        .clock(model.clock())
        .observer(model.clone())
        .seed(1)
        .run(&EachOnce::default(), &ledger)
        .await?;
    let accuracy = ledger.accuracy(|_| true).context("nothing was measured")?;
    println!(
        "{name:14} {:5.1} min, {:.1} GB, {} measured, NWE {:.4}",
        model.elapsed().as_secs_f64() / 60.0,
        report.bytes as f64 / 1e9,
        accuracy.relays,
        accuracy.nwe
    );
    Ok(())
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> anyhow::Result<()> {
    measure("Sustained", |target| {
        Sustained::default().for_target(target)
    })
    .await?;
    measure("SecondSecond", |_| SecondSecond).await
}
