//! The scanner's own link: who may begin, who may read, and who must stop.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bw_file::BytesPerSecond;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::RunId;

/// The scanner's own link, shared by all measurements.
///
/// Three rules keep all of them together within its rate, and each of them unthrottled:
///
/// * *Admission.* A measurement opens its circuits without using the link. Its payload begins
///   to flow only when the link has room for the rate that it is expected to have. A
///   measurement that has waited long is overtaken only by those that leave its room free.
/// * *Limit.* A token bucket of a fifth of a second bounds what is read in any case. Its lower
///   half is for measurements that have begun to show a rate, and for small ones; those that
///   only begin wait. A burst has only what is left in its upper quarter.
///   Reading that it denies is noted in the record: such a slice says nothing of a relay.
/// * *Correction.* If that lasts, the measurement that exceeds its reservation most is stopped,
///   and made again later.
///
/// Clones are the same link.
#[derive(Clone, Debug)]
pub struct Link {
    /// Payload bytes per second; infinite without a limit.
    rate: f64,
    state: Arc<Mutex<State>>,
}

/// A measurement's place on the [`Link`], given back when dropped.
#[derive(Debug)]
pub struct Lease {
    link: Link,
    id: RunId,
    /// When the link's time begins.
    epoch: Instant,
    admitted: Arc<Notify>,
}

/// The room for further measurements, whose circuits would open now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// True if there is not yet enough in store, of whatever rate.
    any: bool,
    /// The rate that would fit at once, in bytes per second.
    gap: f64,
    /// A rate so small that it always fits, in bytes per second.
    small: f64,
}

impl Room {
    /// Returns true if circuits should be opened for a rate of `expected`.
    pub(crate) fn takes(&self, expected: f64) -> bool {
        self.any || expected <= self.gap
    }

    /// Returns true if a rate of `expected` fits wherever circuits are left that nothing large needs.
    pub(crate) fn is_small(&self, expected: f64) -> bool {
        expected <= self.small
    }
}

/// Payload per byte of the link's rate: 498 of each cell's 514 bytes, and 29 bytes of TLS
/// with each record of up to eight cells, leave 0.96.
const PAYLOAD: f64 = 0.95;
/// The seconds of its rate that the token bucket holds beyond its middle, and lacks below it:
/// tor sends what its own buckets allow in bunches of 100 ms.
const DEPTH: f64 = 0.1;
/// The least that is worth reading, in seconds of the rate: permission for less than a cell
/// reads nothing.
const QUANTUM: f64 = 0.01;
/// The time for which measurements that only begin may find nothing left. Then one is stopped: a burst
/// is over by then.
const PATIENT: Duration = Duration::from_millis(500);
/// The length of the bins in which each measurement's bytes are counted.
const BIN: Duration = Duration::from_millis(100);
/// The bins that make the present rate: tor's bunches even out over four.
const BINS: usize = 4;
/// A rate may be one that only begins for so long: slow start over 0.3 s of round trip
/// needs five doublings for 5 MB/s.
const RAMP: Duration = Duration::from_millis(750);
/// After this long a rate counts as what it is although it grows.
const LONGEST_RAMP: Duration = Duration::from_secs(2);
/// A rate that grows by more in 0.4 s has only begun.
const GROWS: f64 = 1.15;
/// A reservation that no payload backs is given up after this.
const UNBACKED: Duration = Duration::from_secs(3);
/// Whoever takes this share of the link is sampled shorter while others wait.
const LARGE: f64 = 0.2;
/// Whoever takes no more of the link needs circuits above all. Such measurements go on beside the
/// large ones that fill the link: one after the other, both took 74 min for 8,000 relays at
/// 1 Gbit/s.
const SMALL: f64 = 0.02;
/// The part of what is otherwise enough that is enough then: 0.6 s.
const SHORT_SAMPLE: f64 = 0.6;
/// The rate kept free for wrong guesses, in standard deviations of all rates not yet seen.
const CAUTION: f64 = 0.5;
/// Whoever has this share of the link has the link.
const WHOLE: f64 = 0.9;
/// The time for which any smaller measurement may overtake one that does not fit.
const PATIENCE: Duration = Duration::from_secs(2);
/// The share of the link's rate that may open circuits and wait: opening takes about as
/// long as measuring, and of several one fits what is free.
const AHEAD: f64 = 1.5;

#[derive(Debug, Default)]
struct State {
    /// Tokens, in bytes: from -DEPTH to +DEPTH seconds of the rate.
    level: f64,
    /// When `level` was right.
    at: Duration,
    /// Since when there is nothing left for measurements that only begin.
    short_since: Option<Duration>,
    /// True if all begin at one time, when none of them opens circuits any more.
    together: bool,
    /// In the order in which they were assigned.
    members: BTreeMap<RunId, Member>,
}

