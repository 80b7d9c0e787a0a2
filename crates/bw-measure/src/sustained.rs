//! The rate that a relay sustains, with its confidence interval.

use std::time::Duration;

use bw_results::{Slice, StopReason, TargetFacts};
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::{Estimator, TokenBucket};

/// Finds the rate that a relay sustains: leaves the beginning out, where the
/// congestion window opens and a full token bucket lets a relay send above
/// its rate, and ends the transfer as soon as the mean of the rest is known
/// well enough.
///
/// Slices are taken together in batches, whose means are nearly independent.
/// Where the beginning ends is decided by the marginal standard error rule
/// (White, "An effective truncation heuristic for bias reduction in simulation
/// output", Simulation 69(6), 1997): the truncation after which the rest's
/// standard error is least, in the first half of the transfer (later only if
/// what follows would still be above what a token bucket sustains). The interval is
/// Student's t over the batches that are left. A rate that the relay's token
/// bucket, as its descriptor has it, cannot sustain is a burst, and the transfer
/// goes on until it is over.
///
/// The defaults come from the study in `docs/estimator.md`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sustained {
    /// Half the width of the confidence interval, as a share of the mean, at
    /// which the rate is known well enough. Default 0.05.
    pub precision: f64,
    /// The interval's confidence, below 1. Default 0.95.
    pub confidence: f64,
    /// The length of a batch. Default 250 ms: some of the 100 ms periods in
    /// which tor refills token buckets.
    pub batch: Duration,
    /// The shortest time that counts. Default 1 s.
    pub least: Duration,
    /// The time that counts after which the transfer ends although the interval
    /// is wider, unless the rate still rises or falls; twice that if the interval is more
    /// than three times as wide. Default 1.5 s.
    pub enough: Duration,
    /// The longest transfer, with all that is left out. Default 10 s, as sbws's
    /// `download_max`.
    pub longest: Duration,
    /// The token bucket that the relay declares, if it does.
    pub bucket: Option<TokenBucket>,
}

impl Default for Sustained {
    fn default() -> Self {
        Self {
            precision: 0.05,
            confidence: 0.95,
            batch: Duration::from_millis(250),
            least: Duration::from_secs(1),
            enough: Duration::from_millis(1500),
            longest: Duration::from_secs(10),
            bucket: None,
        }
    }
}

/// An estimate of a rate from slices.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Estimate {
    /// Bytes per second over the slices that count ([`Slice::tapered_rate_of`]).
    pub rate: f64,
    /// The rate is in `rate ± half_width` with the chosen confidence; infinite
    /// if there are too few slices to tell.
    pub half_width: f64,
    /// The number of the first slices that were left out.
    pub warm_up: usize,
}

/// At so many times the precision the interval is that of a noisy rate: behind 100 ms of
/// round trip, relays with a token bucket were 25 % off after 1.5 s.
const NOISY: f64 = 3.0;
/// So many batches above a bucket's rate show that the bucket, nothing else, limits the relay.
const SHOW_A_BURST: usize = 3;
/// No fewer batches make an interval.
const FEWEST: usize = 4;

impl Sustained {
    /// With what the descriptor of `target` says of its token bucket.
    #[must_use]
    pub fn for_target(mut self, target: &TargetFacts) -> Self {
        self.bucket = target.descriptor.as_ref().map(TokenBucket::from);
        self
    }

    /// An estimate from `slices`; `None` if they hold no time or no byte.
    pub fn estimate(&self, slices: &[Slice]) -> Option<Estimate> {
        let rates = self.batches(slices);
        let per_batch = self.slices_per_batch(slices);
        let truncated_at_most = |most: usize| {
            let truncated = truncation(&rates, most);
            let warm_up = truncated * per_batch;
            Some(Estimate {
                rate: Slice::tapered_rate_of(slices.get(warm_up..)?)?,
                half_width: self.half_width(&rates[truncated..]),
                warm_up,
            })
        };
        let estimate = truncated_at_most(rates.len() / 2)?;
        match self.bucket {
            // A burst that helpers slow may take more than half of the time.
            Some(bucket) if bucket.is_above(estimate.rate) => {
                let enough = self
                    .enough
                    .as_micros()
                    .div_ceil(self.batch.as_micros().max(1));
                let enough = usize::try_from(enough).unwrap_or(usize::MAX);
                truncated_at_most(rates.len().saturating_sub(enough).max(rates.len() / 2))
            }
            _ => Some(estimate),
        }
    }

