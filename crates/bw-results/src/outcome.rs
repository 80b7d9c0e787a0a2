//! The outcome of an attempt at measuring a relay: a measurement or a failure.

use std::net::IpAddr;
use std::time::Duration;

use bw_file::{BytesPerSecond, Ed25519Identity, Fingerprint, KilobytesPerSecond};
use serde::{Deserialize, Serialize};

use crate::{DescriptorFacts, RelayFacts, ScanId, UnixMillis};

/// One finished attempt at measuring a relay.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    clippy::exhaustive_enums,
    reason = "an attempt succeeds or fails; there is no third way"
)]
pub enum Outcome {
    /// The transfer was verified, and its samples are here. The judgement of them is
    /// a [`Verdict`](crate::Verdict).
    Measured(Measurement),
    /// It broke off, and no sample is left.
    Failed(Failure),
}

impl Outcome {
    /// The attempt.
    pub const fn attempt(&self) -> &Attempt {
        match self {
            Self::Measured(measurement) => &measurement.attempt,
            Self::Failed(failure) => &failure.attempt,
        }
    }

    /// The end of the attempt.
    pub const fn ended(&self) -> UnixMillis {
        match self {
            Self::Measured(measurement) => measurement.ended,
            Self::Failed(failure) => failure.ended,
        }
    }

    /// All payload bytes that came, counted or not.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Measured(measurement) => measurement.bytes(),
            Self::Failed(failure) => failure.bytes,
        }
    }
}

/// An attempt: the target, the way to it, and the facts that were known of it then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Attempt {
    /// The scan that it belongs to, where the record says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan: Option<ScanId>,
    /// The relay that was to be measured, with what scaling needs of it.
    pub target: TargetFacts,
    /// Its place in the circuit.
    pub position: Position,
    /// The other relays: one per circuit. Empty if none could be chosen.
    pub helpers: Vec<Fingerprint>,
    /// The URL of the web server. Empty if none could be chosen.
    pub destination: String,
    /// The direction of the payload.
    pub direction: Direction,
    /// The beginning.
    pub started: UnixMillis,
}

impl Attempt {
    /// An attempt at downloading through `target`, with neither scan, helper
    /// nor destination yet.
    pub fn new(target: TargetFacts, position: Position, started: UnixMillis) -> Self {
        Self {
            scan: None,
            target,
            position,
            helpers: Vec::new(),
            destination: String::new(),
            direction: Direction::Download,
            started,
        }
    }
}

/// The facts of a relay when it was measured. Scaling needs no more, so that a
/// measurement can be used without the snapshot of its day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TargetFacts {
    /// RSA identity.
    pub fingerprint: Fingerprint,
    /// Ed25519 identity, if it has one.
    pub ed25519: Option<Ed25519Identity>,
    /// Nickname.
    pub nickname: String,
    /// Address of its first OR port, if known.
    pub address: Option<IpAddr>,
    /// Consensus weight.
    pub consensus_weight: Option<KilobytesPerSecond>,
    /// `true` if the consensus called it unmeasured.
    pub unmeasured: Option<bool>,
    /// Rate, burst and observed bandwidth, if a descriptor was known.
    pub descriptor: Option<DescriptorFacts>,
}

impl TargetFacts {
    /// A relay of which only its fingerprint is known.
    pub const fn new(fingerprint: Fingerprint) -> Self {
        Self {
            fingerprint,
            ed25519: None,
            nickname: String::new(),
            address: None,
            consensus_weight: None,
            unmeasured: None,
            descriptor: None,
        }
    }
}

impl From<&RelayFacts> for TargetFacts {
    fn from(relay: &RelayFacts) -> Self {
        Self {
            fingerprint: relay.fingerprint,
            ed25519: relay.ed25519,
            nickname: relay.nickname.clone(),
            address: relay.address,
            consensus_weight: Some(relay.consensus_weight),
            unmeasured: Some(relay.unmeasured),
            descriptor: relay.descriptor,
        }
    }
}

/// The place of the target in the two-hop circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Position {
    /// First hop; the helper was the exit.
    Entry,
    /// Second hop; the helper was the entry.
    Exit,
}

/// The direction of the payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Direction {
    /// From the web server to the scanner.
    #[default]
    Download,
    /// From the scanner to the web server.
    Upload,
}

