//! `bwscan scan`: measure relays.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use bw_file::{BytesPerSecond, Fingerprint};
use bw_measure::tor::{TorClient, TorSettings};
use bw_measure::{
    Destination, Directory, Error, ErrorKind, HttpTransport, Limits, Measurer, Partition, Recorder,
    ScanReport, Scheduler, SpareHelpers, StageTimeouts, Sustained, Tls, TransferOptions, WallClock,
    Window,
};
use bw_results::{
    NetworkSnapshot, Outcome, RelayHistory, Scan, ScanId, ScanParameters, Store, TargetFacts,
    UnixMillis,
};
use bytesize::ByteSize;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::args::ScanArgs;
use crate::exit::{Exit, UsageError};
use crate::paths::DataDir;
use crate::progress::{Progress, Style};
use crate::signals::cancel_on_signal;
use crate::text::{print_json_line, size};

/// What to say when there is nothing to download from.
const NO_DESTINATION: &str = "no destination: give --destination URL, a large file (1 GiB is \
    good) on a web server that answers Range requests. \"bwscan serve\" is such a server: run \
    it on a fast machine with a certificate for its name (--tls-cert, --tls-key), and give its \
    URL here";

/// History older than this does not count when relays are put in order.
const MEMORY: Duration = Duration::from_secs(28 * 24 * 3600);

/// The options of a scan, checked.
pub(super) struct Settings {
    pub(super) data: DataDir,
    pub(super) destinations: Vec<Destination>,
    pub(super) partition: Partition,
    pub(super) partition_key: String,
    pub(super) relays: Vec<Fingerprint>,
    pub(super) scanner: String,
    pub(super) tls: Tls,
    pub(super) tor_config: Vec<PathBuf>,
    pub(super) bootstrap_timeout: Duration,
    pub(super) limits: Limits,
    pub(super) window: Option<Window>,
    pub(super) estimator: Sustained,
    pub(super) transfer: TransferOptions,
    pub(super) timeouts: StageTimeouts,
    pub(super) seed: Option<u64>,
    /// Whether an unfinished scan is left aside.
    pub(super) fresh: bool,
}

impl Settings {
    fn new(args: &ScanArgs, data: &DataDir) -> anyhow::Result<Self> {
        if args.destinations.is_empty() {
            return Err(UsageError(NO_DESTINATION.to_owned()).into());
        }
        if args.min_time > args.max_time {
            return Err(UsageError("--min-time is above --max-time".to_owned()).into());
        }
        let destinations = args
            .destinations
            .iter()
            .map(|url| Destination::new(url))
            .collect::<Result<_, _>>()?;
        let mut settings = Self::with_defaults(data.clone(), destinations)?;
        settings.partition = Partition::new(
            args.partition,
            args.partitions,
            args.partition_key.as_bytes(),
        )?;
        settings.partition_key.clone_from(&args.partition_key);
        settings.relays.clone_from(&args.relays);
        settings.relays.sort_unstable();
        settings.relays.dedup();
        settings.scanner.clone_from(&args.scanner);
        if let Some(path) = &args.ca_file {
            settings.tls = Tls::with_ca_file(path)?;
        }
        settings.tor_config.clone_from(&args.tor_config);
        settings.bootstrap_timeout = args.bootstrap_timeout;
        settings.limits = limits(args);
        settings.window = args.window;
        settings.estimator = {
            let mut estimator = Sustained::default();
            estimator.least = args.min_time;
            estimator.enough = args.sample_time.max(args.min_time);
            estimator.longest = args.max_time;
            estimator.precision = args.precision / 100.0;
            estimator
        };
        settings.transfer.max_bytes = args.max_size.as_u64().max(1);
        if let Some(limit) = args.step_timeout {
            let timeouts = &mut settings.timeouts;
            timeouts.channel = limit;
            timeouts.create = limit;
            timeouts.extend = limit;
            timeouts.begin = limit;
            timeouts.tls = limit;
            timeouts.response = limit;
        }
        settings.transfer.stall = args.stall_timeout;
        settings.seed = args.seed;
        settings.fresh = args.fresh;
        Ok(settings)
    }

