//! The scan loop: every target gets a value or a cause.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bw_file::{BytesPerSecond, Fingerprint};
use bw_results::{
    Attempt, Blame, Failure, FailureKind, NetworkSnapshot, Outcome, Position, ScanId, Slice, Stage,
    TargetFacts, UnixMillis,
};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    Action, Assignment, Completion, Control, DestinationReport, Directory, Error, ErrorKind,
    Estimator, Event, HelperPolicy, Measurer, Observer, RunId, Scheduler, Target, Transport,
    Window,
};

/// Where the records of a scan go, and where its relays come from.
///
/// Called from within the scan loop.
pub trait Recorder: Send + Sync {
    /// Notes the network that the following records were made in.
    ///
    /// # Errors
    /// [`ErrorKind::Results`] if it cannot be kept, which ends the scan.
    fn network(&self, snapshot: &NetworkSnapshot) -> Result<(), Error>;

    /// Keeps the record that `run` made, with its verdict, and changes the verdicts of
    /// earlier ones.
    ///
    /// # Errors
    /// [`ErrorKind::Results`] if it cannot be kept, which ends the scan.
    fn record(&self, run: RunId, completion: &Completion) -> Result<(), Error>;

    /// Learns which runs stand for the [`records`](Target::records) of a target that it gave.
    fn recalled(&self, relay: Fingerprint, runs: &[RunId]) {
        let _ = (relay, runs);
    }

    /// Further relays to measure: those that joined the network, or the next round's.
    /// Asked when the network changed and when no relay waits any more, so
    /// that a round begins while the last relays of the one before run.
    ///
    /// # Errors
    /// [`ErrorKind::Results`], which ends the scan.
    fn more(&self, snapshot: &NetworkSnapshot, waiting: usize) -> Result<Vec<Target>, Error> {
        let _ = (snapshot, waiting);
        Ok(Vec::new())
    }
}

/// How a scan ended.
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
    /// The most that was reserved of the scanner's link at a time.
    pub reserved: BytesPerSecond,
    /// How each destination did.
    pub destinations: Vec<DestinationReport>,
}

/// How often the directory is asked whether the network changed.
const REFRESH: Duration = Duration::from_secs(10);

/// Measures the relays of `scheduler`, as many at a time as it allows.
///
/// Every record is given to `recorder` as it comes. The scan ends when every
/// relay is measured or given up, or when `cancel` is called: then the
/// transfers under way are dropped, and what is left is in the report.
/// Outside of `window` no measurement begins.
///
/// # Errors
/// [`ErrorKind::Directory`] if no circuit can be built any more,
/// [`ErrorKind::Destination`] if circuits can be built but nothing be measured
/// through them, [`ErrorKind::Results`] if a record cannot be kept. Everything
/// recorded until then stays valid.
pub async fn scan<D, T, F, E, P>(
    directory: &D,
    measurer: &Measurer<T, F>,
    scheduler: Scheduler<P>,
    window: Option<Window>,
    recorder: &impl Recorder,
    observer: &impl Observer,
    cancel: &CancellationToken,
) -> Result<ScanReport, Error>
where
    D: Directory,
    T: Transport,
    F: Fn(&TargetFacts) -> E + Send + Sync,
    E: Estimator,
    P: HelperPolicy,
{
    let scanning = Scanning {
        measurer,
        window,
        recorder,
        observer,
        begin: Instant::now(),
        snapshot: Mutex::new(scheduler.network()),
        scheduler: Mutex::new(scheduler),
        freed: Notify::new(),
        report: Mutex::default(),
    };
    scanning.begin()?;
    let mut refreshed = Box::pin(refresh(directory));
    let mut running = FuturesUnordered::new();
    loop {
        let wake = loop {
            match scanning.next()? {
                Next::Measure(run, assignment) => running.push(scanning.measure(run, assignment)),
                Next::Wait(wake) => break wake,
                Next::Done => break None,
            }
        };
        if running.is_empty() && lock(&scanning.scheduler).is_done() {
            break;
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            Some((run, outcome)) = running.next(), if !running.is_empty() => {
                scanning.end(run, outcome)?;
            }
            () = scanning.freed.notified() => {}
            network = &mut refreshed => {
                refreshed.set(refresh(directory));
                scanning.set_network(network)?;
            }
            () = sleep_until(scanning.begin + wake.unwrap_or_default()), if wake.is_some() => {}
        }
    }
    drop(running);
    Ok(scanning.finish())
}

