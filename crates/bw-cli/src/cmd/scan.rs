//! `bwscan scan`: measure relays.

mod args;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bw_file::Fingerprint;
use bw_measure::tor::{TorCircuits, TorClient, TorDirectory, TorSettings};
use bw_measure::{
    ContentKey, Destination, Directory as _, Error, ErrorKind, Event, HttpTransport, Limits,
    Observer, Partition, RoundOptions, Rounds, RoundsError, Scan, SpareHelpers, StageTimeouts,
    Sustained, Tls, Totals, TransferOptions, Window,
};
use bw_results::{Direction, NetworkSnapshot, ScanParameters, TargetFacts};
use bw_store::{ScanLock, StoreWriter};
use bw_watch::Listening;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::names::with_known_names;
use super::watch;
use crate::exit::{Exit, UsageError};
use crate::journal::StoreJournal;
use crate::paths::DataDir;
use crate::progress::{Progress, Style};
use crate::relay_name::RelayName;
use crate::signals::Stop;
use crate::text::{kilobytes, print_json_line, size};

pub(crate) use self::args::{Only, ScanArgs};

/// Advice to those without a destination.
const NO_DESTINATION: &str = "no destination: give --destination URL, a large file (1 GiB is \
    good) on a web server that answers Range requests. \"bwscan serve\" is such a server: run \
    it on a fast machine with a certificate for its name (--tls-cert, --tls-key), and give its \
    URL here";

/// A scan over the Tor network.
type TorScan<F> = Scan<TorDirectory, HttpTransport<TorCircuits>, SpareHelpers, F>;

/// The options of a scan, checked.
pub(super) struct Settings {
    pub(super) data: DataDir,
    pub(super) destinations: Vec<Destination>,
    pub(super) partition: Partition,
    pub(super) partition_key: String,
    pub(super) relays: Vec<Fingerprint>,
    /// Relays that only the consensus can tell.
    names: Vec<RelayName>,
    pub(super) only: Option<Only>,
    pub(super) scanner: String,
    pub(super) tls: Tls,
    /// The secret that all destinations share.
    pub(super) key: Option<ContentKey>,
    /// Unless the network decides.
    pub(super) direction: Option<Direction>,
    pub(super) tor_config: Vec<PathBuf>,
    pub(super) bootstrap_timeout: Duration,
    pub(super) limits: Limits,
    pub(super) window: Option<Window>,
    pub(super) estimator: Sustained,
    pub(super) transfer: TransferOptions,
    pub(super) timeouts: StageTimeouts,
    pub(super) seed: Option<u64>,
    /// The interval at which rounds begin; `None` for a single one.
    pub(super) interval: Option<Duration>,
    /// True if an unfinished scan is left aside.
    pub(super) fresh: bool,
}

