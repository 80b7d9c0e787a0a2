//! Small networks over links that limit: what a round takes, and how right its rates are.

use std::collections::BTreeMap;
use std::time::Duration;

use bw_file::{BytesPerSecond, KilobytesPerSecond};
use bw_measure::Limits;
use bw_sim::{Accuracy, Ledger, Model, Population, Relay, Server};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::{destination, minutes, network, round};

const MB: f64 = 1e6;

/// The make-up of a network.
#[derive(Clone, Copy, Debug)]
struct Net {
    relays: usize,
    /// One way between a relay and the middle of the Internet.
    delays: (u64, u64),
    /// True if the directory knows what relays carry.
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

/// The cost and the findings of a round.
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

/// A round over a limited link takes hardly more bytes than over one that is no limit, and
/// hardly longer than these take; every rate is right, or known to be a lower bound. Over
/// `slack` times the time that these bytes take, and five seconds.
async fn check(net: Net, slack: f64) {
    let free = figures_of(net, 60.0 * MB).await;
    println!("{net:?}");
    let mut wrong = BTreeMap::new();
    for link in [12.5, 5.0, 2.0] {
        let link = link * MB;
        let found = figures_of(net, link).await;
        let most = (slack * free.bytes / link + 5.0).max(free.seconds + 5.0);
        println!("  {:>4.1} MB/s: at most {most:.1} s; {found:?}", link / MB);
        let spoilt = found.throttled * 2 > found.attempts || found.censored * 2 > net.relays;
        if found.worst.abs() > 0.25 || found.nwe > 0.03 || spoilt {
            wrong.insert(link as u64, "rates");
        } else if found.seconds > most || found.bytes > 1.3 * free.bytes {
            wrong.insert(link as u64, "cost");
        }
    }
    assert!(wrong.is_empty(), "{net:?}: {wrong:?}");
}

/// The same of two networks.
async fn check_both(relays: usize, delays: (u64, u64), slack: f64) {
    for seed in [3, 7] {
        let net = Net {
            relays,
            delays,
            known: true,
            seed,
        };
        check(net, slack).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_limited_link_costs_little_and_spoils_nothing() {
    check_both(24, (1, 2), 1.6).await;
}

/// Opening circuits and slow start take a second more: half of a link is used.
#[tokio::test(start_paused = true)]
async fn nor_does_it_over_distance() {
    check_both(42, (10, 60), 2.1).await;
}

/// Nobody knows what helpers carry: what is accepted is right nearly always. One rate in some
/// forty is still the helper's.
#[tokio::test(start_paused = true)]
async fn a_network_that_has_just_begun_is_measured() {
    for seed in [3, 7] {
        let delays = (5, 75);
        for link in [60.0, 12.5, 5.0, 2.0] {
            let (relays, known) = (42, false);
            let found = figures_of(
                Net {
                    relays,
                    delays,
                    known,
                    seed,
                },
                link * MB,
            )
            .await;
            println!("{link} MB/s, seed {seed}: {found:?}");
            assert!(found.nwe < 0.12 && found.attempts < 90, "{found:?}");
        }
    }
}

/// Full token buckets let relays burst above the link's rate. That is neither their rate nor a
/// lower bound of it.
#[tokio::test(start_paused = true)]
async fn a_burst_that_fills_the_link_is_no_lower_bound() {
    let mut population = Population::public_network(300);
    population.limited = 1.0;
    let model = network(&population, 5).build();
    let mut limits = Limits::default();
    limits.link = BytesPerSecond::new(50_000_000);
    let (report, ledger) = round(&model, limits, 5).await;
    assert_eq!((report.failed, report.left), (0, 0));
    let mut rates = 0;
    for (id, entry) in ledger.entries() {
        let capacity = model.relay(&id).unwrap().available();
        if let Some(rate) = entry.rate {
            rates += 1;
            assert!((rate / capacity - 1.0).abs() < 0.1, "{capacity} {entry:?}");
        } else {
            let bound = entry.lower_bound.unwrap();
            assert!(bound < 1.2 * capacity, "{capacity} {entry:?}");
        }
    }
    let slower = |relay: &&Relay| relay.available() < 0.8 * 50e6;
    let all = model.relays();
    assert!(rates >= all.iter().filter(slower).count(), "{rates}");
}
