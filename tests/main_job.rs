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
        "--prior", "0.4", "--liar", "1000", "--output",
    ];
    let arguments = arguments
        .into_iter()
        .map(Into::into)
        .chain([output.clone().into_os_string()]);
    let exit = Box::pin(bw_cli::run(arguments)).await.unwrap();
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
    Box::pin(assert_lie_is_worth_nothing(&output, relays)).await;
}

/// The first relay claims a thousand times what it carries. Its weight is what it has
/// proven, and with Torflow's formula it is what it claims.
async fn assert_lie_is_worth_nothing(output: &Path, relays: &[Value]) {
    let is_liar = |relay: &Value| relay["nickname"] == "relay01";
    // Over what was measured, and that of all others.
    let gain = |weight: &dyn Fn(&Value) -> f64| {
        let sum = |liar: bool, of: &dyn Fn(&Value) -> f64| {
            let chosen = relays.iter().filter(|one| is_liar(one) == liar);
            chosen.map(of).sum::<f64>()
        };
        let measured = |relay: &Value| relay["measured"].as_f64().unwrap();
        let of = |liar| sum(liar, weight) / sum(liar, &measured);
        of(true) / of(false)
    };
    let found = gain(&|relay| relay["weight_in_consensus"].as_f64().unwrap());
    assert!((0.7..1.34).contains(&found), "{found}");

    let torflow = output.join("torflow");
    let mut arguments = vec!["bwscan".into(), "generate".into(), "--force".into()];
    let options = ["--scale", "torflow", "--max-share", "100%", "--data-dir"];
    arguments.extend(options.map(std::ffi::OsString::from));
    arguments.extend([
        output.join("data").into(),
        "--output".into(),
        torflow.clone().into(),
    ]);
    let exit = Box::pin(bw_cli::run(arguments)).await.unwrap();
    assert_eq!(exit, Exit::Success);
    let file = std::fs::read(torflow.join("latest.v3bw")).unwrap();
    let file = Document::parse(&file);
    let found = gain(&|relay| {
        let fingerprint = relay["fingerprint"].as_str().unwrap().parse().ok();
        let line = file.relays().find(|line| line.fingerprint() == fingerprint);
        line.unwrap().bandwidth().unwrap().value() as f64
    });
    assert!(found > 10.0, "{found}");
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