    /// The estimate, if it is of a rate that the relay can sustain.
    fn sustained(&self, slices: &[Slice]) -> Option<Estimate> {
        let estimate = self.estimate(slices)?;
        let counted = &slices[estimate.warm_up..];
        let fails = self.is_beyond_its_bucket(slices, estimate.rate)
            || self.is_ending(counted, estimate.rate);
        (!fails).then_some(estimate)
    }

    /// Returns true if a rate that `slices` show is more than the relay's bucket lets pass for long.
    fn is_beyond_its_bucket(&self, slices: &[Slice], rate: f64) -> bool {
        let bytes = slices.iter().map(|slice| slice.bytes as f64).sum();
        let seconds = time(slices).as_secs_f64();
        let is_burst = |bucket: TokenBucket| bucket.is_burst(rate, bytes, seconds);
        self.bucket.is_some_and(is_burst)
    }

    /// Returns true if the longest transfer was too short for a burst to end.
    fn is_not_over(&self, slices: &[Slice]) -> bool {
        let is_burst = |estimate: Estimate| self.is_beyond_its_bucket(slices, estimate.rate);
        time(slices) >= self.longest && self.estimate(slices).is_some_and(is_burst)
    }

    fn slices_per_batch(&self, slices: &[Slice]) -> usize {
        let length = slices.first().map_or(1, |slice| slice.micros.max(1));
        let batch = self.batch.as_micros() as u64;
        usize::try_from(batch.div_ceil(length)).unwrap_or(1).max(1)
    }

    /// The number of slices before those that show a burst.
    fn before_the_latest(&self, slices: &[Slice]) -> Option<usize> {
        let latest = SHOW_A_BURST * self.slices_per_batch(slices);
        slices.len().checked_sub(latest)
    }

    /// The rate of each full batch, in bytes per second.
    fn batches(&self, slices: &[Slice]) -> Vec<f64> {
        slices
            .chunks_exact(self.slices_per_batch(slices))
            .map(|batch| Slice::rate_of(batch).unwrap_or(0.0))
            .collect()
    }

    /// Half the width of the confidence interval of the mean of `rates`.
    fn half_width(&self, rates: &[f64]) -> f64 {
        let count = rates.len() as f64;
        if rates.len() < FEWEST {
            return f64::INFINITY;
        }
        let mean = rates.iter().sum::<f64>() / count;
        let squares: f64 = rates.iter().map(|rate| (rate - mean).powi(2)).sum();
        let error = (squares / (count - 1.0) / count).sqrt();
        let tail = 0.5 + self.confidence.clamp(0.0, 0.9999) / 2.0;
        StudentsT::new(0.0, 1.0, count - 1.0)
            .map_or(f64::INFINITY, |student| student.inverse_cdf(tail) * error)
    }

    /// Returns true if the interval is so wide that the rate may be far off.
    fn is_noisy(&self, estimate: &Estimate) -> bool {
        estimate.half_width > NOISY * self.precision * estimate.rate
    }

    /// Returns true if what counts has lasted enough: twice as long where the rate is noisy.
    fn is_long_enough(&self, estimate: &Estimate, counted: &[Slice]) -> bool {
        let times = if self.is_noisy(estimate) { 2 } else { 1 };
        time(counted) >= self.enough * times
    }

    /// Returns true if the earlier and the later half do not differ by much: else something has just
    /// begun or ended. A rate that rises has only begun: over 160 ms of round trip tor's
    /// congestion window grew for three seconds.
    fn is_level(&self, counted: &[Slice]) -> bool {
        let fall = fall(counted);
        fall <= 2.0 * self.precision && -fall <= self.precision / 2.0
    }

    /// Returns true if what counts looks like the end of a burst.
    fn is_ending(&self, counted: &[Slice], rate: f64) -> bool {
        let doubtful = |bucket: TokenBucket| bucket.is_doubtful(rate);
        self.bucket.is_some_and(doubtful) && fall(counted) > self.precision / 2.0
    }
}

