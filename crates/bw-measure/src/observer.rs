//! What a scan tells while it runs.

use bw_results::{Attempt, NetworkSnapshot, Outcome};

use crate::Completion;

/// Someone who wants to know how a scan goes: a progress bar, a log, metrics.
///
/// Called from within the scan loop: an implementation returns at once.
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
    /// The scan begins, with so many relays to measure.
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
    /// An attempt ended: its record, its verdict, and whether the relay is done with.
    Ended(&'a Completion),
    /// An attempt ended that only had to show whether anything works: it is not
    /// recorded, and settles nobody.
    Control(&'a Outcome),
}