impl Settings {
    pub(super) fn new(args: &ScanArgs, data: &DataDir) -> anyhow::Result<Self> {
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
        let mut names = args.relay.clone();
        for file in &args.relays {
            names.extend(relays_in(file)?);
        }
        settings.name_relays(names);
        settings.only = args.only;
        settings.scanner.clone_from(&args.scanner);
        if let Some(path) = &args.ca_file {
            settings.tls = Tls::with_ca_file(path)?;
        }
        if let Some(path) = &args.destination_key_file {
            settings.key = Some(ContentKey::from_file(path)?);
        }
        settings.direction = args.direction.fixed();
        settings.tor_config.clone_from(&args.tor.tor_config);
        settings.bootstrap_timeout = args.tor.bootstrap_timeout;
        settings.limits = limits(args);
        settings.window = args.window;
        settings.estimator = {
            let mut estimator = Sustained::default();
            estimator.least = args.min_time;
            estimator.enough = args.sample_time.max(args.min_time);
            estimator.longest = args.max_time;
            estimator.precision = args.precision;
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
            names: Vec::new(),
            only: None,
            scanner: "bwscan".to_owned(),
            tls: Tls::with_public_roots()?,
            key: None,
            direction: None,
            tor_config: Vec::new(),
            bootstrap_timeout: Duration::from_secs(180),
            limits: Limits::default(),
            window: None,
            estimator: Sustained::default(),
            transfer: TransferOptions::default(),
            timeouts: StageTimeouts::default(),
            seed: None,
            interval: None,
            fresh: false,
        })
    }

    fn name_relays(&mut self, names: Vec<RelayName>) {
        self.relays
            .extend(names.iter().filter_map(RelayName::fingerprint));
        self.relays.sort_unstable();
        self.relays.dedup();
        self.names = names;
        self.names.retain(|name| name.fingerprint().is_none());
    }

    /// Replaces names by the fingerprints of the relays that have them.
    fn find_relays(&mut self, network: &NetworkSnapshot) -> Result<(), UsageError> {
        for name in std::mem::take(&mut self.names) {
            self.relays.push(name.find(&network.relays)?);
        }
        self.relays.sort_unstable();
        self.relays.dedup();
        Ok(())
    }

    /// Opens the store; waits while another process keeps it locked.
    fn journal(&self) -> bw_store::Result<StoreJournal> {
        let writer = StoreWriter::open(self.data.store(), |waited| {
            tracing::warn!(
                "another process has kept the store locked for {} s; what is measured \
                 meanwhile is written when it ends",
                waited.as_secs()
            );
        })?;
        Ok(StoreJournal::new(writer, self.scanner.clone()))
    }

    /// The options of the rounds.
    fn rounds(&self) -> RoundOptions {
        let mut options = RoundOptions::new(&self.scanner, self.parameters());
        options.selection.relays.clone_from(&self.relays);
        options.selection.unmeasured = self.only.is_some();
        options.selection.partition = self.partition.clone();
        options.interval = self.interval;
        options.fresh = self.fresh;
        options.seed = self.seed;
        options
    }

    /// A scan through `client`.
    fn scan(
        &self,
        client: &TorClient,
    ) -> Result<TorScan<impl Fn(&TargetFacts) -> Sustained + Send + Sync + use<>>, Error> {
        let mut transport = HttpTransport::new(client.circuits()?, self.tls.clone());
        transport.timeouts = self.timeouts;
        transport.key.clone_from(&self.key);
        let estimator = self.estimator.clone();
        let mut scan = Scan::builder(client.directory()?, transport)
            .limits(self.limits.clone())
            .transfer(self.transfer)
            .estimator(move |target: &TargetFacts| estimator.clone().for_target(target));
        for destination in &self.destinations {
            scan = scan.destination(destination.clone());
        }
        if let Some(direction) = self.direction {
            scan = scan.direction(direction);
        }
        if let Some(window) = self.window {
            scan = scan.window(window);
        }
        Ok(scan)
    }

    /// Says what the options have to do with an error.
    fn explain(&self, error: RoundsError<bw_store::Error>) -> anyhow::Error {
        match error {
            RoundsError::Scan(error) => error.into(),
            RoundsError::Journal(error) => {
                anyhow::Error::from(error).context("results cannot be kept")
            }
            RoundsError::NoRelays { relays } => {
                let only = self.only.map_or("", |Only::Unmeasured| "unmeasured and ");
                UsageError(format!(
                    "no relay of the consensus ({relays} relays) is {only}in partition {} of {}",
                    self.partition.number(),
                    self.partition.count()
                ))
                .into()
            }
            other => other.into(),
        }
    }

    /// The parameters that must be equal for an interrupted scan to be continued.
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
            "direction": self.direction,
            "only": self.only.map(|Only::Unmeasured| "unmeasured"),
        });
        parameters
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The relays of a file: a name in each line; what follows on a line, empty lines
/// and lines that begin with `#` do not count.
fn relays_in(file: &Path) -> anyhow::Result<Vec<RelayName>> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| UsageError(format!("--relays {}: {error}", file.display())))?;
    let mut relays = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let Some(word) = line
            .split_whitespace()
            .next()
            .filter(|word| !word.starts_with('#'))
        else {
            continue;
        };
        let relay = word.parse().map_err(|error| {
            let column = line.find(word).unwrap_or(0) + 1;
            UsageError(format!(
                "--relays {}:{number}:{column}: {word:?}: {error}",
                file.display()
            ))
        })?;
        relays.push(relay);
    }
    if relays.is_empty() {
        let text = format!("--relays {}: no relay in it", file.display());
        return Err(UsageError(text).into());
    }
    Ok(relays)
}

