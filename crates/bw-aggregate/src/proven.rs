//! The rate that a relay has proven: what its measurements support together.

use std::cmp::Reverse;
use std::time::Duration;

use bw_file::Fingerprint;
use bw_results::{NetworkSnapshot, RelayFacts, UnixMillis};
use serde::Serialize;

/// The time before a relay's newest measurement in which others support it. Within it
/// are all days of a week, as clients come and go with them.
const WINDOW: Duration = Duration::from_secs(7 * 86_400);

/// The part of its measurements that must have reached a rate, one in so many.
/// Clients leave a busy relay most in its calm hours, a quarter of the day; and
/// three quarters of the records can be spoilt without lowering it.
const ONE_IN: usize = 4;

/// With how many of the best each measurement is compared at most.
const COMPARED: usize = 16;

/// The best rate that a relay's measurements support: one that a quarter of
/// them has reached, and at least two through unrelated helpers.
///
/// Of n measurements, fewer than n/4 that are too high do not raise it above
/// what others have shown, and fewer than 3n/4 that are too low do not lower it
/// below them. A lower bound counts as reached up to its rate, and speaks
/// against nothing above.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Proven {
    /// The rate, in bytes per second.
    pub rate: f64,
    /// The rate that three quarters of the measurements have reached, lower
    /// bounds left out; the same as the other where there is none.
    pub usual: f64,
    /// The number of measurements that were looked at, those of the last seven days.
    pub measurements: u64,
    /// The number of lower bounds among them.
    pub lower_bounds: u64,
    /// The number of those that have reached the rate.
    pub reached: u64,
    /// True if two of these went through unrelated helpers: other relays, of
    /// other families and networks.
    pub supported: bool,
    /// True if the best of them is a lower bound: the relay may carry more.
    pub at_least: bool,
}

/// One measurement, as far as it proves something.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) ended: UnixMillis,
    pub(crate) rate: f64,
    pub(crate) is_lower_bound: bool,
    pub(crate) helpers: Vec<Fingerprint>,
}

impl Proven {
    /// The rate that these measurements prove, in any order; none of none.
    pub(crate) fn of(shown: &[Shown], network: &NetworkSnapshot) -> Option<Self> {
        let newest = shown.iter().map(|one| one.ended).max()?;
        let recent = shown.iter().filter(|one| newest.since(one.ended) <= WINDOW);
        let mut recent: Vec<&Shown> = recent.collect();
        // A complete order, so that the input's makes no difference.
        recent.sort_unstable_by(|one, other| {
            (other.rate.total_cmp(&one.rate))
                .then_with(|| one.is_lower_bound.cmp(&other.is_lower_bound))
                .then_with(|| Reverse(one.ended).cmp(&Reverse(other.ended)))
                .then_with(|| one.helpers.cmp(&other.helpers))
        });
        let bounds = recent.iter().filter(|one| one.is_lower_bound).count();
        let exact = recent.len() - bounds;
        let needed = exact.div_ceil(ONE_IN).max(2).min(recent.len());
        let pair = (1..recent.len()).find(|&at| {
            let before = recent[..at].iter().take(COMPARED);
            before
                .clone()
                .any(|one| unrelated(one, recent[at], network))
        });
        let reached = pair.map_or(needed, |at| needed.max(at + 1));
        let rate = recent[reached - 1].rate;
        let mut exact = recent.iter().filter(|one| !one.is_lower_bound);
        let usual = exact.nth((recent.len() - bounds) * (ONE_IN - 1) / ONE_IN);
        Some(Self {
            rate,
            usual: usual.map_or(rate, |one| one.rate.min(rate)),
            measurements: recent.len() as u64,
            lower_bounds: bounds as u64,
            reached: reached as u64,
            supported: pair.is_some(),
            at_least: recent[0].is_lower_bound,
        })
    }
}

/// Returns whether nothing that is known connects the helpers of both. Where a
/// record does not tell its helpers, nothing does.
fn unrelated(one: &Shown, other: &Shown, network: &NetworkSnapshot) -> bool {
    one.helpers.iter().all(|a| {
        let mut others = other.helpers.iter();
        others.all(|b| a != b && !related(network.relay(a), network.relay(b)))
    })
}

fn related(a: Option<&RelayFacts>, b: Option<&RelayFacts>) -> bool {
    a.zip(b)
        .is_some_and(|(a, b)| a.same_family(b) || a.same_network(b))
}

#[cfg(test)]
mod tests {
    use bw_file::KilobytesPerSecond;
    use proptest::prelude::*;

    use super::*;

    /// Relays 1 to 9: the first two are a family, the next two in one network.
    fn network() -> NetworkSnapshot {
        let relays = (1..=9_u8).map(|number| {
            let mut relay = RelayFacts::new(id(number), "x", KilobytesPerSecond::new(1));
            relay.address = Some(std::net::Ipv4Addr::new(9, number, 0, 1).into());
            match number {
                1 => relay.family = vec![id(2)],
                2 => relay.family = vec![id(1)],
                3 => relay.address = Some(std::net::Ipv4Addr::new(9, 4, 9, 9).into()),
                _ => {}
            }
            relay
        });
        let time = UnixMillis::default();
        NetworkSnapshot::new(time, time, time, Default::default(), relays.collect())
    }

