//! What a scan would do.

use std::collections::BTreeMap;
use std::time::Duration;

use bw_file::Fingerprint;
use bw_results::{
    Attempt, FailureKind, Measurement, Outcome, Slice, StopReason, Timings, Transfer, UnixMillis,
};

use crate::{Assignment, HelperPolicy, Scheduler, Step};

/// What a scan would do if every relay carried what is expected of it.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Plan {
    /// The measurements, in the order in which they begin.
    pub measurements: Vec<Planned>,
    /// Relays that cannot be measured.
    pub unable: Vec<(Fingerprint, FailureKind)>,
    /// When the last measurement ends.
    pub duration: Duration,
    /// Payload bytes of all measurements.
    pub bytes: u64,
}

/// A measurement that would be made.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Planned {
    /// When it would begin, since the start of the scan.
    pub begins: Duration,
    /// What it would be.
    pub assignment: Assignment,
    /// What the target is expected to carry, in bytes per second.
    pub rate: f64,
}

impl Plan {
    /// Plays what `scheduler` would do, when a measurement moves payload for
    /// `transfer` and opening its circuits takes `opening` before.
    pub fn of<P: HelperPolicy>(
        mut scheduler: Scheduler<P>,
        opening: Duration,
        transfer: Duration,
    ) -> Self {
        let mut plan = Self::default();
        let mut now = Duration::ZERO;
        // What runs, by its end.
        let mut ends = BTreeMap::new();
        loop {
            let wake = match scheduler.next(now) {
                Step::Start(id, assignment) => {
                    let rate = scheduler.expected_rate(&assignment.target.fingerprint);
                    ends.insert((now + opening + transfer, id), (assignment.clone(), rate));
                    plan.measurements.push(Planned {
                        begins: now,
                        assignment,
                        rate,
                    });
                    continue;
                }
                Step::Unable { target, kind } => {
                    plan.unable.push((target.fingerprint, kind));
                    continue;
                }
                Step::Wait(wake) => wake,
                Step::Broken | Step::Done => break,
            };
            let first = ends.first_key_value().map(|(&(end, _), _)| end);
            now = match (first, wake) {
                (Some(end), Some(wake)) => end.min(wake).max(now),
                (Some(one), None) | (None, Some(one)) => one.max(now),
                (None, None) => break,
            };
            while let Some(entry) = ends.first_entry().filter(|entry| entry.key().0 <= now) {
                let ((_, id), (assignment, rate)) = entry.remove_entry();
                let outcome = carried(assignment, rate, transfer);
                if let Outcome::Measured(measurement) = &outcome {
                    plan.bytes += measurement.bytes();
                }
                scheduler.end(id, now, outcome, false);
                plan.duration = now;
            }
        }
        plan
    }
}

/// The outcome of a measurement in which all goes as expected.
fn carried(assignment: Assignment, rate: f64, time: Duration) -> Outcome {
    let now = UnixMillis::default();
    let mut attempt = Attempt::new(assignment.target, assignment.position, now);
    attempt.helpers = assignment.helpers;
    let slice = Slice::new(time, (rate * time.as_secs_f64()) as u64);
    let transfer = Transfer::new(vec![slice], 0, StopReason::Confident);
    Outcome::Measured(Measurement::new(
        attempt,
        now,
        Timings::default(),
        vec![transfer],
    ))
}
