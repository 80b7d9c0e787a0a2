//! The binary on a private network of real tor processes: scans that are
//! interrupted, partitions, destinations and relays that do not work.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bench;

use std::process::Output;
use std::time::{Duration, Instant};

use bw_file::BytesPerSecond;
use bw_store::Store;
use bw_testnet::{Network, Plan, RelaySpec};
use rustix::process::Signal;
use serde_json::{Value, json};

use bench::{Bench, Kill, bwscan, outcomes, send, serve};

/// Relays and exits of the network.
const RELAYS: usize = 6;

/// Returns true if a line is a measurement with which its relay is done.
fn is_settled(event: &Value) -> bool {
    event["event"] == "measured" && event["settled"] == true
}

/// Starts a scan and interrupts it when it has recorded more than `known` outcomes.
/// Returns its exit code and the number of outcomes.
fn interrupt(bench: &Bench, data: &str, signal: Signal, known: u64) -> (Option<i32>, u64) {
    let mut child = Kill(bench.scan(data, &bench.url, &["--quiet"]).spawn().unwrap());
    let path = bench.data(data);
    let begin = Instant::now();
    while outcomes(&path) <= known {
        assert!(
            begin.elapsed() < Duration::from_secs(90),
            "no outcome after {known}"
        );
        assert!(
            child.0.try_wait().unwrap().is_none(),
            "the scan ended by itself"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    // In the middle of the next transfer.
    std::thread::sleep(Duration::from_millis(700));
    send(child.0.id(), signal);
    let status = child.0.wait().unwrap();
    (status.code(), outcomes(&path))
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// One network serves all parts: bringing it up is what takes time.
#[tokio::test(flavor = "multi_thread")]
async fn scans_on_a_private_network() {
    let rate = |kilobytes: u64| BytesPerSecond::new(kilobytes * 1000);
    let plan = Plan::builder()
        .relay(RelaySpec::middle("relay1", rate(400)))
        .relay(RelaySpec::middle("relay2", rate(600)))
        .relay(RelaySpec::middle("relay3", rate(900)))
        .relay(RelaySpec::middle("relay4", rate(2000)))
        .relay(RelaySpec::exit("exit1", rate(700)))
        .relay(RelaySpec::exit("exit2", rate(2000)))
        .build()
        .unwrap();
    let network = Network::up(&plan, |_| {}).await.unwrap();
    tokio::task::block_in_place(|| {
        let bench = Bench::new(&network);
        interrupted_scans_go_on(&bench);
        facts_are_fetched_anew(&bench);
        partitions_are_disjoint_and_complete(&bench);
        an_unknown_relay_is_a_recorded_failure(&bench);
        a_destination_that_is_down_ends_the_scan(&bench);
        content_is_verified_in_both_directions(&bench);
        a_service_scans_writes_files_reloads_and_ends(&bench);
    });
    network.down().await.unwrap();
}

fn interrupted_scans_go_on(bench: &Bench) {
    let (code, first) = interrupt(bench, "interrupted", Signal::INT, 0);
    assert_eq!(code, Some(130));
    let listed = bench.list("interrupted");
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(listed[0]["state"], "unfinished");
    // Some may be measurements that were not believed.
    assert_eq!(listed[0]["outcomes"], first);
    let id = listed[0]["id"].clone();

    let aggregate = || {
        let mut command = bwscan();
        command.args(["aggregate", "-n", "5", "--json", "--data-dir"]);
        command.arg(bench.data("interrupted")).output().unwrap()
    };
    let output = aggregate();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(
        text(&output).contains("no completed scan"),
        "{}",
        text(&output)
    );

    let (code, second) = interrupt(bench, "interrupted", Signal::TERM, first);
    assert_eq!(code, Some(130));
    assert!(second > first);
    let (code, third) = interrupt(bench, "interrupted", Signal::KILL, second);
    assert_eq!(code, None, "killed by a signal");
    assert!(third > second, "what was recorded before SIGKILL is there");
    assert_eq!(bench.list("interrupted")[0]["state"], "unfinished");

    let output = bench.scan("interrupted", &bench.url, &[]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let listed = bench.list("interrupted");
    assert_eq!(
        listed.as_array().unwrap().len(),
        1,
        "one scan, continued: {listed:#}"
    );
    assert_eq!(listed[0]["id"], id);
    assert_eq!(listed[0]["state"], "completed");
    assert_eq!(listed[0]["measured"], RELAYS);
    // Nothing that was recorded was forgotten.
    assert!(listed[0]["outcomes"].as_u64().unwrap() >= third.max(RELAYS as u64));

    let output = aggregate();
    assert!(output.status.success(), "{}", text(&output));
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(rows["scans"].as_array().unwrap().len(), 1);
    assert_eq!(rows["relays"].as_array().unwrap().len(), RELAYS);
    explained(bench);
}

/// A relay that was measured, and one that never is.
fn explained(bench: &Bench) {
    let explain = |relay: &str| {
        let output = bwscan()
            .args(["explain", relay, "--max-share", "100%", "--data-dir"])
            .arg(bench.data("interrupted"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    let measured = explain("relay2");
    for part in [
        "counts",
        "scaled (capacity)",
        "weight, rounded",
        "of 6 relays",
    ] {
        assert!(measured.contains(part), "{part}: {measured}");
    }
    let store = Store::open_read_only(bench.data("interrupted").join("results.sqlite")).unwrap();
    let (_, network) = store.latest_snapshot().unwrap().unwrap();
    let authority = network.relays.iter().find(|relay| relay.flags.authority);
    let never = explain(&authority.unwrap().fingerprint.to_string());
    assert!(never.contains("NO  not a directory authority"), "{never}");
}

fn facts_are_fetched_anew(bench: &Bench) {
    let data = bench.data("interrupted");
    let snapshots = || {
        let store = Store::open_read_only(data.join("results.sqlite")).unwrap();
        store.snapshots().unwrap()
    };
    let before = snapshots().last().unwrap().valid_after;
    // Consensuses come every 20 s here.
    let begin = Instant::now();
    while snapshots().last().unwrap().valid_after == before {
        assert!(
            begin.elapsed() < Duration::from_secs(90),
            "no new consensus"
        );
        let output = bwscan()
            .args([
                "generate",
                "--refresh",
                "--max-share",
                "100%",
                "--force",
                "--data-dir",
            ])
            .arg(&data)
            .arg("--tor-config")
            .arg(&bench.config)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
        std::thread::sleep(Duration::from_secs(2));
    }
}

fn partitions_are_disjoint_and_complete(bench: &Bench) {
    let fast = ["--min-time", "200ms", "--max-time", "1s", "--json"];
    let mut seen = Vec::new();
    for part in ["1", "2", "3"] {
        let arguments = [&["-p", "3", "-c", part][..], &fast].concat();
        let output = bench.scan(part, &bench.url, &arguments).output().unwrap();
        // A part of a network this small can be empty.
        if output.status.code() == Some(2) {
            assert!(text(&output).contains("no relay"), "{}", text(&output));
            continue;
        }
        let lines = String::from_utf8(output.stdout).unwrap();
        for line in lines.lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            if is_settled(&event) {
                seen.push(event["fingerprint"].as_str().unwrap().to_owned());
            }
        }
    }
    let all = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!((all, seen.len()), (RELAYS, RELAYS));

    // The parts of three scanners together are the whole.
    let mut aggregate = bwscan();
    aggregate.args(["aggregate", "--json"]);
    for part in ["1", "2", "3"] {
        let store = bench.data(part).join("results.sqlite");
        // An empty part may have none, or one without a scan.
        if outcomes(&bench.data(part)) > 0 {
            aggregate.arg("--store").arg(store);
        }
    }
    let output = aggregate.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(rows["relays"].as_array().unwrap().len(), RELAYS, "{rows:#}");
}

fn an_unknown_relay_is_a_recorded_failure(bench: &Bench) {
    let unknown = "0123456789ABCDEF0123456789ABCDEF01234567";
    let output = bench
        .scan("unknown", &bench.url, &["--relay", unknown, "--json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let lines = String::from_utf8(output.stdout).unwrap();
    let mut events = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let started: Value = events.next().unwrap();
    assert_eq!(started, json!({ "event": "started", "targets": 1 }));
    let event: Value = events.next().unwrap();
    assert_eq!(event["event"], "failed");
    assert_eq!(event["fingerprint"], unknown);
    assert_eq!(
        (&event["stage"], &event["kind"]),
        (&"path".into(), &"unknown_relay".into())
    );
    assert_eq!(bench.list("unknown")[0]["failed"], 1);
}

fn a_destination_that_is_down_ends_the_scan(bench: &Bench) {
    // It was free a moment ago, so that nobody listens there.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let output = bench.scan("down", &url, &["--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    assert!(text(&output).contains(&url), "{}", text(&output));
    let lines = String::from_utf8(output.stdout).unwrap();
    let events = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let (failed, others): (Vec<_>, Vec<_>) = events.partition(|event| event["event"] == "failed");
    let told = |change: &str| others.iter().any(|event| event["change"] == change);
    assert!(told("nothing_works"), "{others:#?}");
    assert!(failed.len() >= 5, "{failed:#?}");
    for event in failed {
        // A tor exit often answers END with reason MISC here, which does not
        // tell whose fault it is.
        assert_eq!(event["stage"], "begin", "{event:#}");
        assert!(
            event["blame"] == "destination" || event["blame"] == "path",
            "{event:#}"
        );
        assert_eq!(event["settled"], false, "{event:#}");
    }
    let listed = bench.list("down");
    assert_eq!(listed[0]["state"], "unfinished");
    assert_eq!(listed[0]["pending"], RELAYS);
    // What nobody but the destination was to blame for is charged to no relay.
    assert_eq!(listed[0]["verdicts"]["charged"], 0, "{listed:#}");
}

fn content_is_verified_in_both_directions(bench: &Bench) {
    let file = |name: &str, secret: &str| {
        let path = bench.data(name);
        std::fs::write(&path, secret).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let key = file("key", "sixteen bytes ...\n");
    let other = file("other", "another sixteen bytes\n");
    let (_server, url) = serve(&["--key-file", &key]);
    let scan = |data: &str, key: &str, direction: &str| {
        let more = ["--destination-key-file", key, "--direction", direction];
        let fast = ["--min-time", "500ms", "--max-time", "3s", "--json"];
        let arguments = [&more[..], &fast].concat();
        let output = bench.scan(data, &url, &arguments).output().unwrap();
        let lines = String::from_utf8(output.stdout.clone()).unwrap();
        let events: Vec<Value> = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        (output, events)
    };
    for direction in ["download", "upload"] {
        let (output, events) = scan(direction, &key, direction);
        assert!(output.status.success(), "{}", text(&output));
        let measured = events.iter().filter(|event| is_settled(event));
        assert_eq!(measured.count(), RELAYS, "{direction}");
        let exported = bwscan()
            .args(["export", "--data-dir"])
            .arg(bench.data(direction))
            .output()
            .unwrap();
        let expected = format!("\"direction\":\"{direction}\"");
        for line in text(&exported).lines() {
            assert!(line.contains(&expected), "{line}");
        }

        let (output, events) = scan(&format!("wrong-{direction}"), &other, direction);
        assert_eq!(output.status.code(), Some(4), "{}", text(&output));
        let failed: Vec<_> = events
            .iter()
            .filter(|event| event["event"] == "failed")
            .collect();
        assert!(!failed.is_empty());
        for event in failed {
            assert_eq!(event["stage"], "content", "{event:#}");
            assert_eq!(event["settled"], false, "{event:#}");
        }
    }
}

/// The body of an answer, read without a client of HTTP.
fn get(address: &str, path: &str) -> Option<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(begin.elapsed() < Duration::from_secs(120), "no {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn a_service_scans_writes_files_reloads_and_ends(bench: &Bench) {
    use std::io::{BufRead, BufReader};
    let data = bench.data("service");
    let config = bench.data("service.toml");
    let write = |interval: &str| {
        let text = format!(
            "data_dir = '{}'\n[scan]\ndestination = [{:?}]\ntor_config = ['{}']\n\
             interval = \"{interval}\"\n[run]\nmetrics = \"127.0.0.1:0\"\n",
            data.display(),
            bench.url,
            bench.config.display()
        );
        std::fs::write(&config, text).unwrap();
    };
    write("1h");
    let log = bench.data("service.log");
    let mut child = bwscan()
        .args(["run", "--config"])
        .arg(&config)
        .stdout(std::process::Stdio::piped())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .map(Kill)
        .unwrap();
    let mut line = String::new();
    let output = child.0.stdout.take().unwrap();
    BufReader::new(output).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("metrics at http://").unwrap();
    let address = address.strip_suffix("/metrics").unwrap().to_owned();
    assert!(get(&address, "/healthz").unwrap().contains("200 OK"));

    let metrics = until("complete round", || {
        let metrics = get(&address, "/metrics")?;
        metrics
            .contains("bwscan_rounds_completed_total 1")
            .then_some(metrics)
    });
    assert!(metrics.contains("bwscan_relays_settled_total{result=\"measured\"}"));
    assert!(get(&address, "/readyz").unwrap().contains("200 OK"));
    // The first file does not wait for its minute.
    let latest = data.join("v3bw").join("latest.v3bw");
    until("file", || std::fs::read(&latest).ok());

    let said = |text: &str| std::fs::read_to_string(&log).unwrap().contains(text);
    write("2s");
    send(child.0.id(), Signal::HUP);
    until("new configuration", || {
        said("scan --interval").then_some(())
    });
    until("second round", || {
        let metrics = get(&address, "/metrics")?;
        metrics
            .contains("bwscan_rounds_completed_total 2")
            .then_some(())
    });
    std::fs::write(&config, "[scan]\nintervall = 1\n").unwrap();
    send(child.0.id(), Signal::HUP);
    until("refusal", || {
        said("the old configuration stays").then_some(())
    });

    let begin = Instant::now();
    send(child.0.id(), Signal::TERM);
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
}
