//! The sum of the events of a scan.

use std::collections::{BTreeMap, VecDeque};

use bw_file::Fingerprint;
use bw_results::{Position, Verdict};
use serde::{Deserialize, Serialize};

use crate::event::{AttemptFacts, HelperBytes, RoundFacts, ScanEvent};
use crate::text::{clock, rate, time};

/// Seconds of which the link's use is kept: ten minutes.
const SECONDS: usize = 600;
/// Outcomes that are kept: those of some minutes.
const RECENT: usize = 200;
/// Estimates of a measurement that are kept: those of ten seconds.
const ESTIMATES: usize = 40;
/// Attempts under way that are kept; a scan has some 100.
const RUNNING: usize = 4096;
/// Destinations, and causes of failure, that are kept.
const KINDS: usize = 256;

/// The scan as it is now: pure, events in, no clock.
///
/// Its size is bounded, whatever the events say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct State {
    /// When the last event came, in milliseconds since the Unix epoch.
    pub now: u64,
    /// The scanner's name.
    pub scanner: String,
    /// Payload bytes per second that the link may take; 0 without a limit.
    pub link: u64,
    /// Relays in the consensus.
    pub relays: u64,
    /// The round.
    pub round: Round,
    /// Attempts under way, by target.
    pub running: BTreeMap<Fingerprint, Running>,
    /// Payload bytes of each second; the last one is not over.
    pub seconds: VecDeque<u64>,
    /// The second, since the Unix epoch, of the last of those.
    second: u64,
    /// Failures by stage and blame, the most frequent first.
    pub causes: Vec<Cause>,
    /// Destinations, with the use that was made of them.
    pub destinations: BTreeMap<String, Destination>,
    /// Outcomes, the newest last.
    pub recent: VecDeque<Recent>,
    /// The last thing that was said, apart from outcomes.
    pub message: String,
}

/// The progress of a round.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Round {
    /// The scan's identity, once it is known.
    pub scan: Option<String>,
    /// Relays to measure.
    pub targets: u64,
    /// Relays settled.
    pub done: u64,
    /// The relays among them that were given up.
    pub failed: u64,
    /// Relays settled by an earlier process, until the round starts.
    before: u64,
    /// Relays that were settled when the estimate of the time left began, and when that was.
    since: Option<(u64, u64)>,
    /// Payload bytes that this process has moved.
    pub bytes: u64,
}

/// An attempt under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Running {
    /// The relay's nickname.
    pub nickname: String,
    /// The relay's position in the circuit.
    pub position: Position,
    /// The web server.
    pub destination: String,
    /// When circuits began to open, in milliseconds since the Unix epoch.
    pub started: u64,
    /// When payload first came.
    pub flowing: Option<u64>,
    /// Bytes so far.
    pub bytes: u64,
    /// Its helpers.
    pub helpers: Vec<Helper>,
    /// Estimates, a quarter of a second apart, the newest last.
    pub estimates: VecDeque<Rate>,
}

/// A rate with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Rate {
    /// Bytes per second.
    pub bandwidth: f64,
    /// Half the width of the interval, in bytes per second, if it is known.
    pub half_width: Option<f64>,
}

/// A helper of an attempt under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Helper {
    /// The helper.
    pub fingerprint: Fingerprint,
    /// Its nickname, if it is known.
    pub nickname: String,
    /// Bytes so far.
    pub bytes: u64,
    /// Bytes per second since the estimate before.
    pub bandwidth: f64,
    /// When `bytes` was told.
    told: u64,
}

/// Failures of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Cause {
    /// The stage.
    pub stage: String,
    /// The party that they are laid to.
    pub blame: String,
    /// The number of them.
    pub count: u64,
}

/// The use that was made of a destination.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Destination {
    /// Measurements.
    pub measured: u64,
    /// Failures that are laid to it.
    pub failed: u64,
    /// Payload bytes of measurements.
    pub bytes: u64,
    /// It fails while another works.
    pub down: bool,
}

/// An outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Recent {
    /// When it came, in milliseconds since the Unix epoch.
    pub time: u64,
    /// The relay.
    pub fingerprint: Fingerprint,
    /// Its nickname.
    pub nickname: String,
    /// True of a failure.
    pub failed: bool,
    /// The outcome in words.
    pub text: String,
}

