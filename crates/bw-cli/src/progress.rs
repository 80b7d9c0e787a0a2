//! Showing how a scan goes: bars on a terminal, plain lines elsewhere.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bw_file::Fingerprint;
use bw_measure::{Change, Completion, Error, Event, Observer, RoundReport};
use bw_results::{Attempt, Measurement, Outcome, Verdict};
use bw_watch::text::time;
use bw_watch::{Hub, ScanEvent};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::text::{format_utc, kilobytes, print, print_json_line, size};

/// The form in which a scan is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// A bar on a terminal, or a line per relay where there is none.
    Human,
    /// One JSON object per line on standard output.
    Json,
    /// Lines for rounds, and for what is lost and comes back.
    Rounds,
    /// Lines for what is lost and comes back.
    Quiet,
    /// Nothing, as the terminal belongs to those who watch; at the end how the last round went.
    Watched,
}

/// Shows a scan while it runs.
pub(crate) struct Progress {
    style: Style,
    bar: ProgressBar,
    state: Mutex<State>,
    hub: Hub,
    /// A text for the end.
    last_words: Mutex<Option<String>>,
}

#[derive(Default)]
struct State {
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

impl State {
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

    /// The time for the rest at the pace so far.
    fn left(&self, now: Instant) -> Option<Duration> {
        let (done, begin) = self.since?;
        let pace = now.saturating_duration_since(begin).as_secs_f64()
            / self.done.checked_sub(done).filter(|&count| count > 0)? as f64;
        Duration::try_from_secs_f64(pace * self.targets.saturating_sub(self.done) as f64).ok()
    }

