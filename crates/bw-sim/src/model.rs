//! The network: what is true of it, its directory, and its instruments.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bw_file::{BytesPerSecond, Fingerprint};
use bw_measure::{Directory, Error, Event, Observer, StageTimeouts, WallClock};
use bw_results::{NetworkSnapshot, RelayFacts, UnixMillis};
use tokio::time::Instant;

use crate::load::{mix, unit};
use crate::traffic::Traffic;
use crate::{Relay, Server, Usage, UsageReport};

/// A network of relays and web servers, and the scanner's link to it.
///
/// It is a [`Transport`](bw_measure::Transport) that moves counts instead of
/// bytes, a [`Directory`] with a new consensus each hour, and an [`Observer`]
/// that must be given to the scan if a relay throttles as helper. Times are
/// tokio's: with paused time an hour of it takes as long as its computation.
/// The same seed and the same calls give the same, to the byte.
///
/// Clones show the same network.
#[derive(Clone, Debug)]
pub struct Model {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) relays: Vec<Relay>,
    index: HashMap<Fingerprint, usize>,
    pub(crate) servers: Vec<Server>,
    pub(crate) options: Options,
    begin: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) traffic: Traffic,
    /// The consensus of this number.
    consensus: Option<(u32, Arc<NetworkSnapshot>)>,
    circuits: u64,
    begun: VecDeque<Duration>,
    most_begun: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Options {
    seed: u64,
    link: BytesPerSecond,
    pub(crate) delay: Duration,
    tick: Duration,
    interval: Duration,
    start: UnixMillis,
    pub(crate) timeouts: StageTimeouts,
    params: BTreeMap<String, i32>,
}

/// Makes a [`Model`].
#[derive(Clone, Debug)]
pub struct Builder {
    relays: Vec<Relay>,
    servers: Vec<Server>,
    options: Options,
}

impl Builder {
    /// Adds relays. Of two with the same fingerprint the first is kept.
    #[must_use]
    pub fn relays(mut self, relays: impl IntoIterator<Item = Relay>) -> Self {
        self.relays.extend(relays);
        self
    }

    /// Adds a web server.
    #[must_use]
    pub fn server(mut self, server: Server) -> Self {
        self.servers.push(server);
        self
    }

    /// Chance follows from `seed`. Default 0.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.options.seed = seed;
        self
    }

    /// The scanner's own link. Default 1.25 GB/s (10 Gbit/s).
    #[must_use]
    pub const fn link(mut self, link: BytesPerSecond) -> Self {
        self.options.link = link;
        self
    }

    /// The time of a packet between the scanner and the middle of the
    /// Internet. Default 5 ms.
    #[must_use]
    pub const fn delay(mut self, delay: Duration) -> Self {
        self.options.delay = delay;
        self
    }

    /// The length of a tick; at least 1 ms. Default 50 ms, as long as
    /// the measurer's slices, to which ticks should be aligned.
    #[must_use]
    pub fn tick(mut self, tick: Duration) -> Self {
        self.options.tick = tick.max(Duration::from_millis(1));
        self
    }

    /// The time for which each consensus is fresh; at least 1 s. Default 1 h.
    #[must_use]
    pub fn consensus_interval(mut self, interval: Duration) -> Self {
        self.options.interval = interval.max(Duration::from_secs(1));
        self
    }

    /// The wall clock's time at the beginning.
    #[must_use]
    pub const fn starts_at(mut self, start: UnixMillis) -> Self {
        self.options.start = start;
        self
    }

    /// The longest time for each stage of a circuit.
    #[must_use]
    pub const fn timeouts(mut self, timeouts: StageTimeouts) -> Self {
        self.options.timeouts = timeouts;
        self
    }

    /// Sets a parameter of the consensus.
    #[must_use]
    pub fn param(mut self, name: &str, value: i32) -> Self {
        self.options.params.insert(name.to_owned(), value);
        self
    }

    /// The network, whose time begins now.
    pub fn build(self) -> Model {
        let Self {
            mut relays,
            servers,
            options,
        } = self;
        relays.sort_by_key(|relay| relay.facts.fingerprint);
        relays.dedup_by_key(|relay| relay.facts.fingerprint);
        let fingerprints = relays.iter().map(|relay| relay.facts.fingerprint);
        let index = fingerprints.enumerate().map(|(n, id)| (id, n)).collect();
        let link = options.link.value() as f64;
        let traffic = Traffic::new(&relays, servers.len(), link, options.tick, options.seed);
        let state = State {
            traffic,
            consensus: None,
            circuits: 0,
            begun: VecDeque::new(),
            most_begun: 0,
        };
        let inner = Inner {
            relays,
            index,
            servers,
            options,
            begin: Instant::now(),
            state: Mutex::new(state),
        };
        Model {
            inner: Arc::new(inner),
        }
    }
}

