//! `bwscan aggregate`: the latest completed scans, relay by relay.

use std::collections::{BTreeMap, HashSet};
use std::time::SystemTime;

use bw_aggregate::{AggregateOptions, Aggregator, ScanRow, ScannerStatistics, Scanners, scan_rows};
use bw_results::{CLOCK_TOLERANCE, Scan, UnixMillis};
use bw_store::{Filter, Stores};
use clap::Args as ClapArgs;
use serde_json::json;

use super::scaling::{collect, open_stores, warn_of_disagreement};
use crate::args::{COMMON, Format, OUTPUT, StoreArgs};
use crate::exit::Exit;
use crate::paths::DataDir;
use crate::text::{kilobytes, print, print_csv, print_json, printable, table, utc, warn};

#[derive(Debug, ClapArgs)]
#[command(next_help_heading = COMMON)]
pub(crate) struct AggregateArgs {
    /// Combine this many of the latest completed scans of each partition.
    #[arg(short = 'n', short_alias = 'p', long = "scans", visible_alias = "previous",
          default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..),
          value_name = "N")]
    pub(crate) scans: u32,
    #[command(flatten)]
    pub(crate) stores: StoreArgs,
    /// Include scans of chosen relays (scan --relay, --relays, --only).
    #[arg(long)]
    pub(crate) partial: bool,
    /// Print in this format.
    #[arg(long, value_enum, default_value_t = Format::Table, help_heading = OUTPUT)]
    pub(crate) format: Format,
    /// Print JSON, the same as --format json.
    #[arg(long, conflicts_with = "format", help_heading = OUTPUT)]
    pub(crate) json: bool,
}

/// Prints one row per relay that was measured.
pub(super) fn run(args: &AggregateArgs, data: &DataDir) -> anyhow::Result<Exit> {
    let stores = open_stores(&args.stores, &data.store())?;
    let count = usize::try_from(args.scans).unwrap_or(usize::MAX);
    let scans = latest_scans(&stores, count, args.partial)?;
    let until = UnixMillis::from(SystemTime::now()).after(CLOCK_TOLERANCE);
    let Some(network) = stores
        .latest_snapshot_by(until)?
        .filter(|_| !scans.is_empty())
    else {
        let hint = if !args.partial && !latest_scans(&stores, 1, true)?.is_empty() {
            " of the network; --partial takes scans of chosen relays"
        } else {
            ""
        };
        warn(&format!("no completed scan yet{hint}"));
        return Ok(Exit::NotGoodEnough);
    };
    let partitions = scans.iter().map(part).collect::<HashSet<_>>().len();
    if scans.len() < count.saturating_mul(partitions) {
        warn(&format!(
            "only {} of {} completed scans are there",
            scans.len(),
            count.saturating_mul(partitions)
        ));
    }
    let mut options = AggregateOptions::default();
    options.until = Some(until);
    let mut aggregator = Aggregator::new(options, &network);
    let mut scanners = Scanners::default();
    let filter = Filter::all().scans(scans.iter().map(|scan| scan.id));
    collect(&stores, &filter, until, &mut aggregator, &mut scanners)?.warn();
    let rows = scan_rows(&aggregator.finish());
    let scanners = scanners.finish();
    for scanner in &scanners {
        warn_of_disagreement(scanner);
    }
    let format = if args.json { Format::Json } else { args.format };
    match format {
        Format::Json => print_json(&json!({
            "scans": scans.iter().map(scan_json).collect::<Vec<_>>(),
            "scanners": scanners,
            "relays": rows,
        }))?,
        Format::Csv => print_csv(&rows)?,
        Format::Table => {
            print_table(&scans, &rows)?;
            print_scanners(&scanners)?;
        }
    }
    if rows.is_empty() {
        warn("no relay of the newest consensus was measured in these scans");
        return Ok(Exit::NotGoodEnough);
    }
    Ok(Exit::Success)
}

/// A part of the network: which, of how many.
fn part(scan: &Scan) -> (u32, u32) {
    (scan.parameters.partition, scan.parameters.partitions)
}

/// The `count` completed scans of each part of the network that ended last,
/// newest first; the same scan in several stores once. Scans of chosen relays
/// are left out unless they are asked for.
fn latest_scans(stores: &Stores, count: usize, partial: bool) -> anyhow::Result<Vec<Scan>> {
    let mut scans = BTreeMap::new();
    for store in stores {
        let completed = store.latest_completed_scans(usize::MAX)?;
        let wanted = |scan: &Scan| partial || !scan.parameters.is_selection();
        for scan in completed.into_iter().filter(wanted) {
            scans.insert((scan.ended, scan.id), scan);
        }
    }
    let mut taken = BTreeMap::<_, usize>::new();
    let newest_first = scans.into_values().rev();
    Ok(newest_first
        .filter(|scan| {
            let taken = taken.entry(part(scan)).or_default();
            *taken += 1;
            *taken <= count
        })
        .collect())
}

/// Prints the contribution of each scanner, if there are several.
fn print_scanners(scanners: &[ScannerStatistics]) -> anyhow::Result<()> {
    if scanners.len() < 2 {
        return Ok(());
    }
    let mut table = table([
        "scanner",
        "relays",
        "measured",
        "failed",
        "last (UTC)",
        "factor",
    ]);
    for scanner in scanners {
        table.add_row([
            printable(&scanner.scanner),
            scanner.relays.to_string(),
            scanner.measured.to_string(),
            scanner.failed.to_string(),
            scanner.last.map_or_else(String::new, utc),
            scanner
                .comparison
                .map_or("-".to_owned(), |one| format!("{:.2}", one.factor)),
        ]);
    }
    print(table)
}

fn scan_json(scan: &Scan) -> serde_json::Value {
    json!({
        "id": scan.id,
        "scanner": scan.scanner,
        "started": scan.started,
        "ended": scan.ended,
        "partition": scan.parameters.partition,
        "partitions": scan.parameters.partitions,
        "selection": scan.parameters.is_selection(),
    })
}

fn print_table(scans: &[Scan], rows: &[ScanRow]) -> anyhow::Result<()> {
    let head = [
        "fingerprint",
        "nickname",
        "mean kB/s",
        "filtered",
        "n",
        "failed",
        "circ. fail",
        "rate kB/s",
        "weight",
    ];
    let mut table = table(head);
    for row in rows {
        table.add_row([
            row.fingerprint.to_string(),
            row.nickname.clone(),
            kilobytes(row.mean.value() as f64),
            kilobytes(row.filtered.value() as f64),
            row.measurements.to_string(),
            row.failures.to_string(),
            format!("{:.2}", row.circuit_failure_rate),
            row.descriptor_bandwidth
                .map_or("-".to_owned(), |rate| kilobytes(rate.value() as f64)),
            row.consensus_bandwidth
                .map_or("-".to_owned(), |weight| weight.value().to_string()),
        ]);
    }
    print(table)?;
    let times: Vec<String> = scans.iter().map(|scan| utc(scan.started)).collect();
    print(format!(
        "{} relays in {} completed scans, begun {} UTC",
        rows.len(),
        scans.len(),
        times.join(", ")
    ))
}