#[derive(Debug)]
struct Member {
    /// The rate that it is expected to have, and its standard deviation, in bytes per second.
    expected: f64,
    spread: f64,
    phase: Phase,
    admitted: Arc<Notify>,
}

#[derive(Debug)]
enum Phase {
    /// Its circuits open since then.
    Opening(Duration),
    /// Its circuits are open and wait for room since then.
    Waiting(Duration),
    Flowing(Flowing),
}

#[derive(Debug)]
struct Flowing {
    since: Duration,
    first_byte: Option<Duration>,
    bytes: u64,
    /// The present bin's number and bytes, and those of the bins before, the newest first.
    bin: (u128, u64),
    bins: VecDeque<u64>,
    /// The part of what is enough for a rate that it has shown, from 0 to 1.
    progress: f64,
    /// True if it has shown that its relay cannot keep up its rate.
    bursts: bool,
    stopped: bool,
}

impl Flowing {
    fn new(now: Duration) -> Self {
        Self {
            since: now,
            first_byte: None,
            bytes: 0,
            bin: (bin_of(now), 0),
            bins: VecDeque::with_capacity(2 * BINS + 1),
            progress: 0.0,
            bursts: false,
            stopped: false,
        }
    }

    fn advance(&mut self, now: Duration) {
        let bin = bin_of(now);
        while self.bin.0 < bin {
            self.bins.push_front(std::mem::take(&mut self.bin.1));
            self.bins.truncate(2 * BINS);
            // After a long silence all bins are empty.
            self.bin.0 = (self.bin.0 + 1).max(bin.saturating_sub(2 * BINS as u128));
        }
    }

    fn took(&mut self, now: Duration, bytes: u64) {
        self.advance(now);
        self.bin.1 += bytes;
        self.bytes += bytes;
        if bytes > 0 {
            self.first_byte.get_or_insert(now);
        }
    }

    fn rate(&self, bins: impl Iterator<Item = usize>) -> f64 {
        let bytes: u64 = bins.filter_map(|bin| self.bins.get(bin)).sum();
        bytes as f64 / (BIN.as_secs_f64() * BINS as f64)
    }

    fn present(&self) -> f64 {
        self.rate(0..BINS)
    }

    /// Returns true if its rate can be taken for what it is.
    fn is_steady(&self, now: Duration) -> bool {
        let Some(first) = self.first_byte else {
            return now >= self.since + UNBACKED;
        };
        let flowed = now.saturating_sub(first);
        let grows = self.present() > GROWS * self.rate(BINS..2 * BINS);
        flowed >= LONGEST_RAMP || (flowed >= RAMP && !grows)
    }
}

fn bin_of(now: Duration) -> u128 {
    now.as_millis() / BIN.as_millis()
}

impl Member {
    /// The rate that it is expected to take of the link, in bytes per second.
    fn demand(&self, now: Duration) -> f64 {
        match &self.phase {
            Phase::Flowing(flow) if flow.stopped => 0.0,
            Phase::Flowing(flow) if !flow.bursts && flow.is_steady(now) => flow.present(),
            Phase::Flowing(flow) => flow.present().max(self.expected),
            _ => 0.0,
        }
    }

    /// The rate that it will take when another one that begins now has its own: who has shown more
    /// ends sooner.
    fn lasting_demand(&self, now: Duration) -> f64 {
        match &self.phase {
            Phase::Flowing(flow) => self.demand(now) * (1.0 - flow.progress),
            _ => 0.0,
        }
    }

    /// The rate that it will take when its circuits are open; nothing if they take too long.
    fn stored(&self, now: Duration) -> f64 {
        match self.phase {
            Phase::Opening(since) if now < since + UNBACKED => self.expected,
            Phase::Waiting(_) => self.expected,
            _ => 0.0,
        }
    }

    /// The variance of what it takes.
    fn variance(&self, now: Duration) -> f64 {
        match &self.phase {
            Phase::Flowing(flow) if !flow.stopped && !flow.is_steady(now) => {
                self.spread * self.spread
            }
            _ => 0.0,
        }
    }

    /// To which level of the token bucket it may read, in seconds of the link's rate: first who
    /// has begun to show a rate, which throttling would spoil, and who needs next to nothing.
    fn floor(&self, rate: f64) -> f64 {
        match self.flowing() {
            Some(flow) if flow.progress > 0.0 => -DEPTH,
            Some(flow) if flow.bursts => DEPTH / 2.0,
            Some(flow) if self.is_small(rate) && flow.present() <= SMALL * rate => -DEPTH,
            _ => 0.0,
        }
    }

