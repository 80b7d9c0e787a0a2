//! Instants of the wall clock, as records keep them.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bw_file::{DateTime, UnixTime};
use serde::{Deserialize, Serialize};

/// The time by which a record may be ahead of its reader's clock, one hour:
/// clocks of two machines differ, by less than this if anybody looks after them.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(3600);

/// An instant of the wall clock: milliseconds since the Unix epoch, UTC.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixMillis(u64);

impl UnixMillis {
    /// The instant `millis` milliseconds after the Unix epoch.
    pub const fn new(millis: u64) -> Self {
        Self(millis)
    }

    /// The instant `seconds` seconds after the Unix epoch, saturating.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn value(self) -> u64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// Returns whether it is more than [`CLOCK_TOLERANCE`] after `now`: no record has
    /// such a time unless a clock is wrong.
    pub fn is_ahead_of(self, now: Self) -> bool {
        self > now.after(CLOCK_TOLERANCE)
    }

    /// A complaint about `what`, which has this time, if that is
    /// [ahead of](Self::is_ahead_of) `now`.
    pub fn problem_ahead_of(self, now: Self, what: impl fmt::Display) -> Option<String> {
        self.is_ahead_of(now).then(|| {
            let [time, now] = [self, now].map(Self::to_iso);
            format!(
                "{what} is dated {time}, more than an hour ahead of now ({now}): a clock is wrong"
            )
        })
    }

    /// The instant of a text like `2026-11-18T11:30:00`, UTC. What follows the
    /// seconds, a fraction or `+00:00`, is not looked at.
    pub fn parse_iso(text: &str) -> Option<Self> {
        let time = DateTime::parse(text.as_bytes().get(..19)?).ok()?;
        let seconds = u64::try_from(UnixTime::from(time).seconds()).ok()?;
        Some(Self::from_secs(seconds))
    }

    /// The same form, in whole seconds. Years after 9999 have none; their
    /// instants become the last second of that year.
    pub fn to_iso(self) -> String {
        /// 9999-12-31T23:59:59.
        const LAST: i64 = 253_402_300_799;
        let seconds = i64::try_from(self.as_secs()).unwrap_or(LAST).min(LAST);
        DateTime::new(UnixTime::new(seconds)).map_or_else(String::new, |time| time.to_string())
    }

    /// The time from `earlier` to `self`; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The instant `duration` before `self`, not before the epoch.
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// The instant `duration` after `self`, saturating.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl From<SystemTime> for UnixMillis {
    /// Times before the epoch become the epoch.
    fn from(time: SystemTime) -> Self {
        Self(millis(time.duration_since(UNIX_EPOCH).unwrap_or_default()))
    }
}

impl From<UnixMillis> for SystemTime {
    fn from(time: UnixMillis) -> Self {
        UNIX_EPOCH + Duration::from_millis(time.0)
    }
}

impl fmt::Display for UnixMillis {
    /// Seconds since the epoch with three decimals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_never_wrap() {
        let (early, late) = (UnixMillis::new(1_500), UnixMillis::new(4_000));
        assert_eq!(late.since(early), Duration::from_millis(2_500));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(early.before(Duration::from_secs(9)), UnixMillis::new(0));
        assert_eq!(late.to_string(), "4.000");
    }

    #[test]
    fn iso_times_are_read_as_written() {
        let time = UnixMillis::from_secs(1_795_001_400);
        assert_eq!(time.to_iso(), "2026-11-18T11:30:00");
        for end in ["", "+00:00", ".250+00:00"] {
            let text = format!("2026-11-18T11:30:00{end}");
            assert_eq!(UnixMillis::parse_iso(&text), Some(time));
        }
        assert_eq!(UnixMillis::parse_iso("noon"), None);
        assert_eq!(UnixMillis::new(u64::MAX).to_iso(), "9999-12-31T23:59:59");
    }

    #[test]
    fn what_is_ahead_of_the_clock_is_told_with_both_times() {
        let now = UnixMillis::from_secs(1_795_001_400);
        let late = now.after(CLOCK_TOLERANCE);
        assert_eq!(late.problem_ahead_of(now, "it"), None);
        let later = late.after(Duration::from_secs(1));
        let problem = later.problem_ahead_of(now, "it").unwrap();
        for part in ["it is dated 2026-11-18T12:30:01", "2026-11-18T11:30:00"] {
            assert!(problem.contains(part), "{problem}");
        }
    }

    #[test]
    fn system_time_and_back() {
        let time = UnixMillis::new(1_700_000_000_123);
        assert_eq!(UnixMillis::from(SystemTime::from(time)), time);
    }
}
