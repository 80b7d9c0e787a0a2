//! Times, sizes and tables as people read them.

use std::io::Write;

use bw_results::UnixMillis;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

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

/// The text without what could steer a terminal, as names from elsewhere may.
pub(crate) fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
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
        assert_eq!(printable("a\u{1b}[2Jb"), "a\u{fffd}[2Jb");
    }
}
