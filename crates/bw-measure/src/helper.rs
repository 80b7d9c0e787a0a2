//! The choice of relays that help to measure another.

use bw_file::Fingerprint;
use bw_results::{NetworkSnapshot, Position, RelayFacts};
use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};

/// Chooses where in the circuits a target is measured, and which relays help.
pub trait HelperPolicy: Send {
    /// The position and the helpers for a measurement; `None` if no relay can
    /// help now.
    fn choose(
        &mut self,
        request: &HelperRequest<'_>,
        rng: &mut dyn rand::Rng,
    ) -> Option<HelperChoice>;
}

/// A measurement that needs helpers.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct HelperRequest<'a> {
    /// The network.
    pub snapshot: &'a NetworkSnapshot,
    /// The relay to measure.
    pub target: &'a RelayFacts,
    /// The positions in which it may be measured, the preferred one first.
    pub positions: &'a [Position],
    /// The port of the web server.
    pub port: u16,
    /// The rate that the helpers must be able to carry together, in bytes per second,
    /// so that the target is the one that limits.
    pub need: f64,
    /// The rate that a relay can carry beside what is planned already, in bytes per
    /// second, by its index in the snapshot; 0 if it must not help.
    pub room: &'a dyn Fn(usize) -> f64,
    /// Helpers of earlier tries: taken only if there is no other.
    pub avoid: &'a [Fingerprint],
    /// The most helpers that may be taken.
    pub most: usize,
}

impl std::fmt::Debug for HelperRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HelperRequest")
            .field("target", &self.target.fingerprint)
            .field("need", &self.need)
            .finish_non_exhaustive()
    }
}

impl HelperRequest<'_> {
    /// The positions in which the target can be measured at all, in order.
    pub fn allowed_positions(&self) -> impl Iterator<Item = Position> + '_ {
        let positions = self.positions.iter().copied();
        positions.filter(|position| match position {
            Position::Exit => can_exit(self.snapshot, self.target, self.port),
            _ => true,
        })
    }

    /// Returns true if `relay` may help a target in `position`: it runs, is no
    /// authority and no `BadExit`, is neither the target nor of its family or
    /// network (IPv4 /16, IPv6 /32), and exits to the port where it has to.
    pub fn may_help(&self, relay: &RelayFacts, position: Position) -> bool {
        is_usable(relay)
            && match position {
                // Exits are scarce: they do not help as entries.
                Position::Exit => !relay.flags.exit,
                _ => can_exit(self.snapshot, relay, self.port),
            }
            && relay.fingerprint != self.target.fingerprint
            && !relay.same_family(self.target)
            && !relay.same_network(self.target)
    }

    /// Returns true if a choice keeps to the rules: a position that is allowed, and up to
    /// [`most`](Self::most) helpers that may help in it, none of them twice. Room is the
    /// policy's own business. The scheduler takes no other choice.
    pub fn accepts(&self, choice: &HelperChoice) -> bool {
        let HelperChoice { position, helpers } = choice;
        let mut distinct = helpers.clone();
        distinct.sort_unstable();
        distinct.dedup();
        self.allowed_positions().any(|allowed| allowed == *position)
            && (1..=self.most.max(1)).contains(&helpers.len())
            && distinct.len() == helpers.len()
            && helpers.iter().all(|helper| {
                let relay = self.snapshot.relay(helper);
                relay.is_some_and(|relay| self.may_help(relay, *position))
            })
    }

    /// The relays that may help a target in `position` and have room.
    fn candidates(&self, position: Position) -> Vec<Candidate<'_>> {
        let relays = self.snapshot.relays.iter().enumerate();
        relays
            .filter(|(_, relay)| self.may_help(relay, position))
            .map(|(index, relay)| Candidate {
                relay,
                room: (self.room)(index),
            })
            .filter(|candidate| candidate.room > 0.0)
            .collect()
    }

    fn is_fresh(&self, candidate: &Candidate<'_>) -> bool {
        !self.avoid.contains(&candidate.relay.fingerprint)
    }
}

/// A relay that may help.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    relay: &'a RelayFacts,
    room: f64,
}

/// A position for the target and the relays in the other one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HelperChoice {
    /// Where the target is.
    pub position: Position,
    /// The relays in the other position, one for each circuit; not empty.
    pub helpers: Vec<Fingerprint>,
}

