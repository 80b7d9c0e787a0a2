//! The plan of a network, before anything is started.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bw_file::{BytesPerSecond, KilobytesPerSecond};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::limit::{Distances, Limits};
use crate::line::DEPTH;
use crate::{Error, ErrorKind, Limit, LineCommand};

/// tor's lower limit of a relay's rate and burst (`ROUTER_REQUIRED_MIN_BANDWIDTH`).
pub const MIN_RATE: BytesPerSecond = BytesPerSecond::new(75 * 1024);

/// Addresses of a network are 127.A.B.1 to 127.A.B.250.
const MAX_NODES: usize = 250;
/// tor gives up a connection that is not open after so long, and clients before.
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// Authorities whose measurements tor needs before it takes their median
/// (`networkstatus_compute_consensus`).
const MIN_MEASURING_AUTHORITIES: usize = 3;

/// The role of a node.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A directory authority, which is a relay without exit too.
    Authority,
    /// A relay that lets traffic out, to every address and port.
    Exit,
    /// A relay that does not.
    Middle,
}

/// One relay to be.
#[derive(Clone, Debug, PartialEq)]
pub struct RelaySpec {
    pub(crate) nickname: String,
    pub(crate) role: Role,
    pub(crate) rate: BytesPerSecond,
    pub(crate) burst: Option<BytesPerSecond>,
    pub(crate) observed: Option<BytesPerSecond>,
    pub(crate) limit: Option<Limit>,
    pub(crate) delay: Option<Duration>,
    pub(crate) torrc: Vec<String>,
}

impl RelaySpec {
    /// A relay without exit that carries `rate`.
    pub fn middle(nickname: impl Into<String>, rate: BytesPerSecond) -> Self {
        Self::new(nickname.into(), Role::Middle, rate)
    }

    /// An exit that carries `rate`.
    pub fn exit(nickname: impl Into<String>, rate: BytesPerSecond) -> Self {
        Self::new(nickname.into(), Role::Exit, rate)
    }

    fn new(nickname: String, role: Role, rate: BytesPerSecond) -> Self {
        Self {
            nickname,
            role,
            rate,
            burst: None,
            observed: None,
            limit: None,
            delay: None,
            torrc: Vec::new(),
        }
    }

    /// The size of the token bucket (`BandwidthBurst`): what the relay
    /// may send at once after a pause. Default: the rate times the plan's
    /// [burst factor](PlanBuilder::burst_factor). Not for a relay whose limit is its line.
    pub fn burst(mut self, burst: BytesPerSecond) -> Self {
        self.burst = Some(burst);
        self
    }

    /// The observed bandwidth that the relay claims, true or not. Default:
    /// what the plan says ([`PlanBuilder::observed`]).
    pub fn observed(mut self, observed: BytesPerSecond) -> Self {
        self.observed = Some(observed);
        self
    }

    /// Sets the kind of limit. Default: that of the plan ([`PlanBuilder::limit`]).
    pub fn limit(mut self, limit: Limit) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Sets the time that bytes take on connections that others make to it, one way, up to
    /// 10 s. Default: that of the plan ([`PlanBuilder::delay`]).
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// Returns true if something must stand before its `ORPort`.
    pub(crate) fn has_line(&self) -> bool {
        self.limit == Some(Limit::Line) || self.delay.is_some_and(|delay| !delay.is_zero())
    }

    /// Adds a line to the relay's torrc, after ours and before its exit policy.
    pub fn torrc(mut self, line: impl Into<String>) -> Self {
        self.torrc.push(line.into());
        self
    }
}

/// Relays with capacities drawn from a seed, log-uniformly.
///
/// The same values give the same relays, on every machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Seeded {
    seed: u64,
    middles: usize,
    exits: usize,
    rates: RangeInclusive<u64>,
}

impl Seeded {
    /// `middles` relays named `relay01`, … and `exits` exits named `exit01`, …
    /// with rates from `rates`, every order of magnitude equally likely.
    pub fn new(
        seed: u64,
        middles: usize,
        exits: usize,
        rates: RangeInclusive<BytesPerSecond>,
    ) -> Self {
        Self {
            seed,
            middles,
            exits,
            rates: rates.start().value()..=rates.end().value(),
        }
    }

