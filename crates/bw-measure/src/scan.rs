//! The scan loop: every target gets a value or a cause.

mod together;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bw_file::{BytesPerSecond, Fingerprint};
use bw_results::{
    Attempt, Blame, Direction, Failure, FailureKind, NetworkSnapshot, Outcome, Position, ScanId,
    Slice, Stage, TargetFacts, UnixMillis, Verdict,
};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::error::chain;
use crate::{
    Action, Assignment, Completion, Control, Destination, DestinationReport, Directory, Error,
    ErrorKind, Estimator, Event, HelperPolicy, Limits, Measurer, Observer, Plan, Records, RunId,
    Scheduler, SpareHelpers, Sustained, Targets, TransferOptions, Transport, WallClock, Window,
    preferred_direction,
};

/// A scan: what it measures with, and what bounds it.
///
/// ```no_run
/// # async fn example(
/// #     directory: impl bw_measure::Directory,
/// #     transport: impl bw_measure::Transport,
/// # ) -> Result<(), Box<dyn std::error::Error>> {
/// use bw_file::BytesPerSecond;
/// use bw_measure::{EachOnce, Event, Scan};
///
/// let report = Scan::builder(directory, transport)
///     .destination("https://bw.example/1GiB".parse()?)
///     .link(BytesPerSecond::new(12_500_000))
///     .observer(|event: &Event<'_>| println!("{event:?}"))
///     .run(&EachOnce::default(), &())
///     .await?;
/// println!("{} relays measured", report.measured);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a scan does nothing until it is run"]
pub struct Scan<D, T, P = SpareHelpers, F = fn(&TargetFacts) -> Sustained, O = ()> {
    directory: D,
    transport: T,
    planning: Planning<P>,
    estimator: F,
    observer: O,
    transfer: TransferOptions,
    window: Option<Window>,
    clock: WallClock,
    cancel: CancellationToken,
}

/// The parts that a scan's scheduler is made of.
#[derive(Debug)]
struct Planning<P> {
    policy: P,
    destinations: Vec<Destination>,
    limits: Limits,
    direction: Option<Direction>,
    known: Vec<(Fingerprint, BytesPerSecond)>,
    spent: u64,
    doubtful: bool,
    rng: StdRng,
}

impl<P> Planning<P> {
    fn with<Q>(self, policy: impl FnOnce(P) -> Q) -> Planning<Q> {
        Planning {
            policy: policy(self.policy),
            destinations: self.destinations,
            limits: self.limits,
            direction: self.direction,
            known: self.known,
            spent: self.spent,
            doubtful: self.doubtful,
            rng: self.rng,
        }
    }
}

impl<P: HelperPolicy> Planning<P> {
    /// Makes the scheduler, without relays to measure.
    fn scheduler(mut self, network: Arc<NetworkSnapshot>) -> Scheduler<P> {
        let direction = self.direction;
        self.limits.direction = direction.unwrap_or_else(|| preferred_direction(&network));
        let (policy, limits) = (self.policy, self.limits);
        let mut scheduler = Scheduler::new(policy, limits, self.destinations, network, self.rng);
        for (relay, rate) in self.known {
            scheduler.remember(relay, rate.value() as f64);
        }
        scheduler.remember_spent(self.spent);
        if self.doubtful {
            scheduler.doubt();
        }
        scheduler
    }
}

impl<D: Directory, T: Transport> Scan<D, T> {
    /// Begins with default limits, a link of 12.5 MB/s, and neither destination nor observer.
    pub fn builder(directory: D, transport: T) -> Self {
        Self {
            directory,
            transport,
            planning: Planning {
                policy: SpareHelpers::default(),
                destinations: Vec::new(),
                limits: Limits::default(),
                direction: None,
                known: Vec::new(),
                spent: 0,
                doubtful: false,
                rng: StdRng::from_rng(&mut rand::rng()),
            },
            estimator: |target| Sustained::default().for_target(target),
            observer: (),
            transfer: TransferOptions::default(),
            window: None,
            clock: WallClock::system(),
            cancel: CancellationToken::new(),
        }
    }
}

impl<D, T, P, F, O> Scan<D, T, P, F, O> {
    /// Sets whether it has to be found out first whether anything works: nothing did before.
    pub(crate) const fn doubtful(mut self, doubtful: bool) -> Self {
        self.planning.doubtful = doubtful;
        self
    }

