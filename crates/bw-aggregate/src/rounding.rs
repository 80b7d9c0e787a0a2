//! Rounding as sbws does it (Python's `round`): halves go to the even neighbour.

/// `value` rounded to the nearest whole number, halves to even; 0 if it is not
/// a number or negative, [`u64::MAX`] if it is too large.
pub fn round_half_even(value: f64) -> u64 {
    // The cast saturates, and takes NaN to 0.
    value.round_ties_even() as u64
}

/// `value` rounded to `digits` significant decimal digits, halves to even, at
/// least 1 (sbws `round_sig_dig`; its reference calls this sig).
///
/// Exact: what is compared with the half is the binary value itself. Values
/// beyond 2^53 are rounded as if they were 2^53.
pub fn round_significant(value: f64, digits: u32) -> u64 {
    /// Up to here every whole number is a float.
    const LIMIT: f64 = 9_007_199_254_740_992.0;
    if value.is_nan() || value <= 1.0 {
        return 1;
    }
    let value = value.min(LIMIT);
    let length = value.log10() as u32 + 1;
    let dropped = length.saturating_sub(digits);
    if dropped == 0 {
        return round_half_even(value).max(1);
    }
    // At most 10^16.
    let step = 10_u64.pow(dropped);
    let below = value as u64 / step * step;
    let rest = value - below as f64;
    let half = (step / 2) as f64;
    let up = rest > half || (rest.total_cmp(&half).is_eq() && (below / step) % 2 == 1);
    (below + if up { step } else { 0 }).max(1)
}

/// `bytes` in kilobytes as Torflow rounds: to `digits` significant digits, then
/// to whole thousands, halves away from zero; at least 1.
pub fn round_torflow(bytes: f64, digits: u32) -> u64 {
    if bytes.is_nan() || bytes <= 1000.0 {
        return 1;
    }
    // What tor cannot vote for is cut later; a float is exact up to here.
    let bytes = bytes.min(9_007_199_254_740_992.0);
    let length = bytes.log10() as u32 + 1;
    let step = 10_f64.powi(i32::try_from(length.saturating_sub(digits)).unwrap_or(0));
    let significant = (bytes / step).round() * step;
    ((significant / 1000.0).round() as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_to_even() {
        for (value, expected) in [
            (0.5, 0),
            (1.5, 2),
            (2.5, 2),
            (2.500_000_1, 3),
            (-3.0, 0),
            (f64::NAN, 0),
            (f64::INFINITY, u64::MAX),
        ] {
            assert_eq!(round_half_even(value), expected, "{value}");
        }
    }

    #[test]
    fn torflows_rounding() {
        for (bytes, kilobytes) in [
            (f64::NAN, 1),
            (-5.0, 1),
            (0.0, 1),
            (999.0, 1),
            (1_500.0, 2),
            (2_500.0, 3),
            (12_345.0, 12),
            (1_234_567.0, 1_230),
            (1_235_000.0, 1_240),
            (23_255_048.0, 23_300),
            (f64::INFINITY, 9_010_000_000_000),
        ] {
            assert_eq!(round_torflow(bytes, 3), kilobytes, "{bytes}");
        }
    }

    #[test]
    fn significant_digits_as_python_rounds() {
        for (value, digits, expected) in [
            (0.0, 2, 1),
            (0.999, 2, 1),
            (1.4, 2, 1),
            (2.5, 2, 2),
            (99.5, 2, 100),
            (105.0, 2, 100),
            (115.0, 2, 120),
            (125.0, 2, 120),
            (125.000_1, 2, 130),
            (12_500.0, 2, 12_000),
            (13_500.0, 2, 14_000),
            (99_999.0, 2, 100_000),
            (123_456.0, 3, 123_000),
            (123_456.0, 9, 123_456),
            (0.3, 0, 1),
            (7.0, 0, 10),
            (f64::NAN, 2, 1),
            (f64::NEG_INFINITY, 2, 1),
            (f64::INFINITY, 2, 9_000_000_000_000_000),
        ] {
            assert_eq!(
                round_significant(value, digits),
                expected,
                "{value} {digits}"
            );
        }
    }
}
