//! Traffic of clients on a network: what a scanner has to live with.

mod budget;
mod client;
mod fetch;
mod plan;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use self::budget::Budget;
use self::client::{Client, ClientFacts};
use self::fetch::{Target, fetch};
pub use self::plan::LoadPlan;
use crate::manifest::Manifest;
use crate::process::{GLANCE, ProcessState};
use crate::{Error, ErrorKind, Network, Role};

/// Downloads that one client has under way at most.
const FETCHERS: usize = 8;
/// Relays that a client's byte crosses.
const HOPS: u64 = 3;
/// The time for a client until its first download.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// The bytes that a client downloads first, to show that it works.
const FIRST: u64 = 1024;
/// The longest download: on a network this busy it is given up, as people do.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest pause between two downloads of the same fetcher.
const PAUSE_MILLIS: u64 = 1000;

/// Client traffic on a [`Network`], as long as this value lives: made by
/// [`Network::load`].
///
/// Dropping it kills the clients, and waits for that some milliseconds. They are
/// ended by [`Network::down`] too, and by themselves within 15 s after a crash
/// of the process that started them.
#[derive(Debug)]
pub struct Load {
    // In this order: downloads are given up, then their clients killed.
    fetchers: JoinSet<()>,
    clients: Vec<Client>,
    counters: Arc<Counters>,
    begun: Instant,
    capacity: u64,
    network: PathBuf,
}

/// The bytes that a [`Load`] has moved since it began.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LoadTotals {
    /// Seconds.
    pub seconds: f64,
    /// Bytes that clients received.
    pub bytes: u64,
    /// Downloads that were completed.
    pub downloads: u64,
    /// Downloads that failed.
    pub failures: u64,
    /// Bytes that clients received in each second, on average.
    pub rate: f64,
    /// The traffic that this made on the network's relays, three bytes for each one, as a
    /// part of the sum of their capacities. The overhead of tor (some 5 %) is not in it.
    pub share: f64,
}

#[derive(Debug, Default)]
struct Counters {
    bytes: AtomicU64,
    downloads: AtomicU64,
    failures: AtomicU64,
}

impl Network {
    /// Has clients download through the network until the result is dropped or
    /// [stopped](Load::stop); returns when each client has shown that it can.
    ///
    /// Each client is a tor process that chooses relays by their weights, anew
    /// for each download, as the many clients of a large network do together.
    ///
    /// # Errors
    /// By [`kind`](Error::kind): [`Plan`](ErrorKind::Plan) for a plan that
    /// cannot be carried out, [`NodeDied`](ErrorKind::NodeDied) if a client
    /// ends, [`Http`](ErrorKind::Http) if the server does not give the file,
    /// [`Timeout`](ErrorKind::Timeout) if a client can download nothing within
    /// 60 s, [`Io`](ErrorKind::Io). Nothing is left running.
    pub async fn load(&self, plan: &LoadPlan) -> Result<Load, Error> {
        let target = Arc::new(plan.check()?);
        let relays = self.nodes().filter(|node| node.role() != Role::Authority);
        let capacity = relays.map(|node| node.record().rate.value()).sum::<u64>();
        let clients: Vec<Client> = (0..plan.clients)
            .map(|_| Client::start(self))
            .collect::<Result<_, _>>()?;
        let mut starting = JoinSet::new();
        for client in &clients {
            starting.spawn(wait_until_it_works(
                client.facts().clone(),
                Arc::clone(&target),
            ));
        }
        while let Some(started) = starting.join_next().await {
            started.map_err(|error| {
                Error::new(ErrorKind::Io, "waiting for a client").with_source(error)
            })??;
        }
        let budget = Arc::new(Budget::new(plan.share * capacity as f64 / HOPS as f64));
        let mut load = Load {
            fetchers: JoinSet::new(),
            counters: Arc::default(),
            begun: Instant::now(),
            capacity,
            network: self.directory().to_owned(),
            clients,
        };
        for (number, client) in (0..FETCHERS).flat_map(|_| &load.clients).enumerate() {
            let fetcher = Fetcher {
                number,
                client: client.facts().clone(),
                target: Arc::clone(&target),
                sizes: (*plan.sizes.start(), *plan.sizes.end()),
                budget: Arc::clone(&budget),
                counters: Arc::clone(&load.counters),
                rng: Xoshiro256PlusPlus::seed_from_u64(
                    plan.seed.wrapping_add((number as u64) << 32),
                ),
            };
            load.fetchers.spawn(fetcher.run());
        }
        Ok(load)
    }
}

