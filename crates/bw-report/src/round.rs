//! A scan as the overview shows it.

use bw_results::{ScanId, UnixMillis};

/// A round over the relays: how far it is and what it took.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Round {
    /// Identity.
    pub id: ScanId,
    /// The scanner's name.
    pub scanner: String,
    /// When it began.
    pub started: UnixMillis,
    /// When every relay of it was settled.
    pub ended: Option<UnixMillis>,
    /// When it was given up, if it was.
    pub abandoned: Option<UnixMillis>,
    /// The number of relays that it covers.
    pub targets: u64,
    /// The number of relays measured.
    pub measured: u64,
    /// The number of relays given up.
    pub failed: u64,
    /// Outcomes, repeated attempts included.
    pub outcomes: u64,
    /// Payload bytes of all of them.
    pub bytes: u64,
    /// End of the newest outcome.
    pub last_outcome: Option<UnixMillis>,
}

impl Round {
    /// A round that has just begun.
    pub const fn new(id: ScanId, scanner: String, started: UnixMillis) -> Self {
        Self {
            id,
            scanner,
            started,
            ended: None,
            abandoned: None,
            targets: 0,
            measured: 0,
            failed: 0,
            outcomes: 0,
            bytes: 0,
            last_outcome: None,
        }
    }

    /// Its state in one word.
    pub(crate) const fn state(&self) -> &'static str {
        match (self.ended, self.abandoned) {
            (Some(_), _) => "completed",
            (None, Some(_)) => "abandoned",
            (None, None) => "unfinished",
        }
    }

    /// Seconds from its beginning to its end, or to its newest outcome.
    pub(crate) fn seconds(&self) -> Option<u64> {
        let end = self.ended.or(self.abandoned).or(self.last_outcome)?;
        Some(end.since(self.started).as_secs())
    }
}
