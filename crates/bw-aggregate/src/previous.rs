//! The file that is in use: what the next one is compared with, and where
//! Torflow's controller keeps its state.

use std::collections::BTreeMap;

use bw_file::{Document, Fingerprint, KilobytesPerSecond, RelayLineRef, UnixTime};

use crate::capacity::PreviousCapacity;
use crate::plausible::MAX_PLAUSIBLE_RATE;
use crate::torflow::PidVote;

/// The facts that the next file needs of the one before it.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PreviousFile {
    /// Its time: that of its newest measurement.
    pub timestamp: Option<UnixTime>,
    /// Its relays; of several lines of one relay the last counts.
    pub relays: BTreeMap<Fingerprint, PreviousRelay>,
    /// Relay lines that make no sense.
    pub unreadable: u64,
    /// Relays whose controller's state no controller writes; they are as if they had
    /// none.
    pub stateless: u64,
    /// True if its last line has no end: something has cut it off.
    pub is_cut: bool,
}

/// The facts of a file on one relay.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct PreviousRelay {
    /// `bw`
    pub weight: KilobytesPerSecond,
    /// True if authorities voted with it.
    pub voted: bool,
    /// The state of Torflow's controller, if it was at work.
    pub pid: Option<PidVote>,
    /// The estimate of its capacity, if weights were made of that.
    pub capacity: Option<PreviousCapacity>,
}

impl PreviousFile {
    /// Reads a bandwidth file of any version and software, Torflow's 1.0.0
    /// among them. Lines that make no sense are left out.
    pub fn parse(file: &[u8]) -> Self {
        let document = Document::parse(file);
        let mut relays = BTreeMap::new();
        let (mut unreadable, mut stateless) = (0, 0);
        for line in document.relays() {
            if let (Some(fingerprint), Some(weight)) = (line.fingerprint(), line.bandwidth()) {
                let pid = pid_vote(line, weight);
                stateless += u64::from(pid.is_none() && line.measured_at().value().is_some());
                let relay = PreviousRelay {
                    weight,
                    voted: line.is_voted(),
                    pid,
                    capacity: capacity(line),
                };
                relays.insert(fingerprint, relay);
            } else {
                unreadable += 1;
            }
        }
        Self {
            timestamp: document.timestamp().value(),
            relays,
            unreadable,
            stateless,
            is_cut: file.last() != Some(&b'\n'),
        }
    }

    /// The defect, if it tells less than it should, in words.
    pub fn damage(&self) -> Option<String> {
        let lines = self.relays.len() as u64 + self.unreadable;
        if self.relays.is_empty() {
            Some("this is no bandwidth file with relays".to_owned())
        } else if self.unreadable > 0 {
            Some(format!(
                "{} of its {lines} relay lines cannot be read",
                self.unreadable
            ))
        } else if self.stateless > 0 {
            Some(format!(
                "{} of its {lines} relays have pid_ values that no controller writes",
                self.stateless
            ))
        } else if self.timestamp.is_none() {
            Some("it has no timestamp".to_owned())
        } else {
            self.is_cut.then(|| "it is cut off".to_owned())
        }
    }
}

/// The largest step of a controller that is believed. Errors are ratios of rates, less
/// 1: a relay of 1 GB/s among relays of 1 B/s has this one.
const MAX_STEP: f64 = 1e9;

/// The estimate of a relay's capacity; none of 0, nor beyond what tor lets through.
fn capacity(line: RelayLineRef<'_>) -> Option<PreviousCapacity> {
    let capacity = line.capacity().value()?.value() as f64;
    let measured_at = u64::try_from(line.capacity_at().value()?.seconds()).ok()?;
    (capacity > 0.0 && capacity <= MAX_PLAUSIBLE_RATE).then_some(PreviousCapacity {
        capacity,
        measured_at,
    })
}

/// The controller's state; none if the line does not say when the relay was
/// measured, as in files that no controller made, or if a step is NaN, infinite or
/// above [`MAX_STEP`], which would spoil every file from then on.
fn pid_vote(line: RelayLineRef<'_>, weight: KilobytesPerSecond) -> Option<PidVote> {
    let seconds = |time: UnixTime| u64::try_from(time.seconds()).ok();
    let measured_at = line.measured_at().value().and_then(seconds)?;
    let steps = [line.pid_error(), line.pid_error_sum(), line.pid_delta()];
    let steps = steps.map(|step| step.value().unwrap_or(0.0));
    // NaN is not below it either.
    if !steps.iter().all(|step| step.abs() <= MAX_STEP) {
        return None;
    }
    let [pid_error, pid_error_sum, pid_delta] = steps;
    let bytes = line.pid_bw().value();
    Some(PidVote {
        weight,
        // Torflow's older files have no state; its own value is then the vote.
        pid_bw: bytes.map_or(weight.to_bytes().value() as f64, |bw| bw.value() as f64),
        pid_error,
        pid_error_sum,
        pid_delta,
        measured_at,
        updated_at: line
            .updated_at()
            .value()
            .and_then(seconds)
            .unwrap_or(measured_at),
    })
}
