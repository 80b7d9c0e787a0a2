//! Keeping the scanner within its share of the link.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bw_file::BytesPerSecond;
use tokio::time::{Instant, sleep_until};

/// Lets all measurements together read no faster than a rate.
///
/// Time is divided into slices of 50 ms, and in each of them the link's bytes
/// among the measurements, the oldest first. So if all together want more than there
/// is, the youngest are held back and not all a little, and nothing that is read is
/// read in vain: what a measurement shows while it is held back says nothing of its
/// relay. It is told so, and goes on when those before it have ended.
///
/// What is not read waits at the sender: tor's flow control passes it on. A twentieth of
/// the rate is left for what comes before the sender knows.
#[derive(Debug)]
pub struct Pacer {
    /// Bytes per slice; 0 for no limit.
    all: f64,
    state: Mutex<State>,
}

/// A measurement's part of the link; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Lease<'a> {
    pacer: &'a Pacer,
    id: u64,
}

/// One flow of a measurement.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    lease: &'a Lease<'a>,
    id: u64,
}

/// Leave to read so many bytes until a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leave {
    slice: u64,
    pub(crate) bytes: u64,
    pub(crate) until: Instant,
}

/// How finely the link is divided.
const SLICE: Duration = Duration::from_millis(50);
/// The share of the link that is divided.
const DIVIDED: f64 = 0.95;
/// In how many slices in a row a measurement must use up its bytes to be held
/// back: within fewer, a relay that sends in bursts catches up by itself (tor
/// fills token buckets each 100 ms).
const RUN: u32 = 4;
/// How much more than lately a flow may want that grows or used up its bytes: slow
/// start doubles in a round trip.
const GROWTH: f64 = 2.0;
/// How much more any other may want.
const JITTER: f64 = 1.1;
/// What is remembered from slice to slice of how much a flow took.
const MEMORY: f64 = 0.8;
/// What any flow may want, in bytes.
const FIRST: f64 = 12_000.0;
/// The share of its bytes that is all of them: some do not fit in what is read at once.
const SPENT: f64 = 0.98;
/// Whoever has this share of the link has the link: nothing is to be had by waiting.
const WHOLE: f64 = 0.9;
/// What comes of a flow, in bytes, before its sender stops because nobody reads: 500
/// cells of 498 bytes (proposal 324, `cc_xoff_client`).
const WAITING: f64 = 500.0 * 498.0;
/// The share of the link that all have in any case, so that circuits that are held back
/// do not seem dead.
const TRICKLE: f64 = 0.02;

#[derive(Debug)]
struct State {
    epoch: Option<Instant>,
    /// The slice that the flows' bytes are of.
    slice: u64,
    /// The oldest has the lowest number.
    leases: BTreeMap<u64, Leased>,
    next: u64,
}

#[derive(Debug, Default)]
struct Leased {
    flows: BTreeMap<u64, Taking>,
    /// In how many slices in a row it used up its bytes.
    spent: u32,
    /// What may have come and waits to be read, in bytes.
    waiting: f64,
}

/// What a flow may take, and takes.
#[derive(Debug, Default)]
struct Taking {
    /// Bytes of this slice, and read of them.
    given: f64,
    taken: f64,
    /// The same of the slice before, of which all that was read is known only in
    /// the course of this one.
    before: (f64, f64),
    /// What it lately took in a slice, and the most that it ever took.
    lately: f64,
    most: f64,
    /// Whether it takes more than ever.
    grows: bool,
}

impl Pacer {
    /// No more than `rate`; whatever comes if that is 0.
    pub const fn new(rate: BytesPerSecond) -> Self {
        Self {
            all: rate.value() as f64 * DIVIDED * SLICE.as_millis() as f64 / 1000.0,
            state: Mutex::new(State {
                epoch: None,
                slice: 0,
                leases: BTreeMap::new(),
                next: 0,
            }),
        }
    }

    /// A part of the link for a measurement whose payload begins to flow.
    pub(crate) fn lease(&self) -> Lease<'_> {
        let mut state = self.lock();
        let id = state.next_id();
        state.leases.insert(id, Leased::default());
        Lease { pacer: self, id }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease<'_> {
    /// Whether the link holds the measurement back now.
    pub(crate) fn is_held(&self) -> bool {
        let state = self.pacer.lock();
        state.leases.get(&self.id).is_some_and(Leased::is_held)
    }

