//! `bwscan run`: the whole job, for years.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use bw_measure::{Event, Observer};
use bw_results::UnixMillis;
use bw_store::Store;
use clap::Args as ClapArgs;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::generate::{self, Made};
use super::prune;
use super::publication::{InUse, LATEST, Refusal};
use super::scan::{Settings, scan_rounds};
use crate::args::{Args, Command};
use crate::cmd::{GenerateArgs, PruneArgs, ScanArgs};
use crate::command_line::CommandLine;
use crate::config::ConfigFile;
use crate::exit::{Exit, UsageError};
use crate::paths::{DataDir, default_config};
use crate::progress::{Progress, Style};
use crate::publish::replace_file;
use crate::service::{Address, Endpoint, Metrics, Minute, Supervisor};
use crate::signals::{Request, Signals};
use crate::text::{print, warn};

/// Options of `bwscan run`. Those of its parts are in the tables `[scan]`, `[generate]` and
/// `[prune]` of the configuration file.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct RunArgs {
    /// Write the bandwidth file at this minute of each hour.
    #[arg(long, default_value = ":35", value_name = ":MM")]
    pub(crate) generate_at: Minute,
    /// Serve /metrics, /healthz and /readyz at this address: 127.0.0.1:9052 or
    /// unix:/run/bwscan/metrics.sock.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics: Option<Address>,
    /// Write the metrics into this file every minute, for node_exporter's textfile
    /// collector.
    #[arg(long, value_name = "FILE")]
    pub(crate) metrics_file: Option<PathBuf>,
}

/// The tasks of a service, as configured.
struct Job {
    scan: Box<ScanArgs>,
    generate: GenerateArgs,
    prune: PruneArgs,
    run: RunArgs,
    data: DataDir,
    /// The options of the configuration file.
    config: BTreeMap<String, String>,
}

impl Job {
    fn new(line: &CommandLine) -> anyhow::Result<Self> {
        let config = line.config.as_ref();
        let data = DataDir::new(&line.args.global)?;
        let part = |names: &[&str]| part(names, config, &data);
        let Command::Scan(scan) = part(&["scan", "--continuous"])?.command else {
            return Err(wrong_part("scan"));
        };
        let Command::Generate(generate) = part(&["generate"])?.command else {
            return Err(wrong_part("generate"));
        };
        let Command::Prune(prune) = part(&["prune"])?.command else {
            return Err(wrong_part("prune"));
        };
        let Command::Run(run) = &line.args.command else {
            return Err(wrong_part("run"));
        };
        Ok(Self {
            scan,
            generate,
            prune: PruneArgs {
                dry_run: false,
                ..prune
            },
            run: run.clone(),
            data,
            config: config.map(options_of).unwrap_or_default(),
        })
    }

    /// Says which options differ from those of `before`; an empty list if none does.
    fn changes_since(&self, before: &Self) -> Vec<String> {
        let mut options: Vec<&String> = self.config.keys().chain(before.config.keys()).collect();
        options.sort_unstable();
        options.dedup();
        let value = |job: &Self, option: &String| {
            let value = job.config.get(option);
            value.cloned().unwrap_or_else(|| "the default".to_owned())
        };
        options
            .into_iter()
            .map(|option| (option, value(before, option), value(self, option)))
            .filter(|(_, old, new)| old != new)
            .map(|(option, old, new)| format!("{option}: {old} → {new}"))
            .collect()
    }
}

/// The command line of a part of the job, with its table of the configuration file.
pub(super) fn part(
    names: &[&str],
    config: Option<&ConfigFile>,
    data: &DataDir,
) -> anyhow::Result<Args> {
    let mut arguments = vec!["bwscan".into()];
    match config {
        Some(file) => arguments.extend(["--config".into(), file.path().into()]),
        None => arguments.push("--no-config".into()),
    }
    arguments.extend(["--data-dir".into(), data.path().into()]);
    arguments.extend(names.iter().map(Into::into));
    Ok(CommandLine::parse(arguments, None)?.args)
}

fn wrong_part(name: &str) -> anyhow::Error {
    UsageError(format!("the command line of {name} has changed")).into()
}

/// The options in a configuration file, as `scan --link-rate`, with their values.
fn options_of(file: &ConfigFile) -> BTreeMap<String, String> {
    let mut options = BTreeMap::<String, String>::new();
    for command in [
        vec![],
        vec!["scan"],
        vec!["generate"],
        vec!["prune"],
        vec!["run"],
    ] {
        let command: Vec<String> = command.into_iter().map(str::to_owned).collect();
        for setting in file.of(&command) {
            let name = [&command[..], std::slice::from_ref(&setting.option)]
                .concat()
                .join(" ");
            let values = setting.arguments.iter().map(|one| one.to_string_lossy());
            let values: Vec<_> = values.collect();
            let value = options.entry(name).or_default();
            value.push_str(&values.join(" "));
        }
    }
    options
}

