//! Few lines: those of a service's journal, and fewer still.

use bw_measure::Event;

use super::{Emitter, line, words};

/// Tells of rounds, and of what is lost and comes back.
pub(super) struct Rounds;

/// Tells of what is lost and comes back.
pub(super) struct Quiet;

impl Emitter for Rounds {
    fn event(&self, event: &Event<'_>) {
        if let Event::Round(round) = event {
            let id = round.scan.to_string();
            let id = id.get(..8).unwrap_or_default();
            line(&format!("bwscan: round {id}: {}", words::round(round)));
        }
        Quiet.event(event);
    }
}

impl Emitter for Quiet {
    fn event(&self, event: &Event<'_>) {
        if let Some(notice) = words::notice(event) {
            line(&format!("bwscan: {notice}"));
        }
    }
}
