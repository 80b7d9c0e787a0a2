//! The events of a scan, as one line of JSON each.

use bw_file::{BytesPerSecond, Fingerprint};
use bw_measure::{Change, Event, RoundReport};
use bw_results::{
    Attempt, Blame, FailureKind, Outcome, Position, ScanId, Stage, UnixMillis, Verdict,
};
use serde::{Deserialize, Serialize};

use crate::State;

/// An event of a scan, as `bwscan scan --json` and the socket of a scanner show it:
/// `{"event": "measured", …}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ScanEvent {
    /// The scan begins, with so many relays to measure; or more come.
    Started {
        /// Relays without an outcome.
        targets: u64,
    },
    /// The network changed, or is seen for the first time.
    Network {
        /// Relays in the consensus.
        relays: u64,
    },
    /// An attempt begins.
    Attempt(AttemptFacts),
    /// Payload is coming.
    Progress {
        /// The relay that is measured.
        fingerprint: Fingerprint,
        /// Bytes so far.
        bytes: u64,
    },
    /// A relay's rate so far.
    Estimate {
        /// The relay that is measured.
        fingerprint: Fingerprint,
        /// Bytes per second; absent as long as nothing counts.
        bandwidth: Option<f64>,
        /// Half the width of the rate's interval, in bytes per second; absent if it is
        /// not known yet.
        half_width: Option<f64>,
        /// The bytes that each helper's circuit has brought.
        helpers: Vec<HelperBytes>,
    },
    /// A relay was measured.
    Measured {
        /// The attempt.
        #[serde(flatten)]
        attempt: AttemptFacts,
        /// Bytes per second.
        bandwidth: Option<f64>,
        /// Payload bytes.
        bytes: u64,
        /// Seconds.
        duration: f64,
        /// The share of that in which the link withheld something.
        throttled: f64,
        /// The party that bounded the rate, if that is a fact.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bound: Option<Blame>,
        /// The rate that the helpers were expected to carry, in bytes per second.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offered: Option<u64>,
        /// The verdict on the record.
        verdict: Verdict,
        /// The relay is done with in this scan.
        settled: bool,
    },
    /// An attempt failed.
    Failed {
        /// The attempt.
        #[serde(flatten)]
        attempt: AttemptFacts,
        /// The stage that it reached.
        stage: Stage,
        /// The kind of failure.
        kind: FailureKind,
        /// The party that it is laid to.
        blame: Blame,
        /// The failure in words.
        detail: String,
        /// The verdict on the record.
        verdict: Verdict,
        /// The relay is done with in this scan.
        settled: bool,
    },
    /// An attempt ended that only had to show whether anything works.
    Control {
        /// The relay that was tried.
        fingerprint: Fingerprint,
    },
    /// Something that all measurements need was lost, or came back.
    Changed {
        /// The change, as `destination_down`.
        change: String,
        /// The same in words.
        detail: String,
        /// The destination that it is about.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        destination: Option<String>,
    },
    /// A round goes on that an earlier process, or an earlier try, began.
    Resumed(RoundFacts),
    /// A round ended, or stops with relays left.
    Round {
        /// Its progress.
        #[serde(flatten)]
        round: RoundFacts,
        /// No relay is left.
        completed: bool,
    },
    /// The next round begins after this time.
    NextRound {
        /// The time.
        seconds: u64,
    },
    /// The rounds wait for what stopped them to pass.
    Waiting {
        /// The error that stopped them.
        reason: String,
        /// The time until they try again.
        seconds: u64,
    },
    /// Something that is not part of a scan, such as reaching the network.
    Said {
        /// In words.
        text: String,
    },
    /// A second has passed.
    Tick,
    /// All that the events before add up to, for those who come later.
    Snapshot {
        /// The state.
        state: Box<State>,
    },
}

/// An attempt to measure a relay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AttemptFacts {
    /// The relay.
    pub fingerprint: Fingerprint,
    /// Its nickname, as the relay chose it.
    pub nickname: String,
    /// Its position in the circuit.
    pub position: Position,
    /// The relays that help.
    pub helpers: Vec<Fingerprint>,
    /// Their nicknames, in the same order, where these are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub helper_names: Vec<String>,
    /// The web server.
    pub destination: String,
    /// When it began.
    pub started: UnixMillis,
}

/// The progress of a round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RoundFacts {
    /// The round's scan.
    pub scan: ScanId,
    /// Relays measured.
    pub measured: u64,
    /// Relays given up.
    pub failed: u64,
    /// Relays that are not settled.
    pub left: u64,
    /// Payload bytes.
    pub bytes: u64,
}

