//! `bwscan generate`: the bandwidth file.

mod args;

use std::path::{Path, PathBuf};

use anyhow::Context;
use bw_aggregate::{Answer, FileFacts, Sanity, SanityLimits, Scaled, ScannerStatistics};
use bw_measure::Directory;
use bw_results::NetworkSnapshot;
use bw_store::Store;
use serde_json::json;

use super::compat;
use super::publication::{LATEST, Refusal, directory, make_directory, not_written};
use super::scaling::{Scaling, ScalingArgs, warn_of_disagreement};
use super::scan::{Settings, bootstrap};
use crate::exit::{Exit, UsageError};
use crate::paths::DataDir;
use crate::progress::{Progress, Style};
use crate::text::{format_utc, print, print_json, warn};

pub(crate) use self::args::{GenerateArgs, SanityArgs};

/// The file that was written.
pub(super) struct Generated {
    pub(super) path: PathBuf,
    pub(super) latest: PathBuf,
    pub(super) scaled: Scaled,
    sanity: Option<Sanity>,
    scanners: Vec<ScannerStatistics>,
}

/// The result of making a file.
pub(super) enum Made {
    /// It was published.
    Written(Box<Generated>),
    /// It is not fit: the old one stays.
    Refused(Sanity, Vec<ScannerStatistics>),
}

/// Writes the dated file and lets `latest.v3bw` point to it, unless something
/// is wrong with it.
pub(super) async fn run(args: &GenerateArgs, data: &DataDir) -> anyhow::Result<Exit> {
    if let Some(whose) = args.compat {
        let output = output(args, data);
        let fresh = refresh(args, data).await?;
        return compat::run(whose.0, args, data, &output, fresh);
    }
    let made = make(args, data).await?;
    match &made {
        Made::Written(written) => {
            report(args, written)?;
            Ok(if written.scaled.network.under_minimum {
                Exit::NotGoodEnough
            } else {
                Exit::Success
            })
        }
        Made::Refused(sanity, scanners) => {
            warn("not published: the old file stays; look into it, or give --force");
            if args.json {
                print_json(&json!({ "path": null, "sanity": sanity, "scanners": scanners }))?;
            }
            Ok(Exit::NotPublished)
        }
    }
}

/// Makes the file, and publishes it if it is fit or forced.
pub(super) async fn make(args: &GenerateArgs, data: &DataDir) -> anyhow::Result<Made> {
    let output = output(args, data);
    let facts = facts(args);
    let limits = limits(&args.sanity)?;
    let fresh = refresh(args, data).await?;
    let latest = output.join(LATEST);
    let scaling = Scaling::new(&data.store(), &args.scaling, &latest, fresh)?;
    scaling.ahead.warn();
    let previous = scaling.previous.as_ref();
    let sanity = scaling.scaled.sanity(previous, scaling.now, &limits);
    for problem in &sanity.problems {
        warn(&format!("the new file is not plausible: {problem}"));
    }
    for scanner in &scaling.scanners {
        warn_of_disagreement(scanner);
    }
    let scanners = scaling.scanners.clone();
    if !sanity.is_fit() && !args.sanity.force {
        let problems = sanity.problems.iter().map(ToString::to_string);
        let problems: Vec<String> = problems.collect();
        Refusal::new(scaling.now, problems.join("; ")).keep(&output);
        return Ok(Made::Refused(sanity, scanners));
    }
    let mut written = publish(scaling, facts, &output)?;
    (written.sanity, written.scanners) = (Some(sanity), scanners);
    Ok(Made::Written(Box::new(written)))
}

/// Where the files go.
pub(super) fn output(args: &GenerateArgs, data: &DataDir) -> PathBuf {
    directory(args.output.as_deref(), data)
}

/// With `--refresh`, the network as its directory shows it now. It is kept in
/// the store of the data directory, if there is one.
async fn refresh(args: &GenerateArgs, data: &DataDir) -> anyhow::Result<Option<NetworkSnapshot>> {
    if !args.refresh {
        return Ok(None);
    }
    let mut settings = Settings::with_defaults(data.clone(), Vec::new())?;
    settings.tor_config.clone_from(&args.tor.tor_config);
    settings.bootstrap_timeout = args.tor.bootstrap_timeout;
    let client = bootstrap(&settings, &Progress::new(Style::Quiet)).await?;
    let network = client.directory()?.snapshot().await?;
    if data.store().exists() {
        Store::open(data.store())?.put_snapshot(&network)?;
    }
    Ok(Some(NetworkSnapshot::clone(&network)))
}

