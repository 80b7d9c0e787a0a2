//! Counting bytes per slice of time, where they arrive.

use std::collections::BTreeSet;
use std::time::Duration;

use bw_results::Slice;

/// Sorts arriving bytes into slices of equal length.
///
/// Fed with the time since the start of the transfer, so that it needs no
/// clock; times that go backwards count as the latest time seen.
#[derive(Clone, Debug)]
pub struct Meter {
    length: Duration,
    /// Finished slices.
    slices: Vec<Slice>,
    /// Bytes of the slice that is being filled.
    bytes: u64,
    /// The latest time seen.
    now: Duration,
    /// Flows from which reading is withheld now.
    withheld: BTreeSet<usize>,
    /// Those from which it was withheld at some time of the slice that is being filled.
    throttled: BTreeSet<usize>,
}

impl Meter {
    /// The shortest slice: shorter ones would only count the scheduler's jitter.
    pub const MIN_LENGTH: Duration = Duration::from_millis(1);

    /// A meter of slices of `length`, at least [`MIN_LENGTH`](Self::MIN_LENGTH).
    pub fn new(length: Duration) -> Self {
        Self {
            length: length.max(Self::MIN_LENGTH),
            slices: Vec::new(),
            bytes: 0,
            now: Duration::ZERO,
            withheld: BTreeSet::new(),
            throttled: BTreeSet::new(),
        }
    }

    /// Lets time pass until `now` without a byte; returns whether that
    /// finished at least one slice.
    pub fn advance(&mut self, now: Duration) -> bool {
        let before = self.slices.len();
        self.now = self.now.max(now);
        while self.now >= self.next_boundary() {
            let slice = self.close(self.length);
            self.slices.push(slice);
        }
        self.slices.len() > before
    }

    /// Counts `bytes` that arrived at `now`; returns whether time passed a
    /// slice's end. A byte that comes exactly at a boundary is in the later slice.
    pub fn add(&mut self, now: Duration, bytes: u64) -> bool {
        let finished = self.advance(now);
        self.bytes += bytes;
        finished
    }

    /// From `now` on the scanner reads nothing of `flow`, although data is there.
    pub fn withhold(&mut self, now: Duration, flow: usize) {
        self.advance(now);
        self.withheld.insert(flow);
        self.throttled.insert(flow);
    }

    /// From `now` on it reads `flow` again.
    pub fn release(&mut self, now: Duration, flow: usize) {
        self.advance(now);
        self.withheld.remove(&flow);
    }

    /// Returns true if the scanner withholds reading from any flow.
    pub fn is_throttled(&self) -> bool {
        !self.withheld.is_empty()
    }

    /// The slice that is being filled, and begins the next one.
    fn close(&mut self, length: Duration) -> Slice {
        let throttled = std::mem::replace(&mut self.throttled, self.withheld.clone());
        let flows = u16::try_from(throttled.len()).unwrap_or(u16::MAX);
        Slice::new(length, std::mem::take(&mut self.bytes)).with_throttled(flows)
    }

    /// The slices that are finished.
    pub fn slices(&self) -> &[Slice] {
        &self.slices
    }

    /// When the slice that is being filled ends.
    pub fn next_boundary(&self) -> Duration {
        let finished = u32::try_from(self.slices.len()).unwrap_or(u32::MAX);
        self.length.saturating_mul(finished.saturating_add(1))
    }

    /// All slices, the unfinished one with the length that it reached.
    pub fn finish(mut self) -> Vec<Slice> {
        let finished = u32::try_from(self.slices.len()).unwrap_or(u32::MAX);
        let rest = self
            .now
            .saturating_sub(self.length.saturating_mul(finished));
        if self.bytes > 0 || rest > Duration::ZERO {
            let slice = self.close(rest);
            self.slices.push(slice);
        }
        self.slices
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn silence_makes_empty_slices() {
        let mut meter = Meter::new(ms(100));
        assert!(!meter.add(ms(10), 5));
        assert!(meter.add(ms(350), 7));
        let bytes: Vec<u64> = meter.slices().iter().map(|slice| slice.bytes).collect();
        assert_eq!(bytes, [5, 0, 0]);
        assert_eq!(meter.next_boundary(), ms(400));
        let all = meter.finish();
        assert_eq!(all.last(), Some(&Slice::new(ms(50), 7)));
    }

    #[test]
    fn time_does_not_go_back() {
        let mut meter = Meter::new(ms(100));
        meter.add(ms(150), 1);
        meter.add(ms(20), 2);
        assert_eq!(
            meter.finish(),
            [Slice::new(ms(100), 0), Slice::new(ms(50), 3)]
        );
    }

    #[test]
    fn a_slice_knows_from_how_many_flows_reading_was_withheld() {
        let mut meter = Meter::new(ms(100));
        meter.withhold(ms(10), 0);
        meter.release(ms(20), 0);
        meter.withhold(ms(50), 1);
        meter.add(ms(250), 9);
        meter.release(ms(260), 1);
        meter.advance(ms(400));
        let throttled = meter.slices().iter().map(|slice| slice.throttled);
        assert_eq!(throttled.collect::<Vec<_>>(), [2, 1, 1, 0]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost(arrivals in prop::collection::vec((0u64..5_000, 0u64..100_000), 0..50)) {
            let mut meter = Meter::new(ms(70));
            let mut last = 0;
            let mut sorted = arrivals.clone();
            sorted.sort_unstable();
            for &(at, bytes) in &sorted {
                meter.add(ms(at), bytes);
                last = at;
            }
            let slices = meter.finish();
            let total: u64 = sorted.iter().map(|&(_, bytes)| bytes).sum();
            prop_assert_eq!(slices.iter().map(|slice| slice.bytes).sum::<u64>(), total);
            prop_assert_eq!(slices.iter().map(|slice| slice.micros).sum::<u64>(), last * 1000);
        }
    }
}
