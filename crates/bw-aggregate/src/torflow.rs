//! Torflow's algebra: a controller that adjusts weights until all relays of a
//! class are measured alike (torflow `aggregate.py`, README.spec).

use std::collections::BTreeMap;
use std::time::Duration;

use bw_file::KilobytesPerSecond;
use bw_results::RelayFlags;
use serde::Serialize;

use crate::plausible::most_in_mean;

/// Torflow's own parameters, which the consensus can set.
///
/// With the defaults and no previous vote, the value of a relay is its
/// descriptor's bandwidth times the larger of its two ratios.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TorflowParams {
    /// `bwauthpid`: whether there is a controller; on.
    pub pid: bool,
    /// `bwauthnsbw`: what is adjusted is the weight in the consensus instead of
    /// the descriptor's bandwidth; off.
    pub consensus_feedback: bool,
    /// `bwauthcircs`: relays whose circuits fail more often than others' are
    /// held to it; off.
    pub circuit_failures: bool,
    /// `bwauthbestratio`: the error is that of the better of the two ratios
    /// instead of the filtered one; on.
    pub best_ratio: bool,
    /// `bwauthbyclass`: relays are compared with those of their own class; off.
    pub by_class: bool,
    /// `bwauthpidtgt`: they are compared with relays that are at least as fast
    /// as the mean; off.
    pub filtered_target: bool,
    /// `bwauthmercy`: a relay is not lowered twice for the same; off.
    pub mercy: bool,
    /// `bwauthkp` / 10000: proportional gain; 1.
    pub k_p: f64,
    /// `bwauthti` / 10000: rounds in which a lasting error is corrected; 0: never.
    pub t_i: f64,
    /// `bwauthtidecay` / 10000: share of the sum of errors that these rounds take away; 0.
    pub t_i_decay: f64,
    /// `bwauthtd` / 10000: rounds that are foreseen; 0.
    pub t_d: f64,
    /// `bwauthpidmax` / 10000: the largest sum of errors, or with
    /// `consensus_feedback` the largest multiple of the descriptor's bandwidth; 500.
    pub pid_max: f64,
    /// `bwauthguardrate`, in seconds: how rarely guards' votes are fed back; 14 days.
    #[serde(serialize_with = "crate::sanity::seconds")]
    pub guard_rate: Duration,
}

impl Default for TorflowParams {
    fn default() -> Self {
        Self {
            pid: true,
            consensus_feedback: false,
            circuit_failures: false,
            best_ratio: true,
            by_class: false,
            filtered_target: false,
            mercy: false,
            k_p: 1.0,
            t_i: 0.0,
            t_i_decay: 0.0,
            t_d: 0.0,
            pid_max: 500.0,
            guard_rate: Duration::from_secs(14 * 86_400),
        }
    }
}

/// A parameter's name or value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no Torflow parameter {name:?} with value {value}; there are {}",
    TorflowParams::NAMES.join(", ")
)]
#[non_exhaustive]
pub struct TorflowParamError {
    /// The name.
    pub name: String,
    /// The value.
    pub value: i32,
}

impl TorflowParams {
    /// The names of the consensus parameters.
    pub const NAMES: [&'static str; 13] = [
        "bwauthbestratio",
        "bwauthbyclass",
        "bwauthcircs",
        "bwauthguardrate",
        "bwauthkp",
        "bwauthmercy",
        "bwauthnsbw",
        "bwauthpid",
        "bwauthpidmax",
        "bwauthpidtgt",
        "bwauthtd",
        "bwauthti",
        "bwauthtidecay",
    ];

    /// The parameters as a consensus sets them; those of other names, and
    /// values that make no sense, change nothing.
    pub fn from_consensus(params: &BTreeMap<String, i32>) -> Self {
        let mut torflow = Self::default();
        for (name, &value) in params {
            let _ = torflow.set(name, value);
        }
        torflow
    }

    /// Sets one by its name and value in a consensus.
    ///
    /// # Errors
    /// If there is no such parameter, or the value is negative.
    pub fn set(&mut self, name: &str, value: i32) -> Result<(), TorflowParamError> {
        let error = || TorflowParamError {
            name: name.to_owned(),
            value,
        };
        let natural = u32::try_from(value).map_err(|_| error())?;
        let fraction = f64::from(natural) / 10_000.0;
        match name {
            "bwauthbestratio" => self.best_ratio = natural != 0,
            "bwauthbyclass" => self.by_class = natural == 1,
            "bwauthcircs" => self.circuit_failures = natural == 1,
            "bwauthguardrate" => self.guard_rate = Duration::from_secs(natural.into()),
            "bwauthkp" => self.k_p = fraction,
            "bwauthmercy" => self.mercy = natural == 1,
            "bwauthnsbw" => self.consensus_feedback = natural == 1,
            "bwauthpid" => self.pid = natural != 0,
            "bwauthpidmax" => self.pid_max = fraction,
            "bwauthpidtgt" => self.filtered_target = natural == 1,
            "bwauthtd" => self.t_d = fraction,
            "bwauthti" => self.t_i = fraction,
            "bwauthtidecay" => self.t_i_decay = fraction,
            _ => return Err(error()),
        }
        Ok(())
    }