/// The fall from the earlier to the later half, as a share of both:
/// from -1 to 1, infinite if one of them brought nothing.
fn fall(slices: &[Slice]) -> f64 {
    let (first, second) = slices.split_at(slices.len() / 2);
    match (Slice::rate_of(first), Slice::rate_of(second)) {
        (Some(a), Some(b)) => (a - b) / (a + b),
        _ => f64::INFINITY,
    }
}

/// The number of the first batches to leave out, of `most`: the marginal standard
/// error rule.
fn truncation(rates: &[f64], most: usize) -> usize {
    let (mut sum, mut squares, mut count) = (0.0, 0.0, 0.0);
    let mut best = (f64::INFINITY, 0);
    for (index, rate) in rates.iter().enumerate().rev() {
        sum += rate;
        squares += rate * rate;
        count += 1.0;
        if index > most {
            continue;
        }
        let error = (squares - sum * sum / count) / (count * count);
        // Of equal ones the earlier, which leaves out less.
        if error <= best.0 {
            best = (error, index);
        }
    }
    best.1
}

fn time(slices: &[Slice]) -> Duration {
    Duration::from_micros(slices.iter().map(|slice| slice.micros).sum())
}

impl Estimator for Sustained {
    fn observe(&mut self, slices: &[Slice]) -> Option<StopReason> {
        let limit = (time(slices) >= self.longest).then_some(StopReason::TimeLimit);
        // The rate changes with each slice, the truncation with each batch only.
        if !slices.len().is_multiple_of(self.slices_per_batch(slices)) {
            return limit;
        }
        let Some(estimate) = self.sustained(slices) else {
            return limit;
        };
        let counted = &slices[estimate.warm_up..];
        if time(counted) < self.least {
            limit
        } else if estimate.half_width <= self.precision * estimate.rate && self.is_level(counted) {
            Some(StopReason::Confident)
        } else if self.is_long_enough(&estimate, counted) && self.is_level(counted) {
            Some(StopReason::TimeLimit)
        } else {
            limit
        }
    }

    fn progress(&self, slices: &[Slice]) -> f64 {
        let Some(estimate) = self.sustained(slices) else {
            return 0.0;
        };
        let counted = &slices[estimate.warm_up..];
        let shown = time(counted).as_secs_f64() / self.least.as_secs_f64().max(1e-3);
        if self.is_level(counted) {
            shown.min(1.0)
        } else {
            0.0
        }
    }

    fn is_burst(&self, slices: &[Slice]) -> bool {
        let latest = 2 * self.slices_per_batch(slices);
        let present = Slice::rate_of(&slices[slices.len().saturating_sub(latest)..]);
        let is_burst = |rate| self.is_beyond_its_bucket(slices, rate);
        time(slices) < self.longest && present.is_some_and(is_burst)
    }

    fn sustains(&self, slices: &[Slice]) -> Option<f64> {
        let bucket = self.bucket?;
        let latest = slices.get(self.before_the_latest(slices)?..)?;
        // Nobody refills a bucket so fast.
        let bursts = self.batches(latest).iter().all(|&rate| rate > bucket.rate);
        let ends = bursts || self.is_not_over(slices);
        (bucket.rate > 0.0 && ends).then(|| bucket.sustains())
    }

    fn warm_up(&self, slices: &[Slice]) -> usize {
        if self.sustains(slices).is_some() {
            return self.before_the_latest(slices).unwrap_or(0);
        }
        self.estimate(slices).map_or(0, |estimate| estimate.warm_up)
    }