    /// Adds a web server to download from, or to upload to. One is needed.
    pub fn destination(mut self, destination: Destination) -> Self {
        self.planning.destinations.push(destination);
        self
    }

    /// Sets the scanner's link: the most payload per second of all measurements together.
    /// 0 sets no limit.
    pub fn link(mut self, rate: BytesPerSecond) -> Self {
        self.planning.limits.link = rate;
        self
    }

    /// Sets all limits, that of the link included. The direction is the network's choice,
    /// unless [`direction`](Self::direction) sets it.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.planning.limits = limits;
        self
    }

    /// Sets which way the payload goes. Default: as the consensus asks.
    pub fn direction(mut self, direction: Direction) -> Self {
        self.planning.direction = Some(direction);
        self
    }

    /// Sets what each measurement asks for.
    pub fn transfer(mut self, options: TransferOptions) -> Self {
        self.transfer = options;
        self
    }

    /// Sets the time of day in which measurements begin. Default: always.
    pub fn window(mut self, window: Window) -> Self {
        self.window = Some(window);
        self
    }

    /// Sets the clock whose time records carry. Default: the system's.
    pub fn clock(mut self, clock: WallClock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the token that stops the scan.
    pub fn cancel(mut self, cancel: CancellationToken) -> Self {
        self.cancel = cancel;
        self
    }

    /// Sets what all random choices follow from. Default: the system's randomness.
    pub fn seed(mut self, seed: u64) -> Self {
        self.planning.rng = StdRng::seed_from_u64(seed);
        self
    }

    /// Sets the rates that relays were found to carry in earlier scans.
    pub fn known(mut self, rates: impl IntoIterator<Item = (Fingerprint, BytesPerSecond)>) -> Self {
        self.planning.known = rates.into_iter().collect();
        self
    }

    /// Sets the payload of the last 24 hours, in bytes. It counts for
    /// [`Limits::bytes_per_day`].
    pub fn spent(mut self, bytes: u64) -> Self {
        self.planning.spent = bytes;
        self
    }

    /// Sets who chooses helpers.
    pub fn helper_policy<Q: HelperPolicy>(self, policy: Q) -> Scan<D, T, Q, F, O> {
        self.with(|_| policy, |estimator| estimator, |observer| observer)
    }

    /// Sets how the estimator of each measurement is made.
    pub fn estimator<G, E>(self, estimator: G) -> Scan<D, T, P, G, O>
    where
        G: Fn(&TargetFacts) -> E + Send + Sync,
        E: Estimator,
    {
        self.with(|policy| policy, |_| estimator, |observer| observer)
    }

    /// Sets who is told what happens.
    pub fn observer<Q: Observer>(self, observer: Q) -> Scan<D, T, P, F, Q> {
        self.with(|policy| policy, |estimator| estimator, |_| observer)
    }

    fn with<P2, F2, O2>(
        self,
        policy: impl FnOnce(P) -> P2,
        estimator: impl FnOnce(F) -> F2,
        observer: impl FnOnce(O) -> O2,
    ) -> Scan<D, T, P2, F2, O2> {
        Scan {
            directory: self.directory,
            transport: self.transport,
            planning: self.planning.with(policy),
            estimator: estimator(self.estimator),
            observer: observer(self.observer),
            transfer: self.transfer,
            window: self.window,
            clock: self.clock,
            cancel: self.cancel,
        }
    }
}