impl Running {
    /// The rate so far.
    pub fn rate(&self) -> Option<Rate> {
        self.estimates.back().copied()
    }

    fn new(facts: AttemptFacts) -> Self {
        let mut names = facts.helper_names.into_iter();
        let helper = |fingerprint: Fingerprint| {
            let mut helper = Helper::new(HelperBytes::new(fingerprint, 0));
            helper.nickname = names.next().unwrap_or_default();
            helper
        };
        Self {
            nickname: facts.nickname,
            position: facts.position,
            destination: facts.destination,
            started: facts.started.value(),
            flowing: None,
            bytes: 0,
            helpers: facts.helpers.into_iter().map(helper).collect(),
            estimates: VecDeque::new(),
        }
    }

    /// Takes note of what each helper has brought by `now`.
    fn help(&mut self, now: u64, helpers: Vec<HelperBytes>) {
        let before = std::mem::take(&mut self.helpers);
        let since = |fingerprint: &Fingerprint| {
            let known = before
                .iter()
                .find(|helper| helper.fingerprint == *fingerprint);
            known.map_or((0, 0), |helper| (helper.bytes, helper.told))
        };
        self.helpers = helpers
            .into_iter()
            .map(|brought| {
                let (bytes, told) = since(&brought.fingerprint);
                let mut helper = Helper::new(brought);
                helper.told = now;
                let from = if told == 0 {
                    self.flowing.unwrap_or(now)
                } else {
                    told
                };
                let seconds = now.saturating_sub(from) as f64 / 1000.0;
                if seconds > 0.0 {
                    helper.bandwidth = helper.bytes.saturating_sub(bytes) as f64 / seconds;
                }
                helper
            })
            .collect();
    }
}

impl Helper {
    fn new(brought: HelperBytes) -> Self {
        Self {
            fingerprint: brought.fingerprint,
            nickname: brought.nickname,
            bytes: brought.bytes,
            bandwidth: 0.0,
            told: 0,
        }
    }
}

impl State {
    /// Nothing has happened yet in the scan of `scanner`, whose link takes `link` bytes per
    /// second at most (0 without a limit).
    pub fn new(scanner: &str, link: u64) -> Self {
        Self {
            scanner: scanner.to_owned(),
            link,
            ..Self::default()
        }
    }

    /// Takes note of an event that came at `now`, in milliseconds since the Unix epoch.
    pub fn apply(&mut self, now: u64, event: ScanEvent) {
        if let ScanEvent::Snapshot { state } = event {
            *self = *state;
            self.advance(now);
            return;
        }
        self.advance(now);
        match event {
            ScanEvent::Started { targets } => self.start(targets),
            ScanEvent::Network { relays } => self.relays = relays,
            ScanEvent::Attempt(facts) if self.running.len() < RUNNING => {
                self.running.insert(facts.fingerprint, Running::new(facts));
            }
            ScanEvent::Progress { fingerprint, bytes } => self.progress(fingerprint, bytes),
            ScanEvent::Estimate {
                fingerprint,
                bandwidth,
                half_width,
                helpers,
            } => {
                let rate = bandwidth.map(|bandwidth| Rate {
                    bandwidth,
                    half_width,
                });
                self.estimate(fingerprint, rate, helpers);
            }
            ScanEvent::Control { fingerprint } => {
                self.running.remove(&fingerprint);
            }
            ScanEvent::Changed {
                change,
                detail,
                destination,
            } => {
                if let Some(url) = destination.filter(|url| self.knows_room_for(url)) {
                    self.destinations.entry(url).or_default().down = change == "destination_down";
                }
                self.message = detail;
            }
            ScanEvent::Resumed(round) => self.resumed(&round),
            ScanEvent::Round { round, .. } => {
                self.running.clear();
                self.message = format!(
                    "round over: {} measured, {} failed, {} left",
                    round.measured, round.failed, round.left
                );
            }
            ScanEvent::NextRound { seconds } if seconds > 0 => {
                let at = clock(now.saturating_add(seconds.saturating_mul(1000)));
                self.message = format!("next round at {at} UTC");
            }
            ScanEvent::Waiting { reason, seconds } => {
                self.running.clear();
                self.message = format!("{reason}; next try in {}", time(seconds));
            }
            ScanEvent::Said { text } => self.message = text,
            ScanEvent::Measured { .. } | ScanEvent::Failed { .. } => self.ended(event),
            _ => {}
        }
    }

