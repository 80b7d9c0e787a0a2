//! Lines for people where there is no terminal.

use std::sync::{Mutex, PoisonError};

use bw_measure::Event;

use super::course::Course;
use super::{Emitter, line, words};
use crate::text::print;

/// A line for each attempt on standard error, and for each round on standard output.
#[derive(Default)]
pub(super) struct Lines(Mutex<Course>);

impl Emitter for Lines {
    fn event(&self, event: &Event<'_>) {
        let mut course = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        course.follow(event);
        match event {
            Event::Ended(completion) => {
                line(&format!("{} {}", course.place(), words::ended(completion)));
            }
            Event::Resumed(round) => line(&words::resumed(round)),
            // A reader that went away must not stop a scan.
            Event::Round(round) => drop(print(words::last_round(round))),
            Event::NextRound(wait) => {
                if let Some(next) = words::next_round(*wait) {
                    line(&format!("waiting for the {next}"));
                }
            }
            _ => {
                if let Some(notice) = words::notice(event) {
                    line(&notice);
                }
            }
        }
    }

    fn say(&self, text: &str) {
        line(text);
    }
}