/// A verified transfer through a relay, with its raw samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Measurement {
    /// The attempt.
    pub attempt: Attempt,
    /// The time at which the last byte that counts had come.
    pub ended: UnixMillis,
    /// The duration of each stage before the transfer.
    pub timings: Timings,
    /// The transfers, in order of time. Ours have one; imported ones may have several.
    pub transfers: Vec<Transfer>,
    /// The rate that the scheduler expected the helpers to carry for this
    /// measurement when it ended, if a scheduler made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered: Option<BytesPerSecond>,
}

impl Measurement {
    /// A measurement made of `transfers`.
    pub const fn new(
        attempt: Attempt,
        ended: UnixMillis,
        timings: Timings,
        transfers: Vec<Transfer>,
    ) -> Self {
        Self {
            attempt,
            ended,
            timings,
            transfers,
            offered: None,
        }
    }

    /// The rate of each transfer that has one, in bytes per second.
    pub fn rates(&self) -> impl Iterator<Item = f64> + '_ {
        self.transfers.iter().filter_map(Transfer::rate)
    }

    /// All bytes received, the warm-up included.
    pub fn bytes(&self) -> u64 {
        total(self.transfers.iter().map(Transfer::bytes))
    }

    /// The share of its time in which the scanner's link withheld any flow,
    /// from 0 to 1.
    pub fn throttled_share(&self) -> f64 {
        let slices = || self.transfers.iter().flat_map(|transfer| &transfer.slices);
        let time = |slices: &mut dyn Iterator<Item = &Slice>| -> f64 {
            slices.map(|slice| slice.micros as f64).sum()
        };
        let throttled = time(&mut slices().filter(|slice| slice.is_throttled()));
        throttled / time(&mut slices()).max(1.0)
    }

    /// The one that bounded its rate, where that is a fact: the bound of the first
    /// transfer that has one.
    pub fn bound(&self) -> Option<Blame> {
        self.transfers.iter().find_map(|transfer| transfer.bound)
    }
}

/// The duration of each stage of an attempt; `None` where the stage was not reached,
/// is not part of the path (TLS over plain HTTP) or was not told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Timings {
    /// Opening (or finding) the channel to the first hop.
    pub channel: Option<Duration>,
    /// CREATE2 to CREATED2.
    pub create: Option<Duration>,
    /// EXTEND2 to EXTENDED2.
    pub extend: Option<Duration>,
    /// BEGIN to CONNECTED.
    pub begin: Option<Duration>,
    /// The TLS handshake with the web server.
    pub tls: Option<Duration>,
    /// Sending the request until the head of the response has come.
    pub response: Option<Duration>,
}

/// One timed transfer: bytes per slice of time, counted where they arrive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Transfer {
    /// The slices in order of time, without gaps.
    pub slices: Vec<Slice>,
    /// The number of first slices that are warm-up: kept, but left out of the rate.
    pub warm_up: usize,
    /// The number of last slices that are left out of the rate too.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cool_down: usize,
    /// The reason of its end.
    pub stop: StopReason,
    /// The one that bounded the rate of the counted slices, where that is a fact: the
    /// scanner (its link) or the destination (it said so).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<Blame>,
    /// The rate that the relay's own token bucket sustains, by its descriptor, if the counted
    /// slices are a burst above it: then the transfer ended before the burst did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sustains: Option<BytesPerSecond>,
}

/// Returns whether a value is its default, and so need not be written.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Bytes received in one slice of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Slice {
    /// Length in microseconds.
    #[serde(rename = "us")]
    pub micros: u64,
    /// Payload bytes received in it.
    #[serde(rename = "b")]
    pub bytes: u64,
    /// The number of flows from which the scanner's own link withheld reading
    /// in it, although data was there or allowed to come.
    #[serde(rename = "t", default, skip_serializing_if = "is_default")]
    pub throttled: u16,
}

impl Slice {
    /// `bytes` received in `duration`, nothing throttled; durations beyond
    /// 584,000 years saturate.
    pub fn new(duration: Duration, bytes: u64) -> Self {
        Self {
            micros: u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
            bytes,
            throttled: 0,
        }
    }

    /// The same slice, in which `flows` flows were throttled.
    #[must_use]
    pub const fn with_throttled(mut self, flows: u16) -> Self {
        self.throttled = flows;
        self
    }

    /// Returns whether the scanner's link withheld any flow in it.
    pub const fn is_throttled(&self) -> bool {
        self.throttled > 0
    }

