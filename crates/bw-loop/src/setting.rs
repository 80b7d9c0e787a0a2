//! The setting of a simulation.

use bw_aggregate::{Method, ScaleOptions};
use bw_sim::Population;

use crate::attack::Attack;

/// One run of the loop.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Setting {
    /// The making of weights by scanners: everything but the state of previous files.
    pub scaling: ScaleOptions,
    /// The relays. Their load is not looked at: it comes from the loop.
    pub population: Population,
    /// The demand of clients, as a share of what all relays can carry.
    pub utilisation: f64,
    /// Days; each relay is measured once a day by each scanner.
    pub days: u32,
    /// Authorities with a scanner, of whose votes the median counts.
    pub scanners: u32,
    /// Attacks of relays that want more than their share.
    pub attack: Attack,
    /// The share of relays that share an address with one to three others, each on a line of
    /// its own.
    pub neighbours: f64,
    /// True if scanners also measure relays together that may share a machine.
    pub together: bool,
    /// The share of relays that join when half of the days are over.
    pub newcomers: f64,
    /// All that is random follows from it.
    pub seed: u64,
}

impl Setting {
    /// `relays` relays like those of the public network, at half of what they can
    /// carry, for 60 days, with three scanners, and nobody who attacks.
    pub fn new(method: Method, relays: usize) -> Self {
        Self {
            scaling: ScaleOptions::new(method),
            population: Population::public_network(relays),
            utilisation: 0.5,
            days: 60,
            scanners: 3,
            attack: Attack::default(),
            neighbours: 0.2,
            together: true,
            newcomers: 0.01,
            seed: 1,
        }
    }

    /// The day on which newcomers join.
    pub(crate) const fn newcomers_join(&self) -> u32 {
        self.days / 2
    }

    /// From which day on figures count: the last quarter, in which the newcomers
    /// and the initial weights have long been settled where they ever are.
    pub(crate) const fn settled(&self) -> u32 {
        self.days - self.days / 4
    }
}
