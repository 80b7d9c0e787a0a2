//! Where a scan's records go.

use std::convert::Infallible;
use std::error::Error;

use bw_results::{NetworkSnapshot, Verdict};

use crate::{Completion, RunId};

/// Keeps the records of a scan, with their verdicts.
///
/// The scan loop calls it, so an implementation returns at once.
pub trait Records: Send + Sync {
    /// Tells why a record cannot be kept; it ends the scan.
    type Error: Error + Send + Sync + 'static;

    /// Notes the network in which the following records are made.
    ///
    /// # Errors
    /// If it cannot be kept, which ends the scan.
    fn network(&self, snapshot: &NetworkSnapshot) -> Result<(), Self::Error>;

    /// Keeps the record that `run` made.
    ///
    /// # Errors
    /// If it cannot be kept, which ends the scan.
    fn record(&self, run: RunId, completion: &Completion) -> Result<(), Self::Error>;

    /// Replaces the verdict of the record that `run` made earlier.
    ///
    /// # Errors
    /// If it cannot be kept, which ends the scan.
    fn revise(&self, run: RunId, verdict: Verdict) -> Result<(), Self::Error>;
}

impl<R: Records + ?Sized> Records for &R {
    type Error = R::Error;

    fn network(&self, snapshot: &NetworkSnapshot) -> Result<(), R::Error> {
        (**self).network(snapshot)
    }

    fn record(&self, run: RunId, completion: &Completion) -> Result<(), R::Error> {
        (**self).record(run, completion)
    }

    fn revise(&self, run: RunId, verdict: Verdict) -> Result<(), R::Error> {
        (**self).revise(run, verdict)
    }
}

/// Records that are not kept: an [`Observer`](crate::Observer) sees them.
impl Records for () {
    type Error = Infallible;

    fn network(&self, _: &NetworkSnapshot) -> Result<(), Infallible> {
        Ok(())
    }

    fn record(&self, _: RunId, _: &Completion) -> Result<(), Infallible> {
        Ok(())
    }

    fn revise(&self, _: RunId, _: Verdict) -> Result<(), Infallible> {
        Ok(())
    }
}
