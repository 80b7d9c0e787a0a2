//! Rates that can be believed of a relay.
//!
//! No constant alone says what is impossible: it follows from what tor lets
//! through, what the relay declares, what else was measured of it, and what
//! the other relays show.

use bw_results::DescriptorFacts;
use serde::Serialize;

/// The fastest that a tor relay can be, in bytes per second: tor takes no larger
/// `BandwidthRate`, and authorities refuse descriptors beyond it (`INT32_MAX`).
pub const MAX_PLAUSIBLE_RATE: f64 = 2_147_483_647.0;

/// The largest multiple of its support that a rate may be. From one measurement to the
/// next, half of all relays move by a factor of 1.2, a tenth by more than 2.1
/// (251,182 pairs of real hourly files of Torflow, 2016–17).
const SUPPORT: f64 = 4.0;

/// One in this many of a relay's measurements may stand alone.
const MEASUREMENTS: usize = 20;

/// One in this many relays may stand alone.
const RELAYS: usize = 100;

/// From how many measurements on they speak for themselves.
const ENOUGH: usize = 3;

/// The highest rate that is believed of a relay, and what says so.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RateLimit {
    /// In bytes per second.
    pub rate: f64,
    /// The evidence that it follows from.
    pub basis: LimitBasis,
}

/// The evidence for the highest believable rate of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LimitBasis {
    /// tor lets no more through.
    Tor,
    /// Twice the larger of the rate and the burst of its descriptors: what a
    /// token bucket lets pass in its first second.
    Descriptor,
    /// Four times what others of its measurements, one in twenty but two at
    /// least, have reached: of three or more.
    Measurements,
    /// With fewer, four times the largest of: its other measurement; what the
    /// fastest hundredth of the relays, but two at least, have reached; its
    /// observed bandwidth, times what relays show for each byte of theirs.
    Network,
}

impl LimitBasis {
    /// The limit that was exceeded, in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tor => "tor itself",
            Self::Descriptor => "its descriptor",
            Self::Measurements => "its other measurements",
            Self::Network => "its observed bandwidth and the other relays",
        }
    }
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            rate: MAX_PLAUSIBLE_RATE,
            basis: LimitBasis::Tor,
        }
    }
}

impl RateLimit {
    /// Returns true if a rate is one: positive, a number, and not beyond the limit.
    pub fn allows(&self, rate: f64) -> bool {
        rate > 0.0 && rate <= self.rate
    }

    fn lower(self, rate: f64, basis: LimitBasis) -> Self {
        if rate < self.rate {
            Self { rate, basis }
        } else {
            self
        }
    }
}

/// The facts on one relay before any rate of it is judged.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    /// The rate that tor and its descriptors allow.
    limit: RateLimit,
    /// The best rate of each measurement that these allow, ascending.
    best: Vec<f64>,
    /// Its observed bandwidth; 0 if that is not known.
    observed: f64,
}

impl Evidence {
    /// The support of a relay with these descriptors, the newest last, and measurements.
    pub(crate) fn new<'m>(
        descriptors: impl IntoIterator<Item = DescriptorFacts>,
        measurements: impl IntoIterator<Item = &'m [f64]>,
    ) -> Self {
        let mut evidence = Self::default();
        let mut declared = 0;
        for facts in descriptors {
            declared = declared.max(facts.average.value()).max(facts.burst.value());
            evidence.observed = facts.observed.value() as f64;
        }
        if declared > 0 {
            let limit = evidence.limit;
            evidence.limit = limit.lower(2.0 * declared as f64, LimitBasis::Descriptor);
        }
        let best = measurements.into_iter().filter_map(|rates| {
            let allowed = rates.iter().filter(|&&rate| evidence.limit.allows(rate));
            allowed.copied().max_by(f64::total_cmp)
        });
        evidence.best = best.collect();
        evidence.best.sort_unstable_by(f64::total_cmp);
        evidence
    }

    /// Its median rate, the lower one of two.
    fn typical(&self) -> Option<f64> {
        self.best
            .get(self.best.len().saturating_sub(1) / 2)
            .copied()
    }
}

/// The rates that the relays of a network have shown.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    /// The rate that the fastest of them have reached.
    fastest: Option<f64>,
    /// Their rates over their observed bandwidths.
    kept_promise: Option<f64>,
}

