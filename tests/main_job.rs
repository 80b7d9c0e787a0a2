//! The main job on a network of its own: a scan of real tor relays, the
//! bandwidth file, and three real authorities that vote with it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use bw_cli::Exit;
use bw_file::Document;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn authorities_vote_with_what_we_measured() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("demo");
    // Other relays than those of the demo, over HTTPS, with weights that are
    // wrong at first.
    let arguments = [
        "bwscan", "demo", "--json", "--https", "--seed", "77", "--relays", "5", "--exits", "3",
        "--prior", "0.4", "--output",
    ];
    let arguments = arguments
        .into_iter()
        .map(Into::into)
        .chain([output.clone().into_os_string()]);
    let exit = bw_cli::run(arguments).await.unwrap();
    let report: Value =
        serde_json::from_slice(&std::fs::read(output.join("report.json")).unwrap()).unwrap();
    assert_eq!(exit, Exit::Success, "{report:#}");

    // The demo checks digest, headers and Measured= in each vote.
    let checks = report["checks"].as_array().unwrap();
    assert_eq!(checks.len(), 2 * 3 + 3);
    assert!(
        checks.iter().all(|check| check["passed"] == true),
        "{report:#}"
    );

    let latest = std::fs::read(output.join("v3bw/latest.v3bw")).unwrap();
    let file = Document::parse(&latest);
    assert_eq!(file.header(b"software"), Some(&b"bwscan"[..]));
    let relays = report["relays"].as_array().unwrap();
    assert_eq!(relays.len(), 8);
    for relay in relays {
        let fingerprint = relay["fingerprint"].as_str().unwrap().parse().unwrap();
        let line = file
            .relays()
            .find(|line| line.fingerprint() == Some(fingerprint))
            .unwrap();
        let weight = line.bandwidth().unwrap().value();
        assert!(line.is_voted());
        assert_eq!(relay["weight_in_file"], weight);
        assert_eq!(relay["weight_in_consensus"], weight);
        assert_eq!(relay["unmeasured_in_consensus"], false);
        // tor's own overhead leaves some 0.8 of the configured rate; a busy
        // machine may leave less, but nothing may give more for long.
        let ratio = relay["measured"].as_f64().unwrap() / relay["true_rate"].as_f64().unwrap();
        assert!((0.1..1.3).contains(&ratio), "{relay:#}");
    }
    assert_scan_is_complete(&output);
}

/// The store says the same: one completed scan, every relay measured.
fn assert_scan_is_complete(output: &Path) {
    let store = bw_store::Store::open_read_only(output.join("data/results.sqlite")).unwrap();
    let scans = store.scans().unwrap();
    assert_eq!(scans.len(), 1);
    assert!(scans[0].scan.is_completed());
    assert_eq!(
        (scans[0].measured, scans[0].failed, scans[0].pending),
        (8, 0, 0)
    );
}