    /// Bytes per second over the last `seconds` that are over.
    pub fn link_use(&self, seconds: usize) -> f64 {
        let over = self.seconds.iter().rev().skip(1).take(seconds);
        let (count, bytes) = over.fold((0_u64, 0_u64), |(count, sum), bytes| {
            (count + 1, sum.saturating_add(*bytes))
        });
        bytes as f64 / count.max(1) as f64
    }

    /// Relays that wait for their turn.
    pub fn queued(&self) -> u64 {
        let begun = self.round.done.saturating_add(self.running.len() as u64);
        self.round.targets.saturating_sub(begun)
    }

    /// Seconds for the rest at the pace so far; `None` as long as there is none.
    pub fn left(&self) -> Option<u64> {
        let (done, begin) = self.round.since?;
        let made = self.round.done.checked_sub(done).filter(|&made| made > 0)?;
        let pace = self.now.saturating_sub(begin) as f64 / 1000.0 / made as f64;
        let rest = self.round.targets.saturating_sub(self.round.done);
        Some((pace * rest as f64) as u64)
    }

    /// The load of each helper now, the most loaded first.
    pub fn helpers(&self) -> Vec<Load> {
        let mut loads: BTreeMap<Fingerprint, Load> = BTreeMap::new();
        for helper in self.running.values().flat_map(|running| &running.helpers) {
            let load = loads.entry(helper.fingerprint).or_insert_with(|| Load {
                fingerprint: helper.fingerprint,
                nickname: helper.nickname.clone(),
                measurements: 0,
                bandwidth: 0.0,
            });
            load.measurements += 1;
            load.bandwidth += helper.bandwidth;
        }
        let mut loads: Vec<Load> = loads.into_values().collect();
        loads.sort_by(|a, b| {
            let by_rate = b.bandwidth.total_cmp(&a.bandwidth);
            by_rate.then_with(|| a.fingerprint.cmp(&b.fingerprint))
        });
        loads
    }

    /// Moves on to `now`: seconds without an event had no byte.
    fn advance(&mut self, now: u64) {
        self.now = self.now.max(now);
        let second = self.now / 1000;
        if self.seconds.is_empty() {
            self.second = second;
            self.seconds.push_back(0);
        }
        let passed = second.saturating_sub(self.second);
        for _ in 0..passed.min(SECONDS as u64) {
            self.seconds.push_back(0);
        }
        let excess = self.seconds.len().saturating_sub(SECONDS);
        self.seconds.drain(..excess);
        self.second = second.max(self.second);
    }

    fn start(&mut self, targets: u64) {
        let round = &mut self.round;
        let before = std::mem::take(&mut round.before);
        if round.done == round.targets {
            *round = Round {
                scan: round.scan.take(),
                ..Round::default()
            };
        }
        round.done += before;
        round.targets = round.targets.saturating_add(before).saturating_add(targets);
        round.since = Some((round.done, self.now));
        self.message.clear();
    }

    fn resumed(&mut self, round: &RoundFacts) {
        self.round.scan = Some(round.scan.to_string());
        self.round.before = round.measured.saturating_add(round.failed);
        self.message = format!("{} relays were done before", self.round.before);
    }

    fn took(&mut self, bytes: u64) {
        self.round.bytes = self.round.bytes.saturating_add(bytes);
        if let Some(last) = self.seconds.back_mut() {
            *last = last.saturating_add(bytes);
        }
    }

    fn progress(&mut self, relay: Fingerprint, bytes: u64) {
        let Some(running) = self.running.get_mut(&relay) else {
            return;
        };
        let more = bytes.saturating_sub(running.bytes);
        running.bytes = running.bytes.max(bytes);
        if more > 0 {
            running.flowing.get_or_insert(self.now);
        }
        self.took(more);
    }

    fn estimate(&mut self, relay: Fingerprint, rate: Option<Rate>, helpers: Vec<HelperBytes>) {
        let now = self.now;
        let Some(running) = self.running.get_mut(&relay) else {
            return;
        };
        running.help(now, helpers);
        let Some(rate) = rate else { return };
        running.estimates.push_back(rate);
        if running.estimates.len() > ESTIMATES {
            running.estimates.pop_front();
        }
    }

