//! Advice for a relay's operator: the bounds of its weight, and the remedies.

use bw_aggregate::{Answer, CapacitySteps, Explanation, Method, Reason, RelayAggregate};
use bw_results::Stage;

use crate::format::{percent, rate};
use crate::records::Relay;
use crate::site::Site;

/// From which share of charged failures on they are worth a remark.
const FAILURES: f64 = 0.1;

/// One finding: what it is, and what to do about it, if anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Advice {
    pub(crate) finding: String,
    pub(crate) remedy: String,
}

impl Advice {
    fn new(finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            finding: finding.into(),
            remedy: remedy.into(),
        }
    }
}

/// The findings on one relay, the weightiest first.
pub(crate) fn advice(site: &Site, relay: &RelayAggregate, records: Option<&Relay>) -> Vec<Advice> {
    let answer = site
        .facts
        .scaled
        .relay(&relay.fingerprint)
        .map(|relay| relay.answer);
    let mut all = match (answer, relay.verdict) {
        (Some(Answer::Weight(steps)), _) => of_weight(site, relay, &steps),
        (Some(Answer::Excluded(reason)), _) | (None, Err(reason)) => vec![of_reason(&reason)],
        (None, Ok(())) => Vec::new(),
    };
    all.extend(records.and_then(of_failures));
    all
}

/// Why it has no weight.
fn of_reason(reason: &Reason) -> Advice {
    let remedy = match reason {
        Reason::Authority => "Nothing: authorities carry no traffic for clients.",
        Reason::NotInConsensus => {
            "Look whether tor runs, whether its ORPort is reachable from outside, and what its log says of the \
             authorities' votes."
        }
        Reason::NotTried => "Wait: the scanner comes to each relay once a round.",
        Reason::OnlyFailures { stage, .. } => of_stage(*stage),
        Reason::Excused { .. } | Reason::AheadOfClock { .. } => {
            "Nothing: the fault is the scanner's or its destination's, and it tries again."
        }
        Reason::NoDescriptor => {
            "Wait for an hour: the directory has not shown the relay's descriptor yet."
        }
        Reason::ImpossibleDescriptor { .. } => {
            "Set BandwidthRate and BandwidthBurst to what the machine can do, and use tor as released."
        }
        Reason::Implausible { .. } | Reason::NoRate => "Wait: the next rounds measure it again.",
        Reason::TooClose { .. } | Reason::TooFew { .. } | Reason::TooOld { .. } => {
            "Wait: it takes more rounds until there are enough measurements."
        }
        _ => "Wait for the next round.",
    };
    Advice::new(format!("It has no weight: {reason}."), remedy)
}

/// The cause of a weight as high or low as it is.
fn of_weight(site: &Site, relay: &RelayAggregate, steps: &Explanation) -> Vec<Advice> {
    let mut all = Vec::new();
    if steps.is_limited {
        all.push(Advice::new(
            "The share that one relay may have bounds its weight.",
            "Nothing: no relay is to see more of the network's traffic.",
        ));
    }
    if let Some(bound) = &steps.lower_bound {
        all.push(Advice::new(
            format!(
                "It was never measured to its own limit: the {} bounded each measurement.",
                bound.bound.by
            ),
            "Nothing: the scanner's operator needs a faster link, destination or helpers.",
        ));
    }
    let method = site.facts.scaled.network.method;
    if matches!(method, Method::Torflow | Method::TorflowPid) {
        all.extend(of_descriptor(relay, steps));
        all.push(of_ratio(steps));
    }
    if let Some(capacity) = &steps.capacity {
        all.extend(of_capacity(capacity));
    }
    all
}

