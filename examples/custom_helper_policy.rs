//! A helper policy of one's own, tried on a simulated network: helpers of one
//! country only, as a scanner might want that knows its own connection. Here
//! the "country" is a network prefix, and the price is seen in the figures.
//!
//! `cargo run --example custom_helper_policy`

#![expect(clippy::print_stdout, reason = "examples show what they do")]

use std::net::IpAddr;

use anyhow::Context as _;
use bw_measure::{
    Destination, EachOnce, HelperChoice, HelperPolicy, HelperRequest, Scan, SpareHelpers,
};
use bw_results::RelayFacts;
use bw_sim::{Accuracy, Ledger, Model, Population, Server};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Leaves the choice to another policy, but hides relays from it that are
/// elsewhere: a relay without room is never chosen.
struct Nearby<P> {
    inner: P,
}

/// Half of the addresses.
fn is_near(relay: &RelayFacts) -> bool {
    matches!(relay.address, Some(IpAddr::V4(address)) if address.octets()[0] < 24)
}

impl<P: HelperPolicy> HelperPolicy for Nearby<P> {
    fn choose(
        &mut self,
        request: &HelperRequest<'_>,
        rng: &mut dyn rand::Rng,
    ) -> Option<HelperChoice> {
        let relays = &request.snapshot.relays;
        let room = |index: usize| match relays.get(index) {
            Some(relay) if is_near(relay) => (request.room)(index),
            _ => 0.0,
        };
        let mut nearby = *request;
        nearby.room = &room;
        self.inner.choose(&nearby, rng)
    }
}

async fn measure(policy: impl HelperPolicy, seed: u64) -> anyhow::Result<(f64, Accuracy)> {
    let destination: Destination = "https://bw.example/1GiB".parse()?;
    let model = Model::builder()
        .relays(Population::public_network(300).generate(&mut StdRng::seed_from_u64(seed)))
        .server(Server::new(destination.clone()))
        .build();
    let ledger = Ledger::new(&model);
    Scan::builder(&model, model.clone())
        .destination(destination)
        .helper_policy(policy)
        .clock(model.clock())
        .observer(model.clone())
        .seed(seed)
        .run(&EachOnce::default(), &ledger)
        .await?;
    let accuracy = ledger.accuracy(|_| true).context("nothing was measured")?;
    Ok((model.elapsed().as_secs_f64() / 60.0, accuracy))
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> anyhow::Result<()> {
    let all = measure(SpareHelpers::default(), 1).await?;
    let inner = SpareHelpers::default();
    let nearby = measure(Nearby { inner }, 1).await?;
    for (name, (minutes, accuracy)) in [("all", all), ("nearby", nearby)] {
        println!(
            "{name:7} {minutes:5.1} min, {} measured, NWE {:.4}",
            accuracy.relays, accuracy.nwe
        );
    }
    Ok(())
}
