//! From aggregates to weights.

use std::collections::BTreeMap;

use bw_file::{BytesPerSecond, Fingerprint, KilobytesPerSecond};
use serde::Serialize;

use crate::aggregate::{Aggregates, RelayAggregate};
use crate::bound::Bound;
use crate::cap::capped;
use crate::capacity::{CapacityOptions, CapacitySteps};
use crate::censored::LowerBoundSteps;
use crate::formula::Formula;
use crate::reason::Reason;
use crate::rounding::{round_half_even, round_significant, round_torflow};
use crate::statistics::{Statistics, bounded_mean, median_of_sorted};
use crate::torflow::{PidSteps, PidVote, TorflowParams};

/// The largest weight that tor can vote for: with more, an authority casts no
/// vote at all.
const MAX_WEIGHT: u64 = 2_147_483_647;

/// Options for making weights.
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
    /// [`Method::Capacity`] too has 3. [`Method::Raw`] and [`Method::Sbws`] round
    /// to whole numbers only.
    pub digits: u32,
    /// The limit on what a relay's own claims may add to its weight: the r of [`Bound`],
    /// from 0 on, below 1. [`Method::Capacity`] always has one, 0.25 by default;
    /// [`Method::Torflow`] and [`Method::TorflowPid`] by default none, and with one
    /// they take no more from a descriptor than it allows. Others never look.
    pub bound: Option<f64>,
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
    /// [`Method::Capacity`]: smoothing and sum.
    pub capacity: CapacityOptions,
}

impl ScaleOptions {
    /// The defaults of `method`.
    pub fn new(method: Method) -> Self {
        Self {
            method,
            max_share: None,
            digits: match method {
                Method::TorflowPid | Method::Capacity => 3,
                _ => 2,
            },
            bound: (method == Method::Capacity).then_some(Bound::SHARE),
            min_share: 0.6,
            quota: KilobytesPerSecond::new(7500),
            constant: 7500,
            torflow: TorflowParams::default(),
            previous: BTreeMap::new(),
            capacity: CapacityOptions::default(),
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
    /// Torflow's own, with its controller: [`Torflow`](crate::Torflow).
    TorflowPid,
    /// sbws's own: medians scaled so that their median is a constant, at most
    /// the descriptor's rate, not capped.
    Sbws,
    /// The specification's (appendix B.2): medians scaled so that their mean
    /// is a quota, not capped.
    Linear,
    /// The median of what was measured, neither capped nor rounded.
    Raw,
    /// An estimate of what the relay can carry: what it has proven, and of what
    /// it says of itself no more than the [`Bound`] allows: [`CapacitySteps`].
    Capacity,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Torflow,
        Self::TorflowPid,
        Self::Sbws,
        Self::Linear,
        Self::Raw,
        Self::Capacity,
    ];

    /// Its name on the command line and in explanations.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Torflow => "torflow",
            Self::TorflowPid => "torflow_pid",
            Self::Sbws => "sbws",
            Self::Linear => "linear",
            Self::Raw => "raw",
            Self::Capacity => "capacity",
        }
    }

    /// Returns true if no relay gets more than a share of the sum.
    const fn is_capped(self) -> bool {
        matches!(self, Self::Torflow | Self::TorflowPid | Self::Capacity)
    }

    /// Why a relay has no weight, whatever it was measured at.
    pub(crate) const fn refuses(self, relay: &RelayAggregate) -> Option<Reason> {
        match relay.verdict {
            Err(Reason::NoDescriptor) if !self.needs_descriptor() => None,
            Err(reason) => Some(reason),
            Ok(()) => None,
        }
    }

    /// Returns true if a relay's rates enter the means with which others are compared: also of
    /// one that is refused for its descriptor, so that this moves nobody else.
    pub(crate) const fn compares(self, relay: &RelayAggregate) -> bool {
        matches!(
            self.refuses(relay),
            None | Some(Reason::ImpossibleDescriptor { .. })
        )
    }

    /// Returns true if relays of which no descriptor is known have no weight.
    pub(crate) const fn needs_descriptor(self) -> bool {
        !matches!(self, Self::Capacity)
    }
}

/// The answer for every relay of the snapshot.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Scaled {
    /// Values that are the same for all relays.
    pub network: NetworkFigures,
    /// Each relay of the snapshot once, sorted by fingerprint.
    pub relays: Vec<ScaledRelay>,
    /// [`Method::TorflowPid`]: the previous votes of relays that it did not see
    /// now, not older than 28 days: they go on from them when they are back.
    pub kept_votes: BTreeMap<Fingerprint, PidVote>,
}

/// Values that are the same for all relays.
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
    /// The number of those with a weight.
    pub eligible: u64,
    /// The number of those that have it from a lower bound: they are no part of the
    /// means and the median.
    pub censored: u64,
    /// The least number with a weight.
    pub minimum: u64,
    /// The same as a share, from the options.
    pub min_share: f64,
    /// True if there are too few: the file is not to be voted with.
    pub under_minimum: bool,
    /// The bound on what relays say of themselves, if there is one.
    pub bound: Option<Bound>,
    /// [`Method::Capacity`]: the factor from estimates after the limit to weights.
    pub normalisation: f64,
}

