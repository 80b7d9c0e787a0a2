//! One measurement, from opening its circuits to its record.

use std::time::Duration;

use bw_file::Fingerprint;
use bw_results::{
    Attempt, Blame, Failure, FailureKind, Measurement, Outcome, Slice, Stage, TargetFacts, Timings,
    Transfer,
};
use futures::future::join_all;

use crate::link::Lease;
use crate::transferring::Transferring;
use crate::{
    Assignment, Estimator, Event, Fault, Observer, Order, PathError, Transport, WallClock,
};

/// The size of a transfer, and how finely and how patiently it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransferOptions {
    /// The most bytes to ask for over one circuit; the transfer ends there if
    /// the estimator did not end it before. Default 1 GiB, as sbws's
    /// `max_download_size`.
    pub max_bytes: u64,
    /// The bytes that the slices that count must hold for a rate: what comes
    /// in drips tells nothing of a relay. Default 16 KiB, or what was asked
    /// for if that is less.
    pub min_bytes: u64,
    /// The length of a slice. Default 50 ms.
    pub slice: Duration,
    /// The longest silence. Default 10 s, as sbws's `http_timeout`.
    pub stall: Duration,
}

impl Default for TransferOptions {
    fn default() -> Self {
        Self {
            max_bytes: 1 << 30,
            min_bytes: 16 << 10,
            slice: Duration::from_millis(50),
            stall: Duration::from_secs(10),
        }
    }
}

/// Someone who may change a measurement while it runs.
pub trait Control: Send {
    /// Looks at the finished slices (all circuits summed) and at how many
    /// bytes each helper's circuit has brought so far. The relays that are returned join as
    /// further helpers.
    fn observe(&mut self, slices: &[Slice], bytes: &[(Fingerprint, u64)]) -> Vec<Fingerprint>;
}

/// Nobody interferes.
impl Control for () {
    fn observe(&mut self, _: &[Slice], _: &[(Fingerprint, u64)]) -> Vec<Fingerprint> {
        Vec::new()
    }
}

/// The common part of all measurements of a scan.
#[derive(Debug)]
#[non_exhaustive]
pub struct Measurer<T, F> {
    /// Moves payload.
    pub transport: T,
    /// Makes the estimator of each measurement.
    pub estimator: F,
    /// The options of each measurement.
    pub options: TransferOptions,
    /// The time that records carry.
    pub clock: WallClock,
}

/// A stage that failed, and who is to blame.
pub(crate) struct Problem {
    pub(crate) error: PathError,
    pub(crate) blame: Blame,
    pub(crate) bytes: u64,
}

impl Problem {
    pub(crate) fn new(error: PathError, attempt: &Attempt, bytes: u64) -> Self {
        Self {
            blame: error.fault.blame(attempt.position),
            error,
            bytes,
        }
    }
}

impl<T, F, E> Measurer<T, F>
where
    T: Transport,
    F: Fn(&TargetFacts) -> E + Send + Sync,
    E: Estimator,
{
    /// A measurer with default options, whose records carry the time of `clock`.
    pub fn new(transport: T, estimator: F, clock: WallClock) -> Self {
        Self {
            transport,
            estimator,
            options: TransferOptions::default(),
            clock,
        }
    }

    /// Makes one measurement, on its place on the link. Never fails as such: what goes wrong
    /// is the record.
    ///
    /// All circuits are opened at once. As long as one of them opens, the others may fail: who
    /// is at fault then shows in the helpers that the record does not name. Requests go out
    /// when all are open and the link has room.
    pub async fn measure(
        &self,
        assignment: &Assignment,
        lease: &Lease,
        control: &mut impl Control,
        observer: &impl Observer,
    ) -> Outcome {
        let mut attempt = self.attempt(assignment);
        observer.observe(&Event::Attempt(&attempt));
        let begin = tokio::time::Instant::now();
        let mut timings = Timings::default();
        let result = self
            .transfer(
                assignment,
                (&mut attempt, &mut timings),
                lease,
                control,
                observer,
            )
            .await;
        let ended = attempt.started.after(begin.elapsed());
        match result {
            Ok(transfer) => {
                Outcome::Measured(Measurement::new(attempt, ended, timings, vec![transfer]))
            }
            Err(Problem {
                error,
                blame,
                bytes,
            }) => {
                let PathError {
                    stage,
                    kind,
                    detail,
                    ..
                } = error;
                let mut failure = Failure::new(attempt, ended, stage, kind, blame, detail);
                failure.timings = timings;
                failure.bytes = bytes;
                Outcome::Failed(failure)
            }
        }
    }

    fn attempt(&self, assignment: &Assignment) -> Attempt {
        let target = assignment.target.clone();
        let mut attempt = Attempt::new(target, assignment.position, self.clock.now());
        attempt.destination = assignment.destination.to_string();
        attempt.direction = assignment.direction;
        attempt.helpers.clone_from(&assignment.helpers);
        attempt.scan = assignment.scan;
        attempt
    }

    async fn transfer(
        &self,
        assignment: &Assignment,
        (attempt, timings): (&mut Attempt, &mut Timings),
        lease: &Lease,
        control: &mut impl Control,
        observer: &impl Observer,
    ) -> Result<Transfer, Problem> {
        let flows = self.open_all(assignment, attempt, timings).await?;
        lease.admitted().await;
        Transferring::new(self, assignment, (attempt, timings), lease, flows)
            .run(control, observer)
            .await
    }

    pub(crate) async fn open(
        &self,
        assignment: &Assignment,
        helper: Fingerprint,
        timings: &mut Timings,
    ) -> Result<T::Flow, PathError> {
        let mut order = Order::download(&assignment.destination, self.options.max_bytes);
        order.direction = assignment.direction;
        self.transport
            .open(assignment.path(helper), &order, timings)
            .await
    }

    /// Opens all circuits; drops those that fail as long as one is left, and
    /// their helpers from the record.
    async fn open_all(
        &self,
        assignment: &Assignment,
        attempt: &mut Attempt,
        timings: &mut Timings,
    ) -> Result<Vec<(Fingerprint, T::Flow)>, Problem> {
        let opened = join_all(assignment.helpers.iter().map(async |&helper| {
            let mut timings = Timings::default();
            let opened = self.open(assignment, helper, &mut timings).await;
            (helper, opened, timings)
        }))
        .await;
        let mut flows = Vec::with_capacity(opened.len());
        let mut problem = PathError::new(
            Stage::Path,
            FailureKind::NoHelper,
            Fault::Either,
            "no helper was assigned",
        );
        for (helper, result, took) in opened {
            if flows.is_empty() {
                *timings = took;
            }
            match result {
                Ok(flow) => flows.push((helper, flow)),
                Err(error) => problem = error,
            }
        }
        if flows.is_empty() {
            return Err(Problem::new(problem, attempt, 0));
        }
        attempt.helpers = flows.iter().map(|(helper, _)| *helper).collect();
        Ok(flows)
    }
}
