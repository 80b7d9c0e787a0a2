//! Where a scan's relays come from.

use std::error::Error;

use bw_file::Fingerprint;
use bw_results::NetworkSnapshot;

use crate::{RunId, Target};

/// Gives a scan the relays to measure.
///
/// The scan loop calls it, so an implementation returns at once.
pub trait Targets: Send + Sync {
    /// Tells why no targets can be given; it ends the scan.
    type Error: Error + Send + Sync + 'static;

    /// Returns further relays to measure in `network`, while `waiting` relays wait.
    ///
    /// A scan asks when it begins, when the network changed, and when no relay waits any
    /// more. So a round can begin while the last relays of the one before run.
    ///
    /// # Errors
    /// If relays cannot be given, which ends the scan.
    fn more(&self, network: &NetworkSnapshot, waiting: usize) -> Result<Vec<Target>, Self::Error>;

    /// Learns which runs stand for the [`records`](Target::records) of a target that it gave.
    fn recalled(&self, relay: Fingerprint, runs: &[RunId]) {
        let _ = (relay, runs);
    }
}

impl<T: Targets + ?Sized> Targets for &T {
    type Error = T::Error;

    fn more(&self, network: &NetworkSnapshot, waiting: usize) -> Result<Vec<Target>, T::Error> {
        (**self).more(network, waiting)
    }

    fn recalled(&self, relay: Fingerprint, runs: &[RunId]) {
        (**self).recalled(relay, runs);
    }
}