impl Peers {
    pub(crate) fn of<'e>(relays: impl Iterator<Item = &'e Evidence> + Clone) -> Self {
        let mut typical: Vec<f64> = relays.clone().filter_map(Evidence::typical).collect();
        typical.sort_unstable_by(f64::total_cmp);
        let promises = relays.filter(|relay| relay.observed > 0.0);
        let mut kept: Vec<f64> = promises
            .filter_map(|relay| Some(relay.typical()? / relay.observed))
            .collect();
        kept.sort_unstable_by(f64::total_cmp);
        Self {
            fastest: supported(&typical, RELAYS),
            kept_promise: kept.get(kept.len().saturating_sub(1) / 2).copied(),
        }
    }

    /// The highest rate that is believed of a relay.
    pub(crate) fn limit(&self, relay: &Evidence) -> RateLimit {
        if relay.best.len() >= ENOUGH {
            let support = supported(&relay.best, MEASUREMENTS).unwrap_or(f64::INFINITY);
            return relay
                .limit
                .lower(SUPPORT * support, LimitBasis::Measurements);
        }
        let Some(fastest) = self.fastest else {
            return relay.limit;
        };
        let other = match relay.best[..] {
            [lower, _] => lower,
            _ => 0.0,
        };
        let promised = relay.observed * self.kept_promise.unwrap_or(0.0);
        let support = fastest.max(other).max(promised);
        relay.limit.lower(SUPPORT * support, LimitBasis::Network)
    }
}

/// The most that a value counts for in a mean over relays, so that none of them
/// alone moves it far: of `ascending` values, four times what the highest
/// hundredth, but two at least, have reached. None of fewer than three.
pub(crate) fn most_in_mean(ascending: &[f64]) -> Option<f64> {
    supported(ascending, RELAYS).map(|value| SUPPORT * value)
}

/// The value that one in `share` of them, but two at least, have reached.
fn supported(ascending: &[f64], share: usize) -> Option<f64> {
    if ascending.len() < ENOUGH {
        return None;
    }
    let alone = (ascending.len() / share).max(1);
    ascending.get(ascending.len() - 1 - alone).copied()
}

#[cfg(test)]
mod tests {
    use bw_file::BytesPerSecond;
    use bw_results::UnixMillis;

    use super::*;

    fn descriptor(rate: u64, observed: u64) -> DescriptorFacts {
        let [rate, observed] = [rate, observed].map(BytesPerSecond::new);
        DescriptorFacts::new(UnixMillis::default(), rate, rate, observed)
    }

    fn evidence(observed: u64, rates: &[f64]) -> Evidence {
        let measurements = rates.iter().map(std::slice::from_ref);
        Evidence::new([descriptor(1 << 30, observed)], measurements)
    }

    fn peers(relays: usize) -> Peers {
        let relays: Vec<_> = (1..=relays)
            .map(|n| evidence(200 * n as u64, &[100.0 * n as f64]))
            .collect();
        Peers::of(relays.iter())
    }

    fn limit(peers: &Peers, relay: &Evidence) -> (f64, LimitBasis) {
        let limit = peers.limit(relay);
        (limit.rate, limit.basis)
    }

    #[test]
    fn tor_and_the_descriptor_limit_every_rate() {
        for rate in [f64::NAN, f64::INFINITY, -1.0, 0.0, -0.0, 24e9] {
            assert!(!RateLimit::default().allows(rate), "{rate}");
        }
        assert!(RateLimit::default().allows(0.1));
        let relay = Evidence::new([descriptor(1_000, 0), descriptor(500, 0)], []);
        let found = limit(&Peers::default(), &relay);
        assert_eq!(found, (2_000.0, LimitBasis::Descriptor));
        let unknown = Evidence::new([], []);
        assert_eq!(limit(&Peers::default(), &unknown).1, LimitBasis::Tor);
    }

    #[test]
    fn measurements_support_each_other() {
        let peers = peers(10);
        for (rates, expected) in [
            (&[5.0, 5.0, 50.0][..], 20.0),
            (&[50.0, 5.0, 50.0], 200.0),
            (&[1.0; 84], 4.0),
        ] {
            let found = limit(&peers, &evidence(0, rates));
            assert_eq!(found, (expected, LimitBasis::Measurements));
        }
        // Of a hundred, five may stand alone.
        let mut many = vec![1.0; 100];
        many[..5].fill(90.0);
        assert_eq!(limit(&peers, &evidence(0, &many)).0, 4.0);
        many[5] = 90.0;
        assert_eq!(limit(&peers, &evidence(0, &many)).0, 360.0);
    }

    #[test]
    fn of_a_relay_measured_once_the_network_says_what_can_be() {
        let peers = peers(10);
        // The second fastest shows 900; promises are kept by half.
        for (observed, rates, expected) in [
            (0, &[1e6][..], 3_600.0),
            (10_000, &[1e6], 20_000.0),
            (0, &[5_000.0, 1e6], 20_000.0),
            (0, &[7.0, 1e6], 3_600.0),
        ] {
            let found = limit(&peers, &evidence(observed, rates));
            assert_eq!(found, (expected, LimitBasis::Network));
        }
        // Two relays are no network.
        let found = limit(&Peers::of([].iter()), &evidence(0, &[1e6]));
        assert_eq!(found.1, LimitBasis::Tor);
    }
}
