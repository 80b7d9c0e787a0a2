//! Bandwidths with their unit in the type.
//!
//! The format mixes two units: `bw` is in kilobytes per second (1000 bytes,
//! since every generator divides by 1000), the other bandwidths are in bytes
//! per second (bandwidth-file-spec, "Definitions").

use std::fmt;

/// A bandwidth in bytes per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct BytesPerSecond(u64);

/// A bandwidth in kilobytes (1000 bytes) per second, as `bw` and the
/// consensus weights are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct KilobytesPerSecond(u64);

impl BytesPerSecond {
    /// A bandwidth of `value` bytes per second.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number of bytes per second.
    pub const fn value(self) -> u64 {
        self.0
    }

    /// The number alone, as files spell it.
    pub(crate) fn as_number(&self) -> &u64 {
        &self.0
    }
}

impl KilobytesPerSecond {
    /// A bandwidth of `value` times 1000 bytes per second.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number of kilobytes (1000 bytes) per second.
    pub const fn value(self) -> u64 {
        self.0
    }

    /// The number alone, as files spell it.
    pub(crate) fn as_number(&self) -> &u64 {
        &self.0
    }

    /// The same bandwidth in bytes per second, saturating at [`u64::MAX`].
    pub const fn to_bytes(self) -> BytesPerSecond {
        BytesPerSecond(self.0.saturating_mul(1000))
    }
}

impl fmt::Display for BytesPerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} B/s", self.0)
    }
}

impl fmt::Display for KilobytesPerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} kB/s", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kilobyte_is_a_thousand_bytes() {
        let kb = KilobytesPerSecond::new(7);
        assert_eq!(kb.to_bytes(), BytesPerSecond::new(7000));
        assert_eq!(
            KilobytesPerSecond::new(u64::MAX).to_bytes().value(),
            u64::MAX
        );
    }
}
