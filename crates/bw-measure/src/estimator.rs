//! When a transfer has shown its sustained rate.

use std::time::Duration;

use bw_results::{Slice, StopReason};

use crate::Estimate;

/// Decides, slice by slice, whether a transfer has shown enough, and which of
/// its slices count.
///
/// Implementations are pure: they see finished slices and nothing else.
pub trait Estimator: Send {
    /// Looks at all finished slices, one or more new ones among them;
    /// `Some` ends the transfer.
    fn observe(&mut self, slices: &[Slice]) -> Option<StopReason>;

    /// The part of what is enough for a rate that `slices` show, from 0 to 1. At 1 the transfer may
    /// end at once if others wait for the link: precision gives way before they do.
    fn progress(&self, slices: &[Slice]) -> f64 {
        let _ = slices;
        0.0
    }

    /// Returns true if the relay cannot keep up its present rate, so that the rate is not even a lower
    /// bound.
    fn is_burst(&self, slices: &[Slice]) -> bool {
        let _ = slices;
        false
    }

    /// The rate that the relay keeps up by its own word, in bytes per second, if the last of
    /// `slices` show a burst above it for long enough. A large burst may end with that if others
    /// wait for the link; any other has only what they leave of it.
    fn sustains(&self, slices: &[Slice]) -> Option<f64> {
        let _ = slices;
        None
    }

    /// The number of `slices` that are warm-up at their begin, once the transfer has ended.
    fn warm_up(&self, slices: &[Slice]) -> usize;

    /// The rate so far, for those who watch; `None` if the estimator does not tell.
    fn estimate(&self, slices: &[Slice]) -> Option<Estimate> {
        let _ = slices;
        None
    }
}

/// Takes the later half of the transfer, and ends it once both halves of that
/// half agree.
///
/// The earlier half is where the congestion window opens and where a full
/// token bucket lets a relay send above its rate; while either goes on, the
/// later half is not level and the transfer goes on too. The transfer ends at
/// [`longest`](LevelHalf::longest) in any case.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LevelHalf {
    /// The shortest transfer. Default 2 s.
    pub shortest: Duration,
    /// The longest transfer. Default 10 s, as sbws's `download_max`.
    pub longest: Duration,
    /// The largest difference of both halves of the later half, as a share of their
    /// mean. Default 0.05.
    pub tolerance: f64,
}

impl Default for LevelHalf {
    fn default() -> Self {
        Self {
            shortest: Duration::from_secs(2),
            longest: Duration::from_secs(10),
            tolerance: 0.05,
        }
    }
}

impl LevelHalf {
    /// A transfer of between `shortest` and `longest`.
    pub fn new(shortest: Duration, longest: Duration) -> Self {
        Self {
            shortest,
            longest: longest.max(shortest),
            ..Self::default()
        }
    }

    fn is_level(&self, slices: &[Slice]) -> bool {
        let later = &slices[self.warm_up(slices)..];
        let (first, second) = later.split_at(later.len() / 2);
        match (Slice::rate_of(first), Slice::rate_of(second)) {
            (Some(a), Some(b)) => (a - b).abs() <= self.tolerance * (a + b) / 2.0,
            _ => false,
        }
    }
}

impl Estimator for LevelHalf {
    fn observe(&mut self, slices: &[Slice]) -> Option<StopReason> {
        let elapsed = Duration::from_micros(slices.iter().map(|slice| slice.micros).sum());
        if elapsed >= self.longest {
            Some(StopReason::TimeLimit)
        } else if elapsed >= self.shortest && self.is_level(slices) {
            Some(StopReason::Confident)
        } else {
            None
        }
    }

    fn warm_up(&self, slices: &[Slice]) -> usize {
        slices.len() / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bw_results::Transfer;

    const SLICE: Duration = Duration::from_millis(100);

    /// Feeds the estimator with the rate (bytes per slice) at each slice.
    fn run(rate_at: impl Fn(usize) -> u64) -> (StopReason, Transfer) {
        let mut estimator = LevelHalf::default();
        let mut slices = Vec::new();
        loop {
            slices.push(Slice::new(SLICE, rate_at(slices.len())));
            if let Some(stop) = estimator.observe(&slices) {
                let warm_up = estimator.warm_up(&slices);
                return (stop, Transfer::new(slices, warm_up, stop));
            }
        }
    }

    #[test]
    fn a_steady_rate_takes_the_shortest_time() {
        let (stop, transfer) = run(|_| 1000);
        assert_eq!(stop, StopReason::Confident);
        assert_eq!(transfer.duration(), Duration::from_secs(2));
        assert_eq!(transfer.rate(), Some(10_000.0));
    }

    #[test]
    fn slow_start_is_left_out() {
        let (_, transfer) = run(|n| if n < 10 { 100 * n as u64 } else { 1000 });
        assert_eq!(transfer.rate(), Some(10_000.0));
    }

    #[test]
    fn a_burst_is_not_taken_for_the_rate() {
        let (stop, transfer) = run(|n| if n < 15 { 4000 } else { 1000 });
        assert_eq!(stop, StopReason::Confident);
        let rate = transfer.rate().unwrap();
        assert!((10_000.0..11_000.0).contains(&rate), "{rate}");
    }

    #[test]
    fn what_never_levels_ends_at_the_limit() {
        let (stop, transfer) = run(|n| 100 * n as u64);
        assert_eq!(stop, StopReason::TimeLimit);
        assert_eq!(transfer.duration(), Duration::from_secs(10));
        let (stop, transfer) = run(|_| 0);
        assert_eq!((stop, transfer.rate()), (StopReason::TimeLimit, None));
    }
}