    /// Returns true if it needs next to nothing of the link.
    fn is_small(&self, rate: f64) -> bool {
        self.expected <= SMALL * rate
    }

    fn flowing(&self) -> Option<&Flowing> {
        match &self.phase {
            Phase::Flowing(flow) if !flow.stopped => Some(flow),
            _ => None,
        }
    }
}

impl Link {
    /// A link of `rate`, of which 95 % are for payload; without a limit if that is 0.
    pub fn new(rate: BytesPerSecond) -> Self {
        let rate = match rate.value() {
            0 => f64::INFINITY,
            rate => PAYLOAD * rate as f64,
        };
        Self {
            rate,
            state: Arc::default(),
        }
    }

    /// Payload bytes per second; infinite without a limit.
    pub(crate) const fn payload(&self) -> f64 {
        self.rate
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A measurement begins to open its circuits; it is expected to have a rate of `expected`
    /// with a standard deviation of `spread`.
    pub(crate) fn open(&self, id: RunId, expected: f64, spread: f64, now: Duration) {
        let member = Member {
            expected: expected.min(self.rate),
            spread: spread.min(self.rate),
            phase: Phase::Opening(now),
            admitted: Arc::default(),
        };
        self.lock().members.insert(id, member);
    }

    /// The place of a measurement that was [opened](Self::open), whose time began at `epoch`.
    pub(crate) fn lease(&self, id: RunId, epoch: Instant) -> Lease {
        let admitted = self
            .lock()
            .members
            .get(&id)
            .map(|one| Arc::clone(&one.admitted));
        Lease {
            link: self.clone(),
            id,
            epoch,
            admitted: admitted.unwrap_or_default(),
        }
    }

    /// The circuits of a measurement are open: it begins as soon as there is room.
    pub(crate) fn wait(&self, id: RunId, now: Duration) {
        let mut state = self.lock();
        if let Some(member) = state.members.get_mut(&id) {
            member.phase = Phase::Waiting(now);
        }
        state.admit(self.rate, now);
    }

    /// Returns true if the payload of a measurement may flow.
    pub(crate) fn is_admitted(&self, id: RunId) -> bool {
        let state = self.lock();
        let member = state.members.get(&id);
        member.is_none_or(|member| matches!(member.phase, Phase::Flowing(_)))
    }

    /// Returns true if a measurement reserves what nothing backs: its circuits take long to open, or no
    /// payload comes.
    pub(crate) fn is_unbacked(&self, id: RunId, now: Duration) -> bool {
        let state = self.lock();
        let since = state.members.get(&id).and_then(|one| match &one.phase {
            Phase::Opening(since) => Some(*since),
            Phase::Flowing(flow) if flow.first_byte.is_none() => Some(flow.since),
            _ => None,
        });
        since.is_some_and(|since| now >= since + UNBACKED)
    }

    /// A measurement is over.
    pub(crate) fn end(&self, id: RunId, now: Duration) {
        let mut state = self.lock();
        state.members.remove(&id);
        state.admit(self.rate, now);
    }

    /// The room for measurements whose circuits would begin to open now.
    pub(crate) fn room(&self, now: Duration) -> Room {
        let state = self.lock();
        let free = self.rate - state.demand(now);
        let (mut stored, mut fitting) = (0.0, 0.0);
        for member in state.members.values() {
            let rate = member.stored(now);
            stored += rate;
            if fitting + rate <= free {
                fitting += rate;
            }
        }
        Room {
            any: stored < AHEAD * self.rate,
            gap: free - fitting,
            small: SMALL * self.rate,
        }
    }

    /// The rate that flows are expected to take, in bytes per second.
    pub(crate) fn reserved(&self, now: Duration) -> f64 {
        self.lock().demand(now)
    }
}

impl Lease {
    /// The only place on a link that limits nothing.
    pub fn unlimited() -> Self {
        let (link, run) = (Link::new(BytesPerSecond::new(0)), RunId(0));
        link.open(run, 0.0, 0.0, Duration::ZERO);
        link.lease(run, Instant::now())
    }

