//! From stores to weights: what `generate` publishes and `explain` explains.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use bw_aggregate::{
    AggregateOptions, Aggregates, Aggregator, Answer, Method, PreviousFile, Reason, ScaleOptions,
    Scaled, ScannerStatistics, Scanners, TorflowParams, scale,
};
use bw_file::KilobytesPerSecond;
use bw_results::{Filter, NetworkSnapshot, Store, UnixMillis};

use crate::exit::{FactsError, UsageError};
use crate::result_args::{Scale, ScalingArgs, StoreArgs};
use crate::text::utc;

/// Everything on the way from outcomes to weights.
pub(super) struct Scaling {
    pub(super) now: UnixMillis,
    /// Outcomes from then on were looked at.
    pub(super) since: UnixMillis,
    pub(super) stores: Vec<Store>,
    pub(super) network: NetworkSnapshot,
    pub(super) options: AggregateOptions,
    pub(super) aggregates: Aggregates,
    pub(super) scaled: Scaled,
    pub(super) scanners: Vec<ScannerStatistics>,
    pub(super) previous: Option<PreviousFile>,
}

/// Opens the stores that were asked for, or the one at `default`.
pub(super) fn open_stores(args: &StoreArgs, default: &Path) -> anyhow::Result<Vec<Store>> {
    let default = [default.to_owned()];
    let paths = if args.stores.is_empty() {
        &default[..]
    } else {
        &args.stores
    };
    Ok(paths
        .iter()
        .map(Store::open_read_only)
        .collect::<Result<_, _>>()?)
}

/// The time as of which to work.
pub(super) fn now(args: &ScalingArgs) -> UnixMillis {
    args.now.unwrap_or_else(|| SystemTime::now().into())
}

impl Scaling {
    /// Aggregates and scales what is in the stores (by default in `store`);
    /// `latest` is the file in use, if there is one. The network's facts are
    /// `fresh` or else come from where the options say.
    pub(super) fn new(
        store: &Path,
        args: &ScalingArgs,
        latest: &Path,
        fresh: Option<NetworkSnapshot>,
    ) -> anyhow::Result<Self> {
        let mut options = scale_options(args)?;
        let stores = open_stores(&args.stores, store)?;
        let now = now(args);
        let since = now.before(Duration::from_secs(u64::from(args.days) * 24 * 3600));
        let network = match fresh {
            Some(network) => network,
            None => network(args, &stores, now)?,
        };
        if args.scale == Scale::TorflowPid {
            options.torflow = TorflowParams::from_consensus(&network.params);
            for param in &args.params {
                options
                    .torflow
                    .set(&param.name, param.value)
                    .map_err(|error| UsageError(format!("--param: {error}")))?;
            }
        }
        let previous = previous(args, latest)?;
        if let Some(previous) = &previous {
            let votes = previous.relays.iter();
            options.previous = votes
                .filter_map(|(fingerprint, relay)| Some((*fingerprint, relay.pid?)))
                .collect();
        }

        let aggregate_options = aggregate_options(args, now);
        let mut aggregator = Aggregator::new(aggregate_options.clone(), &network);
        let mut scanners = Scanners::default();
        let filter = Filter::all().since(since);
        let mut seen = HashSet::new();
        for store in &stores {
            let _ = store.for_each_summary(&filter, |stored| {
                // One store has each outcome once.
                if stores.len() == 1 || seen.insert(stored.id) {
                    scanners.add(stored.scanner, &stored.value);
                    aggregator.add(stored.value);
                }
                ControlFlow::<()>::Continue(())
            })?;
        }
        let aggregates = aggregator.finish();
        let scaled = scale(&aggregates, &options);
        let no_descriptors = scaled
            .relays
            .iter()
            .any(|relay| matches!(relay.answer, Answer::Excluded(Reason::NoDescriptor)));
        if scaled.network.eligible == 0 && no_descriptors {
            let text = "no server descriptor of any measured relay is known: scan, or give \
                --consensus and --descriptors with the files that a tor has cached";
            return Err(FactsError(text.to_owned()).into());
        }
        Ok(Self {
            now,
            since,
            stores,
            network,
            options: aggregate_options,
            aggregates,
            scaled,
            scanners: scanners.finish(),
            previous,
        })
    }