/// Runs until it is told to end.
pub(super) async fn run(line: &CommandLine) -> anyhow::Result<Exit> {
    let supervisor = Supervisor::from_environment();
    let mut job = Arc::new(Job::new(line)?);
    // What is wrong in the configuration stops the start, not a service that runs.
    let settings = Settings::new(&job.scan, &job.data)?;
    let destinations = settings
        .destinations
        .iter()
        .map(bw_measure::Destination::as_str);
    let metrics = Arc::new(Metrics::new(destinations));
    recall(&job, &metrics);
    let stop = CancellationToken::new();
    // However this ends, what runs ends with it.
    let _stop = stop.clone().drop_guard();
    if let Some(address) = &job.run.metrics {
        let endpoint = Endpoint::bind(address).await?;
        print(format!("metrics at {}", endpoint.address()))?;
        tokio::spawn(endpoint.serve(Arc::clone(&metrics), stop.clone().cancelled_owned()));
    }
    let mut signals = Signals::new()?;
    supervisor.ready();
    loop {
        if work(&job, &metrics, supervisor, &mut signals).await? != Request::HangUp {
            supervisor.stopping();
            return Ok(Exit::Success);
        }
        supervisor.reloading();
        job = reload(line, job);
        supervisor.ready();
    }
}

/// Tells monitoring of the last round and file of earlier processes.
fn recall(job: &Job, metrics: &Metrics) {
    let latest = generate::output(&job.generate, &job.data).join(LATEST);
    if let Some(file) = InUse::read(&latest)
        && let Some(created) = file.created
    {
        metrics.published(created, file.relays);
    }
    let scans = Store::open_read_only(job.data.store()).and_then(|store| store.scans());
    let ended = scans.iter().flatten().filter_map(|one| one.scan.ended);
    // The imported day of an sbws ends with the day.
    let now = UnixMillis::from(SystemTime::now());
    let ended = ended.filter(|&ended| ended <= now);
    if let Some(ended) = ended.max() {
        metrics.round_completed_at(ended);
    }
}

const HOUR: Duration = Duration::from_secs(3600);

/// The job as the configuration file has it now, or as it was if that is wrong.
fn reload(line: &CommandLine, before: Arc<Job>) -> Arc<Job> {
    let read = || -> anyhow::Result<Job> {
        let line = CommandLine::parse(line.arguments.clone(), default_config())?;
        let job = Job::new(&line)?;
        Settings::new(&job.scan, &job.data)?;
        Ok(job)
    };
    let job = match read() {
        Ok(job) => job,
        Err(error) => {
            warn(&format!("the old configuration stays: {error:#}"));
            return before;
        }
    };
    let changes = job.changes_since(&before);
    if changes.is_empty() {
        warn("the configuration has not changed");
    }
    for change in &changes {
        warn(&format!("configuration: {change}"));
    }
    let fixed = |job: &Job| (job.data.path().to_owned(), job.run.metrics.clone());
    if fixed(&job) != fixed(&before) {
        warn("--data-dir and --metrics change only with a restart");
        return Arc::new(Job {
            data: before.data.clone(),
            ..job
        });
    }
    Arc::new(job)
}

/// Does the job until a signal comes.
async fn work(
    job: &Arc<Job>,
    metrics: &Arc<Metrics>,
    supervisor: Supervisor,
    signals: &mut Signals,
) -> anyhow::Result<Request> {
    let cancel = CancellationToken::new();
    let mut scanning = scan_apart(job, metrics, &cancel);
    let generating = generating(job, metrics);
    let pruning = pruning(job);
    let watching = watching(job, metrics, supervisor);
    tokio::pin!(generating, pruning, watching);
    let mut request = tokio::select! {
        request = signals.next() => request,
        ended = &mut scanning => return ended.context("the scan failed")?,
        () = &mut generating => unreachable!("it has no end"),
        () = &mut pruning => unreachable!("it has no end"),
        () = &mut watching => unreachable!("it has no end"),
    };
    // What was recorded is written; transfers under way are dropped.
    cancel.cancel();
    // A store that another process keeps locked delays a reload, but never the end.
    while request == Request::HangUp {
        request = tokio::select! {
            _ = &mut scanning => return Ok(request),
            request = signals.next() => request,
            () = &mut watching => unreachable!("it has no end"),
        };
    }
    const PATIENCE: Duration = Duration::from_secs(4);
    if tokio::time::timeout(PATIENCE, scanning).await.is_err() {
        warn("the store takes long; what is not yet written is lost");
    }
    Ok(request)
}

/// Scans on a thread of its own: while the store is locked it waits, and nothing else does.
fn scan_apart(
    job: &Arc<Job>,
    metrics: &Arc<Metrics>,
    cancel: &CancellationToken,
) -> JoinHandle<anyhow::Result<Request>> {
    let (job, metrics, cancel) = (Arc::clone(job), Arc::clone(metrics), cancel.clone());
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let style = if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
            Style::Human
        } else {
            Style::Rounds
        };
        let progress = Progress::new(style);
        let observer = |event: &Event<'_>| {
            metrics.observe(event);
            progress.observe(event);
        };
        let ended = runtime.block_on(scanning(&job, &progress, &observer, &metrics, &cancel));
        progress.finish();
        ended.map(|()| Request::Terminate)
    })
}