/// The bytes that a helper's circuit has brought.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HelperBytes {
    /// The helper.
    pub fingerprint: Fingerprint,
    /// Its nickname, if it is known.
    #[serde(default)]
    pub nickname: String,
    /// Bytes so far.
    pub bytes: u64,
}

impl HelperBytes {
    pub(crate) const fn new(fingerprint: Fingerprint, bytes: u64) -> Self {
        Self {
            fingerprint,
            nickname: String::new(),
            bytes,
        }
    }
}

impl From<&Attempt> for AttemptFacts {
    fn from(attempt: &Attempt) -> Self {
        Self {
            fingerprint: attempt.target.fingerprint,
            nickname: attempt.target.nickname.clone(),
            position: attempt.position,
            helpers: attempt.helpers.clone(),
            helper_names: Vec::new(),
            destination: attempt.destination.clone(),
            started: attempt.started,
        }
    }
}

impl From<&RoundReport> for RoundFacts {
    fn from(round: &RoundReport) -> Self {
        Self {
            scan: round.scan,
            measured: round.measured as u64,
            failed: round.failed as u64,
            left: round.left as u64,
            bytes: round.bytes,
        }
    }
}

impl ScanEvent {
    /// The event's form for others; `None` of one that is not known here.
    pub fn new(event: &Event<'_>) -> Option<Self> {
        Some(match *event {
            Event::Started { targets } => Self::Started {
                targets: targets as u64,
            },
            Event::Network(network) => Self::Network {
                relays: network.relays.len() as u64,
            },
            Event::Attempt(attempt) => Self::Attempt(attempt.into()),
            Event::Progress { attempt, bytes } => Self::Progress {
                fingerprint: attempt.target.fingerprint,
                bytes,
            },
            Event::Estimate {
                attempt,
                estimate,
                helpers,
            } => Self::Estimate {
                fingerprint: attempt.target.fingerprint,
                bandwidth: estimate.map(|estimate| estimate.rate),
                half_width: estimate
                    .map(|estimate| estimate.half_width)
                    .filter(|width| width.is_finite()),
                helpers: helpers
                    .iter()
                    .map(|&(helper, bytes)| HelperBytes::new(helper, bytes))
                    .collect(),
            },
            Event::Ended(completion) => {
                Self::ended(&completion.outcome, completion.verdict, completion.settled)
            }
            Event::Control(outcome) => Self::Control {
                fingerprint: outcome.attempt().target.fingerprint,
            },
            Event::Changed(change) => Self::changed(change)?,
            Event::Resumed(round) => Self::Resumed(round.into()),
            Event::Round(round) => Self::Round {
                round: round.into(),
                completed: round.left == 0,
            },
            Event::NextRound(time) => Self::NextRound {
                seconds: time.as_secs(),
            },
            Event::Waiting { reason, retry } => Self::Waiting {
                reason: reason.to_string(),
                seconds: retry.as_secs(),
            },
            _ => return None,
        })
    }

    /// Returns whether it tells of an attempt under way, many times a second.
    pub const fn is_frequent(&self) -> bool {
        matches!(
            self,
            Self::Attempt(_) | Self::Progress { .. } | Self::Estimate { .. } | Self::Tick
        )
    }

    fn ended(outcome: &Outcome, verdict: Verdict, settled: bool) -> Self {
        let attempt = outcome.attempt().into();
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
                bound: measurement.bound(),
                offered: measurement.offered.map(BytesPerSecond::value),
                verdict,
                settled,
            },
            Outcome::Failed(failure) => Self::Failed {
                attempt,
                stage: failure.stage,
                kind: failure.kind,
                blame: failure.blame,
                detail: failure.detail.clone(),
                verdict,
                settled,
            },
        }
    }

    fn changed(change: &Change) -> Option<Self> {
        let mut destination = None;
        let (name, detail) = match change {
            Change::DestinationDown(url) => {
                destination = Some(url.to_string());
                (
                    "destination_down",
                    format!(
                        "destination {url} fails while another works; it is left alone for a while"
                    ),
                )
            }
            Change::DestinationUp(url) => {
                destination = Some(url.to_string());
                ("destination_up", format!("destination {url} works again"))
            }
            Change::NothingWorks { suspect, detail } => (
                "nothing_works",
                format!("nothing can be measured, by fault of the {suspect}: {detail}; waiting"),
            ),
            Change::WorksAgain => ("works_again", "measuring again".to_owned()),
            Change::DirectoryLost(detail) => (
                "directory_lost",
                format!("no new consensus, going on with the last one: {detail}"),
            ),
            Change::DirectoryBack => ("directory_back", "there is a new consensus".to_owned()),
            _ => return None,
        };
        Some(Self::Changed {
            change: name.to_owned(),
            detail,
            destination,
        })
    }
}