impl<D, T, P, F, E, O> Scan<D, T, P, F, O>
where
    D: Directory,
    T: Transport,
    P: HelperPolicy,
    F: Fn(&TargetFacts) -> E + Send + Sync,
    E: Estimator,
    O: Observer,
{
    /// Measures the relays of `targets`, as many at a time as the limits allow.
    ///
    /// Every record is given to `records` as it comes. The scan ends when every relay is
    /// measured or given up, or when it is cancelled: then the transfers under way are
    /// dropped, and what is left is in the report. Outside of the window no measurement
    /// begins.
    ///
    /// # Errors
    /// [`ScanError::Scan`] with [`ErrorKind::Configuration`] if there is no destination, with
    /// [`ErrorKind::Directory`] if no circuit can be built any more, and with
    /// [`ErrorKind::Destination`] if nothing can be measured through circuits. Everything
    /// recorded until then stays valid.
    pub async fn run<A: Targets, R: Records>(
        self,
        targets: &A,
        records: &R,
    ) -> Result<ScanReport, ScanError<A::Error, R::Error>> {
        let Some(network) = self.network().await? else {
            return Ok(ScanReport::default());
        };
        let scheduler = self.planning.scheduler(Arc::clone(&network));
        let mut measurer = Measurer::new(self.transport, self.estimator, self.clock);
        measurer.options = self.transfer;
        let scanning = Scanning {
            measurer: &measurer,
            window: self.window,
            targets,
            records,
            observer: &self.observer,
            begin: Instant::now(),
            snapshot: Mutex::new(network),
            scheduler: Mutex::new(scheduler),
            freed: Notify::new(),
            report: Mutex::default(),
            measured: Mutex::default(),
        };
        scanning.run(&self.directory, &self.cancel).await?;
        scanning.machines(&self.cancel).await?;
        Ok(scanning.finish())
    }

    /// Shows what [`run`](Self::run) would do, if every relay carried what is expected of it.
    /// A measurement moves payload for `transfer`, and opening its circuits takes `opening`.
    ///
    /// # Errors
    /// Those of the directory and of `targets`.
    pub async fn plan<A: Targets>(
        self,
        targets: &A,
        opening: Duration,
        transfer: Duration,
    ) -> Result<Plan, ScanError<A::Error, std::convert::Infallible>> {
        let Some(network) = self.network().await? else {
            return Ok(Plan::default());
        };
        let mut scheduler = self.planning.scheduler(Arc::clone(&network));
        let more = targets.more(&network, 0).map_err(ScanError::Targets)?;
        for target in more {
            scheduler.add(target);
        }
        Ok(Plan::of(scheduler, opening, transfer))
    }

    /// The network as it is at first; `None` if the scan is cancelled meanwhile.
    async fn network(&self) -> Result<Option<Arc<NetworkSnapshot>>, Error> {
        if self.planning.destinations.is_empty() {
            let text = "no destination: a scan needs a web server to download from";
            return Err(Error::new(ErrorKind::Configuration, text));
        }
        let network = self.directory.snapshot();
        self.cancel.run_until_cancelled(network).await.transpose()
    }
}

/// Tells why a scan ended before its time.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError<T, R> {
    /// Nothing can be measured.
    #[error(transparent)]
    Scan(#[from] Error),
    /// The targets failed.
    #[error("no relays to measure can be given")]
    Targets(#[source] T),
    /// The records failed.
    #[error("a record cannot be kept")]
    Records(#[source] R),
}

/// The result of a scan.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ScanReport {
    /// Relays measured.
    pub measured: usize,
    /// Relays given up, each with its cause recorded.
    pub failed: usize,
    /// Relays not dealt with, because the scan was cancelled.
    pub left: usize,
    /// Payload bytes moved, those of failures included.
    pub bytes: u64,
    /// The results of each destination.
    pub destinations: Vec<DestinationReport>,
}

/// The interval at which the directory is asked whether the network changed.
const REFRESH: Duration = Duration::from_secs(10);

/// The next step of the scan loop.
enum Next {
    Measure(RunId, Box<Assignment>),
    Wait(Option<Duration>),
    Done,
}

/// A scan under way.
struct Scanning<'a, T, F, P, A, R, O> {
    measurer: &'a Measurer<T, F>,
    window: Option<Window>,
    targets: &'a A,
    records: &'a R,
    observer: &'a O,
    begin: Instant,
    snapshot: Mutex<Arc<NetworkSnapshot>>,
    scheduler: Mutex<Scheduler<P>>,
    /// Told when a running measurement takes less than was expected.
    freed: Notify,
    report: Mutex<ScanReport>,
    /// The relays that it has measured.
    measured: Mutex<HashSet<Fingerprint>>,
}

