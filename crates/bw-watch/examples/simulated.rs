//! A scan of a simulated network in real time, to be watched:
//! `bwscan watch --socket SOCKET` in another terminal.
//!
//! `cargo run --example simulated -- SOCKET [RELAYS [SECONDS]]`

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use bw_file::BytesPerSecond;
use bw_measure::{Destination, EachOnce, Event, Observer, Scan};
use bw_sim::{Ledger, Model, Nature, Population, Server};
use bw_watch::Hub;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio_util::sync::CancellationToken;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let socket = arguments.next().context("SOCKET is a path")?;
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let relays = number(2000).context("RELAYS is the number of relays")?;
    let seconds = number(600).context("SECONDS is the time after which it ends")?;

    let mut population = Population::public_network(usize::try_from(relays)?);
    (population.load, population.swing) = (0.3, 0.1);
    population.natures = vec![
        (0.03, Nature::Refuses),
        (0.03, Nature::Stalls { after: 100_000 }),
        (0.04, Nature::Throttles { factor: 0.3 }),
    ];
    let destinations: Vec<Destination> = ["https://one.example/1GiB", "https://two.example/1GiB"]
        .into_iter()
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let mut relays = population.generate(&mut StdRng::seed_from_u64(1));
    for (number, relay) in (1..).zip(&mut relays) {
        relay.facts.nickname = format!("relay{number}");
    }
    let mut builder = Model::builder().relays(relays);
    for destination in &destinations {
        builder = builder.server(Server::new(destination.clone()));
    }
    let model = builder.build();

    let link = BytesPerSecond::new(125_000_000); // 1 Gbit/s
    let hub = Hub::new();
    hub.introduce("simulated", link.value());
    let _listening = hub.listen(&PathBuf::from(socket))?;
    let told = model.clone();
    let observer = move |event: &Event<'_>| {
        told.observe(event);
        hub.observe(event);
    };
    let cancel = CancellationToken::new();
    let ledger = Ledger::new(&model);
    let mut scan = Scan::builder(&model, model.clone())
        .link(link)
        .observer(observer)
        .cancel(cancel.clone());
    for destination in destinations {
        scan = scan.destination(destination);
    }
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        cancel.cancel();
    });
    scan.run(&EachOnce::default(), &ledger).await?;
    Ok(())
}