    /// All of `slices` as one, throttled as much as the most throttled of them. Sums
    /// do not wrap, whatever a record says: they stay at the largest number.
    pub fn merged(slices: &[Self]) -> Self {
        Self {
            micros: total(slices.iter().map(|slice| slice.micros)),
            bytes: total(slices.iter().map(|slice| slice.bytes)),
            throttled: slices
                .iter()
                .map(|slice| slice.throttled)
                .max()
                .unwrap_or(0),
        }
    }

    /// Bytes per second over `slices`; `None` if they hold no time or no byte.
    pub fn rate_of(slices: &[Self]) -> Option<f64> {
        let Self { micros, bytes, .. } = Self::merged(slices);
        (bytes > 0 && micros > 0).then(|| bytes as f64 * 1e6 / micros as f64)
    }

    /// The same, but the first and the last 150 ms count less, from nothing at
    /// the very ends to all within (a trapezoidal window). tor refills token buckets each
    /// 100 ms, so that payload comes in bunches; whether one more of them falls into the
    /// slices then matters less. Plain [`rate_of`](Self::rate_of) if the slices
    /// are fewer than twelve or shorter than 600 ms in all.
    pub fn tapered_rate_of(slices: &[Self]) -> Option<f64> {
        const RAMP: f64 = 150_000.0;
        const FEWEST: usize = 12;
        let total: f64 = slices.iter().map(|slice| slice.micros as f64).sum();
        if slices.len() < FEWEST || total < 4.0 * RAMP {
            return Self::rate_of(slices);
        }
        // What the ramp takes away between an end and a moment `from` it.
        let lost = |from: f64| {
            let within = from.clamp(0.0, RAMP);
            within - within * within / (2.0 * RAMP)
        };
        let (mut begin, mut bytes, mut micros) = (0.0, 0.0, 0.0);
        for slice in slices {
            let length = slice.micros as f64;
            let end = begin + length;
            let counts =
                length - (lost(end) - lost(begin)) - (lost(total - begin) - lost(total - end));
            if length > 0.0 {
                bytes += slice.bytes as f64 * (counts / length);
                micros += counts;
            }
            begin = end;
        }
        (bytes > 0.0 && micros > 0.0).then(|| bytes * 1e6 / micros)
    }
}

impl Transfer {
    /// A transfer whose first `warm_up` slices are left out of its rate.
    pub const fn new(slices: Vec<Slice>, warm_up: usize, stop: StopReason) -> Self {
        Self {
            slices,
            warm_up,
            cool_down: 0,
            stop,
            bound: None,
            sustains: None,
        }
    }

    /// The same transfer, the counted rate of which `bound` bounded, if anybody.
    #[must_use]
    pub const fn bounded_by(mut self, bound: Option<Blame>) -> Self {
        self.bound = bound;
        self
    }

    /// The same transfer, the counted slices of which are a burst of a relay that sustains
    /// `rate`, if they are.
    #[must_use]
    pub const fn sustaining(mut self, rate: Option<BytesPerSecond>) -> Self {
        self.sustains = rate;
        self
    }

    /// The same transfer with its last `cool_down` slices left out of its rate.
    #[must_use]
    pub const fn ending_at(mut self, cool_down: usize) -> Self {
        self.cool_down = cool_down;
        self
    }

    /// The slices that count: all between warm-up and cool-down.
    pub fn counted(&self) -> &[Slice] {
        let end = self.slices.len().saturating_sub(self.cool_down);
        self.slices.get(self.warm_up..end).unwrap_or(&[])
    }

    /// The one that bounded its rate by the record itself: [`bound`](Self::bound), or
    /// the scanner if its link throttled slices that count, unless they are a burst.
    pub(crate) fn bounded_by_fact(&self) -> Option<Blame> {
        let throttled = self.sustains.is_none() && self.counted().iter().any(Slice::is_throttled);
        self.bound.or(throttled.then_some(Blame::Scanner))
    }

    /// Bytes per second over the slices that count, the ends of which count
    /// less ([`Slice::tapered_rate_of`]), whoever bounded it: bytes received
    /// over time, never bytes asked for. Of a burst, no more than the relay
    /// [`sustains`](Self::sustains). `None` if they hold no time or no
    /// byte: the transfer is a record, but has no rate.
    pub fn rate(&self) -> Option<f64> {
        let most = self
            .sustains
            .map_or(f64::INFINITY, |rate| rate.value() as f64);
        Slice::tapered_rate_of(self.counted()).map(|rate| rate.min(most))
    }