impl HelperChoice {
    /// `helpers` beside a target in `position`.
    pub const fn new(position: Position, helpers: Vec<Fingerprint>) -> Self {
        Self { position, helpers }
    }
}

/// Helpers drawn at random among those with room enough, in other countries than the
/// target if countries are known and that can be had; several of them, from
/// different families, networks and, in the same way, countries, if none has enough alone.
///
/// A single helper is preferred, since each further one is another chance to
/// fail. If all together cannot offer what is needed, there is no choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpareHelpers;

impl HelperPolicy for SpareHelpers {
    fn choose(
        &mut self,
        request: &HelperRequest<'_>,
        rng: &mut dyn rand::Rng,
    ) -> Option<HelperChoice> {
        request.allowed_positions().find_map(|position| {
            let helpers =
                one(request, position, rng).or_else(|| several(request, position, rng))?;
            Some(HelperChoice::new(position, helpers))
        })
    }
}

/// The number of relays that are drawn at random before all are looked at.
const DRAWS: usize = 64;

/// A fresh helper that has room for all that is needed, abroad if there is one. Each that
/// fits is as likely as any other.
fn one(
    request: &HelperRequest<'_>,
    position: Position,
    rng: &mut dyn rand::Rng,
) -> Option<Vec<Fingerprint>> {
    let relays = &request.snapshot.relays;
    let fits = |&index: &usize| {
        let relay = &relays[index];
        (request.room)(index) >= request.need
            && request.may_help(relay, position)
            && !request.avoid.contains(&relay.fingerprint)
    };
    let abroad = |&index: &usize| !same_country(&relays[index], request.target);
    if relays.is_empty() {
        return None;
    }
    let drawn = (0..DRAWS)
        .map(|_| rng.random_range(0..relays.len()))
        .find(|index| fits(index) && abroad(index));
    let helper = drawn.or_else(|| {
        let fitting: Vec<usize> = (0..relays.len()).filter(fits).collect();
        let far: Vec<usize> = fitting.iter().copied().filter(abroad).collect();
        far.choose(rng).or_else(|| fitting.choose(rng)).copied()
    })?;
    Some(vec![relays[helper].fingerprint])
}

/// Helpers that together have room for what is needed.
fn several(
    request: &HelperRequest<'_>,
    position: Position,
    rng: &mut dyn rand::Rng,
) -> Option<Vec<Fingerprint>> {
    let mut candidates = request.candidates(position);
    candidates.shuffle(rng);
    // Few large ones rather than many small ones, those tried before last.
    let worth = |candidate: &Candidate<'_>| {
        let share = candidate.room * request.most as f64 >= request.need;
        (request.is_fresh(candidate), share)
    };
    candidates.sort_by(|a, b| {
        worth(b).cmp(&worth(a)).then_with(|| {
            if worth(a).1 {
                std::cmp::Ordering::Equal
            } else {
                b.room.total_cmp(&a.room)
            }
        })
    });
    gather(request, &candidates, same_country)
        .or_else(|| gather(request, &candidates, |_, _| false))
}

