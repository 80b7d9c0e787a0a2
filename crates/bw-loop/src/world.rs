//! The relays as they are, and what clients make of them in a day.

use std::f64::consts::TAU;

use bw_file::{BytesPerSecond, KilobytesPerSecond};
use bw_results::{DescriptorFacts, NetworkSnapshot, RelayFacts, UnixMillis};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::attack::Attack;
use crate::observed::Observed;
use crate::positions::PositionWeights;
use crate::probe;
use crate::random::normal;
use crate::setting::Setting;

/// Midnight of the first day.
const BEGIN: u64 = 1_790_000_000 / 86_400 * 86_400;

/// The swing of clients' traffic over a day: to 1 ± this.
const DAILY: f64 = 0.3;

/// σ of ln(load / its mean at that hour) of one relay, as one measurement finds it.
const FLUCTUATION: f64 = 0.2;

/// The weight that authorities give to a relay that too few scanners have measured, in kB/s.
const UNMEASURED: u64 = 20;

/// The bandwidth that a new relay's own tests let it observe, in bytes per second.
const SELF_TEST: f64 = 60_000.0;

/// Where relays are that share a machine.
const MACHINE: std::net::Ipv4Addr = std::net::Ipv4Addr::new(9, 9, 9, 9);

/// The number of single relays that attack.
const ATTACKERS: usize = 5;

/// One relay.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) facts: RelayFacts,
    /// Its true capacity, in bytes of payload per second.
    pub(crate) capacity: f64,
    /// The rate that it shows when nobody else uses it.
    pub(crate) shows: f64,
    pub(crate) observed: Observed,
    pub(crate) attacks: bool,
    pub(crate) is_new: bool,
    /// The demand of clients on it, as a share of its capacity.
    pub(crate) load: f64,
}

pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    /// Bytes of payload per byte that descriptors count.
    goodput: f64,
    attack: Attack,
    utilisation: f64,
    newcomers_join: u32,
    pub(crate) rng: StdRng,
}

impl World {
    pub(crate) fn new(setting: &Setting, mut rng: StdRng) -> Self {
        let relays = setting.population.generate(&mut rng);
        let goodput = setting.population.goodput;
        let mut nodes: Vec<Node> = relays
            .into_iter()
            .map(|relay| {
                let capacity = relay.capacity.value() as f64;
                let observed = relay
                    .facts
                    .descriptor
                    .map_or(0.0, |facts| facts.observed.value() as f64 * goodput);
                Node {
                    facts: relay.facts,
                    capacity,
                    shows: capacity,
                    observed: Observed::starting(observed.min(capacity)),
                    attacks: false,
                    is_new: false,
                    load: 0.0,
                }
            })
            .collect();
        nodes.sort_unstable_by_key(|node| node.facts.fingerprint);
        let mut world = Self {
            nodes,
            goodput,
            attack: setting.attack.clone(),
            utilisation: setting.utilisation,
            newcomers_join: setting.newcomers_join(),
            rng,
        };
        world.choose(setting);
        world
    }

    /// Chooses who attacks and who comes later, of the relays with more than the
    /// median capacity, so that shares are not lost in rounding.
    fn choose(&mut self, setting: &Setting) {
        let mut capacities: Vec<f64> = self.nodes.iter().map(|node| node.capacity).collect();
        capacities.sort_unstable_by(f64::total_cmp);
        let median = capacities.get(capacities.len() / 2).copied().unwrap_or(0.0);
        let fast = (0..self.nodes.len()).filter(|&index| self.nodes[index].capacity > median);
        let mut fast: Vec<usize> = fast.collect();
        fast.shuffle(&mut self.rng);
        let attackers = self.attack.attackers(ATTACKERS);
        let mut fast = fast.into_iter();
        let machine = median * 4.0;
        for index in fast.by_ref().take(attackers) {
            let node = &mut self.nodes[index];
            node.attacks = true;
            if let Some(relays) = self.attack.machine() {
                node.capacity = machine / f64::from(relays);
                node.shows = machine;
                node.observed = Observed::starting(machine);
                node.facts.address = Some(MACHINE.into());
            }
        }
        let neighbours = (self.nodes.len() as f64 * setting.neighbours) as usize;
        let honest = (0..self.nodes.len()).filter(|&index| !self.nodes[index].attacks);
        let mut honest: Vec<usize> = honest.collect();
        honest.shuffle(&mut self.rng);
        honest.truncate(neighbours);
        let mut rest = &honest[..];
        while rest.len() > 1 {
            let (house, others) = rest.split_at(self.rng.random_range(2..=4).min(rest.len()));
            for &index in house {
                self.nodes[index].facts.address = self.nodes[house[0]].facts.address;
            }
            rest = others;
        }
        let newcomers = (self.nodes.len() as f64 * setting.newcomers).ceil() as usize;
        for index in fast.take(newcomers) {
            let node = &mut self.nodes[index];
            node.is_new = true;
            node.observed = Observed::starting(SELF_TEST.min(node.capacity));
            node.facts.unmeasured = true;
            node.facts.consensus_weight = KilobytesPerSecond::new(UNMEASURED);
        }
    }

