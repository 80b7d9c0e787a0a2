//! What each relay can still carry.

use std::collections::HashMap;

use bw_file::Fingerprint;
use bw_results::RelayFacts;

use super::capacity::Expectation;

/// The budget of one relay.
#[derive(Clone, Copy, Debug)]
struct Room {
    expected: Expectation,
    /// What running measurements take of it as a helper, in bytes per second.
    reserved: f64,
    /// In how many running measurements it helps.
    helping: u32,
    /// What was last seen to pass through it as a helper, in bytes per second.
    load: f64,
    /// It is being measured: nobody else may use it.
    target: bool,
    /// It waits to be measured, and must be free for that.
    claimed: bool,
    /// It was found to slow others.
    aside: bool,
    /// Measurements in which it helped and which were later contradicted.
    strikes: u32,
    exit: bool,
}

impl Room {
    fn free(&self) -> f64 {
        if self.target || self.claimed || self.aside {
            0.0
        } else {
            (self.expected.low - self.reserved).max(0.0)
        }
    }
}

/// How often a helper may slow a measurement before it is set aside.
const STRIKES: u32 = 2;
/// After how many changes it is worth looking again what helpers can offer.
const CHANGES: u32 = 64;

/// The budgets of all relays.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    index: HashMap<Fingerprint, usize>,
    /// In the order of the snapshot's relays.
    rooms: Vec<Room>,
    /// Relays in use that left the consensus.
    departed: HashMap<Fingerprint, Room>,
    /// The most that so many helpers can offer, computed when asked for.
    attainable: Option<(usize, f64)>,
    changes: u32,
    /// Relays that are claimed.
    claims: usize,
}

impl Rooms {
    pub(super) fn set_relays(
        &mut self,
        relays: &[RelayFacts],
        expect: impl Fn(&RelayFacts) -> Expectation,
    ) {
        let mut old = std::mem::take(&mut self.departed);
        old.extend(
            self.index
                .iter()
                .map(|(id, &index)| (*id, self.rooms[index])),
        );
        self.index.clear();
        self.rooms.clear();
        self.attainable = None;
        for (index, relay) in relays.iter().enumerate() {
            let fresh = Room {
                expected: expect(relay),
                reserved: 0.0,
                helping: 0,
                load: 0.0,
                target: false,
                claimed: false,
                aside: false,
                strikes: 0,
                exit: relay.flags.exit,
            };
            let room = old.remove(&relay.fingerprint).map_or(fresh, |known| Room {
                expected: fresh.expected,
                exit: fresh.exit,
                ..known
            });
            self.index.insert(relay.fingerprint, index);
            self.rooms.push(room);
        }
        old.retain(|_, room| room.target || room.claimed || room.helping > 0);
        self.departed = old;
    }

    fn get(&self, relay: &Fingerprint) -> Option<&Room> {
        match self.index.get(relay) {
            Some(&index) => self.rooms.get(index),
            None => self.departed.get(relay),
        }
    }

    fn get_mut(&mut self, relay: &Fingerprint) -> Option<&mut Room> {
        match self.index.get(relay) {
            Some(&index) => self.rooms.get_mut(index),
            None => self.departed.get_mut(relay),
        }
    }

    /// What the relay at `index` of the snapshot can still carry as a helper.
    pub(super) fn room(&self, index: usize) -> f64 {
        self.rooms.get(index).map_or(0.0, Room::free)
    }

    pub(super) fn room_of(&self, relay: &Fingerprint) -> f64 {
        self.get(relay).map_or(0.0, Room::free)
    }

    pub(super) fn expectation(&self, relay: &Fingerprint) -> Option<Expectation> {
        self.get(relay).map(|room| room.expected)
    }

    pub(super) fn expect(&mut self, relay: &Fingerprint, expected: Expectation) {
        if let Some(room) = self.get_mut(relay) {
            room.expected = expected;
            self.changes += 1;
            if self.changes.is_multiple_of(CHANGES) {
                self.attainable = None;
            }
        }
    }

    /// Whether the relay is in use in any way.
    pub(super) fn is_taken(&self, relay: &Fingerprint) -> bool {
        self.get(relay)
            .is_some_and(|room| room.target || room.helping > 0)
    }

    pub(super) fn take_target(&mut self, relay: &Fingerprint) {
        if let Some(room) = self.get_mut(relay) {
            room.target = true;
        }
    }

    pub(super) fn free_target(&mut self, relay: &Fingerprint) {
        if let Some(room) = self.get_mut(relay) {
            room.target = false;
        }
    }

    /// Keeps `relay` from helping any further, so that it can be measured;
    /// not too many at a time, since helpers are needed.
    pub(super) fn claim(&mut self, relay: &Fingerprint) {
        if self.claims < (self.rooms.len() / 10).max(1)
            && let Some(room) = self.get_mut(relay)
            && !std::mem::replace(&mut room.claimed, true)
        {
            self.claims += 1;
        }
    }

    pub(super) fn unclaim(&mut self, relay: &Fingerprint) {
        if let Some(room) = self.get_mut(relay)
            && std::mem::replace(&mut room.claimed, false)
        {
            self.claims -= 1;
        }
    }

    /// `helper` helps in a further measurement, or in one less.
    pub(super) fn help(&mut self, helper: &Fingerprint, begins: bool) {
        if let Some(room) = self.get_mut(helper) {
            room.helping = if begins {
                room.helping + 1
            } else {
                room.helping.saturating_sub(1)
            };
        }
    }

    /// Changes what is reserved on a helper. That may become more than it is
    /// expected to carry: then it has no room for anything else.
    pub(super) fn reserve(&mut self, helper: &Fingerprint, change: f64) {
        if let Some(room) = self.get_mut(helper) {
            room.reserved = (room.reserved + change).max(0.0);
            // Sums of floats do not come back to nothing by themselves.
            if room.reserved < 1.0 {
                room.reserved = 0.0;
            }
        }
    }

    /// Changes what is seen to pass through a helper.
    pub(super) fn load(&mut self, helper: &Fingerprint, change: f64) {
        if let Some(room) = self.get_mut(helper) {
            room.load = (room.load + change).max(0.0);
        }
    }

    /// What `helper` probably offers to the measurement that puts `load` on
    /// it: what it carries without the others.
    pub(super) fn offered(&self, helper: &Fingerprint, load: f64) -> f64 {
        self.get(helper).map_or(0.0, |room| {
            (room.expected.middle() - (room.load - load).max(0.0)).max(0.0)
        })
    }

    /// Notes that `helper` slowed a measurement.
    pub(super) fn strike(&mut self, helper: &Fingerprint) {
        if let Some(room) = self.get_mut(helper) {
            room.strikes += 1;
            room.aside = room.strikes >= STRIKES;
        }
    }

    /// The most that `count` helpers can offer together when nothing else runs:
    /// exits or others, whichever is less.
    pub(super) fn attainable(&mut self, count: usize) -> f64 {
        if let Some((for_count, value)) = self.attainable
            && for_count == count
        {
            return value;
        }
        let top = |exits: bool| {
            let rooms = self
                .rooms
                .iter()
                .filter(|room| room.exit == exits && !room.aside);
            let mut all: Vec<f64> = rooms.map(|room| room.expected.low).collect();
            all.sort_by(|a, b| b.total_cmp(a));
            all.iter().take(count).sum::<f64>()
        };
        let value = match (top(true), top(false)) {
            (exits, 0.0) => exits,
            (0.0, others) => others,
            (exits, others) => exits.min(others),
        };
        self.attainable = Some((count, value));
        value
    }
}
