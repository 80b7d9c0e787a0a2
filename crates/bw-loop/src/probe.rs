//! A measurement in one line: what the scan loop of `bw-measure` finds.
//!
//! Share and spread are fitted to what that loop finds in `bw-sim`'s network,
//! where payload is shared tick by tick; `tests/fit.rs` holds them to it.

use rand::RngExt;

use crate::random::normal;

/// The circuits that the clients of a relay count as, together: those of
/// [`bw_sim::Load`].
const CLIENT_CIRCUITS: f64 = 10.0;

/// From which rate on several circuits measure a relay side by side, in bytes
/// per second.
const SEVERAL: f64 = 1_500_000.0;

/// The standard deviation of ln(rate) between measurements of a relay whose
/// load does not change. `bw-sim`: 0.001 to 0.01; private networks of real tor:
/// 0.012 to 0.023 (README).
pub const SPREAD: f64 = 0.02;

/// The part left for a measurement of a relay of which clients want `load`, as a
/// share of its capacity; above 1, they want more than there is.
///
/// That is what clients leave, or the fair share of the circuits that measure:
/// one, and three of fast relays.
pub fn left(capacity: f64, load: f64) -> f64 {
    let circuits = if capacity > SEVERAL { 3.0 } else { 1.0 };
    let clients = CLIENT_CIRCUITS * load.max(1.0);
    (1.0 - load).max(circuits / (circuits + clients))
}

/// The helpers of one measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Helpers {
    /// Their number.
    pub(crate) count: u32,
    /// The share of helpers that let only half pass.
    pub(crate) hostile: f64,
}

impl Helpers {
    pub(crate) fn of(capacity: f64, hostile: f64) -> Self {
        let count = if capacity > SEVERAL { 2 } else { 1 };
        Self { count, hostile }
    }

    /// The rate that they let pass, drawn anew.
    fn passed(self, rng: &mut impl rand::Rng) -> f64 {
        if self.hostile <= 0.0 {
            return 1.0;
        }
        let halves = (0..self.count).filter(|_| rng.random_bool(self.hostile));
        1.0 - 0.5 * halves.count() as f64 / f64::from(self.count)
    }
}

/// The rate that a measurement shows of a relay that could carry `available`.
pub(crate) fn shown(available: f64, helpers: Helpers, rng: &mut impl rand::Rng) -> f64 {
    available * helpers.passed(rng) * (SPREAD * normal(rng)).exp()
}

/// A rate that the scheduler accepts: one that contradicts the `last` one is
/// measured again through others, and of three that disagree the middle one counts.
pub(crate) fn accepted(
    available: f64,
    helpers: Helpers,
    last: Option<f64>,
    rng: &mut impl rand::Rng,
) -> f64 {
    let mut measured = || shown(available, helpers, rng);
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
