//! One measurement, from opening its circuits to a record.

use std::time::Duration;

use bw_file::{BytesPerSecond, Fingerprint};
use bw_results::{
    Attempt, Blame, Failure, FailureKind, Measurement, Outcome, Slice, Stage, StopReason,
    TargetFacts, Timings, Transfer, UnixMillis,
};
use futures::StreamExt;
use futures::future::{BoxFuture, Either, join_all};
use futures::stream::{BoxStream, FuturesUnordered, SelectAll, unfold};
use tokio::time::{Instant, timeout_at};

use crate::pacer::Lease;
use crate::{
    Assignment, Estimator, Event, Fault, Flow, Meter, Observer, Order, Pacer, PathError, Transport,
};

/// The wall clock, derived from tokio's clock, so that it can be paused.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    start: UnixMillis,
    instant: Instant,
}

impl WallClock {
    /// A clock that shows `now` now.
    pub fn starting_at(now: UnixMillis) -> Self {
        Self {
            start: now,
            instant: Instant::now(),
        }
    }

    /// The present time.
    pub fn now(&self) -> UnixMillis {
        self.start.after(self.instant.elapsed())
    }
}

/// What is asked for, and how finely and how patiently it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransferOptions {
    /// The most bytes to ask for over one circuit; the transfer ends there if
    /// the estimator did not end it before. Default 1 GiB, as sbws's
    /// `max_download_size`.
    pub max_bytes: u64,
    /// How many bytes the slices that count must hold for a rate: what comes
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
    /// bytes each helper's circuit has brought so far; `held` says that the scanner's
    /// own link holds them back. The relays that are returned join as further helpers.
    fn observe(
        &mut self,
        slices: &[Slice],
        bytes: &[(Fingerprint, u64)],
        held: bool,
    ) -> Vec<Fingerprint>;
}

/// Nobody interferes.
impl Control for () {
    fn observe(&mut self, _: &[Slice], _: &[(Fingerprint, u64)], _: bool) -> Vec<Fingerprint> {
        Vec::new()
    }
}

/// What every measurement of a scan has in common.
#[derive(Debug)]
#[non_exhaustive]
pub struct Measurer<T, F> {
    /// Moves payload.
    pub transport: T,
    /// Makes the estimator of each measurement.
    pub estimator: F,
    /// What each measurement asks for.
    pub options: TransferOptions,
    /// Holds all measurements together within the link; by default nothing does.
    pub pacer: Pacer,
    /// The time that records carry.
    pub clock: WallClock,
}

/// A stage that failed, before it is known whom to tell.
struct Problem {
    error: PathError,
    blame: Blame,
    bytes: u64,
}

/// What a circuit brings, with the helper in it.
type Arrival = (Fingerprint, Result<Option<u64>, PathError>);