    /// For one more flow.
    pub(crate) fn reader(&self) -> Reader<'_> {
        let mut state = self.pacer.lock();
        let id = state.next_id();
        if let Some(lease) = state.leases.get_mut(&self.id) {
            lease.flows.insert(id, Taking::default());
        }
        Reader { lease: self, id }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.pacer.lock().leases.remove(&self.id);
    }
}

impl Reader<'_> {
    /// Waits until something may be read.
    pub(crate) async fn leave(&self) -> Leave {
        loop {
            let leave = self.leave_now(Instant::now());
            if leave.bytes > 0 {
                return leave;
            }
            sleep_until(leave.until).await;
        }
    }

    fn leave_now(&self, now: Instant) -> Leave {
        let pacer = self.lease.pacer;
        let mut state = pacer.lock();
        let until = state.turn(now, pacer.all);
        let slice = state.slice;
        let bytes = match self.taking(&mut state) {
            Some(taking) if pacer.all > 0.0 => (taking.given - taking.taken) as u64,
            _ => u64::MAX,
        };
        Leave {
            slice,
            bytes,
            until,
        }
    }

    /// Tells that `bytes` were read with `leave`.
    pub(crate) fn took(&self, leave: Leave, bytes: u64) {
        let mut state = self.lease.pacer.lock();
        let slice = state.slice;
        if let Some(taking) = self.taking(&mut state) {
            let taken = if leave.slice == slice {
                &mut taking.taken
            } else {
                &mut taking.before.1
            };
            *taken += bytes as f64;
        }
    }

    fn taking<'s>(&self, state: &'s mut State) -> Option<&'s mut Taking> {
        let lease = state.leases.get_mut(&self.lease.id)?;
        lease.flows.get_mut(&self.id)
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        let mut state = self.lease.pacer.lock();
        if let Some(lease) = state.leases.get_mut(&self.lease.id) {
            lease.flows.remove(&self.id);
        }
    }
}

impl State {
    fn next_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Divides the link's bytes anew if another slice has begun; returns the present
    /// one's end.
    fn turn(&mut self, now: Instant, all: f64) -> Instant {
        let epoch = *self.epoch.get_or_insert(now);
        let slice = (now - epoch).as_micros() / SLICE.as_micros() + 1;
        let slice = u64::try_from(slice).unwrap_or(u64::MAX);
        if slice > self.slice {
            let passed = i32::try_from(slice - self.slice).unwrap_or(i32::MAX);
            let flowing = |lease: &&mut Leased| !lease.flows.is_empty();
            let mut leases: Vec<&mut Leased> = self.leases.values_mut().filter(flowing).collect();
            for lease in &mut leases {
                lease.close(passed, all);
            }
            divide(leases, all);
            self.slice = slice;
        }
        epoch + SLICE * u32::try_from(slice).unwrap_or(u32::MAX)
    }
}

impl Leased {
    /// Goes on by `passed` slices of the link's `all` bytes.
    fn close(&mut self, passed: i32, all: f64) {
        let (mut given, mut taken) = (0.0, 0.0);
        for flow in self.flows.values_mut() {
            given += flow.before.0;
            taken += flow.before.1;
            flow.close(passed);
        }
        let is_spent = given > 0.0 && taken >= SPENT * given;
        self.spent = if !is_spent {
            0
        } else if given >= WHOLE * all {
            self.spent.saturating_sub(1)
        } else {
            (self.spent + 1).min(RUN)
        };
        if !is_spent {
            self.waiting = 0.0;
        }
    }

    fn is_held(&self) -> bool {
        self.spent == RUN
    }

    fn wanted(&self) -> f64 {
        self.flows.values().map(Taking::wanted).sum()
    }

    /// What comes of it beyond `given` and begins to wait, at most.
    fn wait(&mut self, given: f64) -> f64 {
        let room = (WAITING * self.flows.len() as f64 - self.waiting).max(0.0);
        let waits = (self.wanted() - given).clamp(0.0, room);
        self.waiting += waits;
        waits
    }
}

impl Taking {
    fn close(&mut self, passed: i32) {
        let last = self.taken.max(self.before.1);
        self.lately = last.max(self.lately * MEMORY.powi(passed));
        self.grows = last > 1.05 * self.most;
        self.most = self.most.max(last);
        self.before = (self.given, self.taken);
    }

    fn wanted(&self) -> f64 {
        let (given, taken) = self.before;
        let more = if self.grows || taken >= SPENT * given {
            GROWTH
        } else {
            JITTER
        };
        more * self.lately + FIRST
    }
}

