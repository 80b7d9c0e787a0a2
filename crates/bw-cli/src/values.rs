//! Values of options: sizes, rates, times and numbers.
//!
//! Each parser says in its error which form it expects; none hands on the
//! text of a library.

use std::time::Duration;

use bw_file::BytesPerSecond;
use bytesize::ByteSize;

/// A number of bytes, `500kB`, `4MB` or `1GiB`; without a unit, bytes.
pub(crate) fn size(text: &str) -> Result<ByteSize, String> {
    let expected = "expected a size such as 500kB, 4MB or 1GiB";
    if text.to_ascii_lowercase().ends_with("bit") {
        return Err(format!("{expected}, in bytes"));
    }
    text.parse().map_err(|_| expected.to_owned())
}

/// Bytes or bits per second, above 0 and with a unit: `12.5MB`, `100Mbit`.
pub(crate) fn rate(text: &str) -> Result<BytesPerSecond, String> {
    let bare = text.strip_suffix("/s").unwrap_or(text);
    let digits = bare.trim_end_matches(|letter: char| letter.is_alphabetic());
    let (number, unit) = (digits.trim(), &bare[digits.len()..]);
    let prefix = ["bits", "bit"]
        .iter()
        .find_map(|bits| unit.strip_suffix(bits));
    let (unit, divisor) = match (prefix, unit) {
        (Some(prefix), _) => (format!("{prefix}B"), 8),
        (None, "") if number.parse::<f64>().is_ok() => {
            return Err(format!(
                "expected a unit: {number}MB are megabytes, {number}Mbit megabits per second"
            ));
        }
        (None, unit) if unit.ends_with('b') => {
            let prefix = unit.trim_end_matches('b');
            return Err(format!(
                "{unit} can be bits or bytes: write {number}{prefix}bit or {number}{prefix}B"
            ));
        }
        (None, unit) => (unit.to_owned(), 1),
    };
    let bytes = format!("{number}{unit}")
        .parse::<ByteSize>()
        .map_err(|_| "expected a rate per second such as 500kB, 4MB or 100Mbit".to_owned())?;
    match bytes.as_u64() / divisor {
        0 => Err("expected a rate above 0".to_owned()),
        rate => Ok(BytesPerSecond::new(rate)),
    }
}

/// A duration with its unit.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "expected a time with its unit, such as 90s, 10m, 1h or 2d".to_owned())
}

/// A number of things of which there must be one.
pub(crate) fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number of at least 1".to_owned()),
        Ok(count) => Ok(count),
    }
}

/// A share of a whole, from 0 to 1: `5%` or `0.05`.
///
/// `60` could only be meant in percent, and `1` could be either, so both are refused.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let (number, divisor) = match text.trim_end().strip_suffix('%') {
        Some(number) => (number.trim_end(), 100.0),
        None => (text, 1.0),
    };
    let Ok(value) = number.parse::<f64>() else {
        return Err("expected a share such as 5% or 0.05".to_owned());
    };
    if divisor == 1.0 && (value > 1.0 || number == "1") {
        let fraction = value / 100.0;
        return Err(format!("expected a share: write {number}% or {fraction}"));
    }
    let share = value / divisor;
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err("expected a share from 0% to 100%".to_owned())
    }
}

/// A [`share`] above 0.
pub(crate) fn share_above_0(text: &str) -> Result<f64, String> {
    match share(text)? {
        0.0 => Err("expected a share above 0%".to_owned()),
        share => Ok(share),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_in_bytes_or_in_bits() {
        for (text, bytes) in [
            ("12.5MB", 12_500_000),
            ("100Mbit", 12_500_000),
            ("100 Mbit/s", 12_500_000),
            ("1Gbits", 125_000_000),
            ("8Mibit", 1 << 20),
            ("64kbit/s", 8000),
            ("500kB/s", 500_000),
            ("9000B", 9000),
            ("1GiB", 1 << 30),
        ] {
            assert_eq!(rate(text), Ok(BytesPerSecond::new(bytes)), "{text}");
        }
    }

    #[test]
    fn rates_that_could_mean_anything_are_refused() {
        for (text, said) in [
            ("100", "100Mbit"),
            ("0", "expected a unit"),
            ("0MB", "above 0"),
            ("7bit", "above 0"),
            ("100Mb", "100Mbit or 100MB"),
            ("fast", "such as 500kB"),
            ("-1MB", "such as 500kB"),
            ("", "such as 500kB"),
            ("1Xbit", "such as 500kB"),
            ("é", "such as 500kB"),
        ] {
            let error = rate(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn shares_are_fractions_or_have_a_sign() {
        for (text, value) in [
            ("5%", 0.05),
            ("0.05", 0.05),
            ("62.5 %", 0.625),
            ("0", 0.0),
            ("100%", 1.0),
            ("1.0", 1.0),
        ] {
            assert_eq!(share(text), Ok(value), "{text}");
        }
        for (text, said) in [
            ("60", "write 60% or 0.6"),
            ("1", "write 1% or 0.01"),
            ("2.5", "write 2.5% or 0.025"),
            ("101%", "from 0% to 100%"),
            ("-1%", "from 0% to 100%"),
            ("NaN", "from 0% to 100%"),
            ("half", "such as 5%"),
            ("%", "such as 5%"),
        ] {
            let error = share(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
        assert!(share_above_0("0%").unwrap_err().contains("above 0%"));
    }

    #[test]
    fn no_library_speaks() {
        for error in [
            size("big").unwrap_err(),
            size("8Mbit").unwrap_err(),
            time("6").unwrap_err(),
            count("0").unwrap_err(),
            share("101%").unwrap_err(),
        ] {
            assert!(error.starts_with("expected "), "{error}");
        }
        assert_eq!(size("1000"), Ok(ByteSize::b(1000)));
        assert_eq!(time("90s"), Ok(Duration::from_secs(90)));
    }
}