impl<T, F, E> Measurer<T, F>
where
    T: Transport,
    F: Fn(&TargetFacts) -> E + Send + Sync,
    E: Estimator,
{
    /// A measurer with default options, whose records start at the time of `clock`.
    pub fn new(transport: T, estimator: F, clock: WallClock) -> Self {
        Self {
            transport,
            estimator,
            options: TransferOptions::default(),
            pacer: Pacer::new(BytesPerSecond::new(0)),
            clock,
        }
    }

    /// Makes one measurement. Never fails as such: what goes wrong is the outcome.
    ///
    /// All circuits are opened at once. As long as one of them opens, the
    /// others may fail: who is at fault then shows in the helpers that the
    /// record does not name. What comes while the pacer holds the measurement back is
    /// warm-up, and the estimator begins anew after it.
    pub async fn measure(
        &self,
        assignment: &Assignment,
        control: &mut impl Control,
        observer: &impl Observer,
    ) -> Outcome {
        let mut attempt = Attempt::new(
            assignment.target.clone(),
            assignment.position,
            self.clock.now(),
        );
        attempt.destination = assignment.destination.to_string();
        attempt.direction = assignment.direction;
        attempt.helpers.clone_from(&assignment.helpers);
        observer.observe(&Event::Attempt(&attempt));
        let mut timings = Timings::default();
        let result = self
            .attempt(assignment, &mut attempt, &mut timings, control, observer)
            .await;
        match result {
            Ok(transfer) => Outcome::Measured(Measurement::new(
                attempt,
                self.clock.now(),
                timings,
                vec![transfer],
            )),
            Err(problem) => {
                let PathError {
                    stage,
                    kind,
                    detail,
                    ..
                } = problem.error;
                let now = self.clock.now();
                let mut failure = Failure::new(attempt, now, stage, kind, problem.blame, detail);
                failure.timings = timings;
                failure.bytes = problem.bytes;
                Outcome::Failed(failure)
            }
        }
    }

    async fn attempt(
        &self,
        assignment: &Assignment,
        attempt: &mut Attempt,
        timings: &mut Timings,
        control: &mut impl Control,
        observer: &impl Observer,
    ) -> Result<Transfer, Problem> {
        let flows = self.open_all(assignment, attempt, timings).await?;
        let lease = self.pacer.lease();
        let mut arrivals: SelectAll<BoxStream<'_, Arrival>> = SelectAll::new();
        let mut bytes: Vec<(Fingerprint, u64)> = Vec::new();
        for (helper, flow) in flows {
            bytes.push((helper, 0));
            arrivals.push(arrivals_of(helper, flow, &lease));
        }
        let mut joining: FuturesUnordered<BoxFuture<'_, _>> = FuturesUnordered::new();

        let mut estimator = (self.estimator)(&attempt.target);
        let mut meter = Meter::new(self.options.slice);
        let start = Instant::now();
        let mut last_byte = start;
        let mut received = 0;
        // Until here the link held it back.
        let mut held = 0;
        let stop = loop {
            // Wake at the end of each slice even if nothing comes: time
            // without a byte counts, and the estimator may end the transfer.
            let boundary = start + meter.next_boundary();
            let next = async {
                if joining.is_empty() {
                    Either::Left(arrivals.next().await)
                } else {
                    tokio::select! {
                        biased;
                        arrival = arrivals.next() => Either::Left(arrival),
                        Some(joined) = joining.next() => Either::Right(joined),
                    }
                }
            };
            let next = timeout_at(boundary, next).await;
            let now = Instant::now();
            let finished_slice = match next {
                Err(_) if now - last_byte >= self.options.stall => {
                    let silence = self.options.stall.as_secs_f64();
                    let detail = format!("no byte for {silence} s, after {received} bytes");
                    return Err(path(FailureKind::Timeout, detail, received));
                }
                Err(_) => meter.advance(now - start),
                Ok(Either::Left(Some((helper, Ok(Some(more)))))) => {
                    received += more;
                    if more > 0 {
                        last_byte = now;
                    }
                    if let Some((_, sum)) = bytes.iter_mut().find(|(id, _)| *id == helper) {
                        *sum += more;
                    }
                    meter.add(now - start, more)
                }
                // One circuit has all that was asked of it; what the others
                // bring from now on is less than the target can carry.
                Ok(Either::Left(Some((_, Ok(None))) | None)) => {
                    meter.advance(now - start);
                    break StopReason::Complete;
                }
                Ok(Either::Left(Some((_, Err(error))))) => {
                    return Err(Problem {
                        blame: error.fault.blame(attempt.position),
                        error,
                        bytes: received,
                    });
                }
                Ok(Either::Right((helper, Ok(flow)))) => {
                    attempt.helpers.push(helper);
                    bytes.push((helper, 0));
                    arrivals.push(arrivals_of(helper, flow, &lease));
                    meter.advance(now - start)
                }
                Ok(Either::Right((helper, Err(error)))) => {
                    tracing::debug!(%helper, %error, "could not join");
                    meter.advance(now - start)
                }
            };
            if finished_slice {
                let event = Event::Progress {
                    attempt,
                    bytes: received,
                };
                observer.observe(&event);
                let is_held = lease.is_held();
                if is_held {
                    held = meter.slices().len();
                    estimator = (self.estimator)(&attempt.target);
                    if now - start >= self.options.stall {
                        break StopReason::TimeLimit;
                    }
                } else if let Some(stop) = estimator.observe(&meter.slices()[held..]) {
                    break stop;
                }
                for helper in control.observe(meter.slices(), &bytes, is_held) {
                    joining.push(Box::pin(async move {
                        let mut timings = Timings::default();
                        let opened = self.open(assignment, helper, &mut timings).await;
                        let begun = match opened {
                            Ok(mut flow) => flow.begin(&mut timings).await.map(|()| flow),
                            Err(error) => Err(error),
                        };
                        (helper, begun)
                    }));
                }
            }
        };
        let slices = match stop {
            StopReason::Complete => meter.finish(),
            // The slice that was not finished when the estimator stopped is
            // not the whole of what was on its way.
            _ => meter.slices().to_vec(),
        };
        let is_held = held > 0 && held == slices.len();
        let least = self.options.min_bytes.min(self.options.max_bytes);
        with_a_rate(slices, held, stop, &estimator, received, least)
            .map_err(|problem| if is_held { no_room(received) } else { problem })
    }

    async fn open(
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
        // No request goes out before every flow is open.
        let begun = opened
            .into_iter()
            .map(async |(helper, opened, mut timings)| {
                let begun = match opened {
                    Ok(mut flow) => flow.begin(&mut timings).await.map(|()| flow),
                    Err(error) => Err(error),
                };
                (helper, begun, timings)
            });
        let begun = join_all(begun).await;
        let mut flows = Vec::with_capacity(begun.len());
        let mut problem = None;
        for (helper, result, took) in begun {
            if flows.is_empty() {
                *timings = took;
            }
            match result {
                Ok(flow) => flows.push((helper, flow)),
                Err(error) => problem = Some(error),
            }
        }
        match problem {
            Some(error) if flows.is_empty() => Err(Problem {
                blame: error.fault.blame(attempt.position),
                error,
                bytes: 0,
            }),
            None if flows.is_empty() => Err(Problem {
                error: PathError::new(
                    Stage::Path,
                    FailureKind::NoHelper,
                    Fault::Either,
                    "no helper was assigned",
                ),
                blame: Blame::Path,
                bytes: 0,
            }),
            _ => {
                attempt.helpers = flows.iter().map(|(helper, _)| *helper).collect();
                Ok(flows)
            }
        }
    }
}

