//! One direction of a line, with a capacity.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bw_file::BytesPerSecond;
use tokio::time::Instant;

/// Bytes that an idle line takes at once, in time: enough to make up for a timer that is
/// late on a busy machine, and a fifth of the 100 ms after which tor looks again.
pub(crate) const DEPTH: Duration = Duration::from_millis(20);

/// A token bucket as the time from which on the line is free: who takes bytes is told when
/// their last one has passed, and those who take at the same time take turns.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Bytes per second; none: no limit.
    rate: Option<f64>,
    free: Mutex<Instant>,
}

impl Bucket {
    pub(super) fn new(rate: Option<BytesPerSecond>) -> Self {
        Self {
            rate: rate.map(|rate| rate.value() as f64),
            free: Mutex::new(Instant::now()),
        }
    }

    /// When `bytes` that come now have passed.
    pub(super) fn take(&self, bytes: usize, now: Instant) -> Instant {
        let Some(rate) = self.rate else {
            return now;
        };
        // No panic can leave it half-changed.
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = now.checked_sub(DEPTH).map_or(*free, |idle| idle.max(*free));
        *free = begin + Duration::from_secs_f64(bytes as f64 / rate);
        now.max(*free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_at_the_rate_and_idle_time_is_worth_one_depth() {
        let bucket = Bucket::new(Some(BytesPerSecond::new(100_000)));
        tokio::time::advance(Duration::from_secs(10)).await;
        let now = Instant::now();
        assert_eq!(bucket.take(2000, now), now);
        for taken in 1..=100_u32 {
            let passed = bucket.take(1000, now);
            assert_eq!(passed - now, Duration::from_millis(10) * taken);
        }
        assert_eq!(Bucket::new(None).take(usize::MAX, now), now);
    }
}
