//! The rates that relays can carry as helpers, and what is reserved of them.

use std::collections::HashMap;

use bw_file::Fingerprint;
use bw_results::RelayFacts;

use super::capacity::{Expectation, UNKNOWN};

/// The budget of one relay.
#[derive(Clone, Copy, Debug)]
struct Budget {
    expected: Expectation,
    /// The rate that running measurements take of it as a helper, in bytes per second.
    reserved: f64,
    /// In how many running measurements it helps.
    helping: u32,
    /// The most that it was seen to carry as a helper, in bytes per second.
    seen: f64,
    /// Bytes that passed through it as a helper.
    total: u64,
    /// Payload came through it, in either position.
    works: bool,
    /// It is being measured: nobody else may use it.
    target: bool,
    /// It waits to be measured, and must be free for that.
    claimed: bool,
    /// It is kept free to help a target that has waited long.
    booked: bool,
    /// It was found to slow others.
    aside: bool,
    /// Measurements in which it helped and which were later contradicted.
    strikes: u32,
    /// Attempts with it that failed or took long to open, since one went well.
    failures: u32,
    exit: bool,
}

impl Budget {
    /// The rate that it can carry as a helper when nothing else runs.
    fn whole(&self) -> f64 {
        if self.target || self.claimed || self.aside {
            0.0
        } else {
            self.expected.low
        }
    }

    /// The rate that is left of that, for the target that it is booked for.
    fn left(&self) -> f64 {
        (self.whole() - self.reserved).max(0.0)
    }

    fn available(&self, usage: Use) -> f64 {
        match usage {
            Use::Now => self.free(),
            Use::Booked => self.left(),
            Use::Later => self.whole(),
        }
    }

    /// The rate that is left for any other.
    fn free(&self) -> f64 {
        if self.booked { 0.0 } else { self.left() }
    }
}

/// For what a helper is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// By any target, now.
    Now,
    /// By the target that it is booked for, now.
    Booked,
    /// When what it helps with now has ended.
    Later,
}

/// From which share of what it is expected to carry a helper counts as full.
const FULL: f64 = 0.8;
/// From which share of an even part of it a measurement has its part: circuits differ.
const FAIR: f64 = 0.7;
/// The number of measurements that a helper may slow before it is set aside.
const STRIKES: u32 = 2;
/// The attempts in a row that may fail with a helper before it is set aside. Targets fail
/// too: a fifth of the network did, in the worst of simulations.
const FAILURES: u32 = 4;
/// After how many changes it is worth looking again what helpers can offer.
const CHANGES: u32 = 64;

/// The budgets of all relays.
#[derive(Debug, Default)]
pub(super) struct Reservations {
    index: HashMap<Fingerprint, usize>,
    /// In the order of the snapshot's relays.
    budgets: Vec<Budget>,
    /// Relays in use that left the consensus.
    departed: HashMap<Fingerprint, Budget>,
    /// The most that so many helpers can offer, computed when asked for.
    attainable: Option<(usize, f64)>,
    changes: u32,
    /// Relays that are claimed.
    claims: usize,
}

impl Reservations {
    pub(super) fn set_relays(
        &mut self,
        relays: &[RelayFacts],
        expect: impl Fn(&RelayFacts) -> Expectation,
    ) {
        let mut old = std::mem::take(&mut self.departed);
        old.extend(
            self.index
                .iter()
                .map(|(id, &index)| (*id, self.budgets[index])),
        );
        self.index.clear();
        self.budgets.clear();
        self.attainable = None;
        for (index, relay) in relays.iter().enumerate() {
            let fresh = Budget {
                expected: expect(relay),
                reserved: 0.0,
                helping: 0,
                seen: 0.0,
                total: 0,
                works: false,
                target: false,
                claimed: false,
                booked: false,
                aside: false,
                strikes: 0,
                failures: 0,
                exit: relay.flags.exit,
            };
            let budget = old
                .remove(&relay.fingerprint)
                .map_or(fresh, |known| Budget {
                    expected: fresh.expected,
                    exit: fresh.exit,
                    ..known
                });
            self.index.insert(relay.fingerprint, index);
            self.budgets.push(budget);
        }
        old.retain(|_, budget| budget.target || budget.claimed || budget.helping > 0);
        self.departed = old;
    }

    fn get(&self, relay: &Fingerprint) -> Option<&Budget> {
        match self.index.get(relay) {
            Some(&index) => self.budgets.get(index),
            None => self.departed.get(relay),
        }
    }

    fn get_mut(&mut self, relay: &Fingerprint) -> Option<&mut Budget> {
        match self.index.get(relay) {
            Some(&index) => self.budgets.get_mut(index),
            None => self.departed.get_mut(relay),
        }
    }

    /// The rate that the relay at `index` of the snapshot can carry as a helper for this use; nothing if
    /// it has to be `proven` and nothing came through it so far.
    pub(super) fn available(&self, index: usize, usage: Use, proven: bool) -> f64 {
        let budget = self.budgets.get(index);
        budget
            .filter(|one| !proven || one.works)
            .map_or(0.0, |one| one.available(usage))
    }

    pub(super) fn available_of(&self, relay: &Fingerprint, usage: Use) -> f64 {
        self.get(relay).map_or(0.0, |one| one.available(usage))
    }

