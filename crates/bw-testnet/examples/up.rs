//! Brings up a network, shows it, and takes it down on Ctrl-C.
//!
//! `cargo run -p bw-testnet --example up -- [MIDDLES [EXITS]]`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use bw_file::BytesPerSecond;
use bw_testnet::{Network, Plan, Prior, Seeded};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut counts = std::env::args().skip(1).map(|count| count.parse());
    let middles = counts.next().unwrap_or(Ok(8))?;
    let exits = counts.next().unwrap_or(Ok(4))?;
    let rates = BytesPerSecond::new(300_000)..=BytesPerSecond::new(6_000_000);
    let plan = Plan::builder()
        .seeded(Seeded::new(7, middles, exits, rates))
        .prior(Prior::new(0.4, 7))
        .build()?;

    let coming_up = Network::up(&plan, |event| println!("{event}"));
    let network = tokio::select! {
        network = coming_up => network?,
        // Dropping the future ends what was started.
        _ = tokio::signal::ctrl_c() => return Ok(()),
    };
    let status = network.status().await;
    for node in &status.nodes {
        let record = &node.record;
        println!(
            "{:8} {:15} {} rate {:>7} kB/s, weight {:>5} kB/s, {} MB: {}",
            record.nickname,
            record.address,
            record.fingerprint,
            record.rate.value() / 1000,
            node.weight.map_or(0, bw_file::KilobytesPerSecond::value),
            node.memory.unwrap_or(0) >> 20,
            node.flags.as_deref().unwrap_or_default().join(" "),
        );
    }
    println!("ready: {}; {}", status.ready, network.directory().display());
    tokio::signal::ctrl_c().await?;
    network.down().await?;
    Ok(())
}
