//! A relay's own rate limit, and what it lets pass.

use bw_results::DescriptorFacts;

/// The token bucket of a relay, as its descriptor has it (`bandwidth` line,
/// dir-spec): tor puts the operator's `RelayBandwidthRate` and burst there.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct TokenBucket {
    /// The rate that fills it (`bandwidth-avg`), in bytes per second.
    pub rate: f64,
    /// The bytes that it holds (`bandwidth-burst`).
    pub burst: f64,
}

/// Payload in what a token bucket counts at most: cells and TLS have headers
/// (498 of 514 bytes, and 29 of each TLS record).
const GOODPUT: f64 = 0.97;
/// Payload in it in the long run: tor 0.4.9 refills in steps of 16 ticks and at each
/// refill drops the time beyond the last whole step. No relay that its bucket
/// limits was seen to sustain a share of its rate outside of this range.
const SUSTAINED: std::ops::RangeInclusive<f64> = 0.7..=0.88;

/// The share that it typically passes: 0.75 to 0.81 by position and limit on private networks.
/// On kernels of 250 Hz tor notices a step of 16.8 ms after 20 ms, so that 0.84 of the rate
/// pass, 0.93 of which is payload (docs/estimator.md).
const TYPICAL: f64 = 0.78;

/// Where a bucket usually lets less pass: above it, a rate that falls may be the
/// end of a burst which helpers have slowed.
const USUAL: f64 = 0.8;

impl TokenBucket {
    /// A bucket of `burst` bytes that fills at `rate` bytes per second.
    pub const fn new(rate: f64, burst: f64) -> Self {
        Self { rate, burst }
    }

    /// The rate that it typically lets pass in the long run, in bytes of payload per second.
    pub fn sustains(&self) -> f64 {
        TYPICAL * self.rate
    }

    /// Returns true if a relay cannot go on sending at `rate` for long, after `bytes`
    /// in `seconds`: it is above what the bucket lets pass in the long run, and
    /// what was in the bucket at first cannot all have passed yet.
    pub fn is_burst(&self, rate: f64, bytes: f64, seconds: f64) -> bool {
        let drained = GOODPUT * self.burst + SUSTAINED.end() * self.rate * seconds;
        self.is_above(rate) && (rate > self.rate || bytes < drained)
    }

    /// Returns true if `rate` is above what the bucket lets pass in the long run.
    pub fn is_above(&self, rate: f64) -> bool {
        rate > SUSTAINED.end() * self.rate
    }

    /// Returns true if `rate` may still hold the end of a burst: few buckets let so much pass.
    pub fn is_doubtful(&self, rate: f64) -> bool {
        rate > USUAL * self.rate
    }

    /// Returns true if `rate` is what the bucket lets pass in the long run, so that
    /// nothing else need limit it.
    pub fn explains(&self, rate: f64) -> bool {
        self.rate > 0.0 && SUSTAINED.contains(&(rate / self.rate))
    }
}

impl From<&DescriptorFacts> for TokenBucket {
    fn from(descriptor: &DescriptorFacts) -> Self {
        let (rate, burst) = (descriptor.average.value(), descriptor.burst.value());
        Self::new(rate as f64, burst as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_over_when_the_bucket_must_be_empty() {
        let bucket = TokenBucket::new(100.0, 200.0);
        assert!(bucket.is_burst(95.0, 190.0, 2.0));
        assert!(!bucket.is_burst(95.0, 371.0, 2.0), "194 + 176 have passed");
        assert!(
            bucket.is_burst(101.0, 1e6, 2.0),
            "nobody refills it so fast"
        );
        assert!(!bucket.is_burst(88.0, 10.0, 2.0));
        assert!(bucket.is_doubtful(81.0) && !bucket.is_doubtful(80.0));
    }

    #[test]
    fn what_it_sustains_explains_a_rate() {
        let bucket = TokenBucket::new(100.0, 200.0);
        let explained = [69.0, 70.0, 77.0, 88.0, 89.0].map(|rate| bucket.explains(rate));
        assert_eq!(explained, [false, true, true, true, false]);
        assert!(!TokenBucket::new(0.0, 0.0).explains(0.0));
    }
}
