//! The way from the scanner to a web server, and what can go wrong on it.

use std::time::Duration;

use bw_file::Fingerprint;
use bw_results::{Blame, FailureKind, Position, Stage};
use tokio::time::Instant;

/// The two relays of a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "two hops are two hops")]
pub struct TwoHops {
    /// The first hop.
    pub entry: Fingerprint,
    /// The second hop, from which streams leave.
    pub exit: Fingerprint,
}

impl TwoHops {
    /// The circuit in which `target` is in `position` and `helper` in the other.
    pub const fn new(target: Fingerprint, position: Position, helper: Fingerprint) -> Self {
        match position {
            Position::Exit => Self {
                entry: helper,
                exit: target,
            },
            _ => Self {
                entry: target,
                exit: helper,
            },
        }
    }
}

/// A path that could not be opened, or that broke.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{stage}: {kind}: {detail}")]
#[non_exhaustive]
pub struct PathError {
    /// The stage that failed.
    pub stage: Stage,
    /// The kind of failure.
    pub kind: FailureKind,
    /// The end that is at fault.
    pub fault: Fault,
    /// The cause in words.
    pub detail: String,
}

impl PathError {
    /// A failure of `stage`.
    pub fn new(stage: Stage, kind: FailureKind, fault: Fault, detail: impl Into<String>) -> Self {
        Self {
            stage,
            kind,
            fault,
            detail: detail.into(),
        }
    }
}

/// The end of a path that is at fault, as those who use it see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The first hop.
    Entry,
    /// The second hop.
    Exit,
    /// One of the two; which cannot be told.
    Either,
    /// The web server behind the exit.
    Destination,
    /// The scanner itself.
    Scanner,
}

impl Fault {
    /// The same seen from the measurement in which the target is in `position`.
    pub const fn blame(self, position: Position) -> Blame {
        match (self, position) {
            (Self::Entry, Position::Entry) | (Self::Exit, Position::Exit) => Blame::Target,
            (Self::Entry | Self::Exit, _) => Blame::Helper,
            (Self::Either, _) => Blame::Path,
            (Self::Destination, _) => Blame::Destination,
            (Self::Scanner, _) => Blame::Scanner,
        }
    }
}

/// The longest time for each stage of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StageTimeouts {
    /// Opening the channel to the first hop: TCP and TLS. Default 20 s.
    pub channel: Duration,
    /// The first hop. Default 20 s.
    pub create: Duration,
    /// The second hop, to which the first may have to connect. Default 30 s.
    pub extend: Duration,
    /// The stream: the exit resolves the name and connects. Default 20 s.
    pub begin: Duration,
    /// The TLS handshake with the web server. Default 20 s.
    pub tls: Duration,
    /// All stages so far together: a path that is slow in each of them holds up the whole
    /// measurement. Default 45 s.
    pub opening: Duration,
    /// From sending the request to the head of the response. Default 20 s.
    pub response: Duration,
}

impl StageTimeouts {
    /// The same, with no stage of the opening longer than what is left of it; it began at
    /// `since`.
    #[must_use]
    pub fn left(&self, since: Instant) -> Self {
        let left = self.opening.saturating_sub(since.elapsed());
        Self {
            channel: self.channel.min(left),
            create: self.create.min(left),
            extend: self.extend.min(left),
            begin: self.begin.min(left),
            tls: self.tls.min(left),
            opening: left,
            response: self.response,
        }
    }
}

impl Default for StageTimeouts {
    fn default() -> Self {
        Self {
            channel: Duration::from_secs(20),
            create: Duration::from_secs(20),
            extend: Duration::from_secs(30),
            begin: Duration::from_secs(20),
            tls: Duration::from_secs(20),
            opening: Duration::from_secs(45),
            response: Duration::from_secs(20),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_put_the_target_where_it_belongs() {
        let (target, helper) = (
            Fingerprint::from_bytes([1; 20]),
            Fingerprint::from_bytes([2; 20]),
        );
        let as_exit = TwoHops::new(target, Position::Exit, helper);
        assert_eq!((as_exit.entry, as_exit.exit), (helper, target));
        let as_entry = TwoHops::new(target, Position::Entry, helper);
        assert_eq!((as_entry.entry, as_entry.exit), (target, helper));
    }

    #[test]
    fn blame_follows_the_position() {
        assert_eq!(Fault::Entry.blame(Position::Entry), Blame::Target);
        assert_eq!(Fault::Entry.blame(Position::Exit), Blame::Helper);
        assert_eq!(Fault::Exit.blame(Position::Entry), Blame::Helper);
        assert_eq!(Fault::Exit.blame(Position::Exit), Blame::Target);
        assert_eq!(Fault::Either.blame(Position::Exit), Blame::Path);
    }
}
