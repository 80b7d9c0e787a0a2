//! `bwscan generate`: the bandwidth file.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use bw_aggregate::{AggregateOptions, Aggregator, Answer, FileFacts, ScaleOptions, Scaled, scale};
use bw_file::CountryCode;
use bw_results::{Filter, Store, UnixMillis};
use serde_json::json;

use crate::args::GenerateArgs;
use crate::exit::{Exit, UsageError};
use crate::paths::DataDir;
use crate::text::{format_utc, print, print_json};

/// The name under which the authority finds the newest file.
pub(super) const LATEST: &str = "latest.v3bw";

/// What was written.
pub(super) struct Generated {
    pub(super) path: PathBuf,
    pub(super) latest: PathBuf,
    pub(super) scaled: Scaled,
}

/// Writes the dated file and lets `latest.v3bw` point to it.
pub(super) fn run(args: &GenerateArgs, data: &DataDir) -> anyhow::Result<Exit> {
    let facts = facts(args)?;
    let output = args
        .output
        .clone()
        .unwrap_or_else(|| data.bandwidth_files());
    let written = write(&data.store(), args, facts, &output)?;
    report(args, &written)?;
    Ok(if written.scaled.network.under_minimum {
        Exit::NotGoodEnough
    } else {
        Exit::Success
    })
}

/// What the options say of the file as a whole.
pub(super) fn facts(args: &GenerateArgs) -> anyhow::Result<FileFacts> {
    let country = |text: &str| {
        CountryCode::parse(text.trim().as_bytes()).ok_or_else(|| {
            UsageError(format!(
                "country {text:?}: two upper-case letters expected (ZZ: unknown)"
            ))
        })
    };
    let mut facts = FileFacts::new("bwscan", env!("CARGO_PKG_VERSION"));
    facts.dirauth_nickname.clone_from(&args.dirauth_nickname);
    facts.scanner_country = args.scanner_country.as_deref().map(country).transpose()?;
    facts.destinations_countries = args
        .destinations_countries
        .iter()
        .flat_map(|list| list.split(','))
        .map(country)
        .collect::<Result<_, _>>()?;
    Ok(facts)
}

/// Aggregates and scales what is in `store`, and publishes the file in `output`.
pub(super) fn write(
    store: &Path,
    args: &GenerateArgs,
    mut facts: FileFacts,
    output: &Path,
) -> anyhow::Result<Generated> {
    if args.max_share.is_nan() || args.max_share <= 0.0 {
        return Err(UsageError("--max-share must be above 0".to_owned()).into());
    }
    let store = Store::open_read_only(store)?;
    let now = UnixMillis::from(SystemTime::now());
    let (_, network) = store.latest_snapshot()?.ok_or_else(|| {
        UsageError("the store has no network snapshot yet: scan first".to_owned())
    })?;
    let since = now.before(Duration::from_secs(u64::from(args.days) * 24 * 3600));

    let mut aggregator = Aggregator::new(AggregateOptions::default(), &network);
    let _ = store.for_each_summary(&Filter::all().since(since), |stored| {
        aggregator.add_once(stored.id, stored.value);
        ControlFlow::<()>::Continue(())
    })?;
    let mut options = ScaleOptions::default();
    options.max_share = args.max_share;
    options.digits = args.round_digits;
    options.min_share = f64::from(args.min_percent) / 100.0;
    let scaled = scale(&aggregator.finish(), &options);

    let snapshots = store.snapshots()?;
    let recent = snapshots
        .iter()
        .filter(|snapshot| snapshot.valid_after >= since)
        .count();
    facts.recent_consensus_count = u64::try_from(recent).ok();
    facts.file_created = Some(now);
    facts.generator_started = store
        .scans()?
        .iter()
        .map(|summary| summary.scan.started)
        .max();
    let file = scaled.to_bandwidth_file(&facts)?;
    std::fs::create_dir_all(output)
        .with_context(|| format!("{}: the directory cannot be made", output.display()))?;
    let name = format_utc(now, "%Y%m%d_%H%M%S.v3bw");
    let path = file.publish(output, &name, LATEST)?;
    Ok(Generated {
        path,
        latest: output.join(LATEST),
        scaled,
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
            "eligible": network.eligible,
            "consensus_relays": network.consensus_relays,
            "minimum": network.minimum,
            "under_minimum": network.under_minimum,
            "excluded": reasons,
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
