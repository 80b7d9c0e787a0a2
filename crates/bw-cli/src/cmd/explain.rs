//! `bwscan explain`: why a relay has its weight, or none.

use std::ops::ControlFlow;

use bw_aggregate::{Answer, RelayAggregate, Standing, Use};
use bw_file::{BytesPerSecond, Fingerprint};
use bw_results::{Blame, Outcome, OutcomeSummary, Verdict};
use clap::Args as ClapArgs;
use serde::Serialize;
use serde_json::{Value, json};

use super::publication::LATEST;
use super::scaling::Scaling;
use crate::args::OUTPUT;
use crate::cmd::ScalingArgs;
use crate::exit::{Exit, UsageError};
use crate::paths::DataDir;
use crate::relay_name::RelayName;
use crate::text::{kilobytes, print, print_json, table, utc};

#[derive(Debug, ClapArgs)]
pub(crate) struct ExplainArgs {
    /// Explain this relay: its fingerprint or the first 8 digits or more, its
    /// nickname, Ed25519 key or address.
    #[arg(value_name = "RELAY")]
    pub(crate) relay: RelayName,
    #[command(flatten)]
    pub(crate) scaling: ScalingArgs,
    /// Print JSON.
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) json: bool,
}

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
    /// The rate that the relay's token bucket sustains, if the transfer ended in a burst.
    sustains: Option<BytesPerSecond>,
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
            throttled: measurement.map_or(0.0, bw_results::Measurement::throttled_share),
            bound: measurement.and_then(bw_results::Measurement::bound),
            sustains: measurement
                .and_then(|measurement| measurement.transfers.iter().find_map(|one| one.sustains)),
            offered: measurement.and_then(|measurement| measurement.offered),
            failure,
            verdict,
            r#use,
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
    let standing = scaling.scaled.standing(&aggregate.fingerprint);
    let failed = attempts
        .iter()
        .filter(|attempt| attempt.r#use == Use::Failed);
    let sentence = scaling
        .scaled
        .sentence(aggregate, standing, attempts.len(), failed.count());
    print(format!("{sentence}\n"))?;
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
    let answer = scaling.scaled.relay(&aggregate.fingerprint);
    match (answer.map(|relay| relay.answer), aggregate.verdict) {
        (Some(Answer::Weight(_)), _) => print_steps(scaling, aggregate, standing)?,
        (Some(Answer::Excluded(reason)), _) | (None, Err(reason)) => {
            print(format!("no weight: {reason}"))?;
        }
        (None, Ok(())) => {}
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
            attempt.r#use.in_words(&attempt.verdict),
            attempt.failure.clone().unwrap_or_default(),
        ]);
    }
    print(table)
}

fn print_steps(
    scaling: &Scaling,
    aggregate: &RelayAggregate,
    standing: Option<Standing>,
) -> anyhow::Result<()> {
    for step in scaling.scaled.steps(aggregate, standing, utc) {
        print(format!("{:<44} {}", step.what, step.value))?;
    }
    if scaling.scaled.network.under_minimum {
        print("too few relays have a weight: authorities are asked not to vote with the file")?;
    }
    Ok(())
}
