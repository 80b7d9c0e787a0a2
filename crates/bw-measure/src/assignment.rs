//! The relay to measure, its helpers, and the web server.

use bw_file::Fingerprint;
use bw_results::{Direction, Position, ScanId, TargetFacts};

use crate::{Destination, TwoHops};

/// One measurement to make.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Assignment {
    /// The relay to measure, with what is known of it.
    pub target: TargetFacts,
    /// Where in the circuits it is.
    pub position: Position,
    /// The relays in the other position, one for each circuit. What the
    /// circuits carry is summed.
    pub helpers: Vec<Fingerprint>,
    /// The web server.
    pub destination: Destination,
    /// The direction of the payload.
    pub direction: Direction,
    /// The scan that wants it.
    pub scan: Option<ScanId>,
}

impl Assignment {
    /// A download through `target` and `helpers` from `destination`.
    pub fn new(
        target: impl Into<TargetFacts>,
        position: Position,
        helpers: Vec<Fingerprint>,
        destination: Destination,
    ) -> Self {
        Self {
            target: target.into(),
            position,
            helpers,
            destination,
            direction: Direction::Download,
            scan: None,
        }
    }

    /// The circuit through `helper`.
    pub(crate) fn path(&self, helper: Fingerprint) -> TwoHops {
        TwoHops::new(self.target.fingerprint, self.position, helper)
    }
}
