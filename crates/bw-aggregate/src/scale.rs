//! From aggregates to weights.

use std::collections::BTreeMap;

use bw_file::{BytesPerSecond, Fingerprint, KilobytesPerSecond};
use serde::Serialize;

use crate::aggregate::{Aggregates, RelayAggregate};
use crate::censored::LowerBoundSteps;
use crate::reason::Reason;
use crate::rounding::{round_half_even, round_significant, round_torflow};
use crate::statistics::{Statistics, bounded_mean, median_of_sorted};
use crate::torflow::{PidSteps, PidVote, Torflow, TorflowParams, TorflowRelay};

/// The largest weight that tor can vote for: with more, an authority casts no
/// vote at all.
const MAX_WEIGHT: u64 = 2_147_483_647;

/// How weights are made.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ScaleOptions {
    /// The formula.
    pub method: Method,
    /// No relay gets more than this share of the sum of what all get; 1 or
    /// more turns it off. By default 0.05 (sbws's `--torflow-bw-margin`) or, in a
    /// network of fewer than 200 relays, ten equal shares.
    pub max_share: Option<f64>,
    /// To how many significant digits weights are rounded (sbws's
    /// `--torflow-round-digs`): 2 by default, 3 for [`Method::TorflowPid`].
    /// [`Method::Raw`] and [`Method::Sbws`] round to whole numbers only.
    pub digits: u32,
    /// The share of the network that must be measured for the file to be
    /// voted with: 0.6 by default.
    pub min_share: f64,
    /// [`Method::Linear`]: the mean weight (the specification's relay quota):
    /// 7500 by default.
    pub quota: KilobytesPerSecond,
    /// [`Method::Sbws`]: the median weight times 1000 (sbws's
    /// `--scale-constant`): 7500 by default, as in sbws.
    pub constant: u64,
    /// [`Method::TorflowPid`]: the controller's parameters.
    pub torflow: TorflowParams,
    /// [`Method::TorflowPid`]: the previous votes.
    pub previous: BTreeMap<Fingerprint, PidVote>,
}

impl ScaleOptions {
    /// The defaults of `method`.
    pub fn new(method: Method) -> Self {
        Self {
            method,
            max_share: None,
            digits: if method == Method::TorflowPid { 3 } else { 2 },
            min_share: 0.6,
            quota: KilobytesPerSecond::new(7500),
            constant: 7500,
            torflow: TorflowParams::default(),
            previous: BTreeMap::new(),
        }
    }
}

impl Default for ScaleOptions {
    fn default() -> Self {
        Self::new(Method::default())
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
    /// Torflow's own, with its controller: [`Torflow`].
    TorflowPid,
    /// sbws's own: medians scaled so that their median is a constant, at most
    /// the descriptor's rate, not capped.
    Sbws,
    /// The specification's (appendix B.2): medians scaled so that their mean
    /// is a quota, not capped.
    Linear,
    /// The median of what was measured, neither capped nor rounded.
    Raw,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Torflow,
        Self::TorflowPid,
        Self::Sbws,
        Self::Linear,
        Self::Raw,
    ];

    /// Its name on the command line and in explanations.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Torflow => "torflow",
            Self::TorflowPid => "torflow_pid",
            Self::Sbws => "sbws",
            Self::Linear => "linear",
            Self::Raw => "raw",
        }
    }

    /// Whether no relay gets more than a share of the sum.
    const fn is_capped(self) -> bool {
        matches!(self, Self::Torflow | Self::TorflowPid)
    }
}

/// The answer for every relay of the snapshot.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Scaled {
    /// What is the same for all relays.
    pub network: NetworkFigures,
    /// Each relay of the snapshot once, sorted by fingerprint.
    pub relays: Vec<ScaledRelay>,
    /// [`Method::TorflowPid`]: the previous votes of relays that it did not see
    /// now, not older than 28 days: they go on from them when they are back.
    pub kept_votes: BTreeMap<Fingerprint, PidVote>,
}

