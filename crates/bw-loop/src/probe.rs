//! A measurement in one line: what the scan loop of `bw-measure` finds.
//!
//! Share and spread are fitted to what that loop finds in `bw-sim`'s network,
//! where payload is shared tick by tick; `tests/fit.rs` holds them to it.

use rand::RngExt;

use crate::random::normal;

/// The circuits that the clients of a relay count as, together: those of
/// [`bw_sim::Load`].
const CLIENT_CIRCUITS: f64 = 10.0;

/// The circuits that measure a relay, side by side; more where helpers are full.
pub const CIRCUITS: f64 = 4.0;

/// The standard deviation of ln(rate) between measurements of a relay whose
/// load does not change. `bw-sim`: 0.001 to 0.01; private networks of real tor:
/// 0.012 to 0.023 (README).
pub const SPREAD: f64 = 0.02;

/// The part left for `circuits` together of a relay of which clients want `load`, as a
/// share of its capacity; above 1, they want more than there is.
///
/// That is what clients leave, or the fair share of the circuits.
pub fn left(circuits: f64, load: f64) -> f64 {
    let clients = CLIENT_CIRCUITS * load.max(1.0);
    (1.0 - load).max(circuits / (circuits + clients))
}

/// The share of its rate that the helpers of a measurement let pass, drawn anew: `hostile`
/// of all helpers let only half pass.
fn passed(hostile: f64, rng: &mut impl rand::Rng) -> f64 {
    if hostile <= 0.0 {
        return 1.0;
    }
    let halves = (0..CIRCUITS as u32).filter(|_| rng.random_bool(hostile));
    1.0 - 0.5 * halves.count() as f64 / CIRCUITS
}

/// The rate that a measurement shows of a relay that could carry `available`, where `hostile` of the
/// helpers slow it.
pub(crate) fn shown(available: f64, hostile: f64, rng: &mut impl rand::Rng) -> f64 {
    available * passed(hostile, rng) * (SPREAD * normal(rng)).exp()
}

/// A rate that the scheduler accepts: one that contradicts the `last` one is
/// measured again through others, and of three that disagree the middle one counts.
pub(crate) fn accepted(
    available: f64,
    hostile: f64,
    last: Option<f64>,
    rng: &mut impl rand::Rng,
) -> f64 {
    let mut measured = || shown(available, hostile, rng);
    let first = measured();
    let Some(last) = last.filter(|&last| !agree(first, last)) else {
        return first;
    };
    let second = measured();
    if agree(first, second) {
        first
    } else if agree(second, last) {
        second
    } else {
        let mut three = [first, second, measured()];
        three.sort_unstable_by(f64::total_cmp);
        three[1]
    }
}

/// The scheduler's limits: half as much again below, twice above.
fn agree(rate: f64, last: f64) -> bool {
    (0.75..=2.0).contains(&(rate / last))
}
