//! A bar on the terminal.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bw_measure::Event;
use bw_results::Outcome;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::course::Course;
use super::{Emitter, words};
use crate::text::print;

/// A bar with the time left and the rate; failures and whatever else wants attention above it.
pub(super) struct Bar {
    bar: ProgressBar,
    course: Mutex<Course>,
}

impl Bar {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.enable_steady_tick(Duration::from_millis(500));
        Self {
            bar,
            course: Mutex::default(),
        }
    }

    fn started(&self, course: &Course) {
        self.bar.set_length(course.targets());
        self.bar.set_position(course.done());
        // A fixed template: it cannot be wrong at run time only.
        if let Ok(style) =
            ProgressStyle::with_template("{elapsed_precise} [{bar:8}] {pos}/{len} {wide_msg}")
        {
            self.bar.set_style(style.progress_chars("=> "));
        }
        self.bar.set_message(course.status(Instant::now(), 0.0));
    }
}

impl Emitter for Bar {
    fn event(&self, event: &Event<'_>) {
        let mut course = self.course.lock().unwrap_or_else(PoisonError::into_inner);
        course.follow(event);
        match event {
            Event::Started { .. } => self.started(&course),
            Event::Progress { .. } => {
                let now = Instant::now();
                if let Some(rate) = course.recent_rate(now) {
                    self.bar.set_message(course.status(now, rate));
                }
            }
            Event::Ended(completion) => {
                self.bar.set_position(course.done());
                if matches!(completion.outcome, Outcome::Failed(_)) {
                    let text = words::ended(completion);
                    self.bar.println(format!("{} {text}", course.place()));
                }
            }
            Event::Resumed(round) => self.bar.println(words::resumed(round)),
            Event::Round(round) => {
                // A reader that went away must not stop a scan.
                let _ = self.bar.suspend(|| print(words::last_round(round)));
            }
            Event::NextRound(wait) => {
                if let Some(next) = words::next_round(*wait) {
                    self.bar.println(format!("waiting for the {next}"));
                    self.bar.set_message(next);
                }
            }
            _ => {
                if let Some(notice) = words::notice(event) {
                    self.bar.println(notice);
                }
            }
        }
    }

    fn say(&self, text: &str) {
        self.bar.set_message(text.to_owned());
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