    /// A scan of everything against `destinations`.
    pub(super) fn with_defaults(
        data: DataDir,
        destinations: Vec<Destination>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            data,
            destinations,
            partition: Partition::default(),
            partition_key: String::new(),
            relays: Vec::new(),
            scanner: "bwscan".to_owned(),
            tls: Tls::with_public_roots()?,
            tor_config: Vec::new(),
            bootstrap_timeout: Duration::from_secs(180),
            limits: Limits::default(),
            window: None,
            estimator: Sustained::default(),
            transfer: TransferOptions::default(),
            timeouts: StageTimeouts::default(),
            seed: None,
            fresh: false,
        })
    }

    /// What must be equal for an interrupted scan to be continued.
    fn parameters(&self) -> ScanParameters {
        let urls = self.destinations.iter().map(ToString::to_string).collect();
        let mut parameters = ScanParameters::new(urls);
        parameters.partitions = self.partition.count();
        parameters.partition = self.partition.number();
        parameters.relays.clone_from(&self.relays);
        parameters.transfer = json!({
            "least_ms": millis(self.estimator.least),
            "enough_ms": millis(self.estimator.enough),
            "longest_ms": millis(self.estimator.longest),
            "precision": self.estimator.precision,
            "max_bytes": self.transfer.max_bytes,
            "partition_key": self.partition_key,
        });
        parameters
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What the scan may take of everything.
fn limits(args: &ScanArgs) -> Limits {
    let rate = |size: ByteSize| BytesPerSecond::new(size.as_u64());
    let mut limits = Limits::default();
    limits.link = rate(args.link_rate);
    limits.destination = args.destination_rate.map(rate);
    limits.circuits = args.circuits;
    limits.circuits_per_second = args.circuits_per_second;
    limits.bytes_per_day = args.bytes_per_day.map(|size| size.as_u64());
    limits.helpers = args.helpers;
    limits.attempts = args.attempts;
    limits.outage = args.outage;
    limits
}

/// Scans once or round after round.
pub(super) async fn run(args: &ScanArgs, data: &DataDir) -> anyhow::Result<Exit> {
    let settings = Settings::new(args, data)?;
    let style = match (args.json, args.quiet) {
        (true, _) => Style::Json,
        (_, true) => Style::Quiet,
        _ => Style::Human,
    };
    let progress = Progress::new(style);
    let cancel = cancel_on_signal()?;
    let result = rounds(&settings, args, style, &progress, &cancel).await;
    progress.finish();
    result
}

async fn rounds(
    settings: &Settings,
    args: &ScanArgs,
    style: Style,
    progress: &Progress,
    cancel: &CancellationToken,
) -> anyhow::Result<Exit> {
    let mut scanner = Scanner::open(settings)?;
    let Some(client) = cancel
        .run_until_cancelled(bootstrap(settings, progress))
        .await
    else {
        return Ok(Exit::Interrupted);
    };
    let client = client?;
    loop {
        let begin = Instant::now();
        let round = scanner.round(&client, progress, cancel).await;
        let (scan, report) = match round {
            Err(_) if cancel.is_cancelled() => return Ok(Exit::Interrupted),
            Err(error) if args.continuous && is_passing(&error) => {
                progress.say(&format!("{error}; next try in a minute"));
                if sleep(Duration::from_secs(60), cancel).await {
                    continue;
                }
                return Ok(Exit::Interrupted);
            }
            other => other?,
        };
        summary(style, progress, scan, &report)?;
        if cancel.is_cancelled() {
            return Ok(Exit::Interrupted);
        }
        if !args.continuous {
            return Ok(if report.measured == 0 && report.failed > 0 {
                Exit::NotGoodEnough
            } else {
                Exit::Success
            });
        }
        if !sleep(args.interval.saturating_sub(begin.elapsed()), cancel).await {
            return Ok(Exit::Interrupted);
        }
    }
}

/// Whether a scan that runs for ever may hope that it goes away.
fn is_passing(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<Error>()
        .is_some_and(|error| matches!(error.kind(), ErrorKind::Destination | ErrorKind::Directory))
}

/// Sleeps; `false` if that was cut short.
async fn sleep(time: Duration, cancel: &CancellationToken) -> bool {
    cancel
        .run_until_cancelled(tokio::time::sleep(time))
        .await
        .is_some()
}

fn summary(
    style: Style,
    progress: &Progress,
    scan: ScanId,
    report: &ScanReport,
) -> anyhow::Result<()> {
    progress.finish();
    match style {
        Style::Quiet => Ok(()),
        Style::Json => print_json_line(&json!({
            "event": "round",
            "scan": scan,
            "completed": report.left == 0,
            "measured": report.measured,
            "failed": report.failed,
            "left": report.left,
            "bytes": report.bytes,
        })),
        Style::Human => crate::text::print(format!(
            "{} relays measured, {} failed, {} left; {} received{}",
            report.measured,
            report.failed,
            report.left,
            size(report.bytes),
            if report.left > 0 {
                "; the next \"bwscan scan\" goes on"
            } else {
                ""
            },
        )),
    }
}

/// Reaches the Tor network.
pub(super) async fn bootstrap(
    settings: &Settings,
    progress: &Progress,
) -> anyhow::Result<TorClient> {
    let mut tor = TorSettings::new(settings.data.tor());
    tor.config.clone_from(&settings.tor_config);
    tor.patience = settings.bootstrap_timeout;
    let mut last = String::new();
    let client = TorClient::bootstrap(&tor, |bootstrap| {
        let text = format!("Tor: {}", bootstrap.status);
        if text != last {
            progress.say(&text);
            last = text;
        }
    })
    .await?;
    Ok(client)
}

/// The store, and what one scan after the other needs.
pub(super) struct Scanner<'a> {
    settings: &'a Settings,
    store: Mutex<Store>,
    rng: StdRng,
    /// Whether the next round may continue an unfinished scan.
    resume: bool,
}

