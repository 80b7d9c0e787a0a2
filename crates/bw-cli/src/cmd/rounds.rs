//! Rounds of a scan: each relay once, kept in the store.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bw_file::Fingerprint;
use bw_measure::tor::TorClient;
use bw_measure::{
    Completion, Directory, Error, ErrorKind, HttpTransport, Measurer, Plan, Recorder, RunId,
    Scheduler, SpareHelpers, Target, WallClock, preferred_direction,
};
use bw_results::{
    Filter, NetworkSnapshot, Outcome, OutcomeId, RelayHistory, Scan, ScanId, ScanLock, Store,
    StoreWriter, TargetFacts, UnixMillis, Verdict,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::scan::Settings;
use crate::args::Only;
use crate::exit::UsageError;
use crate::progress::{Progress, RoundSummary};

/// History older than this does not count when relays are put in order.
const MEMORY: Duration = Duration::from_secs(28 * 24 * 3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The rounds of one scanner, one after the other or, with an interval, each
/// beginning as soon as no relay of the one before waits any more.
pub(super) struct Rounds<'a> {
    settings: &'a Settings,
    /// The interval at which rounds begin; `None` for a single one.
    interval: Option<Duration>,
    progress: &'a Progress,
    inner: Mutex<Inner>,
    /// Keeps other scanners out; none for a dry run.
    _lock: Option<ScanLock>,
}

struct Inner {
    writer: StoreWriter,
    /// End of the newest accepted measurement of each relay.
    last: BTreeMap<Fingerprint, UnixMillis>,
    /// Rounds that are not finished, the oldest first.
    open: Vec<Round>,
    rng: StdRng,
    /// True if the next round may continue an unfinished scan.
    resume: bool,
    /// When the latest round began.
    begun: Option<Instant>,
    /// The records of relays that are not settled.
    runs: HashMap<RunId, (Fingerprint, OutcomeId)>,
    /// Those of an earlier process that the scheduler does not know yet.
    recalled: HashMap<Fingerprint, Vec<OutcomeId>>,
    measured: usize,
    failed: usize,
}

struct Round {
    summary: RoundSummary,
    /// All relays of the round, and those of them without an outcome.
    targets: BTreeSet<Fingerprint>,
    pending: BTreeSet<Fingerprint>,
}

impl<'a> Rounds<'a> {
    pub(super) fn open(
        settings: &'a Settings,
        interval: Option<Duration>,
        dry_run: bool,
        progress: &'a Progress,
    ) -> anyhow::Result<Self> {
        settings.data.create()?;
        let store = settings.data.store();
        let lock = || ScanLock::acquire(&store, SystemTime::now().into());
        let lock = (!dry_run).then(lock).transpose()?;
        let inner = Inner {
            writer: StoreWriter::open(&store, |waited| {
                tracing::warn!(
                    "another process has kept the store locked for {} s; what is measured \
                     meanwhile is written when it ends",
                    waited.as_secs()
                );
            })?,
            last: BTreeMap::new(),
            open: Vec::new(),
            rng: settings
                .seed
                .map_or_else(|| StdRng::from_rng(&mut rand::rng()), StdRng::seed_from_u64),
            resume: !settings.fresh,
            begun: None,
            runs: HashMap::new(),
            recalled: HashMap::new(),
            measured: 0,
            failed: 0,
        };
        Ok(Self {
            settings,
            interval,
            progress,
            inner: Mutex::new(inner),
            _lock: lock,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Whoever panicked has changed one field at most.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Relays measured in all rounds.
    pub(super) fn measured(&self) -> usize {
        self.lock().measured
    }

    /// Relays given up in all rounds.
    pub(super) fn failed(&self) -> usize {
        self.lock().failed
    }

    /// The time until the next round may begin.
    pub(super) fn next_in(&self) -> Duration {
        let begun = self.lock().begun;
        let since = begun.map_or(Duration::MAX, |begun| begun.elapsed());
        self.interval.unwrap_or_default().saturating_sub(since)
    }

    /// Measures until no relay is left; returns the bytes that took.
    pub(super) async fn run(
        &self,
        client: &TorClient,
        cancel: &CancellationToken,
    ) -> anyhow::Result<u64> {
        let directory = client.directory()?;
        let Some(network) = cancel.run_until_cancelled(directory.snapshot()).await else {
            return Ok(0);
        };
        let network = network?;
        let settings = self.settings;
        let targets = self.lock().begin(settings, &network)?;
        self.tell_resumed();
        let scheduler = self.scheduler(network, targets)?;
        let mut transport = HttpTransport::new(client.circuits()?, settings.tls.clone());
        transport.timeouts = settings.timeouts;
        transport.key.clone_from(&settings.key);
        let estimator = settings.estimator.clone();
        let estimator = move |target: &TargetFacts| estimator.clone().for_target(target);
        let mut measurer = Measurer::new(transport, estimator, WallClock::system());
        measurer.options = settings.transfer;
        let report = bw_measure::scan(
            &directory,
            &measurer,
            scheduler,
            settings.window,
            self,
            self.progress,
            cancel,
        )
        .await;
        let kept = self.lock().writer.flush();
        let report = report?;
        kept?;
        for destination in report.destinations.iter().filter(|one| one.outages > 0) {
            tracing::warn!(
                "destination {} was left alone {} times; {} of {} attempts failed",
                destination.destination,
                destination.outages,
                destination.failed,
                destination.failed + destination.measured,
            );
        }
        Ok(report.bytes)
    }

    /// The plan of a round that begins now. Nothing is written to the store.
    pub(super) async fn plan(&self, client: &TorClient) -> anyhow::Result<Plan> {
        let network = client.directory()?.snapshot().await?;
        let relays = targets(self.settings, &network);
        let mut inner = self.lock();
        let history = inner.read_history(SystemTime::now().into())?;
        let targets = Targets {
            pending: inner.with_last(None, relays),
            history,
        };
        drop(inner);
        let scheduler = self.scheduler(network, targets)?;
        let estimator = &self.settings.estimator;
        // Warm-up and opening as seen in practice; half of the downloads end
        // before all the time that they may count.
        let transfer = estimator.enough + Duration::from_millis(500);
        Ok(Plan::of(scheduler, Duration::from_secs(1), transfer))
    }

    /// Tells of the round that goes on, if it is not a new one.
    fn tell_resumed(&self) {
        let inner = self.lock();
        let Some(round) = inner.open.last() else {
            return;
        };
        if round.summary.measured + round.summary.failed > 0 {
            self.progress.resumed(&round.summary, round.pending.len());
        }
    }

    fn scheduler(
        &self,
        network: std::sync::Arc<NetworkSnapshot>,
        targets: Targets,
    ) -> anyhow::Result<Scheduler<SpareHelpers>> {
        let mut inner = self.lock();
        let mut limits = self.settings.limits.clone();
        let direction = self.settings.direction;
        limits.direction = direction.unwrap_or_else(|| preferred_direction(&network));
        let mut scheduler = Scheduler::new(
            SpareHelpers::default(),
            limits,
            self.settings.destinations.clone(),
            network,
            StdRng::from_rng(&mut inner.rng),
        );
        for (relay, history) in &targets.history {
            history
                .rate
                .inspect(|&rate| scheduler.remember(*relay, rate));
        }
        for target in targets.pending {
            let relay = target.relay;
            let runs = scheduler.add(target);
            inner.recalled(relay, &runs);
        }
        if self.settings.limits.bytes_per_day.is_some() {
            scheduler.remember_spent(inner.spent(SystemTime::now().into())?);
        }
        Ok(scheduler)
    }

    /// Tells of the rounds that were interrupted.
    pub(super) fn interrupted(&self) -> anyhow::Result<()> {
        for round in &self.lock().open {
            self.progress.round(&round.summary, round.pending.len())?;
        }
        Ok(())
    }
}

/// A scan that was interrupted, with the relays that it has left.
struct Unfinished {
    scan: ScanId,
    pending: Vec<Fingerprint>,
    /// The part that was done.
    summary: Option<RoundSummary>,
}

/// Relays to measure, with the time of their last measurement, and what is
/// known of relays from before.
struct Targets {
    pending: Vec<Target>,
    history: BTreeMap<Fingerprint, RelayHistory>,
}

impl Inner {
    /// Goes on with the scan that was interrupted, or begins one. Waits for the
    /// store: nothing is measured yet.
    fn begin(&mut self, settings: &Settings, network: &NetworkSnapshot) -> anyhow::Result<Targets> {
        let now = UnixMillis::from(SystemTime::now());
        let history = self.read_history(now)?;
        let resumed = if self.resume {
            self.unfinished(settings, network, now)?
        } else {
            None
        };
        let pending = match resumed {
            Some(scan) => self.resume(scan)?,
            None => self.next_round(settings, network, now)?,
        };
        Ok(Targets { pending, history })
    }

    /// Goes on with a scan: with what it measured of relays that it did not settle.
    fn resume(&mut self, unfinished: Unfinished) -> anyhow::Result<Vec<Target>> {
        let (scan, relays) = (unfinished.scan, unfinished.pending.clone());
        let records = self.writer.call(move |store| {
            let records = relays.iter().map(|relay| store.records_of(&scan, relay));
            records.collect::<bw_results::Result<Vec<_>>>()
        })?;
        let mut targets = self.open_round(scan, unfinished.pending);
        if let (Some(round), Some(summary)) = (self.open.last_mut(), unfinished.summary) {
            round.summary = summary;
        }
        for (target, records) in targets.iter_mut().zip(records) {
            for record in records {
                if let Outcome::Measured(measurement) = record.outcome {
                    target.records.push((measurement, record.verdict));
                    let ids = self.recalled.entry(target.relay).or_default();
                    ids.push(record.id);
                }
            }
        }
        Ok(targets)
    }

    /// Notes which runs stand for records that are in the store.
    fn recalled(&mut self, relay: Fingerprint, runs: &[RunId]) {
        let ids = self.recalled.remove(&relay).unwrap_or_default();
        for (&run, id) in runs.iter().zip(ids) {
            self.runs.insert(run, (relay, id));
        }
    }

    /// The scan that was interrupted, with the relays that it has left.
    fn unfinished(
        &self,
        settings: &Settings,
        network: &NetworkSnapshot,
        now: UnixMillis,
    ) -> anyhow::Result<Option<Unfinished>> {
        let (scanner, parameters) = (settings.scanner.clone(), settings.parameters());
        let network = network.clone();
        let found = self.writer.call(move |store| {
            let Some(scan) = store.unfinished_scan(&scanner, &parameters)? else {
                return Ok(None);
            };
            let pending = store.pending_targets(&scan.id)?;
            if pending.is_empty() {
                // Interrupted after its last outcome.
                store.finish_scan(&scan.id, now)?;
                return Ok(None);
            }
            let snapshot = store.put_snapshot(&network)?;
            store.link_snapshot(&scan.id, snapshot)?;
            let scan = scan.id;
            let scans = store.scans()?;
            let summary = scans.iter().find(|one| one.scan.id == scan);
            let summary = summary.map(RoundSummary::resumed);
            Ok(Some(Unfinished {
                scan,
                pending,
                summary,
            }))
        });
        Ok(found?)
    }

    /// Begins a round. Does not wait for the store.
    fn next_round(
        &mut self,
        settings: &Settings,
        network: &NetworkSnapshot,
        now: UnixMillis,
    ) -> anyhow::Result<Vec<Target>> {
        let mut targets = targets(settings, network);
        targets.sort_unstable();
        targets.dedup();
        if targets.is_empty() {
            let only = settings
                .only
                .map_or("", |Only::Unmeasured| "unmeasured and ");
            return Err(UsageError(format!(
                "no relay of the consensus ({} relays) is {only}in partition {} of {}",
                network.relays.len(),
                settings.partition.number(),
                settings.partition.count()
            ))
            .into());
        }
        let id = ScanId::from_bytes(self.rng.random());
        let scan = Scan::new(id, settings.scanner.clone(), now, settings.parameters());
        // Rounds of ours that still run are not left aside.
        let abandons = self.open.is_empty();
        let (network, relays) = (network.clone(), targets.clone());
        self.writer.submit(move |store| {
            let snapshot = store.put_snapshot(&network)?;
            if abandons
                && let Some(other) = store.unfinished_scan(&scan.scanner, &scan.parameters)?
            {
                store.abandon_scan(&other.id, now)?;
            }
            // The last one, as what was begun cannot be begun again.
            store.begin_scan(&scan, &relays, snapshot)
        })?;
        Ok(self.open_round(id, targets))
    }

    /// Counts a round as one that runs; returns its relays with the time of
    /// their last measurement.
    fn open_round(&mut self, scan: ScanId, pending: Vec<Fingerprint>) -> Vec<Target> {
        self.resume = true;
        self.begun = Some(Instant::now());
        self.open.retain(|round| round.summary.scan != scan);
        self.open.push(Round {
            summary: RoundSummary::new(scan),
            targets: pending.iter().copied().collect(),
            pending: pending.iter().copied().collect(),
        });
        self.with_last(Some(scan), pending)
    }

    fn with_last(&self, scan: Option<ScanId>, relays: Vec<Fingerprint>) -> Vec<Target> {
        let target = |relay| {
            let mut target = Target::new(relay);
            target.last_measured = self.last.get(&relay).copied();
            target.scan = scan;
            target
        };
        relays.into_iter().map(target).collect()
    }

    /// Reads what is known of relays from before.
    fn read_history(
        &mut self,
        now: UnixMillis,
    ) -> anyhow::Result<BTreeMap<Fingerprint, RelayHistory>> {
        let history = self
            .writer
            .call(move |store| store.last_outcomes(now.before(MEMORY)))?;
        let measured = history.iter();
        self.last = measured
            .filter_map(|(relay, of)| Some((*relay, of.last_measured?)))
            .collect();
        Ok(history)
    }

    /// Relays that joined the network since the latest round began.
    fn joined(
        &mut self,
        settings: &Settings,
        network: &NetworkSnapshot,
    ) -> Result<Vec<Target>, Error> {
        let Some(round) = self.open.last_mut().filter(|_| settings.relays.is_empty()) else {
            return Ok(Vec::new());
        };
        let mut joined = targets(settings, network);
        joined.retain(|relay| !round.targets.contains(relay));
        if !joined.is_empty() {
            let (scan, relays) = (round.summary.scan, joined.clone());
            self.writer
                .submit(move |store| store.add_targets(&scan, &relays))
                .map_err(not_kept)?;
            round.targets.extend(&joined);
            round.pending.extend(&joined);
        }
        let scan = round.summary.scan;
        Ok(self.with_last(Some(scan), joined))
    }

    /// Payload bytes of the last day.
    fn spent(&self, now: UnixMillis) -> anyhow::Result<u64> {
        Ok(self
            .writer
            .call(move |store| bytes_since(store, now.before(DAY)))?)
    }
}

/// Payload bytes of all outcomes that ended at `since` or later.
fn bytes_since(store: &Store, since: UnixMillis) -> bw_results::Result<u64> {
    let mut bytes = 0;
    let _ = store.for_each_summary(&Filter::all().since(since), |stored| {
        bytes += stored.value.bytes;
        std::ops::ControlFlow::<()>::Continue(())
    })?;
    Ok(bytes)
}

impl Recorder for Rounds<'_> {
    fn network(&self, snapshot: &NetworkSnapshot) -> Result<(), Error> {
        let inner = self.lock();
        let scans: Vec<ScanId> = inner.open.iter().map(|round| round.summary.scan).collect();
        let snapshot = snapshot.clone();
        inner
            .writer
            .submit(move |store| {
                let id = store.put_snapshot(&snapshot)?;
                let mut scans = scans.iter();
                scans.try_for_each(|scan| store.link_snapshot(scan, id))
            })
            .map_err(not_kept)
    }

    fn record(&self, run: RunId, completion: &Completion) -> Result<(), Error> {
        let (outcome, settled) = (&completion.outcome, completion.settled);
        let relay = outcome.attempt().target.fingerprint;
        let mut inner = self.lock();
        let inner = &mut *inner;
        let of = |round: &Round| Some(round.summary.scan) == outcome.attempt().scan;
        let Some(index) = inner.open.iter().position(of) else {
            return Ok(()); // Every target that the scheduler is given is of a round.
        };
        let round = &mut inner.open[index];
        let scan = round.summary.scan;
        let verdict = completion.verdict;
        if verdict.gives_rate() {
            inner.last.insert(relay, outcome.ended());
        }
        round.summary.bytes += outcome.bytes();
        if settled {
            round.pending.remove(&relay);
        }
        let finished = (settled && round.pending.is_empty()).then(|| SystemTime::now().into());
        let runs = &inner.runs;
        let revised = completion.revised.iter();
        let revised: Vec<(OutcomeId, Verdict)> = revised
            .filter_map(|(run, verdict)| Some((runs.get(run)?.1, *verdict)))
            .collect();
        let record = outcome.clone();
        inner
            .writer
            .submit(move |store| {
                store.record(&scan, &record, &verdict, settled)?;
                for (id, verdict) in &revised {
                    store.set_verdict(*id, verdict)?;
                }
                finished.map_or(Ok(()), |at| store.finish_scan(&scan, at))
            })
            .map_err(not_kept)?;
        if !settled {
            let id = OutcomeId::new(&self.settings.scanner, outcome);
            inner.runs.insert(run, (relay, id));
            return Ok(());
        }
        inner.runs.retain(|_, (other, _)| *other != relay);
        if matches!(outcome, Outcome::Measured(_)) {
            round.summary.measured += 1;
            inner.measured += 1;
        } else {
            round.summary.failed += 1;
            inner.failed += 1;
        }
        if finished.is_some() {
            let round = inner.open.remove(index);
            // Nobody who reads it is no reason to stop.
            let _ = self.progress.round(&round.summary, 0);
        }
        Ok(())
    }

    fn recalled(&self, relay: Fingerprint, runs: &[RunId]) {
        self.lock().recalled(relay, runs);
    }

    fn more(&self, snapshot: &NetworkSnapshot, waiting: usize) -> Result<Vec<Target>, Error> {
        let due = self.interval.is_some() && waiting == 0 && self.next_in().is_zero();
        let mut inner = self.lock();
        let joined = inner.joined(self.settings, snapshot)?;
        if !joined.is_empty() || !due {
            return Ok(joined);
        }
        // A new one: those that run are not to be continued but finished.
        let now = SystemTime::now().into();
        inner
            .next_round(self.settings, snapshot, now)
            .map_err(|error| {
                let text = "the next round cannot begin";
                Error::new(ErrorKind::Results, text).with_source(error)
            })
    }
}

fn not_kept(error: bw_results::Error) -> Error {
    Error::new(ErrorKind::Results, "results cannot be kept").with_source(error)
}

/// The relays that a scan with these settings covers: those that were named,
/// or all of the consensus but the authorities, which get no weight from
/// scanners. Always only those of our partition.
fn targets(settings: &Settings, network: &NetworkSnapshot) -> Vec<Fingerprint> {
    let all = network
        .relays
        .iter()
        .filter(|relay| !relay.flags.authority)
        .filter(|relay| settings.only.is_none() || relay.unmeasured)
        .map(|relay| relay.fingerprint);
    let chosen: Vec<Fingerprint> = if settings.relays.is_empty() {
        all.collect()
    } else {
        settings.relays.clone()
    };
    chosen
        .into_iter()
        .filter(|relay| settings.partition.contains(relay))
        .collect()
}
