//! Bandwidths with their unit in the type.
//!
//! The format mixes two units: `bw` is in kilobytes per second (1000 bytes,
//! since every generator divides by 1000), the other bandwidths are in bytes
//! per second (bandwidth-file-spec, "Definitions").

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};

/// A bandwidth in bytes per second.
///
/// ```
/// use bw_file::{BytesPerSecond, KilobytesPerSecond};
///
/// let total: KilobytesPerSecond = [760, 40].map(KilobytesPerSecond::new).into_iter().sum();
/// assert_eq!(BytesPerSecond::from(total) + BytesPerSecond::new(1), BytesPerSecond::new(800_001));
/// ```
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

impl From<KilobytesPerSecond> for BytesPerSecond {
    fn from(bandwidth: KilobytesPerSecond) -> Self {
        bandwidth.to_bytes()
    }
}

macro_rules! sums {
    ($type:ident) => {
        /// Sums that 64 bits cannot hold are [`u64::MAX`]: bandwidths come from
        /// files that anybody can write.
        impl Add for $type {
            type Output = Self;

            fn add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }
        }

        impl AddAssign for $type {
            fn add_assign(&mut self, other: Self) {
                *self = *self + other;
            }
        }

        impl Sum for $type {
            fn sum<I: Iterator<Item = Self>>(bandwidths: I) -> Self {
                bandwidths.fold(Self::default(), Add::add)
            }
        }

        impl<'a> Sum<&'a Self> for $type {
            fn sum<I: Iterator<Item = &'a Self>>(bandwidths: I) -> Self {
                bandwidths.copied().sum()
            }
        }
    };
}

sums!(BytesPerSecond);
sums!(KilobytesPerSecond);

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
    fn sums_do_not_wrap() {
        let relays = [1, 2, 3].map(KilobytesPerSecond::new);
        assert_eq!(relays.iter().sum::<KilobytesPerSecond>().value(), 6);
        let large = [BytesPerSecond::new(1 << 63); 2];
        assert_eq!(large.into_iter().sum::<BytesPerSecond>().value(), u64::MAX);
    }

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
