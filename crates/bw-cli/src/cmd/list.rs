//! `bwscan list`: the scans in the store.

use std::collections::BTreeMap;

use bw_results::ScanParameters;
use bw_store::{Day, ScanSummary};
use clap::Args as ClapArgs;
use serde_json::json;

use super::scaling::open_stores;
use crate::args::{OUTPUT, StoreArgs};
use crate::exit::Exit;
use crate::paths::DataDir;
use crate::text::{format_utc, print, print_json, printable, size, table, utc};

#[derive(Debug, ClapArgs)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) stores: StoreArgs,
    /// List days instead of scans, those among them whose records were removed.
    #[arg(long)]
    pub(crate) daily: bool,
    /// Print JSON.
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) json: bool,
}

/// Lists the scans, the newest first.
pub(super) fn run(args: &ListArgs, data: &DataDir) -> anyhow::Result<Exit> {
    if args.daily {
        return days(args, data);
    }
    // A scan that is in several stores is shown for the one that knows most of it.
    let mut known = BTreeMap::<_, ScanSummary>::new();
    for store in &open_stores(&args.stores, &data.store())? {
        for summary in store.scans()? {
            let seen = known
                .entry(summary.scan.id)
                .or_insert_with(|| summary.clone());
            if summary.outcomes > seen.outcomes {
                *seen = summary;
            }
        }
    }
    let mut scans: Vec<ScanSummary> = known.into_values().collect();
    scans.sort_by_key(|summary| std::cmp::Reverse(summary.scan.started));
    if args.json {
        let rows: Vec<_> = scans.iter().map(row_json).collect();
        print_json(&rows)?;
        return Ok(Exit::Success);
    }
    if scans.is_empty() {
        print("no scans yet")?;
        return Ok(Exit::Success);
    }
    let head = [
        "scan",
        "scanner",
        "part",
        "started (UTC)",
        "state",
        "measured",
        "failed",
        "left",
        "lower bounds",
        "again",
        "data",
    ];
    let mut table = table(head);
    for summary in &scans {
        let parameters = &summary.scan.parameters;
        table.add_row([
            // Enough of it to tell scans apart at sight.
            summary.scan.id.to_string().chars().take(8).collect(),
            printable(&summary.scan.scanner),
            part(parameters),
            utc(summary.scan.started),
            state(summary).to_owned(),
            summary.measured.to_string(),
            summary.failed.to_string(),
            summary.pending.to_string(),
            summary.verdicts.lower_bound.to_string(),
            summary.verdicts.remeasure.to_string(),
            size(summary.bytes),
        ]);
    }
    print(table)?;
    Ok(Exit::Success)
}

/// The part of the network that a scan covers.
fn part(parameters: &ScanParameters) -> String {
    match parameters.relays.len() {
        0 if parameters.is_selection() => "some".to_owned(),
        0 => format!("{}/{}", parameters.partition, parameters.partitions),
        1 => "1 relay".to_owned(),
        relays => format!("{relays} relays"),
    }
}

fn state(summary: &ScanSummary) -> &'static str {
    if summary.scan.is_completed() {
        "completed"
    } else if summary.abandoned.is_some() {
        "abandoned"
    } else {
        "unfinished"
    }
}

/// Lists what was done each day, the newest first.
fn days(args: &ListArgs, data: &DataDir) -> anyhow::Result<Exit> {
    let mut days = Vec::new();
    for store in &open_stores(&args.stores, &data.store())? {
        days.extend(store.days()?);
    }
    days.sort_by_key(|day| std::cmp::Reverse(day.begin));
    let date = |day: &Day| format_utc(day.begin, "%Y-%m-%d");
    if args.json {
        let rows = days.iter().map(|day| {
            json!({
                "day": date(day),
                "attempts": day.attempts,
                "accepted": day.accepted,
                "charged": day.charged,
                "relays": day.relays,
                "bytes": day.bytes,
            })
        });
        print_json(&rows.collect::<Vec<_>>())?;
        return Ok(Exit::Success);
    }
    let mut table = table([
        "day (UTC)",
        "attempts",
        "accepted",
        "charged",
        "relays",
        "payload",
    ]);
    for day in &days {
        table.add_row([
            date(day),
            day.attempts.to_string(),
            day.accepted.to_string(),
            day.charged.to_string(),
            day.relays.to_string(),
            size(day.bytes),
        ]);
    }
    print(table)?;
    Ok(Exit::Success)
}

fn row_json(summary: &ScanSummary) -> serde_json::Value {
    json!({
        "id": summary.scan.id,
        "scanner": summary.scan.scanner,
        "state": state(summary),
        "started": summary.scan.started,
        "ended": summary.scan.ended,
        "partition": summary.scan.parameters.partition,
        "partitions": summary.scan.parameters.partitions,
        "selection": summary.scan.parameters.is_selection(),
        "destinations": summary.scan.parameters.destinations,
        "targets": summary.targets,
        "measured": summary.measured,
        "failed": summary.failed,
        "pending": summary.pending,
        "outcomes": summary.outcomes,
        "verdicts": summary.verdicts,
        "bytes": summary.bytes,
    })
}