/// What the scan loop does next.
enum Next {
    Measure(RunId, Box<Assignment>),
    Wait(Option<Duration>),
    Done,
}

/// A scan under way.
struct Scanning<'a, T, F, P, R, O> {
    measurer: &'a Measurer<T, F>,
    window: Option<Window>,
    recorder: &'a R,
    observer: &'a O,
    begin: Instant,
    snapshot: Mutex<Arc<NetworkSnapshot>>,
    scheduler: Mutex<Scheduler<P>>,
    /// Told when a running measurement takes less than was expected.
    freed: Notify,
    report: Mutex<ScanReport>,
}

impl<T, F, E, P, R, O> Scanning<'_, T, F, P, R, O>
where
    T: Transport,
    F: Fn(&TargetFacts) -> E + Send + Sync,
    E: Estimator,
    P: HelperPolicy,
    R: Recorder,
    O: Observer,
{
    fn begin(&self) -> Result<(), Error> {
        let snapshot = Arc::clone(&lock(&self.snapshot));
        self.recorder.network(&snapshot)?;
        self.observer.observe(&Event::Network(&snapshot));
        let targets = lock(&self.scheduler).waiting();
        self.observer.observe(&Event::Started { targets });
        Ok(())
    }

    /// What to do now. To be asked again until it says to wait.
    fn next(&self) -> Result<Next, Error> {
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
            Action::Broken => Err(nothing_works(&lock(&self.scheduler))),
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
    fn end(&self, run: RunId, outcome: Outcome) -> Result<(), Error> {
        let now = self.begin.elapsed();
        lock(&self.report).bytes += outcome.bytes();
        let completion = lock(&self.scheduler).end(run, now, outcome);
        if completion.is_control {
            self.observer.observe(&Event::Control(&completion.outcome));
            return Ok(());
        }
        self.keep(run, &completion)
    }

    fn keep(&self, run: RunId, completion: &Completion) -> Result<(), Error> {
        let mut report = lock(&self.report);
        if completion.settled {
            match &completion.outcome {
                Outcome::Measured(_) => report.measured += 1,
                Outcome::Failed(_) => report.failed += 1,
            }
        }
        self.observer.observe(&Event::Ended(completion));
        self.recorder.record(run, completion)
    }

    fn set_network(&self, network: Option<Arc<NetworkSnapshot>>) -> Result<(), Error> {
        let Some(network) = network.filter(|new| !Arc::ptr_eq(new, &lock(&self.snapshot))) else {
            return Ok(());
        };
        self.recorder.network(&network)?;
        self.observer.observe(&Event::Network(&network));
        lock(&self.scheduler).set_network(Arc::clone(&network));
        *lock(&self.snapshot) = network;
        self.refill()
    }

    /// Asks for further relays.
    fn refill(&self) -> Result<(), Error> {
        let snapshot = Arc::clone(&lock(&self.snapshot));
        let mut scheduler = lock(&self.scheduler);
        let more = self.recorder.more(&snapshot, scheduler.waiting())?;
        if more.is_empty() {
            return Ok(());
        }
        let targets = more.len();
        for target in more {
            let relay = target.relay;
            let runs = scheduler.add(target);
            self.recorder.recalled(relay, &runs);
        }
        self.observer.observe(&Event::Started { targets });
        Ok(())
    }

    fn finish(self) -> ScanReport {
        let scheduler = lock(&self.scheduler);
        let mut report = std::mem::take(&mut *lock(&self.report));
        report.left = scheduler.left();
        report.reserved = BytesPerSecond::new(scheduler.link().most_reserved().round() as u64);
        report.destinations = scheduler.destinations();
        report
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked with it takes the whole scan along.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The network as it is a little later; `None` if the directory fails. That
/// does not end a scan: relays that are gone will show it.
async fn refresh<D: Directory>(directory: &D) -> Option<Arc<NetworkSnapshot>> {
    sleep(REFRESH).await;
    directory
        .snapshot()
        .await
        .inspect_err(|error| {
            tracing::warn!("no new consensus, going on with the last one: {error}")
        })
        .ok()
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
