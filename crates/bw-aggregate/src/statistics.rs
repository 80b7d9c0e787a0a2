//! The statistics of one relay's rates.

use bw_file::BytesPerSecond;
use serde::Serialize;

use crate::rounding::round_half_even;

/// Rates above this (1 Tbit/s) are not believed of any relay, in bytes per second.
pub const MAX_PLAUSIBLE_RATE: f64 = 125e9;

/// Mean, median and filtered mean of a relay's rates, rounded to whole bytes
/// per second as sbws does before it goes on with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Statistics {
    /// How many rates there are; at least one.
    pub rates: u64,
    /// Their mean (`bw_mean`).
    pub mean: BytesPerSecond,
    /// Their median (`bw_median`), at least 1.
    pub median: BytesPerSecond,
    /// The mean of those that are not below the rounded mean; the mean itself
    /// if rounding left none.
    pub filtered: BytesPerSecond,
}

impl Statistics {
    /// The statistics of `rates`, in bytes per second, in any order; `None` if
    /// there are none. All must be finite.
    pub fn new(mut rates: Vec<f64>) -> Option<Self> {
        rates.sort_unstable_by(f64::total_cmp);
        Self::of_sorted(&rates)
    }

    /// The same of rates in ascending order, so that the order in which they
    /// came makes no difference to the sums.
    pub(crate) fn of_sorted(rates: &[f64]) -> Option<Self> {
        let mean = round_half_even(mean(rates)?);
        let middle = rates.len() / 2;
        let median = if rates.len() % 2 == 1 {
            rates[middle]
        } else {
            (rates[middle - 1] + rates[middle]) / 2.0
        };
        let filtered = crate::statistics::mean(at_least(rates, mean as f64));
        Some(Self {
            rates: rates.len() as u64,
            mean: BytesPerSecond::new(mean),
            median: BytesPerSecond::new(round_half_even(median).max(1)),
            filtered: BytesPerSecond::new(filtered.map_or(mean, round_half_even)),
        })
    }
}

/// The plain mean: sum over number.
pub(crate) fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Those of the sorted `values` that are not below `bound`.
pub(crate) fn at_least(values: &[f64], bound: f64) -> &[f64] {
    &values[values.partition_point(|&value| value < bound)..]
}

/// Whether a rate can be used: positive, finite, and not beyond belief.
pub(crate) fn is_plausible(rate: f64) -> bool {
    rate > 0.0 && rate <= MAX_PLAUSIBLE_RATE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics(rates: &[f64]) -> (u64, u64, u64) {
        let statistics = Statistics::new(rates.to_vec()).unwrap();
        assert_eq!(statistics.rates, rates.len() as u64);
        (
            statistics.mean.value(),
            statistics.median.value(),
            statistics.filtered.value(),
        )
    }

    #[test]
    fn known_values() {
        assert_eq!(Statistics::new(Vec::new()), None);
        assert_eq!(statistics(&[7.0]), (7, 7, 7));
        assert_eq!(statistics(&[0.2]), (0, 1, 0), "the median is at least 1");
        assert_eq!(statistics(&[4.0, 1.0, 10.0]), (5, 4, 10));
        assert_eq!(statistics(&[1.0, 4.0]), (2, 2, 4), "2.5 is rounded to 2");
        // Both below their rounded mean of 8: nothing is left to filter.
        assert_eq!(statistics(&[7.6, 7.8]), (8, 8, 8));
    }

    #[test]
    fn only_plausible_rates() {
        for rate in [f64::NAN, f64::INFINITY, -1.0, 0.0, -0.0, 1e30] {
            assert!(!is_plausible(rate), "{rate}");
        }
        assert!(is_plausible(0.1) && is_plausible(MAX_PLAUSIBLE_RATE));
    }
}