    /// Places on a link that limits nothing, for measurements that begin together: when
    /// none of them opens circuits any more.
    pub(crate) fn together(count: usize) -> Vec<Self> {
        let (link, epoch) = (Link::new(BytesPerSecond::new(0)), Instant::now());
        link.lock().together = true;
        let ids = (0..count as u64).map(RunId);
        let opened = ids.inspect(|&id| link.open(id, 0.0, 0.0, Duration::ZERO));
        let ids: Vec<RunId> = opened.collect();
        ids.into_iter().map(|id| link.lease(id, epoch)).collect()
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Waits until the link has room, once all circuits are open.
    pub(crate) async fn admitted(&self) {
        self.link.wait(self.id, self.now());
        while !self.link.is_admitted(self.id) {
            self.admitted.notified().await;
        }
    }

    /// The number of bytes that may be read now, or when to ask again.
    pub(crate) fn permit(&self) -> Result<u64, Instant> {
        let rate = self.link.rate;
        if rate.is_infinite() {
            return Ok(u64::MAX);
        }
        let now = self.now();
        let mut state = self.link.lock();
        state.fill(rate, now);
        let member = state.members.get(&self.id);
        let floor = rate * member.map_or(0.0, |member| member.floor(rate));
        let missing = QUANTUM - (state.level - floor) / rate;
        if missing > 0.0 {
            let wait = Duration::from_secs_f64(missing).max(Duration::from_millis(1));
            return Err(self.epoch + now + wait);
        }
        Ok((state.level - floor) as u64)
    }

    /// Tells that `bytes` were read.
    pub(crate) fn took(&self, bytes: u64) {
        let (rate, now) = (self.link.rate, self.now());
        let mut state = self.link.lock();
        if let Some(Phase::Flowing(flow)) = state.phase(self.id) {
            flow.took(now, bytes);
        }
        if rate.is_finite() {
            state.fill(rate, now);
            state.level -= bytes as f64;
        }
    }

    /// Looks at the link after each slice; `progress` tells how much the measurement has shown of
    /// what is enough for a rate, and `bursts` whether its relay cannot keep up what it shows. What
    /// it has to do then.
    pub(crate) fn look(&self, progress: f64, bursts: bool) -> Notice {
        let (rate, now) = (self.link.rate, self.now());
        let mut state = self.link.lock();
        for member in state.members.values_mut() {
            if let Phase::Flowing(flow) = &mut member.phase {
                flow.advance(now);
            }
        }
        if let Some(Phase::Flowing(flow)) = state.phase(self.id) {
            (flow.progress, flow.bursts) = (progress, bursts);
        }
        if rate.is_finite() {
            state.fill(rate, now);
            state.correct(rate, now);
            state.admit(rate, now);
        }
        let waits = |one: &Member| matches!(one.phase, Phase::Waiting(_));
        let is_wanted = state.members.values().any(waits);
        let own = state.members.get(&self.id).and_then(Member::flowing);
        let is_large = own.is_some_and(|flow| flow.present() >= LARGE * rate);
        let others: f64 = state
            .members
            .iter()
            .filter_map(|(&id, one)| (id != self.id).then(|| one.flowing())?)
            .map(Flowing::present)
            .sum();
        Notice {
            stops: matches!(state.phase(self.id), Some(Phase::Flowing(flow)) if flow.stopped),
            enough: is_wanted.then_some(if is_large { SHORT_SAMPLE } else { 1.0 }),
            has_all: others <= (1.0 - WHOLE) * rate,
        }
    }
}

/// A notice of the link to a measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Notice {
    /// The link cannot carry it: it stops.
    pub(crate) stops: bool,
    /// Others wait: it stops as soon as it has shown this share of what is enough.
    pub(crate) enough: Option<f64>,
    /// It has the link to itself.
    pub(crate) has_all: bool,
}

impl Notice {
    /// Returns true if precision gives way: it is a large one, and others wait.
    pub(crate) fn gives_way(&self) -> bool {
        self.enough.is_some_and(|enough| enough < 1.0)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.link.end(self.id, self.now());
    }
}

impl State {
    fn phase(&mut self, id: RunId) -> Option<&mut Phase> {
        self.members.get_mut(&id).map(|member| &mut member.phase)
    }

    fn demand(&self, now: Duration) -> f64 {
        self.members.values().map(|one| one.demand(now)).sum()
    }

    /// Lets all begin that fit now.
    fn admit(&mut self, rate: f64, now: Duration) {
        if self.waits_for_others() {
            return;
        }
        let waiting = self
            .members
            .iter()
            .filter_map(|(&id, one)| match one.phase {
                Phase::Waiting(since) => Some((id, since)),
                _ => None,
            });
        // Since when somebody has waited too long, and its room.
        let mut overdue: Option<(Duration, f64)> = None;
        for (id, since) in waiting.collect::<Vec<_>>() {
            let Some(member) = self.members.get(&id) else {
                continue;
            };
            let room = self.room_for(member, rate, now);
            let fits = if member.is_small(rate) {
                self.fits_small(member.expected, rate, now)
            } else {
                let begun = |since| self.begun_since(since, now) + member.expected;
                overdue.is_none_or(|(since, kept)| begun(since) + kept <= rate)
                    && self.fits(room, rate, now)
            };
            if fits {
                self.begin(id, now);
            } else if now >= since + PATIENCE {
                overdue.get_or_insert((since + PATIENCE, room));
            }
        }
    }

