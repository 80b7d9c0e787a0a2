//! The largest share of the sum that one relay gets.

/// The limit by which no value is more than `share` of the sum of all limited
/// ones: of k values above it, it is share · rest / (1 − k · share). Where there
/// are too few values for that, it makes all equal. The order makes no difference.
pub(crate) fn capped(values: impl Iterator<Item = f64>, share: f64) -> f64 {
    let mut values: Vec<f64> = values.filter(|&value| value > 0.0).collect();
    values.sort_unstable_by(f64::total_cmp);
    let least = values.first().copied().unwrap_or(0.0);
    // What values up to each sum up to, in ascending order: exact enough, and
    // the same whatever the input's order.
    let sums: Vec<f64> = values
        .iter()
        .scan(0.0, |sum, value| {
            *sum += value;
            Some(*sum)
        })
        .collect();
    for above in 0..values.len() {
        let (highest, rest) = (values.len() - 1 - above, 1.0 - above as f64 * share);
        let limit = share * sums[highest] / rest;
        if rest <= 0.0 {
            break;
        }
        if values[highest] <= limit {
            return limit;
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_limit_is_a_share_of_what_is_left() {
        for (values, share, limit) in [
            (&[][..], 0.5, 0.0),
            (&[1.0, 1.0, 1.0, 1.0], 0.5, 2.0),
            (&[1.0, 1.0, 1.0, 9.0], 0.5, 3.0),
            (&[1.0, 1.0, 9.0, 9.0], 0.4, 4.0),
            // Three cannot have less than a third each.
            (&[1.0, 2.0, 3.0], 0.3, 1.0),
        ] {
            let found = capped(values.iter().copied(), share);
            assert!((found - limit).abs() < 1e-9, "{values:?}: {found}");
        }
    }

    proptest! {
        #[test]
        fn a_cap_is_a_cap_of_the_sum_after_it_and_the_order_makes_no_difference(
            exponents in prop::collection::vec(0.0..18.0_f64, 1..80), share in 0.001..1.0_f64,
            by in 0..80_usize,
        ) {
            let mut values: Vec<f64> = exponents.iter().map(|&e| 10_f64.powf(e)).collect();
            let limit = capped(values.iter().copied(), share);
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let sum: f64 = values.iter().map(|value| value.min(limit)).sum();
            for value in &values {
                let found = value.min(limit);
                prop_assert!(found <= share * sum * (1.0 + 1e-9) || found <= least);
            }
            // Once more changes nothing: it is a fixpoint.
            let again = capped(values.iter().map(|value| value.min(limit)), share);
            prop_assert!(again >= limit * (1.0 - 1e-9));
            let by = by % values.len();
            values.rotate_left(by);
            prop_assert_eq!(capped(values.into_iter(), share).to_bits(), limit.to_bits());
        }
    }
}