    fn estimate(&self, slices: &[Slice]) -> Option<Estimate> {
        Self::estimate(self, slices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bw_results::Transfer;
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    const SLICE: Duration = Duration::from_millis(50);

    /// For a relay that declares a token bucket.
    fn declaring(rate: f64, burst: f64) -> Sustained {
        Sustained {
            bucket: Some(TokenBucket::new(rate, burst)),
            ..Sustained::default()
        }
    }

    /// Feeds `estimator` with the rate (bytes per slice) of each slice.
    fn run(estimator: Sustained, rate_at: impl FnMut(usize) -> u64) -> (StopReason, Transfer) {
        run_for(estimator, 200, rate_at)
    }

    /// The same, of at most `most` slices.
    fn run_for(
        mut estimator: Sustained,
        most: usize,
        mut rate_at: impl FnMut(usize) -> u64,
    ) -> (StopReason, Transfer) {
        let mut slices = Vec::new();
        loop {
            slices.push(Slice::new(SLICE, rate_at(slices.len())));
            if let Some(stop) = estimator.observe(&slices) {
                let warm_up = estimator.warm_up(&slices);
                return (stop, Transfer::new(slices, warm_up, stop));
            }
            assert!(slices.len() <= most, "it ends at its limit");
        }
    }

    #[test]
    fn a_steady_rate_takes_the_least_time() {
        let (stop, transfer) = run(Sustained::default(), |_| 1000);
        assert_eq!(stop, StopReason::Confident);
        assert_eq!(transfer.duration(), Duration::from_secs(1));
        assert_eq!(transfer.rate().map(f64::round), Some(20_000.0));
    }

    #[test]
    fn slow_start_is_left_out() {
        let ramp = |n: usize| if n < 16 { 1000 * n as u64 / 16 } else { 1000 };
        let (stop, transfer) = run(Sustained::default(), ramp);
        let rate = transfer.rate().unwrap();
        assert_eq!(stop, StopReason::Confident);
        assert!((19_600.0..=20_000.0).contains(&rate), "{rate}");
    }

    #[test]
    fn a_burst_is_not_taken_for_the_rate() {
        // A second of tokens, sent at four times the rate.
        let burst = |n: usize| if n < 7 { 4000 } else { 1000 };
        let (_, transfer) = run(Sustained::default(), burst);
        let rate = transfer.rate().unwrap();
        assert!((19_900.0..20_600.0).contains(&rate), "{rate}");
    }

    #[test]
    fn a_level_burst_is_recognised_by_what_the_relay_declares() {
        let burst = |n: usize| if n < 60 { 1500 } else { 1000 };
        let (stop, transfer) = run(Sustained::default(), burst);
        assert_eq!(
            (stop, transfer.rate().map(f64::round)),
            (StopReason::Confident, Some(30_000.0))
        );
        let (stop, transfer) = run(declaring(26_000.0, 30_000.0), burst);
        let rate = transfer.rate().unwrap();
        assert!((19_900.0..22_900.0).contains(&rate), "{stop}: {rate}");
    }

    #[test]
    fn a_burst_shows_that_the_bucket_limits() {
        let estimator = declaring(26_000.0, 30_000.0);
        let slices = |rate: u64| {
            let ramp = (0..20).map(|n| rate * n / 20);
            let all = ramp.chain(std::iter::repeat_n(rate, 16));
            all.map(|bytes| Slice::new(SLICE, bytes))
                .collect::<Vec<_>>()
        };
        let (fast, slow) = (slices(1500), slices(1250));
        assert_eq!(estimator.sustains(&fast), Some(0.78 * 26_000.0));
        assert!(estimator.is_burst(&fast));
        assert_eq!(estimator.warm_up(&fast), 21, "what is left shows the burst");
        assert_eq!(estimator.sustains(&slow), None, "it may be able to");
        assert_eq!(Sustained::default().sustains(&fast), None);
    }

    #[test]
    fn a_burst_that_helpers_slow_is_waited_out() {
        // 400 KB at first and 100 KB/s (80 of them payload), through helpers of 98 KB/s.
        let slowed = |n: usize| if n < 420 { 4900 } else { 4000 };
        let declared = |longest| Sustained {
            longest: Duration::from_secs(longest),
            ..declaring(100_000.0, 400_000.0)
        };
        let (stop, transfer) = run_for(declared(30), 600, slowed);
        assert_ne!(stop, StopReason::Complete);
        let rate = transfer.rate().unwrap();
        assert!((79_900.0..82_000.0).contains(&rate), "{stop}: {rate}");
    }

    #[test]
    fn the_end_of_a_burst_is_not_taken_for_a_rate_that_the_bucket_could_sustain() {
        // Seen on a private network, as per cent of what the relay then went on with: its
        // helpers were hardly faster than it, so that the burst went on while it faded.
        const FADING: [u64; 66] = [
            113, 136, 372, 431, 104, 244, 401, 283, 254, 411, 121, 102, 93, 145, 100, 128, 129,
            115, 107, 150, 104, 147, 102, 113, 108, 106, 175, 101, 105, 119, 141, 108, 94, 180, 81,
            150, 101, 108, 136, 125, 127, 144, 83, 123, 121, 81, 117, 77, 116, 79, 115, 107, 86,
            117, 79, 113, 87, 105, 84, 113, 112, 82, 99, 94, 116, 86,
        ];
        let fading = |n: usize| 78 * FADING.get(n).unwrap_or(&[100, 90, 110, 95, 105][n % 5]);
        let (_, transfer) = run(declaring(200_000.0, 200_000.0), fading);
        let rate = transfer.rate().unwrap();
        assert!((156_000.0..164_000.0).contains(&rate), "{rate}");
    }

    #[test]
    fn what_never_levels_ends_at_the_limit() {
        let (stop, transfer) = run(Sustained::default(), |n| 100 * n as u64);
        assert_eq!(stop, StopReason::TimeLimit);
        assert!(transfer.rate().is_some());
        let (stop, transfer) = run(Sustained::default(), |_| 0);
        assert_eq!((stop, transfer.rate()), (StopReason::TimeLimit, None));
        assert_eq!(transfer.duration(), Duration::from_secs(10));
    }

    #[test]
    fn adversarial_traces_end_in_time() {
        for shape in 0..4 {
            let (_, transfer) = run(Sustained::default(), |n| match shape {
                0 => u64::from(n == 0) * u64::from(u32::MAX),
                1 => u64::from(n % 20 == 0) * 100_000,
                2 => (n % 40) as u64 * 1000,
                _ => u64::MAX / 1_000_000,
            });
            assert!(transfer.duration() <= Duration::from_secs(10));
            assert!(transfer.rate().is_none_or(f64::is_finite));
        }
    }

    /// The interval holds the true rate in some share of noisy traces with a
    /// warm-up: close to the confidence, although when to stop is chosen by it.
    #[test]
    fn the_interval_holds_the_true_rate_about_as_often_as_it_says() {
        let mut rng = StdRng::seed_from_u64(5);
        let mut held = 0;
        for _ in 0..400 {
            let noise = rng.random_range(0.02..0.3);
            let (_, transfer) = run(Sustained::default(), |n| {
                let ramp = (n as f64 / 10.0).min(1.0);
                // The sum of uniform numbers is near enough to a normal one.
                let normal: f64 = (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
                (10_000.0 * ramp * (1.0 + noise * normal).max(0.0)) as u64
            });
            let estimate = Sustained::default().estimate(&transfer.slices).unwrap();
            held += u32::from((estimate.rate - 200_000.0).abs() <= estimate.half_width);
        }
        assert!(held >= 340, "{held} of 400");
    }

    proptest! {
        #[test]
        fn any_trace_gives_a_rate_that_was_seen(
            bytes in prop::collection::vec(0_u64..10_000_000, 1..300),
        ) {
            let slices: Vec<Slice> = bytes.iter().map(|&b| Slice::new(SLICE, b)).collect();
            let mut estimator = Sustained::default();
            let mut stopped = None;
            for end in 1..=slices.len() {
                stopped = estimator.observe(&slices[..end]);
                if let Some(reason) = stopped {
                    prop_assert_ne!(reason, StopReason::Complete);
                    break;
                }
            }
            prop_assert!(stopped.is_some() || slices.len() < 200);
            let estimate = estimator.estimate(&slices);
            if let Some(estimate) = estimate {
                let most = *bytes.iter().max().unwrap() as f64 * 20.0;
                prop_assert!(estimate.rate <= most * (1.0 + 1e-9));
                prop_assert!(estimate.warm_up <= slices.len() / 2 + 5);
                prop_assert!(estimate.half_width >= 0.0);
            }
        }
    }
}