    fn relays(&self) -> Vec<RelaySpec> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(self.seed);
        let (low, high) = (*self.rates.start() as f64, *self.rates.end() as f64);
        let mut rate = || {
            let exponent: f64 = rng.random();
            BytesPerSecond::new((low * (high / low).powf(exponent)).round() as u64)
        };
        let middles = (1..=self.middles).map(|n| (Role::Middle, format!("relay{n:02}")));
        let exits = (1..=self.exits).map(|n| (Role::Exit, format!("exit{n:02}")));
        middles
            .chain(exits)
            .map(|(role, nickname)| RelaySpec::new(nickname, role, rate()))
            .collect()
    }
}

/// Weights that the network starts with: the true rates, with an error.
///
/// Every relay's true rate is multiplied by exp(σ·z), z standard normal, and
/// given to all authorities as a bandwidth file before they vote for the first
/// time, so that no relay of the first consensus is `Unmeasured`. (Authorities
/// are always, with weight 0: tor votes `MeasuredButAuthority` for them.)
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prior {
    sigma: f64,
    seed: u64,
}

impl Prior {
    /// A prior with an error of `sigma` (standard deviation of the natural
    /// logarithm; 0 gives the true rates).
    pub const fn new(sigma: f64, seed: u64) -> Self {
        Self { sigma, seed }
    }

    /// The weights for relays with these rates, at least 1 kB/s each.
    pub(crate) fn weights(
        &self,
        rates: impl IntoIterator<Item = BytesPerSecond>,
    ) -> Vec<KilobytesPerSecond> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(self.seed);
        let weight = |rate: BytesPerSecond| {
            // Box-Muller; 1 - u keeps the logarithm finite.
            let (u, v): (f64, f64) = (rng.random(), rng.random());
            let z = (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos();
            let kilobytes = rate.value() as f64 / 1000.0 * (self.sigma * z).exp();
            KilobytesPerSecond::new((kilobytes.round() as u64).max(1))
        };
        rates.into_iter().map(weight).collect()
    }
}

/// The observed bandwidth in relays' descriptors (`bandwidth-observed`).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Observed {
    /// The true rate, from the first descriptor on.
    ///
    /// A bandwidth history of one day at full rate is written into each node's
    /// `state` file before it starts. Without it a fresh relay publishes
    /// almost nothing, and keeps to that for hours (see the crate's README).
    #[default]
    History,
    /// The bandwidth that tor sees by itself: close to nothing at first.
    Live,
}

/// The lifetime of the tor processes.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lifetime {
    /// Until [`Network::down`](crate::Network::down), from any process.
    Detached,
    /// At most as long as the [`Network`](crate::Network) that started them:
    /// dropping it kills them, and after a crash of its process they end by
    /// themselves (tor looks every 15 s).
    #[default]
    Owned,
}

/// A network to be: valid, but not started. Made by [`Plan::builder`].
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) relays: Vec<RelaySpec>,
    pub(crate) options: PlanBuilder,
}

/// Builds a [`Plan`].
#[derive(Clone, Debug)]
pub struct PlanBuilder {
    relays: Vec<RelaySpec>,
    pub(crate) authorities: usize,
    pub(crate) authority_rate: BytesPerSecond,
    pub(crate) burst_factor: f64,
    pub(crate) refill_interval: Duration,
    limits: Limits,
    distances: Option<Distances>,
    pub(crate) line_command: Option<LineCommand>,
    pub(crate) seeded: Option<Seeded>,
    pub(crate) prior: Option<Prior>,
    pub(crate) observed: Observed,
    observed_error: Option<Prior>,
    liar: Option<f64>,
    pub(crate) lifetime: Lifetime,
    pub(crate) voting_interval: Duration,
    pub(crate) params: BTreeMap<String, i32>,
    pub(crate) torrc: Vec<(Role, String)>,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) keep_files: bool,
    pub(crate) block: Option<(u8, u8)>,
    pub(crate) or_port: u16,
    pub(crate) dir_port: u16,
    pub(crate) timeout: Duration,
    pub(crate) tor: Option<PathBuf>,
    pub(crate) tor_gencert: Option<PathBuf>,
}