    /// How many consensuses of the time that is looked at the stores hold.
    pub(super) fn recent_consensuses(&self) -> anyhow::Result<u64> {
        let mut times = BTreeSet::new();
        for store in &self.stores {
            for snapshot in store.snapshots()? {
                times.extend((snapshot.valid_after >= self.since).then_some(snapshot.valid_after));
            }
        }
        Ok(times.len() as u64)
    }

    /// When the newest scan of the stores began.
    pub(super) fn newest_scan(&self) -> anyhow::Result<Option<UnixMillis>> {
        let mut newest = None;
        for store in &self.stores {
            let scans = store.scans()?;
            newest = newest.max(scans.iter().map(|summary| summary.scan.started).max());
        }
        Ok(newest)
    }
}

fn aggregate_options(args: &ScalingArgs, now: UnixMillis) -> AggregateOptions {
    let mut options = AggregateOptions::default();
    options.since = args.recent.map(|recent| now.before(recent));
    options.min_separation = args.apart;
    options.min_measurements = args.min_measurements;
    options
}

fn scale_options(args: &ScalingArgs) -> anyhow::Result<ScaleOptions> {
    if args.max_share.is_nan() || args.max_share <= 0.0 {
        return Err(UsageError("--max-share must be above 0".to_owned()).into());
    }
    let mut options = ScaleOptions::new(Method::from(args.scale));
    options.max_share = args.max_share;
    options.digits = args.round_digits.unwrap_or(options.digits);
    options.min_share = f64::from(args.min_percent) / 100.0;
    options.constant = args.scale_constant;
    options.quota = KilobytesPerSecond::new(args.quota);
    Ok(options)
}

/// The network's facts: from files, or the newest snapshot of all stores.
fn network(
    args: &ScalingArgs,
    stores: &[Store],
    now: UnixMillis,
) -> anyhow::Result<NetworkSnapshot> {
    let way_out = "scan, or generate with --refresh, which fetches a new one; or give \
        --consensus and --descriptors with the files that a tor has cached";
    let network = match &args.consensus {
        Some(consensus) => NetworkSnapshot::read_files(consensus, &args.descriptors)?,
        None => newest_snapshot(stores)?
            .ok_or_else(|| FactsError(format!("there is no consensus in the store: {way_out}")))?,
    };
    if now > network.valid_until.after(args.max_facts_age) {
        return Err(FactsError(format!(
            "the consensus is too old: it was valid until {} UTC, and is used up to {} longer \
             (--max-facts-age): {way_out}",
            utc(network.valid_until),
            humantime::format_duration(args.max_facts_age)
        ))
        .into());
    }
    Ok(network)
}

/// The newest consensus of all stores.
pub(super) fn newest_snapshot(stores: &[Store]) -> anyhow::Result<Option<NetworkSnapshot>> {
    let mut newest: Option<NetworkSnapshot> = None;
    for store in stores {
        if let Some((_, network)) = store.latest_snapshot()?
            && newest
                .as_ref()
                .is_none_or(|newest| network.valid_after > newest.valid_after)
        {
            newest = Some(network);
        }
    }
    Ok(newest)
}

/// The file in use: the one that was asked for, or the latest if there is one.
fn previous(args: &ScalingArgs, latest: &Path) -> anyhow::Result<Option<PreviousFile>> {
    let path: PathBuf = match &args.previous {
        Some(path) => path.clone(),
        None if latest.exists() => latest.to_owned(),
        None => return Ok(None),
    };
    let file =
        std::fs::read(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
    Ok(Some(PreviousFile::parse(&file)))
}
