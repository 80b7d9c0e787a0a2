//! What a scan found, relay by relay.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bw_file::Fingerprint;
use bw_measure::{Error, Recorder};
use bw_results::{Blame, FailureKind, NetworkSnapshot, Outcome, Stage};

use crate::{Accuracy, Model, Nature};

/// A [`Recorder`] that keeps what a scan found of each relay, without the
/// samples: some dozen bytes for each.
#[derive(Debug)]
pub struct Ledger {
    model: Model,
    entries: Mutex<BTreeMap<Fingerprint, Entry>>,
}

/// What a scan found of one relay.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Entry {
    /// Its rate in bytes per second, once it has one.
    pub rate: Option<f64>,
    /// Why the last attempt that failed did so.
    pub cause: Option<(Stage, FailureKind, Blame)>,
    /// Attempts, failed ones included.
    pub attempts: u32,
    /// Payload bytes of all attempts.
    pub bytes: u64,
    /// When it was last settled, since the beginning of the model's time.
    pub settled: Option<Duration>,
}

impl Ledger {
    /// An empty ledger of `model`.
    pub fn new(model: &Model) -> Self {
        Self {
            model: model.clone(),
            entries: Mutex::default(),
        }
    }

    /// What was found until now.
    pub fn entries(&self) -> BTreeMap<Fingerprint, Entry> {
        self.lock().clone()
    }

    /// How far the rates of relays with a nature that `counts` says yes to are
    /// from what their clients leave. `None` without any.
    pub fn accuracy(&self, counts: impl Fn(&Nature) -> bool) -> Option<Accuracy> {
        let entries = self.lock();
        let pairs = entries.iter().filter_map(|(fingerprint, entry)| {
            let relay = self.model.relay(fingerprint)?;
            counts(&relay.nature).then_some((entry.rate?, relay.available()))
        });
        Accuracy::of(pairs)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Fingerprint, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorder for Ledger {
    fn network(&self, _: &NetworkSnapshot) -> Result<(), Error> {
        Ok(())
    }

    fn record(&self, outcome: &Outcome, settled: bool) -> Result<(), Error> {
        let mut entries = self.lock();
        let target = outcome.attempt().target.fingerprint;
        let entry = entries.entry(target).or_default();
        entry.attempts += 1;
        match outcome {
            Outcome::Measured(measurement) => {
                entry.rate = measurement.rates().next();
                entry.bytes += measurement.bytes();
            }
            Outcome::Failed(failure) => {
                entry.cause = Some((failure.stage, failure.kind, failure.blame));
                entry.bytes += failure.bytes;
            }
        }
        if settled {
            entry.settled = Some(self.model.elapsed());
        }
        Ok(())
    }
}
