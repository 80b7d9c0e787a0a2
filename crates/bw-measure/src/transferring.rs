//! Payload while it flows: counted slice by slice, until enough is known.

use std::time::Duration;

use bw_file::{BytesPerSecond, Fingerprint};
use bw_results::{
    Attempt, Blame, FailureKind, Slice, Stage, StopReason, TargetFacts, Timings, Transfer,
};
use futures::StreamExt;
use futures::future::{BoxFuture, Either};
use futures::stream::{BoxStream, FuturesUnordered, SelectAll, unfold};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::link::Lease;
use crate::measurer::Problem;
use crate::{
    Assignment, Control, Estimator, Event, Fault, Flow, Measurer, Meter, Observer, PathError,
    Transport,
};

/// Slices after the link withheld reading that do not count: what waited comes at once, and
/// the sender has to find its rate again. Half a second, as at the beginning.
const SETTLING: usize = 10;
/// After so much time in which the link withheld reading the rate is the link's.
const WITHHELD: Duration = Duration::from_millis(1500);
/// A flow of which something waits to be read for so long brings what is queued, not what the
/// path carries. A busy machine reads late, but catches up in less.
const QUEUED: Duration = Duration::from_secs(2);
/// Slices between two estimates that are told: a quarter of a second.
const TOLD: usize = 5;
/// The number of longest silences that a transfer may last in all.
const STALLS: u32 = 3;

/// The transfer of one measurement.
pub(crate) struct Transferring<'a, T: Transport, F, E> {
    measurer: &'a Measurer<T, F>,
    assignment: &'a Assignment,
    attempt: &'a mut Attempt,
    timings: &'a mut Timings,
    lease: &'a Lease,
    arrivals: SelectAll<BoxStream<'a, Arrival>>,
    joining: FuturesUnordered<BoxFuture<'a, Joined<T>>>,
    flows: Vec<Brought>,
    start: Instant,
    last_byte: Instant,
    meter: Meter,
    estimator: E,
    /// The first slice of the present run, in which the link withheld nothing.
    run: usize,
    /// Slices that were looked at.
    looked: usize,
    /// True if the run had shown enough when it was last looked at.
    suffices: bool,
    /// True if the link withheld reading since the slices were last looked at.
    denied: bool,
    /// In how much time it did.
    withheld: Duration,
}

/// A helper that was to join, with its flow.
type Joined<T> = (Fingerprint, Result<<T as Transport>::Flow, PathError>);

/// The bytes that a flow has brought.
struct Brought {
    helper: Fingerprint,
    bytes: u64,
    /// True if its answer has begun.
    begun: bool,
    /// True if it failed before that.
    dropped: bool,
    /// When nothing waited to be read for the last time.
    dry: Duration,
    /// True if the server gave no more when it last brought something, by its own words.
    is_servers_limit: bool,
}

/// News of a flow, by its number.
struct Arrival {
    flow: usize,
    news: News,
}

enum News {
    /// The head of the answer is there and right.
    Begun(Timings),
    Payload(Piece),
    /// Data is there, but the link has no room for it.
    Withheld,
    /// All that was ordered has come.
    Complete,
    Failed(PathError),
}

/// Payload that came.
struct Piece {
    bytes: u64,
    /// True if nothing more waited at some time since the last piece.
    dry: bool,
    /// True if the server gives no more, by its own words.
    is_servers_limit: bool,
}

/// A flow between two pieces of news.
enum Reading<F> {
    Fresh(F),
    Open(F),
    Withheld(F, Instant),
}

impl<F: Flow> Reading<F> {
    /// Waits for news, and for the link to let them be read.
    async fn next(self, lease: &Lease) -> (News, Option<Self>) {
        match self {
            Self::Fresh(mut flow) => {
                let mut timings = Timings::default();
                match flow.begin(&mut timings).await {
                    Ok(()) => (News::Begun(timings), Some(Self::Open(flow))),
                    Err(error) => (News::Failed(error), None),
                }
            }
            Self::Open(mut flow) => match flow.ready().await {
                Ok(true) => match lease.permit() {
                    Ok(most) => Self::read(flow, most, lease),
                    Err(until) => (News::Withheld, Some(Self::Withheld(flow, until))),
                },
                Ok(false) => (News::Complete, None),
                Err(error) => (News::Failed(error), None),
            },
            Self::Withheld(flow, mut until) => loop {
                sleep_until(until).await;
                match lease.permit() {
                    Ok(most) => return Self::read(flow, most, lease),
                    Err(later) => until = later,
                }
            },
        }
    }