    fn ended(&mut self, event: ScanEvent) {
        let (attempt, settled, failed, text) = match event {
            ScanEvent::Measured {
                attempt,
                bandwidth,
                bytes,
                verdict,
                settled,
                ..
            } => {
                self.progress(attempt.fingerprint, bytes);
                if self.knows_room_for(&attempt.destination) {
                    let destination = self.destinations.entry(attempt.destination.clone());
                    let destination = destination.or_default();
                    destination.measured += 1;
                    destination.bytes = destination.bytes.saturating_add(bytes);
                }
                let text = words(bandwidth, verdict);
                (attempt, settled, false, text)
            }
            ScanEvent::Failed {
                attempt,
                stage,
                blame,
                detail,
                verdict,
                settled,
                ..
            } => {
                self.failed(&attempt, stage.as_str(), blame.as_str());
                let again = if settled { "" } else { ", will be tried again" };
                let excused = if verdict.is_charged() {
                    ""
                } else {
                    ", excused"
                };
                let text = format!("failed at {stage} ({blame}{excused}){again}: {detail}");
                (attempt, settled, true, text)
            }
            _ => return,
        };
        self.running.remove(&attempt.fingerprint);
        if settled {
            self.round.done += 1;
            self.round.failed += u64::from(failed);
        }
        self.recent.push_back(Recent {
            time: self.now,
            fingerprint: attempt.fingerprint,
            nickname: attempt.nickname,
            failed,
            text,
        });
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }

    fn failed(&mut self, attempt: &AttemptFacts, stage: &str, blame: &str) {
        if blame == "destination" && self.knows_room_for(&attempt.destination) {
            let destination = self.destinations.entry(attempt.destination.clone());
            destination.or_default().failed += 1;
        }
        let is_it = |cause: &&mut Cause| cause.stage == stage && cause.blame == blame;
        if let Some(cause) = self.causes.iter_mut().find(is_it) {
            cause.count += 1;
        } else if self.causes.len() < KINDS {
            self.causes.push(Cause {
                stage: stage.to_owned(),
                blame: blame.to_owned(),
                count: 1,
            });
        }
        self.causes
            .sort_by_key(|cause| std::cmp::Reverse(cause.count));
    }

    /// True if the destination is known, or may be added.
    fn knows_room_for(&self, destination: &str) -> bool {
        !destination.is_empty()
            && (self.destinations.contains_key(destination) || self.destinations.len() < KINDS)
    }
}

/// The load of a helper.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Load {
    /// The helper.
    pub fingerprint: Fingerprint,
    /// Its nickname, if it is known.
    pub nickname: String,
    /// Measurements that it helps.
    pub measurements: u64,
    /// Bytes per second.
    pub bandwidth: f64,
}

