//! An outcome as `scan --json` shows it: one line, no samples.

use bw_file::BytesPerSecond;
use bw_results::{Blame, Outcome, Verdict};
use serde::Serialize;

/// The outcome of one attempt.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum OutcomeLine<'a> {
    /// A relay was measured.
    Measured {
        #[serde(flatten)]
        attempt: AttemptPart<'a>,
        /// Bytes per second.
        bandwidth: Option<f64>,
        bytes: u64,
        /// Seconds.
        duration: f64,
        /// The share of that in which the link withheld something.
        throttled: f64,
        /// The party that bounded the rate, if that is a fact.
        #[serde(skip_serializing_if = "Option::is_none")]
        bound: Option<&'static str>,
        /// The rate that the helpers were expected to carry, in bytes per second.
        #[serde(skip_serializing_if = "Option::is_none")]
        offered: Option<u64>,
        verdict: Verdict,
        settled: bool,
    },
    /// An attempt failed.
    Failed {
        #[serde(flatten)]
        attempt: AttemptPart<'a>,
        stage: &'static str,
        kind: &'static str,
        blame: &'static str,
        detail: &'a str,
        verdict: Verdict,
        /// The relay is done with in this scan.
        settled: bool,
    },
}

/// The fields that both have.
#[derive(Debug, Serialize)]
pub(crate) struct AttemptPart<'a> {
    fingerprint: String,
    nickname: &'a str,
    position: &'static str,
    helpers: Vec<String>,
    destination: &'a str,
    /// Milliseconds since the Unix epoch.
    started: u64,
}

impl<'a> OutcomeLine<'a> {
    pub(crate) fn new(outcome: &'a Outcome, verdict: Verdict, settled: bool) -> Self {
        let tried = outcome.attempt();
        let attempt = AttemptPart {
            fingerprint: tried.target.fingerprint.to_string(),
            nickname: &tried.target.nickname,
            position: tried.position.as_str(),
            helpers: tried.helpers.iter().map(ToString::to_string).collect(),
            destination: &tried.destination,
            started: tried.started.value(),
        };
        match outcome {
            Outcome::Measured(measurement) => Self::Measured {
                attempt,
                bandwidth: measurement.rates().next(),
                bytes: measurement.bytes(),
                duration: measurement
                    .transfers
                    .iter()
                    .map(|transfer| transfer.duration().as_secs_f64())
                    .sum(),
                throttled: measurement.throttled_share(),
                bound: measurement.bound().map(Blame::as_str),
                offered: measurement.offered.map(BytesPerSecond::value),
                verdict,
                settled,
            },
            Outcome::Failed(failure) => Self::Failed {
                attempt,
                stage: failure.stage.as_str(),
                kind: failure.kind.as_str(),
                blame: failure.blame.as_str(),
                detail: &failure.detail,
                verdict,
                settled,
            },
        }
    }
}
