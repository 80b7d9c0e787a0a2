//! What a relay is expected to carry.

use std::collections::VecDeque;

use bw_results::RelayFacts;

/// What a relay is expected to carry, in bytes of payload per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Expectation {
    /// Rather less: what it can be counted on for as a helper.
    pub(super) low: f64,
    /// Rather more: what must be kept free for it as a target.
    pub(super) high: f64,
}

/// Within which time a target's token bucket should be empty, so that what it
/// sustains can be seen.
const DRAINED: f64 = 3.0;

/// What a full token bucket adds to what passes through `relay` at first, in
/// bytes per second over [`DRAINED`] seconds, if its token bucket is what
/// limits it: if its descriptor's rate is not far above what it is expected to carry.
pub(super) fn burst(relay: &RelayFacts, expected: Expectation) -> f64 {
    relay
        .descriptor
        .filter(|descriptor| descriptor.average.value() as f64 <= 2.0 * expected.high)
        .map_or(0.0, |descriptor| descriptor.burst.value() as f64 / DRAINED)
}

/// No relay is expected to carry less, in bytes per second: an idle relay's
/// descriptor says nothing, and tor gives unmeasured relays a weight of 20.
const FLOOR: f64 = 20_000.0;

impl Expectation {
    /// From the consensus and the descriptor: they disagree, and the truth is
    /// taken to be somewhere between them. `scale` is what measurements find
    /// for each byte that they promise.
    pub(super) fn of(relay: &RelayFacts, scale: f64) -> Self {
        let weight = (!relay.unmeasured).then(|| relay.consensus_weight.value() as f64 * 1000.0);
        let observed = relay
            .descriptor
            .map(|descriptor| descriptor.observed.value().min(descriptor.average.value()) as f64);
        let (low, high) = match (weight, observed) {
            (Some(a), Some(b)) => (a.min(b), a.max(b)),
            (Some(one), None) | (None, Some(one)) => (one, one),
            (None, None) => (FLOOR, FLOOR),
        };
        Self {
            low: low.max(FLOOR) * scale,
            high: high.max(FLOOR) * scale,
        }
    }

    /// Of a relay that was found to carry `rate`.
    pub(super) const fn known(rate: f64) -> Self {
        Self {
            low: rate,
            high: rate,
        }
    }

    /// Between both ends, on a logarithmic scale.
    pub(super) fn middle(&self) -> f64 {
        (self.low * self.high).sqrt()
    }
}

/// The ratio of what was measured to what consensus and descriptor promise:
/// the median over the latest measurements.
#[derive(Clone, Debug, Default)]
pub(super) struct Scale {
    ratios: VecDeque<f64>,
}

impl Scale {
    /// Until measurements tell: tor's token buckets let 0.75 to 0.85 of their
    /// rate pass as payload.
    const PRIOR: f64 = 0.8;
    /// How many measurements it takes to believe them.
    const FEW: usize = 5;
    /// How many are remembered.
    const MANY: usize = 101;

    pub(super) fn add(&mut self, ratio: f64) {
        if ratio.is_finite() && ratio > 0.0 {
            if self.ratios.len() == Self::MANY {
                self.ratios.pop_front();
            }
            self.ratios.push_back(ratio);
        }
    }

    pub(super) fn get(&self) -> f64 {
        if self.ratios.len() < Self::FEW {
            return Self::PRIOR;
        }
        let mut sorted: Vec<f64> = self.ratios.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2].clamp(0.02, 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bw_file::{BytesPerSecond, Fingerprint, KilobytesPerSecond};
    use bw_results::{DescriptorFacts, UnixMillis};

    #[test]
    fn weight_and_descriptor_span_the_expectation() {
        let id = Fingerprint::from_bytes([1; 20]);
        let mut relay = RelayFacts::new(id, "r", KilobytesPerSecond::new(500));
        let of = |relay: &RelayFacts| {
            let expected = Expectation::of(relay, 0.5);
            (expected.low, expected.high)
        };
        assert_eq!(of(&relay), (250e3, 250e3));
        let rate = BytesPerSecond::new;
        let mut facts = DescriptorFacts::new(
            UnixMillis::default(),
            rate(800_000),
            rate(9_000_000),
            rate(2_000_000),
        );
        relay.descriptor = Some(facts);
        assert_eq!(
            of(&relay),
            (250e3, 400e3),
            "never above the relay's own limit"
        );
        facts.observed = rate(0);
        relay.descriptor = Some(facts);
        assert_eq!(of(&relay), (10e3, 250e3), "never nothing");
        relay.unmeasured = true;
        assert_eq!(of(&relay), (10e3, 10e3), "a weight that nobody measured");
    }

    #[test]
    fn a_burst_counts_where_the_token_bucket_limits() {
        let id = Fingerprint::from_bytes([1; 20]);
        let mut relay = RelayFacts::new(id, "r", KilobytesPerSecond::new(500));
        let expected = Expectation::known(500e3);
        assert_eq!(burst(&relay, expected), 0.0);
        let rate = BytesPerSecond::new;
        for (average, share) in [(600_000, 1e6), (5_000_000, 0.0)] {
            relay.descriptor = Some(DescriptorFacts::new(
                UnixMillis::default(),
                rate(average),
                rate(3_000_000),
                rate(500_000),
            ));
            assert_eq!(burst(&relay, expected), share);
        }
    }

    #[test]
    fn the_scale_is_the_median_of_the_latest() {
        let mut scale = Scale::default();
        assert_eq!(scale.get(), Scale::PRIOR);
        for ratio in [f64::NAN, 0.0, 0.3, 0.4, 100.0, 0.5] {
            scale.add(ratio);
        }
        assert_eq!(scale.get(), Scale::PRIOR, "four say too little");
        scale.add(0.6);
        assert_eq!(scale.get(), 0.5);
        (0..500).for_each(|_| scale.add(0.7));
        assert_eq!(scale.get(), 0.7);
        assert_eq!(scale.ratios.len(), Scale::MANY);
    }
}
