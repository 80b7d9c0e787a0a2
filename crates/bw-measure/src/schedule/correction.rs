//! Correcting what a running measurement was expected to take.

use std::time::Duration;

use bw_file::Fingerprint;
use bw_results::Slice;

use super::{Correction, RunId, Scheduler};
use crate::{HelperPolicy, HelperRequest};

/// How much of it before further helpers are asked to join.
const CROWDED: f64 = 0.7;
/// Over how long the present rate of a running measurement is taken.
const RECENT: Duration = Duration::from_millis(400);
/// What is kept free of a running measurement's present rate, on its helpers.
const PRESENT: f64 = 1.15;
/// What is kept free for them of what they are expected to take.
const PARKED: f64 = 0.3;
/// Until then a low rate may be one that only begins, and frees nothing.
const RAMP: Duration = Duration::from_millis(750);

impl<P: HelperPolicy> Scheduler<P> {
    /// Looks at a running measurement: at its finished slices, and at how many
    /// bytes each helper has brought. What it takes is reserved instead of what
    /// was expected, and if its helpers seem to limit it, others are to join. If the
    /// link holds it back (`held`), that shows nothing.
    pub fn observe(
        &mut self,
        id: RunId,
        now: Duration,
        slices: &[Slice],
        bytes: &[(Fingerprint, u64)],
        held: bool,
    ) -> Correction {
        let mut correction = Correction::default();
        let elapsed = Duration::from_micros(slices.iter().map(|slice| slice.micros).sum());
        let Some(running) = self.running.get_mut(&id) else {
            return correction;
        };
        running.held = held;
        if held {
            // It shows nothing, and does not need all that it will need.
            running.seen = (elapsed, bytes.to_vec());
            running.ramp = elapsed;
            let reserved = running.reserved.min(running.guess * PARKED);
            self.destinations
                .reserve(running.destination, reserved - running.reserved);
            running.reserved = reserved;
            return correction;
        }
        let ramped = elapsed.saturating_sub(running.ramp);
        let since = elapsed.saturating_sub(running.seen.0);
        if since < RECENT {
            return correction;
        }
        let (_, before) = std::mem::replace(&mut running.seen, (elapsed, bytes.to_vec()));
        let mut total = 0.0;
        let mut offered = 0.0;
        let sum = |list: &[(Fingerprint, u64)], helper| {
            let of = list.iter().find(|(id, _)| *id == helper);
            of.map_or(0, |&(_, sum)| sum)
        };
        for share in &mut running.shares {
            let moved = sum(bytes, share.helper).saturating_sub(sum(&before, share.helper));
            let rate = moved as f64 / since.as_secs_f64();
            total += rate;
            self.rooms.load(&share.helper, rate - share.load);
            share.load = rate;
            let present = rate * PRESENT;
            if ramped >= RAMP || present > share.reserved {
                correction.freed |= present < share.reserved * 0.9;
                self.rooms.reserve(&share.helper, present - share.reserved);
                share.reserved = present;
            }
            offered += self.rooms.offered(&share.helper, share.load);
        }
        let others: f64 = self
            .running
            .iter()
            .filter(|(other, _)| **other != id)
            .map(|(_, one)| one.reserved)
            .sum();
        let Some(running) = self.running.get_mut(&id) else {
            return correction;
        };
        let present = total.min((self.limits.link.value() as f64 - others).max(running.reserved));
        if ramped >= RAMP || present > running.reserved {
            correction.freed |= present < running.reserved * 0.9;
            self.destinations
                .reserve(running.destination, present - running.reserved);
            running.reserved = present;
            self.most_reserved = self.most_reserved.max(others + present);
        }
        if ramped >= RAMP {
            running.unseen = false;
        }
        // While the path fills, a burst may pass that the target cannot sustain.
        let target = running.assignment.target.fingerprint;
        let crowded = total > CROWDED * offered && !self.is_own_limit(&target, total);
        if ramped > RECENT * 2 && crowded {
            correction.join = self.extend(id, total, offered, now);
        }
        correction
    }

    /// Further helpers for a running measurement of `rate` whose helpers offer
    /// `offered`.
    fn extend(&mut self, id: RunId, rate: f64, offered: f64, now: Duration) -> Vec<Fingerprint> {
        self.forget_begun(now);
        let Some(running) = self.running.get(&id) else {
            return Vec::new();
        };
        let free = self.limits.link.value() as f64 - self.reserved();
        let helpers = self.limits.helpers.saturating_sub(running.shares.len());
        let most = helpers.min(self.circuits_left());
        let Some(target) = self.snapshot.relay(&running.assignment.target.fingerprint) else {
            return Vec::new();
        };
        if most == 0 || free <= 0.0 {
            return Vec::new();
        }
        let helping: Vec<Fingerprint> = running.shares.iter().map(|share| share.helper).collect();
        let (rooms, relays) = (&self.rooms, &self.snapshot.relays);
        let room = |index: usize| match relays.get(index) {
            Some(relay) if !helping.contains(&relay.fingerprint) => rooms.room(index),
            _ => 0.0,
        };
        let need = rate * self.limits.headroom - offered;
        let request = HelperRequest {
            snapshot: &self.snapshot,
            target,
            positions: &[running.assignment.position],
            port: running.assignment.destination.port(),
            need,
            room: &room,
            avoid: &[],
            most,
        };
        let Some(choice) = self.policy.choose(&request, &mut self.rng) else {
            return Vec::new();
        };
        let rooms: Vec<f64> = choice
            .helpers
            .iter()
            .map(|id| self.rooms.room_of(id))
            .collect();
        let shares = self.share(&choice.helpers, &rooms, need.min(rate).min(free), now);
        if let Some(running) = self.running.get_mut(&id) {
            running.shares.extend(shares);
        }
        choice.helpers
    }
}