fn limits(args: &SanityArgs) -> anyhow::Result<SanityLimits> {
    for (option, value) in [
        ("--max-total-change", args.max_total_change),
        ("--max-consensus-factor", args.max_consensus_factor),
        ("--relay-change", args.relay_change),
    ] {
        if value.is_nan() || value < 1.0 {
            return Err(UsageError(format!("{option} must be 1 or more")).into());
        }
    }
    let mut limits = SanityLimits::default();
    limits.min_weight_share = args.min_weight_share;
    limits.max_total_change = args.max_total_change;
    limits.max_total_against_consensus = args.max_consensus_factor;
    limits.relay_change = args.relay_change;
    limits.max_changed_share = args.max_changed_share;
    limits.max_age = args.max_age;
    Ok(limits)
}

/// The facts of the file as a whole, from the options.
fn facts(args: &GenerateArgs) -> FileFacts {
    let mut facts = own_facts();
    facts.dirauth_nickname.clone_from(&args.dirauth_nickname);
    facts.scanner_country = args.scanner_country;
    facts
        .destinations_countries
        .clone_from(&args.destinations_countries);
    facts
}

/// The facts of a file about which the options say nothing.
pub(super) fn own_facts() -> FileFacts {
    FileFacts::new("bwscan", env!("CARGO_PKG_VERSION"))
}

/// Aggregates and scales what is in `store`, and publishes the file in
/// `output` whatever is wrong with it.
pub(super) fn write(
    store: &Path,
    args: &ScalingArgs,
    facts: FileFacts,
    output: &Path,
) -> anyhow::Result<Generated> {
    let scaling = Scaling::new(store, args, &output.join(LATEST), None)?;
    publish(scaling, facts, output)
}

fn publish(scaling: Scaling, mut facts: FileFacts, output: &Path) -> anyhow::Result<Generated> {
    facts.recent_consensus_count = Some(scaling.recent_consensuses()?);
    facts.file_created = Some(scaling.now);
    facts.generator_started = scaling.newest_scan()?;
    let file = scaling.scaled.to_bandwidth_file(&facts)?;
    make_directory(output)?;
    let name = format_utc(scaling.now, "%Y%m%d_%H%M%S.v3bw");
    let path = crate::publish::publish(&file.build()?, output, &name, LATEST)
        .with_context(|| not_written(output))?;
    Refusal::forget(output);
    Ok(Generated {
        path,
        latest: output.join(LATEST),
        scaled: scaling.scaled,
        sanity: None,
        scanners: Vec::new(),
    })
}

fn report(args: &GenerateArgs, written: &Generated) -> anyhow::Result<()> {
    let network = &written.scaled.network;
    let mut reasons = std::collections::BTreeMap::<&str, u64>::new();
    for relay in &written.scaled.relays {
        if let Answer::Excluded(reason) = &relay.answer {
            *reasons.entry(reason.as_str()).or_default() += 1;
        }
    }
    if args.json {
        return print_json(&json!({
            "path": written.path,
            "latest": written.latest,
            "scale": network.method.as_str(),
            "eligible": network.eligible,
            "consensus_relays": network.consensus_relays,
            "minimum": network.minimum,
            "under_minimum": network.under_minimum,
            "excluded": reasons,
            "sanity": written.sanity,
            "scanners": written.scanners,
        }));
    }
    print(format!("wrote {}", written.path.display()))?;
    print(format!(
        "{} of {} relays have a weight (at least {} must)",
        network.eligible, network.consensus_relays, network.minimum
    ))?;
    for (reason, count) in reasons {
        print(format!("without a weight: {count} ({reason})"))?;
    }
    if network.under_minimum {
        print("too few: the file asks authorities not to vote with it")?;
    }
    Ok(())
}
