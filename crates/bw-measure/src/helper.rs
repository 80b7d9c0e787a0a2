//! Which relay helps to measure which.

use bw_file::Fingerprint;
use bw_results::{NetworkSnapshot, Position, RelayFacts};
use rand::seq::IndexedRandom;

/// Chooses where in the circuit a target is measured, and which relay helps.
pub trait HelperPolicy: Send + Sync {
    /// The position and the helper for measuring `target` against a web
    /// server on `port`; `None` if no relay can help. A relay of `avoid`
    /// (helpers of earlier tries) is taken only when there is no other.
    fn choose(
        &self,
        snapshot: &NetworkSnapshot,
        target: &RelayFacts,
        port: u16,
        avoid: &[Fingerprint],
        rng: &mut dyn rand::Rng,
    ) -> Option<HelperChoice>;
}

/// A position for the target and the relay in the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HelperChoice {
    /// Where the target is.
    pub position: Position,
    /// The relay in the other position.
    pub helper: Fingerprint,
}

impl HelperChoice {
    /// `helper` beside a target in `position`.
    pub const fn new(position: Position, helper: Fingerprint) -> Self {
        Self { position, helper }
    }
}

/// sbws's choice, made safe: the target is the exit when it can be, and the
/// entry otherwise; the helper is drawn at random among the relays with at
/// least twice the target's consensus weight; if there is none, 1.75, 1.5,
/// 1.25 times, or as much; if there is none, the one with the most weight.
///
/// Beyond sbws, a helper is never of the target's family, never a BadExit,
/// never an authority, and always Running and Valid; an exit's policy must
/// allow the destination's port. As in sbws no helper is slower than a
/// quarter of its kind (exits, or the others) as long as one is not, and with
/// congestion control on (`cc_alg=2`) the exit is one that speaks it if
/// `bwscanner_cc` is at least 1, and one that does not if it is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FasterHelper;

/// How many times the target's weight a helper should have, in order of preference.
const FACTORS: [f64; 5] = [2.0, 1.75, 1.5, 1.25, 1.0];

impl HelperPolicy for FasterHelper {
    fn choose(
        &self,
        snapshot: &NetworkSnapshot,
        target: &RelayFacts,
        port: u16,
        avoid: &[Fingerprint],
        rng: &mut dyn rand::Rng,
    ) -> Option<HelperChoice> {
        let can_exit = |relay: &RelayFacts| relay.exits_to(port) && flow_control(snapshot, relay);
        let as_exit = can_exit(target).then_some(Position::Exit);
        // An exit for which no entry can be found is still measured as entry.
        as_exit
            .into_iter()
            .chain([Position::Entry])
            .find_map(|position| {
                let helps_as_exit = position == Position::Entry;
                let candidates: Vec<&RelayFacts> = snapshot
                    .relays
                    .iter()
                    .filter(|relay| is_usable(relay) && relay.fingerprint != target.fingerprint)
                    .filter(|relay| !relay.same_family(target))
                    .filter(|relay| match position {
                        Position::Exit => !relay.flags.exit,
                        _ => can_exit(relay),
                    })
                    .collect();
                let floor = lower_quartile(snapshot, helps_as_exit);
                let fresh: Vec<&RelayFacts> = candidates
                    .iter()
                    .copied()
                    .filter(|relay| !avoid.contains(&relay.fingerprint))
                    .collect();
                let helper = draw(&fresh, target, floor, rng)
                    .or_else(|| draw(&candidates, target, floor, rng))?;
                Some(HelperChoice::new(position, helper.fingerprint))
            })
    }
}

/// Whether `relay` may help at all.
fn is_usable(relay: &RelayFacts) -> bool {
    let flags = relay.flags;
    flags.running && flags.valid && !flags.bad_exit && !flags.authority
}

/// Whether an exit's flow control is the one that the consensus asks scanners
/// to use (parameters `cc_alg` and `bwscanner_cc`, param-spec).
fn flow_control(snapshot: &NetworkSnapshot, relay: &RelayFacts) -> bool {
    match snapshot.param("cc_alg") {
        Some(2) => relay.flow_control_2 == (snapshot.param("bwscanner_cc").unwrap_or(0) >= 1),
        _ => true,
    }
}

/// The consensus weight of which a quarter of the exits (or of the others) has less.
fn lower_quartile(snapshot: &NetworkSnapshot, exits: bool) -> u64 {
    let mut weights: Vec<u64> = snapshot
        .relays
        .iter()
        .filter(|relay| relay.flags.exit == exits)
        .map(|relay| relay.consensus_weight.value())
        .collect();
    weights.sort_unstable();
    weights.get(weights.len() / 4).copied().unwrap_or(0)
}