impl Plan {
    /// A builder with three authorities, no relays yet, votes every 20 s and
    /// the congestion control parameters of the public network.
    pub fn builder() -> PlanBuilder {
        PlanBuilder {
            relays: Vec::new(),
            authorities: 3,
            authority_rate: BytesPerSecond::new(1_000_000),
            burst_factor: 1.0,
            refill_interval: Duration::from_millis(100),
            limits: Limits::All(Limit::default()),
            distances: None,
            line_command: None,
            seeded: None,
            prior: None,
            observed: Observed::default(),
            observed_error: None,
            liar: None,
            lifetime: Lifetime::default(),
            voting_interval: Duration::from_secs(20),
            params: BTreeMap::from([("bwscanner_cc".into(), 1), ("cc_alg".into(), 2)]),
            torrc: Vec::new(),
            directory: None,
            keep_files: false,
            block: None,
            or_port: 5000,
            dir_port: 7000,
            timeout: Duration::from_secs(120),
            tor: None,
            tor_gencert: None,
        }
    }

    /// The number of nodes of the network, authorities included.
    pub fn node_count(&self) -> usize {
        self.relays.len()
    }

    /// The rate of every node, by nickname, authorities first.
    pub fn rates(&self) -> impl Iterator<Item = (&str, Role, BytesPerSecond)> {
        self.relays
            .iter()
            .map(|relay| (relay.nickname.as_str(), relay.role, relay.rate))
    }

    /// The token bucket of `relay`.
    pub(crate) fn burst(&self, relay: &RelaySpec) -> BytesPerSecond {
        relay.burst.unwrap_or_else(|| {
            let factor = match relay.limit {
                Some(Limit::Line) => DEPTH.as_secs_f64(),
                _ => self.options.burst_factor,
            };
            BytesPerSecond::new((relay.rate.value() as f64 * factor).round() as u64)
        })
    }

    /// Where the tor of a relay with a line listens: beside its advertised `ORPort`.
    pub(crate) fn inner_port(&self) -> u16 {
        let PlanBuilder {
            or_port, dir_port, ..
        } = self.options;
        let beside = [1, 2, 4].map(|bit| or_port ^ bit);
        let free = beside
            .into_iter()
            .find(|port| ![0, dir_port].contains(port));
        free.unwrap_or(or_port)
    }

    /// Returns true if any relay has a line.
    pub(crate) fn has_lines(&self) -> bool {
        self.relays.iter().any(RelaySpec::has_line)
    }

    /// The bandwidth that `relay` shall claim to have observed, if any.
    pub(crate) fn observed(&self, relay: &RelaySpec) -> Option<BytesPerSecond> {
        relay.observed.or(match self.options.observed {
            Observed::History => Some(relay.rate),
            Observed::Live => None,
        })
    }

    /// The weight of every relay in the first consensus, none for authorities.
    pub(crate) fn prior_weights(&self) -> Vec<Option<KilobytesPerSecond>> {
        let Some(prior) = self.options.prior else {
            return vec![None; self.relays.len()];
        };
        let weights = prior.weights(self.relays.iter().map(|relay| relay.rate));
        let given =
            |(relay, weight): (&RelaySpec, _)| (relay.role != Role::Authority).then_some(weight);
        self.relays.iter().zip(weights).map(given).collect()
    }
}

impl PlanBuilder {
    /// The number of authorities, `auth1` and so on: 1 to 9, default 3.
    ///
    /// tor uses measured bandwidths only if three authorities vote on them.
    pub fn authorities(mut self, count: usize) -> Self {
        self.authorities = count;
        self
    }

    /// The `BandwidthRate` of each authority; default 1 MB/s.
    pub fn authority_rate(mut self, rate: BytesPerSecond) -> Self {
        self.authority_rate = rate;
        self
    }

    /// Adds a relay.
    pub fn relay(mut self, relay: RelaySpec) -> Self {
        self.relays.push(relay);
        self
    }

    /// Adds relays with capacities drawn from a seed.
    pub fn seeded(mut self, seeded: Seeded) -> Self {
        self.seeded = Some(seeded);
        self
    }

    /// The burst of relays that do not give one, as a multiple of their rate:
    /// 1 or more, default 1.
    pub fn burst_factor(mut self, factor: f64) -> Self {
        self.burst_factor = factor;
        self
    }

