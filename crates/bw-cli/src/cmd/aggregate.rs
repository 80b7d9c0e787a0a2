//! `bwscan aggregate`: the latest completed scans, relay by relay.

use std::ops::ControlFlow;

use bw_aggregate::{AggregateOptions, Aggregator, ScanRow, scan_rows};
use bw_results::{Filter, Scan, Store};
use serde_json::json;

use crate::args::{AggregateArgs, Format};
use crate::exit::Exit;
use crate::paths::DataDir;
use crate::text::{kilobytes, print, print_json, table, utc};

/// Prints one row per relay that was measured.
pub(super) fn run(args: &AggregateArgs, data: &DataDir) -> anyhow::Result<Exit> {
    let store = Store::open_read_only(data.store())?;
    let count = usize::try_from(args.scans).unwrap_or(usize::MAX);
    let scans = store.latest_completed_scans(count)?;
    let Some((_, network)) = store.latest_snapshot()?.filter(|_| !scans.is_empty()) else {
        eprint("no completed scan yet");
        return Ok(Exit::NotGoodEnough);
    };
    if scans.len() < count {
        eprint(&format!(
            "only {} of {count} completed scans are there",
            scans.len()
        ));
    }
    let mut aggregator = Aggregator::new(AggregateOptions::default(), &network);
    let filter = Filter::all().scans(scans.iter().map(|scan| scan.id));
    let _ = store.for_each_summary(&filter, |stored| {
        aggregator.add_once(stored.id, stored.value);
        ControlFlow::<()>::Continue(())
    })?;
    let rows = scan_rows(&aggregator.finish());
    let format = if args.json { Format::Json } else { args.format };
    match format {
        Format::Json => print_json(&json!({
            "scans": scans.iter().map(scan_json).collect::<Vec<_>>(),
            "relays": rows.iter().map(row_json).collect::<Vec<_>>(),
        }))?,
        Format::Csv => print_csv(&rows)?,
        Format::Table => print_table(&scans, &rows)?,
    }
    Ok(Exit::Success)
}

fn eprint(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "bwscan: {text}");
}

fn scan_json(scan: &Scan) -> serde_json::Value {
    json!({ "id": scan.id, "scanner": scan.scanner, "started": scan.started, "ended": scan.ended })
}

fn row_json(row: &ScanRow) -> serde_json::Value {
    json!({
        "fingerprint": row.fingerprint,
        "nickname": row.nickname,
        "mean": row.mean,
        "filtered": row.filtered,
        "measurements": row.measurements,
        "failures": row.failures,
        "circuit_failure_rate": row.circuit_failure_rate,
        "descriptor_bandwidth": row.descriptor_bandwidth,
        "consensus_bandwidth": row.consensus_bandwidth,
    })
}

/// RFC 4180; no value needs quotes: nicknames are letters and digits.
fn print_csv(rows: &[ScanRow]) -> anyhow::Result<()> {
    print(
        "fingerprint,nickname,mean,filtered,measurements,failures,circuit_failure_rate,\
         descriptor_bandwidth,consensus_bandwidth",
    )?;
    for row in rows {
        print(format!(
            "{},{},{},{},{},{},{},{},{}",
            row.fingerprint,
            row.nickname,
            row.mean.value(),
            row.filtered.value(),
            row.measurements,
            row.failures,
            row.circuit_failure_rate,
            row.descriptor_bandwidth
                .map_or(String::new(), |rate| rate.value().to_string()),
            row.consensus_bandwidth
                .map_or(String::new(), |rate| rate.value().to_string()),
        ))?;
    }
    Ok(())
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
