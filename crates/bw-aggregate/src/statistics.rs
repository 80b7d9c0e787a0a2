//! The statistics of one relay's rates.

use bw_file::BytesPerSecond;
use serde::Serialize;

use crate::plausible::most_in_mean;
use crate::rounding::round_half_even;

/// Mean, median and filtered mean of a relay's rates, rounded to whole bytes
/// per second as sbws does before it goes on with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Statistics {
    /// The number of rates; at least one.
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
        let mean = round_half_even(exact_mean(rates)?);
        let median = median_of_sorted(rates)?;
        let filtered = exact_mean(at_least(rates, mean as f64));
        Some(Self {
            rates: rates.len() as u64,
            mean: BytesPerSecond::new(mean),
            median: BytesPerSecond::new(round_half_even(median).max(1)),
            filtered: BytesPerSecond::new(filtered.map_or(mean, round_half_even)),
        })
    }
}

/// The mean, rounded once; `None` of nothing.
///
/// It is that of Python's `statistics.mean`, which computes with fractions. A plain
/// sum in floats rounds at each addition.
///
/// Sum and rest are kept apart (Knuth's two-sum), which gives some 100 bits:
/// exact for rates of one relay, which are within a few powers of two.
pub fn exact_mean(values: &[f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let (mut sum, mut rest) = (0.0_f64, 0.0_f64);
    for &value in values {
        let next = sum + value;
        let rounded = next - sum;
        rest += (sum - (next - rounded)) + (value - rounded);
        sum = next;
    }
    let count = values.len() as f64;
    let quotient = (sum + rest) / count;
    // What the first division has left over.
    let left = (-quotient).mul_add(count, sum) + rest;
    Some(quotient + left / count)
}

/// The mean over relays, in which none counts for more than others support; 0
/// of none. The order makes no difference.
pub(crate) fn bounded_mean(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let most = most_in_mean(&values).unwrap_or(f64::INFINITY);
    for value in &mut values {
        *value = value.min(most);
    }
    exact_mean(&values).unwrap_or(0.0)
}

/// The same values, ascending.
pub(crate) fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values
}

/// The median of `values`, which are ascending; of an even number of them the
/// mean of the middle two. `None` if there are none.
pub fn median_of_sorted(values: &[f64]) -> Option<f64> {
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 {
        upper
    } else {
        f64::midpoint(values[middle - 1], upper)
    })
}

/// Those of the sorted `values` that are not below `bound`.
pub(crate) fn at_least(values: &[f64], bound: f64) -> &[f64] {
    &values[values.partition_point(|&value| value < bound)..]
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
    fn the_mean_is_rounded_once() {
        assert_eq!(exact_mean(&[]), None);
        // A plain sum gives 0.09999999999999999 and 0.3333333333333333.
        assert_eq!(exact_mean(&[0.1; 10]), Some(0.1));
        assert_eq!(exact_mean(&[1e16, 1.0, -1e16]), Some(1.0 / 3.0));
        assert_eq!(exact_mean(&[1e300, 1e300]), Some(1e300));
    }
}