    /// Sets the interval at which relays refill an empty token bucket
    /// (`TokenBucketRefillInterval`): 1 ms to 1 s in whole milliseconds. Default: 100 ms,
    /// which is tor's own.
    ///
    /// tor 0.4.9 refills in steps of 16 ticks (16.8 ms) and drops the time beyond the
    /// last whole step each time it looks. A relay of the public network is woken by
    /// its many connections all the time and loses little. One that carries nothing but a
    /// measurement is woken by this timer: with tor's default of 100 ms (95.4 ticks) it
    /// refills five or six steps as chance has it, and what passes differs by 5 % from
    /// one second to the next and by some per cent from relay to relay. With 1 ms it
    /// passes the same share of its rate as every other relay, so that the rates of the
    /// plan are true.
    pub fn refill_interval(mut self, interval: Duration) -> Self {
        self.refill_interval = interval;
        self
    }

    /// Sets the kind of limit. Default: [`Limit::Node`]. Authorities are always limited so.
    pub fn limit(mut self, limit: Limit) -> Self {
        self.limits = Limits::All(limit);
        self
    }

    /// Limits each relay by its [line](Limit::Line) or by [`Limit::Relay`], equally
    /// likely, as `seed` decides.
    pub fn mixed_limits(mut self, seed: u64) -> Self {
        self.limits = Limits::Mixed(seed);
        self
    }

    /// Sets the time that bytes take on connections to each relay, one way: a whole number of
    /// milliseconds from this range, as `seed` decides; up to 10 s. Default: no time. Authorities
    /// are near.
    ///
    /// A connection carries no more than TCP would over this distance: after a pause 64 KiB in
    /// the first round trip, then up to twice as much in each, up to 32 MiB.
    pub fn delay(mut self, delays: RangeInclusive<Duration>, seed: u64) -> Self {
        self.distances = Some(Distances { delays, seed });
        self
    }

    /// The command that serves the relays' lines in a process of its own, which a
    /// [detached](Lifetime::Detached) network with a [delay](Self::delay) or with
    /// [`Limit::Line`] needs. Default: a thread of this process.
    pub fn line_command(mut self, command: LineCommand) -> Self {
        self.line_command = Some(command);
        self
    }

    /// The weights to start with. Default: none, every relay is `Unmeasured`.
    pub fn prior(mut self, prior: Prior) -> Self {
        self.prior = Some(prior);
        self
    }

    /// Sets the observed bandwidth in relays' descriptors.
    pub fn observed(mut self, observed: Observed) -> Self {
        self.observed = observed;
        self
    }

    /// Lets the observed bandwidths in relays' first descriptors be off as these weights are.
    /// Default: as [`observed`](Self::observed) says.
    pub fn observed_error(mut self, error: Prior) -> Self {
        self.observed_error = Some(error);
        self
    }

    /// Lets the first relay that is no exit claim to have observed so many times what it carries, up to
    /// what authorities take. Its line limits it, of which its descriptor tells nothing.
    /// Default: none lies.
    pub fn liar(mut self, factor: f64) -> Self {
        self.liar = Some(factor);
        self
    }

    /// Sets the lifetime of the processes. Default: [`Lifetime::Owned`].
    pub fn lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// The time from one consensus to the next, whole seconds: 10 or more, and
    /// a divisor of 1800 (tor's rules). Default 20 s.
    ///
    /// Relays fetch a new consensus within half an interval.
    pub fn voting_interval(mut self, interval: Duration) -> Self {
        self.voting_interval = interval;
        self
    }

    /// Sets a consensus parameter; `cc_alg=2` and `bwscanner_cc=1` are set
    /// already.
    pub fn param(mut self, name: impl Into<String>, value: i32) -> Self {
        self.params.insert(name.into(), value);
        self
    }

    /// Adds a line to the torrc of all nodes with `role`, after ours (and
    /// before the exit policy of exits).
    pub fn torrc(mut self, role: Role, line: impl Into<String>) -> Self {
        self.torrc.push((role, line.into()));
        self
    }