impl Load {
    /// The totals until now.
    pub fn totals(&self) -> LoadTotals {
        let seconds = self.begun.elapsed().as_secs_f64();
        let bytes = self.counters.bytes.load(Ordering::Relaxed);
        let per_second = |bytes: u64| bytes as f64 / seconds.max(1e-9);
        LoadTotals {
            seconds,
            bytes,
            downloads: self.counters.downloads.load(Ordering::Relaxed),
            failures: self.counters.failures.load(Ordering::Relaxed),
            rate: per_second(bytes),
            share: per_second(bytes.saturating_mul(HOPS)) / (self.capacity as f64).max(1.0),
        }
    }

    /// Checks that the network is there and all clients run.
    ///
    /// # Errors
    /// [`ErrorKind::NoNetwork`] if it was taken down, [`ErrorKind::NodeDied`]
    /// with the end of its log for a client that has ended.
    pub fn check(&self) -> Result<(), Error> {
        if !Manifest::exists(&self.network) {
            let text = format!("the network in {} was taken down", self.network.display());
            return Err(Error::new(ErrorKind::NoNetwork, text));
        }
        self.clients
            .iter()
            .try_for_each(|client| client.facts().check())
    }

    /// Ends the downloads, then the clients; gives what was moved.
    pub async fn stop(mut self) -> LoadTotals {
        let totals = self.totals();
        self.fetchers.shutdown().await;
        totals
    }
}

/// Tries a small download until it works.
async fn wait_until_it_works(client: ClientFacts, target: Arc<Target>) -> Result<(), Error> {
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        let attempt = fetch(client.socks, &target, "first", FIRST, |_| {});
        let error = match timeout(deadline - Instant::now(), attempt).await {
            Ok(Ok(())) => return Ok(()),
            // The network works, and trying again gives the same answer.
            Ok(Err(error)) if error.kind() == ErrorKind::Http => return Err(error),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        client.check()?;
        if Instant::now() >= deadline {
            let what =
                format!("could download nothing from {target} within {START_PATIENCE:?}: {error}");
            return Err(client.fault(ErrorKind::Timeout, &what));
        }
        sleep(GLANCE).await;
    }
}

/// One who downloads, file after file.
struct Fetcher {
    number: usize,
    client: ClientFacts,
    target: Arc<Target>,
    /// The smallest and the largest download, in bytes.
    sizes: (u64, u64),
    budget: Arc<Budget>,
    counters: Arc<Counters>,
    rng: Xoshiro256PlusPlus,
}

impl Fetcher {
    async fn run(mut self) {
        for turn in 0_u64.. {
            let size = self.size();
            let pause = self.rng.random_range(0..=PAUSE_MILLIS);
            self.budget.take(size).await;
            // Another name is another circuit.
            let name = format!("{}-{turn}", self.number);
            let mut got = 0;
            let received = |bytes| {
                got += bytes;
                self.counters.bytes.fetch_add(bytes, Ordering::Relaxed);
            };
            let download = fetch(self.client.socks, &self.target, &name, size, received);
            let outcome = timeout(PATIENCE, download).await;
            let (counter, word) = match outcome {
                Ok(Ok(())) => (&self.counters.downloads, "done".to_owned()),
                Ok(Err(error)) => (&self.counters.failures, error.to_string()),
                Err(_) => (&self.counters.failures, "took too long".to_owned()),
            };
            counter.fetch_add(1, Ordering::Relaxed);
            tracing::debug!("download {name}, {got} of {size} bytes: {word}");
            self.budget.give_back(size.saturating_sub(got));
            sleep(Duration::from_millis(pause)).await;
            if self.client.id.state() == ProcessState::Gone {
                return;
            }
        }
    }

    /// Every order of magnitude is equally likely.
    fn size(&mut self) -> u64 {
        let (low, high) = (self.sizes.0 as f64, self.sizes.1 as f64);
        let exponent: f64 = self.rng.random();
        (low * (high / low).powf(exponent)).round() as u64
    }
}