impl<T, F, E, P, A, R, O> Scanning<'_, T, F, P, A, R, O>
where
    T: Transport,
    F: Fn(&TargetFacts) -> E + Send + Sync,
    E: Estimator,
    P: HelperPolicy,
    A: Targets,
    R: Records,
    O: Observer,
{
    async fn run<D: Directory>(
        &self,
        directory: &D,
        cancel: &CancellationToken,
    ) -> Result<(), ScanError<A::Error, R::Error>> {
        self.network_is(&lock(&self.snapshot))?;
        self.refill()?;
        let mut refreshed = Box::pin(refresh(directory));
        let mut running = FuturesUnordered::new();
        loop {
            let wake = loop {
                match self.next()? {
                    Next::Measure(run, assignment) => running.push(self.measure(run, assignment)),
                    Next::Wait(wake) => break wake,
                    Next::Done => break None,
                }
            };
            if running.is_empty() && lock(&self.scheduler).is_done() {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                Some((run, outcome)) = running.next(), if !running.is_empty() => {
                    self.end(run, outcome)?;
                }
                () = self.freed.notified() => {}
                network = &mut refreshed => {
                    refreshed.set(refresh(directory));
                    self.refreshed(network)?;
                }
                () = sleep_until(self.begin + wake.unwrap_or_default()), if wake.is_some() => {}
            }
        }
    }

    /// The next step. To be asked again until it says to wait.
    fn next(&self) -> Result<Next, ScanError<A::Error, R::Error>> {
        let waiting = lock(&self.scheduler).waiting();
        if waiting == 0 {
            self.refill()?;
        }
        let now = self.begin.elapsed();
        let wall = self.measurer.clock.now();
        if let Some(closed) = self.window.and_then(|window| window.opens_in(wall)) {
            let done = lock(&self.scheduler).is_done();
            return Ok(if done {
                Next::Done
            } else {
                Next::Wait(Some(now + closed))
            });
        }
        let action = lock(&self.scheduler).next(now);
        self.revise(&lock(&self.scheduler).take_revised())?;
        self.tell_changes();
        match action {
            Action::Start(run, assignment) => Ok(Next::Measure(run, Box::new(assignment))),
            Action::Unable {
                run,
                target,
                scan,
                kind,
            } => {
                let completion = unable(target, scan, kind, wall);
                self.keep(run, &completion)?;
                self.next()
            }
            Action::Wait(wake) => Ok(Next::Wait(wake)),
            Action::Broken => Err(nothing_works(&lock(&self.scheduler)).into()),
            Action::Done => Ok(Next::Done),
        }
    }

    async fn measure(&self, run: RunId, assignment: Box<Assignment>) -> (RunId, Outcome) {
        let lease = lock(&self.scheduler).lease(run, self.begin);
        let mut control = Corrections {
            scheduler: &self.scheduler,
            freed: &self.freed,
            run,
            begin: self.begin,
        };
        let outcome = self
            .measurer
            .measure(&assignment, &lease, &mut control, self.observer)
            .await;
        (run, outcome)
    }

    /// A measurement made its record.
    fn end(&self, run: RunId, outcome: Outcome) -> Result<(), ScanError<A::Error, R::Error>> {
        let now = self.begin.elapsed();
        lock(&self.report).bytes += outcome.bytes();
        let completion = lock(&self.scheduler).end(run, now, outcome);
        self.revise(&completion.revised)?;
        if completion.is_control {
            self.observer.observe(&Event::Control(&completion.outcome));
        } else {
            self.keep(run, &completion)?;
        }
        self.tell_changes();
        Ok(())
    }

    fn keep(
        &self,
        run: RunId,
        completion: &Completion,
    ) -> Result<(), ScanError<A::Error, R::Error>> {
        if completion.settled {
            let mut report = lock(&self.report);
            match &completion.outcome {
                Outcome::Measured(_) => {
                    report.measured += 1;
                    let target = &completion.outcome.attempt().target;
                    lock(&self.measured).insert(target.fingerprint);
                }
                Outcome::Failed(_) => report.failed += 1,
            }
        }
        self.observer.observe(&Event::Ended(completion));
        let kept = self.records.record(run, completion);
        kept.map_err(ScanError::Records)
    }

    fn revise(&self, verdicts: &[(RunId, Verdict)]) -> Result<(), ScanError<A::Error, R::Error>> {
        let mut verdicts = verdicts.iter();
        verdicts
            .try_for_each(|(run, verdict)| self.records.revise(*run, *verdict))
            .map_err(ScanError::Records)
    }

    fn tell_changes(&self) {
        let changes = lock(&self.scheduler).take_changes();
        for change in &changes {
            self.observer.observe(&Event::Changed(change));
        }
    }

    /// Goes on in the network as the directory shows it now.
    fn refreshed(
        &self,
        network: Result<Arc<NetworkSnapshot>, Error>,
    ) -> Result<(), ScanError<A::Error, R::Error>> {
        let lost = network.as_ref().err().map(|error| chain(error));
        lock(&self.scheduler).directory(lost);
        self.tell_changes();
        let new = network.ok();
        let Some(network) = new.filter(|new| !Arc::ptr_eq(new, &lock(&self.snapshot))) else {
            return Ok(());
        };
        self.network_is(&network)?;
        lock(&self.scheduler).set_network(Arc::clone(&network));
        *lock(&self.snapshot) = network;
        self.refill()
    }

    fn network_is(&self, network: &NetworkSnapshot) -> Result<(), ScanError<A::Error, R::Error>> {
        self.records.network(network).map_err(ScanError::Records)?;
        self.observer.observe(&Event::Network(network));
        Ok(())
    }

    /// Asks for further relays.
    fn refill(&self) -> Result<(), ScanError<A::Error, R::Error>> {
        let snapshot = Arc::clone(&lock(&self.snapshot));
        let mut scheduler = lock(&self.scheduler);
        let more = self.targets.more(&snapshot, scheduler.waiting());
        let more = more.map_err(ScanError::Targets)?;
        if more.is_empty() {
            return Ok(());
        }
        let targets = more.len();
        for target in more {
            let relay = target.relay;
            let runs = scheduler.add(target);
            self.targets.recalled(relay, &runs);
        }
        self.observer.observe(&Event::Started { targets });
        Ok(())
    }

    fn finish(self) -> ScanReport {
        let scheduler = lock(&self.scheduler);
        let mut report = std::mem::take(&mut *lock(&self.report));
        report.left = scheduler.left();
        report.destinations = scheduler.destinations();
        report
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked with it takes the whole scan along.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The network as it is a little later. A directory that fails does not end a scan:
/// relays that are gone will show it.
async fn refresh<D: Directory>(directory: &D) -> Result<Arc<NetworkSnapshot>, Error> {
    sleep(REFRESH).await;
    directory.snapshot().await
}

/// Tells the scheduler how a measurement goes.
struct Corrections<'a, P> {
    scheduler: &'a Mutex<Scheduler<P>>,
    freed: &'a Notify,
    run: RunId,
    begin: Instant,
}

impl<P: HelperPolicy> Control for Corrections<'_, P> {
    fn observe(&mut self, slices: &[Slice], bytes: &[(Fingerprint, u64)]) -> Vec<Fingerprint> {
        let now = self.begin.elapsed();
        let adjustment = lock(self.scheduler).observe(self.run, now, slices, bytes);
        if adjustment.freed {
            self.freed.notify_one();
        }
        adjustment.join
    }
}

