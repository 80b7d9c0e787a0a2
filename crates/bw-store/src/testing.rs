//! Helpers that the tests of this crate share.

pub(crate) use bw_results::testing::{failed, fingerprint, measured, scan, snapshot};
use bw_results::{Outcome, ScanId, Verdict};

use crate::{Result, Store};

/// Records with the default verdict; a measurement settles its relay.
pub(crate) fn keep(store: &mut Store, scan: &ScanId, outcome: &Outcome) -> Result<bool> {
    let settled = matches!(outcome, Outcome::Measured(_));
    store.record(scan, outcome, &Verdict::default_of(outcome), settled)
}