    fn read(mut flow: F, most: u64, lease: &Lease) -> (News, Option<Self>) {
        let bytes = flow.take(most);
        lease.took(bytes);
        let piece = Piece {
            bytes,
            dry: flow.ran_dry(),
            is_servers_limit: flow.is_at_servers_limit(),
        };
        (News::Payload(piece), Some(Self::Open(flow)))
    }
}

/// The news of a flow, until its end or error.
fn arrivals_of<'a, F: Flow + 'a>(
    flow: usize,
    payload: F,
    lease: &'a Lease,
) -> BoxStream<'a, Arrival> {
    unfold(Some(Reading::Fresh(payload)), move |reading| async move {
        let (news, reading) = reading?.next(lease).await;
        Some((Arrival { flow, news }, reading))
    })
    .boxed()
}

/// The end of a transfer.
struct Ending {
    stop: StopReason,
    /// The first of the slices that the estimator saw; `None` if none count.
    from: Option<usize>,
    /// The number of the last slices that do not count.
    cool_down: usize,
    bound: Option<Blame>,
}

impl Ending {
    const fn of(stop: StopReason, from: usize) -> Self {
        Self {
            stop,
            from: Some(from),
            cool_down: 0,
            bound: None,
        }
    }

    const fn without_rate(stop: StopReason) -> Self {
        Self {
            stop,
            from: None,
            cool_down: 0,
            bound: None,
        }
    }
}

