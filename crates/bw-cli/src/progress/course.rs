//! The course of rounds, in numbers.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bw_file::Fingerprint;
use bw_measure::{Completion, Event};
use bw_results::Outcome;
use bw_watch::text::time;

use crate::text::size;

/// The relays that are done, and the attempts under way.
#[derive(Default)]
pub(super) struct Course {
    targets: u64,
    done: u64,
    failed: u64,
    /// Relays of a resumed round that were done before, until it starts.
    before: u64,
    /// Relays done since the estimate of the time left began, and when that was.
    since: Option<(u64, Instant)>,
    /// Bytes of the attempts under way, each by its target.
    running: HashMap<Fingerprint, u64>,
    /// Bytes since the rate was last shown, and when that was.
    recent: u64,
    shown: Option<Instant>,
}

impl Course {
    pub(super) fn follow(&mut self, event: &Event<'_>) {
        match event {
            Event::Started { targets } => self.add(*targets as u64),
            Event::Resumed(round) => self.before = (round.measured + round.failed) as u64,
            Event::Attempt(attempt) => {
                self.running.insert(attempt.target.fingerprint, 0);
                self.shown.get_or_insert_with(Instant::now);
            }
            Event::Progress { attempt, bytes } => {
                let before = self.running.insert(attempt.target.fingerprint, *bytes);
                self.recent += bytes.saturating_sub(before.unwrap_or(0));
            }
            Event::Ended(completion) => self.ended(completion),
            Event::Control(outcome) => {
                self.running.remove(&outcome.attempt().target.fingerprint);
            }
            _ => {}
        }
    }

    /// The relays of one more round, or of more in a round that runs.
    fn add(&mut self, targets: u64) {
        let before = std::mem::take(&mut self.before);
        if self.done == self.targets {
            *self = Self::default();
        }
        self.done += before;
        self.targets += before + targets;
        self.since = Some((self.done, Instant::now()));
    }

    fn ended(&mut self, completion: &Completion) {
        let target = completion.outcome.attempt().target.fingerprint;
        self.running.remove(&target);
        if completion.settled {
            self.done += 1;
            self.failed += u64::from(matches!(completion.outcome, Outcome::Failed(_)));
        }
    }

    pub(super) const fn targets(&self) -> u64 {
        self.targets
    }

    pub(super) const fn done(&self) -> u64 {
        self.done
    }

    /// Relays that are done, of all: `[3/12]`.
    pub(super) fn place(&self) -> String {
        format!("[{}/{}]", self.done, self.targets)
    }

    /// The rate since it was last asked for, in bytes per second; none within a second.
    pub(super) fn recent_rate(&mut self, now: Instant) -> Option<f64> {
        let since = self.shown?;
        let seconds = now.saturating_duration_since(since).as_secs_f64();
        let rate = (seconds >= 1.0).then(|| self.recent as f64 / seconds)?;
        (self.recent, self.shown) = (0, Some(now));
        Some(rate)
    }

    /// The time for the rest at the pace so far.
    fn left(&self, now: Instant) -> Option<Duration> {
        let (done, begin) = self.since?;
        let pace = now.saturating_duration_since(begin).as_secs_f64()
            / self.done.checked_sub(done).filter(|&count| count > 0)? as f64;
        Duration::try_from_secs_f64(pace * self.targets.saturating_sub(self.done) as f64).ok()
    }

    /// The text beside the bar, at most 47 columns for less than 1000 circuits
    /// and failures.
    pub(super) fn status(&self, now: Instant, bytes_per_second: f64) -> String {
        let left = self
            .left(now)
            .map_or("unknown".to_owned(), |left| time(left.as_secs()));
        format!(
            "left: {left}, {} open, {}/s, {} failed",
            self.running.len(),
            size(bytes_per_second as u64),
            self.failed,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bar's own columns: time, brackets, `10000/10000` and spaces.
    const BAR: usize = 8 + 1 + 10 + 1 + 11 + 1;

    #[test]
    fn a_line_fits_eighty_columns_and_begins_with_an_unknown_time() {
        let mut course = Course::default();
        course.add(10_000);
        let begin = Instant::now();
        for number in 0..100 {
            course
                .running
                .insert(Fingerprint::from_bytes([number; 20]), 0);
        }
        course.failed = 999;
        let text = course.status(begin, 0.0);
        assert!(text.starts_with("left: unknown, 100 open, "), "{text}");
        for rate in [0.0, 999_900.0, 12_500_000.0, 125_000_000.0] {
            let text = course.status(begin, rate);
            assert!(BAR + text.len() <= 80, "{text}");
        }
        course.done = 5_000;
        let text = course.status(begin + Duration::from_secs(1800), 1e6);
        assert!(
            text.starts_with("left: 30m0") || text.starts_with("left: 29m59s"),
            "{text}"
        );
    }

    #[test]
    fn rounds_are_counted_one_by_one() {
        let mut course = Course {
            before: 70,
            ..Course::default()
        };
        course.add(30);
        assert_eq!((course.done, course.targets), (70, 100));
        // What was done before tells nothing of the pace.
        assert_eq!(course.left(Instant::now() + Duration::from_secs(9)), None);
        course.done += 30;
        course.add(100);
        assert_eq!((course.done, course.targets), (0, 100));
    }
}
