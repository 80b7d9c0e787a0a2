//! Networks that look like the public one.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bw_file::{BytesPerSecond, Fingerprint, KilobytesPerSecond};
use bw_results::{DescriptorFacts, PortRanges, UnixMillis};
use rand::RngExt;
use rand::seq::SliceRandom;
use statrs::distribution::{ContinuousCDF, Normal};

use crate::{Load, Nature, Relay};

/// The make-up of a network; [`generate`](Self::generate) makes relays of it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Population {
    /// The number of relays.
    pub relays: usize,
    /// Quantiles of their capacity: share of the relays that have less, from 0
    /// to 1 and rising, and bytes per second; log-linear between them.
    pub capacities: Vec<(f64, f64)>,
    /// The share of relays that are exits.
    pub exits: f64,
    /// σ of ln(consensus weight / capacity): how wrong the network's weights
    /// are before the scan.
    pub prior_sigma: f64,
    /// The share of relays of which nobody has measured the weight yet.
    pub unmeasured: f64,
    /// The share of relays that have a token bucket (an operator's
    /// `RelayBandwidthRate` and burst); others are limited by their line or processor.
    pub limited: f64,
    /// The share of payload in the bytes that a token bucket counts.
    pub goodput: f64,
    /// The mean share of relays' capacity that clients want; half to one and
    /// a half times that, relay by relay.
    pub load: f64,
    /// The swing of each relay's load, as a share of its capacity.
    pub swing: f64,
    /// The share of relays that are in families, of two to eight.
    pub families: f64,
    /// Shares of relays with other natures than honest.
    pub natures: Vec<(f64, Nature)>,
}

impl Population {
    /// `relays` relays with capacities as the public network has them: a
    /// tenth below 1, a quarter below 5.4, half below 25, three quarters below 96,
    /// nine tenths below 262 Mbit/s, and one in a hundred above 639. All are
    /// honest; none has clients.
    pub fn public_network(relays: usize) -> Self {
        const MBIT: f64 = 125_000.0;
        let capacities = [
            (0.0, 0.2),
            (0.10, 1.0),
            (0.25, 5.4),
            (0.50, 25.0),
            (0.75, 96.0),
            (0.90, 262.0),
            (0.99, 639.0),
            (1.0, 1000.0),
        ];
        Self {
            relays,
            capacities: capacities
                .map(|(share, mbit)| (share, mbit * MBIT))
                .to_vec(),
            exits: 0.28,
            prior_sigma: 0.4,
            unmeasured: 0.03,
            limited: 0.4,
            goodput: 0.8,
            load: 0.0,
            swing: 0.0,
            families: 0.2,
            natures: Vec::new(),
        }
    }

    /// The capacity of which the share `quantile` of the relays has less, in
    /// bytes per second.
    pub fn capacity(&self, quantile: f64) -> f64 {
        let between = self
            .capacities
            .windows(2)
            .find(|pair| quantile <= pair[1].0);
        match (between, self.capacities.last()) {
            (Some(&[(from, low), (to, high)]), _) => {
                let part = ((quantile - from) / (to - from)).clamp(0.0, 1.0);
                low * (high / low).powf(part)
            }
            (_, Some(&(_, highest))) => highest,
            _ => 0.0,
        }
    }

    /// Relays of this population, drawn from `rng`. Their capacities are
    /// spread evenly over the quantiles, so that small networks have them too.
    pub fn generate(&self, rng: &mut impl rand::Rng) -> Vec<Relay> {
        let count = self.relays;
        let mut quantiles: Vec<f64> = (0..count)
            .map(|index| (index as f64 + 0.5) / count as f64)
            .collect();
        quantiles.shuffle(rng);
        let mut relays: Vec<Relay> = quantiles
            .iter()
            .map(|&quantile| self.relay(self.capacity(quantile), rng))
            .collect();
        self.join_families(&mut relays, rng);
        self.assign_natures(&mut relays, rng);
        relays
    }

    fn relay(&self, capacity: f64, rng: &mut impl rand::Rng) -> Relay {
        let mut fingerprint = [0; 20];
        rng.fill(&mut fingerprint[..]);
        let capacity = capacity.max(1.0);
        let fingerprint = Fingerprint::from_bytes(fingerprint);
        let mut relay = Relay::new(fingerprint, BytesPerSecond::new(capacity as u64));
        // Hosters have many relays: a few networks of the many are crowded.
        let network = (rng.random_range(0.0_f64..1.0).powi(3) * 20_000.0) as u32 + 0x0B00;
        let host = rng.random_range(1..0xFFFF_u32);
        let address = Ipv4Addr::from_bits((network << 16) | host);
        relay.facts.address = Some(IpAddr::V4(address));
        relay.facts.flags.stable = rng.random_bool(0.8);
        relay.facts.flags.guard = capacity > 250_000.0 && rng.random_bool(0.6);
        if rng.random_bool(self.exits.clamp(0.0, 1.0)) {
            relay = relay.exit();
            if rng.random_bool(0.1) {
                relay.facts.exit_ports = PortRanges::new([(80, 80), (443, 443)]);
            }
        }
        relay.delay = Duration::from_micros(rng.random_range(3_000..50_000));
        let wanted = self.load * rng.random_range(0.5..1.5);
        relay.load = Load::steady(wanted.min(1.0)).varying(self.swing);
        relay.load.period = Duration::from_secs(rng.random_range(60..1800));
        self.describe(&mut relay, capacity, rng);
        relay
    }