    /// Gain of the sum of errors.
    fn k_i(&self) -> f64 {
        if self.t_i > 0.0 {
            self.k_p / self.t_i
        } else {
            0.0
        }
    }

    /// The part of the sum of errors that is left after a round.
    fn decay(&self) -> f64 {
        if self.t_i > 0.0 {
            1.0 - self.t_i_decay / self.t_i
        } else {
            0.0
        }
    }
}

/// A relay's class: whose clients use it how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RelayClass {
    /// Guard and Exit.
    GuardExit,
    /// Guard, not Exit.
    Guard,
    /// Exit, not Guard.
    Exit,
    /// Neither.
    Middle,
}

impl From<RelayFlags> for RelayClass {
    fn from(flags: RelayFlags) -> Self {
        match (flags.guard, flags.exit) {
            (true, true) => Self::GuardExit,
            (true, false) => Self::Guard,
            (false, true) => Self::Exit,
            (false, false) => Self::Middle,
        }
    }
}

/// The input of the controller for one relay.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct TorflowRelay {
    /// Its class.
    pub class: RelayClass,
    /// Mean of its rates (`strm_bw`), in bytes per second.
    pub stream: f64,
    /// Mean of those that are not below the mean (`filt_bw`).
    pub filtered: f64,
    /// Share of circuits that failed, 0 to 1.
    pub circuit_failure_rate: f64,
    /// The smaller of the descriptor's rate and observed bandwidth (`desc_bw`).
    pub descriptor: f64,
    /// Its weight in the consensus, in bytes per second (`ns_bw`).
    pub consensus: f64,
    /// Its newest measurement, in Unix seconds.
    pub measured_at: u64,
}

impl TorflowRelay {
    /// A relay that was measured at `measured_at` with these rates.
    pub const fn new(class: RelayClass, stream: f64, filtered: f64, measured_at: u64) -> Self {
        Self {
            class,
            stream,
            filtered,
            circuit_failure_rate: 0.0,
            descriptor: 0.0,
            consensus: 0.0,
            measured_at,
        }
    }
}

/// A relay's line in the previous file, or in the next one: the state of its
/// controller.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PidVote {
    /// `bw`; in the next file set when the values of all relays are known.
    pub weight: KilobytesPerSecond,
    /// `pid_bw`: what the controller wants, in bytes per second.
    pub pid_bw: f64,
    /// `pid_error`: how much better than its peers it was measured, as a share.
    pub pid_error: f64,
    /// `pid_error_sum`: the errors summed up, if they decay slowly.
    pub pid_error_sum: f64,
    /// `pid_delta`: the error less the one before.
    pub pid_delta: f64,
    /// `measured_at`, in Unix seconds: the measurement that was last fed back.
    pub measured_at: u64,
    /// `updated_at`, in Unix seconds: the measurement that the value is of.
    pub updated_at: u64,
}

/// The way in which a measurement came into a relay's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Feedback {
    /// The controller is off: the larger ratio times the descriptor's bandwidth.
    Off,
    /// There is no previous vote.
    First,
    /// There is no new measurement: the previous vote again.
    Unchanged,
    /// The measurement was fed back.
    Full,
    /// Fed back with gains less by Wgd, as for guards that are exits.
    Damped,
    /// A guard that was fed back less than the guard rate ago: the value is
    /// new, the state is the old one.
    Guard,
}

/// The means with which a relay is compared.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ClassMeans {
    /// Mean of the filtered rates.
    pub filtered: f64,
    /// Mean of the rates.
    pub stream: f64,
    /// Mean share of circuits that did not fail.
    pub success: f64,
    /// Mean filtered rate of those whose descriptors promise at least the mean;
    /// where that is less, of those that promise at least that, and so on.
    pub target: f64,
}

/// One relay's steps through the controller.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PidSteps {
    /// Its class.
    pub class: RelayClass,
    /// With what it was compared.
    pub means: ClassMeans,
    /// The bandwidth that was adjusted, in bytes per second.
    pub base: f64,
    /// The way in which the measurement came in.
    pub feedback: Feedback,
    /// The value, in bytes per second: not below 0, not limited yet.
    pub value: f64,
    /// The state that the next file says.
    pub vote: PidVote,
    /// Share of circuits that failed.
    pub circuit_failure_rate: f64,
}

