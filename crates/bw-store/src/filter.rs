//! A selection of outcomes.

use bw_file::Fingerprint;
use bw_results::{ScanId, UnixMillis};
use rusqlite::types::Value;

use crate::columns::time;

/// A selection of outcomes; by default all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Filter {
    /// Only those of these scans, if given; an empty list selects nothing.
    pub scans: Option<Vec<ScanId>>,
    /// Only those that ended at this time or later.
    pub since: Option<UnixMillis>,
    /// Only those that ended before this time.
    pub until: Option<UnixMillis>,
    /// Only those of this relay.
    pub relay: Option<Fingerprint>,
}

impl Filter {
    /// All outcomes.
    pub const fn all() -> Self {
        Self {
            scans: None,
            since: None,
            until: None,
            relay: None,
        }
    }

    /// Only those of `scans`.
    #[must_use]
    pub fn scans(mut self, scans: impl IntoIterator<Item = ScanId>) -> Self {
        self.scans = Some(scans.into_iter().collect());
        self
    }

    /// Only those that ended at `time` or later.
    #[must_use]
    pub const fn since(mut self, time: UnixMillis) -> Self {
        self.since = Some(time);
        self
    }

    /// Only those that ended before `time`.
    #[must_use]
    pub const fn until(mut self, time: UnixMillis) -> Self {
        self.until = Some(time);
        self
    }

    /// Only those of `relay`.
    #[must_use]
    pub const fn relay(mut self, relay: Fingerprint) -> Self {
        self.relay = Some(relay);
        self
    }

    /// The `WHERE` clause and its parameters.
    pub(crate) fn clause(&self) -> (String, Vec<Value>) {
        let mut conditions = vec!["TRUE".to_owned()];
        let mut values = Vec::new();
        if let Some(scans) = &self.scans {
            let marks = vec!["?"; scans.len()].join(",");
            conditions.push(format!(
                "outcome.scan IN (SELECT id FROM scan WHERE identity IN ({marks}))"
            ));
            values.extend(scans.iter().map(|scan| blob(scan.as_bytes())));
        }
        for (condition, bound) in [
            ("outcome.ended >= ?", self.since),
            ("outcome.ended < ?", self.until),
        ] {
            if let Some(bound) = bound {
                conditions.push(condition.to_owned());
                values.push(Value::Integer(time(bound)));
            }
        }
        if let Some(relay) = &self.relay {
            conditions
                .push("outcome.relay = (SELECT id FROM relay WHERE fingerprint = ?)".to_owned());
            values.push(blob(relay.as_bytes()));
        }
        (conditions.join(" AND "), values)
    }
}

fn blob(bytes: &[u8]) -> Value {
    Value::Blob(bytes.to_vec())
}
