//! A scan: one round over a set of relays.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::UnixMillis;

/// The identity of a scan: 128 random bits, unique over machines.
///
/// Shown as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScanId([u8; 16]);

impl ScanId {
    /// The identity with these bytes; the caller draws them at random.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for ScanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:032x}", u128::from_be_bytes(self.0)))
    }
}

impl fmt::Debug for ScanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScanId({self})")
    }
}

/// A text that is not 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a scan's identity has 32 hexadecimal digits")]
#[non_exhaustive]
pub struct ScanIdError;

impl FromStr for ScanId {
    type Err = ScanIdError;

    fn from_str(text: &str) -> Result<Self, ScanIdError> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u128::from_str_radix(text, 16) {
            Ok(value) if digits => Ok(Self(value.to_be_bytes())),
            _ => Err(ScanIdError),
        }
    }
}

impl Serialize for ScanId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ScanId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// One round over a set of relays: its scanner, times and parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Scan {
    /// Identity.
    pub id: ScanId,
    /// The scanner's name, as its operator chose it.
    pub scanner: String,
    /// The beginning.
    pub started: UnixMillis,
    /// The time at which every relay had its outcome; `None` while it is unfinished.
    pub ended: Option<UnixMillis>,
    /// The relays that it covers.
    pub parameters: ScanParameters,
}

impl Scan {
    /// A scan that begins now.
    pub const fn new(
        id: ScanId,
        scanner: String,
        started: UnixMillis,
        parameters: ScanParameters,
    ) -> Self {
        Self {
            id,
            scanner,
            started,
            ended: None,
            parameters,
        }
    }

    /// Returns whether every relay of it has its outcome.
    pub const fn is_completed(&self) -> bool {
        self.ended.is_some()
    }
}

/// The parameters of a scan. An interrupted scan is continued only with equal ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ScanParameters {
    /// The number of machines over which the relays were divided; at least 1.
    pub partitions: u32,
    /// The part that this scan covers, from 1 to `partitions`.
    pub partition: u32,
    /// The URLs of the destinations.
    pub destinations: Vec<String>,
    /// Only these relays, if the operator named some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relays: Vec<bw_file::Fingerprint>,
    /// The rules of transfers, as the measuring crate describes them.
    #[serde(default)]
    pub transfer: serde_json::Value,
}

impl ScanParameters {
    /// Returns whether it covers chosen relays only: named ones, or those that nobody
    /// measures. A part of the network that other machines complete is not that.
    pub fn is_selection(&self) -> bool {
        !self.relays.is_empty()
            || self
                .transfer
                .get("only")
                .is_some_and(|only| !only.is_null())
    }

    /// A scan of all relays on one machine.
    pub const fn new(destinations: Vec<String>) -> Self {
        Self {
            partitions: 1,
            partition: 1,
            destinations,
            relays: Vec::new(),
            transfer: serde_json::Value::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_read_as_written() {
        let id = ScanId::from_bytes([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
        assert_eq!(id.to_string(), "000102030405060708090a0b0c0d0eff");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "00", &"g".repeat(32), &format!("+{}", "0".repeat(31))] {
            assert_eq!(bad.parse::<ScanId>(), Err(ScanIdError));
        }
    }
}
