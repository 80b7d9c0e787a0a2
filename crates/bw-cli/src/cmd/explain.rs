//! `bwscan explain`: why a relay has its weight, or none.

mod sentence;

use std::ops::ControlFlow;

use bw_aggregate::{
    Answer, CapacitySteps, Explanation, LowerBoundSteps, RelayAggregate, Taken, Use,
};
use bw_file::{BytesPerSecond, Fingerprint};
use bw_results::{Blame, Outcome, OutcomeSummary, Verdict};
use serde::Serialize;
use serde_json::{Value, json};

use super::publication::LATEST;
use super::scaling::Scaling;
use crate::args::ExplainArgs;
use crate::exit::{Exit, UsageError};
use crate::paths::DataDir;
use crate::text::{kilobytes, print, print_json, table, utc};

/// One outcome and what became of it.
#[derive(Serialize)]
struct Attempt {
    /// Milliseconds since the Unix epoch.
    ended: bw_results::UnixMillis,
    scanner: String,
    position: &'static str,
    helpers: Vec<Fingerprint>,
    destination: String,
    /// Bytes per second.
    rates: Vec<f64>,
    /// The share of its time in which the link withheld something.
    throttled: f64,
    /// The party that bounded the rate, if that is a fact.
    bound: Option<Blame>,
    /// The rate that the helpers were expected to carry.
    offered: Option<BytesPerSecond>,
    /// Where and how it failed.
    failure: Option<String>,
    verdict: Verdict,
    r#use: Use,
}

impl Attempt {
    fn new(scanner: &str, outcome: &Outcome, verdict: Verdict, r#use: Use) -> Self {
        let attempt = outcome.attempt();
        let (measurement, failure) = match outcome {
            Outcome::Measured(measurement) => (Some(measurement), None),
            Outcome::Failed(failure) => {
                (None, Some(format!("{}: {}", failure.stage, failure.kind)))
            }
        };
        Self {
            ended: outcome.ended(),
            scanner: scanner.to_owned(),
            position: attempt.position.as_str(),
            helpers: attempt.helpers.clone(),
            destination: attempt.destination.clone(),
            rates: measurement.map_or_else(Vec::new, |measurement| measurement.rates().collect()),
            throttled: measurement.map_or(0.0, |measurement| measurement.throttled_share()),
            bound: measurement.and_then(|measurement| measurement.bound()),
            offered: measurement.and_then(|measurement| measurement.offered),
            failure,
            verdict,
            r#use,
        }
    }

    /// Its use in words.
    fn use_text(&self) -> String {
        let reason = self.verdict.reason().unwrap_or("unknown").replace('_', " ");
        match self.r#use {
            Use::Counted => "counts".to_owned(),
            Use::LowerBound => format!("lower bound, by the {reason}"),
            Use::Remeasured => format!("measured again: {reason}"),
            Use::Failed => "failed".to_owned(),
            Use::Excused => format!("failed, through the {reason}'s fault"),
            Use::NoRate => "left out: no rate that is believed".to_owned(),
            Use::AheadOfClock => "left out: dated ahead of the clock".to_owned(),
            Use::TooClose => "left out: too close to the others".to_owned(),
            Use::TooFew => "left out: too few of them".to_owned(),
            Use::TooOld => "left out: too old".to_owned(),
            _ => "left out".to_owned(),
        }
    }
}

/// Prints everything that is known of the relay.
pub(super) fn run(args: &ExplainArgs, data: &DataDir) -> anyhow::Result<Exit> {
    let latest = data.bandwidth_files().join(LATEST);
    let scaling = Scaling::new(&data.store(), &args.scaling, &latest, None)?;
    let fingerprint = args.relay.find(&scaling.network.relays)?;
    let aggregate = scaling.aggregates.relay(&fingerprint).ok_or_else(|| {
        UsageError(format!(
            "{fingerprint} is neither in the consensus nor among the results of these days"
        ))
    })?;
    let attempts = attempts(&scaling, aggregate)?;
    if args.json {
        print_json(&to_json(&scaling, aggregate, &attempts))?;
    } else {
        print_text(&scaling, aggregate, &attempts)?;
    }
    Ok(Exit::Success)
}