    fn id(number: u8) -> Fingerprint {
        Fingerprint::from_bytes([number; 20])
    }

    fn shown(rate: f64, helper: u8) -> Shown {
        Shown {
            ended: UnixMillis::from_secs(1_790_000_000),
            rate,
            is_lower_bound: false,
            helpers: (helper > 0).then_some(id(helper)).into_iter().collect(),
        }
    }

    fn bound(rate: f64, helper: u8) -> Shown {
        Shown {
            is_lower_bound: true,
            ..shown(rate, helper)
        }
    }

    fn proven(shown: &[Shown]) -> Proven {
        Proven::of(shown, &network()).unwrap()
    }

    #[test]
    fn two_measurements_through_unrelated_helpers_support_a_rate() {
        assert_eq!(Proven::of(&[], &network()), None);
        let alone = proven(&[shown(7.0, 5)]);
        assert_eq!((alone.rate, alone.supported), (7.0, false));
        for (helpers, rate, supported) in [
            ([5, 6, 7], 8.0, true),
            // The same helper, its family, its network: the third is needed.
            ([5, 5, 6], 6.0, true),
            ([1, 2, 6], 6.0, true),
            ([3, 4, 6], 6.0, true),
            ([5, 5, 5], 8.0, false),
            // Nothing is known of them.
            ([0, 0, 0], 8.0, true),
            ([200, 201, 5], 8.0, true),
        ] {
            let rates = [9.0, 8.0, 6.0];
            let shown: Vec<_> = rates
                .iter()
                .zip(helpers)
                .map(|(&r, h)| shown(r, h))
                .collect();
            let found = proven(&shown);
            assert_eq!(
                (found.rate, found.supported),
                (rate, supported),
                "{helpers:?}"
            );
        }
    }

    #[test]
    fn a_quarter_of_the_measurements_must_have_reached_it() {
        let rates = |rates: &[f64]| {
            let shown: Vec<_> = rates.iter().map(|&rate| shown(rate, 0)).collect();
            proven(&shown).rate
        };
        assert_eq!(rates(&[1.0, 2.0]), 1.0);
        assert_eq!(rates(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]), 7.0);
        let shown = [8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0].map(|rate| shown(rate, 0));
        assert_eq!(proven(&shown).usual, 2.0);
        assert_eq!(rates(&[9.0, 9.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0]), 5.0);
    }

    #[test]
    fn lower_bounds_count_as_reached_and_speak_against_nothing() {
        let found = proven(&[shown(5.0, 5), bound(9.0, 6), bound(8.0, 7), bound(1.0, 8)]);
        assert_eq!((found.rate, found.at_least), (8.0, true));
        // A fast relay that a slow link bounds most of the time.
        let mut many = vec![bound(2.0, 9); 20];
        many.extend([shown(10.0, 5), shown(9.0, 6)]);
        let found = proven(&many);
        assert_eq!((found.rate, found.at_least), (9.0, false));
        let only = proven(&[bound(3.0, 5), bound(4.0, 6)]);
        assert_eq!((only.rate, only.usual, only.at_least), (3.0, 3.0, true));
    }

    #[test]
    fn what_is_older_than_a_week_is_forgotten() {
        let mut old = shown(9.0, 5);
        old.ended = old.ended.before(WINDOW + Duration::from_secs(1));
        let found = proven(&[old.clone(), old, shown(1.0, 6)]);
        assert_eq!((found.rate, found.measurements), (1.0, 1));
    }

    fn any_shown() -> impl Strategy<Value = Vec<Shown>> {
        let one = (1.0..1e9_f64, 0..10_u8, any::<bool>(), 0..900_000_u64);
        let one = one.prop_map(|(rate, helper, is_lower_bound, age)| {
            let mut shown = shown(rate, helper);
            shown.is_lower_bound = is_lower_bound;
            shown.ended = UnixMillis::from_secs(1_790_000_000 - age);
            shown
        });
        prop::collection::vec(one, 1..30)
    }

    proptest! {
        #[test]
        fn the_order_of_measurements_makes_no_difference(
            shown in any_shown(), by in 0..30_usize,
        ) {
            let found = proven(&shown);
            let mut turned = shown;
            turned.reverse();
            let by = by % turned.len();
            turned.rotate_left(by);
            prop_assert_eq!(proven(&turned), found);
        }

        #[test]
        fn more_shown_never_proves_less(
            shown in any_shown(), which in 0..30_usize, factor in 1.0..1e3_f64,
        ) {
            let before = proven(&shown);
            let mut more = shown;
            let which = which % more.len();
            more[which].rate *= factor;
            // What is proven is the rate that is supported, if any is.
            if before.supported {
                prop_assert!(proven(&more).rate >= before.rate);
            }
        }

        #[test]
        fn one_record_among_three_or_more_moves_it_within_what_the_others_show(
            rates in prop::collection::vec(1.0..1e9_f64, 2..30), outlier in 1.0..1e12_f64,
        ) {
            let mut all: Vec<_> = rates.iter().map(|&rate| shown(rate, 0)).collect();
            all.push(shown(outlier, 0));
            let (least, most) = (
                rates.iter().copied().fold(f64::INFINITY, f64::min),
                rates.iter().copied().fold(0.0, f64::max),
            );
            let found = proven(&all).rate;
            prop_assert!((least..=most).contains(&found), "{found}");
        }
    }
}
