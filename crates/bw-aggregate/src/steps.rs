//! The steps from a relay's measurements to its weight, in words and numbers.

use bw_results::UnixMillis;
use bw_results::text::counted;

use crate::aggregate::{LowerBound, RelayAggregate};
use crate::capacity::CapacitySteps;
use crate::censored::{LowerBoundSteps, Taken};
use crate::explain::Standing;
use crate::scale::{Answer, Explanation, Method, NetworkFigures, Scaled};

/// One step on the way from measurements to a weight.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// Its name, such as `mean of 3 rates`.
    pub what: String,
    /// The numbers with their units.
    pub value: String,
}

impl Scaled {
    /// The steps that led to a relay's weight, in their order; none if it has no
    /// weight. `standing` is its place, as [`standing`](Self::standing) gives it; `utc`
    /// writes a time.
    pub fn steps(
        &self,
        relay: &RelayAggregate,
        standing: Option<Standing>,
        utc: fn(UnixMillis) -> String,
    ) -> Vec<Step> {
        let mut steps = Steps {
            steps: Vec::new(),
            utc,
        };
        if let Some(Answer::Weight(explanation)) =
            self.relay(&relay.fingerprint).map(|relay| relay.answer)
        {
            steps.weight(self, relay, &explanation);
            steps.place(standing);
        }
        steps.steps
    }
}

/// The steps so far.
struct Steps {
    steps: Vec<Step>,
    utc: fn(UnixMillis) -> String,
}

impl Steps {
    fn add(&mut self, what: &str, value: impl ToString) {
        self.steps.push(Step {
            what: what.to_owned(),
            value: value.to_string(),
        });
    }

    fn lower_bound(&mut self, bound: &LowerBound) {
        let text = format!("lower bound, by the {}", bound.by);
        self.add(
            &text,
            format!("{:.0} B/s, {}", bound.rate, (self.utc)(bound.ended)),
        );
    }

    /// Tells which of the two values of a censored relay was taken.
    fn taken(&mut self, steps: &LowerBoundSteps) {
        let text = match (steps.taken, steps.consensus) {
            (Taken::Consensus, Some(weight)) => format!(
                "the weight in the consensus, {} kB/s: it carries more than the lower bound",
                weight.value()
            ),
            (_, Some(weight)) => format!(
                "the lower bound: the weight in the consensus, {} kB/s, is less",
                weight.value()
            ),
            (_, None) => "the lower bound: the consensus has no measured weight".to_owned(),
        };
        self.add("taken", text);
    }

    /// Tells how the estimate of a relay's capacity came about.
    fn capacity(&mut self, steps: &CapacitySteps) {
        let proven = steps.proven;
        let helpers = if proven.supported {
            ", through unrelated helpers"
        } else {
            ", through the same or related helpers only"
        };
        self.add(
            &format!("proven by {} of {}", proven.reached, proven.measurements),
            format!("{:.0} B/s{helpers}", proven.rate),
        );
        let more = if proven.at_least {
            "; it may carry more"
        } else {
            ""
        };
        self.add(
            "three quarters have reached",
            format!("{:.0} B/s{more}", proven.usual),
        );
        if let Some(machine) = steps.machine {
            let together = machine.together.map_or_else(
                || "never measured together".to_owned(),
                |rate| format!("together {rate:.0}"),
            );
            self.add(
                &format!(
                    "counts of that, as {} relays share a machine",
                    machine.relays
                ),
                format!(
                    "{:.4}: alone {:.0} B/s, {together}",
                    machine.share, machine.alone
                ),
            );
        }
        self.add(
            "payload that its descriptor claims",
            format!(
                "{} x {:.4} = {:.0} B/s; believed up to {:.0}",
                steps.claimed.value(),
                steps.bound.payload_share,
                steps.claimed.value() as f64 * steps.bound.payload_share,
                steps.ceiling
            ),
        );
        self.add("estimate", format!("{:.0} B/s", steps.estimate));
        if let Some(previous) = steps.previous {
            self.add(
                &format!(
                    "smoothed over {}",
                    counted(steps.new_measurements, "measurement")
                ),
                format!("{:.0} B/s, from {:.0}", steps.smoothed, previous.capacity),
            );
        }
    }