    /// The directory's word on a relay's bandwidth.
    fn describe(&self, relay: &mut Relay, capacity: f64, rng: &mut impl rand::Rng) {
        /// `MAX_BANDWIDTH` of an operator who sets no limit: tor's default of 1 GiB.
        const UNLIMITED: u64 = 1 << 30;
        let weight = capacity * (self.prior_sigma * normal(rng)).exp();
        relay.facts.consensus_weight = KilobytesPerSecond::new((weight / 1000.0).max(1.0) as u64);
        relay.facts.unmeasured = rng.random_bool(self.unmeasured.clamp(0.0, 1.0));
        if relay.facts.unmeasured {
            relay.facts.consensus_weight = KilobytesPerSecond::new(20);
        }
        let rate = capacity / self.goodput;
        // It has never been asked for quite all that it can do.
        let observed = rate * (-0.3 * normal(rng).abs()).exp();
        let (mut average, mut burst) = (UNLIMITED, UNLIMITED);
        if rng.random_bool(self.limited.clamp(0.0, 1.0)) {
            average = rate as u64;
            burst = (rate * rng.random_range(1.0..2.0)) as u64;
            relay.bucket = (burst as f64 * self.goodput) as u64;
            relay.line = BytesPerSecond::new((capacity * rng.random_range(1.2..4.0)) as u64);
        }
        relay.facts.descriptor = Some(DescriptorFacts::new(
            UnixMillis::default(),
            BytesPerSecond::new(average),
            BytesPerSecond::new(burst),
            BytesPerSecond::new(observed as u64),
        ));
    }

    fn join_families(&self, relays: &mut [Relay], rng: &mut impl rand::Rng) {
        let members = (self.families.clamp(0.0, 1.0) * relays.len() as f64) as usize;
        let mut rest = &mut relays[..members];
        while rest.len() >= 2 {
            let size = rng.random_range(2..=8).min(rest.len());
            let (family, others) = rest.split_at_mut(size);
            let all: Vec<Fingerprint> =
                family.iter().map(|relay| relay.facts.fingerprint).collect();
            for relay in family {
                let own = relay.facts.fingerprint;
                relay.facts.family = all.iter().copied().filter(|id| *id != own).collect();
            }
            rest = others;
        }
    }

    fn assign_natures(&self, relays: &mut [Relay], rng: &mut impl rand::Rng) {
        let mut order: Vec<usize> = (0..relays.len()).collect();
        order.shuffle(rng);
        let mut order = order.into_iter();
        for &(share, nature) in &self.natures {
            let count = (share.clamp(0.0, 1.0) * relays.len() as f64).round() as usize;
            for index in order.by_ref().take(count) {
                relays[index].nature = nature;
            }
        }
    }
}

/// A number from the standard normal distribution.
fn normal(rng: &mut impl rand::Rng) -> f64 {
    Normal::standard().inverse_cdf(rng.random_range(1e-9..1.0 - 1e-9))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    #[test]
    fn the_public_network_has_its_quantiles() {
        let population = Population::public_network(8000);
        let relays = population.generate(&mut StdRng::seed_from_u64(1));
        let mut capacities: Vec<f64> = relays
            .iter()
            .map(|relay| relay.capacity.value() as f64 / 125_000.0)
            .collect();
        capacities.sort_by(f64::total_cmp);
        for (share, mbit) in [
            (0.1, 1.0),
            (0.25, 5.4),
            (0.5, 25.0),
            (0.75, 96.0),
            (0.99, 639.0),
        ] {
            let found = capacities[(share * 8000.0) as usize];
            assert!((found / mbit - 1.0).abs() < 0.01, "{found} for {mbit}");
        }
        let exits = relays.iter().filter(|relay| relay.facts.flags.exit).count();
        assert!((2000..2500).contains(&exits), "{exits}");
        let mut errors: Vec<f64> = relays
            .iter()
            .filter(|relay| !relay.facts.unmeasured && relay.capacity.value() > 100_000)
            .map(|relay| {
                let weight = relay.facts.consensus_weight.value() as f64 * 1000.0;
                (weight / relay.capacity.value() as f64).ln().powi(2)
            })
            .collect();
        errors.sort_by(f64::total_cmp);
        let sigma = (errors.iter().sum::<f64>() / errors.len() as f64).sqrt();
        assert!((sigma - 0.4).abs() < 0.02, "{sigma}");
    }

    #[test]
    fn natures_have_their_shares_and_families_are_mutual() {
        let mut population = Population::public_network(500);
        population.natures = vec![(0.1, Nature::Silent), (0.2, Nature::Refuses)];
        let relays = population.generate(&mut StdRng::seed_from_u64(1));
        let count = |nature| relays.iter().filter(|relay| relay.nature == nature).count();
        assert_eq!((count(Nature::Silent), count(Nature::Refuses)), (50, 100));
        let in_family = relays.iter().filter(|one| !one.facts.family.is_empty());
        assert!((99..=100).contains(&in_family.count()));
        for relay in &relays {
            for other in &relays {
                let declared = relay.facts.family.contains(&other.facts.fingerprint);
                assert_eq!(declared, relay.facts.same_family(&other.facts));
            }
        }
    }
}
