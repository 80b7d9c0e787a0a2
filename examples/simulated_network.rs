//! A round over a simulated network of as many relays as the public one has, in
//! virtual time: half an hour of it takes a fraction of a minute.
//!
//! `cargo run --release --example simulated_network -- [RELAYS [SEED]]`

#![expect(clippy::print_stdout, reason = "examples show what they do")]

use std::time::{Duration, Instant};

use anyhow::Context as _;
use bw_file::BytesPerSecond;
use bw_measure::{Destination, EachOnce, Scan};
use bw_sim::{Ledger, Model, Nature, Population, Server};
use rand::SeedableRng;
use rand::rngs::StdRng;

// Time stands still unless everything waits for it: nothing really waits.
#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default| arguments.next().map_or(Ok(default), |text| text.parse());
    let relays = number(8000).context("RELAYS is the number of relays")?;
    let seed = number(1).context("SEED is a number")?;

    // Relays with clients, of which some do not do what they should.
    let mut population = Population::public_network(usize::try_from(relays)?);
    (population.load, population.swing) = (0.3, 0.1);
    population.natures = vec![
        (0.02, Nature::Silent),
        (0.02, Nature::Refuses),
        (0.02, Nature::Stalls { after: 100_000 }),
        (0.04, Nature::Throttles { factor: 0.3 }),
    ];
    let destinations: Vec<Destination> = ["https://one.example/1GiB", "https://two.example/1GiB"]
        .into_iter()
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let mut builder = Model::builder()
        .relays(population.generate(&mut StdRng::seed_from_u64(seed)))
        .seed(seed);
    for destination in &destinations {
        builder = builder.server(Server::new(destination.clone()));
    }
    let model = builder.build();

    // The scan is the same as over the real network.
    let ledger = Ledger::new(&model);
    let begin = Instant::now();
    let mut scan = Scan::builder(&model, model.clone())
        .link(BytesPerSecond::new(125_000_000)) // 1 Gbit/s
        .clock(model.clock())
        .observer(model.clone())
        .seed(seed);
    for destination in destinations {
        scan = scan.destination(destination);
    }
    let report = scan.run(&EachOnce::default(), &ledger).await?;

    let usage = model.usage();
    let minutes = |time: Duration| time.as_secs_f64() / 60.0;
    println!("{} relays measured, {} not", report.measured, report.failed);
    println!("virtual time   {:.1} min", minutes(model.elapsed()));
    println!("real time      {:.1} s", begin.elapsed().as_secs_f64());
    println!("payload        {:.1} GB", report.bytes as f64 / 1e9);
    println!(
        "circuits       {}, at most {} at a time",
        usage.circuits, usage.most_flows
    );
    let busiest = usage.link_peak(20) * 20.0; // ticks of 50 ms
    println!(
        "link           at most {:.1} MB/s in a second",
        busiest / 1e6
    );
    let accuracy = ledger
        .accuracy(|nature| *nature == Nature::Honest)
        .context("no honest relay was measured")?;
    println!(
        "honest relays  σ {:.4}, NWE {:.4}",
        accuracy.sigma, accuracy.nwe
    );
    Ok(())
}