impl Model {
    /// To describe a network.
    pub fn builder() -> Builder {
        Builder {
            relays: Vec::new(),
            servers: Vec::new(),
            options: Options {
                seed: 0,
                link: BytesPerSecond::new(1_250_000_000),
                delay: Duration::from_millis(5),
                tick: Duration::from_millis(50),
                interval: Duration::from_secs(3600),
                start: UnixMillis::from_secs(1_790_000_000),
                timeouts: StageTimeouts::default(),
                params: BTreeMap::new(),
            },
        }
    }

    /// All relays that there ever are, sorted by fingerprint.
    pub fn relays(&self) -> &[Relay] {
        &self.inner.relays
    }

    /// The relay with this fingerprint.
    pub fn relay(&self, fingerprint: &Fingerprint) -> Option<&Relay> {
        let index = self.inner.index.get(fingerprint)?;
        self.inner.relays.get(*index)
    }

    /// The web servers.
    pub fn servers(&self) -> &[Server] {
        &self.inner.servers
    }

    /// The time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.inner.elapsed()
    }

    /// The wall clock of this network.
    pub fn clock(&self) -> WallClock {
        WallClock::starting_at(self.inner.options.start.after(self.elapsed()))
    }

    /// The consensus of this hour.
    pub fn consensus(&self) -> Arc<NetworkSnapshot> {
        let interval = self.inner.options.interval;
        let number = self.elapsed().as_millis() / interval.as_millis();
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let mut state = self.inner.lock();
        match &state.consensus {
            Some((same, snapshot)) if *same == number => Arc::clone(snapshot),
            _ => {
                let snapshot = Arc::new(self.inner.snapshot(number));
                state.consensus = Some((number, Arc::clone(&snapshot)));
                snapshot
            }
        }
    }

    /// The use of everything so far.
    pub fn usage(&self) -> UsageReport {
        let state = self.inner.lock();
        let traffic = &state.traffic;
        let relays = self.inner.relays.iter().zip(traffic.relays());
        let used = relays.filter(|(_, usage)| **usage != Usage::default());
        UsageReport {
            link: traffic.link_usage,
            link_trace: traffic.trace.clone(),
            most_read: traffic.most_read,
            relays: used
                .map(|(relay, usage)| (relay.facts.fingerprint, *usage))
                .collect(),
            servers: traffic.servers.clone(),
            most_flows: traffic.most_flows,
            circuits: state.circuits,
            most_circuits_per_second: u32::try_from(state.most_begun).unwrap_or(u32::MAX),
        }
    }
}

impl Inner {
    pub(crate) fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    pub(crate) fn index(&self, relay: &Fingerprint) -> Option<usize> {
        self.index.get(relay).copied()
    }

    /// The state, with everything that was to flow until now.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let ticks = self.elapsed().as_micros() / self.options.tick.as_micros();
        let ticks = u64::try_from(ticks).unwrap_or(u64::MAX);
        state.traffic.advance(ticks, &self.relays, &self.servers);
        state
    }

    /// The end of tick `number`, counted from 0.
    pub(crate) fn end_of(&self, tick: u64) -> Instant {
        let ticks = u32::try_from(tick.saturating_add(1)).unwrap_or(u32::MAX);
        self.begin + self.options.tick * ticks
    }

    /// Counts a circuit, and throws a die for it: from 0 to 1.
    pub(crate) fn begin_circuit(&self) -> f64 {
        const SECOND: Duration = Duration::from_secs(1);
        let now = self.elapsed();
        let mut state = self.lock();
        while state.begun.front().is_some_and(|&at| at + SECOND <= now) {
            state.begun.pop_front();
        }
        state.begun.push_back(now);
        state.most_begun = state.most_begun.max(state.begun.len());
        state.circuits += 1;
        unit(mix(self.options.seed ^ mix(state.circuits)))
    }

    fn snapshot(&self, number: u32) -> NetworkSnapshot {
        let interval = self.options.interval;
        let since = interval * number;
        let relays: Vec<RelayFacts> = self
            .relays
            .iter()
            .filter(|relay| relay.is_there(since))
            .map(|relay| relay.facts.clone())
            .collect();
        let start = self.options.start.after(since);
        let (fresh, valid) = (start.after(interval), start.after(interval * 3));
        NetworkSnapshot::new(start, fresh, valid, self.options.params.clone(), relays)
    }
}

impl Directory for Model {
    async fn snapshot(&self) -> Result<Arc<NetworkSnapshot>, Error> {
        Ok(self.consensus())
    }
}

/// Learns which relays are being measured.
impl Observer for Model {
    fn observe(&self, event: &Event<'_>) {
        let (attempt, begins) = match event {
            Event::Attempt(attempt) => (*attempt, true),
            Event::Ended(completion) => (completion.outcome.attempt(), false),
            Event::Control(outcome) => (outcome.attempt(), false),
            _ => return,
        };
        let mut state = self.inner.lock();
        let targets = &mut state.traffic.targets;
        let index = self.inner.index(&attempt.target.fingerprint);
        match index {
            Some(target) if begins => targets.insert(target),
            Some(target) => targets.remove(&target),
            None => false,
        };
    }
}
