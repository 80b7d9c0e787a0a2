//! Numbers and times as people read them.

use bw_file::{DateTime, Fingerprint, UnixTime};
use bw_results::UnixMillis;
pub(crate) use bw_results::text::{counted, grouped};

/// `2026-11-20 12:30:00`, in UTC.
pub(crate) fn utc(time: UnixMillis) -> String {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|seconds| DateTime::new(UnixTime::new(seconds)))
        .map_or_else(
            || time.value().to_string(),
            |time| time.to_string().replace('T', " "),
        )
}

/// `2026-11-20 12:30`, in UTC.
pub(crate) fn minute(time: UnixMillis) -> String {
    let mut text = utc(time);
    if text.len() == 19 {
        text.truncate(16);
    }
    text
}

/// Three significant digits of a number from 1 to 999.
fn three(value: f64) -> String {
    match value {
        value if value >= 99.95 => format!("{value:.0}"),
        value if value >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn scaled(value: f64, unit: &str) -> String {
    let units = ["", "k", "M", "G", "T", "P"];
    let (mut value, mut index) = (value, 0);
    while value >= 999.5 && index + 1 < units.len() {
        value /= 1000.0;
        index += 1;
    }
    let number = if index == 0 {
        format!("{value:.0}")
    } else {
        three(value)
    };
    format!("{number}\u{a0}{}{unit}", units[index])
}

/// Bytes per second as `12.3 MB/s`.
pub(crate) fn rate(bytes_per_second: f64) -> String {
    scaled(bytes_per_second, "B/s")
}

/// Bytes as `12.3 MB`.
pub(crate) fn size(bytes: u64) -> String {
    scaled(bytes as f64, "B")
}

/// A duration as `3 h 20 min`, with two units at most.
pub(crate) fn span(seconds: u64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let first = units
        .iter()
        .position(|&(length, _)| seconds >= length)
        .unwrap_or(3);
    let (length, unit) = units[first];
    let mut text = format!("{}\u{a0}{unit}", seconds / length);
    if let Some(&(next, name)) = units.get(first + 1)
        && seconds % length >= next
    {
        text.push_str(&format!(" {}\u{a0}{name}", seconds % length / next));
    }
    text
}

/// A share as `12.3 %`.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        0.0 => "0\u{a0}%".to_owned(),
        percent if percent >= 10.0 => format!("{percent:.0}\u{a0}%"),
        percent if percent >= 0.1 => format!("{percent:.1}\u{a0}%"),
        percent => format!("{percent:.4}\u{a0}%"),
    }
}

/// A factor as `× 1.23`.
pub(crate) fn factor(factor: f64) -> String {
    if !factor.is_finite() {
        return "–".to_owned();
    }
    match factor {
        factor if factor >= 100.0 => format!("×\u{a0}{factor:.0}"),
        factor if factor >= 0.1 || factor == 0.0 => format!("×\u{a0}{factor:.2}"),
        factor => format!("×\u{a0}{factor:.4}"),
    }
}

/// A text with commas in its whole numbers of five digits and more.
pub(crate) fn with_commas(text: &str) -> String {
    let mut readable = String::with_capacity(text.len() + text.len() / 8);
    let mut rest = text;
    while let Some(start) = rest.find(|char: char| char.is_ascii_digit()) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|char: char| !char.is_ascii_digit());
        let (number, after) = from.split_at(end.unwrap_or(from.len()));
        readable.push_str(before);
        if before.ends_with('.') || number.len() < 5 {
            readable.push_str(number);
        } else {
            readable.push_str(&grouped(number));
        }
        rest = after;
    }
    readable + rest
}

/// The first eight digits, by which people know a relay.
pub(crate) fn short(relay: &Fingerprint) -> String {
    let mut text = relay.to_string();
    text.truncate(8);
    text
}

/// A share of a whole; 0 of nothing.
pub(crate) fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// The value at a quantile, from 0 to 1, of values in ascending order.
pub(crate) fn quantile(sorted: &[f64], at: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last as f64 * at).round() as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        for (value, text) in [
            (0.0, "0 B/s"),
            (999.0, "999 B/s"),
            (999.7, "1.00 kB/s"),
            (12_345.0, "12.3 kB/s"),
            (999_600.0, "1.00 MB/s"),
            (123_456_789.0, "123 MB/s"),
        ] {
            assert_eq!(rate(value).replace('\u{a0}', " "), text);
        }
        assert_eq!(percent(0.1234).replace('\u{a0}', " "), "12 %");
        assert_eq!(percent(0.000_012).replace('\u{a0}', " "), "0.0012 %");
        assert_eq!(factor(0.0123).replace('\u{a0}', " "), "× 0.0123");
    }

    #[test]
    fn durations_have_two_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (12_000, "3 h 20 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(span(seconds).replace('\u{a0}', " "), text);
        }
        assert_eq!(
            minute(UnixMillis::from_secs(1_700_000_000)),
            "2023-11-14 22:13"
        );
        assert_eq!(utc(UnixMillis::new(u64::MAX)), u64::MAX.to_string());
    }

    #[test]
    fn long_numbers_of_a_text_have_commas() {
        for (text, readable) in [
            (
                "1979132 x 0.760012 = 1504140 B/s",
                "1,979,132 x 0.760012 = 1,504,140 B/s",
            ),
            (
                "876661, 2026-11-29 08:11:07",
                "876,661, 2026-11-29 08:11:07",
            ),
            ("none", "none"),
        ] {
            assert_eq!(with_commas(text), readable);
        }
    }

    #[test]
    fn quantiles_are_values() {
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[1.0, 2.0, 9.0], 0.5), Some(2.0));
        assert_eq!(quantile(&[1.0, 2.0, 9.0], 1.0), Some(9.0));
    }
}