/// The controller of one network at one time.
#[derive(Clone, Debug)]
pub struct Torflow {
    params: TorflowParams,
    /// Wgd of the consensus, as a share.
    guard_exit_damping: f64,
    means: BTreeMap<RelayClass, ClassMeans>,
}

impl Torflow {
    /// The controller for `relays`; `wgd` is the consensus's weight of that
    /// name, 0 to 1.
    pub fn new(params: TorflowParams, wgd: f64, relays: &[TorflowRelay]) -> Self {
        let classes = [
            RelayClass::GuardExit,
            RelayClass::Guard,
            RelayClass::Exit,
            RelayClass::Middle,
        ];
        let means = classes.into_iter().map(|class| {
            let by_class = params.pid && params.by_class;
            let peers = relays
                .iter()
                .filter(|relay| !by_class || relay.class == class);
            let peers = peers.copied().collect::<Vec<_>>();
            (class, ClassMeans::of(&peers, by_class))
        });
        Self {
            params,
            guard_exit_damping: wgd.clamp(0.0, 1.0),
            means: means.collect(),
        }
    }

    /// A relay's value, with its previous vote if there is one.
    pub fn vote(&self, relay: &TorflowRelay, previous: Option<&PidVote>) -> PidSteps {
        let mut steps = self.steps(relay, previous);
        // Whatever came in, what goes out can be added up.
        let sound = steps.value.is_finite() && steps.value > 0.0;
        steps.value = if sound { steps.value } else { 0.0 };
        steps
    }

    fn steps(&self, relay: &TorflowRelay, previous: Option<&PidVote>) -> PidSteps {
        let params = &self.params;
        let means = self.means[&relay.class];
        let (rs, rf) = means.ratios(relay);
        let mut steps = PidSteps {
            class: relay.class,
            means,
            base: relay.descriptor,
            feedback: Feedback::Off,
            value: relay.descriptor * rs.max(rf),
            vote: PidVote {
                weight: KilobytesPerSecond::new(1),
                pid_bw: relay.descriptor * rs.max(rf),
                pid_error: 0.0,
                pid_error_sum: 0.0,
                pid_delta: 0.0,
                measured_at: relay.measured_at,
                updated_at: relay.measured_at,
            },
            circuit_failure_rate: relay.circuit_failure_rate,
        };
        if !params.pid {
            return steps;
        }
        if params.consensus_feedback {
            steps.base = relay.consensus;
        }
        let mut sum = previous.map_or(0.0, |vote| vote.pid_error_sum);
        let mut error = self.error(relay, &means, sum);
        if error > 0.0 {
            if !params.consensus_feedback {
                sum = sum.min(params.pid_max);
            } else if relay.consensus > params.pid_max * relay.descriptor {
                (error, sum) = (0.0, 0.0);
            }
        }
        if self.shows_mercy(relay, error) {
            steps.base = relay.descriptor;
        }
        if params.mercy && error < 0.0 {
            sum = sum.max(0.0);
        }
        match previous {
            None => {
                steps.feedback = Feedback::First;
                steps.value = steps.base * (1.0 + params.k_p * error);
                steps.vote.pid_bw = steps.value;
                steps.vote.pid_error = error;
                steps.vote.pid_error_sum = error;
            }
            Some(previous) if relay.measured_at <= previous.measured_at => {
                steps.feedback = Feedback::Unchanged;
                steps.value = previous.weight.to_bytes().value() as f64;
                steps.vote = *previous;
            }
            Some(previous) => self.feed_back(relay, previous, error, sum, &mut steps),
        }
        steps
    }

    /// Returns true if a relay that was lowered in the consensus is not lowered again,
    /// but begins anew from its descriptor.
    fn shows_mercy(&self, relay: &TorflowRelay, error: f64) -> bool {
        self.params.mercy
            && self.params.consensus_feedback
            && error < 0.0
            && relay.descriptor > relay.consensus
    }

    /// The factor by which a relay was measured better than its peers.
    fn error(&self, relay: &TorflowRelay, means: &ClassMeans, sum: f64) -> f64 {
        let params = &self.params;
        let (rs, rf) = means.ratios(relay);
        let mut error = if params.filtered_target {
            let of = |rate: f64| share(rate, means.target) - 1.0;
            let demoted = if params.consensus_feedback {
                relay.descriptor > relay.consensus
            } else {
                sum < 0.0
            };
            match of(relay.stream) {
                error if params.mercy && error < 0.0 && demoted => of(relay.filtered),
                error => error,
            }
        } else if params.best_ratio && rs > rf {
            rs - 1.0
        } else {
            rf - 1.0
        };
        let failed = relay.circuit_failure_rate;
        if params.circuit_failures && failed > 0.0 && 1.0 - failed < means.success {
            error = error.min(-failed);
        }
        error
    }

