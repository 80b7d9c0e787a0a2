//! The scan loop: every target gets a value or a cause.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use bw_file::Fingerprint;
use bw_results::{Blame, Failure, FailureKind, NetworkSnapshot, Outcome, RelayFacts, Stage};
use rand::seq::IndexedRandom;
use tokio_util::sync::CancellationToken;

use crate::{
    Assignment, Circuits, Destination, Directory, Error, ErrorKind, Estimator, Event, HelperPolicy,
    Measurer, Observer,
};

/// Where the outcomes of a scan go.
///
/// Called from within the scan loop, once for each attempt, as it ends.
pub trait Recorder: Send + Sync {
    /// Notes the network that the following outcomes were had in.
    ///
    /// # Errors
    /// [`ErrorKind::Results`] if it cannot be kept, which ends the scan.
    fn network(&self, snapshot: &NetworkSnapshot) -> Result<(), Error>;

    /// Keeps `outcome`; `settled` says that the relay is done with in this scan.
    ///
    /// # Errors
    /// [`ErrorKind::Results`] if it cannot be kept, which ends the scan.
    fn record(&self, outcome: &Outcome, settled: bool) -> Result<(), Error>;
}

/// How a scan goes on when something fails.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ScanOptions {
    /// The web servers; one is drawn at random for each attempt.
    pub destinations: Vec<Destination>,
    /// How often a relay is tried before it is given up for this scan.
    /// Default 3.
    pub attempts: u32,
    /// After how many failures in a row, of whatever relays, it is tried
    /// whether anything works at all: a few of the fastest relays are measured
    /// without being recorded. If none can be, the scan stops, its other
    /// relays still to be measured. Default 10.
    pub patience: u32,
}

impl ScanOptions {
    /// A scan against `destinations`.
    pub const fn new(destinations: Vec<Destination>) -> Self {
        Self {
            destinations,
            attempts: 3,
            patience: 10,
        }
    }
}

/// How a scan ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScanReport {
    /// Relays measured.
    pub measured: usize,
    /// Relays given up, each with its cause recorded.
    pub failed: usize,
    /// Relays not dealt with, because the scan was cancelled.
    pub left: usize,
    /// Payload bytes received, those of failures included.
    pub bytes: u64,
}

/// A relay that is still to be measured in this scan.
struct Pending {
    target: Fingerprint,
    attempts: u32,
    helpers: Vec<Fingerprint>,
}

/// Measures `targets`, in their order, one at a time; a relay whose attempt
/// fails goes to the end of the queue and is tried again with another helper.
///
/// Every outcome is given to `recorder` as it comes. The scan ends when every
/// target is measured or given up, or when `cancel` is called: then the
/// transfer under way is dropped, and what is left is in the report.
///
/// # Errors
/// [`ErrorKind::Directory`] if there is no consensus at the start or no
/// circuit can be built any more, [`ErrorKind::Destination`] if circuits can
/// be built but nothing be measured through them,
/// [`ErrorKind::Results`] if an outcome cannot be kept. Everything recorded
/// until then stays valid.
#[expect(clippy::too_many_arguments, reason = "each is a part of its own")]
pub async fn scan<D, C, P, F, E>(
    directory: &D,
    measurer: &Measurer<C, P, F>,
    targets: Vec<Fingerprint>,
    options: &ScanOptions,
    recorder: &impl Recorder,
    observer: &impl Observer,
    rng: &mut (impl rand::Rng + Send),
    cancel: &CancellationToken,
) -> Result<ScanReport, Error>
where
    D: Directory,
    C: Circuits,
    P: HelperPolicy,
    F: Fn(&RelayFacts) -> E + Send + Sync,
    E: Estimator,
{
    if options.destinations.is_empty() {
        return Err(Error::new(
            ErrorKind::Configuration,
            "a scan needs at least one destination",
        ));
    }
    let mut network: Option<Arc<NetworkSnapshot>> = None;
    let mut queue: VecDeque<Pending> = targets
        .into_iter()
        .map(|target| Pending {
            target,
            attempts: 0,
            helpers: Vec::new(),
        })
        .collect();
    observer.observe(&Event::Started {
        targets: queue.len(),
    });
    let mut report = ScanReport::default();
    let mut patience = options.patience;
    // Whether something was measured against each destination in this scan.
    let mut proven = HashSet::new();

    while let Some(mut pending) = queue.pop_front() {
        let Some(snapshot) = cancel
            .run_until_cancelled(current(directory, &mut network, recorder, observer))
            .await
            .transpose()?
        else {
            report.left = queue.len() + 1;
            break;
        };
        let Some(destination) = options.destinations.choose(rng) else {
            break; // Not empty: seen above.
        };
        let mut assignment = Assignment::new(&snapshot, pending.target, destination);
        assignment.avoid = &pending.helpers;
        let Some(outcome) = cancel
            .run_until_cancelled(measurer.measure(&assignment, rng, observer))
            .await
        else {
            report.left = queue.len() + 1;
            break;
        };

        pending.attempts += 1;
        let settled = match &outcome {
            Outcome::Measured(measurement) => {
                report.measured += 1;
                report.bytes += measurement.bytes();
                patience = options.patience;
                proven.insert(destination);
                true
            }
            Outcome::Failed(failure) => {
                report.bytes += failure.bytes;
                patience = patience.saturating_sub(1);
                // Our connection or the destination may be at fault. That
                // counts against a relay only if they work for others, or if
                // there are not enough others to tell.
                let excused = !proven.contains(destination) && queue.len() > 1;
                is_final(failure) || (pending.attempts >= options.attempts && !excused)
            }
        };
        recorder.record(&outcome, settled)?;
        observer.observe(&Event::Ended {
            outcome: &outcome,
            settled,
        });
        if let Outcome::Failed(failure) = outcome {
            if settled {
                report.failed += 1;
            } else {
                pending.helpers.extend(&failure.attempt.helpers);
                queue.push_back(pending);
            }
            if patience == 0 && !queue.is_empty() {
                let works = anything_works(measurer, &snapshot, destination, rng);
                match cancel.run_until_cancelled(works).await {
                    Some(true) => {
                        proven.insert(destination);
                        patience = options.patience;
                    }
                    Some(false) => return Err(nothing_works(options, &failure)),
                    None => {
                        report.left = queue.len();
                        break;
                    }
                }
            }
        }
    }
    Ok(report)
}

