//! `bwscan status`: how the scanner is, at a glance.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bw_file::KilobytesPerSecond;
use bw_results::{NetworkSnapshot, SummaryResult, UnixMillis, Verdict};
use bw_store::{Error, Filter, Prune, ScanLock, ScanSummary, Store};
use bw_watch::{Shared, attach};
use clap::Args as ClapArgs;
use serde_json::json;

use super::publication::{InUse, LATEST, Refusal, directory};
use crate::args::Command;
use crate::cmd::PruneArgs;
use crate::config::ConfigFile;
use crate::exit::Exit;
use crate::finding::{Finding, exit_of, print_findings};
use crate::paths::DataDir;
use crate::service::{free_space, store_size};
use crate::text::{factor, print_json, printable, size};

/// Options of `bwscan status`.
#[derive(Debug, ClapArgs)]
pub(crate) struct StatusArgs {
    /// Look at the bandwidth files in this directory [default: that of "bwscan
    /// generate"].
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

const DAY: Duration = Duration::from_secs(24 * 3600);
/// An authority reads the file once an hour; three missed ones are no accident.
const OLD_FILE: Duration = Duration::from_secs(3 * 3600);
/// Authorities vote with a file only if it covers 60 % of the consensus.
const COVERAGE: f64 = 0.8;
/// SQLite and a month of files need room to work in.
const FREE: u64 = 1 << 30;

/// Prints how scanner, file, rounds, failures and disk are; 1 if something is a problem.
pub(super) async fn run(
    args: &StatusArgs,
    config: Option<&ConfigFile>,
    data: &DataDir,
) -> anyhow::Result<Exit> {
    let now = UnixMillis::from(SystemTime::now());
    let store = data.store();
    let opened = Store::open_read_only(&store);
    let network = match &opened {
        Ok(store) => store.latest_snapshot()?.map(|(_, network)| network),
        Err(_) => None,
    };
    let output = match super::run::part(&["generate"], config, data)?.command {
        Command::Generate(generate) => args.output.clone().or(generate.output),
        _ => args.output.clone(),
    };
    let output = directory(output.as_deref(), data);
    let mut findings = vec![process(&store, now)];
    findings.extend(live(&data.socket()).await);
    findings.push(file(&output.join(LATEST), network.as_ref(), now));
    findings.extend(Refusal::read(&output).map(|refusal| refused(&refusal, now)));
    let mut grown = None;
    match opened {
        Ok(opened) => {
            findings.extend(rounds(&opened.scans()?, now));
            findings.push(failures(&opened, now)?);
            if let Command::Prune(kept) = super::run::part(&["prune"], config, data)?.command {
                grown = forecast(&opened, &store, &kept, now)?;
            }
        }
        Err(Error::Missing { .. }) => {
            let advice = "start \"bwscan run\", or \"bwscan scan\" for a single round";
            findings.push(Finding::problem("rounds", "nothing was measured").advise(advice));
        }
        Err(error) => return Err(error.into()),
    }
    findings.extend(clock(network.as_ref(), now));
    findings.push(disk(&store, data.path(), grown));
    if args.json {
        let version = env!("CARGO_PKG_VERSION");
        print_json(&json!({ "version": version, "time": now, "findings": findings }))?;
    } else {
        print_findings(&findings)?;
    }
    Ok(exit_of(&findings))
}

/// Tells if a scanner runs.
fn process(store: &Path, now: UnixMillis) -> Finding {
    match ScanLock::acquire(store, now) {
        Err(Error::Locked {
            holder: Some(holder),
            ..
        }) => Finding::fine(
            "scanner",
            format!(
                "process {} has scanned for {}",
                holder.pid,
                span(now.since(holder.since))
            ),
        ),
        Err(Error::Locked { holder: None, .. }) => Finding::fine("scanner", "a process scans"),
        _ => Finding::warning("scanner", "no process scans into this store")
            .advise("start bwscan.service, or \"bwscan run\""),
    }
}

/// The destinations of a scanner that runs, and what it said last; nothing if none does.
async fn live(socket: &Path) -> Vec<Finding> {
    /// A scanner tells its state at once.
    const LONGEST: Duration = Duration::from_secs(2);
    const LOOK: Duration = Duration::from_millis(20);
    if !socket.exists() {
        return Vec::new();
    }
    let shared = Shared::default();
    let told = async {
        while shared.look(|state, lost| state.now == 0 && lost.is_none()) {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        never = attach(socket, &shared) => match never {},
        _ = tokio::time::timeout(LONGEST, told) => {}
    }
    shared.look(|state, _| {
        let mut findings = Vec::new();
        if !state.message.is_empty() {
            findings.push(Finding::fine("said last", printable(&state.message)));
        }
        findings.extend(state.destinations.iter().map(|(url, used)| {
            let text = format!(
                "{}: {} measured, {} failed by it, {}",
                printable(url),
                used.measured,
                used.failed,
                size(used.bytes)
            );
            if used.down {
                Finding::warning("destination", format!("{text}; it fails now"))
                    .advise("run \"bwscan doctor\"")
            } else {
                Finding::fine("destination", text)
            }
        }));
        findings
    })
}

/// The bandwidth file in use.
fn file(latest: &Path, network: Option<&NetworkSnapshot>, now: UnixMillis) -> Finding {
    let Some(in_use) = InUse::read(latest) else {
        let text = format!("{}: there is none", latest.display());
        let advice = "wait for the first complete round, or run \"bwscan generate\"";
        return Finding::problem("file", text).advise(advice);
    };
    let InUse {
        created, relays, ..
    } = in_use;
    let Some(created) = created else {
        let text = format!("{}: it has no time", latest.display());
        return Finding::problem("file", text).advise("run \"bwscan file check\" on it");
    };
    let age = now.since(created);
    let of = network.map(|network| {
        let relays = network.relays.iter();
        relays.filter(|relay| !relay.flags.authority).count()
    });
    let coverage = of.map_or(1.0, |of| relays as f64 / of.max(1) as f64);
    let of = of.map_or(String::new(), |of| format!(" of {of}"));
    let sum = network.map_or(String::new(), |network| against_consensus(&in_use, network));
    let text = format!("{} old, {relays}{of} relays{sum}", span(age));
    if age > OLD_FILE {
        Finding::problem("file", text).advise("look for the reason: bwscan generate")
    } else if coverage < COVERAGE {
        Finding::warning("file", text).advise("wait for a complete round, or see the failures")
    } else {
        Finding::fine("file", text)
    }
}

/// The sum of the weights against that of all relays in the consensus but authorities.
fn against_consensus(file: &InUse, network: &NetworkSnapshot) -> String {
    let relays = network.relays.iter();
    let relays = relays.filter(|relay| !relay.flags.authority);
    let sum: KilobytesPerSecond = relays.map(|relay| relay.consensus_weight).sum();
    let share = file.sum.value() as f64 / sum.value().max(1) as f64;
    format!(", {} of the consensus's sum", factor(share))
}

fn refused(refusal: &Refusal, now: UnixMillis) -> Finding {
    let reason = printable(&refusal.reason);
    let text = format!("{}: {reason}", ago(now.since(refusal.at)));
    Finding::warning("refusal", text).advise("if it is right all the same: bwscan generate --force")
}

/// The latest round, and the last one that was completed.
fn rounds(scans: &[ScanSummary], now: UnixMillis) -> Vec<Finding> {
    let mut findings = Vec::new();
    let newest = scans.iter().max_by_key(|one| one.scan.started);
    if let Some(round) = newest.filter(|one| one.scan.ended.is_none() && one.abandoned.is_none()) {
        let done = round.measured + round.failed;
        let elapsed = now.since(round.scan.started).as_secs_f64();
        let left = elapsed / done.max(1) as f64 * round.pending as f64;
        let left = Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX);
        let eta = if done == 0 {
            "an unknown time".to_owned()
        } else {
            format!("some {}", span(left))
        };
        findings.push(Finding::fine(
            "round",
            format!(
                "{done} of {} relays done ({} failed) in {}; {eta} to go; {}",
                round.targets,
                round.failed,
                span(now.since(round.scan.started)),
                size(round.bytes),
            ),
        ));
    }
    let completed = scans.iter().filter_map(|one| Some((one, one.scan.ended?)));
    // The imported day of an sbws ends with the day.
    let completed = completed.filter(|&(_, ended)| ended <= now);
    match completed.max_by_key(|&(_, ended)| ended) {
        Some((round, ended)) => {
            let took = span(ended.since(round.scan.started));
            let text = format!(
                "the last complete round ended {}; it took {took} and {}, {} measured, {} failed",
                ago(now.since(ended)),
                size(round.bytes),
                round.measured,
                round.failed
            );
            findings.push(if now.since(ended) > DAY {
                Finding::warning("rounds", text).advise("no round was completed in a day")
            } else {
                Finding::fine("rounds", text)
            });
        }
        None => findings.push(Finding::warning("rounds", "none was completed yet")),
    }
    findings
}

/// Failures of the last day, most frequent first.
fn failures(store: &Store, now: UnixMillis) -> anyhow::Result<Finding> {
    let (mut attempts, mut charged) = (0_u64, 0_u64);
    let mut causes = BTreeMap::<String, u64>::new();
    let _ = store.for_each_summary(&Filter::all().since(now.before(DAY)), |stored| {
        attempts += 1;
        if let SummaryResult::Failed(stage, kind, blame) = &stored.value.result {
            let cause = format!("{stage} {kind} ({blame})");
            *causes.entry(cause).or_default() += 1;
            charged += u64::from(stored.value.verdict == Verdict::Charged);
        }
        ControlFlow::<()>::Continue(())
    })?;
    let mut causes: Vec<_> = causes.into_iter().collect();
    causes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let shown = causes.iter().take(3);
    let shown: Vec<String> = shown
        .map(|(cause, count)| format!("{count} {cause}"))
        .collect();
    let mut text =
        format!("relays are charged with {charged} of {attempts} attempts of the last day");
    if !shown.is_empty() {
        text.push_str(&format!("; what failed most often: {}", shown.join(", ")));
    }
    Ok(if attempts >= 20 && charged * 2 > attempts {
        Finding::warning("failures", text).advise("run \"bwscan doctor\"")
    } else {
        Finding::fine("failures", text)
    })
}

/// The clock, against the newest consensus.
fn clock(network: Option<&NetworkSnapshot>, now: UnixMillis) -> Option<Finding> {
    let network = network?;
    if network.valid_after.is_ahead_of(now) {
        let ahead = span(network.valid_after.since(now));
        let text = format!("the newest consensus is {ahead} ahead of this machine's clock");
        let advice = "set the clock: authorities refuse files of the wrong time";
        return Some(Finding::problem("clock", text).advise(advice));
    }
    (now > network.valid_until).then(|| {
        let text = format!(
            "the newest consensus was valid until {}",
            ago(now.since(network.valid_until))
        );
        Finding::warning("consensus", text).advise("run \"bwscan doctor\"")
    })
}

/// The size to which the store comes at the pace of the last day, if what is older than
/// `kept` says goes; `None` if too little was measured to tell.
fn forecast(
    store: &Store,
    path: &Path,
    kept: &PruneArgs,
    now: UnixMillis,
) -> anyhow::Result<Option<u64>> {
    const ENOUGH: u64 = 100;
    let all = store.would_prune(&Prune::new(now, now))?;
    let yesterday = now.before(DAY);
    let older = store.would_prune(&Prune::new(yesterday, yesterday))?;
    if all.attempts < ENOUGH || all.raw == 0 {
        return Ok(None);
    }
    let days = |time: Duration| time.as_secs_f64() / DAY.as_secs_f64();
    let raw = all.raw_bytes as f64 / all.raw as f64;
    let rest = store_size(path)?.saturating_sub(all.raw_bytes) as f64 / all.attempts as f64;
    let a_day = all.attempts.saturating_sub(older.attempts) as f64;
    let bytes = a_day * (raw * days(kept.raw) + rest * days(kept.records));
    Ok(Some(bytes as u64))
}

fn disk(store: &Path, directory: &Path, grown: Option<u64>) -> Finding {
    let used = store_size(store).unwrap_or(0);
    let grown = grown.filter(|&grown| grown > used);
    let comes = grown.map_or(String::new(), |grown| {
        format!(" and comes to {} at this pace", size(grown))
    });
    let Some(free) = free_space(directory) else {
        return Finding::fine("disk", format!("the store has {}{comes}", size(used)));
    };
    let text = format!(
        "the store has {}{comes}; {} are free",
        size(used),
        size(free)
    );
    let advice = "free some, or keep less: \"bwscan prune\"";
    if free < FREE {
        Finding::problem("disk", text).advise(advice)
    } else if grown.is_some_and(|grown| grown - used > free) {
        Finding::warning("disk", text).advise(advice)
    } else {
        Finding::fine("disk", text)
    }
}

/// `12 min ago`.
fn ago(time: Duration) -> String {
    format!("{} ago", span(time))
}

/// `35 s`, `12 min`, `3 h` or `5 d`.
fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}