    /// The same as [`rate`](Self::rate), rounded to whole bytes per second.
    pub fn bandwidth(&self) -> Option<BytesPerSecond> {
        self.rate()
            .map(|rate| BytesPerSecond::new(rate.round() as u64))
    }

    /// All bytes received, the warm-up included.
    pub fn bytes(&self) -> u64 {
        Slice::merged(&self.slices).bytes
    }

    /// The time of all slices, the warm-up included.
    pub fn duration(&self) -> Duration {
        Duration::from_micros(Slice::merged(&self.slices).micros)
    }
}

/// The sum, which does not wrap whatever a record says.
fn total(values: impl Iterator<Item = u64>) -> u64 {
    values.fold(0, u64::saturating_add)
}

/// The reason of a transfer's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StopReason {
    /// Everything that was asked for has come.
    Complete,
    /// The estimate was good enough.
    Confident,
    /// The longest time for one transfer was over.
    TimeLimit,
    /// The scanner's link withheld too much for too long.
    Throttled,
}

/// An attempt that gave no sample: the stage that failed, the kind of failure, the blame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// The attempt.
    pub attempt: Attempt,
    /// The time at which it was given up.
    pub ended: UnixMillis,
    /// The stages that were passed before it failed.
    pub timings: Timings,
    /// The stage that failed.
    pub stage: Stage,
    /// The kind of failure.
    pub kind: FailureKind,
    /// The one at fault, as far as can be told.
    pub blame: Blame,
    /// The cause in words, for people; never used to classify. At most
    /// [`Failure::DETAIL_LIMIT`] bytes.
    pub detail: String,
    /// Payload bytes that had come by then; they do not count.
    pub bytes: u64,
}

impl Failure {
    /// The longest [`detail`](Self::detail) that is kept, in bytes.
    pub const DETAIL_LIMIT: usize = 500;

    /// A failure at `stage`, before any payload; `detail` is cut to
    /// [`DETAIL_LIMIT`](Self::DETAIL_LIMIT) bytes at a character boundary.
    pub fn new(
        attempt: Attempt,
        ended: UnixMillis,
        stage: Stage,
        kind: FailureKind,
        blame: Blame,
        detail: impl Into<String>,
    ) -> Self {
        let mut detail = detail.into();
        detail.truncate(detail.floor_char_boundary(Self::DETAIL_LIMIT));
        Self {
            attempt,
            ended,
            timings: Timings::default(),
            stage,
            kind,
            blame,
            detail,
            bytes: 0,
        }
    }
}

/// The stage of an attempt, in the order in which they are passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stage {
    /// Choosing a helper and a destination.
    Path,
    /// The channel (TLS connection) to the first hop.
    Channel,
    /// The first hop of the circuit.
    Create,
    /// The second hop of the circuit.
    Extend,
    /// The stream from the exit to the web server.
    Begin,
    /// The TLS handshake with the web server.
    Tls,
    /// The head of the response: status, range, length.
    Http,
    /// The body.
    Transfer,
    /// The body came, but is not what it should be.
    Content,
}

/// The kind of a failure in a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureKind {
    /// No relay can help: none is fast enough, allowed, or can exit to the destination.
    NoHelper,
    /// No destination is usable.
    NoDestination,
    /// The relay is not (or no longer) in the consensus, or cannot be used.
    UnknownRelay,
    /// The stage did not end in the time allowed to it.
    Timeout,
    /// The other side refused.
    Refused,
    /// The other side closed the circuit, the stream or the connection.
    Closed,
    /// The other side broke its protocol.
    Protocol,
    /// The web server answered with a status other than 206.
    Status,
    /// The web server ignored the Range request or answered another range.
    Range,
    /// More or fewer bytes came than were announced.
    Length,
    /// The bytes that came are not those that were to come.
    Content,
    /// Too few bytes or too little time to make a rate of.
    TooShort,
    /// Something in the scanner itself.
    Local,
}

/// The one at fault for a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Blame {
    /// The relay under measurement.
    Target,
    /// The helper.
    Helper,
    /// One of the two relays; which cannot be told.
    Path,
    /// The web server.
    Destination,
    /// The scanner, or its connection.
    Scanner,
}

