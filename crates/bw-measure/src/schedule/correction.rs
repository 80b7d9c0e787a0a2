//! Correcting what a running measurement was expected to take of its helpers.

use std::time::Duration;

use bw_file::Fingerprint;
use bw_results::Slice;

use super::reservations::{Reservations, Use};
use super::{Adjustment, PER_CIRCUIT, RunId, Running, Scheduler, Share};
use crate::{HelperPolicy, HelperRequest};

/// The part of what helpers offer that may be taken before further ones are asked to join.
const CROWDED: f64 = 0.7;
/// Over how long the present rate of a running measurement is taken.
pub(super) const RECENT: Duration = Duration::from_millis(400);
/// The rate kept free for a running measurement on its helpers, as a multiple of its present one.
const PRESENT: f64 = 1.15;
/// Until then a low rate may be one that only begins, and frees nothing.
const RAMP: Duration = Duration::from_millis(750);

impl Running {
    /// Takes note of how many bytes each helper has brought.
    fn take(
        &mut self,
        elapsed: Duration,
        bytes: &[(Fingerprint, u64)],
        reservations: &mut Reservations,
    ) {
        for share in &mut self.shares {
            let of = bytes.iter().find(|(id, _)| *id == share.helper);
            share.gone |= of.is_none() && share.brought > 0;
            let all = of.map_or(share.brought, |&(_, sum)| sum);
            reservations.passed(&share.helper, all.saturating_sub(share.brought));
            share.brought = all;
            if share.flows_since.is_none() && all > 0 {
                share.flows_since = Some(elapsed);
            }
        }
    }
}

impl Share {
    /// Returns true if it has come later than others, so that its rate may still grow.
    fn is_joining(&self, elapsed: Duration) -> bool {
        self.joined
            && self
                .flows_since
                .is_none_or(|since| elapsed < since + 2 * RAMP)
    }

    /// The rates that the helper brought, and brought to others, in the `seconds` since the last
    /// time, in bytes per second.
    fn rates(&mut self, seconds: f64, reservations: &Reservations) -> (f64, f64) {
        let now = (self.brought, reservations.total(&self.helper));
        let before = std::mem::replace(&mut self.seen, now);
        let own = now.0.saturating_sub(before.0);
        let all = now.1.saturating_sub(before.1);
        let rate = |bytes: u64| bytes as f64 / seconds;
        (rate(own), rate(all.saturating_sub(own)))
    }
}

impl<P: HelperPolicy> Scheduler<P> {
    /// Looks at a running measurement: at its finished slices, and at how many
    /// bytes each helper has brought. What it takes is reserved instead of what
    /// was expected, and if its helpers seem to limit it, others are to join.
    pub fn observe(
        &mut self,
        id: RunId,
        now: Duration,
        slices: &[Slice],
        bytes: &[(Fingerprint, u64)],
    ) -> Adjustment {
        let mut adjustment = Adjustment::default();
        let elapsed = Duration::from_micros(slices.iter().map(|slice| slice.micros).sum());
        let Some(running) = self.running.get_mut(&id) else {
            return adjustment;
        };
        running.flows |= slices.iter().any(|slice| slice.bytes > 0);
        running.take(elapsed, bytes, &mut self.reservations);
        let since = elapsed.saturating_sub(running.seen);
        if since < RECENT {
            return adjustment;
        }
        running.seen = elapsed;
        let (mut total, mut offered) = (0.0, 0.0);
        for share in &mut running.shares {
            let (rate, others) = share.rates(since.as_secs_f64(), &self.reservations);
            total += rate;
            offered += if share.is_joining(elapsed) || share.gone {
                rate
            } else {
                self.reservations.offered(&share.helper, rate, others)
            };
            let present = rate * PRESENT;
            if elapsed >= RAMP || present > share.reserved {
                adjustment.freed |= present < share.reserved * 0.9;
                self.reservations
                    .reserve(&share.helper, present - share.reserved);
                share.reserved = present;
            }
        }
        if elapsed >= RAMP || total > running.reserved {
            adjustment.freed |= total < running.reserved * 0.9;
            self.destinations
                .reserve(running.destination, total - running.reserved);
            running.reserved = total;
        }
        running.offered.push((elapsed, offered));
        // While the path fills, a burst may pass that the target cannot sustain.
        let target = running.assignment.target.fingerprint;
        let lacking = if total > CROWDED * offered {
            total * self.limits.headroom - offered
        } else {
            let circuits = running.shares.len();
            self.circuits_for(total).saturating_sub(circuits) as f64 * PER_CIRCUIT
        };
        if elapsed > RECENT * 2 && lacking > 0.0 && !self.is_own_limit(&target, total) {
            adjustment.join = self.extend(id, total, lacking, now);
        }
        adjustment
    }

    /// Gives back what measurements reserve that bring nothing: a relay that only claims to be
    /// fast, or opens slowly, holds nobody up.
    pub(super) fn release_unbacked(&mut self, now: Duration) {
        for (&id, running) in &mut self.running {
            if running.flows || running.reserved == 0.0 || !self.link.is_unbacked(id, now) {
                continue;
            }
            self.destinations
                .reserve(running.destination, -running.reserved);
            running.reserved = 0.0;
            for share in &mut running.shares {
                self.reservations.reserve(&share.helper, -share.reserved);
                share.reserved = 0.0;
                self.reservations.opened(&share.helper, false);
            }
        }
    }

    /// Further helpers that offer `need` to a running measurement of `rate`.
    fn extend(&mut self, id: RunId, rate: f64, need: f64, now: Duration) -> Vec<Fingerprint> {
        self.forget_begun(now);
        let Some(running) = self.running.get(&id) else {
            return Vec::new();
        };
        let free = self.link.payload() - self.link.reserved(now);
        let helpers = self.limits.helpers.saturating_sub(running.shares.len());
        let most = helpers.min(self.circuits_left());
        let Some(target) = self.snapshot.relay(&running.assignment.target.fingerprint) else {
            return Vec::new();
        };
        if most == 0 || free <= 0.0 {
            return Vec::new();
        }
        let helping: Vec<Fingerprint> = running.shares.iter().map(|share| share.helper).collect();
        let (reservations, relays) = (&self.reservations, &self.snapshot.relays);
        let room = |index: usize| match relays.get(index) {
            Some(relay) if !helping.contains(&relay.fingerprint) => {
                reservations.available(index, Use::Now, false)
            }
            _ => 0.0,
        };
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
        let available: Vec<f64> = choice
            .helpers
            .iter()
            .map(|id| self.reservations.available_of(id, Use::Now))
            .collect();
        let mut shares = self.share(&choice.helpers, &available, need.min(rate).min(free), now);
        for share in &mut shares {
            share.joined = true;
        }
        if let Some(running) = self.running.get_mut(&id) {
            running.shares.extend(shares);
        }
        choice.helpers
    }
}
