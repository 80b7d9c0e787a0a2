//! Relays that are measured together, as they may share a machine.

use std::sync::Arc;
use std::time::Duration;

use bw_file::Fingerprint;
use bw_results::RelayFacts;

use super::reservations::Use;
use super::{EVEN, RunId, Scheduler};
use crate::{Assignment, HelperPolicy, HelperRequest};

/// The rates that what runs at one time takes.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The rate taken of the link, in bytes per second.
    rate: f64,
    circuits: usize,
    /// Targets and helpers.
    relays: Vec<Fingerprint>,
}

impl Batch {
    /// Returns true if nothing runs.
    pub(crate) const fn is_empty(&self) -> bool {
        self.relays.is_empty()
    }
}

impl<P: HelperPolicy> Scheduler<P> {
    /// The measurements of `relays` all at one time, each through helpers of its own, beside
    /// what runs in `batch`. None if that does not fit on the link, or if there are too few helpers
    /// or circuits.
    pub(crate) fn together(
        &mut self,
        relays: &[Fingerprint],
        batch: &mut Batch,
        now: Duration,
    ) -> Option<Vec<(RunId, Assignment)>> {
        let snapshot = Arc::clone(&self.snapshot);
        let members = relays.iter().map(|relay| snapshot.relay(relay));
        let members: Vec<&RelayFacts> = members.collect::<Option<_>>()?;
        let expected = members.iter().map(|relay| self.expected(relay).middle);
        let expected: f64 = expected.sum();
        let rate = batch.rate + expected * self.limits.headroom;
        let is_busy = relays.iter().any(|relay| batch.relays.contains(relay));
        if self.limited(now).is_some() || is_busy || rate > self.link.payload() {
            return None;
        }
        let reserved = expected * EVEN;
        let destination = self.destinations.choose(reserved, now, &mut self.rng)?;
        let destination = self.destinations.get(destination)?.clone();
        let mut taken = [&batch.relays, relays].concat();
        let mut assignments = Vec::with_capacity(relays.len());
        for relay in members {
            let need = self.need(relay, self.expected(relay));
            let reservations = &self.reservations;
            let room = |index: usize| {
                let is_taken = |relay: &RelayFacts| taken.contains(&relay.fingerprint);
                match snapshot.relays.get(index) {
                    Some(relay) if !is_taken(relay) => {
                        reservations.available(index, Use::Now, false)
                    }
                    _ => 0.0,
                }
            };
            let request = HelperRequest {
                snapshot: &snapshot,
                target: relay,
                positions: self.limits.placement.positions(),
                port: destination.port(),
                need,
                room: &room,
                avoid: &[],
                most: self.limits.helpers,
            };
            let choice = self.policy.choose(&request, &mut self.rng);
            let choice = choice.filter(|choice| request.accepts(choice))?;
            taken.extend(&choice.helpers);
            let mut assignment =
                Assignment::new(relay, choice.position, choice.helpers, destination.clone());
            assignment.direction = self.limits.direction;
            assignment.scan = self.scan;
            assignments.push((self.next_run(), assignment));
        }
        let circuits = assignments.iter().map(|(_, one)| one.helpers.len());
        let circuits = batch.circuits + circuits.sum::<usize>();
        if circuits > self.limits.circuits {
            return None;
        }
        (batch.rate, batch.circuits, batch.relays) = (rate, circuits, taken);
        Some(assignments)
    }
}