    /// Returns true if a relay is in the network on this day.
    pub(crate) const fn is_there(&self, node: &Node, day: u32) -> bool {
        !node.is_new || day >= self.newcomers_join
    }

    /// The relays of a day with their indices.
    pub(crate) fn present(&self, day: u32) -> impl Iterator<Item = (usize, &Node)> {
        let nodes = self.nodes.iter().enumerate();
        nodes.filter(move |(_, node)| self.is_there(node, day))
    }

    /// The consensus of a day, with its descriptors.
    pub(crate) fn snapshot(&self, day: u32) -> NetworkSnapshot {
        let time = self.time(day, 0.0);
        let relays = self.present(day).map(|(_, node)| {
            let mut facts = node.facts.clone();
            facts.descriptor = self.descriptor(node, time);
            facts
        });
        NetworkSnapshot::new(time, time, time, Default::default(), relays.collect())
    }

    /// The descriptor that a relay publishes.
    fn descriptor(&self, node: &Node, time: UnixMillis) -> Option<DescriptorFacts> {
        if node.attacks && self.attack.withholds() {
            return None;
        }
        /// The largest that authorities take (`INT_MAX`).
        const MOST: f64 = 2_147_483_647.0;
        let mut facts = node.facts.descriptor?;
        let mut observed = node.observed.rate() / self.goodput;
        if node.attacks {
            observed *= self.attack.factor_of_lie();
            facts.average = BytesPerSecond::new(1 << 30);
            facts.burst = facts.average;
        }
        let observed = BytesPerSecond::new(observed.min(MOST) as u64);
        Some(DescriptorFacts::new(
            time,
            facts.average,
            facts.burst,
            observed,
        ))
    }

    /// The time at this part of a day.
    pub(crate) fn time(&self, day: u32, part: f64) -> UnixMillis {
        let seconds = BEGIN + u64::from(day) * 86_400 + (part * 86_400.0) as u64;
        UnixMillis::from_secs(seconds)
    }

    /// Clients choose their paths by the weights of the consensus: what each
    /// relay is asked for.
    pub(crate) fn route(&mut self, day: u32) {
        let weight = |node: &Node| node.facts.consensus_weight.value() as f64;
        let present = || self.present(day).map(|(_, node)| node);
        let positions =
            PositionWeights::of_relays(present().map(|node| (node.facts.flags, weight(node))));
        let shares = |node: &Node| positions.shares(node.facts.flags);
        let (mut guards, mut middles, mut exits, mut capacity) = (0.0, 0.0, 0.0, 0.0);
        for node in present() {
            let (weight, shares) = (weight(node), shares(node));
            guards += weight * shares.guard;
            middles += weight * shares.middle;
            exits += weight * shares.exit;
            capacity += node.capacity;
        }
        // Each byte of a client passes three relays.
        let traffic = self.utilisation * capacity / 3.0;
        let part = |weight: f64, of: f64| if of > 0.0 { weight / of } else { 0.0 };
        let join = self.newcomers_join;
        for node in &mut self.nodes {
            if node.is_new && day < join {
                continue;
            }
            let (weight, shares) = (weight(node), shares(node));
            let asked = part(weight * shares.guard, guards)
                + part(weight * shares.middle, middles)
                + part(weight * shares.exit, exits);
            node.load = traffic * asked / node.capacity.max(1.0);
        }
    }