/// The limits of a scan.
fn limits(args: &ScanArgs) -> Limits {
    let mut limits = Limits::default();
    limits.link = args.link_rate;
    limits.destination = args.destination_rate;
    limits.circuits = args.circuits;
    limits.circuits_per_second = args.circuits_per_second;
    limits.bytes_per_day = args.bytes_per_day.map(|size| size.as_u64());
    limits.helpers = args.helpers;
    limits.attempts = args.attempts;
    limits.outage = args.outage;
    limits.placement = args.position.into();
    limits
}

/// Scans once or round after round.
pub(super) async fn run(args: &ScanArgs, data: &DataDir) -> anyhow::Result<Exit> {
    let settings = Settings::new(args, data)?;
    let style = match args {
        ScanArgs { json: true, .. } => Style::Json,
        ScanArgs { quiet: true, .. } => Style::Quiet,
        ScanArgs { watch: true, .. } => Style::Watched,
        _ => Style::Human,
    };
    let progress = Progress::new(style);
    let stop = Stop::on_signal()?;
    let scanning = scan(settings, args, &progress, &stop);
    let result = if args.watch {
        watched(scanning, &progress, &stop).await
    } else {
        scanning.await
    };
    progress.finish();
    result
}

/// Shows a scan on the terminal until it ends; who leaves the screen ends the scan.
async fn watched(
    scanning: impl Future<Output = anyhow::Result<Exit>>,
    progress: &Progress,
    stop: &Stop,
) -> anyhow::Result<Exit> {
    let over = CancellationToken::new();
    let state = progress.hub().state();
    let showing = async {
        let shown = watch::on_terminal(&state, true, &over).await;
        stop.token().cancel();
        shown
    };
    let scanning = async {
        let result = scanning.await;
        over.cancel();
        result
    };
    let (result, shown) = tokio::join!(scanning, showing);
    shown?;
    result
}

async fn scan(
    mut settings: Settings,
    args: &ScanArgs,
    progress: &Progress,
    stop: &Stop,
) -> anyhow::Result<Exit> {
    settings.interval = args.continuous.then_some(args.interval);
    let known = with_known_names(std::mem::take(&mut settings.destinations));
    let Some(known) = stop.token().run_until_cancelled(known).await else {
        return Ok(Exit::Interrupted);
    };
    settings.destinations = known?;
    if args.dry_run {
        let planned = dry_run(settings, args.json, progress);
        let planned = stop.token().run_until_cancelled(planned).await;
        return planned.unwrap_or(Ok(Exit::Interrupted));
    }
    let totals = scan_rounds(settings, progress, progress, stop.token()).await?;
    if stop.token().is_cancelled() {
        // To be told to end is how a service ends well.
        let ends_well = args.continuous && stop.by_terminate();
        return Ok(if ends_well {
            Exit::Success
        } else {
            Exit::Interrupted
        });
    }
    Ok(if totals.measured == 0 && totals.failed > 0 {
        Exit::NotGoodEnough
    } else {
        Exit::Success
    })
}

/// Measures in rounds until they end or `cancel` is called.
pub(super) async fn scan_rounds(
    mut settings: Settings,
    progress: &Progress,
    observer: &impl Observer,
    cancel: &CancellationToken,
) -> anyhow::Result<Totals> {
    settings.data.create()?;
    let store = settings.data.store();
    // Keeps other scanners out, from before the network is reached.
    let _lock = ScanLock::acquire(&store, SystemTime::now().into())?;
    let _listening = listen(&settings, progress);
    let journal = settings.journal()?;
    let Some(client) = reach(&mut settings, progress, observer, cancel).await? else {
        return Ok(Totals::default());
    };
    let rounds = Rounds::new(journal, settings.rounds());
    let connect = || std::future::ready(settings.scan(&client));
    rounds
        .run(connect, observer, cancel)
        .await
        .map_err(|error| settings.explain(error))?;
    Ok(rounds.totals())
}

/// Lets others watch. A scan goes on if they cannot.
fn listen(settings: &Settings, progress: &Progress) -> Option<Listening> {
    let hub = progress.hub();
    hub.introduce(&settings.scanner, settings.limits.link.value());
    let socket = settings.data.socket();
    hub.listen(&socket)
        .inspect_err(|error| {
            tracing::warn!("{}: nobody can watch this scan: {error}", socket.display());
        })
        .ok()
}

