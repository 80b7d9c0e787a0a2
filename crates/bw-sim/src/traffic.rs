//! Payload as a fluid: advanced tick by tick, when somebody looks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::share::{Demand, NONE, Sharing};
use crate::usage::Usage;
use crate::{Nature, Relay, Server};

/// tor's initial congestion window, in bytes of payload: 4 × 31 cells
/// (proposal 324, `cc_cwnd_init`) of 498 bytes.
const FIRST_WINDOW: f64 = 124.0 * 498.0;
/// The bytes that wait at the client before it asks the exit to stop: 500 cells of 498
/// bytes (proposal 324, `cc_xoff_client`).
const XOFF: f64 = 500.0 * 498.0;
/// The link is the first resource, then come the servers, then relays.
const LINK: u32 = 0;

/// The end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// All that was ordered has come.
    Complete,
    /// A relay or the server closed it.
    Closed,
    /// The server sent something else.
    Lie,
}

/// A flow on its way.
#[derive(Debug)]
pub(crate) struct Moving {
    pub(crate) entry: usize,
    pub(crate) exit: usize,
    pub(crate) server: usize,
    /// The round trip through the whole path, in seconds.
    pub(crate) rtt: f64,
    /// Bytes to move.
    pub(crate) order: u64,
    /// Bytes per second that the congestion window allows.
    window: f64,
    moved: f64,
    /// The part of `moved` that was read.
    read: u64,
    /// The bytes read since this tick began: whoever reads goes on reading as much in it.
    reading: (u64, u64),
    /// True if all that had come was read since that was last asked.
    ran_dry: bool,
    end: Option<End>,
}

impl Moving {
    pub(crate) fn new(path: (usize, usize, usize), rtt: Duration, order: u64) -> Self {
        let (entry, exit, server) = path;
        let rtt = rtt.as_secs_f64().max(1e-3);
        Self {
            entry,
            exit,
            server,
            rtt,
            order,
            window: FIRST_WINDOW / rtt,
            moved: 0.0,
            read: 0,
            reading: (0, 0),
            ran_dry: true,
            end: None,
        }
    }

    /// Whole bytes that have come and were not read.
    fn waiting(&self) -> u64 {
        self.moved as u64 - self.read
    }

    /// The bytes that may come in `tick`: what is read in it, and what may wait.
    fn room(&self, tick: u64) -> f64 {
        let reading = if self.reading.0 == tick {
            self.reading.1 as f64
        } else {
            0.0
        };
        let waiting = self.moved - self.read as f64;
        (XOFF + reading - waiting).max(0.0)
    }

    /// Lets `rate` flow for `seconds`; `full` if something on the path limited it.
    fn flow(&mut self, rate: f64, full: bool, seconds: f64) {
        self.moved += rate * seconds;
        if full {
            // Delay shows that the path is full: the window stays near what fits.
            self.window = self.window.min(2.0 * rate).max(FIRST_WINDOW / self.rtt);
        } else if rate >= self.window {
            // Slow start: doubled in each round trip.
            self.window *= (seconds / self.rtt).exp2();
        }
    }
}

/// The tokens that a relay has left beside its capacity.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    /// The tick until which it is accounted for.
    until: u64,
    usage: Usage,
    /// Its resource in the tick that is computed.
    slot: u32,
}

/// The flows, and the bytes that have flowed.
#[derive(Debug)]
pub(crate) struct Traffic {
    tick: Duration,
    seed: u64,
    link: f64,
    /// Ticks that are over.
    pub(crate) done: u64,
    flows: BTreeMap<u64, Moving>,
    next_flow: u64,
    buckets: Vec<Bucket>,
    /// The relays that are being measured.
    pub(crate) targets: BTreeSet<usize>,
    pub(crate) link_usage: Usage,
    pub(crate) servers: Vec<Usage>,
    pub(crate) trace: Vec<u64>,
    /// Bytes read since the last tick ended, and the most of any tick.
    fresh: u64,
    pub(crate) most_read: u64,
    pub(crate) most_flows: usize,
    sharing: Sharing,
    demands: Vec<Demand>,
    /// The flow of each of the first demands.
    movers: Vec<u64>,
    capacities: Vec<f64>,
    /// The relays in use and how much clients want of them.
    busy: Vec<usize>,
}