/// A flow as a stream that ends with the flow's end or error.
fn arrivals_of<'a>(
    helper: Fingerprint,
    flow: impl Flow + 'a,
    lease: &'a Lease<'_>,
) -> BoxStream<'a, Arrival> {
    let state = Some((flow, lease.reader()));
    unfold(state, move |state| async move {
        let (mut flow, reader) = state?;
        match flow.ready().await {
            Ok(true) => {
                let leave = reader.leave().await;
                let bytes = flow.take(leave.bytes);
                reader.took(leave, bytes);
                Some(((helper, Ok(Some(bytes))), Some((flow, reader))))
            }
            Ok(false) => Some(((helper, Ok(None)), None)),
            Err(error) => Some(((helper, Err(error)), None)),
        }
    })
    .boxed()
}

fn path(kind: FailureKind, detail: String, bytes: u64) -> Problem {
    Problem {
        // A circuit that dries up may be anyone's doing.
        error: PathError::new(Stage::Transfer, kind, Fault::Either, detail),
        blame: Blame::Path,
        bytes,
    }
}

/// Others left nothing of the link.
fn no_room(bytes: u64) -> Problem {
    let detail = format!("only {bytes} bytes came, as others took the scanner's link");
    Problem {
        error: PathError::new(
            Stage::Transfer,
            FailureKind::Limited,
            Fault::Scanner,
            detail,
        ),
        blame: Blame::Scanner,
        bytes,
    }
}

/// Sets the warm-up apart and makes sure that a rate is left.
fn with_a_rate(
    slices: Vec<Slice>,
    held: usize,
    stop: StopReason,
    estimator: &impl Estimator,
    received: u64,
    least: u64,
) -> Result<Transfer, Problem> {
    let counts = slices.get(held..).filter(|slices| !slices.is_empty());
    let warm_up = counts.map_or(0, |slices| held + estimator.warm_up(slices));
    let transfer = Transfer::new(slices, warm_up, stop);
    let counted: u64 = transfer.counted().iter().map(|slice| slice.bytes).sum();
    if transfer.rate().is_some() && counted >= least {
        return Ok(transfer);
    }
    let millis = transfer.duration().as_millis();
    let detail = format!(
        "{received} bytes in {millis} ms, {counted} of them after the warm-up, \
         give no rate (at least {least} must)"
    );
    Err(path(FailureKind::TooShort, detail, received))
}