    /// A new measurement of a relay with a previous vote.
    fn feed_back(
        &self,
        relay: &TorflowRelay,
        previous: &PidVote,
        error: f64,
        sum: f64,
        steps: &mut PidSteps,
    ) {
        let params = &self.params;
        let base = steps.base;
        let (k_p, k_i, k_d) = (params.k_p, params.k_i(), params.k_p * params.t_d);
        let age = Duration::from_secs(relay.measured_at - previous.measured_at);
        if relay.class == RelayClass::Guard && age <= params.guard_rate {
            steps.feedback = Feedback::Guard;
            steps.value = if params.consensus_feedback {
                // The vote before, unless mercy has put the descriptor in its place.
                if !self.shows_mercy(relay, error) {
                    steps.base = previous.pid_bw;
                }
                steps.base * (1.0 + k_p * error)
            } else {
                let past = k_i * previous.pid_error_sum + k_d * previous.pid_delta;
                base * (1.0 + k_p * error + past)
            };
            steps.vote = PidVote {
                updated_at: relay.measured_at,
                ..*previous
            };
            return;
        }
        // A first error has nothing to be compared with.
        let known = previous.pid_error != 0.0;
        let delta = if known {
            error - previous.pid_error
        } else {
            0.0
        };
        let past = if known { sum } else { 0.0 };
        // Descriptor bandwidths are no feedback, which is what is damped.
        let damped =
            relay.class == RelayClass::GuardExit && base.total_cmp(&relay.descriptor).is_ne();
        let gain = if damped {
            1.0 - self.guard_exit_damping
        } else {
            1.0
        };
        steps.feedback = if damped {
            Feedback::Damped
        } else {
            Feedback::Full
        };
        steps.value = base * (1.0 + gain * (k_p * error + k_i * past + k_d * delta));
        steps.vote.pid_bw = steps.value;
        steps.vote.pid_error = error;
        steps.vote.pid_delta = delta;
        steps.vote.pid_error_sum = sum * params.decay() + error;
    }
}

impl ClassMeans {
    fn of(relays: &[TorflowRelay], by_class: bool) -> Self {
        let relays = bounded(relays);
        let filtered = mean(&relays, |relay| relay.filtered);
        Self {
            filtered,
            stream: mean(&relays, |relay| relay.stream),
            success: mean(&relays, |relay| 1.0 - relay.circuit_failure_rate),
            target: target(&relays, filtered, by_class),
        }
    }

    /// Stream and filtered ratio.
    fn ratios(&self, relay: &TorflowRelay) -> (f64, f64) {
        (
            share(relay.stream, self.stream),
            share(relay.filtered, self.filtered),
        )
    }
}

/// The relays with rates that count in a mean: none for more than others support.
fn bounded(relays: &[TorflowRelay]) -> Vec<TorflowRelay> {
    let most = |rate: fn(&TorflowRelay) -> f64| {
        let mut rates: Vec<f64> = relays.iter().map(rate).collect();
        rates.sort_unstable_by(f64::total_cmp);
        let most = most_in_mean(&rates).filter(|&most| most > 0.0);
        most.unwrap_or(f64::INFINITY)
    };
    let (stream, filtered) = (most(|relay| relay.stream), most(|relay| relay.filtered));
    let bounded = relays.iter().map(|&relay| TorflowRelay {
        stream: relay.stream.min(stream),
        filtered: relay.filtered.min(filtered),
        ..relay
    });
    bounded.collect()
}

/// The target of `bwauthpidtgt`, from the mean of the filtered rates on.
/// Torflow looks at all relays of a class each time, and without classes only
/// at those that are left.
fn target(relays: &[TorflowRelay], mean_of_all: f64, by_class: bool) -> f64 {
    let mut target = mean_of_all;
    let mut left = relays.to_vec();
    loop {
        let from = if by_class { relays } else { &left };
        let fast: Vec<TorflowRelay> = from
            .iter()
            .filter(|relay| relay.descriptor >= target)
            .copied()
            .collect();
        if fast.is_empty() {
            return target;
        }
        let next = mean(&fast, |relay| relay.filtered);
        let fell = next < target;
        (target, left) = (next, fast);
        if !fell {
            return target;
        }
    }
}

fn mean(relays: &[TorflowRelay], value: fn(&TorflowRelay) -> f64) -> f64 {
    if relays.is_empty() {
        return 0.0;
    }
    relays.iter().map(value).sum::<f64>() / relays.len() as f64
}

/// `value / of`; 0 of nothing.
fn share(value: f64, of: f64) -> f64 {
    if of > 0.0 { value / of } else { 0.0 }
}
