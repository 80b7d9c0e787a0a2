//! Telling how a scan goes while it runs.

use std::time::Duration;

use bw_file::Fingerprint;
use bw_results::{Attempt, Blame, NetworkSnapshot, Outcome};

use crate::{Completion, Destination, Error, Estimate, RoundReport};

/// Someone who wants to know how a scan goes: a progress bar, a log, metrics.
///
/// The scan loop calls it: an implementation returns at once.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn observe(&self, event: &Event<'_>);
}

/// An observer that looks away.
impl Observer for () {
    fn observe(&self, _: &Event<'_>) {}
}

impl<F: Fn(&Event<'_>) + Send + Sync> Observer for F {
    fn observe(&self, event: &Event<'_>) {
        self(event);
    }
}

/// Something that happened in a scan.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The scan begins, with so many relays to measure; or more come.
    Started {
        /// Relays without an outcome.
        targets: usize,
    },
    /// The network changed, or is seen for the first time.
    Network(&'a NetworkSnapshot),
    /// An attempt begins.
    Attempt(&'a Attempt),
    /// Payload is coming.
    Progress {
        /// The attempt that is under way.
        attempt: &'a Attempt,
        /// Bytes of the body so far.
        bytes: u64,
    },
    /// A quarter of a second later, what the payload tells.
    Estimate {
        /// The attempt that is under way.
        attempt: &'a Attempt,
        /// The rate so far; `None` as long as nothing that counts has come.
        estimate: Option<Estimate>,
        /// Bytes that each helper's circuit has brought so far.
        helpers: &'a [(Fingerprint, u64)],
    },
    /// An attempt ended: its record, its verdict, and whether the relay is done with.
    Ended(&'a Completion),
    /// An attempt ended that only had to show whether anything works: it is not
    /// recorded, and settles nobody.
    Control(&'a Outcome),
    /// Something that all measurements need was lost, or came back.
    Changed(&'a Change),
    /// A round goes on that an earlier process, or an earlier try, began.
    Resumed(&'a RoundReport),
    /// A round ended, or stops with relays left.
    Round(&'a RoundReport),
    /// The next round begins after this time.
    NextRound(Duration),
    /// The rounds wait for what stopped them to pass.
    Waiting {
        /// The error that stopped them.
        reason: &'a Error,
        /// When they try again.
        retry: Duration,
    },
}

/// Something that all measurements need was lost, or came back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A destination fails while another works; it is left alone for a while.
    DestinationDown(Destination),
    /// A destination that was down works again.
    DestinationUp(Destination),
    /// Nothing can be measured any more.
    NothingWorks {
        /// The destination, or the scanner with its connection to the network.
        suspect: Blame,
        /// The last failure.
        detail: String,
    },
    /// Something was measured again.
    WorksAgain,
    /// The directory gives no consensus; the scan goes on with the last one.
    DirectoryLost(String),
    /// The directory gives a consensus again.
    DirectoryBack,
}
