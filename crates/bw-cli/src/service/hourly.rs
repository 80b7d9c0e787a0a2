//! A minute of each hour.

use std::str::FromStr;
use std::time::Duration;

use bw_results::UnixMillis;

/// A minute of each hour, at which something is done: `:35`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Minute(u8);

const HOUR: u64 = 3600;

impl Minute {
    /// Returns the time from `now` until this minute begins, an hour at most and never zero.
    pub(crate) const fn next_after(self, now: UnixMillis) -> Duration {
        let hour = HOUR * 1000;
        let wanted = self.0 as u64 * 60_000;
        let wait = (wanted + hour - now.value() % hour) % hour;
        Duration::from_millis(if wait == 0 { hour } else { wait })
    }

    /// Returns the time for which one waits who waited for `before` until now. A clock that
    /// was set forward does not skip an hour, and one that was set back does not add any.
    pub(crate) fn due(self, now: UnixMillis, before: Option<UnixMillis>) -> UnixMillis {
        let next = now.after(self.next_after(now));
        before.map_or(next, |before| before.min(next))
    }
}

impl FromStr for Minute {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix(':').unwrap_or(text);
        match digits.parse() {
            Ok(minute) if minute < 60 => Ok(Self(minute)),
            _ => Err("give a minute from :00 to :59".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_once_in_each_hour() {
        let minute: Minute = ":35".parse().unwrap();
        let midnight = 1_790_035_200;
        for (after, wait) in [
            (0, 2100),
            (2099, 1),
            (2100, 3600),
            (2101, 3599),
            (3599, 2101),
        ] {
            let now = UnixMillis::from_secs(midnight + after);
            assert_eq!(minute.next_after(now), Duration::from_secs(wait), "{after}");
        }
        assert_eq!("5".parse(), Ok(Minute(5)));
        for wrong in ["", ":60", "-1", "1:30", ":"] {
            assert!(wrong.parse::<Minute>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_clock_that_is_set_skips_nothing() {
        let minute: Minute = ":35".parse().unwrap();
        let at = |minutes: u64| UnixMillis::from_secs(1_790_035_200 + minutes * 60);
        let due = minute.due(at(20), None);
        assert_eq!(due, at(35));
        // The machine slept.
        assert_eq!(minute.due(at(50), Some(due)), at(35));
        // The clock was a day ahead.
        let far = at(35 + 24 * 60);
        assert_eq!(minute.due(at(20), Some(far)), at(35));
    }
}
