//! Keeping the scanner within its share of the link.

use std::sync::Mutex;
use std::time::Duration;

use bw_file::BytesPerSecond;
use tokio::time::{Instant, sleep_until};

/// Lets payload be taken no faster than a rate, over all measurements together.
///
/// The scheduler plans within the link; what it cannot foresee, relays that
/// send above their rate at first or are faster than anybody knew, is held
/// back here by not reading, which tor's flow control passes on to the sender.
#[derive(Debug)]
pub struct Pacer {
    rate: f64,
    /// When what was taken so far is paid for.
    paid: Mutex<Option<Instant>>,
}

/// How far ahead of the rate a moment may be.
const SLACK: Duration = Duration::from_millis(100);

impl Pacer {
    /// No more than `rate`; none at all if that is 0.
    pub const fn new(rate: BytesPerSecond) -> Self {
        Self {
            rate: rate.value() as f64,
            paid: Mutex::new(None),
        }
    }

    /// Waits until `bytes` that were taken now do not exceed the rate any more.
    pub async fn pay(&self, bytes: u64) {
        if self.rate <= 0.0 {
            return;
        }
        let now = Instant::now();
        let until = {
            let mut paid = self
                .paid
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let cost = Duration::from_secs_f64(bytes as f64 / self.rate);
            let until = paid.map_or(now, |paid| paid.max(now)) + cost;
            *paid = Some(until);
            until
        };
        if until > now + SLACK {
            sleep_until(until - SLACK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn several_share_one_rate() {
        let pacer = Pacer::new(BytesPerSecond::new(1_000_000));
        let begin = Instant::now();
        let take = async || {
            for _ in 0..100 {
                pacer.pay(10_000).await;
            }
        };
        tokio::join!(take(), take(), take());
        let took = begin.elapsed().as_secs_f64();
        assert!((2.8..3.1).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_below_the_rate_is_not_held_back() {
        let pacer = Pacer::new(BytesPerSecond::new(1_000_000));
        let begin = Instant::now();
        for _ in 0..100 {
            pacer.pay(9_000).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(begin.elapsed() < Duration::from_millis(1200));
    }
}
