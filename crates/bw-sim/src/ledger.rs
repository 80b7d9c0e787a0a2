//! The findings of a scan, relay by relay.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bw_file::Fingerprint;
use bw_measure::{Completion, Records, RunId};
use bw_results::{Blame, FailureKind, NetworkSnapshot, Outcome, Stage, Verdict};

use crate::{Accuracy, Model, Nature};

/// [`Records`] that keep what a scan found of each relay, without the
/// samples: some dozen bytes for each.
#[derive(Debug)]
pub struct Ledger {
    model: Model,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<Fingerprint, Entry>,
    /// The relay and the rate of each record.
    doubted: BTreeMap<RunId, (Fingerprint, Option<f64>)>,
}

/// The findings of a scan on one relay.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Entry {
    /// Its rate in bytes per second, once a record of it was accepted.
    pub rate: Option<f64>,
    /// The rate that it carries at least, if all that is known is a lower bound.
    pub lower_bound: Option<f64>,
    /// Why the last attempt that failed did so.
    pub cause: Option<(Stage, FailureKind, Blame)>,
    /// Attempts, failed ones included.
    pub attempts: u32,
    /// Attempts that the link spoilt.
    pub throttled: u32,
    /// Failures that it is charged with.
    pub charged: u32,
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
            state: Mutex::default(),
        }
    }

    /// The findings until now.
    pub fn entries(&self) -> BTreeMap<Fingerprint, Entry> {
        self.lock().entries.clone()
    }

    /// The distance of the rates of relays with a nature that `counts` says yes to
    /// from what their clients leave. `None` without any.
    pub fn accuracy(&self, counts: impl Fn(&Nature) -> bool) -> Option<Accuracy> {
        let state = self.lock();
        let pairs = state.entries.iter().filter_map(|(fingerprint, entry)| {
            let relay = self.model.relay(fingerprint)?;
            counts(&relay.nature).then_some((entry.rate?, relay.available()))
        });
        Accuracy::of(pairs)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Takes note that a record of `rate` has this verdict.
    fn judge(&mut self, verdict: &Verdict, rate: Option<f64>) {
        match verdict {
            Verdict::Accepted => self.rate = rate,
            Verdict::LowerBound(_) => self.lower_bound = rate,
            Verdict::Remeasure(bw_results::Remeasure::Throttled) => self.throttled += 1,
            Verdict::Charged => self.charged += 1,
            _ => {}
        }
    }
}

impl Records for Ledger {
    type Error = Infallible;

    fn network(&self, _: &NetworkSnapshot) -> Result<(), Infallible> {
        Ok(())
    }

    fn record(&self, run: RunId, completion: &Completion) -> Result<(), Infallible> {
        let mut state = self.lock();
        let State { entries, doubted } = &mut *state;
        let target = completion.outcome.attempt().target.fingerprint;
        let entry = entries.entry(target).or_default();
        entry.attempts += 1;
        entry.bytes += completion.outcome.bytes();
        let rate = match &completion.outcome {
            Outcome::Measured(measurement) => measurement.rates().next(),
            Outcome::Failed(failure) => {
                entry.cause = Some((failure.stage, failure.kind, failure.blame));
                None
            }
        };
        entry.judge(&completion.verdict, rate);
        doubted.insert(run, (target, rate));
        if completion.settled {
            entry.settled = Some(self.model.elapsed());
        }
        Ok(())
    }

    fn revise(&self, run: RunId, verdict: Verdict) -> Result<(), Infallible> {
        let mut state = self.lock();
        let State { entries, doubted } = &mut *state;
        if let Some((target, rate)) = doubted.get(&run) {
            let entry = entries.entry(*target).or_default();
            if matches!(verdict, Verdict::Excused(_)) {
                entry.charged -= 1;
            }
            entry.judge(&verdict, *rate);
        }
        Ok(())
    }
}
