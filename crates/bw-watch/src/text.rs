//! Rates, times and names as a terminal shows them.

use bw_results::text::printable;

/// `9.87 MB/s`, three digits and a unit.
pub fn rate(bytes_per_second: f64) -> String {
    format!("{}/s", size(bytes_per_second))
}

/// `9.87 MB`, three digits and a unit; bytes below 1 kB.
pub fn size(bytes: f64) -> String {
    let mut value = bytes.max(0.0);
    for unit in ["B", "kB", "MB", "GB", "TB"] {
        // What would be shown as 1000 belongs to the next unit.
        if value < 999.5 {
            let digits = match value {
                _ if unit == "B" => 0,
                value if value < 9.995 => 2,
                value if value < 99.95 => 1,
                _ => 0,
            };
            return format!("{value:.digits$} {unit}");
        }
        value /= 1000.0;
    }
    format!("{value:.0} PB")
}

/// `12s`, `3m20s` or `2h05m`.
pub fn time(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}m"),
    }
}

/// `https://host/path` without its scheme, and without what is not needed to tell servers apart.
pub fn host(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    printable(rest.split('/').next().unwrap_or(rest))
}

/// `12:34:56`, in UTC, of milliseconds since the Unix epoch.
pub fn clock(millis: u64) -> String {
    let seconds = millis / 1000 % 86_400;
    format!(
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_unit() {
        let shown = [
            0.0, 999.0, 999.7, 1234.0, 12_345.0, 999_600.0, 9.87e6, 1e15, -1.0,
        ]
        .map(size);
        let expected = [
            "0 B", "999 B", "1.00 kB", "1.23 kB", "12.3 kB", "1.00 MB", "9.87 MB", "1 PB", "0 B",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn times_and_names() {
        assert_eq!([12, 200, 7500].map(time), ["12s", "3m20s", "2h05m"]);
        assert_eq!(host("https://a.example/1GiB"), "a.example");
        assert_eq!(host("a\u{1b}b"), r"a\u{1b}b");
        assert_eq!(clock(1_790_000_000_000), "14:13:20");
    }
}
