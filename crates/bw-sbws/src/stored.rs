//! Outcomes of a store as results of sbws.

use std::ops::ControlFlow;

use bw_file::Fingerprint;
use bw_results::Verdict;
use bw_store::{Filter, Store, Stored, Stores, Supplemented};

use crate::{Facts, Result, ResultLine};

/// Shows each selected outcome of `store` as a result of sbws: imported ones, and
/// of our own scans those that sbws would have made, accepted measurements and
/// charged failures.
///
/// # Errors
/// If the store fails; `visit` has seen some of them then.
pub fn for_each_result<B>(
    store: &Store,
    filter: &Filter,
    mut visit: impl FnMut(ResultLine) -> ControlFlow<B>,
) -> Result<ControlFlow<B>> {
    let end = store.for_each_supplemented(filter, |stored| {
        let Stored {
            scanner,
            verdict,
            value: (outcome, facts),
            ..
        } = stored;
        if facts.is_none() && !sbws_makes(verdict) {
            return ControlFlow::Continue(());
        }
        visit(ResultLine::from_outcome(scanner, &outcome, facts))
    });
    Ok(end?)
}

/// The same of several stores, each outcome once, and several times faster:
/// without path, destination and message.
///
/// # Errors
/// If a store fails; `visit` has seen some of them then.
pub fn for_each_facts<B>(
    stores: &Stores,
    filter: &Filter,
    mut visit: impl FnMut(Fingerprint, Facts) -> ControlFlow<B>,
) -> Result<ControlFlow<B>> {
    let end = stores.for_each_supplement(filter, |stored| match stored.value {
        (relay, Supplemented::Supplement(facts)) => visit(relay, facts),
        (relay, Supplemented::Outcome(outcome)) if sbws_makes(stored.verdict) => {
            visit(relay, Facts::of_outcome(&outcome))
        }
        (_, Supplemented::Outcome(_)) => ControlFlow::Continue(()),
    });
    Ok(end?)
}

/// Returns whether sbws would have made a result of an outcome with this verdict.
const fn sbws_makes(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Accepted | Verdict::Charged)
}
