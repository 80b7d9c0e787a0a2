//! Where clients use relays: the position weights of the consensus.

use bw_results::RelayFlags;

/// The share of a relay's weight that counts in each position of a circuit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PositionShares {
    /// As first hop.
    pub guard: f64,
    /// In the middle.
    pub middle: f64,
    /// As exit.
    pub exit: f64,
}

/// The position weights of a consensus (dir-spec, 3.8.3), as shares of 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PositionWeights {
    guard: PositionShares,
    exit: PositionShares,
    both: PositionShares,
}

impl PositionWeights {
    /// Computes them as authorities do, of the weights by flags: guards that
    /// are no exits, middles, exits that are no guards, and both.
    pub fn of(guard: f64, middle: f64, exit: f64, both: f64) -> Self {
        let (g, m, e, d) = (guard, middle, exit, both);
        let third = (g + m + e + d) / 3.0;
        let share = |part: f64, whole: f64| {
            if whole > 0.0 {
                (part / whole).clamp(0.0, 1.0)
            } else {
                0.0
            }
        };
        // As variables of the specification are called.
        let (wgg, wee, wgd, wed);
        if e >= third && g >= third {
            (wgd, wed) = (1.0 / 3.0, 1.0 / 3.0);
            wee = share(e + g + m, 3.0 * e);
            wgg = 1.0 - share(2.0 * g - e - m, 3.0 * g);
        } else if e < third && g < third {
            (wgg, wee) = (1.0, 1.0);
            if e.min(g) + d < e.max(g) {
                (wgd, wed) = if e < g { (0.0, 1.0) } else { (1.0, 0.0) };
            } else {
                let exits = share(d - 2.0 * e + g + m, 3.0 * d);
                let middles = share(d - 2.0 * m + g + e, 3.0 * d);
                wed = exits;
                wgd = (1.0 - exits - if m > third { 0.0 } else { middles }).max(0.0);
            }
        } else if e.min(g) + d < third {
            if g < e {
                (wgg, wgd, wed) = (1.0, 1.0, 0.0);
                wee = 1.0 - if e < m { 0.0 } else { share(e - m, 2.0 * e) };
            } else {
                (wee, wed, wgd) = (1.0, 1.0, 0.0);
                wgg = 1.0 - if g < m { 0.0 } else { share(g - m, 2.0 * g) };
            }
        } else if g < e {
            wgg = 1.0;
            wgd = share(d - 2.0 * g + e + m, 3.0 * d);
            wee = share(e + m, 2.0 * e);
            wed = (1.0 - wgd) / 2.0;
        } else {
            wee = 1.0;
            wed = share(d - 2.0 * e + g + m, 3.0 * d);
            wgg = share(g + m, 2.0 * g);
            wgd = (1.0 - wed) / 2.0;
        }
        Self {
            guard: PositionShares {
                guard: wgg,
                middle: 1.0 - wgg,
                exit: 0.0,
            },
            exit: PositionShares {
                guard: 0.0,
                middle: 1.0 - wee,
                exit: wee,
            },
            both: PositionShares {
                guard: wgd,
                middle: (1.0 - wgd - wed).max(0.0),
                exit: wed,
            },
        }
    }

    /// Computes them of relays with these flags and weights.
    pub fn of_relays(relays: impl Iterator<Item = (RelayFlags, f64)>) -> Self {
        let (mut guard, mut middle, mut exit, mut both) = (0.0, 0.0, 0.0, 0.0);
        for (flags, weight) in relays {
            *match (flags.guard, flags.exit) {
                (true, true) => &mut both,
                (true, false) => &mut guard,
                (false, true) => &mut exit,
                (false, false) => &mut middle,
            } += weight;
        }
        Self::of(guard, middle, exit, both)
    }

    /// The shares for a relay with these flags.
    pub const fn shares(&self, flags: RelayFlags) -> PositionShares {
        match (flags.guard, flags.exit) {
            (true, true) => self.both,
            (true, false) => self.guard,
            (false, true) => self.exit,
            (false, false) => PositionShares {
                guard: 0.0,
                middle: 1.0,
                exit: 0.0,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bandwidth of each position: guard, middle, exit.
    fn positions(g: f64, m: f64, e: f64, d: f64) -> [f64; 3] {
        let weights = PositionWeights::of(g, m, e, d);
        [
            g * weights.guard.guard + d * weights.both.guard,
            m + g * weights.guard.middle + e * weights.exit.middle + d * weights.both.middle,
            e * weights.exit.exit + d * weights.both.exit,
        ]
    }

    #[test]
    fn positions_are_balanced_where_that_is_possible() {
        for (g, m, e, d) in [
            (50.0, 10.0, 40.0, 5.0),
            (45.0, 25.0, 20.0, 20.0),
            (10.0, 20.0, 15.0, 60.0),
            (20.0, 30.0, 60.0, 40.0),
        ] {
            let found = positions(g, m, e, d);
            let third = (g + m + e + d) / 3.0;
            assert!(
                found.iter().all(|one| (one / third - 1.0).abs() < 1e-9),
                "{found:?} of {third}"
            );
        }
        // Few exits: all of them exit, and nobody else can.
        let found = positions(60.0, 20.0, 5.0, 5.0);
        assert!((found[2] - 10.0).abs() < 1e-9, "{found:?}");
    }

    proptest! {
        #[test]
        fn no_weight_is_lost(parts in prop::array::uniform4(0.0..1e9_f64)) {
            let [g, m, e, d] = parts;
            let found = positions(g, m, e, d);
            let (sum, all) = (found.iter().sum::<f64>(), g + m + e + d);
            prop_assert!((sum - all).abs() <= all * 1e-9);
            prop_assert!(found.iter().all(|&one| one >= 0.0));
        }
    }
}
