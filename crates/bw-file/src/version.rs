//! Versions of the format and of tor.

use std::fmt;
use std::str::FromStr;

use crate::number::parse_unsigned;

/// A version of the bandwidth-file format.
///
/// Informational: no key is ever skipped because the label is older than the
/// key. Files without a `version` line are 1.0.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FormatVersion {
    major: u32,
    minor: u32,
    patch: u32,
}

/// A version of tor, where its treatment of bandwidth files changed.
///
/// Ordered as tor orders them: `0.4.8.1-alpha` comes before `0.4.8.1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TorVersion {
    numbers: [u32; 4],
    released: bool,
    status: String,
}

/// A text that is not a version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} expected, found {found:?}")]
pub struct VersionError {
    what: &'static str,
    found: String,
}

impl FormatVersion {
    /// Torflow's format: no headers, no terminator.
    pub const V1_0_0: Self = Self::new(1, 0, 0);
    /// Headers and a terminator.
    pub const V1_1_0: Self = Self::new(1, 1, 0);
    /// Header-only files; eligibility counts.
    pub const V1_2_0: Self = Self::new(1, 2, 0);
    /// Withdrawn before anything used it; still accepted.
    pub const V1_3_0: Self = Self::new(1, 3, 0);
    /// Diagnostic relay lines (`vote=0`).
    pub const V1_4_0: Self = Self::new(1, 4, 0);
    /// Drops one header key.
    pub const V1_5_0: Self = Self::new(1, 5, 0);
    /// Adds `xoff_recv` and `xoff_sent`.
    pub const V1_6_0: Self = Self::new(1, 6, 0);
    /// Adds stream ratios and network averages.
    pub const V1_7_0: Self = Self::new(1, 7, 0);
    /// Adds `dirauth_nickname`.
    pub const V1_8_0: Self = Self::new(1, 8, 0);
    /// `node_id` may come without `$`.
    pub const V1_9_0: Self = Self::new(1, 9, 0);

    /// The version `major.minor.patch`.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self {
            major,
            minor,
            patch,
        }
    }

    /// The first number: 1 for everything that exists.
    pub const fn major(self) -> u32 {
        self.major
    }

    /// The second number.
    pub const fn minor(self) -> u32 {
        self.minor
    }

    /// The third number.
    pub const fn patch(self) -> u32 {
        self.patch
    }

    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let mut numbers = text.split(|&byte| byte == b'.').map(small);
        let version = Self::new(numbers.next()??, numbers.next()??, numbers.next()??);
        numbers.next().is_none().then_some(version)
    }
}

fn small(digits: &[u8]) -> Option<u32> {
    parse_unsigned(digits)?.try_into().ok()
}

impl fmt::Display for FormatVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for FormatVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        Self::parse(text.as_bytes()).ok_or_else(|| VersionError {
            what: "a format version such as 1.9.0",
            found: text.chars().take(64).collect(),
        })
    }
}

impl TorVersion {
    /// The release `a.b.c.d`.
    pub const fn release(a: u32, b: u32, c: u32, d: u32) -> Self {
        Self {
            numbers: [a, b, c, d],
            released: true,
            status: String::new(),
        }
    }

    /// The release that this crate's judgements were checked against.
    pub const CHECKED: Self = Self::release(0, 4, 9, 11);

    /// The oldest tor that [judgements](crate::TorJudge) are made for,
    /// 0.3.5.1: older ones read lines into a buffer of 512 bytes.
    pub const OLDEST_JUDGED: Self = Self::release(0, 3, 5, 1);

    /// Returns true if `node_id` may come without `$`: from 0.4.8.11.
    pub fn takes_bare_fingerprints(&self) -> bool {
        *self >= Self::release(0, 4, 8, 11)
    }

    /// Returns true if lines with `vote=0` are skipped: from 0.4.0.4, and in the 0.3.5
    /// series from 0.3.5.9.
    pub fn skips_vote_0(&self) -> bool {
        let series = [self.numbers[0], self.numbers[1], self.numbers[2]];
        let patch = self.numbers[3];
        // The candidate 0.4.0.4-rc has it already.
        match series {
            [0, 3, 5] => patch >= 9,
            [0, 4, 0] => patch >= 4,
            _ => series >= [0, 4, 1],
        }
    }