    /// Where the network lives: a directory that does not exist or is empty.
    /// Default: a new one in the system's directory for temporary files.
    pub fn directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.directory = Some(path.into());
        self
    }

    /// Leaves keys and logs in place when the network goes down, or does not
    /// come up. Default: everything is removed.
    pub fn keep_files(mut self, keep: bool) -> Self {
        self.keep_files = keep;
        self
    }

    /// The addresses: node n gets 127.`a`.`b`.n. Default: a block that is
    /// free, chosen at random.
    pub fn block(mut self, a: u8, b: u8) -> Self {
        self.block = Some((a, b));
        self
    }

    /// The ports: every node's `ORPort` (default 5000) and the authorities'
    /// `DirPort` (default 7000). As every node has an address of its own,
    /// networks side by side can use the same ports.
    pub fn ports(mut self, or_port: u16, dir_port: u16) -> Self {
        (self.or_port, self.dir_port) = (or_port, dir_port);
        self
    }

    /// Sets the time for the network to come up; default 120 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The `tor` program. Default: the first one in `PATH`, then in `/usr/sbin`,
    /// `/usr/local/bin` and `/usr/local/sbin`.
    pub fn tor(mut self, path: impl AsRef<Path>) -> Self {
        self.tor = Some(path.as_ref().to_owned());
        self
    }

    /// The `tor-gencert` program; looked for like [`tor`](Self::tor).
    pub fn tor_gencert(mut self, path: impl AsRef<Path>) -> Self {
        self.tor_gencert = Some(path.as_ref().to_owned());
        self
    }

    /// The plan.
    ///
    /// # Errors
    /// [`ErrorKind::Plan`] with the reason if tor would not take a value.
    pub fn build(mut self) -> Result<Plan, Error> {
        self.check_options()?;
        let authority =
            |n| RelaySpec::new(format!("auth{n}"), Role::Authority, self.authority_rate);
        let mut relays: Vec<_> = (1..=self.authorities).map(authority).collect();
        relays.append(&mut self.relays);
        if let Some(seeded) = &self.seeded {
            check_rate("the lowest seeded rate", *seeded.rates.start())?;
            check(
                !seeded.rates.is_empty(),
                "the highest seeded rate is below the lowest",
            )?;
            relays.extend(seeded.relays());
        }
        if let Some(factor) = self.liar {
            let liar = relays.iter_mut().find(|it| it.role == Role::Middle);
            if let Some(liar) = liar {
                let claimed = (liar.rate.value() as f64 * factor).min(f64::from(i32::MAX));
                liar.limit = Some(Limit::Line);
                liar.observed = Some(BytesPerSecond::new(claimed as u64));
            }
        }
        if let Some(error) = self.observed_error {
            let others = relays.iter_mut().filter(|it| it.role != Role::Authority);
            let others: Vec<&mut RelaySpec> = others.collect();
            let wrong = error.weights(others.iter().map(|relay| relay.rate));
            for (relay, wrong) in others.into_iter().zip(wrong) {
                relay.observed.get_or_insert(wrong.to_bytes());
            }
        }
        let mut limit = self.limits.draw();
        let mut delay = self.distances.as_ref().map(Distances::draw);
        let others = relays.iter_mut().filter(|it| it.role != Role::Authority);
        for relay in others {
            // Each draws, so that one with values of its own changes no other.
            let (limit, delay) = (limit(), delay.as_mut().map(|draw| draw()));
            relay.limit.get_or_insert(limit);
            relay.delay = relay.delay.or(delay);
        }
        let plan = Plan {
            relays,
            options: self,
        };
        plan.check_relays()?;
        Ok(plan)
    }

    fn check_options(&self) -> Result<(), Error> {
        check(
            (1..=9).contains(&self.authorities),
            format!("{} authorities: 1 to 9 are possible", self.authorities),
        )?;
        check(
            self.prior.is_none() || self.authorities >= MIN_MEASURING_AUTHORITIES,
            format!(
                "a prior needs {MIN_MEASURING_AUTHORITIES} authorities: tor ignores the \
                 measurements of fewer"
            ),
        )?;
        check(
            self.prior
                .is_none_or(|prior| (0.0..=3.0).contains(&prior.sigma)),
            "the prior's sigma must be from 0 to 3",
        )?;
        check(
            self.observed_error
                .is_none_or(|error| (0.0..=3.0).contains(&error.sigma)),
            "the sigma of observed bandwidths must be from 0 to 3",
        )?;
        check(
            self.liar.is_none_or(|factor| (1.0..=1e6).contains(&factor)),
            "a liar claims from 1 to 1,000,000 times what it carries",
        )?;
        check(
            (1.0..=1000.0).contains(&self.burst_factor),
            "the burst factor must be from 1 to 1000",
        )?;
        let refill = self.refill_interval;
        check(
            refill.subsec_nanos().is_multiple_of(1_000_000)
                && (1..=1000).contains(&refill.as_millis()),
            format!("a refill interval of {refill:?}: 1 ms to 1 s in whole milliseconds"),
        )?;
        let interval = self.voting_interval;
        check(
            interval.subsec_nanos() == 0
                && interval.as_secs() >= 10
                && 1800_u64.is_multiple_of(interval.as_secs()),
            format!("a voting interval of {interval:?}: 10 s or more, a divisor of 1800 s"),
        )?;
        check(
            self.or_port != 0 && self.dir_port != 0 && self.or_port != self.dir_port,
            "ORPort and DirPort must differ and not be 0",
        )?;
        check(
            self.distances
                .as_ref()
                .is_none_or(|distances| !distances.delays.is_empty()),
            "the longest delay is below the shortest",
        )?;
        check(
            !matches!(self.block, Some((0, 0))),
            "block 127.0.0.n is where everything else listens",
        )
    }
}

