//! The scan loop: every target gets a value or a cause.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bw_file::{BytesPerSecond, Fingerprint};
use bw_results::{
    Attempt, Blame, Failure, FailureKind, NetworkSnapshot, Outcome, Position, Slice, Stage,
    TargetFacts, UnixMillis,
};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    Control, DestinationReport, Directory, Error, ErrorKind, Estimator, Event, HelperPolicy,
    Measurer, Observer, RunId, Scheduler, Step, Transport, Window,
};

/// Where the outcomes of a scan go, and where its relays come from.
///
/// Called from within the scan loop, once for each attempt, as it ends.
pub trait Recorder: Send + Sync {
    /// Notes the network that the following outcomes were had in.
    ///
    /// # Errors
    /// [`ErrorKind::Results`] if it cannot be kept, which ends the scan.
    fn network(&self, snapshot: &NetworkSnapshot) -> Result<(), Error>;

    /// Keeps `outcome`; `settled` says that the relay is done with in this round.
    ///
    /// # Errors
    /// [`ErrorKind::Results`] if it cannot be kept, which ends the scan.
    fn record(&self, outcome: &Outcome, settled: bool) -> Result<(), Error>;

    /// Further relays to measure, with the time (in any unit) of their last
    /// measurement: those that joined the network, or the next round's.
    /// Asked when the network changed and when no relay waits any more, so
    /// that a round begins while the last relays of the one before run.
    ///
    /// # Errors
    /// [`ErrorKind::Results`], which ends the scan.
    fn more(
        &self,
        snapshot: &NetworkSnapshot,
        waiting: usize,
    ) -> Result<Vec<(Fingerprint, Option<u64>)>, Error> {
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
/// Every outcome is given to `recorder` as it comes. The scan ends when every
/// relay is measured or given up, or when `cancel` is called: then the
/// transfers under way are dropped, and what is left is in the report.
/// Outside of `window` no measurement begins.
///
/// # Errors
/// [`ErrorKind::Directory`] if no circuit can be built any more,
/// [`ErrorKind::Destination`] if circuits can be built but nothing be measured
/// through them, [`ErrorKind::Results`] if an outcome cannot be kept. Everything
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
    let begin = Instant::now();
    let now = || begin.elapsed();
    let mut snapshot = scheduler.network();
    recorder.network(&snapshot)?;
    observer.observe(&Event::Network(&snapshot));
    observer.observe(&Event::Started {
        targets: scheduler.waiting(),
    });
    let scheduler = Mutex::new(scheduler);
    // Told when a running measurement takes less than was expected.
    let freed = Notify::new();
    let mut refreshed = Box::pin(refresh(directory));
    let mut running = FuturesUnordered::new();
    let mut report = ScanReport::default();
    loop {
        let wake = loop {
            if lock(&scheduler).waiting() == 0 {
                refill(&scheduler, &snapshot, recorder, observer)?;
            }
            if let Some(closed) = window.and_then(|window| window.opens_in(measurer.clock.now())) {
                if lock(&scheduler).is_done() {
                    break None;
                }
                break Some(now() + closed);
            }
            let step = lock(&scheduler).next(now());
            match step {
                Step::Start(id, assignment) => {
                    let mut corrections = Corrections {
                        scheduler: &scheduler,
                        freed: &freed,
                        id,
                        begin,
                        held: false,
                    };
                    running.push(async move {
                        let outcome = measurer
                            .measure(&assignment, &mut corrections, observer)
                            .await;
                        (id, outcome, corrections.held)
                    });
                }
                Step::Unable { target, kind } => {
                    let outcome = unable(target, kind, measurer.clock.now());
                    report.failed += 1;
                    observer.observe(&Event::Ended {
                        outcome: &outcome,
                        settled: true,
                    });
                    recorder.record(&outcome, true)?;
                }
                Step::Wait(wake) => break wake,
                Step::Broken => return Err(nothing_works(&lock(&scheduler))),
                Step::Done => break None,
            }
        };
        if running.is_empty() && lock(&scheduler).is_done() {
            break;
        }
        let ended = tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            Some(ended) = running.next(), if !running.is_empty() => ended,
            () = freed.notified() => continue,
            network = &mut refreshed => {
                refreshed.set(refresh(directory));
                if let Some(new) = network && !Arc::ptr_eq(&new, &snapshot) {
                    recorder.network(&new)?;
                    observer.observe(&Event::Network(&new));
                    lock(&scheduler).set_network(Arc::clone(&new));
                    snapshot = new;
                    refill(&scheduler, &snapshot, recorder, observer)?;
                }
                continue;
            }
            () = sleep_until(begin + wake.unwrap_or_default()), if wake.is_some() => continue,
        };
        let (id, outcome, held) = ended;
        report.bytes += match &outcome {
            Outcome::Measured(measurement) => measurement.bytes(),
            Outcome::Failed(failure) => failure.bytes,
        };
        let ended = lock(&scheduler).end(id, now(), outcome, held);
        let (outcome, settled) = (&ended.outcome, ended.settled);
        if ended.is_control {
            observer.observe(&Event::Control(outcome));
            continue;
        }
        observer.observe(&Event::Ended { outcome, settled });
        recorder.record(outcome, settled)?;
        match outcome {
            Outcome::Measured(_) => report.measured += usize::from(settled),
            Outcome::Failed(_) => report.failed += usize::from(settled),
        }
    }
    let scheduler = lock(&scheduler);
    report.left = scheduler.left();
    report.reserved = BytesPerSecond::new(scheduler.most_reserved().round() as u64);
    report.destinations = scheduler.destinations();
    Ok(report)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked with it takes the whole scan along.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks for further relays.
fn refill<P: HelperPolicy>(
    scheduler: &Mutex<Scheduler<P>>,
    snapshot: &NetworkSnapshot,
    recorder: &impl Recorder,
    observer: &impl Observer,
) -> Result<(), Error> {
    let mut scheduler = lock(scheduler);
    let more = recorder.more(snapshot, scheduler.waiting())?;
    if !more.is_empty() {
        let targets = more.len();
        for (relay, last) in more {
            scheduler.add(relay, last);
        }
        observer.observe(&Event::Started { targets });
    }
    Ok(())
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
    id: RunId,
    begin: Instant,
    /// Whether the link holds it back.
    held: bool,
}

impl<P: HelperPolicy> Control for Corrections<'_, P> {
    fn observe(
        &mut self,
        slices: &[Slice],
        bytes: &[(Fingerprint, u64)],
        held: bool,
    ) -> Vec<Fingerprint> {
        self.held = held;
        let now = self.begin.elapsed();
        let correction = lock(self.scheduler).observe(self.id, now, slices, bytes, held);
        if correction.freed {
            self.freed.notify_one();
        }
        correction.join
    }
}

/// The record of a relay that no measurement can be made of.
fn unable(target: TargetFacts, kind: FailureKind, now: UnixMillis) -> Outcome {
    let (blame, detail) = match kind {
        FailureKind::UnknownRelay => (Blame::Target, "not in the consensus"),
        _ => (
            Blame::Path,
            "no relay can help: none is usable as exit to the destination's port (or as entry, \
             for an exit)",
        ),
    };
    let attempt = Attempt::new(target, Position::Entry, now);
    Outcome::Failed(Failure::new(attempt, now, Stage::Path, kind, blame, detail))
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