    /// Returns true if votes carry `bandwidth-file-digest`: from 0.4.0.4.
    pub fn votes_digest(&self) -> bool {
        self.numbers >= [0, 4, 0, 4]
    }

    /// Returns true if weights of authorities are voted as `MeasuredButAuthority=`: from
    /// 0.4.7.11.
    pub fn measures_authorities_apart(&self) -> bool {
        *self >= Self::release(0, 4, 7, 11)
    }

    /// The longest line that is read whole, in bytes without its line feed:
    /// any from 0.3.5.1.
    pub fn longest_line(&self) -> Option<usize> {
        if self.numbers >= [0, 3, 5, 1] {
            None
        } else if self.numbers >= [0, 2, 6, 3] {
            Some(510)
        } else {
            Some(254)
        }
    }

    /// Returns true if `node_id` is understood at the end of a line: from 0.3.4.1.
    pub fn takes_trailing_node_id(&self) -> bool {
        self.numbers >= [0, 3, 4, 1]
    }
}

impl fmt::Display for TorVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, micro, patch] = self.numbers;
        write!(f, "{major}.{minor}.{micro}.{patch}")?;
        if self.released {
            Ok(())
        } else {
            write!(f, "-{}", self.status)
        }
    }
}

impl FromStr for TorVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let (numbers, status) = match text.split_once('-') {
            Some((numbers, status)) => (numbers, Some(status)),
            None => (text, None),
        };
        let mut parsed = [0; 4];
        let mut parts = numbers.split('.').map(|part| small(part.as_bytes()));
        let complete = parsed
            .iter_mut()
            .all(|number| match parts.next().flatten() {
                Some(part) => {
                    *number = part;
                    true
                }
                None => false,
            });
        if complete && parts.next().is_none() && status != Some("") {
            Ok(Self {
                numbers: parsed,
                released: status.is_none(),
                status: status.unwrap_or_default().to_owned(),
            })
        } else {
            Err(VersionError {
                what: "a tor version such as 0.4.8.11 or 0.4.9.1-alpha",
                found: text.chars().take(64).collect(),
            })
        }
    }
}

macro_rules! textual_serde {
    ($type:ty) => {
        #[cfg(feature = "serde")]
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        #[cfg(feature = "serde")]
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

textual_serde!(FormatVersion);
textual_serde!(TorVersion);

#[cfg(test)]
mod tests {
    use super::*;

    fn tor(text: &str) -> TorVersion {
        text.parse().unwrap()
    }

    #[test]
    fn format_versions_are_three_numbers() {
        assert_eq!("1.9.0".parse(), Ok(FormatVersion::V1_9_0));
        assert!(FormatVersion::V1_9_0 < FormatVersion::new(1, 10, 0));
        for bad in [
            "1.9",
            "1.9.0.0",
            "1..0",
            "v1.0.0",
            "1.0.x",
            "",
            "1.0.99999999999",
        ] {
            assert!(bad.parse::<FormatVersion>().is_err(), "{bad}");
        }
    }

    #[test]
    fn tor_versions_order_as_tor_does() {
        assert!(tor("0.4.8.11-alpha") < tor("0.4.8.11"));
        assert!(tor("0.4.8.9") < tor("0.4.8.11"));
        assert_eq!(tor("0.4.9.1-alpha-dev").to_string(), "0.4.9.1-alpha-dev");
        for bad in ["0.4.8", "0.4.8.1.2", "0.4.8.x", "0.4.8.1-", ""] {
            assert!(bad.parse::<TorVersion>().is_err(), "{bad}");
        }
    }

    #[test]
    fn lines_were_bounded_once() {
        assert_eq!(tor("0.2.6.2-alpha").longest_line(), Some(254));
        assert_eq!(tor("0.3.4.11").longest_line(), Some(510));
        assert_eq!(tor("0.3.5.1-alpha").longest_line(), None);
    }

    #[test]
    fn vote_0_was_backported() {
        assert!(!tor("0.3.5.8").skips_vote_0());
        assert!(tor("0.3.5.9").skips_vote_0());
        assert!(!tor("0.4.0.3-alpha").skips_vote_0());
        assert!(tor("0.4.0.4-rc").skips_vote_0());
        assert!(tor("0.4.1.1-alpha").skips_vote_0());
        assert!(!tor("0.3.4.11").skips_vote_0());
    }
}