/// The result of a measurement, with the verdict on it.
fn words(bandwidth: Option<f64>, verdict: Verdict) -> String {
    let rate = rate(bandwidth.unwrap_or(0.0));
    match verdict {
        Verdict::LowerBound(by) => format!("at least {rate}, bounded by the {by}"),
        Verdict::Remeasure(reason) => {
            let reason = reason.as_str().replace('_', " ");
            format!("{rate}, does not count ({reason}), will be tried again")
        }
        _ => rate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bw_results::{Blame, FailureKind, Stage, UnixMillis};

    fn facts(number: u8) -> AttemptFacts {
        AttemptFacts {
            fingerprint: Fingerprint::from_bytes([number; 20]),
            nickname: format!("relay{number}"),
            position: Position::Entry,
            helpers: vec![Fingerprint::from_bytes([99; 20])],
            helper_names: vec!["helping".to_owned()],
            destination: "https://a.example/1GiB".to_owned(),
            started: UnixMillis::new(1_000),
        }
    }

    fn measured(number: u8, bytes: u64) -> ScanEvent {
        ScanEvent::Measured {
            attempt: facts(number),
            bandwidth: Some(2e6),
            bytes,
            duration: 1.5,
            throttled: 0.0,
            bound: None,
            offered: None,
            verdict: Verdict::Accepted,
            settled: true,
        }
    }

    fn failed(number: u8, settled: bool) -> ScanEvent {
        ScanEvent::Failed {
            attempt: facts(number),
            stage: Stage::Create,
            kind: FailureKind::Timeout,
            blame: Blame::Target,
            detail: "no answer".to_owned(),
            verdict: Verdict::Charged,
            settled,
        }
    }

    #[test]
    fn bytes_are_counted_once_in_their_second() {
        let mut state = State::new("s", 10_000_000);
        state.apply(1_000, ScanEvent::Started { targets: 3 });
        state.apply(1_000, ScanEvent::Attempt(facts(1)));
        let progress = |bytes| ScanEvent::Progress {
            fingerprint: Fingerprint::from_bytes([1; 20]),
            bytes,
        };
        state.apply(1_500, progress(400));
        state.apply(2_100, progress(1_000));
        // What came since the last progress is in the record.
        state.apply(2_200, measured(1, 1_100));
        state.apply(5_000, ScanEvent::Tick);
        assert_eq!(state.seconds, [400, 700, 0, 0, 0]);
        assert_eq!(state.round.bytes, 1_100);
        assert_eq!(state.link_use(4), 275.0);
        assert_eq!((state.queued(), state.left()), (2, Some(8)));
        assert!(state.running.is_empty());
        state.apply(10_000_000, ScanEvent::Tick);
        assert_eq!(state.seconds.len(), SECONDS);
    }

    #[test]
    fn helpers_carry_what_they_brought_since_the_last_time() {
        let mut state = State::new("s", 0);
        state.apply(1_000, ScanEvent::Attempt(facts(1)));
        let fingerprint = Fingerprint::from_bytes([1; 20]);
        let helper = Fingerprint::from_bytes([99; 20]);
        let bytes = |bytes| ScanEvent::Progress { fingerprint, bytes };
        assert_eq!(state.running[&fingerprint].helpers[0].nickname, "helping");
        let estimate = |bytes| ScanEvent::Estimate {
            fingerprint,
            bandwidth: Some(1e6),
            half_width: Some(1e5),
            helpers: vec![HelperBytes::new(helper, bytes)],
        };
        state.apply(2_000, bytes(1));
        state.apply(2_250, estimate(1_000));
        assert_eq!(state.helpers()[0].bandwidth, 4_000.0);
        state.apply(2_500, estimate(3_000));
        assert_eq!(state.helpers()[0].bandwidth, 8_000.0);
        let running = &state.running[&fingerprint];
        assert_eq!(running.rate().unwrap().half_width, Some(1e5));
        assert_eq!(running.flowing, Some(2_000));
    }

    #[test]
    fn failures_are_counted_by_cause_and_relays_once() {
        let mut state = State::new("s", 0);
        state.apply(0, ScanEvent::Started { targets: 2 });
        state.apply(1, failed(1, false));
        state.apply(2, failed(1, true));
        state.apply(3, measured(2, 10));
        assert_eq!((state.round.done, state.round.failed), (2, 1));
        assert_eq!(state.causes[0].count, 2);
        assert_eq!(state.recent.len(), 3);
        // The next round is counted by itself.
        state.apply(4, ScanEvent::Started { targets: 5 });
        assert_eq!((state.round.done, state.round.targets), (0, 5));
    }

    #[test]
    fn a_state_is_bounded_whatever_comes() {
        let mut state = State::new("s", 0);
        for number in 0..=255 {
            for _ in 0..4 {
                let mut attempt = facts(number);
                attempt.destination = format!("https://{number}.example/");
                state.apply(u64::MAX, ScanEvent::Attempt(attempt));
                state.apply(u64::MAX, failed(number, true));
            }
        }
        assert_eq!(state.recent.len(), RECENT);
        assert!(state.seconds.len() <= SECONDS);
    }

    #[test]
    fn a_snapshot_is_the_state() {
        let mut state = State::new("s", 5);
        state.apply(1_000, ScanEvent::Started { targets: 2 });
        state.apply(1_000, ScanEvent::Attempt(facts(1)));
        state.apply(2_000, failed(2, true));
        let line = serde_json::to_string(&ScanEvent::Snapshot {
            state: Box::new(state.clone()),
        })
        .unwrap();
        let mut later = State::default();
        later.apply(2_000, serde_json::from_str(&line).unwrap());
        assert_eq!(later, state);
    }
}
