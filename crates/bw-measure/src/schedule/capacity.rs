//! Rates that relays are expected to carry.

use std::collections::VecDeque;

use bw_results::{NetworkSnapshot, RelayFacts};

/// The rate that a relay is expected to carry, in bytes of payload per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Expectation {
    /// The rate that it can be counted on for as a helper.
    pub(super) low: f64,
    /// The rate that it probably carries.
    pub(super) middle: f64,
    /// The standard deviation of that, as a share of it.
    pub(super) spread: f64,
}

/// Within which time a target's token bucket should be empty, so that what it
/// sustains can be seen.
const DRAINED: f64 = 3.0;

/// The rate that a full token bucket adds to what passes through `relay` at first, in
/// bytes per second over [`DRAINED`] seconds, if its token bucket is what
/// limits it: if its descriptor's rate is not far above what it is expected to carry.
pub(super) fn burst(relay: &RelayFacts, expected: Expectation) -> f64 {
    relay
        .descriptor
        .filter(|descriptor| descriptor.average.value() as f64 <= 2.0 * expected.middle)
        .map_or(0.0, |descriptor| descriptor.burst.value() as f64 / DRAINED)
}

/// No relay is expected to carry less, in bytes per second: an idle relay's
/// descriptor says nothing (1 kB/s), and tor gives unmeasured relays a weight of 20.
const FLOOR: f64 = 20_000.0;
/// The usual distance of a rate from an earlier measurement of the relay, as a share of it: clients
/// come and go.
const KNOWN: f64 = 0.15;
/// The usual distance of a rate from what a relay says of itself and nobody measured.
const CLAIMED: f64 = 1.0;

/// The usual distance from what relays typically carry, if nothing is said of it.
pub(super) const UNKNOWN: f64 = 1.2;

/// A first measurement is doubted that is so many standard deviations below what is promised.
const UNLIKELY: f64 = 2.5;
/// Below this share of what is promised it is doubted even where promises are worth little.
const POOR: f64 = 0.4;

/// The rate that consensus and descriptor promise of a relay, in bytes per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Promise {
    pub(super) low: f64,
    pub(super) high: f64,
    /// True if the consensus says that it was measured.
    measured: bool,
}

impl Promise {
    /// `None` if neither says anything: a relay without a history that nobody measured.
    pub(super) fn of(relay: &RelayFacts) -> Option<Self> {
        let weight = (!relay.unmeasured).then(|| relay.consensus_weight.value() as f64 * 1000.0);
        let observed = relay
            .descriptor
            .map(|descriptor| descriptor.observed.value().min(descriptor.average.value()) as f64)
            .filter(|&observed| observed > FLOOR);
        let (low, high) = match (weight, observed) {
            (Some(a), Some(b)) => (a.min(b), a.max(b)),
            (Some(one), None) | (None, Some(one)) => (one, one),
            (None, None) => return None,
        };
        Some(Self {
            low: low.max(FLOOR),
            high: high.max(FLOOR),
            measured: weight.is_some(),
        })
    }

    /// Between both ends, on a logarithmic scale.
    pub(super) fn middle(&self) -> f64 {
        (self.low * self.high).sqrt()
    }
}

impl Expectation {
    /// From what is promised: consensus and descriptor disagree, and the truth is taken to be
    /// between them. What measurements find is in `scale`. As a helper, a relay that nobody
    /// measured is counted on only up to `most`, whatever it says of itself.
    pub(super) fn of(promise: Option<Promise>, scale: &Scale, most: f64) -> Self {
        let Some(promise) = promise else {
            let middle = scale.typical();
            return Self {
                low: middle / 2.0,
                middle,
                spread: UNKNOWN,
            };
        };
        let factor = scale.ratio();
        let most = if promise.measured {
            f64::INFINITY
        } else {
            most
        };
        let disagree = (promise.high / promise.low).ln() / 2.0;
        Self {
            low: promise.low.min(most) * factor,
            middle: promise.middle() * factor,
            spread: if promise.measured {
                scale.spread().max(disagree)
            } else {
                scale.spread().max(disagree).max(scale.spread_of_claims())
            },
        }
    }