fn draw<'a>(
    candidates: &[&'a RelayFacts],
    target: &RelayFacts,
    floor: u64,
    rng: &mut dyn rand::Rng,
) -> Option<&'a RelayFacts> {
    let weight = |relay: &RelayFacts| relay.consensus_weight.value();
    FACTORS
        .iter()
        .find_map(|factor| {
            let least = (factor * weight(target) as f64).max(floor as f64);
            let fast: Vec<&&RelayFacts> = candidates
                .iter()
                .filter(|relay| weight(relay) as f64 >= least)
                .collect();
            fast.choose(rng).map(|relay| **relay)
        })
        .or_else(|| candidates.iter().max_by_key(|relay| weight(relay)).copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bw_file::KilobytesPerSecond;
    use bw_results::{PortRanges, UnixMillis};
    use rand::SeedableRng;
    use std::collections::{BTreeMap, BTreeSet};

    fn relay(id: u8, weight: u64, exit: bool) -> RelayFacts {
        let mut relay = RelayFacts::new(
            Fingerprint::from_bytes([id; 20]),
            "r",
            KilobytesPerSecond::new(weight),
        );
        (relay.flags.running, relay.flags.valid) = (true, true);
        relay.flow_control_2 = true;
        if exit {
            relay.flags.exit = true;
            relay.exit_ports = PortRanges::new([(443, 443)]);
        }
        relay
    }

    fn snapshot(relays: Vec<RelayFacts>, params: &[(&str, i32)]) -> NetworkSnapshot {
        let params: BTreeMap<String, i32> = params
            .iter()
            .map(|&(name, value)| (name.to_owned(), value))
            .collect();
        let now = UnixMillis::default();
        NetworkSnapshot::new(now, now, now, params, relays)
    }

    /// All choices that 200 seeds make, as (position, first byte of the helper).
    fn choices(
        snapshot: &NetworkSnapshot,
        id: u8,
        avoid: &[Fingerprint],
    ) -> BTreeSet<Option<(bool, u8)>> {
        let target = snapshot.relay(&Fingerprint::from_bytes([id; 20])).unwrap();
        (0..200)
            .map(|seed| {
                let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
                FasterHelper
                    .choose(snapshot, target, 443, avoid, &mut rng)
                    .map(|choice| {
                        (
                            choice.position == Position::Exit,
                            choice.helper.as_bytes()[0],
                        )
                    })
            })
            .collect()
    }

    #[test]
    fn twice_as_fast_if_there_is_one_else_less() {
        let exits = |weights: &[u64]| {
            let mut relays = vec![relay(1, 100, false)];
            relays.extend(
                (2..)
                    .zip(weights)
                    .map(|(id, &weight)| relay(id, weight, true)),
            );
            snapshot(relays, &[])
        };
        let both = [Some((false, 3)), Some((false, 4))].into();
        assert_eq!(choices(&exits(&[150, 200, 900]), 1, &[]), both);
        assert_eq!(
            choices(&exits(&[130, 150, 120]), 1, &[]),
            [Some((false, 3))].into()
        );
        assert_eq!(
            choices(&exits(&[30, 50, 20]), 1, &[]),
            [Some((false, 3))].into()
        );
        assert_eq!(choices(&exits(&[]), 1, &[]), [None].into());
    }

    #[test]
    fn never_the_target_its_family_a_bad_exit_an_authority_or_one_that_is_down() {
        let mut relays: Vec<RelayFacts> = (1..=7).map(|id| relay(id, 500, id > 1)).collect();
        relays[0].family = vec![relays[1].fingerprint];
        relays[1].family = vec![relays[0].fingerprint];
        relays[2].flags.bad_exit = true;
        relays[3].flags.authority = true;
        relays[4].flags.running = false;
        relays[5].exit_ports = PortRanges::new([(80, 80)]);
        assert_eq!(
            choices(&snapshot(relays, &[]), 1, &[]),
            [Some((false, 7))].into()
        );
    }

    #[test]
    fn exits_are_measured_as_exits_if_an_entry_can_be_found() {
        let with_entry = vec![relay(1, 10, true), relay(2, 50, true), relay(3, 50, false)];
        assert_eq!(
            choices(&snapshot(with_entry, &[]), 1, &[]),
            [Some((true, 3))].into()
        );
        let without = vec![relay(1, 10, true), relay(2, 50, true)];
        assert_eq!(
            choices(&snapshot(without, &[]), 1, &[]),
            [Some((false, 2))].into()
        );
    }

    #[test]
    fn congestion_control_decides_which_exits_serve() {
        let mut old = relay(2, 500, true);
        old.flow_control_2 = false;
        let relays = vec![relay(1, 10, false), old, relay(3, 500, true)];
        for (value, helper) in [(1, 3), (0, 2)] {
            let network = snapshot(relays.clone(), &[("cc_alg", 2), ("bwscanner_cc", value)]);
            assert_eq!(choices(&network, 1, &[]), [Some((false, helper))].into());
        }
        assert_eq!(choices(&snapshot(relays, &[]), 1, &[]).len(), 2);
    }

    #[test]
    fn helpers_that_were_tried_come_last() {
        let relays = vec![relay(1, 10, false), relay(2, 500, true), relay(3, 20, true)];
        let network = snapshot(relays, &[]);
        let id = |byte| Fingerprint::from_bytes([byte; 20]);
        assert_eq!(choices(&network, 1, &[id(2)]), [Some((false, 3))].into());
        let both_tried = choices(&network, 1, &[id(2), id(3)]);
        assert!(!both_tried.contains(&None));
    }
}