impl Plan {
    fn check_relays(&self) -> Result<(), Error> {
        check(
            self.relays.len() <= MAX_NODES,
            format!("{} nodes: at most {MAX_NODES}", self.relays.len()),
        )?;
        let mut seen = BTreeSet::new();
        for relay in &self.relays {
            let name = &relay.nickname;
            check(
                (1..=19).contains(&name.len()) && name.bytes().all(|c| c.is_ascii_alphanumeric()),
                format!("nickname {name:?}: 1 to 19 letters and digits"),
            )?;
            // tor compares nicknames without regard to case.
            check(
                seen.insert(name.to_ascii_lowercase()),
                format!("nickname {name} is given twice"),
            )?;
            check_rate(&format!("the rate of {name}"), relay.rate.value())?;
            let by_line = relay.limit == Some(Limit::Line);
            check(
                !(by_line && relay.burst.is_some()),
                format!("{name} is limited by its line, which has no burst"),
            )?;
            check(
                by_line || self.burst(relay) >= relay.rate,
                format!("the burst of {name} is below its rate"),
            )?;
            let delay = relay.delay.unwrap_or_default();
            check(
                delay <= LONGEST_DELAY,
                format!("{name} is {delay:?} away: at most {LONGEST_DELAY:?}"),
            )?;
            check(
                i32::try_from(relay.rate.value()).is_ok()
                    && i32::try_from(self.burst(relay).value()).is_ok(),
                format!("rate and burst of {name} may be at most 2147483647 B/s"),
            )?;
        }
        check(
            !self.has_lines()
                || self.options.lifetime == Lifetime::Owned
                || self.options.line_command.is_some(),
            "a detached network with delays or lines needs a command that serves them",
        )
    }
}

fn check_rate(what: &str, rate: u64) -> Result<(), Error> {
    check(
        rate >= MIN_RATE.value(),
        format!("{what} is {rate} B/s; tor wants at least {MIN_RATE}"),
    )
}