    /// The expectation of a relay that was found to carry `rate`.
    pub(super) const fn known(rate: f64) -> Self {
        Self {
            low: rate,
            middle: rate,
            spread: KNOWN,
        }
    }

    /// The same of a relay that was seen to carry `rate`, maybe not all that it can.
    pub(super) fn at_least(self, rate: f64) -> Self {
        Self {
            low: self.low.max(rate),
            middle: self.middle.max(rate),
            ..self
        }
    }

    /// The standard deviation, in bytes per second.
    pub(super) fn deviation(&self) -> f64 {
        self.middle * self.spread
    }
}

/// The most that a relay is counted on for as a helper if nobody measured it: the median of
/// what the network's relays promise.
pub(super) fn low_default(network: &NetworkSnapshot) -> f64 {
    let promises = network.relays.iter().filter_map(Promise::of);
    median(promises.map(|promise| promise.low)).unwrap_or(f64::INFINITY)
}

/// The rates of a scan so far against what was promised. Only rates that count teach.
#[derive(Clone, Debug, Default)]
pub(super) struct Scale {
    /// ln(rate / promise), and the same of relays of which only their own word was known.
    ratios: Recent,
    claims: Recent,
    /// Rates of relays of which nothing was known.
    rates: Recent,
}

impl Scale {
    /// Before measurements tell: tor's token buckets let 0.75 to 0.85 of their
    /// rate pass as payload.
    const RATIO: f64 = 0.8;
    /// The weights of the public network are a factor of e^0.4 from the truth (research on
    /// PAM 2021's data); those of a network that differs show it soon.
    const SPREAD: f64 = 0.4;
    /// A quarter of the public network's relays carry less (5.4 Mbit/s, ibid.).
    const TYPICAL: f64 = 700_000.0;

    pub(super) fn add(&mut self, promise: Option<Promise>, rate: f64) {
        match promise {
            Some(promise) => {
                let ratio = (rate / promise.middle()).ln();
                self.ratios.add(ratio);
                if !promise.measured {
                    self.claims.add(ratio);
                }
            }
            None => self.rates.add(rate.ln()),
        }
    }

    /// The rate that measurements find for each byte that is promised.
    pub(super) fn ratio(&self) -> f64 {
        self.ratios.median(Self::RATIO.ln()).exp()
    }

    /// Below which share of what is promised a relay's first measurement is doubted.
    pub(super) fn poor(&self) -> f64 {
        (-UNLIKELY * self.spread()).exp().max(POOR)
    }

    fn spread(&self) -> f64 {
        self.ratios.spread(Self::SPREAD)
    }

    fn spread_of_claims(&self) -> f64 {
        self.claims.spread(CLAIMED)
    }

    /// The rate of a relay of which nothing is known.
    fn typical(&self) -> f64 {
        self.rates.median(Self::TYPICAL.ln()).exp()
    }
}

/// The latest of some numbers.
#[derive(Clone, Debug, Default)]
struct Recent(VecDeque<f64>);

impl Recent {
    /// The number of ratios that are believed; the prior counts as so many.
    const FEW: usize = 5;
    /// The number of ratios that are remembered.
    const MANY: usize = 101;

    fn add(&mut self, value: f64) {
        if value.is_finite() {
            self.0.truncate(Self::MANY - 1);
            self.0.push_front(value);
        }
    }

    fn median(&self, prior: f64) -> f64 {
        let enough = self.0.len() >= Self::FEW;
        median(self.0.iter().copied())
            .filter(|_| enough)
            .unwrap_or(prior)
    }

