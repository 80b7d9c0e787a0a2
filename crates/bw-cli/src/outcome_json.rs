//! An outcome as `scan --json` shows it: one line, no samples.

use bw_results::Outcome;
use serde::Serialize;

/// What came of one attempt.
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
    },
    /// An attempt failed.
    Failed {
        #[serde(flatten)]
        attempt: AttemptPart<'a>,
        stage: &'static str,
        kind: &'static str,
        blame: &'static str,
        detail: &'a str,
        /// Whether the relay is given up for this scan.
        settled: bool,
    },
}

/// What both have in common.
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
    pub(crate) fn new(outcome: &'a Outcome, settled: bool) -> Self {
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
            },
            Outcome::Failed(failure) => Self::Failed {
                attempt,
                stage: failure.stage.as_str(),
                kind: failure.kind.as_str(),
                blame: failure.blame.as_str(),
                detail: &failure.detail,
                settled,
            },
        }
    }
}
