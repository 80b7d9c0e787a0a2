//! Clients' load on a relay.

use std::f64::consts::TAU;
use std::time::Duration;

/// The demand of clients for a relay's capacity, as it varies with time.
///
/// Clients give way like any circuit: when the relay is full, they and the
/// scanner's circuits share it, each circuit alike.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Load {
    /// The mean share of the capacity that clients want, 0 to 1.
    pub share: f64,
    /// The swing around the mean, half in a slow wave and
    /// half at random each second.
    pub swing: f64,
    /// The period of the wave.
    pub period: Duration,
    /// The number of client circuits that compete with one of the scanner's for the
    /// capacity.
    pub circuits: f64,
}

impl Load {
    /// No clients.
    pub const NONE: Self = Self::steady(0.0);

    /// Clients that always want `share` of the capacity; ten circuits of them.
    pub const fn steady(share: f64) -> Self {
        Self {
            share,
            swing: 0.0,
            period: Duration::from_secs(300),
            circuits: 10.0,
        }
    }

    /// The same load, going up and down by `swing`.
    #[must_use]
    pub const fn varying(mut self, swing: f64) -> Self {
        self.swing = swing;
        self
    }

    /// The share that is wanted at `time`; `seed` tells relays apart.
    pub fn at(&self, time: Duration, seed: u64) -> f64 {
        if self.swing == 0.0 {
            return self.share.clamp(0.0, 1.0);
        }
        let phase = unit(mix(seed));
        let turns = time.as_secs_f64() / self.period.as_secs_f64().max(1e-3);
        let wave = (TAU * (turns + phase)).sin();
        let noise = 2.0 * unit(mix(seed ^ mix(time.as_secs()))) - 1.0;
        (self.share + self.swing * (wave + noise) / 2.0).clamp(0.0, 1.0)
    }
}

impl Default for Load {
    fn default() -> Self {
        Self::NONE
    }
}

/// A number that looks random but depends on `value` alone (`SplitMix64`'s
/// output function, Steele, Lea and Flood, OOPSLA 2014): what happens at some
/// time must not depend on who looked before.
pub(crate) const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// `value` as a number from 0 to 1.
pub(crate) fn unit(value: u64) -> f64 {
    (value >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varying_load_keeps_its_mean_and_its_bounds() {
        let load = Load::steady(0.5).varying(0.3);
        let shares: Vec<f64> = (0..3000)
            .map(|second| load.at(Duration::from_secs(second), 7))
            .collect();
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
        let low = shares.iter().copied().fold(1.0, f64::min);
        let high = shares.iter().copied().fold(0.0, f64::max);
        assert!((0.2..0.25).contains(&low) && (0.75..0.8).contains(&high));
        let at = Duration::from_secs(9);
        assert_eq!(load.at(at, 7), load.at(at, 7));
        assert_ne!(load.at(at, 7), load.at(at, 8));
        assert_eq!(Load::NONE.at(at, 7), 0.0);
    }
}
