//! A result of sbws: one line of JSON, and what it is as an outcome.

use std::borrow::Cow;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use bw_aggregate::ErrorClass;
use bw_file::{BytesPerSecond, Ed25519Identity, Fingerprint, KilobytesPerSecond};
use bw_results::text::printable;
use bw_results::{
    Attempt, Blame, DescriptorFacts, Failure, FailureKind, Measurement, Outcome, Position, Slice,
    Stage, StopReason, TargetFacts, Timings, Transfer, UnixMillis,
};
use bw_store::Supplement;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::times::{self, Times, format_iso};

/// The version of result lines that is read; every sbws since 0.5 writes it.
const VERSION: u64 = 4;

/// The bandwidth that tor takes for no limit.
const UNLIMITED: BytesPerSecond = BytesPerSecond::new(2_147_483_647);

/// The longest nickname that tor allows.
const NICKNAME_LIMIT: usize = 19;

/// The name of a scanner that did not say its own: sbws forgets it in some errors.
const UNNAMED: &str = "sbws";

/// One result of sbws, with everything that its line says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ResultLine {
    /// The relay that was to be measured.
    pub fingerprint: Fingerprint,
    /// The scanner's name; never empty.
    pub scanner: String,
    /// The relays of the circuit, in order.
    pub circuit: Vec<Fingerprint>,
    /// The URL of the web server.
    pub destination: String,
    /// The problem, in words.
    pub message: String,
    /// The rest, which sbws's bandwidth files are made of.
    pub facts: Facts,
}

/// The part of a result that sbws's bandwidth files are made of. An [`Outcome`] rounds
/// some of it and has no place for the rest; here all is exact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Facts {
    /// Its type.
    pub kind: Kind,
    /// End of the measurement, in Unix seconds.
    pub time: f64,
    /// Nickname.
    pub nickname: String,
    /// Address.
    pub address: Option<IpAddr>,
    /// Ed25519 identity.
    pub ed25519: Option<Ed25519Identity>,
    /// The downloads, in order.
    pub downloads: Vec<Download>,
    /// Round-trip times in seconds; none since 1.6.0.
    pub rtts: Option<Vec<f64>>,
    /// `relay_average_bandwidth`, in bytes per second.
    pub average: Option<u64>,
    /// `relay_burst_bandwidth`, in bytes per second.
    pub burst: Option<u64>,
    /// `relay_observed_bandwidth`, in bytes per second.
    pub observed: Option<u64>,
    /// `consensus_bandwidth`, in bytes per second.
    pub consensus_bandwidth: Option<u64>,
    /// `consensus_bandwidth_is_unmeasured`.
    pub unmeasured: Option<bool>,
    /// `relay_in_recent_consensus`.
    pub in_recent_consensus: Times,
    /// `relay_recent_measurement_attempt`.
    pub attempts: Times,
    /// `relay_recent_priority_list`.
    pub priority_lists: Times,
    /// `xoff_recv`, since 1.6.0.
    pub xoff_received: Times,
    /// `xoff_sent`, since 1.6.0.
    pub xoff_sent: Times,
}

/// First byte of the form in which stores keep them.
const FORM: u8 = 1;

impl Supplement for Facts {
    fn to_bytes(&self) -> io::Result<Option<Vec<u8>>> {
        postcard::to_extend(self, vec![FORM])
            .map(Some)
            .map_err(io::Error::other)
    }

    fn from_bytes(bytes: &[u8]) -> io::Result<Option<Self>> {
        match bytes.split_first() {
            Some((&FORM, facts)) => postcard::from_bytes(facts)
                .map(Some)
                .map_err(io::Error::other),
            _ => Err(io::Error::other("facts of sbws in an unknown encoding")),
        }
    }
}

/// One download.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Download {
    /// The time that it took, in seconds.
    pub duration: f64,
    /// The number of bytes.
    pub amount: u64,
}

impl Download {
    /// Bytes per second; `None` if it took no time.
    pub fn rate(&self) -> Option<f64> {
        (self.duration > 0.0).then(|| self.amount as f64 / self.duration)
    }
}