fn check(holds: bool, otherwise: impl Into<String>) -> Result<(), Error> {
    if holds {
        Ok(())
    } else {
        Err(Error::new(ErrorKind::Plan, otherwise))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;

    fn rates(plan: &Plan) -> Vec<u64> {
        plan.rates().map(|(_, _, rate)| rate.value()).collect()
    }

    fn seeded(seed: u64) -> Plan {
        let range = BytesPerSecond::new(100_000)..=BytesPerSecond::new(10 * MB);
        Plan::builder()
            .seeded(Seeded::new(seed, 60, 40, range))
            .build()
            .unwrap()
    }

    fn refusal(builder: PlanBuilder) -> String {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Plan);
        error.to_string()
    }

    #[test]
    fn one_relay_lies_and_the_others_are_off_by_sigma() {
        let range = BytesPerSecond::new(100_000)..=BytesPerSecond::new(10 * MB);
        let builder = || Plan::builder().seeded(Seeded::new(7, 60, 40, range.clone()));
        let plan = builder().liar(1e6).observed_error(Prior::new(0.4, 7));
        let plan = plan.build().unwrap();
        let relays = plan.relays.iter().filter(|it| it.role != Role::Authority);
        let errors: Vec<f64> = relays
            .map(|relay| {
                let observed = plan.observed(relay).unwrap().value() as f64;
                (observed / relay.rate.value() as f64).ln()
            })
            .collect();
        let variance = errors[1..].iter().map(|error| error * error).sum::<f64>() / 99.0;
        assert!((0.3..0.5).contains(&variance.sqrt()), "{variance}");
        let liar = plan
            .relays
            .iter()
            .find(|it| it.role == Role::Middle)
            .unwrap();
        assert_eq!(liar.observed, Some(BytesPerSecond::new(i32::MAX as u64)));
        assert!(liar.has_line());
        assert!(refusal(builder().liar(0.5)).contains("1 to 1,000,000 times"));
        assert!(refusal(builder().observed_error(Prior::new(9.0, 1))).contains("0 to 3"));
    }

    #[test]
    fn seeded_rates_are_log_uniform_and_repeatable() {
        let plan = seeded(7);
        assert_eq!(plan.node_count(), 103);
        assert_eq!(rates(&plan), rates(&seeded(7)));
        assert_ne!(rates(&plan), rates(&seeded(8)));
        let drawn = &rates(&plan)[3..];
        assert!(drawn.iter().all(|rate| (100_000..=10 * MB).contains(rate)));
        let below = drawn.iter().filter(|rate| **rate < MB).count();
        assert!((35..=65).contains(&below), "{below} of 100 below 1 MB/s");
    }

    #[test]
    fn distances_and_limits_come_from_the_seed_and_from_the_relay() {
        let rates = MIN_RATE..=BytesPerSecond::new(1_000_000);
        let near = RelaySpec::middle("near", MIN_RATE).delay(Duration::ZERO);
        let millis = Duration::from_millis;
        let plan = |seed| {
            let builder = Plan::builder().seeded(Seeded::new(1, 30, 10, rates.clone()));
            let builder = builder.relay(near.clone().limit(Limit::Node));
            let builder = builder.delay(millis(10)..=millis(60), seed);
            builder.mixed_limits(seed).build().unwrap()
        };
        let (plan, same, other) = (plan(1), plan(1), plan(2));
        assert_eq!(plan.relays, same.relays);
        assert_ne!(plan.relays, other.relays);
        assert!(plan.has_lines());
        let by_line = |relay: &&RelaySpec| relay.limit == Some(Limit::Line);
        for relay in &plan.relays {
            let far = relay.delay.is_some_and(|delay| delay >= millis(10));
            let plain = relay.role == Role::Authority || relay.nickname == "near";
            assert_eq!(far, !plain, "{relay:?}");
            assert_eq!(relay.has_line(), !plain);
            assert!(relay.delay <= Some(millis(60)));
        }
        let lines = plan.relays.iter().filter(by_line).count();
        assert!((10..30).contains(&lines), "{lines} of 40");
        let line = plan.relays.iter().find(by_line).unwrap();
        assert!(plan.burst(line).value().abs_diff(line.rate.value() / 50) <= 1);
        assert_eq!((plan.options.or_port, plan.inner_port()), (5000, 5001));
        let ports = Plan::builder().ports(1, 3).build().unwrap();
        assert_eq!(ports.inner_port(), 5);
    }

    #[test]
    fn the_draws_of_a_seed_never_change() {
        // A demo is repeated from its seed: a new version must draw the same.
        assert_eq!(rates(&seeded(7))[3..6], [129_039, 220_918, 2_723_656]);
    }

    #[test]
    fn the_prior_is_centred_on_the_truth() {
        let prior = Prior::new(0.4, 3);
        let weights = prior.weights([BytesPerSecond::new(MB); 1000]);
        let logs = weights.iter().map(|w| (w.value() as f64 / 1000.0).ln());
        let mean = logs.clone().sum::<f64>() / 1000.0;
        let variance = logs.map(|x| (x - mean).powi(2)).sum::<f64>() / 1000.0;
        assert!(mean.abs() < 0.05, "{mean}");
        assert!((variance.sqrt() - 0.4).abs() < 0.03, "{variance}");
        let exact = Prior::new(0.0, 3).weights([BytesPerSecond::new(5 * MB), MIN_RATE]);
        assert_eq!(exact.map_values(), [5000, 77]);
    }

    trait MapValues {
        fn map_values(&self) -> Vec<u64>;
    }

    impl MapValues for Vec<KilobytesPerSecond> {
        fn map_values(&self) -> Vec<u64> {
            self.iter().map(|weight| weight.value()).collect()
        }
    }

    #[test]
    fn authorities_get_no_prior() {
        let plan = Plan::builder()
            .relay(RelaySpec::exit("out", BytesPerSecond::new(2 * MB)))
            .prior(Prior::new(0.0, 1))
            .build()
            .unwrap();
        let expected = [None, None, None, Some(KilobytesPerSecond::new(2000))];
        assert_eq!(plan.prior_weights(), expected);
    }

    #[test]
    fn bursts_and_observed_bandwidths_can_be_given() {
        let rate = BytesPerSecond::new(MB);
        let liar = RelaySpec::middle("liar", rate).observed(BytesPerSecond::new(9 * MB));
        let bursty = RelaySpec::middle("bursty", rate).burst(BytesPerSecond::new(3 * MB));
        let builder = Plan::builder().relay(liar).relay(bursty).burst_factor(2.0);
        let plan = builder.clone().build().unwrap();
        let [.., liar, bursty] = plan.relays.as_slice() else {
            unreachable!()
        };
        assert_eq!(plan.burst(liar).value(), 2 * MB);
        assert_eq!(plan.burst(bursty).value(), 3 * MB);
        assert_eq!(plan.observed(liar).map(BytesPerSecond::value), Some(9 * MB));
        assert_eq!(plan.observed(bursty), Some(rate));
        let live = builder.observed(Observed::Live).build().unwrap();
        assert_eq!(live.observed(&live.relays[4]), None);
    }

    #[test]
    fn what_tor_would_refuse_is_refused_here() {
        let rate = BytesPerSecond::new(MB);
        let plan = Plan::builder;
        assert!(refusal(plan().authorities(0)).contains("1 to 9"));
        assert!(refusal(plan().authorities(2).prior(Prior::new(0.1, 1))).contains("ignores"));
        assert!(refusal(plan().prior(Prior::new(f64::NAN, 1))).contains("sigma"));
        for micros in [0, 999, 1_500, 1_001_000] {
            let refill = Duration::from_micros(micros);
            assert!(refusal(plan().refill_interval(refill)).contains("milliseconds"));
        }
        assert!(refusal(plan().voting_interval(Duration::from_secs(5))).contains("10 s"));
        assert!(refusal(plan().voting_interval(Duration::from_secs(70))).contains("divisor"));
        assert!(refusal(plan().burst_factor(0.5)).contains("factor"));
        assert!(refusal(plan().ports(5000, 5000)).contains("differ"));
        assert!(refusal(plan().block(0, 0)).contains("127.0.0"));
        let slow = RelaySpec::middle("slow", BytesPerSecond::new(50_000));
        assert!(refusal(plan().relay(slow)).contains("76800"));
        let twice = plan().relay(RelaySpec::middle("Auth1", rate));
        assert!(refusal(twice).contains("twice"));
        let spaced = plan().relay(RelaySpec::middle("a b", rate));
        assert!(refusal(spaced).contains("letters and digits"));
        let starved = RelaySpec::middle("x", rate).burst(MIN_RATE);
        assert!(refusal(plan().relay(starved)).contains("burst"));
        let backwards = Seeded::new(1, 1, 1, rate..=BytesPerSecond::new(100_000));
        assert!(refusal(plan().seeded(backwards)).contains("below the lowest"));
        let delays = Duration::from_secs(2)..=Duration::from_secs(1);
        assert!(refusal(plan().delay(delays, 1)).contains("longest delay"));
        let far = RelaySpec::middle("x", rate).delay(Duration::from_secs(11));
        assert!(refusal(plan().relay(far)).contains("11s away"));
        let line = RelaySpec::middle("x", rate).limit(Limit::Line);
        assert!(refusal(plan().relay(line.clone().burst(rate))).contains("no burst"));
        let detached = plan().relay(line).lifetime(Lifetime::Detached);
        assert!(refusal(detached.clone()).contains("needs a command"));
        let command = LineCommand::new("bwscan", ["testnet", "lines"]);
        assert!(detached.line_command(command).build().is_ok());
        let crowd = Seeded::new(1, 200, 50, rate..=rate);
        assert!(refusal(plan().seeded(crowd)).contains("at most 250"));
    }
}