    /// The rate that a measurement of this relay could get at this part of the day.
    pub(crate) fn available(&mut self, index: usize, part: f64) -> f64 {
        let node = &self.nodes[index];
        if node.attacks && self.attack.favours() {
            return node.shows;
        }
        let fluctuation = FLUCTUATION * normal(&mut self.rng) - FLUCTUATION.powi(2) / 2.0;
        let node = &self.nodes[index];
        let load = node.load * daily(part) * fluctuation.exp();
        node.shows * probe::left(probe::CIRCUITS, load)
    }

    /// Returns true if a relay lets its measurement fail at this part of the day.
    pub(crate) fn fails(&self, index: usize, part: f64) -> bool {
        self.nodes[index].attacks && self.attack.stalls() && daily(part) > 1.0
    }

    /// The rate of a relay in a measurement at this part of the day in which all relays
    /// of its machine take part.
    pub(crate) fn part(&mut self, index: usize, part: f64) -> f64 {
        let all = self.available(index, part);
        match self.attack.machine() {
            Some(relays) if self.nodes[index].attacks => all / f64::from(relays),
            _ => all,
        }
    }

    /// The day passes for what relays observe of themselves.
    pub(crate) fn observe(&mut self, day: u32, shown: &[f64]) {
        let join = self.newcomers_join;
        for (node, &shown) in self.nodes.iter_mut().zip(shown) {
            if node.is_new && day < join {
                continue;
            }
            let load = node.load * node.capacity / node.shows;
            let (shows, busiest) = (node.shows, 1.0 + DAILY);
            node.observed
                .day(shows, load, busiest, shown, &mut self.rng);
        }
    }

    /// The rates that clients' circuits would have if weights were what relays can carry.
    pub(crate) fn ideal_rates(&mut self, day: u32, circuits: usize) -> Vec<f64> {
        for node in &mut self.nodes {
            node.facts.consensus_weight = KilobytesPerSecond::new(node.capacity as u64);
        }
        self.route(day);
        self.client_rates(day, circuits)
    }

    /// The rates of circuits that clients build now, in bytes per second, ascending.
    pub(crate) fn client_rates(&mut self, day: u32, circuits: usize) -> Vec<f64> {
        let positions = PositionWeights::of_relays(
            (self.present(day))
                .map(|(_, n)| (n.facts.flags, n.facts.consensus_weight.value() as f64)),
        );
        let choose = |share: fn(crate::PositionShares) -> f64| {
            let mut sum = 0.0;
            let cumulated = self.present(day).map(|(index, node)| {
                let weight = node.facts.consensus_weight.value() as f64;
                sum += weight * share(positions.shares(node.facts.flags));
                (sum, index)
            });
            cumulated.collect::<Vec<_>>()
        };
        let hops = [
            choose(|shares| shares.guard),
            choose(|shares| shares.middle),
            choose(|shares| shares.exit),
        ];
        let mut rates = Vec::with_capacity(circuits);
        for _ in 0..circuits {
            let mut rate = f64::INFINITY;
            for hop in &hops {
                let Some(&(total, _)) = hop.last() else {
                    continue;
                };
                let at = self.rng.random_range(0.0..1.0) * total;
                let chosen = hop
                    .partition_point(|&(sum, _)| sum <= at)
                    .min(hop.len() - 1);
                let node = &self.nodes[hop[chosen].1];
                // One circuit beside the others.
                rate = rate.min(node.capacity * probe::left(1.0, node.load));
            }
            rates.push(rate);
        }
        rates.sort_unstable_by(f64::total_cmp);
        rates
    }

    /// The next consensus has these weights; relays without one are unmeasured.
    pub(crate) fn publish(&mut self, weights: &[Option<KilobytesPerSecond>]) {
        for (node, weight) in self.nodes.iter_mut().zip(weights) {
            node.facts.unmeasured = weight.is_none();
            node.facts.consensus_weight = weight.unwrap_or(KilobytesPerSecond::new(UNMEASURED));
        }
    }
}

/// Clients' traffic at this part of the day, of a mean of 1.
fn daily(part: f64) -> f64 {
    1.0 + DAILY * (TAU * part).sin()
}
