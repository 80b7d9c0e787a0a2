//! One JSON object per line on standard output.

use bw_measure::Event;
use bw_watch::ScanEvent;

use super::{Emitter, line, words};
use crate::text::print_json_line;

/// Prints events as JSON; people are told on standard error what is lost.
pub(super) struct Json;

impl Emitter for Json {
    fn event(&self, event: &Event<'_>) {
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
        if let Some(notice) = words::notice(event) {
            line(&format!("bwscan: {notice}"));
        }
    }
}
