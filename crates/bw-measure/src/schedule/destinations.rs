//! The web servers of a scan: which one to use next, and which to leave alone.

use std::time::Duration;

use rand::RngExt;
use rand::seq::IndexedRandom;

use crate::{Destination, RunId};

/// The results of a web server in a scan.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DestinationReport {
    /// The web server.
    pub destination: Destination,
    /// Measurements made against it.
    pub measured: u64,
    /// Attempts that failed, whoever was at fault.
    pub failed: u64,
    /// Payload bytes it sent or received.
    pub bytes: u64,
    /// The rate that running measurements are expected to take of it, in bytes per second.
    pub reserved: f64,
    /// The number of times that it was left alone for a while.
    pub outages: u32,
    /// The median of measured over expected rates; `None` without any. A
    /// server that throttles has a lower one than the others.
    pub ratio: Option<f64>,
}

/// The failures in a row, while others work, that make a server suspect.
const RUN: u32 = 5;
/// The time for which a suspect server is left alone at first; doubled each time.
const BACK_OFF: Duration = Duration::from_secs(15);
/// The longest such time: it is used again within minutes of its recovery.
const LONGEST: Duration = Duration::from_secs(240);
/// Measurements of a server before it can be called throttling.
const ENOUGH: usize = 10;
/// The rate of a throttling server, as a share of the others'.
const THROTTLED: f64 = 0.6;
/// The number of ratios that are remembered of each server.
const REMEMBERED: usize = 100;

#[derive(Debug)]
struct Entry {
    destination: Destination,
    /// Running measurements, and the bytes per second that they are expected to take.
    running: u32,
    reserved: f64,
    /// Failures since the last success.
    run: u32,
    /// Those of them that relays are charged with.
    charged: Vec<RunId>,
    /// Left alone until then.
    down_until: Option<Duration>,
    back_off: Duration,
    last_success: Option<Duration>,
    ratios: Vec<f64>,
    measured: u64,
    failed: u64,
    bytes: u64,
    outages: u32,
}

impl Entry {
    fn is_up(&self, now: Duration) -> bool {
        self.down_until.is_none_or(|until| until <= now)
    }

