//! `state.dat`: the memory of sbws for its own doing.

use bw_file::{DateTime, UnixTime};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::times::parse_iso;

/// The part of sbws's `state.dat` that the header of a bandwidth file needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct State {
    /// `scanner_started`, in Unix seconds.
    pub scanner_started: Option<u64>,
    /// `tor_version`.
    pub tor_version: Option<String>,
    /// The number of times in `recent_consensus`.
    pub recent_consensus_count: Option<i64>,
    /// The number of times in `recent_priority_list`.
    pub recent_priority_list_count: Option<i64>,
    /// The sum of the numbers in `recent_priority_relay`.
    pub recent_priority_relay_count: Option<i64>,
    /// The number of times in `recent_measurement_attempt`, which sbws wrote
    /// before 1.2.0.
    pub recent_measurement_attempt_count: Option<i64>,
}

impl State {
    /// Reads the file's text. What it lacks is none; an unknown key is ignored.
    ///
    /// # Errors
    /// If it is not a JSON object.
    pub fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        let state: serde_json::Map<String, Value> = serde_json::from_slice(text)?;
        let count = |key| state.get(key).and_then(count);
        Ok(Self {
            scanner_started: state
                .get("scanner_started")
                .and_then(Value::as_str)
                .and_then(parse_iso),
            tor_version: state
                .get("tor_version")
                .and_then(Value::as_str)
                // It goes into a header line.
                .filter(|text| !text.is_empty() && !text.contains(char::is_control))
                .map(str::to_owned),
            recent_consensus_count: count("recent_consensus"),
            recent_priority_list_count: count("recent_priority_list"),
            recent_priority_relay_count: count("recent_priority_relay"),
            recent_measurement_attempt_count: count("recent_measurement_attempt"),
        })
    }

    /// `scanner_started` as a date, if it is one.
    pub fn started(&self) -> Option<DateTime> {
        DateTime::new(UnixTime::new(i64::try_from(self.scanner_started?).ok()?))
    }
}

/// The count that sbws makes of a value: a list's length, or the sum of the numbers in
/// a list of pairs, or a number itself; none of what is empty or zero.
fn count(value: &Value) -> Option<i64> {
    match value {
        Value::Array(list) => match list.first()? {
            Value::Array(_) => Some(
                list.iter()
                    .filter_map(|pair| pair.get(1)?.as_i64())
                    .fold(0, i64::saturating_add),
            ),
            _ => i64::try_from(list.len()).ok(),
        },
        Value::Number(number) => number.as_i64().filter(|&number| number != 0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_as_sbws_counts() {
        let text = br#"{
            "scanner_started": "2026-11-01T00:00:00+00:00", "tor_version": "0.4.8.10", "uuid": "x",
            "recent_consensus": ["2026-11-01T00:00:00", "2026-11-01T01:00:00"],
            "recent_priority_list": [], "recent_measurement_attempt": 7,
            "recent_priority_relay": [["2026-11-01T00:00:00", 50], ["2026-11-01T00:00:00", 30]]
        }"#;
        let state = State::parse(text).unwrap();
        assert_eq!(state.started().unwrap().to_string(), "2026-11-01T00:00:00");
        assert_eq!(state.recent_consensus_count, Some(2));
        assert_eq!(state.recent_priority_list_count, None);
        assert_eq!(state.recent_priority_relay_count, Some(80));
        assert_eq!(state.recent_measurement_attempt_count, Some(7));
        assert!(State::parse(b"{\"scanner_st").is_err());
        let forged = State::parse(b"{\"tor_version\": \"1\\nbw=5\"}").unwrap();
        assert_eq!(forged, State::default());
    }
}