/// Its outcomes in the days that are looked at, oldest first, each once.
fn attempts(scaling: &Scaling, aggregate: &RelayAggregate) -> anyhow::Result<Vec<Attempt>> {
    let filter = scaling.filter().relay(aggregate.fingerprint);
    let mut attempts = Vec::new();
    let _ = scaling.stores.for_each_outcome(&filter, |stored| {
        let outcome = &stored.value;
        let summary = OutcomeSummary::new(outcome, stored.verdict);
        let r#use = aggregate.use_of(&summary, &scaling.options);
        attempts.push(Attempt::new(stored.scanner, outcome, stored.verdict, r#use));
        ControlFlow::<()>::Continue(())
    })?;
    attempts.sort_by_key(|attempt| attempt.ended);
    Ok(attempts)
}

fn to_json(scaling: &Scaling, aggregate: &RelayAggregate, attempts: &[Attempt]) -> Value {
    let fingerprint = &aggregate.fingerprint;
    let answer = scaling.scaled.relay(fingerprint).map(|relay| relay.answer);
    let (steps, reason) = match answer {
        Some(Answer::Weight(steps)) => (Some(steps), None),
        Some(Answer::Excluded(reason)) => (None, Some(reason)),
        None => (None, aggregate.verdict.err()),
    };
    json!({
        "relay": aggregate,
        "attempts": attempts,
        "checks": aggregate.checks(scaling.scaled.network.method),
        "network": scaling.scaled.network,
        "steps": steps,
        "reason": reason,
        "reason_text": reason.map(|reason| reason.to_string()),
        "standing": scaling.scaled.standing(fingerprint),
        "weight_in_previous_file": scaling.previous.as_ref()
            .and_then(|file| file.relays.get(fingerprint)).map(|relay| relay.weight),
    })
}

fn print_text(
    scaling: &Scaling,
    aggregate: &RelayAggregate,
    attempts: &[Attempt],
) -> anyhow::Result<()> {
    let name = match aggregate.nickname.as_str() {
        "" => String::new(),
        nickname => format!(" {nickname}"),
    };
    print(format!("{}{name}", aggregate.fingerprint))?;
    if let Some(sentence) = sentence(scaling, aggregate, attempts) {
        print(format!("{sentence}\n"))?;
    }
    print_attempts(attempts)?;
    print("")?;
    for check in aggregate.checks(scaling.scaled.network.method) {
        let mark = match check.holds {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "-",
        };
        print(format!("{mark:>4}  {}", check.condition))?;
    }
    print("")?;
    match scaling
        .scaled
        .relay(&aggregate.fingerprint)
        .map(|relay| relay.answer)
    {
        Some(Answer::Weight(steps)) => print_steps(scaling, aggregate, &steps)?,
        Some(Answer::Excluded(reason)) => print(format!("no weight: {reason}"))?,
        None => {
            if let Err(reason) = aggregate.verdict {
                print(format!("no weight: {reason}"))?;
            }
        }
    }
    let previous = scaling.previous.as_ref();
    if let Some(relay) = previous.and_then(|file| file.relays.get(&aggregate.fingerprint)) {
        let voted = if relay.voted { "" } else { ", not voted with" };
        print(format!(
            "in the file in use: {} kB/s{voted}",
            relay.weight.value()
        ))?;
    }
    Ok(())
}

/// The verdict in one sentence.
fn sentence(scaling: &Scaling, aggregate: &RelayAggregate, attempts: &[Attempt]) -> Option<String> {
    let fingerprint = &aggregate.fingerprint;
    let answer = scaling.scaled.relay(fingerprint).map(|relay| relay.answer);
    let steps = match answer {
        Some(Answer::Weight(steps)) => steps,
        Some(Answer::Excluded(reason)) => return Some(format!("No weight: {reason}.")),
        None => return Some(format!("No weight: {}.", aggregate.verdict.err()?)),
    };
    let standing = scaling.scaled.standing(fingerprint)?;
    let uses_promise = scaling.scaled.network.method == bw_aggregate::Method::Torflow;
    let verdict = sentence::Verdict {
        rank: standing.rank,
        of: standing.of,
        relative: standing.share * standing.of as f64,
        ratio: steps.ratio,
        promised: uses_promise.then_some(steps.advertised.value() / 1000),
        is_limited: steps.is_limited,
        failed: attempts
            .iter()
            .filter(|attempt| attempt.r#use == Use::Failed)
            .count(),
        attempts: attempts.len(),
    };
    Some(verdict.to_string())
}

fn print_attempts(attempts: &[Attempt]) -> anyhow::Result<()> {
    if attempts.is_empty() {
        return print("no attempts in these days");
    }
    let mut table = table([
        "ended (UTC)",
        "scanner",
        "as",
        "kB/s",
        "throttled",
        "use",
        "",
    ]);
    for attempt in attempts {
        let rates: Vec<String> = attempt.rates.iter().map(|&rate| kilobytes(rate)).collect();
        let throttled = match attempt.throttled {
            0.0 => String::new(),
            share => format!("{:.0} %", share * 100.0),
        };
        table.add_row([
            utc(attempt.ended),
            attempt.scanner.clone(),
            attempt.position.to_owned(),
            rates.join(" "),
            throttled,
            attempt.use_text(),
            attempt.failure.clone().unwrap_or_default(),
        ]);
    }
    print(table)
}

fn line(what: &str, value: impl std::fmt::Display) -> anyhow::Result<()> {
    print(format!("{what:<44} {value}"))
}

fn print_lower_bound(bound: &bw_aggregate::LowerBound) -> anyhow::Result<()> {
    let text = format!("lower bound, by the {}", bound.by);
    line(
        &text,
        format!("{:.0} B/s, {}", bound.rate, utc(bound.ended)),
    )
}

/// Tells which of the two values of a censored relay was taken.
fn print_taken(steps: &LowerBoundSteps) -> anyhow::Result<()> {
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
    line("taken", text)
}

/// Tells how the estimate of a relay's capacity came about.
fn print_capacity(steps: &CapacitySteps) -> anyhow::Result<()> {
    let proven = steps.proven;
    let helpers = if proven.supported {
        ", through unrelated helpers"
    } else {
        ", through the same or related helpers only"
    };
    line(
        &format!("proven by {} of {}", proven.reached, proven.measurements),
        format!("{:.0} B/s{helpers}", proven.rate),
    )?;
    let more = if proven.at_least {
        "; it may carry more"
    } else {
        ""
    };
    line(
        "three quarters have reached",
        format!("{:.0} B/s{more}", proven.usual),
    )?;
    line(
        "payload that its descriptor claims",
        format!(
            "{} x {:.4} = {:.0} B/s; believed up to {:.0}",
            steps.claimed.value(),
            steps.bound.payload_share,
            steps.claimed.value() as f64 * steps.bound.payload_share,
            steps.ceiling
        ),
    )?;
    line("estimate", format!("{:.0} B/s", steps.estimate))?;
    if let Some(previous) = steps.previous {
        line(
            &format!("smoothed over {} measurements", steps.new_measurements),
            format!("{:.0} B/s, from {:.0}", steps.smoothed, previous.capacity),
        )?;
    }
    Ok(())
}

fn print_steps(
    scaling: &Scaling,
    aggregate: &RelayAggregate,
    steps: &Explanation,
) -> anyhow::Result<()> {
    let network = &scaling.scaled.network;
    let statistics = steps.statistics;
    match &steps.lower_bound {
        Some(bound) => print_lower_bound(&bound.bound)?,
        None => {
            let count = statistics.rates;
            line(&format!("mean of {count} rates"), statistics.mean)?;
            line("median", statistics.median)?;
            line("mean of those not below the mean", statistics.filtered)?;
            if aggregate.counts.implausible_rates > 0 {
                let limit = aggregate.rate_limit;
                line(
                    "rates left out",
                    format!(
                        "{} beyond {:.0} B/s, the most that is believed by {}",
                        aggregate.counts.implausible_rates,
                        limit.rate,
                        limit.basis.as_str()
                    ),
                )?;
            }
            if let Some(bound) = &aggregate.lower_bound
                && aggregate
                    .rates
                    .last()
                    .is_some_and(|&rate| bound.rate > rate)
            {
                print_lower_bound(bound)?;
            }
        }
    }
    // Of a censored relay, what the formula gives is one of two values.
    let value = steps
        .lower_bound
        .map_or(steps.unlimited, |bound| bound.scaled);
    line(
        "mean over the network's mean",
        format!(
            "{} / {:.2} = {:.8}",
            statistics.mean.value(),
            network.mean,
            steps.stream_ratio
        ),
    )?;
    line(
        "filtered mean over the network's",
        format!(
            "{} / {:.2} = {:.8}",
            statistics.filtered.value(),
            network.filtered_mean,
            steps.filtered_ratio
        ),
    )?;
    if let Some(facts) = aggregate.descriptor {
        line(
            "observed, burst, rate of the descriptor",
            format!("{}, {}, {}", steps.observed, facts.burst, facts.average),
        )?;
        if steps.believed < steps.advertised.value() as f64 {
            let proven = aggregate.proven.map_or(0.0, |proven| proven.rate);
            line(
                "believed of that",
                format!(
                    "{:.0} B/s: {proven:.0} B/s of payload are proven",
                    steps.believed
                ),
            )?;
        }
    }
    let scaled = match (&steps.pid, network.method) {
        (Some(pid), _) => {
            line(
                "Torflow's controller",
                format!(
                    "{:?}, error {:.4}, sum {:.4}, delta {:.4}, base {:.0} B/s",
                    pid.feedback,
                    pid.vote.pid_error,
                    pid.vote.pid_error_sum,
                    pid.vote.pid_delta,
                    pid.base
                ),
            )?;
            format!("{value:.0} B/s")
        }
        (None, bw_aggregate::Method::Torflow) => format!(
            "{:.8} x {:.0} = {value:.0} B/s",
            steps.ratio, steps.believed,
        ),
        (None, bw_aggregate::Method::Capacity) => {
            if let Some(capacity) = &steps.capacity {
                print_capacity(capacity)?;
            }
            format!("{value:.0} B/s")
        }
        (None, bw_aggregate::Method::TorflowPid) => format!("{value:.0} B/s"),
        (None, _) => format!(
            "{} x {:.8} = {value:.0} B/s",
            statistics.median.value(),
            network.factor,
        ),
    };
    line(&format!("scaled ({})", network.method.as_str()), scaled)?;
    if let Some(bound) = &steps.lower_bound {
        print_taken(bound)?;
    }
    if steps.is_limited {
        line(
            "cut to the largest share",
            format!("{:.0} B/s of a sum of {:.0}", steps.limited, network.total),
        )?;
    }
    if network.method == bw_aggregate::Method::Capacity {
        line(
            "sum as wanted",
            format!("{:.0} x {:.6} B/s", steps.limited, network.normalisation),
        )?;
    }
    line("weight, rounded", format!("{} kB/s", steps.weight.value()))?;
    if let Some(weight) = aggregate.consensus_weight {
        line(
            "weight in the consensus",
            format!("{} kB/s", weight.value()),
        )?;
    }
    if let Some(standing) = scaling.scaled.standing(&aggregate.fingerprint) {
        line(
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
        )?;
    }
    if network.under_minimum {
        print("too few relays have a weight: authorities are asked not to vote with the file")?;
    }
    Ok(())
}