    fn ratio(&self) -> Option<f64> {
        median(self.ratios.clone())
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// The meaning of a failure for its server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Suspicion {
    /// Nothing yet.
    None,
    /// It is down, and was before.
    StillDown,
    /// It is down since now; these earlier failures were its fault too.
    Down(Vec<RunId>),
}

/// The web servers with their health: a pure state machine. Times are since
/// the start of the scan.
#[derive(Debug)]
pub(super) struct Destinations {
    entries: Vec<Entry>,
    /// The rate that each server may be asked for, in bytes per second.
    limit: f64,
}

impl Destinations {
    pub(super) fn new(destinations: Vec<Destination>, limit: Option<f64>) -> Self {
        let entries = destinations.into_iter().map(|destination| Entry {
            destination,
            running: 0,
            reserved: 0.0,
            run: 0,
            charged: Vec::new(),
            down_until: None,
            back_off: BACK_OFF,
            last_success: None,
            ratios: Vec::new(),
            measured: 0,
            failed: 0,
            bytes: 0,
            outages: 0,
        });
        Self {
            entries: entries.collect(),
            limit: limit.unwrap_or(f64::INFINITY),
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<&Destination> {
        self.entries.get(index).map(|entry| &entry.destination)
    }

    /// The least loaded of those that work and have room for `rate`; one that
    /// is idle has room for any. Those that throttle come last.
    pub(super) fn choose(
        &self,
        rate: f64,
        now: Duration,
        rng: &mut impl rand::Rng,
    ) -> Option<usize> {
        let has_room = |entry: &Entry| entry.running == 0 || entry.reserved + rate <= self.limit;
        let usable = |throttled: bool| {
            let entries = self.entries.iter().enumerate();
            let usable: Vec<(usize, f64)> = entries
                .filter(|(index, entry)| {
                    entry.is_up(now) && has_room(entry) && self.throttles(*index) == throttled
                })
                .map(|(index, entry)| (index, entry.reserved))
                .collect();
            usable
        };
        let mut least = |usable: Vec<(usize, f64)>| {
            let least = usable
                .iter()
                .map(|&(_, load)| load)
                .min_by(f64::total_cmp)?;
            let ties: Vec<usize> = usable
                .iter()
                .filter(|&&(_, load)| load <= least)
                .map(|&(index, _)| index)
                .collect();
            ties.choose(rng).copied()
        };
        let honest = usable(false);
        if honest.is_empty() {
            least(usable(true))
        } else {
            least(honest)
        }
    }

    /// When a server that is left alone is tried again, if all are.
    pub(super) fn all_down_until(&self, now: Duration) -> Option<Duration> {
        let downs = self
            .entries
            .iter()
            .map(|entry| entry.down_until.filter(|&until| until > now));
        downs.collect::<Option<Vec<_>>>()?.into_iter().min()
    }

    /// A measurement that is expected to take `rate` begins.
    pub(super) fn begin(&mut self, index: usize, rate: f64) {
        if let Some(entry) = self.entries.get_mut(index) {
            entry.running += 1;
            entry.reserved += rate;
        }
    }

    /// A measurement that was expected to take `rate` ends.
    pub(super) fn end(&mut self, index: usize, rate: f64) {
        if let Some(entry) = self.entries.get_mut(index) {
            entry.running = entry.running.saturating_sub(1);
            entry.reserved -= rate;
            // Sums of floats do not come back to nothing by themselves.
            if entry.running == 0 {
                entry.reserved = 0.0;
            }
        }
    }

    /// Changes what a running measurement is expected to take.
    pub(super) fn reserve(&mut self, index: usize, change: f64) {
        if let Some(entry) = self.entries.get_mut(index) {
            entry.reserved = (entry.reserved + change).max(0.0);
        }
    }

    /// A measurement came, with `ratio` of what was expected. Returns whether the server
    /// was down.
    pub(super) fn succeeded(
        &mut self,
        index: usize,
        now: Duration,
        bytes: u64,
        ratio: Option<f64>,
    ) -> bool {
        let Some(entry) = self.entries.get_mut(index) else {
            return false;
        };
        entry.measured += 1;
        entry.bytes += bytes;
        entry.run = 0;
        entry.charged.clear();
        let was_down = entry.down_until.take().is_some();
        entry.back_off = BACK_OFF;
        entry.last_success = Some(now);
        if let Some(ratio) = ratio {
            if entry.ratios.len() == REMEMBERED {
                entry.ratios.remove(0);
            }
            entry.ratios.push(ratio);
        }
        was_down
    }

    /// An attempt failed, maybe through the server's fault. One that fails
    /// while another works is left alone for a while.
    pub(super) fn failed(
        &mut self,
        index: usize,
        (run, now): (RunId, Duration),
        bytes: u64,
        rng: &mut impl rand::Rng,
    ) -> Suspicion {
        let newest_elsewhere = self
            .entries
            .iter()
            .enumerate()
            .filter(|&(other, entry)| other != index && entry.is_up(now))
            .filter_map(|(_, entry)| entry.last_success)
            .max();
        let Some(entry) = self.entries.get_mut(index) else {
            return Suspicion::None;
        };
        entry.failed += 1;
        entry.bytes += bytes;
        entry.run += 1;
        // After a pause one failure is enough.
        let on_probation = entry.down_until.is_some();
        let others_work = newest_elsewhere > entry.last_success;
        if others_work && (entry.run >= RUN || on_probation) {
            let jitter = rng.random_range(1.0..1.25);
            entry.down_until = Some(now + entry.back_off.mul_f64(jitter));
            entry.back_off = (entry.back_off * 2).min(LONGEST);
            entry.outages += 1;
        }
        if entry.is_up(now) {
            // More than a run of them is never charged while another server works.
            entry.charged.truncate(REMEMBERED);
            entry.charged.push(run);
            Suspicion::None
        } else if on_probation {
            Suspicion::StillDown
        } else {
            Suspicion::Down(std::mem::take(&mut entry.charged))
        }
    }

    /// Returns true if measurements against this server are much slower than those
    /// against the others.
    pub(super) fn throttles(&self, index: usize) -> bool {
        let Some(entry) = self
            .entries
            .get(index)
            .filter(|entry| entry.ratios.len() >= ENOUGH)
        else {
            return false;
        };
        let others = self.entries.iter().enumerate();
        let others = others
            .filter(|&(other, entry)| other != index && entry.ratios.len() >= ENOUGH)
            .flat_map(|(_, entry)| entry.ratios.iter().copied())
            .collect();
        match (entry.ratio(), median(others)) {
            (Some(own), Some(others)) => own < THROTTLED * others,
            _ => false,
        }
    }

    pub(super) fn report(&self) -> Vec<DestinationReport> {
        let entries = self.entries.iter();
        entries
            .map(|entry| DestinationReport {
                destination: entry.destination.clone(),
                measured: entry.measured,
                failed: entry.failed,
                bytes: entry.bytes,
                reserved: entry.reserved,
                outages: entry.outages,
                ratio: entry.ratio(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn pool(count: usize, limit: Option<f64>) -> (Destinations, StdRng) {
        let url = |number| format!("https://d{number}.example/").parse().unwrap();
        let pool = Destinations::new((0..count).map(url).collect(), limit);
        (pool, StdRng::seed_from_u64(1))
    }

    #[test]
    fn the_load_is_spread() {
        let (mut pool, mut rng) = pool(2, Some(10.0));
        pool.begin(0, 6.0);
        assert_eq!(pool.choose(3.0, secs(0), &mut rng), Some(1));
        pool.begin(1, 8.0);
        assert_eq!(pool.choose(3.0, secs(0), &mut rng), Some(0));
        assert_eq!(pool.choose(5.0, secs(0), &mut rng), None);
        pool.end(1, 8.0);
        assert_eq!(
            pool.choose(500.0, secs(0), &mut rng),
            Some(1),
            "an idle one takes any"
        );
    }

    #[test]
    fn one_that_fails_while_another_works_is_left_alone_and_comes_back() {
        let (mut pool, mut rng) = pool(2, None);
        pool.succeeded(1, secs(1), 10, None);
        let failed = |pool: &mut Destinations, run, at| {
            let run = (RunId(run), secs(at));
            pool.failed(0, run, 0, &mut StdRng::seed_from_u64(run.0.0))
        };
        for run in 1..u64::from(RUN) {
            assert_eq!(failed(&mut pool, run, 2), Suspicion::None);
        }
        let earlier = (1..u64::from(RUN)).map(RunId).collect();
        assert_eq!(failed(&mut pool, 9, 2), Suspicion::Down(earlier));
        for _ in 0..50 {
            assert_eq!(pool.choose(1.0, secs(10), &mut rng), Some(1));
        }
        assert_eq!(pool.all_down_until(secs(10)), None);
        let tried = (0..50).any(|_| pool.choose(1.0, secs(25), &mut rng) == Some(0));
        assert!(tried, "after its pause");
        assert!(!pool.succeeded(1, secs(24), 10, None));
        let again = failed(&mut pool, 10, 25);
        assert_eq!(again, Suspicion::StillDown, "one more failure is enough");
        assert!(
            (0..50).all(|_| pool.choose(1.0, secs(50), &mut rng) == Some(1)),
            "twice as long"
        );
        assert!(pool.succeeded(0, secs(70), 10, None), "it was down");
        assert_eq!(failed(&mut pool, 11, 71), Suspicion::None);
        assert_eq!(pool.report()[0].outages, 2);
    }

    #[test]
    fn the_only_one_that_works_is_never_left_alone() {
        let (mut pool, mut rng) = pool(1, None);
        pool.succeeded(0, secs(1), 10, None);
        for run in 0..1000 {
            let suspicion = pool.failed(0, (RunId(run), secs(2)), 0, &mut rng);
            assert_eq!(suspicion, Suspicion::None);
        }
        assert!(pool.entries[0].charged.len() <= REMEMBERED + 1);
    }

    #[test]
    fn one_that_throttles_is_used_last() {
        let (mut pool, mut rng) = pool(2, None);
        for _ in 0..ENOUGH {
            pool.succeeded(0, secs(1), 1, Some(0.3));
            pool.succeeded(1, secs(1), 1, Some(0.8));
        }
        assert!(pool.throttles(0) && !pool.throttles(1));
        pool.begin(1, 5.0);
        assert_eq!(pool.choose(1.0, secs(2), &mut rng), Some(1));
    }
}