/// The type of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// `success`
    Success,
    /// `error-misc`
    Misc,
    /// `error-circ`
    Circuit,
    /// `error-stream`
    Stream,
    /// `error-second-relay`
    SecondRelay,
    /// `error-auth`
    Auth,
    /// `error-destination`, which sbws knows but cannot read
    Destination,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Success,
        Self::Misc,
        Self::Circuit,
        Self::Stream,
        Self::SecondRelay,
        Self::Auth,
        Self::Destination,
    ];

    /// Its name in result lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Misc => "error-misc",
            Self::Circuit => "error-circ",
            Self::Stream => "error-stream",
            Self::SecondRelay => "error-second-relay",
            Self::Auth => "error-auth",
            Self::Destination => "error-destination",
        }
    }

    /// The type with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The type that sbws gives to such a failure.
    pub const fn of_failure(stage: Stage, kind: FailureKind) -> Self {
        match ErrorClass::of(stage, kind) {
            ErrorClass::Circuit => Self::Circuit,
            ErrorClass::Destination => Self::Destination,
            ErrorClass::SecondRelay => Self::SecondRelay,
            ErrorClass::Stream => Self::Stream,
            _ => Self::Misc,
        }
    }

    /// Stage, kind and blame of a failure of this type; `None` for a success.
    const fn failure(self) -> Option<(Stage, FailureKind, Blame)> {
        match self {
            Self::Success => None,
            Self::Auth => Some((Stage::Content, FailureKind::Content, Blame::Path)),
            Self::Circuit => Some((Stage::Extend, FailureKind::Closed, Blame::Path)),
            Self::Destination => {
                Some((Stage::Path, FailureKind::NoDestination, Blame::Destination))
            }
            Self::Misc => Some((Stage::Path, FailureKind::Local, Blame::Scanner)),
            Self::SecondRelay => Some((Stage::Path, FailureKind::NoHelper, Blame::Scanner)),
            Self::Stream => Some((Stage::Http, FailureKind::Closed, Blame::Path)),
        }
    }
}

/// The reason why a line is no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// It is not JSON, lacks what a result must have, or has impossible values.
    #[error("{0}")]
    Line(String),
    /// Its type is not known.
    #[error("a result of unknown type {0:?}")]
    Type(String),
    /// It has another version than 4.
    #[error("a result of version {0}, not 4")]
    Version(u64),
}

/// A line, as far as it is read.
#[derive(Debug, Deserialize)]
struct Line<'a> {
    version: u64,
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    time: f64,
    fingerprint: Fingerprint,
    #[serde(borrow, default)]
    nickname: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    address: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    master_key_ed25519: Option<Cow<'a, str>>,
    #[serde(default)]
    circ: Option<Vec<Fingerprint>>,
    #[serde(borrow, default)]
    dest_url: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    scanner: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    msg: Option<Cow<'a, str>>,
    #[serde(default)]
    downloads: Option<Vec<Download>>,
    #[serde(default)]
    rtts: Option<Vec<f64>>,
    #[serde(default)]
    relay_average_bandwidth: Option<u64>,
    #[serde(default)]
    relay_burst_bandwidth: Option<u64>,
    #[serde(default)]
    relay_observed_bandwidth: Option<u64>,
    #[serde(default)]
    consensus_bandwidth: Option<u64>,
    #[serde(default)]
    consensus_bandwidth_is_unmeasured: Option<bool>,
    #[serde(default, deserialize_with = "times::from_line")]
    relay_in_recent_consensus: Times,
    #[serde(default, deserialize_with = "times::from_line")]
    relay_recent_measurement_attempt: Times,
    #[serde(default, deserialize_with = "times::from_line")]
    relay_recent_priority_list: Times,
    #[serde(default, deserialize_with = "times::from_line")]
    xoff_recv: Times,
    #[serde(default, deserialize_with = "times::from_line")]
    xoff_sent: Times,
}