    /// Returns true if all begin at one time, and some still open circuits.
    fn waits_for_others(&self) -> bool {
        let opens = |one: &Member| matches!(one.phase, Phase::Opening(_));
        self.together && self.members.values().any(opens)
    }

    /// The rate kept free for a measurement that begins: never all of the link, so that slow
    /// ones that still flow do not keep it waiting.
    fn room_for(&self, member: &Member, rate: f64, now: Duration) -> f64 {
        let variance: f64 = self.members.values().map(|one| one.variance(now)).sum();
        let caution = CAUTION * (variance + member.spread.powi(2)).sqrt();
        (member.expected + caution).min(WHOLE * rate)
    }

    /// The rate of measurements that began since then.
    fn begun_since(&self, since: Duration, now: Duration) -> f64 {
        let began = |one: &&Member| one.flowing().is_some_and(|flow| flow.since >= since);
        let those = self.members.values().filter(began);
        those.map(|one| one.demand(now)).sum()
    }

    fn fits(&self, room: f64, rate: f64, now: Duration) -> bool {
        let others = || self.members.values();
        let demand: f64 = others().map(|one| one.lasting_demand(now)).sum();
        let waits = |one: &&Member| matches!(one.phase, Phase::Waiting(_)) && one.is_small(rate);
        let small: f64 = others().filter(waits).map(|one| one.expected).sum();
        let kept = small.min((1.0 - WHOLE) * rate);
        demand + kept + room <= rate || others().all(|one| one.flowing().is_none())
    }

    /// Small ones fit as long as they are a small part of the link together, whoever has the
    /// rest: else their circuits would wait for seconds.
    fn fits_small(&self, expected: f64, rate: f64, now: Duration) -> bool {
        let small = self.members.values().filter(|one| one.is_small(rate));
        let demand: f64 = small.map(|one| one.demand(now)).sum();
        demand + expected <= (1.0 - WHOLE) * rate
    }

    fn begin(&mut self, id: RunId, now: Duration) {
        if let Some(member) = self.members.get_mut(&id) {
            member.phase = Phase::Flowing(Flowing::new(now));
            member.admitted.notify_one();
        }
    }

    /// Fills the bucket until now.
    fn fill(&mut self, rate: f64, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.level = (self.level + passed * rate).min(DEPTH * rate);
        self.at = self.at.max(now);
    }

    /// Stops a measurement if more flows than the link carries, and has for some time.
    fn correct(&mut self, rate: f64, now: Duration) {
        if self.level >= DEPTH / 2.0 * rate {
            self.short_since = None;
        } else if self.level < QUANTUM * rate {
            let since = *self.short_since.get_or_insert(now);
            if now >= since + PATIENT
                && let Some(id) = self.dispensable()
                && let Some(Phase::Flowing(flow)) = self.phase(id)
            {
                flow.stopped = true;
                self.short_since = None;
            }
        }
    }

    /// The measurement to stop: first one that has shown enough; else the one that exceeds
    /// its reservation most; none if there is only one.
    fn dispensable(&self) -> Option<RunId> {
        let flowing: Vec<(RunId, f64, &Flowing)> = self
            .members
            .iter()
            .filter_map(|(&id, one)| Some((id, one.expected, one.flowing()?)))
            .collect();
        if flowing.len() < 2 {
            return None;
        }
        let satisfied = flowing.iter().filter(|(.., flow)| flow.progress >= 1.0);
        let satisfied = satisfied.max_by(|a, b| a.2.present().total_cmp(&b.2.present()));
        let over = |&&(_, expected, flow): &&(RunId, f64, &Flowing)| flow.present() - expected;
        let young = |one: &&(RunId, f64, &Flowing)| one.2.progress == 0.0;
        let exceeding = || {
            let young = flowing.iter().filter(young);
            young.max_by(|a, b| over(a).total_cmp(&over(b)))
        };
        let cheapest = || flowing.iter().min_by_key(|(.., flow)| flow.bytes);
        satisfied
            .or_else(exceeding)
            .or_else(cheapest)
            .map(|&(id, ..)| id)
    }
}
