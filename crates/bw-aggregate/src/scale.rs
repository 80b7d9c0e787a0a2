//! From aggregates to weights.

use bw_file::{BytesPerSecond, Fingerprint, KilobytesPerSecond};
use serde::Serialize;

use crate::aggregate::{Aggregates, RelayAggregate};
use crate::reason::Reason;
use crate::rounding::{round_half_even, round_significant};
use crate::statistics::Statistics;

/// The largest weight that tor can vote for: with more, an authority casts no
/// vote at all.
const MAX_WEIGHT: u64 = 2_147_483_647;

/// How weights are made.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ScaleOptions {
    /// The formula.
    pub method: Method,
    /// No relay gets more than this share of the sum of all (sbws's
    /// `--torflow-bw-margin`): 0.05 by default. It binds everywhere in a
    /// network of less than 20 relays; 1 or more turns it off.
    pub max_share: f64,
    /// To how many significant digits weights are rounded (sbws's
    /// `--torflow-round-digs`): 2 by default.
    pub digits: u32,
    /// The share of the network that must be measured for the file to be
    /// voted with: 0.6 by default.
    pub min_share: f64,
}

impl Default for ScaleOptions {
    fn default() -> Self {
        Self {
            method: Method::default(),
            max_share: 0.05,
            digits: 2,
            min_share: 0.6,
        }
    }
}

/// The formula that makes weights of measurements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Method {
    /// Torflow's, as sbws has it: the larger of the two ratios to the
    /// network's means, times what the relay says of itself.
    #[default]
    Torflow,
    /// The median of what was measured, neither capped nor rounded.
    Raw,
}

/// The answer for every relay of the snapshot.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Scaled {
    /// What is the same for all relays.
    pub network: NetworkFigures,
    /// Each relay of the snapshot once, sorted by fingerprint.
    pub relays: Vec<ScaledRelay>,
}

/// What is the same for all relays.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct NetworkFigures {
    /// The formula.
    pub method: Method,
    /// Mean of the relays' means (`mu`), in bytes per second.
    pub mean: f64,
    /// Mean of the relays' filtered means (`muf`), in bytes per second.
    pub filtered_mean: f64,
    /// Sum of all values before the limit, in bytes per second.
    pub total: f64,
    /// The limit for one relay, in bytes per second.
    pub limit: f64,
    /// Relays of the snapshot, the authorities left out.
    pub consensus_relays: u64,
    /// How many of them have a weight.
    pub eligible: u64,
    /// How many must have one.
    pub minimum: u64,
    /// The same as a share, from the options.
    pub min_share: f64,
    /// Whether there are too few: the file is not to be voted with.
    pub under_minimum: bool,
}

/// The answer for one relay.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ScaledRelay {
    /// What it is made from.
    pub aggregate: RelayAggregate,
    /// The weight, or why there is none.
    pub answer: Answer,
}

/// A weight and how it came about, or the reason why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    clippy::exhaustive_enums,
    reason = "every relay has a weight or a reason; there is no third way"
)]
pub enum Answer {
    /// It has a weight.
    Weight(Explanation),
    /// It has none.
    Excluded(Reason),
}

/// Each step from a relay's measurements to its weight.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// Mean, median and filtered mean of its rates.
    pub statistics: Statistics,
    /// Its mean over the network's (`r_strm`).
    pub stream_ratio: f64,
    /// Its filtered mean over the network's (`r_strm_filt`).
    pub filtered_ratio: f64,
    /// The larger of the two.
    pub ratio: f64,
    /// Its observed bandwidth: the last or, if that is 0, the mean.
    pub observed: BytesPerSecond,
    /// The smallest of observed bandwidth, burst and rate.
    pub advertised: BytesPerSecond,
    /// The value before the limit, in bytes per second.
    pub unlimited: f64,
    /// The value after it, in bytes per second.
    pub limited: f64,
    /// Whether the limit was reached.
    pub is_limited: bool,
    /// The weight in the file.
    pub weight: KilobytesPerSecond,
}

impl Scaled {
    /// The answer for this relay, if the snapshot has it.
    pub fn relay(&self, fingerprint: &Fingerprint) -> Option<&ScaledRelay> {
        let index = self
            .relays
            .binary_search_by_key(fingerprint, |relay| relay.aggregate.fingerprint)
            .ok()?;
        self.relays.get(index)
    }
}

impl Answer {
    /// The weight, if there is one.
    pub const fn weight(&self) -> Option<KilobytesPerSecond> {
        match self {
            Self::Weight(explanation) => Some(explanation.weight),
            Self::Excluded(_) => None,
        }
    }
}