/// What is the same for all relays.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct NetworkFigures {
    /// The formula.
    pub method: Method,
    /// Mean of the relays' means (`mu`), in bytes per second. In this and the
    /// next no relay counts for more than four times what the fastest hundredth,
    /// but two at least, have reached.
    pub mean: f64,
    /// Mean of the relays' filtered means (`muf`), in bytes per second.
    pub filtered_mean: f64,
    /// Median of the relays' medians, in bytes per second.
    pub median: f64,
    /// [`Method::Sbws`] and [`Method::Linear`]: what medians are multiplied with.
    pub factor: f64,
    /// Sum of all values before the limit, in bytes per second.
    pub total: f64,
    /// The limit for one relay, in bytes per second.
    pub limit: f64,
    /// The share of the sum that it is; 1 if there is none.
    pub max_share: f64,
    /// Relays of the snapshot, the authorities left out.
    pub consensus_relays: u64,
    /// How many of them have a weight.
    pub eligible: u64,
    /// How many of those have it from a lower bound: they are no part of the
    /// means and the median.
    pub censored: u64,
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
#[expect(clippy::large_enum_variant, reason = "nearly all are weights")]
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
    /// Mean, median and filtered mean of its rates, or of the lower bound alone
    /// if it has none.
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
    /// [`Method::TorflowPid`]: the controller's steps; none for a lower bound,
    /// from which it learns nothing.
    pub pid: Option<PidSteps>,
    /// The steps of a relay without a rate of its own.
    pub lower_bound: Option<LowerBoundSteps>,
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
/// `max_share` of the sum of what all relays get. (sbws's limit is that share of
/// the sum before it is applied, which grows with the value that it limits.)
pub fn scale(aggregates: &Aggregates, options: &ScaleOptions) -> Scaled {
    let mut network = figures(aggregates, options);
    let controller = (options.method == Method::TorflowPid).then(|| {
        let eligible = aggregates.in_consensus().filter(|r| r.verdict.is_ok());
        let relays = eligible.filter_map(|relay| Some(torflow_relay(relay, relay.statistics?)));
        let wgd = f64::from(aggregates.guard_exit_damping) / 10_000.0;
        Torflow::new(options.torflow, wgd, &relays.collect::<Vec<_>>())
    });
    let measured = aggregates.in_consensus().filter_map(|r| r.last_measured);
    let newest = measured.max().unwrap_or_default().as_secs();
    // A vote of the future would be taken for newer than every measurement.
    let previous = |relay| {
        let vote: Option<&PidVote> = options.previous.get(relay);
        vote.filter(|vote| vote.measured_at <= newest)
    };
    let mut relays: Vec<ScaledRelay> = aggregates
        .in_consensus()
        .map(|relay| ScaledRelay {
            aggregate: relay.clone(),
            answer: answer(relay, &network, |statistics| {
                let previous = previous(&relay.fingerprint);
                let controller = controller.as_ref()?;
                Some(controller.vote(&torflow_relay(relay, statistics), previous))
            }),
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
    network.max_share = options.share_of_one(weights.len());
    network.limit = if network.max_share < 1.0 {
        capped(
            weights.iter().map(|weight| weight.unlimited),
            network.max_share,
        )
    } else {
        network.total
    };
    for weight in &mut weights {
        weight.is_limited = weight.unlimited > network.limit;
        weight.limited = weight.unlimited.min(network.limit);
        let kilobytes = weight.limited / 1000.0;
        let rounded = match options.method {
            Method::Torflow | Method::Linear => round_significant(kilobytes, options.digits),
            Method::TorflowPid => round_torflow(weight.limited, options.digits),
            Method::Sbws | Method::Raw => round_half_even(kilobytes),
        };
        weight.weight = KilobytesPerSecond::new(rounded.clamp(1, MAX_WEIGHT));
        if let Some(steps) = &mut weight.pid {
            steps.vote.weight = weight.weight;
            if weight.is_limited {
                // What is cut off must not add up.
                steps.vote.pid_error_sum = 0.0;
            }
        }
    }
    let kept_votes = kept_votes(&relays, options, newest);
    Scaled {
        network,
        relays,
        kept_votes,
    }
}

/// The votes from which relays that the controller did not see go on.
fn kept_votes(
    relays: &[ScaledRelay],
    options: &ScaleOptions,
    newest: u64,
) -> BTreeMap<Fingerprint, PidVote> {
    /// As long as Torflow keeps measurements (`MAX_AGE`), in seconds.
    const KEPT: u64 = 28 * 86_400;
    if options.method != Method::TorflowPid {
        return BTreeMap::new();
    }
    let kept = newest.saturating_sub(KEPT)..=newest;
    let weighed = |relay: &Fingerprint| {
        let index = relays.binary_search_by_key(relay, |one| one.aggregate.fingerprint);
        index.is_ok_and(|index| match &relays[index].answer {
            Answer::Weight(weight) => weight.pid.is_some(),
            Answer::Excluded(_) => false,
        })
    };
    let votes = options.previous.iter();
    votes
        .filter(|(relay, vote)| kept.contains(&vote.updated_at) && !weighed(relay))
        .map(|(&relay, &vote)| (relay, vote))
        .collect()
}

impl ScaleOptions {
    /// The largest share of the sum that one of `relays` gets; 1 for any.
    fn share_of_one(&self, relays: usize) -> f64 {
        /// sbws's, and Torflow's `NODE_CAP`.
        const SHARE: f64 = 0.05;
        /// In a small network no share is too large up to this many equal ones.
        const EQUAL_SHARES: f64 = 10.0;
        if !self.method.is_capped() {
            return 1.0;
        }
        let by_size = SHARE.max(EQUAL_SHARES / relays.max(1) as f64);
        let share = self.max_share.unwrap_or(by_size);
        if share < 1.0 { share } else { 1.0 }
    }
}

/// The limit by which no value is more than `share` of the sum of all limited
/// ones: of k values above it, it is share · rest / (1 − k · share). Where there
/// are too few values for that, it makes all equal.
fn capped(values: impl Iterator<Item = f64>, share: f64) -> f64 {
    let mut values: Vec<f64> = values.filter(|&value| value > 0.0).collect();
    values.sort_unstable_by(f64::total_cmp);
    let least = values.first().copied().unwrap_or(0.0);
    // What values up to each sum up to, in ascending order: exact enough, and
    // the same whatever the input's order.
    let sums: Vec<f64> = values
        .iter()
        .scan(0.0, |sum, value| {
            *sum += value;
            Some(*sum)
        })
        .collect();
    for above in 0..values.len() {
        let (highest, rest) = (values.len() - 1 - above, 1.0 - above as f64 * share);
        let limit = share * sums[highest] / rest;
        if rest <= 0.0 {
            break;
        }
        if values[highest] <= limit {
            return limit;
        }
    }
    least
}

/// The answer for one relay before the limit; `vote` asks the controller, if
/// there is one.
fn answer(
    relay: &RelayAggregate,
    network: &NetworkFigures,
    vote: impl Fn(Statistics) -> Option<PidSteps>,
) -> Answer {
    if let Err(reason) = relay.verdict {
        return Answer::Excluded(reason);
    }
    let bound = relay.lower_bound.filter(|_| relay.is_censored());
    let alone = || Statistics::new(vec![bound?.rate]);
    let Some(statistics) = relay.statistics.or_else(alone) else {
        return Answer::Excluded(Reason::NoRate);
    };
    let mut weight = explain(relay, statistics, network);
    if let Some(steps) = vote(statistics) {
        weight.unlimited = steps.value;
        weight.pid = Some(steps).filter(|_| bound.is_none());
    }
    if let Some(bound) = bound {
        let steps = LowerBoundSteps::new(relay, bound, weight.unlimited);
        weight.unlimited = steps.value();
        weight.lower_bound = Some(steps);
    }
    Answer::Weight(weight)
}

/// What Torflow's controller needs of a relay.
fn torflow_relay(relay: &RelayAggregate, statistics: Statistics) -> TorflowRelay {
    let measured_at = relay.last_measured.unwrap_or_default().as_secs();
    let mut torflow = TorflowRelay::new(
        relay.flags.into(),
        statistics.mean.value() as f64,
        statistics.filtered.value() as f64,
        measured_at,
    );
    torflow.circuit_failure_rate = relay.counts.circuit_failure_rate();
    torflow.descriptor = relay.descriptor.map_or(0.0, |facts| {
        facts.observed.min(facts.average).value() as f64
    });
    torflow.consensus = relay
        .consensus_weight
        .map_or(0.0, |weight| weight.to_bytes().value() as f64);
    torflow
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
        let values = eligible.iter().map(|s| value(s).value() as f64);
        bounded_mean(values.collect())
    };
    let minimum = round_half_even(options.min_share * consensus_relays as f64);
    let is_censored = |relay: &&RelayAggregate| relay.is_censored();
    let censored = aggregates.in_consensus().filter(is_censored).count() as u64;
    let with_weight = eligible.len() as u64 + censored;
    let mut medians: Vec<f64> = eligible.iter().map(|s| s.median.value() as f64).collect();
    medians.sort_unstable_by(f64::total_cmp);
    let median = median_of_sorted(&medians).unwrap_or(0.0);
    let wanted = match options.method {
        Method::Sbws => options.constant as f64 / median,
        Method::Linear => {
            options.quota.to_bytes().value() as f64 / mean_of(|statistics| statistics.median)
        }
        _ => 1.0,
    };
    NetworkFigures {
        method: options.method,
        mean: mean_of(|statistics| statistics.mean),
        filtered_mean: mean_of(|statistics| statistics.filtered),
        median,
        factor: if wanted.is_finite() { wanted } else { 1.0 },
        total: 0.0,
        limit: 0.0,
        max_share: 1.0,
        consensus_relays,
        eligible: with_weight,
        censored,
        minimum,
        min_share: options.min_share,
        under_minimum: with_weight < minimum,
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
    let median = statistics.median.value() as f64;
    let rate = relay.descriptor.map(|facts| facts.average.value() as f64);
    let unlimited = match network.method {
        Method::Torflow | Method::TorflowPid => ratio * advertised.value() as f64,
        Method::Sbws => (median * network.factor).min(rate.unwrap_or(f64::INFINITY)),
        Method::Linear => median * network.factor,
        Method::Raw => median,
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
        pid: None,
        lower_bound: None,
        weight: KilobytesPerSecond::new(1),
    }
}