impl Traffic {
    pub(crate) fn new(
        relays: &[Relay],
        servers: usize,
        link: f64,
        tick: Duration,
        seed: u64,
    ) -> Self {
        let full = |relay: &Relay| Bucket {
            tokens: relay.bucket as f64,
            until: 0,
            usage: Usage::default(),
            slot: NONE,
        };
        Self {
            tick,
            seed,
            link,
            done: 0,
            flows: BTreeMap::new(),
            next_flow: 0,
            buckets: relays.iter().map(full).collect(),
            targets: BTreeSet::new(),
            link_usage: Usage::default(),
            servers: vec![Usage::default(); servers],
            trace: Vec::new(),
            fresh: 0,
            most_read: 0,
            most_flows: 0,
            sharing: Sharing::default(),
            demands: Vec::new(),
            movers: Vec::new(),
            capacities: Vec::new(),
            busy: Vec::new(),
        }
    }

    /// A new flow; it begins with the next tick.
    pub(crate) fn begin(&mut self, flow: Moving) -> u64 {
        let id = self.next_flow;
        self.next_flow += 1;
        self.flows.insert(id, flow);
        self.most_flows = self.most_flows.max(self.flows.len());
        id
    }

    pub(crate) fn drop_flow(&mut self, id: u64) {
        self.flows.remove(&id);
    }

    /// The bytes that have come and were not read, and the end of the flow once nothing is left.
    pub(crate) fn waiting(&self, id: u64) -> (u64, Option<End>) {
        self.flows
            .get(&id)
            .map_or((0, Some(End::Closed)), |flow| (flow.waiting(), flow.end))
    }

    /// Reads up to `most` of what has come.
    pub(crate) fn read(&mut self, id: u64, most: u64) -> u64 {
        let Some(flow) = self.flows.get_mut(&id) else {
            return 0;
        };
        let fresh = flow.waiting().min(most);
        flow.read += fresh;
        self.fresh += fresh;
        if flow.reading.0 != self.done {
            flow.reading = (self.done, 0);
        }
        flow.reading.1 += fresh;
        flow.ran_dry |= flow.waiting() == 0;
        fresh
    }

    /// Returns true if all that had come was read at some moment since this was last asked.
    pub(crate) fn ran_dry(&mut self, id: u64) -> bool {
        let flow = self.flows.get_mut(&id);
        flow.is_none_or(|flow| std::mem::take(&mut flow.ran_dry))
    }

    /// Lets everything flow until tick `until` is over.
    pub(crate) fn advance(&mut self, until: u64, relays: &[Relay], servers: &[Server]) {
        while self.done < until {
            if self.flows.is_empty() {
                self.done = until;
            } else {
                self.step(relays, servers);
                self.done += 1;
            }
        }
    }

    fn step(&mut self, relays: &[Relay], servers: &[Server]) {
        let time = self.tick * u32::try_from(self.done).unwrap_or(u32::MAX);
        self.most_read = self.most_read.max(std::mem::take(&mut self.fresh));
        self.capacities.clear();
        self.capacities.push(self.link);
        let serving = servers.iter().map(|server| server.capacity.value() as f64);
        self.capacities.extend(serving);
        self.demands.clear();
        self.movers.clear();
        self.busy.clear();
        let mut flows = std::mem::take(&mut self.flows);
        for (&id, flow) in &mut flows {
            Self::end(flow, time, relays, servers);
            if flow.end.is_some() || !Self::moves(flow, time, relays, servers) {
                continue;
            }
            let slots = [flow.entry, flow.exit].map(|relay| self.slot(relay, time, relays));
            let left = flow.order as f64 - flow.moved;
            self.demands.push(Demand {
                cap: flow
                    .window
                    .min(left.min(flow.room(self.done)) / self.tick.as_secs_f64()),
                weight: 1.0,
                takes: [LINK, 1 + flow.server as u32, slots[0], slots[1]],
            });
            self.movers.push(id);
        }
        self.add_clients(time, relays);
        self.sharing.solve(&self.demands, &self.capacities);
        self.account(&mut flows, relays);
        self.flows = flows;
    }

    /// Ends a flow that has come to its end.
    fn end(flow: &mut Moving, time: Duration, relays: &[Relay], servers: &[Server]) {
        if flow.end.is_some() {
            return;
        }
        let gone = |relay: usize| !relays[relay].is_there(time);
        let cut = |relay: usize| match relays[relay].nature {
            Nature::Cuts { after } => flow.moved >= after as f64,
            _ => false,
        };
        let server = &servers[flow.server];
        let refused = server.outage(time).is_some_and(|outage| !outage.silent);
        flow.end = if flow.moved >= flow.order as f64 - 0.5 {
            Some(End::Complete)
        } else if server
            .lies_after
            .is_some_and(|after| flow.moved >= after as f64)
        {
            Some(End::Lie)
        } else if refused
            || [flow.entry, flow.exit]
                .into_iter()
                .any(|one| gone(one) || cut(one))
        {
            Some(End::Closed)
        } else {
            None
        };
    }

