//! From stores to weights: what `generate` publishes and `explain` explains.

mod args;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use bw_aggregate::{
    AggregateOptions, Aggregates, Aggregator, Answer, Method, PreviousFile, Reason, ScaleOptions,
    Scaled, ScannerStatistics, Scanners, TorflowParams, scale,
};
use bw_file::{Fingerprint, KilobytesPerSecond};
use bw_results::{CLOCK_TOLERANCE, NetworkSnapshot, OutcomeSummary, UnixMillis};
use bw_store::{Filter, Stores};

use crate::args::StoreArgs;
use crate::exit::{FactsError, UsageError};
use crate::text::{utc, warn};

pub(crate) use self::args::{Scale, ScalingArgs};

/// Everything on the way from outcomes to weights.
pub(super) struct Scaling {
    pub(super) now: UnixMillis,
    /// Outcomes from then on were looked at.
    since: UnixMillis,
    /// Up to when records count: now, with what clocks may differ by.
    until: UnixMillis,
    /// True if nothing after that was looked at: the time is not that of the clock.
    as_of: bool,
    /// Outcomes that are dated ahead of the clock.
    pub(super) ahead: Ahead,
    pub(super) stores: Stores,
    pub(super) network: NetworkSnapshot,
    pub(super) options: AggregateOptions,
    pub(super) aggregates: Aggregates,
    pub(super) scaled: Scaled,
    pub(super) scanners: Vec<ScannerStatistics>,
    pub(super) previous: Option<PreviousFile>,
}

/// Opens the stores that were asked for, or the one at `default`.
pub(super) fn open_stores(args: &StoreArgs, default: &Path) -> anyhow::Result<Stores> {
    let default = [default.to_owned()];
    let paths = if args.stores.is_empty() {
        &default[..]
    } else {
        &args.stores
    };
    Ok(Stores::open_read_only(paths)?)
}

/// The time as of which to work.
pub(super) fn now(args: &ScalingArgs) -> UnixMillis {
    args.now.unwrap_or_else(|| SystemTime::now().into())
}

/// Up to when records count: exactly until `--now`, or an hour past what the
/// clock says, as clocks differ.
fn until(args: &ScalingArgs) -> UnixMillis {
    args.now.unwrap_or_else(|| now(args).after(CLOCK_TOLERANCE))
}

/// Outcomes that are dated ahead of the clock: how many, and one of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Ahead {
    pub(super) outcomes: u64,
    last: Option<(UnixMillis, Fingerprint, String)>,
}

impl Ahead {
    pub(super) fn note(&mut self, scanner: &str, outcome: &OutcomeSummary) {
        self.outcomes += 1;
        if self.last.as_ref().is_none_or(|last| outcome.ended > last.0) {
            self.last = Some((outcome.ended, outcome.fingerprint, scanner.to_owned()));
        }
    }

    /// Says so, if there are any.
    pub(super) fn warn(&self) {
        if let Some((ended, relay, scanner)) = &self.last {
            warn(&format!(
                "{} outcomes are dated ahead of this machine's clock and left out, the last of \
                 relay {relay} by scanner {scanner:?} at {} UTC: check both clocks",
                self.outcomes,
                utc(*ended)
            ));
        }
    }
}

/// Gives the outcomes that `filter` chooses to `aggregator`, and to `scanners` those that
/// ended by `until`; returns the others.
pub(super) fn collect(
    stores: &Stores,
    filter: &Filter,
    until: UnixMillis,
    aggregator: &mut Aggregator<'_>,
    scanners: &mut Scanners,
) -> anyhow::Result<Ahead> {
    let mut ahead = Ahead::default();
    let _ = stores.for_each_summary(filter, |stored| {
        if stored.value.ended > until {
            ahead.note(stored.scanner, &stored.value);
        } else {
            scanners.add(stored.scanner, &stored.value);
        }
        aggregator.add(stored.value);
        ControlFlow::<()>::Continue(())
    })?;
    Ok(ahead)
}

