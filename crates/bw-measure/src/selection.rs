//! Choosing the relays that a round covers.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};

use bw_file::Fingerprint;
use bw_results::NetworkSnapshot;

use crate::{Partition, Target, Targets};

/// The relays of a consensus that a round covers: all but the authorities, which get no
/// weight from scanners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Selection {
    /// Only these relays, if there are any; those that left the consensus are included.
    pub relays: Vec<Fingerprint>,
    /// Only relays that the consensus calls unmeasured.
    pub unmeasured: bool,
    /// Only this part of them.
    pub partition: Partition,
}

impl Selection {
    /// Returns the relays of `network` that are covered, each once, by fingerprint.
    pub fn of(&self, network: &NetworkSnapshot) -> Vec<Fingerprint> {
        let all = network.relays.iter();
        let all = all
            .filter(|relay| !relay.flags.authority)
            .filter(|relay| !self.unmeasured || relay.unmeasured)
            .map(|relay| relay.fingerprint);
        let chosen: BTreeSet<Fingerprint> = if self.relays.is_empty() {
            all.collect()
        } else {
            self.relays.iter().copied().collect()
        };
        let ours = chosen.into_iter();
        ours.filter(|relay| self.partition.contains(relay))
            .collect()
    }
}

/// [`Targets`] that are each measured once: those of a [`Selection`], and those that join the
/// network while the scan runs.
#[derive(Debug, Default)]
pub struct EachOnce {
    selection: Selection,
    given: Mutex<BTreeSet<Fingerprint>>,
}

impl EachOnce {
    /// Covers the relays of `selection`.
    pub fn new(selection: Selection) -> Self {
        Self {
            selection,
            given: Mutex::default(),
        }
    }
}

impl Targets for EachOnce {
    type Error = Infallible;

    fn more(&self, network: &NetworkSnapshot, _: usize) -> Result<Vec<Target>, Infallible> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new = self.selection.of(network);
        new.retain(|relay| given.insert(*relay));
        Ok(new.into_iter().map(Target::new).collect())
    }
}