    /// Keeps `helpers`, and no others, free for a target that has waited long.
    pub(super) fn book(&mut self, helpers: &[Fingerprint]) {
        for budget in &mut self.budgets {
            budget.booked = false;
        }
        for helper in helpers {
            if let Some(budget) = self.get_mut(helper) {
                budget.booked = true;
            }
        }
    }

    pub(super) fn expectation(&self, relay: &Fingerprint) -> Option<Expectation> {
        self.get(relay).map(|budget| budget.expected)
    }

    pub(super) fn expect(&mut self, relay: &Fingerprint, expected: Expectation) {
        if let Some(budget) = self.get_mut(relay) {
            budget.expected = expected;
            self.changes += 1;
            if self.changes.is_multiple_of(CHANGES) {
                self.attainable = None;
            }
        }
    }

    /// Returns true if the relay is in use in any way.
    pub(super) fn is_taken(&self, relay: &Fingerprint) -> bool {
        self.get(relay)
            .is_some_and(|budget| budget.target || budget.helping > 0)
    }

    pub(super) fn take_target(&mut self, relay: &Fingerprint) {
        if let Some(budget) = self.get_mut(relay) {
            budget.target = true;
        }
    }

    pub(super) fn free_target(&mut self, relay: &Fingerprint) {
        if let Some(budget) = self.get_mut(relay) {
            budget.target = false;
        }
    }

    /// Keeps `relay` from helping any further, so that it can be measured;
    /// not too many at a time, since helpers are needed.
    pub(super) fn claim(&mut self, relay: &Fingerprint) {
        if self.claims < (self.budgets.len() / 10).max(1)
            && let Some(budget) = self.get_mut(relay)
            && !std::mem::replace(&mut budget.claimed, true)
        {
            self.claims += 1;
        }
    }

    pub(super) fn unclaim(&mut self, relay: &Fingerprint) {
        if let Some(budget) = self.get_mut(relay)
            && std::mem::replace(&mut budget.claimed, false)
        {
            self.claims -= 1;
        }
    }

    /// `helper` helps in a further measurement, or in one less.
    pub(super) fn help(&mut self, helper: &Fingerprint, begins: bool) {
        if let Some(budget) = self.get_mut(helper) {
            budget.helping = if begins {
                budget.helping + 1
            } else {
                budget.helping.saturating_sub(1)
            };
        }
    }

    /// Changes what is reserved on a helper. That may become more than it is
    /// expected to carry: then it has no room for anything else.
    pub(super) fn reserve(&mut self, helper: &Fingerprint, change: f64) {
        if let Some(budget) = self.get_mut(helper) {
            budget.reserved = (budget.reserved + change).max(0.0);
            // Sums of floats do not come back to nothing by themselves.
            if budget.reserved < 1.0 {
                budget.reserved = 0.0;
            }
        }
    }

    /// Notes that `bytes` more passed through a helper.
    pub(super) fn passed(&mut self, helper: &Fingerprint, bytes: u64) {
        if let Some(budget) = self.get_mut(helper) {
            budget.total += bytes;
        }
    }

    /// All bytes that passed through a helper.
    pub(super) fn total(&self, helper: &Fingerprint) -> u64 {
        self.get(helper).map_or(0, |budget| budget.total)
    }

    /// The rate that `helper` probably offers a measurement to which it brings `rate`, beside the
    /// `others` that pass through it: no more than that if it is full and gives it the share
    /// that each circuit gets.
    pub(super) fn offered(&self, helper: &Fingerprint, rate: f64, others: f64) -> f64 {
        let Some(budget) = self.get(helper) else {
            return 0.0;
        };
        if budget.expected.spread >= UNKNOWN {
            // All that counts is what it was seen to carry.
            return (budget.seen - others).max(rate);
        }
        let carries = budget.expected.middle;
        let is_full = rate + others >= FULL * carries;
        let has_share = rate * f64::from(budget.helping.max(1)) >= FAIR * carries;
        if others > 0.0 && is_full && has_share {
            rate
        } else {
            (carries - others).max(rate)
        }
    }

    /// Notes that payload came through `relay`.
    pub(super) fn works(&mut self, relay: &Fingerprint) {
        if let Some(budget) = self.get_mut(relay) {
            budget.works = true;
        }
    }

    /// Notes that `helper` slowed a measurement.
    pub(super) fn strike(&mut self, helper: &Fingerprint) {
        if let Some(budget) = self.get_mut(helper) {
            budget.strikes += 1;
            budget.aside = budget.strikes >= STRIKES;
        }
    }

    /// Notes whether an attempt with `helper` opened without delay.
    pub(super) fn opened(&mut self, helper: &Fingerprint, well: bool) {
        if let Some(budget) = self.get_mut(helper) {
            budget.failures = if well { 0 } else { budget.failures + 1 };
            budget.aside |= budget.failures >= FAILURES;
        }
    }

    /// Notes that `helper` carried `rate`, maybe not all that it can.
    pub(super) fn carried(&mut self, helper: &Fingerprint, rate: f64) {
        if let Some(budget) = self.get_mut(helper) {
            budget.seen = budget.seen.max(rate);
        }
        if let Some(expected) = self.expectation(helper)
            && rate > expected.low
        {
            self.expect(helper, expected.at_least(rate));
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
            let budgets = self
                .budgets
                .iter()
                .filter(|budget| budget.exit == exits && !budget.aside);
            let mut all: Vec<f64> = budgets.map(|budget| budget.expected.low).collect();
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
