//! A scanner that is not bwscan: its own choice of helpers, its own idea of when a download has
//! shown enough, its own web server. It uses the public interface of bwscan's crates and nothing
//! else.
//!
//! `cargo run -p outside-scanner -- simulation` measures 200 simulated relays in virtual time.
//! `cargo run -p outside-scanner -- network` measures a private Tor network; it needs `tor` with
//! `tor-gencert`, and takes about two minutes.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people"
)]

mod destination;
mod estimator;
mod helpers;
mod rates;

use anyhow::{Context, bail};
use bw_file::BytesPerSecond;
use bw_measure::tor::{TorClient, TorSettings};
use bw_measure::{
    Destination, Directory, EachOnce, Event, HttpTransport, Limits, Observer, Scan, Tls, Transport,
    WallClock,
};
use bw_sim::{Accuracy, Model, Population, Server};
use bw_testnet::{Network, Plan, Seeded};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::estimator::SecondHalf;
use crate::helpers::RoomiestHelper;
use crate::rates::Rates;

fn main() -> anyhow::Result<()> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    match std::env::args().nth(1).as_deref() {
        Some("simulation") => {
            // Time is the model's: it passes when nobody has anything to do.
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().start_paused(true).build()?;
            runtime.block_on(simulation(200))?.print();
        }
        Some("network") => {
            let runtime = runtime.enable_all().build()?;
            runtime.block_on(network())?.print();
        }
        _ => bail!("say \"simulation\" or \"network\""),
    }
    Ok(())
}

/// The rates found, beside what relays can carry.
struct Found {
    relays: usize,
    accuracy: Accuracy,
}

impl Found {
    /// Compares rates with capacities.
    fn new(pairs: Vec<(f64, f64)>) -> anyhow::Result<Self> {
        let relays = pairs.len();
        let accuracy = Accuracy::of(pairs).context("nothing was measured")?;
        Ok(Self { relays, accuracy })
    }

    fn print(&self) {
        let Accuracy { ratio, nwe, .. } = self.accuracy;
        let relays = self.relays;
        println!("{relays} relays, {ratio:.2} of their capacity, network weight error {nwe:.3}");
    }
}

/// Measures `relays` simulated relays.
async fn simulation(relays: usize) -> anyhow::Result<Found> {
    let destination: Destination = "https://bw.example/1GiB".parse()?;
    let model = Model::builder()
        .relays(Population::public_network(relays).generate(&mut StdRng::seed_from_u64(1)))
        .server(Server::new(destination.clone()))
        .build();
    let rates = Rates::default();
    let observer = |event: &Event<'_>| {
        model.observe(event);
        rates.observe(event);
    };
    scan(&model, model.clone(), destination, model.clock(), observer).await?;
    let found = rates.take();
    let pairs = model.relays().iter().filter_map(|relay| {
        let rate = found.get(&relay.facts.fingerprint)?;
        Some((*rate, relay.capacity.value() as f64))
    });
    Found::new(pairs.collect())
}

/// Measures the relays of a private Tor network.
async fn network() -> anyhow::Result<Found> {
    let kilobytes = |n: u64| BytesPerSecond::new(n * 1000);
    let plan = Plan::builder()
        .seeded(Seeded::new(5, 6, 4, kilobytes(300)..=kilobytes(3000)))
        .build()?;
    let network = Network::up(&plan, |event| eprintln!("{event}")).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let destination = format!("http://{}/file", listener.local_addr()?).parse()?;
    let stop = CancellationToken::new();
    tokio::spawn(
        stop.clone()
            .run_until_cancelled_owned(destination::serve(listener)),
    );

    let home = tempfile::tempdir()?;
    let mut settings = TorSettings::new(home.path());
    settings.config = vec![network.client_config_file()];
    let client = TorClient::bootstrap(&settings, |_| ()).await?;
    let transport = HttpTransport::new(client.circuits()?, Tls::with_public_roots()?);
    let (rates, directory) = (Rates::default(), client.directory()?);
    scan(
        directory,
        transport,
        destination,
        WallClock::system(),
        |event: &Event<'_>| rates.observe(event),
    )
    .await?;
    stop.cancel();
    let found = rates.take();
    let pairs = network.nodes().filter_map(|node| {
        let record = node.record();
        Some((*found.get(&record.fingerprint)?, record.rate.value() as f64))
    });
    let found = Found::new(pairs.collect());
    network.down().await?;
    found
}

/// One scan, with this program's own parts.
async fn scan<D: Directory, T: Transport>(
    directory: D,
    transport: T,
    destination: Destination,
    clock: WallClock,
    observer: impl Observer,
) -> anyhow::Result<()> {
    let mut limits = Limits::default();
    // As many as this policy chooses: more would be asked for in vain.
    limits.helpers = 1;
    limits.link = BytesPerSecond::new(125_000_000);
    let report = Scan::builder(directory, transport)
        .destination(destination)
        .limits(limits)
        .helper_policy(RoomiestHelper)
        .estimator(|_: &_| SecondHalf)
        .clock(clock)
        .observer(observer)
        .seed(1)
        .run(&EachOnce::default(), &())
        .await?;
    eprintln!("{} measured, {} failed", report.measured, report.failed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stranger_measures_a_simulated_network() {
        let found = simulation(60).await.unwrap();
        // What one helper bounds is no rate.
        assert!(found.relays > 40, "{} relays", found.relays);
        assert!(found.accuracy.nwe < 0.2, "{:?}", found.accuracy);
    }
}
