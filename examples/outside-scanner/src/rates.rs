//! The rates that a scan found.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bw_file::Fingerprint;
use bw_measure::{Event, Observer};
use bw_results::Outcome;

/// The newest rate of each relay, in bytes per second.
#[derive(Default)]
pub(crate) struct Rates(Mutex<BTreeMap<Fingerprint, f64>>);

impl Rates {
    /// Returns what was found, and forgets it.
    pub(crate) fn take(&self) -> BTreeMap<Fingerprint, f64> {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Fingerprint, f64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Rates {
    fn observe(&self, event: &Event<'_>) {
        let Event::Ended(completion) = event else {
            return;
        };
        if let Outcome::Measured(measurement) = &completion.outcome
            && completion.verdict.gives_rate()
        {
            let relay = measurement.attempt.target.fingerprint;
            self.lock()
                .extend(measurement.rates().map(|rate| (relay, rate)));
        }
    }
}
