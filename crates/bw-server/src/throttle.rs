//! The rate limit of a server.

use std::sync::Arc;
use std::time::Duration;

use leaky_bucket::RateLimiter;

use crate::server::CHUNK;

/// The interval at which the bucket is filled; it holds as much as flows in this time.
const INTERVAL: Duration = Duration::from_millis(50);

/// A limit that all transfers share, or none.
#[derive(Clone, Default)]
pub(crate) struct Throttle {
    limit: Option<(u64, Arc<RateLimiter>)>,
}

impl Throttle {
    /// At most `rate` bytes per second; at least 20.
    pub(crate) fn new(rate: Option<u64>) -> Self {
        let limit = rate.map(|rate| {
            let per_second = usize::try_from(rate).unwrap_or(usize::MAX);
            let refill = (per_second / 20).max(1);
            let bucket = RateLimiter::builder()
                .initial(0)
                .max(refill)
                .refill(refill)
                .interval(INTERVAL)
                .build();
            (rate, Arc::new(bucket))
        });
        Self { limit }
    }

    pub(crate) fn rate(&self) -> Option<u64> {
        self.limit.as_ref().map(|(rate, _)| *rate)
    }

    /// The number of bytes to move at a time, so that transfers take turns.
    pub(crate) fn step(&self) -> usize {
        match &self.limit {
            None => CHUNK,
            Some((_, bucket)) => bucket.refill().min(CHUNK),
        }
    }

    /// Waits until `bytes` may be moved.
    pub(crate) async fn take(&self, bytes: usize) {
        if let Some((_, bucket)) = &self.limit {
            bucket.acquire(bytes).await;
        }
    }
}
