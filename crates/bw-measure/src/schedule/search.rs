//! The search for helpers of a measurement.

use bw_results::{NetworkSnapshot, Position, RelayFacts};

use super::capacity::{Expectation, burst};
use super::reservations::Use;
use super::{Pending, Priority, Scheduler};
use crate::{Destination, HelperChoice, HelperPolicy, HelperRequest};

/// The result of a search for helpers.
pub(super) enum Choice {
    /// These, with what each has available.
    Found(HelperChoice, Vec<f64>),
    /// There are some, but they are busy.
    NotNow,
    /// No relay can help.
    Never,
}

/// A measurement that needs helpers.
pub(super) struct Search<'a> {
    relay: &'a RelayFacts,
    priority: Priority,
    expected: Expectation,
    destination: usize,
}

/// A way to have enough of helpers.
#[derive(Clone, Copy)]
struct Way {
    /// Only those through which payload came.
    proven: bool,
    /// The share of what is needed that is enough.
    share: f64,
    /// The number of circuits among which it is divided.
    circuits: usize,
}

impl<'a> Search<'a> {
    pub(super) const fn new(
        relay: &'a RelayFacts,
        priority: Priority,
        expected: Expectation,
        destination: usize,
    ) -> Self {
        Self {
            relay,
            priority,
            expected,
            destination,
        }
    }

    /// A request to any that may help, if anybody may.
    fn request(
        &self,
        snapshot: &'a NetworkSnapshot,
        pending: Option<&'a Pending>,
        positions: &'a [Position],
        port: u16,
    ) -> HelperRequest<'a> {
        HelperRequest {
            snapshot,
            target: self.relay,
            positions,
            port,
            need: 0.0,
            room: &|_| 1.0,
            avoid: pending.map_or(&[], |pending| &pending.avoid),
            most: 1,
        }
    }
}

impl<P: HelperPolicy> Scheduler<P> {
    /// Helpers now, and what each of them has available.
    pub(super) fn choose(&mut self, search: &Search<'_>) -> Choice {
        // While others run, more room may come; when none does, this is all there is.
        let shares: &[f64] = if self.running.is_empty() {
            &[1.0, 0.5, 0.25, 0.1, 0.0]
        } else {
            &[1.0]
        };
        let usage = if self.booking == Some(search.priority) {
            Use::Booked
        } else {
            Use::Now
        };
        self.choose_for(search, usage, shares)
    }

    /// Keeps helpers free for a relay that has been overtaken long enough: one at a time.
    pub(super) fn book(&mut self, priority: Priority, relay: &RelayFacts) {
        if self
            .booking
            .is_some_and(|other| self.queue.contains_key(&other))
        {
            return;
        }
        self.booking = None;
        let search = Search::new(relay, priority, self.expected(relay), 0);
        if let Choice::Found(choice, _) = self.choose_for(&search, Use::Later, &[1.0, 0.7]) {
            self.reservations.book(&choice.helpers);
            self.booking = Some(priority);
        }
    }

    /// Helpers that have one of `shares` of what is needed, the first that is to be had.
    fn choose_for(&mut self, search: &Search<'_>, usage: Use, shares: &[f64]) -> Choice {
        let pending = self.queue.get(&search.priority);
        let natural = self.limits.placement.positions();
        for position in pending.map_or(natural, |pending| pending.positions) {
            let position = std::slice::from_ref(position);
            if let Some((choice, rooms)) = self.with_room(search, position, usage, shares) {
                return Choice::Found(choice, rooms);
            }
            // Another position is for relays that nobody can ever help in this one.
            if let Some(choice) = self.whoever(search, position) {
                if !self.running.is_empty() {
                    return Choice::NotNow;
                }
                // All are set aside or claimed: better one of them than nobody.
                let rooms = vec![0.0; choice.helpers.len()];
                return Choice::Found(choice, rooms);
            }
        }
        Choice::Never
    }

    /// Helpers that have enough, and what each of them has.
    fn with_room(
        &mut self,
        search: &Search<'_>,
        position: &[Position],
        usage: Use,
        shares: &[f64],
    ) -> Option<(HelperChoice, Vec<f64>)> {
        // No more can be had than the fastest possible helpers have together.
        let attainable = self.reservations.attainable(self.limits.helpers);
        let need = self
            .need(search.relay, search.expected)
            .min(0.9 * attainable);
        let most = self.limits.helpers.min(self.circuits_left());
        let port = self.port(search);
        let ways = self.ways(search, shares);
        let pending = self.queue.get(&search.priority);
        let base = search.request(&self.snapshot, pending, position, port);
        let reservations = &self.reservations;
        for way in ways {
            let even = need / way.circuits as f64;
            let available = |index| reservations.available(index, usage, way.proven);
            let request = HelperRequest {
                need: need * way.share,
                room: &|index| available(index).min(even),
                most,
                ..base
            };
            let choice = self.policy.choose(&request, &mut self.rng);
            if let Some(choice) = choice.filter(|choice| request.accepts(choice)) {
                let helpers = choice.helpers.iter();
                let rooms = helpers.map(|id| reservations.available_of(id, usage));
                let rooms = rooms.collect();
                return Some((choice, rooms));
            }
        }
        None
    }

    /// One that may help, whatever it has.
    fn whoever(&mut self, search: &Search<'_>, position: &[Position]) -> Option<HelperChoice> {
        let port = self.port(search);
        let pending = self.queue.get(&search.priority);
        let request = search.request(&self.snapshot, pending, position, port);
        let choice = self.policy.choose(&request, &mut self.rng);
        choice.filter(|choice| request.accepts(choice))
    }

    /// The ways to have enough, the best first: side by side, else as few as can carry it. One
    /// that failed may be dead or have met dead helpers: it gets, if it can, those through which
    /// payload came.
    fn ways(&self, search: &Search<'_>, shares: &[f64]) -> Vec<Way> {
        let pending = self.queue.get(&search.priority);
        let doubtful = pending.is_some_and(Pending::is_doubtful);
        let proven: &[bool] = if doubtful { &[true, false] } else { &[false] };
        let mut ways = Vec::new();
        for &proven in proven {
            for &share in shares {
                ways.extend([self.side_by_side(), 1].map(|circuits| Way {
                    proven,
                    share,
                    circuits,
                }));
            }
        }
        ways
    }

    fn port(&self, search: &Search<'_>) -> u16 {
        let destination = self.destinations.get(search.destination);
        destination.map_or(0, Destination::port)
    }

    /// The rate that helpers should be able to carry for a target: enough to be faster
    /// than it, and to empty its token bucket.
    pub(super) fn need(&self, relay: &RelayFacts, expected: Expectation) -> f64 {
        let middle = expected.middle.min(self.link.payload());
        (middle * self.limits.headroom).max(middle + burst(relay, expected))
    }
}