impl<'a, T, F, E> Transferring<'a, T, F, E>
where
    T: Transport,
    F: Fn(&TargetFacts) -> E + Send + Sync,
    E: Estimator,
{
    /// Requests go out as soon as it runs: all `flows` are open.
    pub(crate) fn new(
        measurer: &'a Measurer<T, F>,
        assignment: &'a Assignment,
        (attempt, timings): (&'a mut Attempt, &'a mut Timings),
        lease: &'a Lease,
        flows: Vec<(Fingerprint, T::Flow)>,
    ) -> Self {
        let now = Instant::now();
        let mut transfer = Self {
            measurer,
            assignment,
            estimator: (measurer.estimator)(&attempt.target),
            attempt,
            timings,
            lease,
            arrivals: SelectAll::new(),
            joining: FuturesUnordered::new(),
            flows: Vec::new(),
            start: now,
            last_byte: now,
            meter: Meter::new(measurer.options.slice),
            run: 0,
            looked: 0,
            suffices: false,
            denied: false,
            withheld: Duration::ZERO,
        };
        for (helper, flow) in flows {
            transfer.add(helper, flow);
        }
        transfer
    }

    fn add(&mut self, helper: Fingerprint, flow: T::Flow) {
        self.arrivals
            .push(arrivals_of(self.flows.len(), flow, self.lease));
        self.flows.push(Brought {
            helper,
            bytes: 0,
            begun: false,
            dropped: false,
            dry: self.start.elapsed(),
            is_servers_limit: false,
        });
    }

    pub(crate) async fn run(
        mut self,
        control: &mut impl Control,
        observer: &impl Observer,
    ) -> Result<Transfer, Problem> {
        loop {
            // Wake at the end of each slice even if nothing comes: time
            // without a byte counts, and the estimator may end the transfer.
            let boundary = self.start + self.meter.next_boundary();
            let next = timeout_at(boundary, self.next()).await;
            let now = Instant::now();
            match next {
                Err(_) => self.check_stall(now)?,
                Ok(Either::Left(None)) => {
                    let ending = self.complete();
                    return self.finish(ending);
                }
                Ok(Either::Left(Some(arrival))) => {
                    if let Some(ending) = self.take(arrival, now)? {
                        return self.finish(ending);
                    }
                }
                Ok(Either::Right((helper, Ok(flow)))) => {
                    self.attempt.helpers.push(helper);
                    self.add(helper, flow);
                }
                Ok(Either::Right((helper, Err(error)))) => {
                    tracing::debug!(%helper, %error, "could not join");
                }
            }
            self.meter.advance(now - self.start);
            if self.looked < self.meter.slices().len() {
                let bytes = self.received();
                observer.observe(&Event::Progress {
                    attempt: &*self.attempt,
                    bytes,
                });
                if self.meter.slices().len() / TOLD > self.looked / TOLD {
                    self.tell(observer);
                }
                if let Some(ending) = self.look() {
                    return self.finish(ending);
                }
                self.ask(control);
            }
        }
    }

    async fn next(&mut self) -> Either<Option<Arrival>, Joined<T>> {
        if self.joining.is_empty() {
            return Either::Left(self.arrivals.next().await);
        }
        tokio::select! {
            biased;
            arrival = self.arrivals.next() => Either::Left(arrival),
            Some(joined) = self.joining.next() => Either::Right(joined),
        }
    }

    fn received(&self) -> u64 {
        self.flows.iter().map(|flow| flow.bytes).sum()
    }

    fn check_stall(&mut self, now: Instant) -> Result<(), Problem> {
        let stall = self.measurer.options.stall;
        if self.meter.is_throttled() {
            self.last_byte = now;
        }
        // The head of the answer has a limit of its own.
        let waits = |flow: &Brought| !flow.begun && !flow.dropped;
        if now - self.last_byte < stall || self.flows.iter().any(waits) {
            return Ok(());
        }
        let (silence, received) = (stall.as_secs_f64(), self.received());
        let detail = format!("no byte for {silence} s, after {received} bytes");
        Err(self.path(FailureKind::Timeout, detail))
    }

    /// Takes note of what a flow brought.
    fn take(&mut self, arrival: Arrival, now: Instant) -> Result<Option<Ending>, Problem> {
        let (time, index) = (now - self.start, arrival.flow);
        match arrival.news {
            News::Begun(timings) => {
                self.flows[index].begun = true;
                self.timings.response = self.timings.response.or(timings.response);
                self.last_byte = now;
            }
            News::Payload(piece) => {
                let Piece { bytes, dry, .. } = piece;
                self.meter.release(time, index);
                self.meter.add(time, bytes);
                let flow = &mut self.flows[index];
                flow.bytes += bytes;
                flow.is_servers_limit = piece.is_servers_limit;
                if dry {
                    flow.dry = time;
                }
                if time.saturating_sub(flow.dry) >= QUEUED {
                    // It comes from a queue, at our own pace.
                    self.meter.withhold(time, index);
                    self.meter.release(time, index);
                }
                if bytes > 0 {
                    self.last_byte = now;
                }
            }
            News::Withheld => {
                self.meter.withhold(time, index);
                self.denied = true;
            }
            // One circuit has all that was asked of it; what the others
            // bring from now on is less than the target can carry.
            News::Complete => return Ok(Some(self.complete())),
            News::Failed(error) => self.fail(index, error)?,
        }
        Ok(None)
    }

    /// A flow failed: the others go on. What they bring counts anew, since they find their rates
    /// again without it. The measurement fails with the last of them.
    fn fail(&mut self, index: usize, error: PathError) -> Result<(), Problem> {
        let left = self.flows.iter().filter(|flow| !flow.dropped).count();
        if left < 2 {
            return Err(Problem::new(error, self.attempt, self.received()));
        }
        let flow = &mut self.flows[index];
        flow.dropped = true;
        let (helper, begun) = (flow.helper, flow.begun);
        tracing::debug!(%helper, %error, "goes on without");
        self.attempt.helpers.retain(|other| *other != helper);
        if begun {
            self.begin_run(self.meter.slices().len() + SETTLING);
        }
        Ok(())
    }

    /// Only slices from this one on count.
    fn begin_run(&mut self, from: usize) {
        self.run = self.run.max(from);
        self.estimator = (self.measurer.estimator)(&self.attempt.target);
        self.suffices = false;
    }

    const fn complete(&self) -> Ending {
        Ending::of(StopReason::Complete, self.run)
    }

    /// Looks at the slices that were finished since the last time.
    fn look(&mut self) -> Option<Ending> {
        let slices = self.meter.slices();
        let (mut interrupted, mut begin) = (false, None);
        for (index, slice) in slices.iter().enumerate().skip(self.looked) {
            if slice.is_throttled() {
                if self.denied {
                    self.withheld += Duration::from_micros(slice.micros);
                }
                interrupted |= self.suffices;
                if !interrupted {
                    begin = Some(index + 1 + SETTLING);
                }
            }
        }
        let fresh = slices.len() - self.looked;
        self.looked = slices.len();
        self.denied = self.meter.is_throttled();
        if let Some(from) = begin {
            self.begin_run(from);
        }
        if self.flows.iter().all(|flow| flow.bytes == 0) {
            // Time before the first byte is the path's.
            self.run = self.run.max(self.looked);
        }
        if interrupted {
            return Some(Ending {
                cool_down: fresh,
                ..Ending::of(StopReason::Throttled, self.run)
            });
        }
        let run = self.meter.slices().get(self.run..).unwrap_or(&[]);
        let stop = (!run.is_empty()).then(|| self.estimator.observe(run));
        let progress = if run.is_empty() {
            0.0
        } else {
            self.estimator.progress(run)
        };
        self.suffices = progress >= 1.0;
        let all = self.meter.slices();
        if self.estimator.is_burst(all) {
            // What the link withholds of a burst says nothing of what comes after it.
            self.withheld = Duration::ZERO;
        }
        let bursts = self.estimator.sustains(all).is_some();
        let notice = self.lease.look(progress, bursts);
        if let Some(stop) = stop.flatten() {
            return Some(Ending::of(stop, self.run));
        }
        if notice.gives_way() && self.estimator.sustains(run).is_some() {
            return Some(Ending::of(StopReason::TimeLimit, self.run));
        }
        let wanted = notice.enough.is_some_and(|enough| progress >= enough);
        if wanted || (self.suffices && notice.stops) {
            return Some(Ending::of(StopReason::TimeLimit, self.run));
        }
        let longest = self.measurer.options.stall * STALLS;
        if notice.stops || self.start.elapsed() >= longest {
            return Some(Ending::without_rate(StopReason::Throttled));
        }
        (self.withheld >= WITHHELD).then(|| self.at_the_links_rate(notice.has_all))
    }

    /// The link withheld reading for long: if nobody else used it, the rate is a lower bound.
    fn at_the_links_rate(&self, has_all: bool) -> Ending {
        let slices = self.meter.slices().iter();
        let first = slices.clone().position(Slice::is_throttled);
        match first {
            Some(first) if has_all => Ending {
                bound: Some(Blame::Scanner),
                ..Ending::of(StopReason::Throttled, first)
            },
            _ => Ending::without_rate(StopReason::Throttled),
        }
    }

    /// The bytes that each helper's circuit has brought, without those that broke.
    fn brought(&self) -> Vec<(Fingerprint, u64)> {
        let flows = self.flows.iter().filter(|flow| !flow.dropped);
        flows.map(|flow| (flow.helper, flow.bytes)).collect()
    }

    fn tell(&self, observer: &impl Observer) {
        let run = self.meter.slices().get(self.run..).unwrap_or(&[]);
        observer.observe(&Event::Estimate {
            attempt: &*self.attempt,
            estimate: self.estimator.estimate(run),
            helpers: &self.brought(),
        });
    }

    /// Lets others look at how it goes, and further helpers join.
    fn ask(&mut self, control: &mut impl Control) {
        if self.meter.is_throttled() {
            return;
        }
        let bytes = self.brought();
        let (measurer, assignment) = (self.measurer, self.assignment);
        for helper in control.observe(self.meter.slices(), &bytes) {
            self.joining.push(Box::pin(async move {
                let mut timings = Timings::default();
                let opened = measurer.open(assignment, helper, &mut timings).await;
                (helper, opened)
            }));
        }
    }

    /// The destination, if a flow has the rate that its server gives at most.
    fn bound_by_server(&self) -> Option<Blame> {
        let limited = self.flows.iter().any(|flow| flow.is_servers_limit);
        limited.then_some(Blame::Destination)
    }

    fn path(&self, kind: FailureKind, detail: String) -> Problem {
        Problem {
            // A circuit that dries up may be anyone's doing.
            error: PathError::new(Stage::Transfer, kind, Fault::Either, detail),
            blame: Blame::Path,
            bytes: self.received(),
        }
    }

    /// Sets apart what does not count, and makes sure that what does is enough.
    fn finish(self, ending: Ending) -> Result<Transfer, Problem> {
        let slices = match ending.stop {
            StopReason::Complete => self.meter.clone().finish(),
            // The slice that was not finished when the estimator stopped is
            // not the whole of what was on its way.
            _ => self.meter.slices().to_vec(),
        };
        let Some(from) = ending.from else {
            let all = slices.len();
            return Ok(Transfer::new(slices, all, ending.stop));
        };
        let until = slices.len() - ending.cool_down.min(slices.len());
        let counts = slices.get(from..until).unwrap_or(&[]);
        let sustains = self.estimator.sustains(counts);
        let bound = ending.bound.filter(|_| sustains.is_none());
        let warm_up = match bound {
            None if !counts.is_empty() => self.estimator.warm_up(counts),
            _ => 0,
        };
        let transfer = Transfer::new(slices, from + warm_up, ending.stop)
            .ending_at(ending.cool_down)
            .bounded_by(bound.or_else(|| self.bound_by_server()))
            .sustaining(sustains.map(|rate| BytesPerSecond::new(rate.round() as u64)));
        let options = &self.measurer.options;
        let least = options.min_bytes.min(options.max_bytes);
        let counted: u64 = transfer.counted().iter().map(|slice| slice.bytes).sum();
        if transfer.rate().is_some() && counted >= least {
            return Ok(transfer);
        }
        let (received, millis) = (self.received(), transfer.duration().as_millis());
        let detail = format!(
            "{received} bytes in {millis} ms, {counted} of them after the warm-up, \
             give no rate (at least {least} must)"
        );
        Err(self.path(FailureKind::TooShort, detail))
    }
}
