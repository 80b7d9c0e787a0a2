//! A time of day.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bw_results::UnixMillis;

use crate::{Error, ErrorKind};

/// The part of the day (UTC) in which measurements may begin, such as
/// `22:00-06:00`. From and to are different.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Minutes after midnight.
    from: u16,
    to: u16,
}

const MINUTE: u64 = 60_000;
const DAY: u64 = 24 * 60 * MINUTE;

impl Window {
    /// The time until the window opens; `None` while it is open.
    pub fn opens_in(&self, now: UnixMillis) -> Option<Duration> {
        let millis = now.value() % DAY;
        let (from, to) = (u64::from(self.from) * MINUTE, u64::from(self.to) * MINUTE);
        let since = (millis + DAY - from) % DAY;
        let length = (to + DAY - from) % DAY;
        (since >= length).then(|| Duration::from_millis(DAY - since))
    }
}

impl FromStr for Window {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = || {
            let message = format!("{text:?} is not a time of day such as 22:00-06:00 (UTC)");
            Error::new(ErrorKind::Configuration, message)
        };
        let time = |text: &str| -> Option<u16> {
            let (hours, minutes) = text.split_once(':')?;
            let both = [hours, minutes].iter().all(|digits| {
                digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit())
            });
            let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
            (both && hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
        };
        let (from, to) = text.split_once('-').ok_or_else(refuse)?;
        match (time(from), time(to)) {
            (Some(from), Some(to)) if from != to => Ok(Self { from, to }),
            _ => Err(refuse()),
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from, self.to);
        write!(
            f,
            "{:02}:{:02}-{:02}:{:02}",
            from / 60,
            from % 60,
            to / 60,
            to % 60
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: u64, minutes: u64) -> UnixMillis {
        UnixMillis::from_secs(1_790_035_200 / 86_400 * 86_400 + hours * 3600 + minutes * 60)
    }

    #[test]
    fn a_window_may_reach_over_midnight() {
        let night: Window = "22:00-06:30".parse().unwrap();
        assert_eq!(night.opens_in(at(23, 0)), None);
        assert_eq!(night.opens_in(at(22, 0)), None);
        assert_eq!(night.opens_in(at(6, 29)), None);
        assert_eq!(
            night.opens_in(at(6, 30)),
            Some(Duration::from_secs(15 * 3600 + 1800))
        );
        let day: Window = "06:00-22:00".parse().unwrap();
        assert_eq!(day.opens_in(at(5, 0)), Some(Duration::from_secs(3600)));
        assert_eq!(day.opens_in(at(12, 0)), None);
        assert_eq!(day.opens_in(at(23, 0)), Some(Duration::from_secs(7 * 3600)));
        assert_eq!(day.to_string(), "06:00-22:00");
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for bad in [
            "",
            "22-06",
            "22:00",
            "25:00-06:00",
            "1:00-2:00",
            "01:00-01:00",
            "+1:00-02:00",
        ] {
            let error = bad.parse::<Window>().unwrap_err();
            assert!(error.to_string().contains(bad), "{error}");
        }
    }
}
