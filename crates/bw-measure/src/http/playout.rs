//! Bytes of an upload, at the pace at which the server got them.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The interval at which what becomes due by and by is handed out.
const GRAIN: Duration = Duration::from_millis(5);

/// Spreads what each receipt confirms evenly over the time, by the server's clock, since the
/// receipt before it.
///
/// An exit may hold receipts back and let them go at once, but not change the times in them. So
/// a byte becomes due no earlier than its receipt comes, and no faster than the server got
/// it: receipts that come late leave a gap, and what they confirm is then made up for at the
/// server's pace, never faster. As in the jitter buffer of a telephone, the delay grows to
/// that of the latest receipt so far and stays; from then on lateness up to it leaves no gap.
///
/// The first receipt is the beginning: what it confirms came before, and is not handed out.
#[derive(Debug, Default)]
pub(super) struct Playout {
    /// Bytes that are not all due yet, in order.
    spans: VecDeque<Span>,
    /// The server's time of the last receipt, and ours at which all that it confirms is due.
    last: Option<(Duration, Instant)>,
    /// Bytes that are due and were not taken.
    due: u64,
}

/// Bytes that become due evenly.
#[derive(Debug)]
struct Span {
    begin: Instant,
    length: Duration,
    bytes: u64,
    /// The number of these bytes that have become due.
    released: u64,
}

impl Playout {
    /// A receipt came at `now` for `bytes` more, written at `at` by the server's clock, which is
    /// not before that of the receipt before it.
    pub(super) fn add(&mut self, bytes: u64, at: Duration, now: Instant) {
        let Some((last, until)) = self.last else {
            self.last = Some((at, now));
            return;
        };
        let (begin, length) = (until.max(now), at.saturating_sub(last));
        if bytes > 0 {
            self.spans.push_back(Span {
                begin,
                length,
                bytes,
                released: 0,
            });
        }
        self.last = Some((at, begin + length));
    }

    /// The number of bytes that are due at `now` and were not taken.
    pub(super) fn due(&mut self, now: Instant) -> u64 {
        while let Some(span) = self.spans.front_mut() {
            let (time, length) = (now.saturating_duration_since(span.begin), span.length);
            let is_over = now >= span.begin + length;
            let so_far = if is_over {
                span.bytes
            } else {
                let share = u128::from(span.bytes) * time.as_micros() / length.as_micros().max(1);
                u64::try_from(share).unwrap_or(u64::MAX).min(span.bytes)
            };
            self.due += so_far - span.released;
            span.released = so_far;
            if !is_over {
                break;
            }
            self.spans.pop_front();
        }
        self.due
    }

    /// When more is due; `None` if nothing is left.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let span = self.spans.front()?;
        let end = span.begin + span.length;
        Some(end.min(now.max(span.begin) + GRAIN))
    }

    /// Takes up to `most` bytes of those that were due when it was last asked.
    pub(super) fn take(&mut self, most: u64) -> u64 {
        let taken = most.min(self.due);
        self.due -= taken;
        taken
    }

    /// The number of receipts that wait.
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATE: f64 = 100_000.0;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Bytes taken in each 10 ms if the receipt that the server writes each 100 ms, for
    /// 10,000 bytes, comes when `comes` says; the first is for a second's bytes.
    fn taken(comes: &[u64]) -> Vec<u64> {
        let (begin, mut playout, mut taken) = (Instant::now(), Playout::default(), Vec::new());
        let mut receipts = comes.iter().enumerate().peekable();
        let mut time = 0;
        while receipts.peek().is_some() || playout.len() > 0 {
            let now = begin + ms(time);
            while let Some((index, _)) = receipts.next_if(|(_, comes)| **comes <= time) {
                let bytes = if index == 0 { 100_000 } else { 10_000 };
                playout.add(bytes, ms(1000 + 100 * index as u64), now);
            }
            playout.due(now);
            taken.push(playout.take(u64::MAX));
            time += 10;
        }
        taken
    }

    /// The most of any second, relative to the true rate.
    fn most(taken: &[u64]) -> f64 {
        let all = taken.windows(100).map(|second| second.iter().sum::<u64>());
        all.max().unwrap_or_default() as f64 / RATE
    }

    fn mean(taken: &[u64]) -> f64 {
        taken.iter().sum::<u64>() as f64 / taken.len() as f64 * 100.0 / RATE
    }

    #[test]
    fn what_came_before_the_first_receipt_does_not_count() {
        let taken = taken(&[0, 100, 200]);
        assert_eq!(taken.iter().sum::<u64>(), 20_000);
    }

    #[test]
    fn receipts_in_time_are_handed_out_evenly_and_without_a_gap() {
        let comes: Vec<u64> = (0..100).map(|n| 50 + 100 * n + n * 37 % 40).collect();
        let taken = taken(&comes);
        let (steady, full) = (&taken[60..], |&bytes: &u64| bytes == 1000);
        assert!(steady.iter().all(full), "{taken:?}");
    }

    #[test]
    fn receipts_held_back_and_let_go_at_once_raise_nothing() {
        // All of 19 s at once.
        let banked: Vec<u64> = (0..300).map(|n| (100 * n).max(19_000)).collect();
        assert!(most(&taken(&banked)) <= 1.01);
        // Again and again, longer and longer; the gaps lower the mean.
        for hold in [300, 1000, 3000, 9000] {
            let toggled: Vec<u64> = (0..400).map(|n| 100 * n + 50).collect();
            let toggled: Vec<u64> = toggled.iter().map(|at| at.next_multiple_of(hold)).collect();
            let taken = taken(&toggled);
            assert!(most(&taken) <= 1.01, "{hold}: {}", most(&taken));
            assert!((0.75..=1.0).contains(&mean(&taken)), "{hold}");
        }
    }

    #[test]
    fn nothing_is_lost_if_it_is_taken_bit_by_bit() {
        let (begin, mut playout) = (Instant::now(), Playout::default());
        playout.add(5, ms(0), begin);
        playout.add(1000, ms(70), begin);
        let (mut now, mut sum) = (begin, 0);
        while let Some(next) = playout.next(now) {
            assert!(next > now && next <= now + GRAIN);
            now = next;
            let due = playout.due(now);
            let taken = playout.take(7);
            assert_eq!(taken, due.min(7));
            sum += taken;
        }
        assert_eq!(now, begin + ms(70));
        assert_eq!(sum + playout.take(u64::MAX), 1000);
    }

    proptest! {
        #[test]
        fn no_delays_make_it_faster(delays in prop::collection::vec(0_u64..5_000, 1..200)) {
            let mut last = 0;
            let comes: Vec<u64> = delays
                .iter()
                .enumerate()
                .map(|(index, delay)| {
                    last = last.max(100 * index as u64 + delay);
                    last
                })
                .collect();
            let taken = taken(&comes);
            prop_assert!(most(&taken) <= 1.01);
            prop_assert_eq!(taken.iter().sum::<u64>(), 10_000 * (delays.len() as u64 - 1));
        }
    }
}
