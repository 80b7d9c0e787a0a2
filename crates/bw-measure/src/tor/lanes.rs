//! Several channels to the same relay.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bw_file::Fingerprint;

/// Channel managers side by side, each with channels of its own.
///
/// The connections of a busy relay share its line: circuits that all come through one
/// connection get one share together.
pub(super) struct Lanes<M> {
    managers: Vec<M>,
    /// The open circuits on each lane, by their entry.
    open: Mutex<HashMap<Fingerprint, Vec<u32>>>,
}

/// A circuit's place on a lane; dropping it frees the place.
pub(super) struct Lane<M> {
    lanes: Arc<Lanes<M>>,
    entry: Fingerprint,
    number: usize,
}

impl<M> Lanes<M> {
    /// A lane for each of `managers`, at least one.
    pub(super) fn new(managers: Vec<M>) -> Self {
        Self {
            managers,
            open: Mutex::default(),
        }
    }

    /// The first of the lanes to `entry` that have the fewest circuits.
    pub(super) fn take(self: &Arc<Self>, entry: Fingerprint) -> Lane<M> {
        let mut open = self.open();
        let lanes = self.managers.len();
        let counts = open.entry(entry).or_insert_with(|| vec![0; lanes]);
        let number = (0..lanes).min_by_key(|&number| counts[number]).unwrap_or(0);
        counts[number] += 1;
        drop(open);
        Lane {
            lanes: Arc::clone(self),
            entry,
            number,
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Fingerprint, Vec<u32>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> Lane<M> {
    /// The manager of the lane's channels.
    pub(super) fn manager(&self) -> &M {
        &self.lanes.managers[self.number]
    }
}

impl<M> Drop for Lane<M> {
    fn drop(&mut self) {
        let mut open = self.lanes.open();
        if let Some(counts) = open.get_mut(&self.entry) {
            counts[self.number] -= 1;
            if counts.iter().all(|&count| count == 0) {
                open.remove(&self.entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circuits_through_a_relay_are_spread_over_lanes() {
        let lanes = Arc::new(Lanes::new(vec!["a", "b", "c", "d"]));
        let relay = |id| Fingerprint::from_bytes([id; 20]);
        let mut taken: Vec<_> = (0..5).map(|_| lanes.take(relay(1))).collect();
        let names = |taken: &[Lane<&'static str>]| {
            let names = taken.iter().map(|lane| *lane.manager());
            names.collect::<Vec<_>>()
        };
        assert_eq!(names(&taken), ["a", "b", "c", "d", "a"]);
        assert_eq!(*lanes.take(relay(2)).manager(), "a", "another relay's");
        taken.remove(2);
        assert_eq!(*lanes.take(relay(1)).manager(), "c", "it is free again");
        drop(taken);
        assert!(
            lanes.open().is_empty(),
            "nothing is kept of closed circuits"
        );
    }
}
