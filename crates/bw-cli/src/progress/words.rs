//! Events in words, for all forms that people read.

use std::time::{Duration, SystemTime};

use bw_measure::{Completion, Event, RoundReport};
use bw_results::{Measurement, Outcome, Verdict};
use bw_watch::ScanEvent;
use bw_watch::text::time;

use crate::text::{format_utc, kilobytes, size};

/// The news that every form tells people: something that all measurements need was lost or came
/// back, or rounds wait for it.
pub(super) fn notice(event: &Event<'_>) -> Option<String> {
    match event {
        Event::Waiting { reason, retry } => {
            Some(format!("{reason}; next try in {}", time(retry.as_secs())))
        }
        Event::Changed(_) => match ScanEvent::new(event)? {
            ScanEvent::Changed { detail, .. } => Some(detail),
            _ => None,
        },
        _ => None,
    }
}

/// A round goes on, of which a part was done before.
pub(super) fn resumed(round: &RoundReport) -> String {
    let (done, id) = (round.measured + round.failed, round.scan.to_string());
    format!(
        "resuming scan {}: {done} of {} relays are done",
        id.get(..8).unwrap_or(&id),
        done + round.left
    )
}

/// The time of the next round; none if it begins now.
pub(super) fn next_round(wait: Duration) -> Option<String> {
    let at = || format_utc((SystemTime::now() + wait).into(), "%H:%M:%S");
    (!wait.is_zero()).then(|| format!("next round at {} UTC", at()))
}

/// The result of a round, or of a part of it.
pub(super) fn round(round: &RoundReport) -> String {
    let (measured, failed, left) = (round.measured, round.failed, round.left);
    format!(
        "{measured} relays measured, {failed} failed, {left} left; {} received",
        size(round.bytes)
    )
}

/// The same at the end of a command, which says how to go on.
pub(super) fn last_round(report: &RoundReport) -> String {
    let rest = match report.left {
        0 => "",
        _ => "; the next \"bwscan scan\" goes on",
    };
    round(report) + rest
}

/// The result of one attempt.
pub(super) fn ended(completion: &Completion) -> String {
    let target = &completion.outcome.attempt().target;
    let result = match &completion.outcome {
        Outcome::Measured(measurement) => format!(
            "{} as {} ({})",
            rate(measurement, completion.verdict),
            measurement.attempt.position,
            size(measurement.bytes()),
        ),
        Outcome::Failed(failure) => {
            let failed = match completion.settled {
                true => "failed",
                false => "failed, will be tried again,",
            };
            let (stage, blame, detail) = (failure.stage, failure.blame, &failure.detail);
            format!("{failed} at stage {stage} ({blame}): {detail}")
        }
    };
    format!("{} {}: {result}", target.fingerprint, target.nickname)
}

/// The rate of a measurement: `2440 kB/s`.
fn rate(measurement: &Measurement, verdict: Verdict) -> String {
    let rate = kilobytes(measurement.rates().next().unwrap_or(0.0));
    match verdict {
        Verdict::LowerBound(by) => format!("at least {rate} kB/s, bounded by the {by},"),
        Verdict::Remeasure(reason) => {
            let reason = reason.as_str().replace('_', " ");
            format!("no rate ({reason}), will be tried again,")
        }
        _ => format!("{rate} kB/s"),
    }
}