/// The answer for one relay.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ScaledRelay {
    /// The value that it is made from.
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
    /// The part of that which counts: no more than the [`Bound`] allows, if there is one.
    pub believed: f64,
    /// The value before the limit, in bytes per second.
    pub unlimited: f64,
    /// The value after it, in bytes per second.
    pub limited: f64,
    /// True if the limit was reached.
    pub is_limited: bool,
    /// [`Method::TorflowPid`]: the controller's steps; none for a lower bound,
    /// from which it learns nothing.
    pub pid: Option<PidSteps>,
    /// [`Method::Capacity`]: the estimate's steps.
    pub capacity: Option<CapacitySteps>,
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
    let formula = Formula::new(aggregates, options, &network);
    let relays = aggregates.in_consensus().map(|relay| ScaledRelay {
        aggregate: relay.clone(),
        answer: formula.answer(relay),
    });
    let mut relays: Vec<ScaledRelay> = relays.collect();
    let newest = formula.newest;
    limit(&mut relays, &mut network, options);
    if options.method == Method::Capacity {
        network.normalisation = options.capacity.normalisation.factor(&relays);
    }
    for steps in weights(&mut relays) {
        steps.round(&network, options.digits);
    }
    let kept_votes = kept_votes(&relays, options, newest);
    Scaled {
        network,
        relays,
        kept_votes,
    }
}

/// The steps of relays with a weight, in the order of fingerprints.
fn weights(relays: &mut [ScaledRelay]) -> impl Iterator<Item = &mut Explanation> {
    relays
        .iter_mut()
        .filter_map(|relay| match &mut relay.answer {
            Answer::Weight(steps) => Some(steps),
            Answer::Excluded(_) => None,
        })
}

/// Limits what one relay gets to a share of what all get.
fn limit(relays: &mut [ScaledRelay], network: &mut NetworkFigures, options: &ScaleOptions) {
    let values: Vec<f64> = weights(relays).map(|steps| steps.unlimited).collect();
    // In the order of fingerprints: the same sum whatever the input's order.
    network.total = values.iter().sum();
    network.max_share = options.share_of_one(values.len());
    network.limit = network.total;
    if network.max_share < 1.0 {
        network.limit = capped(values.into_iter(), network.max_share);
    }
    for steps in weights(relays) {
        steps.is_limited = steps.unlimited > network.limit;
        steps.limited = steps.unlimited.min(network.limit);
    }
}

impl Explanation {
    /// Makes the weight of the limited value.
    fn round(&mut self, network: &NetworkFigures, digits: u32) {
        let value = self.limited * network.normalisation;
        let kilobytes = value / 1000.0;
        let rounded = match network.method {
            Method::Torflow | Method::Linear | Method::Capacity => {
                round_significant(kilobytes, digits)
            }
            Method::TorflowPid => round_torflow(value, digits),
            Method::Sbws | Method::Raw => round_half_even(kilobytes),
        };
        self.weight = KilobytesPerSecond::new(rounded.clamp(1, MAX_WEIGHT));
        if let Some(steps) = &mut self.pid {
            steps.vote.weight = self.weight;
            if self.is_limited {
                // What is cut off must not add up.
                steps.vote.pid_error_sum = 0.0;
            }
        }
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
    /// The r of the bound, if the method has one.
    fn bound_share(&self) -> Option<f64> {
        /// Below 1, so that the bound is one.
        const MOST: f64 = 0.99;
        let share = match self.method {
            Method::Capacity => self.bound.or(Some(Bound::SHARE)),
            Method::Torflow | Method::TorflowPid => self.bound,
            _ => None,
        };
        share.map(|share| if share > 0.0 { share.min(MOST) } else { 0.0 })
    }

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

/// The network's figures but for the total and the limit.
fn figures(aggregates: &Aggregates, options: &ScaleOptions) -> NetworkFigures {
    let candidates = aggregates
        .in_consensus()
        .filter(|relay| relay.verdict != Err(Reason::Authority));
    let consensus_relays = candidates.count() as u64;
    let answered = || {
        let relays = aggregates.in_consensus();
        relays.filter(|relay| options.method.refuses(relay).is_none())
    };
    let compared = aggregates.in_consensus();
    let compared = compared.filter(|relay| options.method.compares(relay));
    let eligible: Vec<Statistics> = compared.filter_map(|relay| relay.statistics).collect();
    let mean_of = |value: fn(&Statistics) -> BytesPerSecond| {
        let values = eligible.iter().map(|s| value(s).value() as f64);
        bounded_mean(values.collect())
    };
    let minimum = round_half_even(options.min_share * consensus_relays as f64);
    let censored = answered().filter(|relay| relay.statistics.is_none());
    let censored = censored.count() as u64;
    let with_weight = answered().count() as u64;
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
        bound: options
            .bound_share()
            .map(|share| Bound::of(aggregates, share)),
        normalisation: 1.0,
    }
}
