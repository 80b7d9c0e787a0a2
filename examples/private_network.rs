//! Brings a small private Tor network up, prints what its relays can carry,
//! and takes it down. Needs `tor` with `tor-gencert`; takes 15 to 30 seconds.
//!
//! `cargo run --example private_network`

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "examples show what they do"
)]

use bw_file::BytesPerSecond;
use bw_testnet::{Network, Plan, RelaySpec, Role, Seeded};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let kilobytes = |n: u64| BytesPerSecond::new(n * 1000);
    let plan = Plan::builder()
        // Two relays and two exits; the same capacities for the same seed.
        .seeded(Seeded::new(1, 2, 2, kilobytes(300)..=kilobytes(2000)))
        // One more, which has so far carried a tenth of what it can.
        .relay(RelaySpec::middle("idle", kilobytes(1000)).observed(kilobytes(100)))
        .build()?;

    // The network is owned: dropping it, on an error or on a panic too, ends
    // its processes.
    let network = Network::up(&plan, |event| eprintln!("{event}")).await?;

    let consensus = network.consensus().await?;
    for node in network
        .nodes()
        .filter(|node| node.role() != Role::Authority)
    {
        let record = node.record();
        let weight = consensus
            .relays
            .get(&record.fingerprint)
            .and_then(|relay| relay.bandwidth);
        println!(
            "{:8} {} {:>6} kB/s, weight {}",
            record.nickname,
            record.fingerprint,
            record.rate.value() / 1000,
            weight.map_or("none".to_owned(), |weight| weight.value().to_string()),
        );
    }
    network.down().await?;
    Ok(())
}