macro_rules! named {
    ($type:ident { $($variant:ident => $name:literal),* $(,)? }) => {
        impl $type {
            /// The stable name used in records and statistics.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// The value with this stable name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        #[cfg(test)]
        impl $type {
            const ALL: &'static [Self] = &[$(Self::$variant),*];
        }
    };
}

named!(Stage {
    Path => "path", Channel => "channel", Create => "create", Extend => "extend",
    Begin => "begin", Tls => "tls", Http => "http", Transfer => "transfer", Content => "content",
});
named!(FailureKind {
    NoHelper => "no_helper", NoDestination => "no_destination", UnknownRelay => "unknown_relay",
    Timeout => "timeout", Refused => "refused", Closed => "closed", Protocol => "protocol",
    Status => "status", Range => "range", Length => "length", Content => "content",
    TooShort => "too_short", Local => "local",
});
named!(Blame {
    Target => "target", Helper => "helper", Path => "path", Destination => "destination",
    Scanner => "scanner",
});
named!(Position { Entry => "entry", Exit => "exit" });
named!(Direction { Download => "download", Upload => "upload" });
named!(StopReason {
    Complete => "complete", Confident => "confident", TimeLimit => "time_limit",
    Throttled => "throttled",
});

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(millis: u64, bytes: u64) -> Slice {
        Slice::new(Duration::from_millis(millis), bytes)
    }

    #[test]
    fn the_ends_of_a_transfer_count_less() {
        let slices = |bytes: &[u64]| -> Vec<Slice> {
            let length = Duration::from_millis(50);
            bytes
                .iter()
                .map(|&bytes| Slice::new(length, bytes))
                .collect()
        };
        let rate = |bytes: &[u64]| Slice::tapered_rate_of(&slices(bytes)).unwrap();
        assert!((rate(&[1000; 12]) - 20_000.0).abs() < 1e-6);
        // Weights 1/6, 3/6, 5/6, then 1: a byte's share shows them.
        let weight = |at: usize| {
            let mut bytes = [0; 16];
            bytes[at] = 6_500;
            rate(&bytes) * 0.05 / 500.0
        };
        for (at, sixths) in [
            (0, 1.0),
            (1, 3.0),
            (2, 5.0),
            (3, 6.0),
            (12, 6.0),
            (13, 5.0),
            (15, 1.0),
        ] {
            assert!(
                (weight(at) - sixths / 6.0).abs() < 1e-9,
                "{at}: {}",
                weight(at)
            );
        }
        // Bunches of 100 ms, one more or less at the end.
        let bunches = |phase: usize| {
            (0..31)
                .map(|n| u64::from((n + phase).is_multiple_of(2_usize)) * 2000)
                .collect::<Vec<_>>()
        };
        let (one, other) = (bunches(0), bunches(1));
        let plain = |bytes: &[u64]| Slice::rate_of(&slices(bytes)).unwrap();
        assert!(plain(&one) / plain(&other) > 1.06);
        assert!((rate(&one) / rate(&other) - 1.0).abs() < 0.03);
        // Too little for ramps, nothing, and slices without time.
        assert_eq!(rate(&[1, 2, 3]), 40.0);
        assert_eq!(Slice::tapered_rate_of(&slices(&[0; 20])), None);
        let mut odd = slices(&[1000; 20]);
        odd.insert(5, Slice::new(Duration::ZERO, 0));
        assert!((Slice::tapered_rate_of(&odd).unwrap() - 20_000.0).abs() < 1e-6);
    }

    #[test]
    fn the_rate_leaves_the_warm_up_out() {
        let slices = vec![slice(100, 1), slice(100, 50_000), slice(300, 150_000)];
        let transfer = Transfer::new(slices, 1, StopReason::Complete);
        assert_eq!(transfer.rate(), Some(500_000.0));
        assert_eq!(transfer.bytes(), 200_001);
        assert_eq!(transfer.duration(), Duration::from_millis(500));
    }

    #[test]
    fn the_rate_leaves_the_cool_down_out() {
        let slices = vec![slice(100, 9_000), slice(100, 50_000), slice(100, 1)];
        let transfer = Transfer::new(slices, 1, StopReason::Confident).ending_at(1);
        assert_eq!(transfer.rate(), Some(500_000.0));
        assert_eq!(transfer.bytes(), 59_001);
        for cool_down in [2, 3, 4, usize::MAX] {
            let transfer = transfer.clone().ending_at(cool_down);
            assert_eq!((transfer.counted(), transfer.rate()), ([].as_slice(), None));
        }
    }

    #[test]
    fn a_burst_has_no_more_than_the_relay_sustains() {
        let throttled = slice(100, 50_000).with_throttled(1);
        let transfer = Transfer::new(vec![throttled; 9], 1, StopReason::TimeLimit);
        assert_eq!(transfer.bounded_by_fact(), Some(Blame::Scanner));
        let sustaining = |rate| {
            let rate = Some(BytesPerSecond::new(rate));
            transfer.clone().sustaining(rate).rate()
        };
        assert_eq!(sustaining(78_000), Some(78_000.0));
        assert_eq!(sustaining(u64::MAX), transfer.rate());
        let burst = transfer.clone().sustaining(Some(BytesPerSecond::new(1)));
        assert_eq!(burst.bounded_by_fact(), None, "the link did not bound it");
        let text = serde_json::to_string(&burst).unwrap();
        assert!(text.ends_with(r#","sustains":1}"#), "{text}");
        assert_eq!(serde_json::from_str::<Transfer>(&text).unwrap(), burst);
    }

    #[test]
    fn what_is_rare_is_written_only_where_it_is_so() {
        let plain = Transfer::new(vec![slice(50, 7)], 0, StopReason::Complete);
        let text = serde_json::to_string(&plain).unwrap();
        assert_eq!(
            text,
            r#"{"slices":[{"us":50000,"b":7}],"warm_up":0,"stop":"complete"}"#
        );
        assert_eq!(serde_json::from_str::<Transfer>(&text).unwrap(), plain);
        let slices = vec![slice(50, 7).with_throttled(3), slice(50, 8)];
        let rare = Transfer::new(slices, 0, StopReason::Throttled)
            .ending_at(1)
            .bounded_by(Some(Blame::Scanner));
        let text = serde_json::to_string(&rare).unwrap();
        assert!(text.contains(r#"{"us":50000,"b":7,"t":3},{"us":50000,"b":8}"#));
        assert_eq!(serde_json::from_str::<Transfer>(&text).unwrap(), rare);
    }

    #[test]
    fn sums_do_not_wrap() {
        let slices = vec![slice(1, 1 << 63), slice(1, (1 << 63) + 2)];
        let transfer = Transfer::new(slices, 0, StopReason::Complete);
        assert_eq!(transfer.bytes(), u64::MAX);
        assert!(transfer.rate().unwrap() > 1e21);
        let long = vec![Slice::new(Duration::MAX, 1); 2];
        let transfer = Transfer::new(long, 0, StopReason::Complete);
        assert_eq!(transfer.duration(), Duration::from_micros(u64::MAX));
    }

    #[test]
    fn no_rate_without_time_or_bytes() {
        for (slices, warm_up) in [
            (vec![], 0),
            (vec![slice(5, 0)], 0),
            (vec![slice(0, 5)], 0),
            (vec![slice(5, 5)], 1),
            (vec![slice(5, 5)], 9),
        ] {
            let transfer = Transfer::new(slices, warm_up, StopReason::TimeLimit);
            assert_eq!(transfer.rate(), None, "{transfer:?}");
        }
    }

    #[test]
    fn details_are_cut_at_a_character() {
        let target = TargetFacts::new(Fingerprint::from_bytes([1; 20]));
        let attempt = Attempt::new(target, Position::Entry, UnixMillis::new(1));
        let failure = Failure::new(
            attempt,
            UnixMillis::new(2),
            Stage::Begin,
            FailureKind::Refused,
            Blame::Path,
            "ü".repeat(400),
        );
        assert_eq!(failure.detail, "ü".repeat(Failure::DETAIL_LIMIT / 2));
    }

    #[test]
    fn names_are_those_of_the_serialised_form() {
        fn check<T: Serialize + Copy>(all: &[T], name: fn(T) -> &'static str) {
            for &value in all {
                assert_eq!(serde_json::to_value(value).unwrap(), name(value));
            }
        }
        check(Stage::ALL, Stage::as_str);
        check(FailureKind::ALL, FailureKind::as_str);
        check(Blame::ALL, Blame::as_str);
        check(Position::ALL, Position::as_str);
        check(Direction::ALL, Direction::as_str);
        check(StopReason::ALL, StopReason::as_str);
    }
}