    /// Returns true if anything moves on a flow.
    fn moves(flow: &Moving, time: Duration, relays: &[Relay], servers: &[Server]) -> bool {
        let stalled = |relay: usize| match relays[relay].nature {
            Nature::Stalls { after } => flow.moved >= after as f64,
            _ => false,
        };
        servers[flow.server].outage(time).is_none()
            && ![flow.entry, flow.exit].into_iter().any(stalled)
    }

    /// The resource that stands for a relay in this tick.
    fn slot(&mut self, index: usize, time: Duration, relays: &[Relay]) -> u32 {
        if self.buckets[index].slot != NONE {
            return self.buckets[index].slot;
        }
        let relay = &relays[index];
        let seconds = self.tick.as_secs_f64();
        let capacity = self.capacity(index, relay);
        let bucket = &mut self.buckets[index];
        // Nobody but clients used it until now.
        let idle = (self.done - bucket.until) as f64 * seconds;
        let clients = relay.load.at(time, index as u64 ^ self.seed);
        let full = relay.bucket as f64;
        bucket.tokens = (bucket.tokens + capacity * (1.0 - clients) * idle).min(full);
        let rate = if relay.bucket == 0 {
            capacity
        } else {
            let line = capacity.max(relay.line.value() as f64);
            (bucket.tokens / seconds + capacity).min(line)
        };
        bucket.slot = self.capacities.len() as u32;
        self.capacities.push(rate);
        self.busy.push(index);
        bucket.slot
    }

    /// The rate that a relay can carry, as it is now used.
    fn capacity(&self, index: usize, relay: &Relay) -> f64 {
        let capacity = relay.capacity.value() as f64;
        match relay.nature {
            Nature::Throttles { factor } if !self.targets.contains(&index) => capacity * factor,
            Nature::Favours { factor } => capacity * factor,
            _ => capacity,
        }
    }

    /// Clients compete on each relay that is in use.
    fn add_clients(&mut self, time: Duration, relays: &[Relay]) {
        for &index in &self.busy {
            let relay = &relays[index];
            let share = relay.load.at(time, index as u64 ^ self.seed);
            let dropped = matches!(relay.nature, Nature::Favours { .. });
            self.demands.push(Demand {
                cap: if dropped {
                    0.0
                } else {
                    share * relay.capacity.value() as f64
                },
                weight: relay.load.circuits.max(1e-6),
                takes: [self.buckets[index].slot, NONE, NONE, NONE],
            });
        }
    }

    /// Moves what was shared out.
    fn account(&mut self, flows: &mut BTreeMap<u64, Moving>, relays: &[Relay]) {
        let seconds = self.tick.as_secs_f64();
        // What the scanner's flows take of each resource, and whether it limits any.
        let mut taken = vec![(0.0, false); self.capacities.len()];
        let rates = self.sharing.rates.iter();
        for ((id, demand), (rate, limit)) in self.movers.iter().zip(&self.demands).zip(rates) {
            if let Some(flow) = flows.get_mut(id) {
                flow.flow(*rate, limit.is_some(), seconds);
            }
            for &slot in &demand.takes {
                taken[slot as usize].0 += rate;
            }
            if let Some(slot) = limit {
                taken[*slot as usize].1 = true;
            }
        }
        let note = |usage: &mut Usage, (rate, limits): (f64, bool), hampers: bool| {
            usage.bytes += (rate * seconds) as u64;
            usage.peak = usage.peak.max(rate);
            if limits {
                usage.limiting += self.tick;
            }
            if limits && hampers {
                usage.hampering += self.tick;
            }
        };
        note(&mut self.link_usage, taken[0], false);
        for (usage, taken) in self.servers.iter_mut().zip(&taken[1..]) {
            note(usage, *taken, false);
        }
        let done = usize::try_from(self.done).unwrap_or(usize::MAX);
        self.trace.resize(done, 0);
        self.trace.push((taken[0].0 * seconds) as u64);
        let clients = self.sharing.rates[self.movers.len()..].iter();
        for (position, (&index, (client, _))) in self.busy.iter().zip(clients).enumerate() {
            let relay = &relays[index];
            let capacity = self.capacity(index, relay);
            let slot = 1 + self.servers.len() + position;
            let bucket = &mut self.buckets[index];
            note(
                &mut bucket.usage,
                taken[slot],
                !self.targets.contains(&index),
            );
            let change = (capacity - taken[slot].0 - client) * seconds;
            bucket.tokens = (bucket.tokens + change).clamp(0.0, relay.bucket as f64);
            bucket.until = self.done + 1;
            bucket.slot = NONE;
        }
    }

    /// The use of each relay, in order.
    pub(crate) fn relays(&self) -> impl Iterator<Item = &Usage> {
        self.buckets.iter().map(|bucket| &bucket.usage)
    }
}