/// Reaches the network, and finds the relays that were named in it. Rounds that have no end
/// wait for it; `None` if they are stopped meanwhile.
async fn reach(
    settings: &mut Settings,
    progress: &Progress,
    observer: &impl Observer,
    cancel: &CancellationToken,
) -> anyhow::Result<Option<TorClient>> {
    /// The time until it is tried again.
    const RETRY: Duration = Duration::from_secs(60);
    loop {
        let reached = async {
            let client = bootstrap(settings, progress).await?;
            let network = client.directory()?.snapshot().await?;
            Ok::<_, Error>((client, network))
        };
        let Some(reached) = cancel.run_until_cancelled(reached).await else {
            return Ok(None);
        };
        match reached {
            Ok((client, network)) => {
                settings.find_relays(&network)?;
                return Ok(Some(client));
            }
            Err(reason) if settings.interval.is_some() && reason.kind() == ErrorKind::Directory => {
                let retry = RETRY;
                observer.observe(&Event::Waiting {
                    reason: &reason,
                    retry,
                });
                let _ = cancel.run_until_cancelled(tokio::time::sleep(retry)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Shows what a scan would do, and what it would take.
async fn dry_run(mut settings: Settings, json: bool, progress: &Progress) -> anyhow::Result<Exit> {
    settings.data.create()?;
    let journal = settings.journal()?;
    let never = CancellationToken::new();
    let Some(client) = reach(&mut settings, progress, progress, &never).await? else {
        return Ok(Exit::Interrupted);
    };
    // Opening and warm-up as seen in practice; half of the downloads end before all the
    // time that they may count.
    let opening = Duration::from_secs(1);
    let transfer = settings.estimator.enough + Duration::from_millis(500);
    let rounds = Rounds::new(journal, settings.rounds());
    let plan = rounds
        .plan(settings.scan(&client)?, opening, transfer)
        .await
        .map_err(|error| settings.explain(error))?;
    for planned in &plan.measurements {
        let target = &planned.assignment.target;
        if json {
            print_json_line(&json!({
                "event": "planned",
                "begins": planned.begins.as_secs_f64(),
                "fingerprint": target.fingerprint,
                "nickname": target.nickname,
                "position": planned.assignment.position,
                "helpers": planned.assignment.helpers,
                "destination": planned.assignment.destination.as_str(),
                "expected": planned.rate.round(),
            }))?;
        } else {
            crate::text::print(format!(
                "{:>8.1} s  {} {:<19} as {}, {} kB/s expected, {} helpers",
                planned.begins.as_secs_f64(),
                target.fingerprint,
                target.nickname,
                planned.assignment.position,
                kilobytes(planned.rate),
                planned.assignment.helpers.len(),
            ))?;
        }
    }
    for (relay, kind) in &plan.unable {
        if json {
            print_json_line(&json!({"event": "unable", "fingerprint": relay, "kind": kind}))?;
        } else {
            crate::text::print(format!("cannot be measured: {relay} ({kind})"))?;
        }
    }
    if json {
        print_json_line(&json!({
            "event": "plan",
            "measurements": plan.measurements.len(),
            "unable": plan.unable.len(),
            "duration": plan.duration.as_secs_f64(),
            "bytes": plan.bytes,
        }))?;
    } else {
        let whole = Duration::from_secs(plan.duration.as_secs());
        crate::text::print(format!(
            "{} measurements in about {}, {}; {} relays cannot be measured",
            plan.measurements.len(),
            humantime::format_duration(whole),
            size(plan.bytes),
            plan.unable.len(),
        ))?;
    }
    Ok(Exit::Success)
}

/// Reaches the Tor network.
pub(super) async fn bootstrap(
    settings: &Settings,
    progress: &Progress,
) -> Result<TorClient, Error> {
    let mut tor = TorSettings::new(settings.data.tor());
    tor.config.clone_from(&settings.tor_config);
    tor.patience = settings.bootstrap_timeout;
    let mut last = String::new();
    TorClient::bootstrap(&tor, |bootstrap| {
        let text = format!("Tor: {}", bootstrap.status);
        if text != last {
            progress.say(&text);
            last = text;
        }
    })
    .await
}
