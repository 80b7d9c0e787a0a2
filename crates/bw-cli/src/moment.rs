//! Points in time as options take them.

use bw_file::{DateTime, UnixTime};

/// Reads `2026-11-20T12:30:00`, in UTC, with or without a `Z`, or Unix seconds.
///
/// # Errors
/// If `text` is anything else, or a time before 1970.
pub(crate) fn parse(text: &str) -> Result<UnixTime, String> {
    let seconds = match text.parse() {
        Ok(seconds) => UnixTime::new(seconds),
        Err(_) => text
            .strip_suffix('Z')
            .unwrap_or(text)
            .parse::<DateTime>()
            .map_err(|error| format!("{error}; or Unix seconds"))?
            .into(),
    };
    if seconds < UnixTime::new(0) {
        return Err("a time before 1970".to_owned());
    }
    Ok(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_moment_in_three_forms() {
        for text in ["2023-11-14T22:13:20", "2023-11-14T22:13:20Z", "1700000000"] {
            assert_eq!(parse(text), Ok(UnixTime::new(1_700_000_000)), "{text}");
        }
        for text in ["noon", "", "-1", "1969-12-31T23:59:59", "2023-11-14"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
