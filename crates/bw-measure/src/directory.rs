//! Where the scan loop learns what the network looks like.

use std::sync::Arc;

use bw_results::NetworkSnapshot;

use crate::Error;

/// A source of network snapshots.
///
/// [`TorDirectory`](crate::tor::TorDirectory) asks a real network through
/// arti; a simulator or a test answers from what it made up.
pub trait Directory: Send + Sync {
    /// The network as it is now known.
    ///
    /// The scan loop asks before every measurement, so an implementation
    /// answers at once, with the same [`Arc`], as long as nothing changed.
    ///
    /// # Errors
    /// [`ErrorKind::Directory`](crate::ErrorKind::Directory) if there is no
    /// usable consensus.
    fn snapshot(&self) -> impl Future<Output = Result<Arc<NetworkSnapshot>, Error>> + Send;
}

impl<T: Directory + ?Sized> Directory for &T {
    fn snapshot(&self) -> impl Future<Output = Result<Arc<NetworkSnapshot>, Error>> + Send {
        (**self).snapshot()
    }
}
