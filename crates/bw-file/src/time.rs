//! Points in time, in the two spellings of the format.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970-01-01T00:00:00 UTC, leap seconds not counted.
///
/// Shown as a plain number: the spelling of the file's first line and of
/// Torflow's `measured_at` and `updated_at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct UnixTime(i64);

/// A point in time as the header lines and sbws's `time` spell it:
/// `YYYY-MM-DDTHH:MM:SS`, in UTC, without zone and fraction
/// (bandwidth-file-spec 2.1.4).
///
/// Years 0 to 9999 can be spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DateTime(UnixTime);

/// A text or a number that is not a [`DateTime`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{expected} expected, found {found:?}")]
pub struct DateTimeError {
    expected: &'static str,
    found: String,
}

const SECONDS_PER_DAY: i64 = 86_400;
/// Days from 0000-03-01 to 1970-01-01 in the proleptic Gregorian calendar.
const DAYS_TO_EPOCH: i64 = 719_468;
/// Days in 400 years, after which the calendar repeats.
const DAYS_PER_ERA: i64 = 146_097;

impl UnixTime {
    /// The point `seconds` after the epoch.
    pub const fn new(seconds: i64) -> Self {
        Self(seconds)
    }

    /// Seconds since the epoch.
    pub const fn seconds(self) -> i64 {
        self.0
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<DateTime> for UnixTime {
    fn from(time: DateTime) -> Self {
        time.0
    }
}

/// Whole seconds, those that have begun left out. Times further from the epoch than
/// 64 bits reach become the last that they do.
impl From<SystemTime> for UnixTime {
    fn from(time: SystemTime) -> Self {
        let seconds = match time.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            Err(error) => {
                let before = error.duration();
                let begun = u64::from(before.subsec_nanos() > 0);
                0_i64.saturating_sub_unsigned(before.as_secs().saturating_add(begun))
            }
        };
        Self(seconds)
    }
}

/// ```
/// use bw_file::{DateTime, UnixTime};
///
/// let time = DateTime::try_from(UnixTime::new(1_700_000_000))?;
/// assert_eq!(time.to_string(), "2023-11-14T22:13:20");
/// assert_eq!(UnixTime::from(time), UnixTime::new(1_700_000_000));
/// assert!(DateTime::try_from(UnixTime::new(i64::MAX)).is_err());
/// # Ok::<(), bw_file::DateTimeError>(())
/// ```
impl TryFrom<UnixTime> for DateTime {
    type Error = DateTimeError;

    /// # Errors
    /// If the year is not in 0..=9999.
    fn try_from(time: UnixTime) -> Result<Self, DateTimeError> {
        Self::new(time).ok_or_else(|| DateTimeError {
            expected: "a time in the years 0 to 9999",
            found: time.to_string(),
        })
    }
}

impl DateTime {
    /// The point in time, if its year is in 0..=9999.
    pub fn new(time: UnixTime) -> Option<Self> {
        // 0000-01-01T00:00:00 to 9999-12-31T23:59:59
        const SPELLABLE: std::ops::RangeInclusive<i64> = -62_167_219_200..=253_402_300_799;
        SPELLABLE.contains(&time.0).then_some(Self(time))
    }

    /// Reads the spelling above and no other.
    ///
    /// # Errors
    /// If `text` is anything else, or a day that the calendar does not have.
    pub fn parse(text: &[u8]) -> Result<Self, DateTimeError> {
        civil_seconds(text)
            .map(|seconds| Self(UnixTime(seconds)))
            .ok_or_else(|| DateTimeError {
                expected: "a date and time as YYYY-MM-DDTHH:MM:SS",
                found: String::from_utf8_lossy(&text[..text.len().min(40)]).into_owned(),
            })
    }

    /// Seconds since the epoch.
    pub const fn seconds(self) -> i64 {
        self.0.0
    }
}

/// `YYYY-MM-DDTHH:MM:SS` as seconds since the epoch.
fn civil_seconds(text: &[u8]) -> Option<i64> {
    let text: &[u8; 19] = text.try_into().ok()?;
    let number = |from: usize, to: usize| {
        text[from..to].iter().try_fold(0_i64, |value, &byte| {
            byte.is_ascii_digit()
                .then(|| value * 10 + i64::from(byte - b'0'))
        })
    };
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|&(at, byte)| text[at] != byte) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    if !(1..=days_in_month).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Years begin in March here, so that a leap day ends one.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * DAYS_PER_ERA + day_of_era - DAYS_TO_EPOCH;
    Some(days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second)
}

impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.seconds().div_euclid(SECONDS_PER_DAY) + DAYS_TO_EPOCH;
        let second = self.seconds().rem_euclid(SECONDS_PER_DAY);
        let era = days.div_euclid(DAYS_PER_ERA);
        let day_of_era = days.rem_euclid(DAYS_PER_ERA);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 {
            shifted_month + 3
        } else {
            shifted_month - 9
        };
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    }
}

impl FromStr for DateTime {
    type Err = DateTimeError;

    fn from_str(text: &str) -> Result<Self, DateTimeError> {
        Self::parse(text.as_bytes())
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for DateTime {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for DateTime {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_moments() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00", 0),
            ("2000-02-29T12:34:56", 951_827_696),
            ("2019-04-21T21:34:57", 1_555_882_497),
            ("1969-12-31T23:59:59", -1),
            ("0000-01-01T00:00:00", -62_167_219_200),
            ("9999-12-31T23:59:59", 253_402_300_799),
        ] {
            let time: DateTime = text.parse().unwrap();
            assert_eq!(time.seconds(), seconds, "{text}");
            assert_eq!(time.to_string(), text);
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in [
            "2019-04-21 21:34:57",
            "2019-04-21T21:34:57Z",
            "2019-04-21T21:34",
            "2019-04-21T21:34:57.0",
            "2019-02-29T00:00:00",
            "2019-13-01T00:00:00",
            "2019-04-21T24:00:00",
            "+019-04-21T21:34:57",
            "",
        ] {
            assert!(text.parse::<DateTime>().is_err(), "{text}");
        }
    }

    #[test]
    fn system_times_are_rounded_down() {
        use std::time::Duration;
        let half = Duration::from_millis(1500);
        assert_eq!(UnixTime::from(UNIX_EPOCH + half), UnixTime::new(1));
        assert_eq!(UnixTime::from(UNIX_EPOCH - half), UnixTime::new(-2));
        assert_eq!(UnixTime::from(UNIX_EPOCH), UnixTime::new(0));
    }

    proptest! {
        #[test]
        fn spelling_and_reading_agree(seconds in -62_167_219_200_i64..=253_402_300_799) {
            let time = DateTime::new(UnixTime::new(seconds)).unwrap();
            prop_assert_eq!(time.to_string().parse(), Ok(time));
        }
    }
}