    fn weight(&mut self, all: &Scaled, aggregate: &RelayAggregate, steps: &Explanation) {
        let network = &all.network;
        match &steps.lower_bound {
            Some(bound) => self.lower_bound(&bound.bound),
            None => self.rates(aggregate, steps),
        }
        self.ratios(network, steps);
        self.descriptor(aggregate, steps);
        let scaled = self.formula(network, steps);
        self.add(&format!("scaled ({})", network.method.as_str()), scaled);
        if let Some(bound) = &steps.lower_bound {
            self.taken(bound);
        }
        if steps.is_limited {
            self.add(
                "cut to the largest share",
                format!("{:.0} B/s of a sum of {:.0}", steps.limited, network.total),
            );
        }
        if network.method == Method::Capacity {
            self.add(
                "sum as wanted",
                format!("{:.0} x {:.6} B/s", steps.limited, network.normalisation),
            );
        }
        self.add("weight, rounded", format!("{} kB/s", steps.weight.value()));
        if let Some(weight) = aggregate.consensus_weight {
            self.add(
                "weight in the consensus",
                format!("{} kB/s", weight.value()),
            );
        }
    }

    /// Tells of its rates, and of a lower bound above all of them.
    fn rates(&mut self, aggregate: &RelayAggregate, steps: &Explanation) {
        let statistics = steps.statistics;
        let rates = counted(statistics.rates, "rate");
        self.add(&format!("mean of {rates}"), statistics.mean);
        self.add("median", statistics.median);
        self.add("mean of those not below the mean", statistics.filtered);
        if aggregate.counts.implausible_rates > 0 {
            let limit = aggregate.rate_limit;
            self.add(
                "rates left out",
                format!(
                    "{} beyond {:.0} B/s, the most that is believed by {}",
                    aggregate.counts.implausible_rates,
                    limit.rate,
                    limit.basis.as_str()
                ),
            );
        }
        if let (Some(bound), Some(&highest)) = (&aggregate.lower_bound, aggregate.rates.last())
            && bound.rate > highest
        {
            self.lower_bound(bound);
        }
    }

    /// Compares its rates with the network's.
    fn ratios(&mut self, network: &NetworkFigures, steps: &Explanation) {
        let statistics = steps.statistics;
        self.add(
            "mean over the network's mean",
            format!(
                "{} / {:.2} = {:.8}",
                statistics.mean.value(),
                network.mean,
                steps.stream_ratio
            ),
        );
        self.add(
            "filtered mean over the network's",
            format!(
                "{} / {:.2} = {:.8}",
                statistics.filtered.value(),
                network.filtered_mean,
                steps.filtered_ratio
            ),
        );
    }

    fn descriptor(&mut self, aggregate: &RelayAggregate, steps: &Explanation) {
        let Some(facts) = aggregate.descriptor else {
            return;
        };
        self.add(
            "observed, burst, rate of the descriptor",
            format!("{}, {}, {}", steps.observed, facts.burst, facts.average),
        );
        if steps.believed < steps.advertised.value() as f64 {
            let proven = aggregate.proven.map_or(0.0, |proven| proven.rate);
            self.add(
                "believed of that",
                format!(
                    "{:.0} B/s: {proven:.0} B/s of payload are proven",
                    steps.believed
                ),
            );
        }
    }

    /// Tells how the formula came to its result, which it returns.
    fn formula(&mut self, network: &NetworkFigures, steps: &Explanation) -> String {
        // Of a censored relay, what the formula gives is one of two values.
        let value = steps
            .lower_bound
            .map_or(steps.unlimited, |bound| bound.scaled);
        if let Some(pid) = &steps.pid {
            self.add(
                "Torflow's controller",
                format!(
                    "{:?}, error {:.4}, sum {:.4}, delta {:.4}, base {:.0} B/s",
                    pid.feedback,
                    pid.vote.pid_error,
                    pid.vote.pid_error_sum,
                    pid.vote.pid_delta,
                    pid.base
                ),
            );
            return format!("{value:.0} B/s");
        }
        match network.method {
            Method::Torflow => format!(
                "{:.8} x {:.0} = {value:.0} B/s",
                steps.ratio, steps.believed,
            ),
            Method::Capacity => {
                if let Some(capacity) = &steps.capacity {
                    self.capacity(capacity);
                }
                format!("{value:.0} B/s")
            }
            Method::TorflowPid => format!("{value:.0} B/s"),
            _ => format!(
                "{} x {:.8} = {value:.0} B/s",
                steps.statistics.median.value(),
                network.factor,
            ),
        }
    }

    /// Its place among the others.
    fn place(&mut self, standing: Option<Standing>) {
        if let Some(standing) = standing {
            self.add(
                "place",
                format!(
                    "{} of {} relays, {} of {} of its class ({:?}); {:.4} % of the sum",
                    standing.rank,
                    standing.of,
                    standing.class_rank,
                    standing.class_of,
                    standing.class,
                    standing.share * 100.0
                ),
            );
        }
    }
}