impl ResultLine {
    /// Reads a line.
    ///
    /// # Errors
    /// If it is no result of version 4.
    pub fn parse(text: &[u8]) -> Result<Self, LineError> {
        #[derive(Deserialize)]
        struct Version {
            version: u64,
        }
        let line: Line<'_> = serde_json::from_slice(text).map_err(|error| {
            // A result of another version need not have our fields.
            match serde_json::from_slice(text) {
                Ok(Version { version }) if version != VERSION => LineError::Version(version),
                _ => LineError::Line(error.to_string()),
            }
        })?;
        Self::from_line(line)
    }

    fn from_line(line: Line<'_>) -> Result<Self, LineError> {
        let bad = |text: String| Err(LineError::Line(text));
        if line.version != VERSION {
            return Err(LineError::Version(line.version));
        }
        let Some(kind) = Kind::from_name(&line.r#type) else {
            return Err(LineError::Type(line.r#type.into_owned()));
        };
        if seconds(line.time).is_none() {
            return bad(format!("impossible time {}", line.time));
        }
        let downloads = line.downloads.unwrap_or_default();
        if let Some(wrong) = downloads.iter().find(|one| seconds(one.duration).is_none()) {
            return bad(format!("impossible duration {}", wrong.duration));
        }
        let nickname = line.nickname.unwrap_or_default();
        let letters = nickname.bytes().all(|byte| byte.is_ascii_alphanumeric());
        // It goes into bandwidth files, where a space would begin another key.
        if !letters || nickname.len() > NICKNAME_LIMIT {
            return bad(format!("impossible nickname {nickname:?}"));
        }
        let text =
            |text: Option<Cow<'_, str>>| text.map(|text| printable(&text)).unwrap_or_default();
        let key = line.master_key_ed25519.as_deref();
        let key = key.and_then(|text| Ed25519Identity::parse(text.as_bytes()).ok());
        Ok(Self {
            fingerprint: line.fingerprint,
            scanner: match line.scanner {
                Some(name) if !name.is_empty() => printable(&name),
                _ => UNNAMED.to_owned(),
            },
            circuit: line.circ.unwrap_or_default(),
            destination: text(line.dest_url),
            message: text(line.msg),
            facts: Facts {
                kind,
                time: line.time,
                nickname: nickname.into_owned(),
                address: line.address.and_then(|text| text.parse().ok()),
                ed25519: key,
                downloads,
                rtts: line.rtts,
                average: line.relay_average_bandwidth,
                burst: line.relay_burst_bandwidth,
                observed: line.relay_observed_bandwidth,
                consensus_bandwidth: line.consensus_bandwidth,
                unmeasured: line.consensus_bandwidth_is_unmeasured,
                in_recent_consensus: line.relay_in_recent_consensus,
                attempts: line.relay_recent_measurement_attempt,
                priority_lists: line.relay_recent_priority_list,
                xoff_received: line.xoff_recv,
                xoff_sent: line.xoff_sent,
            },
        })
    }

    /// The line, as sbws 1.5.2 writes it and every sbws reads it.
    ///
    /// An `error-destination`, which sbws cannot read, becomes the
    /// `error-second-relay` that sbws writes in its place.
    pub fn to_line(&self) -> String {
        let facts = &self.facts;
        let times = |list: &Times| -> Value { list.iter().map(format_iso).collect() };
        let kind = match facts.kind {
            Kind::Destination => Kind::SecondRelay,
            kind => kind,
        };
        let mut line = json!({
            "version": VERSION,
            "type": kind.as_str(),
            "time": facts.time,
            "fingerprint": self.fingerprint,
            "nickname": facts.nickname,
            "address": facts.address.map_or_else(String::new, |address| address.to_string()),
            "master_key_ed25519": facts.ed25519,
            "circ": self.circuit,
            "dest_url": self.destination,
            "scanner": self.scanner,
            "relay_in_recent_consensus": times(&facts.in_recent_consensus),
            "relay_recent_measurement_attempt": times(&facts.attempts),
            "relay_recent_priority_list": times(&facts.priority_lists),
            "xoff_recv": times(&facts.xoff_received),
            "xoff_sent": times(&facts.xoff_sent),
        });
        let rest = if kind == Kind::Success {
            json!({
                "rtts": facts.rtts,
                "downloads": facts.downloads,
                "relay_average_bandwidth": facts.average,
                "relay_burst_bandwidth": facts.burst,
                "relay_observed_bandwidth": facts.observed,
                "consensus_bandwidth": facts.consensus_bandwidth,
                "consensus_bandwidth_is_unmeasured": facts.unmeasured,
            })
        } else {
            json!({ "msg": self.message })
        };
        if let (Value::Object(line), Value::Object(rest)) = (&mut line, rest) {
            line.extend(rest);
        }
        line.to_string()
    }

    /// The end of the measurement.
    pub fn ended(&self) -> UnixMillis {
        seconds(self.facts.time)
            .map(|time| UnixMillis::default().after(time))
            .unwrap_or_default()
    }

    /// The result as an outcome. Durations are rounded to microseconds.
    pub fn to_outcome(&self) -> Outcome {
        let facts = &self.facts;
        let ended = self.ended();
        let transfers: Vec<Transfer> = facts
            .downloads
            .iter()
            .map(|download| {
                let duration = seconds(download.duration).unwrap_or_default();
                let slices = vec![Slice::new(duration, download.amount)];
                Transfer::new(slices, 0, StopReason::Complete)
            })
            .collect();
        let took = transfers.iter().map(Transfer::duration).sum();
        let attempt = self.to_attempt(ended.before(took));
        match facts.kind.failure() {
            None => {
                let timings = Timings::default();
                Outcome::Measured(Measurement::new(attempt, ended, timings, transfers))
            }
            Some((stage, kind, blame)) => {
                let detail = self.message.as_str();
                Outcome::Failed(Failure::new(attempt, ended, stage, kind, blame, detail))
            }
        }
    }

    fn to_attempt(&self, started: UnixMillis) -> Attempt {
        let facts = &self.facts;
        let mut target = TargetFacts::new(self.fingerprint);
        target.nickname.clone_from(&facts.nickname);
        target.address = facts.address;
        target.ed25519 = facts.ed25519;
        target.consensus_weight = facts
            .consensus_bandwidth
            .map(|bytes| KilobytesPerSecond::new(bytes / 1000));
        target.unmeasured = facts.unmeasured;
        // What is not known limits nothing; without an observed bandwidth
        // there is nothing to limit.
        let limit = |value: Option<u64>| value.map_or(UNLIMITED, BytesPerSecond::new);
        target.descriptor = facts.observed.map(|observed| {
            DescriptorFacts::new(
                UnixMillis::default(),
                limit(facts.average),
                limit(facts.burst),
                BytesPerSecond::new(observed),
            )
        });
        let position = match self.circuit.first() {
            Some(first) if *first != self.fingerprint => Position::Exit,
            _ => Position::Entry,
        };
        let mut attempt = Attempt::new(target, position, started);
        let others = self.circuit.iter();
        attempt.helpers = others
            .filter(|relay| **relay != self.fingerprint)
            .copied()
            .collect();
        attempt.destination.clone_from(&self.destination);
        attempt
    }

    /// An outcome as a result; with `facts` if sbws had said more of it.
    ///
    /// Of an outcome of our own, a download is what counts of a transfer, and
    /// it counts as one attempt of one priority list in one consensus.
    pub fn from_outcome(scanner: &str, outcome: &Outcome, facts: Option<Facts>) -> Self {
        let attempt = outcome.attempt();
        let target = attempt.target.fingerprint;
        let message = match outcome {
            Outcome::Measured(_) => String::new(),
            Outcome::Failed(failure) => failure.detail.clone(),
        };
        let mut circuit = attempt.helpers.clone();
        if !circuit.is_empty() {
            let place = match attempt.position {
                Position::Entry => 0,
                _ => circuit.len(),
            };
            circuit.insert(place, target);
        }
        Self {
            fingerprint: target,
            scanner: scanner.to_owned(),
            circuit,
            destination: attempt.destination.clone(),
            message,
            facts: facts.unwrap_or_else(|| Facts::of_outcome(outcome)),
        }
    }
}

impl Facts {
    /// The facts of one of our own outcomes.
    pub(crate) fn of_outcome(outcome: &Outcome) -> Self {
        let attempt = outcome.attempt();
        let target = &attempt.target;
        let (kind, downloads) = match outcome {
            Outcome::Measured(measurement) => {
                let transfers = measurement.transfers.iter();
                let downloads = transfers.map(|transfer| {
                    let counted = Slice::merged(transfer.counted());
                    Download {
                        duration: counted.micros as f64 / 1e6,
                        amount: counted.bytes,
                    }
                });
                let downloads = downloads.filter(|download| download.rate().is_some());
                (Kind::Success, downloads.collect())
            }
            Outcome::Failed(failure) => (Kind::of_failure(failure.stage, failure.kind), Vec::new()),
        };
        let once = Times::new([attempt.started.as_secs()]);
        // Of a failure, sbws says nothing but who and when.
        let success = kind == Kind::Success;
        let descriptor = target.descriptor.filter(|_| success);
        let weight = target.consensus_weight.filter(|_| success);
        Self {
            kind,
            time: outcome.ended().value() as f64 / 1000.0,
            nickname: target.nickname.clone(),
            address: target.address,
            ed25519: target.ed25519,
            downloads,
            rtts: None,
            average: descriptor.map(|facts| facts.average.value()),
            burst: descriptor.map(|facts| facts.burst.value()),
            observed: descriptor.map(|facts| facts.observed.value()),
            consensus_bandwidth: weight.map(|kb| kb.to_bytes().value()),
            unmeasured: target.unmeasured.filter(|_| success),
            in_recent_consensus: once.clone(),
            attempts: once.clone(),
            priority_lists: once,
            xoff_received: Times::default(),
            xoff_sent: Times::default(),
        }
    }
}

/// A number of seconds that makes sense: not negative, less than 10,000 years.
fn seconds(value: f64) -> Option<Duration> {
    (0.0..=2.5e11)
        .contains(&value)
        .then(|| Duration::try_from_secs_f64(value).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use bw_results::testing::{failed, measured};

    #[test]
    fn a_line_is_read_as_written() {
        for outcome in [measured(1, 1_790_000_000_000), failed(2, 1_790_000_000_000)] {
            let result = ResultLine::from_outcome("here", &outcome, None);
            let line = result.to_line();
            assert_eq!(
                ResultLine::parse(line.as_bytes()).unwrap(),
                result,
                "{line}"
            );
            // What an outcome does not say stays as it was.
            let mut facts = result.facts.clone();
            facts.rtts = Some(vec![0.25]);
            facts.xoff_sent = Times::new([5, 6]);
            let again = ResultLine::from_outcome("here", &result.to_outcome(), Some(facts.clone()));
            assert_eq!(again.facts, facts);
            assert_eq!(again.circuit, result.circuit);
        }
    }

    #[test]
    fn what_could_forge_a_line_of_a_bandwidth_file_is_refused() {
        let good = ResultLine::from_outcome("here", &measured(1, 5), None).to_line();
        let mut value: Value = serde_json::from_str(&good).unwrap();
        for nickname in ["a bw=5", "a\nbw=5", "12345678901234567890", "ü"] {
            value["nickname"] = nickname.into();
            let error = ResultLine::parse(value.to_string().as_bytes()).unwrap_err();
            assert!(error.to_string().contains("nickname"), "{error}");
        }
    }

    #[test]
    fn sums_of_slices_do_not_wrap() {
        let Outcome::Measured(mut measurement) = measured(1, 5) else {
            unreachable!()
        };
        let slices = vec![Slice::new(Duration::from_secs(1), 1 << 63); 2];
        measurement.transfers = vec![Transfer::new(slices, 0, StopReason::Complete)];
        let outcome = Outcome::Measured(measurement);
        let facts = ResultLine::from_outcome("here", &outcome, None).facts;
        assert_eq!(facts.downloads[0].amount, u64::MAX);
    }

    #[test]
    fn a_destination_error_becomes_one_that_sbws_reads() {
        let mut result = ResultLine::from_outcome("here", &failed(1, 5), None);
        result.facts.kind = Kind::Destination;
        assert!(result.to_line().contains("error-second-relay"));
    }
}
