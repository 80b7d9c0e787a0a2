//! Nothing while the terminal belongs to those who watch.

use std::sync::{Mutex, PoisonError};

use bw_measure::Event;

use super::{Emitter, words};
use crate::text::print;

/// Keeps how the last round went for the end.
#[derive(Default)]
pub(super) struct Watched(Mutex<Option<String>>);

impl Emitter for Watched {
    fn event(&self, event: &Event<'_>) {
        if let Event::Round(round) = event {
            let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *last = Some(words::last_round(round));
        }
    }

    fn finish(&self) {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(text) = last {
            let _ = print(text);
        }
    }
}
