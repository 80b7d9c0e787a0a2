//! Scans a private Tor network with the library: brings the network up, serves a
//! file to download, measures every relay, and prints what was found beside
//! what the relays can carry. Needs `tor` with `tor-gencert`; takes about a minute.
//!
//! `cargo run --example scan_private_network`

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "examples show what they do"
)]

use std::collections::BTreeMap;
use std::sync::Mutex;

use bw_file::{BytesPerSecond, Fingerprint};
use bw_measure::tor::{TorClient, TorSettings};
use bw_measure::{Destination, EachOnce, Event, HttpTransport, Observer, Scan, Tls};
use bw_results::Outcome;
use bw_server::FileServer;
use bw_testnet::{Network, Plan, Seeded};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Keeps the rate of each relay; a program that must not lose anything keeps the records.
#[derive(Default)]
struct Rates(Mutex<BTreeMap<Fingerprint, f64>>);

impl Observer for Rates {
    fn observe(&self, event: &Event<'_>) {
        let Event::Ended(completion) = event else {
            return;
        };
        let relay = &completion.outcome.attempt().target;
        match &completion.outcome {
            Outcome::Measured(measurement) if completion.verdict.gives_rate() => {
                let mut rates = self.0.lock().expect("nobody panics with it");
                rates.extend(measurement.rates().map(|rate| (relay.fingerprint, rate)));
            }
            Outcome::Measured(_) => eprintln!("{}: {}", relay.nickname, completion.verdict),
            Outcome::Failed(failure) => eprintln!("{}: {}", relay.nickname, failure.detail),
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let kilobytes = |n: u64| BytesPerSecond::new(n * 1000);
    let plan = Plan::builder()
        .seeded(Seeded::new(5, 6, 4, kilobytes(300)..=kilobytes(3000)))
        .build()?;
    let network = Network::up(&plan, |event| eprintln!("{event}")).await?;

    // Any web server that answers Range requests does; this one is at hand.
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let destination: Destination = format!("http://{}/1GiB", listener.local_addr()?).parse()?;
    let stop = CancellationToken::new();
    tokio::spawn(FileServer::new(1 << 30).serve(listener, None, stop.clone()));

    let home = tempfile::tempdir()?;
    let mut settings = TorSettings::new(home.path());
    settings.config = vec![network.client_config_file()];
    let client = TorClient::bootstrap(&settings, |_| ()).await?;
    let transport = HttpTransport::new(client.circuits()?, Tls::with_public_roots()?);
    let rates = Rates::default();
    let report = Scan::builder(client.directory()?, transport)
        .destination(destination)
        .observer(|event: &Event<'_>| rates.observe(event))
        .run(&EachOnce::default(), &())
        .await?;

    for (relay, rate) in &*rates.0.lock().expect("nobody panics with it") {
        let node = network
            .nodes()
            .find(|node| node.record().fingerprint == *relay);
        let Some(node) = node else { continue };
        let capacity = node.record().rate.value() as f64;
        let name = &node.record().nickname;
        println!("{name:8} {:5.0} of {:5.0} kB/s", rate / 1e3, capacity / 1e3);
    }
    println!("{} measured, {} failed", report.measured, report.failed);
    stop.cancel();
    network.down().await?;
    Ok(())
}
