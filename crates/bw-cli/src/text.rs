//! Times, sizes and tables as people read them.

use std::io::Write;

use bw_results::UnixMillis;
pub(crate) use bw_results::text::{grouped, printable};
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// Tells the operator of something on standard error.
pub(crate) fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "bwscan: {text}");
}

/// `2026-11-20 12:30:00`, in UTC.
pub(crate) fn utc(time: UnixMillis) -> String {
    format_utc(time, "%Y-%m-%d %H:%M:%S")
}

/// A time in UTC in the form `strftime` describes; the bare number if it is
/// beyond what calendars know.
pub(crate) fn format_utc(time: UnixMillis, form: &str) -> String {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(
            || time.to_string(),
            |timestamp| timestamp.strftime(form).to_string(),
        )
}

/// `12.3 MB`.
pub(crate) fn size(bytes: u64) -> String {
    bytesize::ByteSize::b(bytes).display().si().to_string()
}

/// A factor with three significant digits, as two digits after the point would hide
/// small ones: `x0.000123`, `x1.05`, `x1234`.
pub(crate) fn factor(factor: f64) -> String {
    if !factor.is_finite() || factor == 0.0 {
        return format!("x{factor}");
    }
    // The exponent after rounding, so that 0.9996 is 1.00.
    let rounded = format!("{factor:.2e}");
    let exponent = rounded
        .split_once('e')
        .and_then(|(_, exponent)| exponent.parse().ok());
    let digits = 2_i32.saturating_sub(exponent.unwrap_or(0));
    format!("x{factor:.*}", usize::try_from(digits).unwrap_or(0))
}

/// A rate in kilobytes (1000 bytes) per second.
pub(crate) fn kilobytes(bytes_per_second: f64) -> String {
    format!("{:.0}", bytes_per_second / 1000.0)
}

/// A table with this head, without frames, as wide as the terminal at most.
pub(crate) fn table<'a>(head: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(head);
    table
}

/// Prints `text` and a line end on standard output.
pub(crate) fn print(text: impl std::fmt::Display) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}

/// Prints `value` as JSON, indented, on standard output.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value).map_err(std::io::Error::from)?;
    Ok(writeln!(out)?)
}

/// Prints a table in CSV (RFC 4180, but with LF) on standard output, with a head.
pub(crate) fn print_csv<R: Serialize>(rows: impl IntoIterator<Item = R>) -> anyhow::Result<()> {
    let mut out = csv::Writer::from_writer(std::io::stdout().lock());
    for row in rows {
        // The error of the pipe itself, which may be one that nobody reads any more.
        out.serialize(row)
            .map_err(|error| match error.into_kind() {
                csv::ErrorKind::Io(error) => anyhow::Error::from(error),
                other => anyhow::anyhow!("{other:?}"),
            })?;
    }
    Ok(out.flush()?)
}

/// Prints `value` as one line of JSON on standard output.
pub(crate) fn print_json_line(value: &impl Serialize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, value).map_err(std::io::Error::from)?;
    Ok(writeln!(out)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes() {
        assert_eq!(
            utc(UnixMillis::from_secs(1_700_000_000)),
            "2023-11-14 22:13:20"
        );
        assert_eq!(utc(UnixMillis::new(u64::MAX)), "18446744073709551.615");
        assert_eq!(size(12_345_678), "12.3 MB");
        assert_eq!(kilobytes(1_234_567.0), "1235");
    }

    #[test]
    fn small_factors_keep_their_digits() {
        for (number, text) in [
            (0.000_123_4, "x0.000123"),
            (0.004, "x0.00400"),
            (0.5, "x0.500"),
            (0.9996, "x1.00"),
            (1.053, "x1.05"),
            (12.34, "x12.3"),
            (1234.5, "x1234"),
            (0.0, "x0"),
            (f64::INFINITY, "xinf"),
        ] {
            assert_eq!(factor(number), text);
        }
    }
}