/// The record of a relay that no measurement can be made of.
fn unable(
    target: TargetFacts,
    scan: Option<ScanId>,
    kind: FailureKind,
    now: UnixMillis,
) -> Completion {
    let (blame, detail) = match kind {
        FailureKind::UnknownRelay => (Blame::Target, "not in the consensus"),
        _ => (
            Blame::Path,
            "no relay can help: none is usable as exit to the destination's port (or as entry, \
             for an exit)",
        ),
    };
    let mut attempt = Attempt::new(target, Position::Entry, now);
    attempt.scan = scan;
    let failure = Failure::new(attempt, now, Stage::Path, kind, blame, detail);
    Completion::charged(Outcome::Failed(failure))
}

fn nothing_works<P: HelperPolicy>(scheduler: &Scheduler<P>) -> Error {
    let last = scheduler.last_failure();
    let urls: Vec<String> = scheduler
        .destinations()
        .iter()
        .map(|report| report.destination.to_string())
        .collect();
    // If circuits stand, it is what is behind them.
    let behind = last.is_some_and(|failure| failure.stage >= Stage::Begin);
    let (kind, suspect) = if behind {
        let suspect = format!(
            "the destination ({}): check that it is up and answers Range requests",
            urls.join(", ")
        );
        (ErrorKind::Destination, suspect)
    } else {
        let suspect = "the connection to the Tor network: check that it is up";
        (ErrorKind::Directory, suspect.to_owned())
    };
    let last = last.map_or_else(
        || "no circuit could be planned".to_owned(),
        |failure| {
            format!(
                "the last attempt failed at stage {}: {}",
                failure.stage, failure.detail
            )
        },
    );
    Error::new(
        kind,
        format!(
            "nothing can be measured, not even the fastest relays; {last}. Suspected is \
             {suspect}, then scan again: the scan goes on where it stopped"
        ),
    )
}