/// Divides `all` bytes among those whose payload flows, the oldest first.
fn divide(mut leases: Vec<&mut Leased>, all: f64) {
    let count = leases.len().max(1) as f64;
    let trickle = TRICKLE * all / count;
    let mut left = all - trickle * count;
    let mut shares = Vec::with_capacity(leases.len());
    for lease in &mut leases {
        let more = (lease.wanted() - trickle).clamp(0.0, left);
        left -= more;
        let given = trickle + more;
        shares.push((given - lease.wait(given)).max(trickle));
    }
    for (lease, share) in leases.into_iter().zip(shares) {
        let wanted: Vec<f64> = lease.flows.values().map(Taking::wanted).collect();
        let given = fill(&wanted, share + left / count);
        for (flow, given) in lease.flows.values_mut().zip(given) {
            // What could not be divided was read in advance.
            let debt = (flow.taken - flow.given).max(0.0);
            (flow.given, flow.taken) = (given - debt, 0.0);
        }
    }
}

/// Divides `all` by max-min fairness among those who want so much; all alike
/// have what is left then.
fn fill(wanted: &[f64], all: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|&a, &b| wanted[a].total_cmp(&wanted[b]));
    let (mut shares, mut left) = (vec![0.0; wanted.len()], all.max(0.0));
    for (settled, &index) in order.iter().enumerate() {
        let share = wanted[index].min(left / (order.len() - settled) as f64);
        shares[index] = share;
        left -= share;
    }
    let rest = left / wanted.len().max(1) as f64;
    shares.iter_mut().for_each(|share| *share += rest);
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout_at;

    /// 475,000 bytes are divided in each slice.
    const LINK: BytesPerSecond = BytesPerSecond::new(10_000_000);

    /// Reads for `slices` what comes at `rate` bytes per slice and is waited for;
    /// the bytes of each slice, and whether the link held it back in the end.
    async fn read(pacer: &Pacer, begins: u32, slices: u32, rate: u64) -> (Vec<u64>, bool) {
        let epoch = Instant::now();
        sleep_until(epoch + SLICE * begins).await;
        let lease = pacer.lease();
        let reader = lease.reader();
        let mut read = vec![0; begins as usize];
        for slice in begins..begins + slices {
            let end = epoch + SLICE * (slice + 1);
            let bytes = match timeout_at(end, reader.leave()).await {
                Ok(leave) if leave.until == end => {
                    let bytes = leave.bytes.min(rate);
                    sleep_until(end).await;
                    reader.took(leave, bytes);
                    bytes
                }
                _ => 0,
            };
            read.push(bytes);
        }
        (read, lease.is_held())
    }

    fn mean(bytes: &[u64]) -> f64 {
        bytes.iter().sum::<u64>() as f64 / bytes.len().max(1) as f64
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_has_what_it_wants_and_no_slice_is_overdrawn() {
        let pacer = Pacer::new(LINK);
        let (old, young, late) = tokio::join!(
            read(&pacer, 0, 60, 300_000),
            read(&pacer, 1, 100, 300_000),
            read(&pacer, 2, 40, 10_000),
        );
        let all = (0..101).map(|slice| {
            let of = |read: &(Vec<u64>, bool)| read.0.get(slice).copied().unwrap_or(0);
            of(&old) + of(&young) + of(&late)
        });
        let most = all.max().unwrap();
        assert!(most <= 475_000, "{most} bytes in a slice");
        assert!(mean(&old.0[20..]) > 299_000.0 && !old.1, "{old:?}");
        let (meanwhile, then) = (mean(&young.0[20..60]), mean(&young.0[80..]));
        assert!((120_000.0..175_000.0).contains(&meanwhile), "{meanwhile}");
        assert!(then > 299_000.0 && !young.1, "{then}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_wants_more_than_is_left_is_held_back_and_whoever_has_the_link_is_not() {
        let pacer = Pacer::new(LINK);
        let (alone, _) = tokio::join!(read(&pacer, 0, 40, 900_000), async {});
        assert!(!alone.1 && mean(&alone.0[20..]) > 470_000.0, "{alone:?}");
        let (old, young) = tokio::join!(read(&pacer, 0, 40, 300_000), read(&pacer, 0, 40, 300_000));
        assert!(!old.1 && young.1, "{old:?} {young:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_held_back_without_a_limit() {
        let pacer = Pacer::new(BytesPerSecond::new(0));
        let (bytes, held) = read(&pacer, 0, 20, 1 << 40).await;
        assert!(bytes.iter().all(|&bytes| bytes == 1 << 40) && !held);
    }
}