/// The present snapshot; tells recorder and observer when it is a new one.
async fn current(
    directory: &impl Directory,
    network: &mut Option<Arc<NetworkSnapshot>>,
    recorder: &impl Recorder,
    observer: &impl Observer,
) -> Result<Arc<NetworkSnapshot>, Error> {
    let snapshot = match (directory.snapshot().await, network.as_ref()) {
        (Ok(snapshot), _) => snapshot,
        // A directory that fails in the middle does not end a scan: relays
        // that are gone will show it.
        (Err(error), Some(known)) => {
            tracing::warn!("no new consensus, going on with the last one: {error}");
            Arc::clone(known)
        }
        (Err(error), None) => return Err(error),
    };
    if network
        .as_ref()
        .is_none_or(|known| !Arc::ptr_eq(known, &snapshot))
    {
        recorder.network(&snapshot)?;
        observer.observe(&Event::Network(&snapshot));
        *network = Some(Arc::clone(&snapshot));
    }
    Ok(snapshot)
}

/// Whether trying again in this scan cannot help.
fn is_final(failure: &Failure) -> bool {
    match failure.kind {
        FailureKind::NoHelper => true,
        // A helper that has just left the consensus is no reason.
        FailureKind::UnknownRelay => failure.blame == Blame::Target,
        _ => false,
    }
}

/// How many relays are tried to see whether anything works.
const CONTROLS: usize = 3;

/// Whether some fast relay can be measured against `destination`.
async fn anything_works<C, P, F, E>(
    measurer: &Measurer<C, P, F>,
    snapshot: &NetworkSnapshot,
    destination: &Destination,
    rng: &mut (impl rand::Rng + Send),
) -> bool
where
    C: Circuits,
    P: HelperPolicy,
    F: Fn(&RelayFacts) -> E + Send + Sync,
    E: Estimator,
{
    let mut relays: Vec<&RelayFacts> = snapshot
        .relays
        .iter()
        .filter(|relay| relay.flags.running && !relay.flags.authority)
        .collect();
    relays.sort_by_key(|relay| std::cmp::Reverse(relay.consensus_weight));
    // The fastest tenth, so that it is not always the same few.
    relays.truncate((relays.len() / 10).max(CONTROLS));
    let controls: Vec<_> = relays.sample(rng, CONTROLS).copied().collect();
    for relay in controls {
        let assignment = Assignment::new(snapshot, relay.fingerprint, destination);
        let outcome = measurer.measure(&assignment, rng, &()).await;
        if matches!(outcome, Outcome::Measured(_)) {
            return true;
        }
    }
    false
}

fn nothing_works(options: &ScanOptions, last: &Failure) -> Error {
    // If circuits stand, it is what is behind them.
    let (kind, suspect) = if last.stage >= Stage::Begin {
        let urls: Vec<&str> = options
            .destinations
            .iter()
            .map(Destination::as_str)
            .collect();
        let suspect = format!(
            "the destination ({}): check that it is up and answers Range requests",
            urls.join(", ")
        );
        (ErrorKind::Destination, suspect)
    } else {
        let suspect = "the connection to the Tor network: check that it is up";
        (ErrorKind::Directory, suspect.to_owned())
    };
    Error::new(
        kind,
        format!(
            "{} attempts in a row failed, and the fastest relays cannot be measured either; the \
             last one failed at stage {}: {}. Suspected is {suspect}, then scan again: the scan \
             goes on where it stopped",
            options.patience, last.stage, last.detail
        ),
    )
}