/// Warns of a scanner whose rates are unlike those of the others.
pub(super) fn warn_of_disagreement(scanner: &ScannerStatistics) {
    if let Some(comparison) = scanner.comparison
        && comparison.disagrees
    {
        warn(&format!(
            "scanner {:?} disagrees with the others: its rates are {:.2} times theirs, over {} relays",
            scanner.scanner, comparison.factor, comparison.relays
        ));
    }
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
        let (now, until) = (now(args), until(args));
        let since = now.before(Duration::from_secs(u64::from(args.days) * 24 * 3600));
        let network = match fresh {
            Some(network) => network,
            None => network(args, &stores, now, until)?,
        };
        if args.method() == Scale::TorflowPid {
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
            let estimates = previous.relays.iter();
            options.capacity.previous = estimates
                .filter_map(|(fingerprint, relay)| Some((*fingerprint, relay.capacity?)))
                .collect();
        }

        let aggregate_options = aggregate_options(args, now, until);
        let mut aggregator = Aggregator::new(aggregate_options.clone(), &network);
        let mut scanners = Scanners::default();
        let as_of = args.now.is_some();
        let filter = outcomes_of(since, until, as_of);
        let ahead = collect(&stores, &filter, until, &mut aggregator, &mut scanners)?;
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
            until,
            as_of,
            ahead,
            stores,
            network,
            options: aggregate_options,
            aggregates,
            scaled,
            scanners: scanners.finish(),
            previous,
        })
    }

    /// The outcomes that were looked at.
    pub(super) fn filter(&self) -> Filter {
        outcomes_of(self.since, self.until, self.as_of)
    }

    /// Returns whether a moment is of the days that are looked at.
    pub(super) fn is_recent(&self, time: UnixMillis) -> bool {
        (self.since..=self.until).contains(&time)
    }

    /// The number of consensuses in the stores, of the days that count.
    pub(super) fn recent_consensuses(&self) -> anyhow::Result<u64> {
        let mut times = BTreeSet::new();
        for store in &self.stores {
            for snapshot in store.snapshots()? {
                let time = snapshot.valid_after;
                times.extend((self.since..=self.until).contains(&time).then_some(time));
            }
        }
        Ok(times.len() as u64)
    }

    /// When the newest scan of the stores began.
    pub(super) fn newest_scan(&self) -> anyhow::Result<Option<UnixMillis>> {
        let mut newest = None;
        for store in &self.stores {
            let scans = store.scans()?;
            let times = scans.iter().map(|summary| summary.scan.started);
            newest = newest.max(times.filter(|&started| started <= self.until).max());
        }
        Ok(newest)
    }
}

fn outcomes_of(since: UnixMillis, until: UnixMillis, as_of: bool) -> Filter {
    let filter = Filter::all().since(since);
    if as_of {
        filter.until(until.after(Duration::from_millis(1)))
    } else {
        filter
    }
}

fn aggregate_options(args: &ScalingArgs, now: UnixMillis, until: UnixMillis) -> AggregateOptions {
    let mut options = AggregateOptions::default();
    options.until = Some(until);
    options.since = args.recent.map(|recent| now.before(recent));
    options.min_separation = args.apart;
    options.min_measurements = args.min_measurements;
    options
}

fn scale_options(args: &ScalingArgs) -> anyhow::Result<ScaleOptions> {
    options_fit(args, args.method())?;
    let mut options = ScaleOptions::new(Method::from(args.method()));
    options.max_share = args.max_share;
    options.digits = args.round_digits.unwrap_or(options.digits);
    options.min_share = args.min_share;
    options.constant = args.scale_constant.unwrap_or(options.constant);
    options.bound = args.bound.or(options.bound);
    options.capacity.smoothing = args.smoothing.unwrap_or(options.capacity.smoothing);
    options.capacity.normalisation = args.normalise.unwrap_or_default();
    options.quota = args.quota.map_or(options.quota, KilobytesPerSecond::new);
    Ok(options)
}

