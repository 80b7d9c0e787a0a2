//! Numbers as files spell them.

/// Digits only, fitting 64 bits.
pub(crate) fn parse_unsigned(raw: &[u8]) -> Option<u64> {
    let (mut value, mut are_digits) = (0_u64, true);
    // Nineteen digits always fit.
    let (safe, rest) = raw.split_at(raw.len().min(19));
    for &byte in safe {
        let digit = byte.wrapping_sub(b'0');
        are_digits &= digit <= 9;
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
    }
    for &byte in rest {
        let digit = byte.wrapping_sub(b'0');
        are_digits &= digit <= 9;
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    (are_digits && !raw.is_empty()).then_some(value)
}

/// As [`parse_unsigned`], after an optional `-`.
pub(crate) fn parse_signed(raw: &[u8]) -> Option<i64> {
    match raw.strip_prefix(b"-") {
        Some(digits) => 0_i64.checked_sub_unsigned(parse_unsigned(digits)?),
        None => parse_unsigned(raw)?.try_into().ok(),
    }
}

/// Powers of ten that a float has exactly.
const TENS: [f64; 16] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
];

/// A decimal without exponent and with at most 15 digits, which is what Torflow
/// and sbws write. Digits and power of ten are exact then, and their quotient is
/// the nearest float, as for the standard library, in a third of its time.
pub(crate) fn short_decimal(raw: &[u8]) -> Option<f64> {
    let (negative, digits) = match raw {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if !(1..=16).contains(&digits.len()) {
        return None;
    }
    let (mut mantissa, mut count, mut point) = (0_i64, 0_usize, None);
    for &byte in digits {
        if byte == b'.' && point.is_none() {
            point = Some(count);
            continue;
        }
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        mantissa = mantissa * 10 + i64::from(digit);
        count += 1;
    }
    if !(1..=15).contains(&count) {
        return None;
    }
    #[expect(clippy::as_conversions, reason = "below 10^15, and so without loss")]
    let value = mantissa as f64 / TENS[count - point.unwrap_or(count)];
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_signed_number() {
        assert_eq!(parse_signed(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(parse_signed(b"-9223372036854775809"), None);
        assert_eq!(parse_signed(b"--1"), None);
    }
}