/// The party that decided the estimate of `--scale capacity`: the relay's own word, what was
/// seen of it, or its past.
fn of_capacity(steps: &CapacitySteps) -> Vec<Advice> {
    let mut all = Vec::new();
    let share = steps.machine.map_or(1.0, |machine| machine.share);
    if share < 1.0 {
        all.push(Advice::new(
            format!(
                "Other relays share its machine: {} of what they showed counts as its own.",
                percent(share)
            ),
            "Nothing, if it is one machine or one line. More relays on it share the same capacity.",
        ));
    }
    let proven = steps.proven.rate * share;
    let claimed = steps.claimed.value() as f64 * steps.bound.payload_share * share;
    all.push(if claimed <= proven {
        Advice::new(
            format!(
                "What was measured, {}, is its estimate: tor did not observe it carry more.",
                rate(proven)
            ),
            "Time, and spare capacity: the estimate rises with what is measured, or with what clients bring.",
        )
    } else if claimed <= steps.ceiling {
        Advice::new(
            format!(
                "What it says of itself is its estimate: {} of payload, above the {} that was measured.",
                rate(claimed),
                rate(proven)
            ),
            "Time: tor observes the most that it carried for ten seconds within some days, so it grows with \
             the traffic.",
        )
    } else if steps.proven.supported {
        Advice::new(
            format!(
                "It says that it carries {} of payload. No more than {} of that counts, by what was measured.",
                rate(claimed),
                rate(steps.ceiling)
            ),
            "Time: the more measurements find, the more of its word counts.",
        )
    } else {
        Advice::new(
            format!("No second measurement supports the {} that was measured, so its own word does not count.", rate(proven)),
            "Wait: the next rounds measure it again.",
        )
    });
    // What is smoothed by less than that is no news.
    if (steps.smoothed / steps.estimate - 1.0).abs() > 0.05 {
        all.push(Advice::new(
            format!(
                "Its weight follows the estimate step by step: {} now, on the way to {}.",
                rate(steps.smoothed),
                rate(steps.estimate)
            ),
            "Wait: each new measurement brings it nearer.",
        ));
    }
    all
}

/// The promise of the descriptor, which Torflow's formula multiplies with.
fn of_descriptor(relay: &RelayAggregate, steps: &Explanation) -> Option<Advice> {
    let facts = relay.descriptor?;
    let (observed, average, burst) = (steps.observed, facts.average, facts.burst);
    let least = rate(steps.advertised.value() as f64);
    Some(if observed <= average && observed <= burst {
        Advice::new(
            format!(
                "Its observed bandwidth, {least}, is what the measured ratio is multiplied with."
            ),
            "Time: tor observes the most that it carried for ten seconds within some days, so it grows with \
             the traffic. It stays low on a slow link or a busy processor.",
        )
    } else if average <= burst {
        Advice::new(
            format!("Its configured rate, {least}, is less than what tor observed it carry."),
            "Raise BandwidthRate or RelayBandwidthRate in torrc, if more may be used.",
        )
    } else {
        Advice::new(
            format!("Its configured burst, {least}, is less than what tor observed it carry."),
            "Raise BandwidthBurst or RelayBandwidthBurst in torrc, if more may be used.",
        )
    })
}

/// Its speed, compared with others.
fn of_ratio(steps: &Explanation) -> Advice {
    let ratio = steps.ratio;
    if ratio < 0.8 {
        Advice::new(
            format!("It was measured at {ratio:.2} times the mean of all relays."),
            "Less spare capacity than others have: the processor is busy (tor uses one core for most of its \
             work), the link is full or lossy, or too many clients come for its size. The weight falls until \
             it fits.",
        )
    } else {
        Advice::new(
            format!("It was measured at {ratio:.2} times the mean of all relays."),
            "Nothing: it carries what it promises.",
        )
    }
}

/// Frequent failures.
fn of_failures(relay: &Relay) -> Option<Advice> {
    let share = relay.charged as f64 / relay.attempts.max(1) as f64;
    if share < FAILURES {
        return None;
    }
    let newest = relay
        .failed
        .iter()
        .rev()
        .find(|attempt| attempt.verdict.is_charged())?;
    let failed = newest.result.as_ref().err()?;
    Some(Advice::new(
        format!(
            "{} of the attempts at it failed, the newest at the stage “{}”.",
            percent(share),
            failed.stage
        ),
        of_stage(failed.stage),
    ))
}

/// The probable cause of a failure at a stage.
const fn of_stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Path => "Nothing: no other relay could help with the measurement.",
        Stage::Channel => {
            "Look whether its ORPort is reachable from outside, and whether a firewall drops connections."
        }
        Stage::Create | Stage::Extend => {
            "Look at the load of the processor, at the limit of open files, and in tor's log for \
             dropped circuits."
        }
        Stage::Begin => "Look at its exit policy, and whether its DNS resolver answers.",
        Stage::Tls | Stage::Http => "Look at its connection to the web: firewall, proxy, MTU.",
        _ => "Look for packet loss and for a limit that stops traffic, such as AccountingMax.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_and_stage_has_a_remedy() {
        for reason in [
            Reason::Authority,
            Reason::NotTried,
            Reason::NoDescriptor,
            Reason::NoRate,
        ] {
            let advice = of_reason(&reason);
            assert!(advice.finding.contains(&reason.to_string()));
            assert!(!advice.remedy.is_empty());
        }
        assert_ne!(of_stage(Stage::Channel), of_stage(Stage::Begin));
    }
}
