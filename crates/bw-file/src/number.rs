//! Numbers as files spell them.
//!
//! Each is read from the start of some bytes, with its length: where it ends is
//! found while it is read.

/// Powers of ten that a float has exactly.
const TENS: [u64; 16] = {
    let mut tens = [1; 16];
    let mut power = 1;
    while power < tens.len() {
        tens[power] = 10 * tens[power - 1];
        power += 1;
    }
    tens
};

/// The value that `read` finds in `raw`, if nothing is left behind it.
#[inline]
pub(crate) fn whole<'a, T>(
    raw: &'a [u8],
    read: impl FnOnce(&'a [u8]) -> Option<(T, usize)>,
) -> Option<T> {
    read(raw)
        .filter(|&(_, length)| length == raw.len())
        .map(|(value, _)| value)
}

/// Digits only, fitting 64 bits.
pub(crate) fn parse_unsigned(raw: &[u8]) -> Option<u64> {
    whole(raw, unsigned)
}

/// The digits at the start, fitting 64 bits; at least one.
#[inline]
pub(crate) fn unsigned(bytes: &[u8]) -> Option<(u64, usize)> {
    digits(bytes).filter(|&(_, length)| length > 0)
}

/// The digits at the start, fitting 64 bits; 0 for none.
#[inline]
fn digits(bytes: &[u8]) -> Option<(u64, usize)> {
    let (mut value, mut length) = (0_u64, 0);
    for byte in bytes {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        length += 1;
    }
    // Nineteen digits always fit.
    if length <= 19 {
        Some((value, length))
    } else {
        many_digits(&bytes[..length])
    }
}

#[cold]
fn many_digits(digits: &[u8]) -> Option<(u64, usize)> {
    let value = digits.iter().try_fold(0_u64, |value, byte| {
        value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))
    })?;
    Some((value, digits.len()))
}

/// As [`unsigned`], after an optional `-`.
#[inline]
pub(crate) fn signed(bytes: &[u8]) -> Option<(i64, usize)> {
    match bytes.strip_prefix(b"-") {
        Some(digits) => {
            let (value, length) = unsigned(digits)?;
            Some((0_i64.checked_sub_unsigned(value)?, length + 1))
        }
        None => {
            let (value, length) = unsigned(bytes)?;
            Some((value.try_into().ok()?, length))
        }
    }
}

/// A decimal without exponent and with at most 15 digits, which is what Torflow
/// and sbws write. Digits and power of ten are exact then, and their quotient is
/// the nearest float, as for the standard library, in a third of its time.
#[inline]
pub(crate) fn short_decimal(bytes: &[u8]) -> Option<(f64, usize)> {
    let sign = usize::from(bytes.first() == Some(&b'-'));
    let (before, places) = digits(&bytes[sign..])?;
    let mut length = sign + places;
    let (mut digits_after, mut after) = (0, 0);
    if bytes.get(length) == Some(&b'.') {
        (after, digits_after) = digits(&bytes[length + 1..])?;
        length += 1 + digits_after;
    }
    if !(1..=15).contains(&(places + digits_after)) {
        return None;
    }
    let mantissa = before * TENS[digits_after] + after;
    #[expect(clippy::as_conversions, reason = "below 2^53, and so without loss")]
    let value = mantissa as f64 / TENS[digits_after] as f64;
    Some((if sign == 1 { -value } else { value }, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_signed_number() {
        let parse_signed = |raw| whole(raw, signed);
        assert_eq!(parse_signed(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(parse_signed(b"-9223372036854775809"), None);
        assert_eq!(parse_signed(b"--1"), None);
    }
}
