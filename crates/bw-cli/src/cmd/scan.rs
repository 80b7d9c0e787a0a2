//! `bwscan scan`: measure relays.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bw_file::Fingerprint;
use bw_measure::tor::{TorClient, TorSettings};
use bw_measure::{
    ContentKey, Destination, Directory as _, Error, ErrorKind, Limits, Partition, StageTimeouts,
    Sustained, Tls, TransferOptions, Window,
};
use bw_results::{Direction, NetworkSnapshot, ScanParameters};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::names::with_known_names;
use super::rounds::Rounds;
use crate::args::{Only, ScanArgs};
use crate::exit::{Exit, UsageError};
use crate::paths::DataDir;
use crate::progress::{Progress, Style};
use crate::relay_name::RelayName;
use crate::signals::cancel_on_signal;
use crate::text::{kilobytes, print_json_line, size};

/// Advice to those without a destination.
const NO_DESTINATION: &str = "no destination: give --destination URL, a large file (1 GiB is \
    good) on a web server that answers Range requests. \"bwscan serve\" is such a server: run \
    it on a fast machine with a certificate for its name (--tls-cert, --tls-key), and give its \
    URL here";

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
    /// True if an unfinished scan is left aside.
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

    /// The parameters that must be equal for an interrupted scan to be continued.
    pub(super) fn parameters(&self) -> ScanParameters {
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
    let style = match (args.json, args.quiet) {
        (true, _) => Style::Json,
        (_, true) => Style::Quiet,
        _ => Style::Human,
    };
    let progress = Progress::new(style);
    let cancel = cancel_on_signal()?;
    let result = scan(settings, args, &progress, &cancel).await;
    progress.finish();
    result
}

async fn scan(
    mut settings: Settings,
    args: &ScanArgs,
    progress: &Progress,
    cancel: &CancellationToken,
) -> anyhow::Result<Exit> {
    let destinations = std::mem::take(&mut settings.destinations);
    let known = with_known_names(destinations);
    let Some(known) = cancel.run_until_cancelled(known).await else {
        return Ok(Exit::Interrupted);
    };
    settings.destinations = known?;
    let interval = args.continuous.then_some(args.interval);
    let mut rounds = Rounds::open(&settings, interval, args.dry_run, progress)?;
    let Some(client) = cancel
        .run_until_cancelled(bootstrap(&settings, progress))
        .await
    else {
        return Ok(Exit::Interrupted);
    };
    let client = client?;
    if !settings.names.is_empty() {
        let directory = client.directory()?;
        let Some(network) = cancel.run_until_cancelled(directory.snapshot()).await else {
            return Ok(Exit::Interrupted);
        };
        drop(rounds);
        settings.find_relays(&*network?)?;
        rounds = Rounds::open(&settings, interval, args.dry_run, progress)?;
    }
    if args.dry_run {
        return dry_run(&rounds, &client, args.json, cancel).await;
    }
    loop {
        match rounds.run(&client, cancel).await {
            Err(_) if cancel.is_cancelled() => {}
            Err(error) if args.continuous && is_passing(&error) => {
                progress.say(&format!("{error}; next try in a minute"));
                sleep(Duration::from_secs(60), cancel).await;
            }
            other => {
                other?;
            }
        }
        if cancel.is_cancelled() {
            rounds.interrupted()?;
            return Ok(Exit::Interrupted);
        }
        if !args.continuous {
            return Ok(if rounds.measured() == 0 && rounds.failed() > 0 {
                Exit::NotGoodEnough
            } else {
                Exit::Success
            });
        }
        progress.waits(rounds.next_in());
        sleep(rounds.next_in(), cancel).await;
    }
}

/// Shows what a scan would do, and what it would take.
async fn dry_run(
    rounds: &Rounds<'_>,
    client: &TorClient,
    json: bool,
    cancel: &CancellationToken,
) -> anyhow::Result<Exit> {
    let Some(plan) = cancel.run_until_cancelled(rounds.plan(client)).await else {
        return Ok(Exit::Interrupted);
    };
    let plan = plan?;
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

/// Returns true if a scan that runs for ever may hope that it goes away.
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
