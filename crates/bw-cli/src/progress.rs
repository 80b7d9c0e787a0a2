//! Showing how a scan goes, in one of several forms.

mod bar;
mod course;
mod json;
mod lines;
mod rounds;
mod watched;
mod words;

use std::io::{IsTerminal, Write};

use bw_measure::{Event, Observer};
use bw_watch::Hub;

use self::bar::Bar;
use self::json::Json;
use self::lines::Lines;
use self::rounds::{Quiet, Rounds};
use self::watched::Watched;

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

/// One form of output.
trait Emitter: Send + Sync {
    /// Shows what happens in a scan.
    fn event(&self, event: &Event<'_>);

    /// Shows something that is not part of a scan, such as bootstrapping.
    fn say(&self, _text: &str) {}

    /// Leaves the terminal to others.
    fn finish(&self) {}
}

/// Shows a scan while it runs.
pub(crate) struct Progress {
    emitter: Box<dyn Emitter>,
    hub: Hub,
}

impl Progress {
    /// Progress on standard error (and, in JSON, on standard output).
    pub(crate) fn new(style: Style) -> Self {
        let emitter: Box<dyn Emitter> = match style {
            Style::Human if std::io::stderr().is_terminal() => Box::new(Bar::new()),
            Style::Human => Box::new(Lines::default()),
            Style::Json => Box::new(Json),
            Style::Rounds => Box::new(Rounds),
            Style::Quiet => Box::new(Quiet),
            Style::Watched => Box::new(Watched::default()),
        };
        Self {
            emitter,
            hub: Hub::new(),
        }
    }

    /// The hub that tells all who watch.
    pub(crate) const fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Tells something that is not part of a scan, such as bootstrapping.
    pub(crate) fn say(&self, text: &str) {
        self.hub.say(text);
        self.emitter.say(text);
    }

    /// Takes a bar away, and says what was kept for the end.
    pub(crate) fn finish(&self) {
        self.emitter.finish();
    }
}

impl Observer for Progress {
    fn observe(&self, event: &Event<'_>) {
        self.hub.observe(event);
        self.emitter.event(event);
    }
}

/// A line on standard error; a reader that went away must not stop a scan.
fn line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
