//! Small networks over links that limit: what a round takes, and how right its rates are.

use std::collections::BTreeMap;
use std::time::Duration;

use bw_file::{BytesPerSecond, KilobytesPerSecond};
use bw_measure::Limits;
use bw_sim::{Accuracy, Ledger, Model, Population, Relay, Server};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::{destination, minutes, round};

const MB: f64 = 1e6;

/// What a network is like.
#[derive(Clone, Copy, Debug)]
struct Net {
    relays: usize,
    /// One way between a relay and the middle of the Internet.
    delays: (u64, u64),
    /// Whether the directory knows what relays carry.
    known: bool,
    seed: u64,
}

/// `net.relays` relays of 0.26 to 5.5 MB/s, a third of them exits.
fn model(net: Net) -> Model {
    let mut rng = StdRng::seed_from_u64(net.seed);
    let mut population = Population::public_network(net.relays);
    population.capacities = vec![(0.0, 0.26 * MB), (1.0, 5.5 * MB)];
    (
        population.prior_sigma,
        population.unmeasured,
        population.families,
    ) = (0.0, 0.0, 0.0);
    population.exits = 0.0;
    let mut relays = population.generate(&mut rng);
    for (index, relay) in relays.iter_mut().enumerate() {
        if index % 3 == 0 {
            *relay = relay.clone().exit();
        }
        let (from, to) = net.delays;
        relay.delay = Duration::from_millis(rng.random_range(from..=to));
        relay.facts.consensus_weight = KilobytesPerSecond::new(20);
        relay.facts.unmeasured = true;
        relay.facts.address = None;
        if let Some(descriptor) = relay.facts.descriptor.as_mut().filter(|_| !net.known) {
            descriptor.observed = BytesPerSecond::new(0);
        }
    }
    let mut server = Server::new(destination(1));
    server.delay = Duration::ZERO;
    Model::builder()
        .relays(relays)
        .server(server)
        .delay(Duration::ZERO)
        .seed(net.seed)
        .build()
}

/// What a round took and found.
#[derive(Debug)]
struct Figures {
    seconds: f64,
    bytes: f64,
    nwe: f64,
    /// The rate farthest from the median ratio, as ln.
    worst: f64,
    throttled: u32,
    attempts: u32,
    censored: usize,
}

fn figures(model: &Model, ledger: &Ledger) -> Figures {
    let entries = ledger.entries();
    let ratio = |relay: &Relay, rate: f64| (rate / relay.available()).ln();
    let rates: Vec<(f64, f64)> = entries
        .iter()
        .filter_map(|(id, entry)| Some((entry.rate?, model.relay(id)?.available())))
        .collect();
    let mut logs: Vec<f64> = entries
        .iter()
        .filter_map(|(id, entry)| Some(ratio(model.relay(id)?, entry.rate?)))
        .collect();
    logs.sort_by(f64::total_cmp);
    let middle = logs.get(logs.len() / 2).copied().unwrap_or_default();
    let worst = logs
        .iter()
        .map(|log| log - middle)
        .max_by(|a, b| a.abs().total_cmp(&b.abs()));
    Figures {
        seconds: minutes(model.elapsed()) * 60.0,
        bytes: entries.values().map(|entry| entry.bytes as f64).sum(),
        nwe: Accuracy::of(rates).map_or(1.0, |accuracy| accuracy.nwe),
        worst: worst.unwrap_or_default(),
        throttled: entries.values().map(|entry| entry.throttled).sum(),
        attempts: entries.values().map(|entry| entry.attempts).sum(),
        censored: entries
            .values()
            .filter(|entry| entry.rate.is_none())
            .count(),
    }
}

async fn figures_of(net: Net, link: f64) -> Figures {
    let model = model(net);
    let mut limits = Limits::default();
    limits.link = BytesPerSecond::new(link as u64);
    let (report, ledger) = round(&model, limits, net.seed).await;
    assert_eq!((report.failed, report.left), (0, 0), "{net:?} {link}");
    for (id, entry) in ledger.entries() {
        let capacity = model.relay(&id).unwrap().available();
        assert!(
            entry.rate.is_some() || entry.lower_bound.is_some(),
            "{net:?} {link}: {capacity} {entry:?}"
        );
    }
    figures(&model, &ledger)
}

/// A round over a limited link takes hardly more bytes than over one that is no limit, hardly
/// longer than these take, and every rate is right.
async fn check(net: Net) {
    let free = figures_of(net, 60.0 * MB).await;
    println!("{net:?}");
    let mut wrong = BTreeMap::new();
    for link in [60.0, 12.5, 5.0, 2.0] {
        let link = link * MB;
        let found = figures_of(net, link).await;
        let most = 1.35 * free.bytes / link + 5.0;
        println!(
            "  {:>4.1} MB/s: {:.1} s (at most {:.1}), {:.1} MB ({:.2}), NWE {:.4}, worst {:+.3}, \
             {} throttled, {} attempts, {} censored",
            link / MB,
            found.seconds,
            most,
            found.bytes / MB,
            found.bytes / free.bytes,
            found.nwe,
            found.worst,
            found.throttled,
            found.attempts,
            found.censored,
        );
        if found.worst.abs() > 0.14 || found.nwe > 0.03 {
            wrong.insert(link as u64, "rates".to_owned());
        } else if found.seconds > most.max(free.seconds + 1.0) || found.bytes > 1.1 * free.bytes {
            wrong.insert(link as u64, "cost".to_owned());
        }
    }
    assert!(wrong.is_empty(), "{net:?}: {wrong:?}");
}

#[tokio::test(start_paused = true)]
async fn a_limited_link_costs_little_and_spoils_nothing() {
    for seed in [3, 7] {
        check(Net {
            relays: 24,
            delays: (1, 2),
            known: true,
            seed,
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn nor_does_it_over_distance() {
    for seed in [3, 7] {
        check(Net {
            relays: 42,
            delays: (10, 60),
            known: true,
            seed,
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn nor_when_nothing_is_known_of_relays() {
    for seed in [3, 7] {
        check(Net {
            relays: 42,
            delays: (5, 75),
            known: false,
            seed,
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
#[ignore = "figures"]
async fn trace() {
    let known = std::env::var("KNOWN").is_ok();
    let link: f64 = std::env::var("LINK").unwrap().parse().unwrap();
    let net = Net {
        relays: 42,
        delays: (10, 60),
        known,
        seed: 3,
    };
    let model = model(net);
    let mut limits = Limits::default();
    limits.link = BytesPerSecond::new((link * MB) as u64);
    let (_, ledger) = round(&model, limits, net.seed).await;
    let trace = model.usage().link_trace;
    for (second, ticks) in trace.chunks(20).enumerate() {
        println!(
            "{second:>3}: {:.2} MB",
            ticks.iter().sum::<u64>() as f64 / MB
        );
    }
    println!("{:?}", figures(&model, &ledger));
}
