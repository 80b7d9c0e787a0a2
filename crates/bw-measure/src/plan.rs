//! The plan of a scan, made without measuring.

use std::collections::BTreeMap;
use std::time::Duration;

use bw_file::Fingerprint;
use bw_results::{
    Attempt, FailureKind, Measurement, Outcome, Slice, StopReason, Timings, Transfer, UnixMillis,
};

use crate::{Action, Assignment, HelperPolicy, RunId, Scheduler};

/// The course of a scan in which every relay carries what is expected of it.
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
    /// The measurement.
    pub assignment: Assignment,
    /// The rate that the target is expected to carry, in bytes per second.
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
        let mut running = BTreeMap::new();
        loop {
            let wake = match scheduler.next(now) {
                Action::Start(run, assignment) => {
                    let rate = scheduler.expected_rate(&assignment.target.fingerprint);
                    plan.measurements.push(Planned {
                        begins: now,
                        assignment: assignment.clone(),
                        rate,
                    });
                    let opens = Phase::Opens(now + opening);
                    running.insert(run, (opens, assignment, rate));
                    continue;
                }
                Action::Unable { target, kind, .. } => {
                    plan.unable.push((target.fingerprint, kind));
                    continue;
                }
                Action::Wait(wake) => wake,
                Action::Broken | Action::Done => break,
            };
            for (run, (phase, ..)) in &mut running {
                if matches!(phase, Phase::Waits) && scheduler.link().is_admitted(*run) {
                    *phase = Phase::Ends(now + transfer);
                }
            }
            let phases = running.values().filter_map(|(phase, ..)| phase.until());
            let Some(next) = phases.chain(wake).min() else {
                break;
            };
            now = next.max(now);
            plan.pass(&mut scheduler, &mut running, now, transfer);
        }
        plan
    }

    /// Lets everything happen that is due now.
    fn pass<P: HelperPolicy>(
        &mut self,
        scheduler: &mut Scheduler<P>,
        running: &mut BTreeMap<RunId, (Phase, Assignment, f64)>,
        now: Duration,
        transfer: Duration,
    ) {
        let due = running
            .iter()
            .filter(|(_, (phase, ..))| phase.until().is_some_and(|until| until <= now));
        for run in due.map(|(&run, _)| run).collect::<Vec<_>>() {
            let Some((phase, assignment, rate)) = running.remove(&run) else {
                continue;
            };
            if let Phase::Opens(_) = phase {
                scheduler.link().wait(run, now);
                running.insert(run, (Phase::Waits, assignment, rate));
                continue;
            }
            let outcome = carried(assignment, rate.min(scheduler.link().payload()), transfer);
            self.bytes += outcome.bytes();
            scheduler.end(run, now, outcome);
            self.duration = now;
        }
    }
}

/// The progress of a measurement that is played.
enum Phase {
    /// Its circuits are open then.
    Opens(Duration),
    /// It waits for the link.
    Waits,
    /// It ends then.
    Ends(Duration),
}

impl Phase {
    const fn until(&self) -> Option<Duration> {
        match self {
            Self::Opens(until) | Self::Ends(until) => Some(*until),
            Self::Waits => None,
        }
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