    /// The text beside the bar, at most 47 columns for less than 1000 circuits
    /// and failures.
    fn status(&self, now: Instant, bytes_per_second: f64) -> String {
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

impl Progress {
    /// Progress on standard error (and, in JSON, on standard output).
    pub(crate) fn new(style: Style) -> Self {
        let show_bar = style == Style::Human && std::io::stderr().is_terminal();
        let target = if show_bar {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.enable_steady_tick(Duration::from_millis(500));
        Self {
            style,
            bar,
            state: Mutex::default(),
            hub: Hub::new(),
            last_words: Mutex::default(),
        }
    }

    /// The hub that tells all who watch.
    pub(crate) const fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Tells something that is not part of a scan, such as bootstrapping.
    pub(crate) fn say(&self, text: &str) {
        self.hub.say(text);
        if self.style != Style::Human {
            return;
        }
        if self.bar.is_hidden() {
            let _ = writeln!(std::io::stderr(), "{text}");
        } else {
            self.bar.set_message(text.to_owned());
        }
    }

    /// Tells that a round goes on, of which a part was done before.
    fn resumed(&self, round: &RoundReport) {
        let (done, id) = (round.measured + round.failed, round.scan.to_string());
        self.lock().before = done as u64;
        self.note(&format!(
            "resuming scan {}: {done} of {} relays are done",
            id.get(..8).unwrap_or(&id),
            done + round.left
        ));
    }

    /// Tells that the next round begins in `time`.
    fn next_round(&self, time: Duration) {
        if time.is_zero() {
            return;
        }
        let at = format_utc((SystemTime::now() + time).into(), "%H:%M:%S");
        self.note(&format!("waiting for the next round at {at} UTC"));
        self.bar.set_message(format!("next round at {at} UTC"));
    }

    /// Tells that rounds wait for `reason` to pass.
    fn waiting(&self, reason: &Error, retry: Duration) {
        self.notice(&format!("{reason}; next try in {}", time(retry.as_secs())));
    }

    /// Tells that something that all measurements need was lost or came back.
    fn changed(&self, change: &Change) {
        if let Some(ScanEvent::Changed { detail, .. }) = ScanEvent::new(&Event::Changed(change)) {
            self.notice(&detail);
        }
    }

    /// Prints what happened as a line of JSON.
    fn json(&self, event: &Event<'_>) {
        let is_left_out = match event {
            Event::Network(_)
            | Event::Attempt(_)
            | Event::Progress { .. }
            | Event::Estimate { .. }
            | Event::Control(_) => true,
            Event::NextRound(time) => time.is_zero(),
            _ => false,
        };
        if let Some(event) = ScanEvent::new(event).filter(|_| !is_left_out) {
            // A reader that went away must not stop a scan.
            let _ = print_json_line(&event);
        }
    }

    /// A line for people, above the bar if there is one.
    fn note(&self, text: &str) {
        if self.style != Style::Human {
            return;
        }
        if self.bar.is_hidden() {
            let _ = writeln!(std::io::stderr(), "{text}");
        } else {
            self.bar.println(text);
        }
    }

    /// A line that people are told in every style.
    fn notice(&self, text: &str) {
        if self.style == Style::Human {
            self.note(text);
        } else if self.style != Style::Watched {
            let _ = writeln!(std::io::stderr(), "bwscan: {text}");
        }
    }

    /// Tells how a round ended, or how far it came.
    fn round(&self, round: &RoundReport) {
        let RoundReport {
            scan,
            measured,
            failed,
            left,
            bytes,
            ..
        } = round;
        match self.style {
            Style::Quiet | Style::Json => {}
            Style::Rounds => self.notice(&format!(
                "round {}: {measured} relays measured, {failed} failed, {left} left; {} received",
                scan.to_string().get(..8).unwrap_or_default(),
                size(*bytes),
            )),
            Style::Human | Style::Watched => {
                let rest = if *left > 0 {
                    "; the next \"bwscan scan\" goes on"
                } else {
                    ""
                };
                let text = format!(
                    "{measured} relays measured, {failed} failed, {left} left; {} received{rest}",
                    size(*bytes),
                );
                if self.style == Style::Watched {
                    *lock(&self.last_words) = Some(text);
                } else {
                    // A reader that went away must not stop a scan.
                    let _ = self.bar.suspend(|| print(text));
                }
            }
        }
    }

    /// Takes the bar away, and says what was kept for the end.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
        if let Some(text) = lock(&self.last_words).take() {
            let _ = print(text);
        }
    }

    fn started(&self, targets: usize) {
        let mut state = self.lock();
        state.add(targets as u64);
        self.bar.set_length(state.targets);
        self.bar.set_position(state.done);
        // A fixed template: it cannot be wrong at run time only.
        if let Ok(style) =
            ProgressStyle::with_template("{elapsed_precise} [{bar:8}] {pos}/{len} {wide_msg}")
        {
            self.bar.set_style(style.progress_chars("=> "));
        }
        self.bar.set_message(state.status(Instant::now(), 0.0));
    }

    fn attempt(&self, attempt: &Attempt) {
        let mut state = self.lock();
        state.running.insert(attempt.target.fingerprint, 0);
        state.shown.get_or_insert_with(Instant::now);
    }

    fn progress(&self, attempt: &Attempt, bytes: u64) {
        let mut state = self.lock();
        let before = state.running.insert(attempt.target.fingerprint, bytes);
        state.recent += bytes.saturating_sub(before.unwrap_or(0));
        let seconds = state
            .shown
            .map_or(0.0, |shown| shown.elapsed().as_secs_f64());
        if seconds >= 1.0 {
            let rate = state.recent as f64 / seconds;
            self.bar.set_message(state.status(Instant::now(), rate));
            (state.recent, state.shown) = (0, Some(Instant::now()));
        }
    }

    fn ended(&self, completion: &Completion) {
        let (outcome, settled) = (&completion.outcome, completion.settled);
        let mut state = self.lock();
        state.running.remove(&outcome.attempt().target.fingerprint);
        if settled {
            state.done += 1;
        }
        if settled && matches!(outcome, Outcome::Failed(_)) {
            state.failed += 1;
        }
        self.bar.set_position(state.done);
        match self.style {
            Style::Quiet | Style::Rounds | Style::Json | Style::Watched => {}
            Style::Human => {
                let line = self.line(&state, completion);
                if self.bar.is_hidden() {
                    let _ = writeln!(std::io::stderr(), "{line}");
                } else if matches!(outcome, Outcome::Failed(_)) {
                    self.bar.println(line);
                }
            }
        }
    }

    fn line(&self, state: &State, completion: &Completion) -> String {
        let (outcome, settled) = (&completion.outcome, completion.settled);
        let target = &outcome.attempt().target;
        let result = match outcome {
            Outcome::Measured(measurement) => format!(
                "{} as {} ({})",
                rate(measurement, completion.verdict),
                measurement.attempt.position,
                size(measurement.bytes()),
            ),
            Outcome::Failed(failure) => format!(
                "{} at stage {} ({}): {}",
                if settled {
                    "failed"
                } else {
                    "failed, will be tried again,"
                },
                failure.stage,
                failure.blame,
                failure.detail,
            ),
        };
        format!(
            "[{}/{}] {} {}: {result}",
            state.done, state.targets, target.fingerprint, target.nickname
        )
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Numbers for show: still good after a panic elsewhere.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The rate of a measurement: `2440 kB/s`.
fn rate(measurement: &Measurement, verdict: Verdict) -> String {
    let rate = kilobytes(measurement.rates().next().unwrap_or(0.0));
    match verdict {
        Verdict::LowerBound(by) => format!("at least {rate} kB/s, bounded by the {by},"),
        Verdict::Remeasure(reason) => {
            let reason = reason.as_str().replace('_', " ");
            format!("no rate ({reason}), will be tried again,")
        }
        _ => format!("{rate} kB/s"),
    }
}

impl Observer for Progress {
    fn observe(&self, event: &Event<'_>) {
        self.hub.observe(event);
        if self.style == Style::Json {
            self.json(event);
        }
        match *event {
            Event::Started { targets } => self.started(targets),
            Event::Attempt(attempt) => self.attempt(attempt),
            Event::Progress { attempt, bytes } => self.progress(attempt, bytes),
            Event::Ended(completion) => self.ended(completion),
            Event::Control(outcome) => {
                let target = outcome.attempt().target.fingerprint;
                self.lock().running.remove(&target);
            }
            Event::Changed(change) => self.changed(change),
            Event::Resumed(round) => self.resumed(round),
            Event::Round(round) => self.round(round),
            Event::NextRound(time) => self.next_round(time),
            Event::Waiting { reason, retry } => self.waiting(reason, retry),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bar's own columns: time, brackets, `10000/10000` and spaces.
    const BAR: usize = 8 + 1 + 10 + 1 + 11 + 1;

    #[test]
    fn a_line_fits_eighty_columns_and_begins_with_an_unknown_time() {
        let mut state = State::default();
        state.add(10_000);
        let begin = Instant::now();
        for number in 0..100 {
            state
                .running
                .insert(Fingerprint::from_bytes([number; 20]), 0);
        }
        state.failed = 999;
        let text = state.status(begin, 0.0);
        assert!(text.starts_with("left: unknown, 100 open, "), "{text}");
        for rate in [0.0, 999_900.0, 12_500_000.0, 125_000_000.0] {
            let text = state.status(begin, rate);
            assert!(BAR + text.len() <= 80, "{text}");
        }
        state.done = 5_000;
        let text = state.status(begin + Duration::from_secs(1800), 1e6);
        assert!(
            text.starts_with("left: 30m0") || text.starts_with("left: 29m59s"),
            "{text}"
        );
    }

    #[test]
    fn rounds_are_counted_one_by_one() {
        let mut state = State {
            before: 70,
            ..State::default()
        };
        state.add(30);
        assert_eq!((state.done, state.targets), (70, 100));
        // What was done before tells nothing of the pace.
        assert_eq!(state.left(Instant::now() + Duration::from_secs(9)), None);
        state.done += 30;
        state.add(100);
        assert_eq!((state.done, state.targets), (0, 100));
    }
}