impl<'a> Scanner<'a> {
    pub(super) fn open(settings: &'a Settings) -> anyhow::Result<Self> {
        settings.data.create()?;
        Ok(Self {
            settings,
            store: Mutex::new(Store::open(settings.data.store())?),
            rng: settings
                .seed
                .map_or_else(|| StdRng::from_rng(&mut rand::rng()), StdRng::seed_from_u64),
            resume: !settings.fresh,
        })
    }

    /// One round over the relays, or the rest of one that was interrupted.
    pub(super) async fn round(
        &mut self,
        client: &TorClient,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> anyhow::Result<(ScanId, ScanReport)> {
        let directory = client.directory()?;
        let Some(network) = cancel.run_until_cancelled(directory.snapshot()).await else {
            return Err(Error::new(ErrorKind::Directory, "interrupted").into());
        };
        let network = network?;
        let clock = WallClock::starting_at(SystemTime::now().into());
        let (scan, targets) = self.prepare(&network, clock.now())?;

        let settings = self.settings;
        let mut transport = HttpTransport::new(client.circuits()?, settings.tls.clone());
        transport.timeouts = settings.timeouts;
        let estimator = settings.estimator.clone();
        let mut measurer = Measurer::new(
            transport,
            move |target: &TargetFacts| estimator.clone().for_target(target),
            clock,
        );
        measurer.options = settings.transfer;
        let mut scheduler = Scheduler::new(
            SpareHelpers::default(),
            settings.limits.clone(),
            settings.destinations.clone(),
            network,
            StdRng::from_rng(&mut self.rng),
        );
        for (relay, history) in &targets.history {
            history
                .rate
                .inspect(|&rate| scheduler.remember(*relay, rate));
        }
        for relay in targets.pending {
            let measured = targets
                .history
                .get(&relay)
                .and_then(|relay| relay.last_measured);
            scheduler.add(relay, measured.map(UnixMillis::value));
        }
        let recorder = StoreRecorder {
            store: &self.store,
            scan,
        };
        let report = bw_measure::scan(
            &directory,
            &measurer,
            scheduler,
            settings.window,
            &recorder,
            progress,
            cancel,
        )
        .await?;
        if report.left == 0 {
            lock(&self.store).finish_scan(&scan, clock.now())?;
            self.resume = true;
        }
        Ok((scan, report))
    }

    /// The scan to go on with, or a new one, and its relays.
    fn prepare(
        &mut self,
        network: &NetworkSnapshot,
        now: UnixMillis,
    ) -> anyhow::Result<(ScanId, Targets)> {
        let store = self
            .store
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let snapshot = store.put_snapshot(network)?;
        let parameters = self.settings.parameters();
        let unfinished = store.unfinished_scan(&self.settings.scanner, &parameters)?;
        let id = match unfinished {
            Some(scan) if self.resume => {
                store.link_snapshot(&scan.id, snapshot)?;
                scan.id
            }
            other => {
                if let Some(scan) = other {
                    store.abandon_scan(&scan.id, now)?;
                }
                let id = ScanId::from_bytes(self.rng.random());
                let scan = Scan::new(id, self.settings.scanner.clone(), now, parameters);
                let targets = targets(self.settings, network);
                if targets.is_empty() {
                    return Err(UsageError(format!(
                        "no relay of the consensus ({} relays) is in partition {} of {}",
                        network.relays.len(),
                        self.settings.partition.number(),
                        self.settings.partition.count()
                    ))
                    .into());
                }
                store.begin_scan(&scan, &targets, snapshot)?;
                id
            }
        };
        self.resume = true;
        let targets = Targets {
            pending: store.pending_targets(&id)?,
            history: store.last_outcomes(now.before(MEMORY))?,
        };
        Ok((id, targets))
    }
}

/// The relays of a scan that are still to be measured, and what is known of
/// relays from before.
struct Targets {
    pending: Vec<Fingerprint>,
    history: BTreeMap<Fingerprint, RelayHistory>,
}

/// The relays that a scan with these settings covers: those that were named,
/// or all of the consensus but the authorities, which get no weight from
/// scanners. Always only those of our partition.
fn targets(settings: &Settings, network: &NetworkSnapshot) -> Vec<Fingerprint> {
    let all = network
        .relays
        .iter()
        .filter(|relay| !relay.flags.authority)
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

fn lock(store: &Mutex<Store>) -> std::sync::MutexGuard<'_, Store> {
    // SQLite's transactions keep the store whole whatever panicked.
    store
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Keeps outcomes in the store as they come.
struct StoreRecorder<'a> {
    store: &'a Mutex<Store>,
    scan: ScanId,
}

impl Recorder for StoreRecorder<'_> {
    fn network(&self, snapshot: &NetworkSnapshot) -> Result<(), Error> {
        let mut store = lock(self.store);
        store
            .put_snapshot(snapshot)
            .and_then(|id| store.link_snapshot(&self.scan, id))
            .map_err(not_kept)
    }

    fn record(&self, outcome: &Outcome, settled: bool) -> Result<(), Error> {
        let mut store = lock(self.store);
        store.record(&self.scan, outcome).map_err(not_kept)?;
        if settled {
            let target = &outcome.attempt().target.fingerprint;
            store.settle(&self.scan, target).map_err(not_kept)?;
        }
        Ok(())
    }
}

fn not_kept(error: bw_results::Error) -> Error {
    Error::new(ErrorKind::Results, "results cannot be kept").with_source(error)
}