/// Scans in rounds, whatever happens, until it is cancelled.
async fn scanning(
    job: &Job,
    progress: &Progress,
    observer: &impl Observer,
    metrics: &Metrics,
    cancel: &CancellationToken,
) -> anyhow::Result<()> {
    /// The time until it is tried again.
    const RETRY: Duration = Duration::from_secs(60);
    let mut first = true;
    while !cancel.is_cancelled() {
        let mut settings = Settings::new(&job.scan, &job.data)?;
        settings.interval = Some(job.scan.interval);
        let scanned = scan_rounds(settings, progress, observer, cancel).await;
        let Err(error) = scanned else { continue };
        let is_locked = matches!(
            error.downcast_ref::<bw_store::Error>(),
            Some(bw_store::Error::Locked { .. })
        );
        if first && is_locked {
            return Err(error);
        }
        first = false;
        let text = format!("{error:#}");
        warn(&format!("{text}; next try in a minute"));
        metrics.wait(Some(format!("this to pass: {text}")));
        let _ = cancel.run_until_cancelled(tokio::time::sleep(RETRY)).await;
    }
    Ok(())
}

/// Writes the bandwidth file once an hour, for ever; the first one after the first round, if
/// there is none of the last hour.
async fn generating(job: &Arc<Job>, metrics: &Arc<Metrics>) {
    let latest = generate::output(&job.generate, &job.data).join(LATEST);
    let age = std::fs::metadata(latest).and_then(|file| file.modified());
    let age = age.ok().and_then(|written| written.elapsed().ok());
    let mut is_new = age.is_some_and(|age| age < HOUR);
    loop {
        tokio::select! {
            () = begins(job.run.generate_at) => {}
            () = metrics.round_completed(), if !is_new => {}
        }
        is_new = true;
        // On a thread of its own: reading a month takes seconds.
        let (job, metrics) = (Arc::clone(job), Arc::clone(metrics));
        let runtime = tokio::runtime::Handle::current();
        let made = move || runtime.block_on(generate_once(&job, &metrics));
        if let Err(error) = tokio::task::spawn_blocking(made).await {
            warn(&format!("no bandwidth file: {error}"));
        }
    }
}

/// Waits until `minute` begins, by a clock that may be set meanwhile.
async fn begins(minute: Minute) {
    const LOOK: Duration = Duration::from_secs(10);
    let mut due = None;
    loop {
        let now = UnixMillis::from(SystemTime::now());
        let at = minute.due(now, due);
        if now >= at {
            return;
        }
        due = Some(at);
        tokio::time::sleep(at.since(now).min(LOOK)).await;
    }
}

async fn generate_once(job: &Job, metrics: &Metrics) {
    match generate::make(&job.generate, &job.data).await {
        Ok(Made::Written(written)) => {
            let network = &written.scaled.network;
            metrics.published(SystemTime::now().into(), network.eligible);
            warn(&format!(
                "wrote {}: {} of {} relays have a weight",
                written.path.display(),
                network.eligible,
                network.consensus_relays
            ));
        }
        Ok(Made::Refused(..)) => {
            // It has said why.
            metrics.refused();
            warn("the old bandwidth file stays");
        }
        Err(error) => {
            metrics.refused();
            let reason = format!("no bandwidth file: {error:#}");
            warn(&reason);
            let output = generate::output(&job.generate, &job.data);
            Refusal::new(SystemTime::now().into(), reason).keep(&output);
        }
    }
}

/// Removes what is old once a day, for ever.
async fn pruning(job: &Job) {
    loop {
        let (mut args, data) = (job.prune.clone(), job.data.clone());
        args.output = args.output.or_else(|| job.generate.output.clone());
        let pruned = tokio::task::spawn_blocking(move || prune::prune(&args, &data)).await;
        match pruned.map_err(anyhow::Error::from).flatten() {
            Ok(done) if done.is_something() => warn(&done.describe(false)),
            Ok(_) => {}
            Err(error) => warn(&format!("old records stay: {error:#}")),
        }
        tokio::time::sleep(24 * HOUR).await;
    }
}

/// Tells monitoring how it goes, for ever.
async fn watching(job: &Job, metrics: &Metrics, supervisor: Supervisor) {
    const MINUTE: Duration = Duration::from_secs(60);
    let mut ticks = tokio::time::interval(supervisor.interval());
    let mut written: Option<tokio::time::Instant> = None;
    loop {
        ticks.tick().await;
        supervisor.alive(&metrics.status());
        if written.is_some_and(|at| at.elapsed() < MINUTE) {
            continue;
        }
        written = Some(tokio::time::Instant::now());
        metrics.look_at_disk(&job.data.store());
        if let Some(path) = &job.run.metrics_file
            && let Err(error) = replace_file(path, metrics.text().as_bytes())
        {
            warn(&format!("--metrics-file: {error:#}"));
        }
    }
}
