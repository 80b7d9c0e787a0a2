//! Showing how a scan goes: bars on a terminal, plain lines elsewhere.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bw_file::Fingerprint;
use bw_measure::{Completion, Event, Observer};
use bw_results::{Attempt, Measurement, Outcome, ScanId, Verdict};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::outcome_json::OutcomeLine;
use crate::text::{kilobytes, print, print_json_line, size};

/// How a scan is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// A bar on a terminal, or a line per relay where there is none.
    Human,
    /// One JSON object per line on standard output.
    Json,
    /// Nothing.
    Quiet,
}

/// Shows a scan while it runs.
pub(crate) struct Progress {
    style: Style,
    bar: ProgressBar,
    state: Mutex<State>,
}

/// What came of a round, as far as it was made by this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RoundSummary {
    pub(crate) scan: ScanId,
    pub(crate) measured: usize,
    pub(crate) failed: usize,
    pub(crate) bytes: u64,
}

impl RoundSummary {
    pub(crate) const fn new(scan: ScanId) -> Self {
        Self {
            scan,
            measured: 0,
            failed: 0,
            bytes: 0,
        }
    }
}

#[derive(Default)]
struct State {
    targets: u64,
    done: u64,
    failed: u64,
    /// Bytes of the attempts under way, each by its target.
    running: HashMap<Fingerprint, u64>,
    /// Bytes since the rate was last shown, and when that was.
    recent: u64,
    shown: Option<Instant>,
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
        }
    }

    /// Tells something that is not part of a scan, such as bootstrapping.
    pub(crate) fn say(&self, text: &str) {
        if self.style != Style::Human {
            return;
        }
        if self.bar.is_hidden() {
            let _ = writeln!(std::io::stderr(), "{text}");
        } else {
            self.bar.set_message(text.to_owned());
        }
    }

    /// Tells how a round ended, or how far it came with `left` relays to go.
    pub(crate) fn round(&self, round: &RoundSummary, left: usize) -> anyhow::Result<()> {
        let RoundSummary {
            scan,
            measured,
            failed,
            bytes,
        } = round;
        self.bar.suspend(|| match self.style {
            Style::Quiet => Ok(()),
            Style::Json => print_json_line(&json!({
                "event": "round",
                "scan": scan,
                "completed": left == 0,
                "measured": measured,
                "failed": failed,
                "left": left,
                "bytes": bytes,
            })),
            Style::Human => {
                let rest = if left > 0 {
                    "; the next \"bwscan scan\" goes on"
                } else {
                    ""
                };
                print(format!(
                    "{measured} relays measured, {failed} failed, {left} left; {} received{rest}",
                    size(*bytes),
                ))
            }
        })
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn started(&self, targets: usize) {
        if matches!(self.style, Style::Json) {
            // A reader that went away must not stop a scan.
            let _ = print_json_line(&json!({ "event": "started", "targets": targets }));
        }
        let mut state = self.lock();
        if state.done == state.targets {
            *state = State::default();
            self.bar.reset_eta();
        }
        state.targets += targets as u64;
        self.bar.set_length(state.targets);
        self.bar.set_position(state.done);
        // A fixed template: it cannot be wrong at run time only.
        if let Ok(style) = ProgressStyle::with_template(
            "{elapsed_precise} [{bar:30}] {pos}/{len} relays, {eta} left  {msg}",
        ) {
            self.bar.set_style(style.progress_chars("=> "));
        }
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
            let rate = kilobytes(state.recent as f64 / seconds);
            let (running, failed) = (state.running.len(), state.failed);
            self.bar
                .set_message(format!("{running} at a time, {rate} kB/s, {failed} failed"));
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
            Style::Quiet => {}
            Style::Json => {
                // A reader that went away must not stop a scan.
                let _ = print_json_line(&OutcomeLine::new(outcome, completion.verdict, settled));
            }
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

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Numbers for show: still good after a panic elsewhere.
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What a measurement says of its relay: `2440 kB/s`.
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
        match *event {
            Event::Started { targets } => self.started(targets),
            Event::Attempt(attempt) => self.attempt(attempt),
            Event::Progress { attempt, bytes } => self.progress(attempt, bytes),
            Event::Ended(completion) => self.ended(completion),
            Event::Control(outcome) => {
                let target = outcome.attempt().target.fingerprint;
                self.lock().running.remove(&target);
            }
            _ => {}
        }
    }
}