/// That what was given has an effect, and can have one.
pub(super) fn options_fit(args: &ScalingArgs, scale: Scale) -> Result<(), UsageError> {
    if args.bound.is_some_and(|share| share > 0.9) {
        return Err(UsageError("--bound must be at most 90%".to_owned()));
    }
    let capped = &[Scale::Torflow, Scale::TorflowPid, Scale::Capacity][..];
    let capacity = &[Scale::Capacity][..];
    for (option, given, methods) in [
        ("--max-share", args.max_share.is_some(), capped),
        ("--bound", args.bound.is_some(), capped),
        ("--smoothing", args.smoothing.is_some(), capacity),
        ("--normalise", args.normalise.is_some(), capacity),
        (
            "--round-digits",
            args.round_digits.is_some(),
            &[
                Scale::Torflow,
                Scale::TorflowPid,
                Scale::Linear,
                Scale::Capacity,
            ],
        ),
        (
            "--scale-constant",
            args.scale_constant.is_some(),
            &[Scale::Sbws],
        ),
        ("--quota", args.quota.is_some(), &[Scale::Linear]),
        ("--param", !args.params.is_empty(), &[Scale::TorflowPid]),
    ] {
        if given && !methods.contains(&scale) {
            let names: Vec<_> = methods.iter().map(|scale| Method::from(*scale)).collect();
            let names: Vec<_> = names
                .iter()
                .map(|method| method.as_str().replace('_', "-"))
                .collect();
            let names = names.join(" or ");
            return Err(UsageError(format!(
                "{option} has an effect with --scale {names} only; leave it out"
            )));
        }
    }
    Ok(())
}

/// The network's facts: from files, or the newest snapshot of all stores.
fn network(
    args: &ScalingArgs,
    stores: &Stores,
    now: UnixMillis,
    until: UnixMillis,
) -> anyhow::Result<NetworkSnapshot> {
    let way_out = "scan, or generate with --refresh, which fetches a new one; or give \
        --consensus and --descriptors with the files that a tor has cached";
    let network = match &args.consensus {
        Some(consensus) => NetworkSnapshot::read_files(consensus, &args.descriptors)?,
        None => match stores.latest_snapshot_by(until)? {
            Some(network) => network,
            None => match stores.latest_snapshot_by(UnixMillis::new(u64::MAX))? {
                Some(later) => return Err(future_consensus(later.valid_after, now).into()),
                None => {
                    let text = format!("there is no consensus in the store: {way_out}");
                    return Err(FactsError(text).into());
                }
            },
        },
    };
    if network.valid_after > until {
        return Err(future_consensus(network.valid_after, now).into());
    }
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

fn future_consensus(valid_after: UnixMillis, now: UnixMillis) -> FactsError {
    FactsError(format!(
        "the consensus is of the future: it is valid from {} UTC, and now it is {} UTC; set this \
         machine's clock, or give the time as of which to work (--now)",
        utc(valid_after),
        utc(now)
    ))
}

/// The file in use: the one that was asked for, or the latest if there is one.
fn previous(args: &ScalingArgs, latest: &Path) -> anyhow::Result<Option<PreviousFile>> {
    let path = args.previous.as_deref().unwrap_or(latest);
    let file = match std::fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound && args.previous.is_none() => {
            return Ok(None);
        }
        read => read.with_context(|| format!("{}: cannot be read", path.display()))?,
    };
    let previous = PreviousFile::parse(&file);
    let Some(damage) = previous.damage() else {
        return Ok(Some(previous));
    };
    if !previous.relays.is_empty() {
        let text = "the new file is compared with what is left of it";
        warn(&format!("{}: {damage}; {text}", path.display()));
        return Ok(Some(previous));
    }
    if args.previous.is_some() {
        return Err(UsageError(format!("--previous {}: {damage}", path.display())).into());
    }
    let text = "the new file cannot be compared with the one in use";
    warn(&format!("{}: {damage}; {text}", path.display()));
    Ok(None)
}