/// Gives each relay of the snapshot its weight or the reason why it has none.
///
/// [`Method::Torflow`] is what sbws does by default (sbws `v3bwfile.py`; the
/// bandwidth-file specification's appendix B.4): with m and f the relay's mean
/// and filtered mean, and μ and μf their means over all relays that have one,
/// the value is max(m/μ, f/μf) · min(observed, burst, rate), at most
/// `max_share` of the sum of these values.
pub fn scale(aggregates: &Aggregates, options: &ScaleOptions) -> Scaled {
    let mut network = figures(aggregates, options);
    let mut relays: Vec<ScaledRelay> = aggregates
        .in_consensus()
        .map(|relay| ScaledRelay {
            aggregate: relay.clone(),
            answer: match (relay.verdict, relay.statistics) {
                (Ok(()), Some(statistics)) => Answer::Weight(explain(relay, statistics, &network)),
                (Err(reason), _) => Answer::Excluded(reason),
                (Ok(()), None) => Answer::Excluded(Reason::NoRate),
            },
        })
        .collect();

    // In the order of fingerprints: the same sum whatever the input's order.
    let weights = relays
        .iter_mut()
        .filter_map(|relay| match &mut relay.answer {
            Answer::Weight(explanation) => Some(explanation),
            Answer::Excluded(_) => None,
        });
    let mut weights: Vec<_> = weights.collect();
    network.total = weights.iter().map(|weight| weight.unlimited).sum();
    network.limit = match options.method {
        Method::Torflow if options.max_share < 1.0 => network.total * options.max_share.max(0.0),
        _ => network.total,
    };
    for weight in &mut weights {
        weight.is_limited = weight.unlimited > network.limit;
        weight.limited = weight.unlimited.min(network.limit);
        let kilobytes = weight.limited / 1000.0;
        let rounded = match options.method {
            Method::Torflow => round_significant(kilobytes, options.digits),
            Method::Raw => round_half_even(kilobytes),
        };
        weight.weight = KilobytesPerSecond::new(rounded.clamp(1, MAX_WEIGHT));
    }
    Scaled { network, relays }
}

/// The network's figures but for the total and the limit.
fn figures(aggregates: &Aggregates, options: &ScaleOptions) -> NetworkFigures {
    let candidates = aggregates
        .in_consensus()
        .filter(|relay| relay.verdict != Err(Reason::Authority));
    let consensus_relays = candidates.count() as u64;
    let eligible: Vec<Statistics> = aggregates
        .in_consensus()
        .filter(|relay| relay.verdict.is_ok())
        .filter_map(|relay| relay.statistics)
        .collect();
    let mean_of = |value: fn(&Statistics) -> BytesPerSecond| {
        // Whole numbers: their sum does not depend on the order.
        let sum: u128 = eligible.iter().map(|s| u128::from(value(s).value())).sum();
        sum as f64 / (eligible.len().max(1)) as f64
    };
    let minimum = round_half_even(options.min_share * consensus_relays as f64);
    NetworkFigures {
        method: options.method,
        mean: mean_of(|statistics| statistics.mean),
        filtered_mean: mean_of(|statistics| statistics.filtered),
        total: 0.0,
        limit: 0.0,
        consensus_relays,
        eligible: eligible.len() as u64,
        minimum,
        min_share: options.min_share,
        under_minimum: (eligible.len() as u64) < minimum,
    }
}

/// The steps as far as they concern this relay alone.
fn explain(
    relay: &RelayAggregate,
    statistics: Statistics,
    network: &NetworkFigures,
) -> Explanation {
    let ratio = |value: BytesPerSecond, mean: f64| {
        if mean > 0.0 {
            value.value() as f64 / mean
        } else {
            0.0
        }
    };
    let stream_ratio = ratio(statistics.mean, network.mean);
    let filtered_ratio = ratio(statistics.filtered, network.filtered_mean);
    let zero = BytesPerSecond::new(0);
    let (observed, advertised) = match relay.descriptor {
        Some(facts) => {
            let observed = match facts.observed {
                none if none == zero => relay.observed_mean.unwrap_or(zero),
                observed => observed,
            };
            (observed, observed.min(facts.burst).min(facts.average))
        }
        None => (zero, zero),
    };
    let ratio = stream_ratio.max(filtered_ratio);
    let unlimited = match network.method {
        Method::Torflow => ratio * advertised.value() as f64,
        Method::Raw => statistics.median.value() as f64,
    };
    Explanation {
        statistics,
        stream_ratio,
        filtered_ratio,
        ratio,
        observed,
        advertised,
        unlimited,
        limited: unlimited,
        is_limited: false,
        weight: KilobytesPerSecond::new(1),
    }
}