    /// The standard deviation: 1.4826 times the median absolute deviation, with the prior as
    /// [`FEW`](Self::FEW) further numbers.
    fn spread(&self, prior: f64) -> f64 {
        let (count, few) = (self.0.len() as f64, Self::FEW as f64);
        let Some(middle) = median(self.0.iter().copied()) else {
            return prior;
        };
        let deviations = self.0.iter().map(|value| (value - middle).abs());
        let own = 1.4826 * median(deviations).unwrap_or(0.0);
        ((few * prior * prior + count * own * own) / (few + count)).sqrt()
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bw_file::{BytesPerSecond, Fingerprint, KilobytesPerSecond};
    use bw_results::{DescriptorFacts, UnixMillis};

    fn relay(weight: u64, descriptor: Option<(u64, u64, u64)>) -> RelayFacts {
        let id = Fingerprint::from_bytes([1; 20]);
        let mut relay = RelayFacts::new(id, "r", KilobytesPerSecond::new(weight));
        let rate = BytesPerSecond::new;
        relay.descriptor = descriptor.map(|(average, burst, observed)| {
            let published = UnixMillis::default();
            DescriptorFacts::new(published, rate(average), rate(burst), rate(observed))
        });
        relay
    }

    #[test]
    fn weight_and_descriptor_span_what_is_promised() {
        let of = |relay: &RelayFacts| Promise::of(relay).map(|one| (one.low, one.high));
        assert_eq!(of(&relay(500, None)), Some((500e3, 500e3)));
        let mut both = relay(500, Some((800_000, 9_000_000, 2_000_000)));
        assert_eq!(
            of(&both),
            Some((500e3, 800e3)),
            "never above the relay's own limit"
        );
        both.unmeasured = true;
        assert_eq!(of(&both), Some((800e3, 800e3)));
        let mut idle = relay(500, Some((800_000, 9_000_000, 1_042)));
        assert_eq!(
            of(&idle),
            Some((500e3, 500e3)),
            "an idle relay knows nothing"
        );
        idle.unmeasured = true;
        assert_eq!(of(&idle), None, "a weight that nobody measured");
    }

    #[test]
    fn a_relay_that_nobody_measured_is_not_counted_on_for_what_it_claims() {
        let scale = Scale::default();
        let mut liar = relay(20, Some((90_000_000, 90_000_000, 90_000_000)));
        liar.unmeasured = true;
        let expected = Expectation::of(Promise::of(&liar), &scale, 1e6);
        assert_eq!((expected.low, expected.middle), (0.8e6, 72e6));
        liar.unmeasured = false;
        let expected = Expectation::of(Promise::of(&liar), &scale, 1e6);
        assert_eq!(expected.low, 20_000.0 * 0.8);
    }

    #[test]
    fn a_burst_counts_where_the_token_bucket_limits() {
        let expected = Expectation::known(500e3);
        assert_eq!(burst(&relay(500, None), expected), 0.0);
        for (average, share) in [(600_000, 1e6), (5_000_000, 0.0)] {
            let relay = relay(500, Some((average, 3_000_000, 500_000)));
            assert_eq!(burst(&relay, expected), share);
        }
    }

    #[test]
    fn the_scale_is_the_median_of_the_latest_and_knows_its_spread() {
        let mut scale = Scale::default();
        assert!((scale.ratio() - Scale::RATIO).abs() < 1e-9);
        let promise = Promise::of(&relay(1, None));
        let add = |scale: &mut Scale, ratio: f64| scale.add(promise, 20_000.0 * ratio);
        for ratio in [f64::NAN, 0.3, 0.4, 100.0, 0.5] {
            add(&mut scale, ratio);
        }
        assert!(
            (scale.ratio() - Scale::RATIO).abs() < 1e-9,
            "four say too little"
        );
        add(&mut scale, 0.6);
        assert!((scale.ratio() - 0.5).abs() < 1e-9);
        (0..500).for_each(|_| add(&mut scale, 0.7));
        assert!((scale.ratio() - 0.7).abs() < 1e-9);
        assert!(scale.spread() < 0.1 && scale.ratios.0.len() == Recent::MANY);
    }
}