/// The first of `candidates` that together have room for what is needed: from different
/// families and networks, and none that is `near` to another or to the target.
fn gather(
    request: &HelperRequest<'_>,
    candidates: &[Candidate<'_>],
    near: impl Fn(&RelayFacts, &RelayFacts) -> bool,
) -> Option<Vec<Fingerprint>> {
    let mut chosen: Vec<Candidate<'_>> = Vec::new();
    let mut offered = 0.0;
    for candidate in candidates {
        if (offered >= request.need && !chosen.is_empty()) || chosen.len() >= request.most {
            break;
        }
        let relay = candidate.relay;
        let apart = chosen.iter().all(|other| {
            !other.relay.same_family(relay)
                && !other.relay.same_network(relay)
                && !near(other.relay, relay)
        });
        if apart && !near(request.target, relay) {
            offered += candidate.room;
            chosen.push(*candidate);
        }
    }
    (offered >= request.need && !chosen.is_empty())
        .then(|| chosen.iter().map(|one| one.relay.fingerprint).collect())
}

/// sbws's choice, made safe: one helper, drawn at random among the relays with at
/// least twice the target's consensus weight; if there is none, 1.75, 1.5,
/// 1.25 times, or as much; if there is none, the one with the most weight.
///
/// Beyond sbws, a helper is never of the target's family or network, never a
/// `BadExit`, never an authority, and always Running and Valid; an exit's policy
/// must allow the destination's port. As in sbws no helper is slower than a
/// quarter of its kind (exits, or the others) as long as one is not, and with
/// congestion control on (`cc_alg=2`) the exit is one that speaks it if
/// `bwscanner_cc` is at least 1, and one that does not if it is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FasterHelper;

/// The weights that a helper should have, as multiples of the target's, in order of preference.
const FACTORS: [f64; 5] = [2.0, 1.75, 1.5, 1.25, 1.0];

impl HelperPolicy for FasterHelper {
    fn choose(
        &mut self,
        request: &HelperRequest<'_>,
        rng: &mut dyn rand::Rng,
    ) -> Option<HelperChoice> {
        request.allowed_positions().find_map(|position| {
            let candidates = request.candidates(position);
            let floor = lower_quartile(request.snapshot, position == Position::Entry);
            let relays = candidates.iter().map(|candidate| candidate.relay);
            let fresh = candidates.iter().filter(|one| request.is_fresh(one));
            let fresh: Vec<_> = fresh.map(|candidate| candidate.relay).collect();
            let helper = draw(&fresh, request.target, floor, rng)
                .or_else(|| draw(&relays.collect::<Vec<_>>(), request.target, floor, rng))?;
            Some(HelperChoice::new(position, vec![helper.fingerprint]))
        })
    }
}

/// Returns true if `relay` may help at all.
const fn is_usable(relay: &RelayFacts) -> bool {
    let flags = relay.flags;
    flags.running && flags.valid && !flags.bad_exit && !flags.authority
}

/// Returns true if `relay` can be the exit of a measurement: its policy allows the
/// port, and its flow control is the one that the consensus asks scanners
/// to use (parameters `cc_alg` and `bwscanner_cc`, param-spec).
fn can_exit(snapshot: &NetworkSnapshot, relay: &RelayFacts, port: u16) -> bool {
    relay.exits_to(port)
        && match snapshot.param("cc_alg") {
            Some(2) => relay.flow_control_2 == (snapshot.param("bwscanner_cc").unwrap_or(0) >= 1),
            _ => true,
        }
}

/// Returns true if both relays are known to be in the same country.
fn same_country(a: &RelayFacts, b: &RelayFacts) -> bool {
    a.country.is_some() && a.country == b.country
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

    /// A request for one helper of whatever speed for relay `id`; all have room for 1.
    fn request(snapshot: &NetworkSnapshot, id: u8) -> HelperRequest<'_> {
        HelperRequest {
            snapshot,
            target: snapshot.relay(&Fingerprint::from_bytes([id; 20])).unwrap(),
            positions: &[Position::Exit, Position::Entry],
            port: 443,
            need: 0.0,
            room: &|_| 1.0,
            avoid: &[],
            most: 1,
        }
    }

    /// All sets of helpers that `SpareHelpers` takes over 200 seeds, by first byte: all
    /// relays have room for 1, and at most three may help.
    fn spare(snapshot: &NetworkSnapshot, id: u8, need: f64) -> BTreeSet<BTreeSet<u8>> {
        let request = HelperRequest {
            positions: &[Position::Entry],
            need,
            most: 3,
            ..request(snapshot, id)
        };
        let choice = |seed| {
            let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
            let choice = SpareHelpers.choose(&request, &mut rng).unwrap();
            choice.helpers.iter().map(|id| id.as_bytes()[0]).collect()
        };
        (0..200).map(choice).collect()
    }

    #[test]
    fn a_choice_against_the_rules_is_not_accepted() {
        let mut relays: Vec<RelayFacts> = (1..=5).map(|id| relay(id, 500, id > 1)).collect();
        let ids: Vec<Fingerprint> = relays.iter().map(|relay| relay.fingerprint).collect();
        (relays[0].family, relays[1].family) = (vec![ids[1]], vec![ids[0]]);
        relays[2].flags.bad_exit = true;
        let network = snapshot(relays, &[]);
        let request = HelperRequest {
            positions: &[Position::Entry],
            most: 2,
            ..request(&network, 1)
        };
        let accepts = |position, helpers: &[usize]| {
            let helpers = helpers.iter().map(|&index| ids[index]).collect();
            request.accepts(&HelperChoice::new(position, helpers))
        };
        assert!(accepts(Position::Entry, &[3, 4]));
        assert!(!accepts(Position::Entry, &[]), "nobody");
        assert!(!accepts(Position::Entry, &[3, 3]), "twice the same");
        assert!(!accepts(Position::Entry, &[0]), "itself");
        assert!(!accepts(Position::Entry, &[1]), "its family");
        assert!(!accepts(Position::Entry, &[2]), "a BadExit");
        assert!(!accepts(Position::Exit, &[3]), "no exit");
        let unknown = vec![Fingerprint::from_bytes([9; 20])];
        assert!(!request.accepts(&HelperChoice::new(Position::Entry, unknown)));
    }

    #[test]
    fn helpers_are_abroad_where_that_is_possible() {
        let mut relays: Vec<RelayFacts> = (1..=6).map(|id| relay(id, 500, id > 1)).collect();
        let places = ["DE", "DE", "FR", "FR", "NL"];
        for (relay, place) in relays.iter_mut().zip(places) {
            relay.country = Some(place.parse().unwrap());
        }
        let sets = |sets: &[&[u8]]| {
            sets.iter()
                .map(|set| set.iter().copied().collect())
                .collect()
        };
        let network = snapshot(relays.clone(), &[]);
        // Relay 6 is nobody knows where: that is no reason against it.
        assert_eq!(spare(&network, 1, 1.0), sets(&[&[3], &[4], &[5], &[6]]));
        assert_eq!(spare(&network, 1, 3.0), sets(&[&[3, 5, 6], &[4, 5, 6]]));
        // Three countries are not to be had: any helpers are better than none.
        relays.truncate(5);
        let network = snapshot(relays.clone(), &[]);
        assert!(spare(&network, 1, 3.0).contains(&[2, 3, 4].into()));
        relays.truncate(2);
        assert_eq!(spare(&snapshot(relays, &[]), 1, 1.0), sets(&[&[2]]));
    }

    #[test]
    fn each_that_fits_is_as_likely_whatever_gap_is_before_it() {
        // Five hundred exits; those that fit are relays 250 and 1 to 5 of them.
        let mut relays = vec![relay(1, 500, false)];
        relays.extend((0..500_u16).map(|number| {
            let mut exit = relay(9, 500, true);
            let mut bytes = [9; 20];
            bytes[..2].copy_from_slice(&(number + 512).to_be_bytes());
            exit.fingerprint = Fingerprint::from_bytes(bytes);
            exit
        }));
        let network = snapshot(relays, &[]);
        let mut rng = rand::rngs::StdRng::seed_from_u64(1);
        let fitting = [1, 2, 3, 4, 5, 250];
        let mut drawn = BTreeMap::new();
        for need in [1.0, 2.0] {
            // Of few that fit as of many.
            let request = HelperRequest {
                positions: &[Position::Entry],
                need,
                room: &|index| {
                    if fitting.contains(&index) {
                        2.0
                    } else {
                        1.0 - need / 4.0
                    }
                },
                ..request(&network, 1)
            };
            for _ in 0..1200 {
                let choice = SpareHelpers.choose(&request, &mut rng).unwrap();
                *drawn.entry(choice.helpers[0]).or_insert(0) += 1;
            }
        }
        let counts: Vec<i32> = drawn.values().copied().collect();
        assert_eq!(counts.len(), fitting.len());
        assert!(
            counts.iter().all(|count| (320..480).contains(count)),
            "{counts:?}"
        );
    }

    /// All choices that 200 seeds make, as (position, first byte of the helper).
    fn choices(
        snapshot: &NetworkSnapshot,
        id: u8,
        avoid: &[Fingerprint],
    ) -> BTreeSet<Option<(bool, u8)>> {
        let request = HelperRequest {
            avoid,
            ..request(snapshot, id)
        };
        (0..200)
            .map(|seed| {
                let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
                FasterHelper.choose(&request, &mut rng).map(|choice| {
                    let exit = choice.position == Position::Exit;
                    (exit, choice.helpers[0].as_bytes()[0])
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
