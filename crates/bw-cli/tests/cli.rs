//! The command line without a network: bad input ends with a clear message
//! and the right exit code.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod command;

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

fn bwscan(arguments: &[&str]) -> Output {
    command::bwscan().args(arguments).output().unwrap()
}

/// The exit code and what was said on standard error.
fn refusal(arguments: &[&str]) -> (i32, String) {
    let output = bwscan(arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), text)
}

/// An address, as names are looked up.
const DESTINATION: &str = "https://192.0.2.1/1GiB";

#[test]
fn without_a_destination_it_says_how_to_get_one() {
    let (code, text) = refusal(&["scan", "--data-dir", "/nonexistent"]);
    assert_eq!(code, 2, "{text}");
    assert!(
        text.contains("--destination URL") && text.contains("bwscan serve"),
        "{text}"
    );
}

#[test]
fn wrong_values_name_their_option() {
    for (arguments, named) in [
        (&["scan", "--relay", "12+45"][..], "--relay"),
        (&["scan", "-d", "ftp://x/"], "ftp"),
        (
            &["scan", "-d", DESTINATION, "-p", "3", "-c", "4"],
            "partition 4 of 3",
        ),
        (
            &[
                "scan",
                "-d",
                DESTINATION,
                "--min-time",
                "9s",
                "--max-time",
                "1s",
            ],
            "--min-time",
        ),
        (
            &["scan", "-d", DESTINATION, "--ca-file", "/nonexistent.pem"],
            "/nonexistent.pem",
        ),
        (
            &["scan", "-d", DESTINATION, "--max-size", "big"],
            "--max-size",
        ),
        (&["aggregate", "-n", "0"], "0"),
        (&["serve", "--listen", "nowhere"], "--listen"),
        (&["serve", "--tls-cert", "x.pem"], "--tls-key"),
        (
            &["testnet", "up", "--min-rate", "2MB", "--max-rate", "1MB"],
            "--min-rate",
        ),
    ] {
        let (code, text) = refusal(arguments);
        assert_eq!(code, 2, "{arguments:?}: {text}");
        assert!(text.contains(named), "{arguments:?}: {text}");
    }
}

#[test]
fn a_missing_store_and_one_from_a_newer_version() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    for command in ["list", "aggregate", "generate"] {
        let (code, text) = refusal(&[command, "--data-dir", data]);
        assert_eq!(code, 5, "{text}");
        assert!(text.contains("results.sqlite"), "{text}");
    }

    let store = directory.path().join("results.sqlite");
    drop(bw_store::Store::open(&store).unwrap());
    let output = bwscan(&["list", "--data-dir", data]);
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "no scans yet\n");

    // Where SQLite's file format has the version that a program gives its schema.
    let mut file = std::fs::read(&store).unwrap();
    file[60..64].copy_from_slice(&999_u32.to_be_bytes());
    std::fs::write(&store, file).unwrap();
    for arguments in [&["list"][..], &["generate"], &["scan", "-d", DESTINATION]] {
        let (code, text) = refusal(&[arguments, &["--data-dir", data]].concat());
        assert_eq!(code, 5, "{text}");
        assert!(text.contains("999"), "{text}");
    }
}

#[test]
fn a_data_directory_that_cannot_be_made() {
    // A file is in the way: that holds for root too.
    let file = tempfile::NamedTempFile::new().unwrap();
    let data = file.path().join("data");
    let (code, text) = refusal(&[
        "scan",
        "-d",
        DESTINATION,
        "--data-dir",
        data.to_str().unwrap(),
    ]);
    assert_eq!(code, 5, "{text}");
    assert!(text.contains(data.to_str().unwrap()), "{text}");
}

/// Writes a configuration of arti for a network at whose only address nobody listens.
fn unreachable_network(directory: &Path) -> PathBuf {
    // It was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let config = directory.join("arti.toml");
    let text = format!(
        "[tor_network]\nauthorities = {{ v3idents = [\"{id}\"] }}\nfallback_caches = [ {{ \
         rsa_identity = \"{id}\", ed_identity = \"{ed}\", orports = [\"{address}\"] }} ]\n\
         [storage.permissions]\ndangerously_trust_everyone = true\n",
        id = "A".repeat(40),
        ed = "A".repeat(43),
    );
    std::fs::write(&config, text).unwrap();
    config
}

#[test]
fn a_continuous_scan_waits_for_the_network_and_ends_well_when_told_to() {
    let directory = tempfile::tempdir().unwrap();
    let config = unreachable_network(directory.path());
    let mut scan = command::bwscan()
        .args(["scan", "--continuous", "-q", "-d", DESTINATION])
        .args(["--bootstrap-timeout", "4s", "--data-dir"])
        .arg(directory.path())
        .arg("--tor-config")
        .arg(config)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = Vec::new();
    for line in BufReader::new(scan.stderr.take().unwrap()).lines() {
        said.push(line.unwrap());
        if said.last().unwrap().contains("next try in") {
            kill_process(Pid::from_child(&scan), Signal::TERM).unwrap();
        }
    }
    let text = said.join("\n");
    assert!(text.contains("the Tor network cannot be reached"), "{text}");
    assert_eq!(scan.wait().unwrap().code(), Some(0), "{text}");
}

#[test]
fn no_network() {
    let directory = tempfile::tempdir().unwrap();
    let config = unreachable_network(directory.path());
    // A label of 64 letters cannot be resolved, and that takes no server.
    let wrong = format!("https://{}.example/1GiB", "a".repeat(64));
    let (code, text) = refusal(&[
        "scan",
        "-d",
        DESTINATION,
        "-d",
        &wrong,
        "--data-dir",
        directory.path().to_str().unwrap(),
        "--tor-config",
        config.to_str().unwrap(),
        "--bootstrap-timeout",
        "4s",
    ]);
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("the Tor network cannot be reached"), "{text}");
    assert!(text.contains("no host with the name aaaa"), "{text}");
    assert!(text.contains("leaves it out"), "{text}");
}

#[test]
fn a_destination_that_does_not_exist_is_given_up_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    // A label of 64 letters cannot be resolved, and that takes no server.
    let wrong = format!("https://{}.example/1GiB", "a".repeat(64));
    let arguments = ["scan", "-d", &wrong, "--data-dir", data];
    let (code, text) = refusal(&arguments);
    assert_eq!(code, 4, "{text}");
    assert!(text.contains("a.example; correct --destination"), "{text}");
}

#[test]
fn a_wrong_tor_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("arti.toml");
    std::fs::write(&config, "[tor_network\n").unwrap();
    let (code, text) = refusal(&[
        "scan",
        "-d",
        DESTINATION,
        "--data-dir",
        directory.path().to_str().unwrap(),
        "--tor-config",
        config.to_str().unwrap(),
    ]);
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("arti.toml"), "{text}");
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let output = bwscan(&["completions", "bash"]);
    let script = String::from_utf8(output.stdout).unwrap();
    let directory = tempfile::tempdir().unwrap();
    assert!(
        bwscan(&["man", directory.path().to_str().unwrap()])
            .status
            .success()
    );
    for command in [
        "scan",
        "list",
        "aggregate",
        "generate",
        "serve",
        "testnet",
        "demo",
        "simulate",
        "file",
    ] {
        assert!(script.contains(command), "{command}");
        assert!(
            directory
                .path()
                .join(format!("man1/bwscan-{command}.1"))
                .is_file(),
            "{command}"
        );
    }
    let page = String::from_utf8(bwscan(&["man"]).stdout).unwrap();
    assert!(page.contains(".TH bwscan"), "{page}");
    let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
    let scan = read("man1/bwscan-scan.1");
    for said in [
        ".SH EXAMPLES",
        ".SH ENVIRONMENT",
        "BWSCAN_LINK_RATE",
        ".SH FILES",
        "results.sqlite",
    ] {
        assert!(page.contains(said) && scan.contains(said), "{said}");
    }
    let file = read("man5/bwscan.toml.5");
    for said in [
        "[scan]",
        "link_rate",
        "Default: 100Mbit.",
        "[testnet.up]",
        "data_dir",
    ] {
        assert!(file.contains(said), "{said}: {file}");
    }
    assert!(!file.contains("no_config ="), "{file}");
}

#[test]
fn short_help_is_short_and_long_help_has_everything() {
    let help = |how| String::from_utf8(bwscan(&["scan", how]).stdout).unwrap();
    let (short, long) = (help("-h"), help("--help"));
    let rare = ["--stall-timeout", "--partition-key", "--log-json"];
    let in_both = [
        "--destination",
        "--link-rate",
        "\nCommon:",
        "\nNetwork:",
        "\nLimits:",
        "\nOutput:",
        "\nExamples:",
    ];
    for said in in_both {
        assert!(short.contains(said) && long.contains(said), "{said}");
    }
    for said in rare {
        assert!(!short.contains(said) && long.contains(said), "{said}");
    }
    assert!(short.lines().count() <= 70, "{short}");
}

#[test]
fn rates_and_sizes_are_refused_in_our_words() {
    for (option, value, said) in [
        ("--link-rate", "100", "100Mbit megabits"),
        ("--link-rate", "0", "expected a unit"),
        ("--link-rate", "0MB", "above 0"),
        ("--link-rate", "100Mb", "bits or bytes"),
        ("--max-size", "MB", "expected a size"),
        ("--interval", "6", "expected a time"),
    ] {
        let (code, text) = refusal(&["scan", "-d", DESTINATION, option, value]);
        assert_eq!(code, 2, "{text}");
        assert!(text.contains(said) && text.contains(option), "{text}");
        assert!(!text.contains("ByteSize"), "{text}");
    }
}

#[test]
fn make_tells_that_it_builds() {
    let makefile = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Makefile");
    let makefile = std::fs::read_to_string(makefile).unwrap();
    let (_, recipe) = makefile.split_once("\ndemo:\n").unwrap();
    let first = recipe.lines().find(|line| line.contains("cargo")).unwrap();
    assert!(!first.contains("--quiet"), "{first}");
}

/// A store with one completed scan of one relay.
fn write_store(path: &Path) {
    use bw_results::*;
    use bw_store::Store;
    let now = UnixMillis::from_secs(1_790_000_000);
    let relay = RelayFacts::new(
        bw_file::Fingerprint::from_bytes([7; 20]),
        "relay",
        bw_file::KilobytesPerSecond::new(1000),
    );
    let mut store = Store::open(path).unwrap();
    let network = NetworkSnapshot::new(
        now,
        now,
        now,
        std::collections::BTreeMap::new(),
        vec![relay.clone()],
    );
    let snapshot = store.put_snapshot(&network).unwrap();
    let parameters = ScanParameters::new(vec![DESTINATION.to_owned()]);
    let scan = Scan::new(
        ScanId::from_bytes([1; 16]),
        "here".to_owned(),
        now,
        parameters,
    );
    store
        .begin_scan(&scan, &[relay.fingerprint], snapshot)
        .unwrap();
    let slice = Slice::new(std::time::Duration::from_secs(1), 5_000_000);
    let transfer = Transfer::new(vec![slice], 0, StopReason::Complete);
    let attempt = Attempt::new(TargetFacts::from(&relay), Position::Entry, now);
    let measurement = Measurement::new(attempt, now, Timings::default(), vec![transfer]);
    let outcome = Outcome::Measured(measurement);
    store
        .record(&scan.id, &outcome, &Verdict::Accepted, true)
        .unwrap();
    store.finish_scan(&scan.id, now).unwrap();
}

#[test]
fn results_move_to_another_store_each_once() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path().join("here");
    std::fs::create_dir(&here).unwrap();
    write_store(&here.join("results.sqlite"));
    let lines = directory.path().join("results.jsonl");
    let (here, lines) = (here.to_str().unwrap(), lines.to_str().unwrap());
    assert!(
        bwscan(&["export", "-o", lines, "--data-dir", here])
            .status
            .success()
    );

    let there = directory.path().join("there");
    let there = there.to_str().unwrap();
    for (added, known) in [(1, 0), (0, 1)] {
        let output = bwscan(&["import", "jsonl", lines, "--json", "--data-dir", there]);
        assert!(output.status.success(), "{output:?}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (&report["added"], &report["known"]),
            (&added.into(), &known.into())
        );
    }
    let list = |data: &str| bwscan(&["list", "--json", "--data-dir", data]).stdout;
    assert_eq!(list(here), list(there));

    std::fs::write(lines, "{\"scan\": 1}\nnot json\n").unwrap();
    let (code, text) = refusal(&["import", "jsonl", lines, "--data-dir", there]);
    assert_eq!(code, 1);
    assert!(text.contains("results.jsonl:2:"), "{text}");
}

#[test]
fn nothing_measured_leaves_the_old_file_alone() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    // The only measurement is much older than the days that count.
    write_store(&directory.path().join("results.sqlite"));
    std::fs::create_dir(directory.path().join("v3bw")).unwrap();
    std::fs::write(directory.path().join("v3bw/latest.v3bw"), "old").unwrap();
    // Facts that old are no longer good for anything.
    let (code, text) = refusal(&["generate", "--days", "1", "--data-dir", data]);
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("--consensus"), "{text}");
    let arguments = [
        "generate",
        "--days",
        "1",
        "--max-facts-age",
        "9999d",
        "--data-dir",
        data,
    ];
    let (code, text) = refusal(&arguments);
    assert_eq!(code, 1, "{text}");
    let left: Vec<_> = std::fs::read_dir(directory.path().join("v3bw"))
        .unwrap()
        .collect();
    assert_eq!(left.len(), 1);
    assert_eq!(
        std::fs::read(directory.path().join("v3bw/latest.v3bw")).unwrap(),
        b"old"
    );
}

#[test]
fn results_of_sbws_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("sbws");
    std::fs::create_dir_all(home.join("datadir")).unwrap();
    let line = serde_json::json!({
        "version": 4, "type": "success", "time": 1_790_000_000.5,
        "fingerprint": "A".repeat(40), "nickname": "relay", "address": "198.51.100.7",
        "master_key_ed25519": null, "circ": ["A".repeat(40), "B".repeat(40)],
        "dest_url": DESTINATION, "scanner": "old", "rtts": null,
        "downloads": [{"duration": 5.5, "amount": 11_000_000}],
        "relay_average_bandwidth": 4_000_000, "relay_burst_bandwidth": 4_000_000,
        "relay_observed_bandwidth": 3_000_000, "consensus_bandwidth": 2_000_000,
        "consensus_bandwidth_is_unmeasured": false,
    });
    std::fs::write(home.join("datadir/2026-09-21.txt"), format!("{line}\n")).unwrap();
    let (home, data) = (home.to_str().unwrap(), directory.path().join("data"));
    let data = data.to_str().unwrap();
    let output = bwscan(&["import", "sbws", home, "--json", "--data-dir", data]);
    assert!(output.status.success(), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["added"], 1);
    // What is new to us is counted, and the rest is read.
    let odd = [
        ("type", "error-new".into()),
        ("version", 5.into()),
        ("fingerprint", "x".into()),
    ];
    let lines = odd.map(|(key, value): (&str, serde_json::Value)| {
        let mut line = line.clone();
        line[key] = value;
        line.to_string()
    });
    let more = format!("{home}/datadir/2026-09-22.txt");
    std::fs::write(more, lines.join("\n") + "\n").unwrap();
    let output = bwscan(&["import", "sbws", home, "--json", "--data-dir", data]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for (key, count) in [
        ("added", 0),
        ("known", 1),
        ("bad_lines", 3),
        ("unknown_types", 1),
        ("other_versions", 1),
    ] {
        assert_eq!(report[key], count, "{key}: {report}");
    }
    let (code, text) = refusal(&["import", "sbws", "/nonexistent", "--data-dir", data]);
    assert_eq!(code, 5);
    assert!(text.contains("/nonexistent"), "{text}");
}

/// An sbws home with 40 relays, measured on 2026-11-20 around noon, the last
/// one of them in vain; with tor's cached files.
fn write_sbws_home(home: &Path) {
    use std::fmt::Write;
    std::fs::create_dir_all(home.join("datadir")).unwrap();
    std::fs::create_dir_all(home.join("tor")).unwrap();
    let mut lines = String::new();
    let mut consensus = String::from(
        "network-status-version 3\nvote-status consensus\nvalid-after 2026-11-20 12:00:00\n\
         fresh-until 2026-11-20 13:00:00\nvalid-until 2026-11-20 15:00:00\n",
    );
    for number in 0..40_u64 {
        let fingerprint = bw_file::Fingerprint::from_bytes([number as u8; 20]).to_string();
        let mut line = serde_json::json!({
            "version": 4, "type": "success", "time": 1_795_170_000.5 + number as f64,
            "fingerprint": fingerprint, "nickname": format!("r{number}"),
            "address": format!("192.0.2.{number}"), "master_key_ed25519": null,
            "circ": [fingerprint, "B".repeat(40)], "dest_url": DESTINATION, "scanner": "old",
            "relay_in_recent_consensus": ["2026-11-20T11:00:00"], "rtts": null,
            "downloads": [{"duration": 5.5, "amount": 1_100_000 * (number + 1)}],
            "relay_average_bandwidth": 4_000_000, "relay_burst_bandwidth": 4_000_000,
            "relay_observed_bandwidth": 3_000_000, "consensus_bandwidth": 2_000_000,
            "consensus_bandwidth_is_unmeasured": false,
        });
        if number == 39 {
            line["type"] = "error-circ".into();
            line["msg"] = "DESTROYED".into();
        }
        writeln!(lines, "{line}").unwrap();
        // 20 equal bytes in base64, without its padding.
        let identity = bw_file::Ed25519Identity::from_bytes([number as u8; 32]).to_string();
        let mut bytes = [number as u8; 32];
        bytes[20..].fill(0);
        let cut = bw_file::Ed25519Identity::from_bytes(bytes).to_string()[..27].to_owned();
        assert_eq!(identity[..26], cut[..26]);
        writeln!(
            consensus,
            "r r{number} {cut} {cut} 2026-11-20 01:00:00 192.0.2.{number} 9001 0\n\
             s Fast Running Valid\nw Bandwidth=2000"
        )
        .unwrap();
    }
    consensus.push_str("directory-footer\n");
    std::fs::write(home.join("datadir/2026-11-20.txt"), lines).unwrap();
    std::fs::write(home.join("tor/cached-consensus"), consensus).unwrap();
    std::fs::write(
        home.join("sbws.ini"),
        "[scanner]\nnickname = old\ncountry = DE\nnum_rtts = 3\n[destinations]\nfoo = on\n\
         [destinations.foo]\nurl = https://bw.example/1GiB\ncountry = ZZ\n",
    )
    .unwrap();
}

fn success(arguments: &[&str]) -> String {
    let output = bwscan(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// A directory, and in it a data directory into which that home was imported.
fn imported_home() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    write_sbws_home(&directory.path().join("sbws"));
    let data = import_home(&directory, "data");
    (directory, data)
}

/// Imports it into the data directory of that name, which it returns.
fn import_home(directory: &tempfile::TempDir, name: &str) -> String {
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let data = path(name);
    success(&["import", "sbws", &path("sbws"), "--data-dir", &data]);
    data
}

#[test]
fn an_operator_moves_from_sbws_and_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (home, data, config) = (path("sbws"), path("data"), path("bwscan.toml"));
    write_sbws_home(directory.path().join("sbws").as_path());
    let text = success(&[
        "import",
        "sbws",
        &home,
        "--write-config",
        &config,
        "--data-dir",
        &data,
    ]);
    assert!(text.contains("40 outcomes added"), "{text}");
    assert!(text.contains("a consensus of 40 relays"), "{text}");
    let options = std::fs::read_to_string(&config).unwrap();
    assert!(
        options.contains("destination = [\"https://bw.example/1GiB\"]"),
        "{options}"
    );
    assert!(options.contains("# [scanner] num_rtts = 3"), "{options}");
    // And it counts: the countries are those of the configuration.
    let published = path("by-config");
    success(&[
        "--config",
        &config,
        "generate",
        "--output",
        &published,
        "--data-dir",
        &data,
        "--now",
        "2026-11-20T12:30:00",
    ]);
    let file = std::fs::read_to_string(published + "/latest.v3bw").unwrap();
    assert!(file.contains("\nscanner_country=DE\n"), "{file}");
    assert!(file.contains("\ndestinations_countries=ZZ\n"), "{file}");

    let at = ["--data-dir", &data, "--now", "2026-11-20T12:30:00"];
    let generate = |arguments: &[&str]| bwscan(&[&["generate"], arguments, &at[..]].concat());
    assert!(generate(&[]).status.success());
    let published = directory.path().join("data/v3bw/latest.v3bw");
    let first = std::fs::read_to_string(&published).unwrap();
    assert_eq!(first.matches("\nbw=").count(), 40, "{first}");

    // As sbws would: from the store and from its own files.
    let compat = |more: &[&str]| {
        let output = path("compat");
        let arguments = ["--compat", "sbws=1.9.0", "--output", &output];
        let all = [&arguments[..], more].concat();
        assert!(generate(&all).status.success());
        std::fs::read_to_string(directory.path().join("compat/latest.v3bw")).unwrap()
    };
    let from_store = compat(&["--scanner-country", "DE", "--destinations-countries", "ZZ"]);
    assert_eq!(from_store, compat(&["--sbws-home", &home]));
    assert!(
        from_store.contains("\nrecent_measurements_excluded_error_count=1\n"),
        "{from_store}"
    );

    // And back.
    let lines = path("back/datadir");
    success(&[
        "export",
        "--format",
        "sbws",
        "-o",
        &lines,
        "--data-dir",
        &data,
    ]);
    std::fs::create_dir(directory.path().join("back/tor")).unwrap();
    std::fs::copy(
        path("sbws/tor/cached-consensus"),
        path("back/tor/cached-consensus"),
    )
    .unwrap();
    std::fs::copy(path("sbws/sbws.ini"), path("back/sbws.ini")).unwrap();
    assert_eq!(from_store, compat(&["--sbws-home", &path("back")]));
    let (code, text) = refusal(&[
        "export",
        "--format",
        "sbws",
        "-o",
        &lines,
        "--data-dir",
        &data,
    ]);
    assert_eq!(code, 5, "{text}");
    assert!(text.contains("2026-11-20.txt"), "{text}");
}

#[test]
fn a_file_that_is_not_plausible_leaves_the_old_one() {
    let (directory, data) = imported_home();
    let at = [
        "generate",
        "--data-dir",
        &data,
        "--now",
        "2026-11-20T12:30:00",
    ];
    success(&at);
    let latest = directory.path().join("data/v3bw/latest.v3bw");
    let before = std::fs::read(&latest).unwrap();

    // The same results, scaled in quite another way.
    let other = [&at[..], &["--scale", "linear", "--quota", "500000"]].concat();
    let (code, text) = refusal(&other);
    assert_eq!(code, 6, "{text}");
    assert!(
        text.contains("previous file") && text.contains("--force"),
        "{text}"
    );
    assert_eq!(std::fs::read(&latest).unwrap(), before);
    success(&[&other[..], &["--force"]].concat());
    assert_ne!(std::fs::read(&latest).unwrap(), before);
    let (code, text) = refusal(&[&at[..], &["--max-age", "1h"]].concat());
    assert_eq!(code, 6, "{text}");
    for (option, value) in [("--param", "bwauthxy=1"), ("--relay-change", "0.5")] {
        let (code, text) = refusal(&[&at[..], &[option, value]].concat());
        assert_eq!(code, 2, "{text}");
        assert!(text.contains(option), "{text}");
    }
}

/// Adds an outcome of relay `number` of that home that ended at this time.
fn add_outcome(data: &str, number: u8, ended: bw_results::UnixMillis) {
    use bw_results::*;
    use bw_store::Store;
    let mut store = Store::open(format!("{data}/results.sqlite")).unwrap();
    let scan = store.scans().unwrap()[0].scan.id;
    let relay = bw_file::Fingerprint::from_bytes([number; 20]);
    let attempt = Attempt::new(TargetFacts::new(relay), Position::Entry, ended);
    let slice = Slice::new(std::time::Duration::from_secs(1), 90_000_000);
    let transfer = Transfer::new(vec![slice], 0, StopReason::Complete);
    let measurement = Measurement::new(attempt, ended, Timings::default(), vec![transfer]);
    store
        .record(
            &scan,
            &Outcome::Measured(measurement),
            &Verdict::Accepted,
            true,
        )
        .unwrap();
}

#[test]
fn a_record_of_the_future_is_named_and_moves_nothing() {
    let (directory, data) = imported_home();
    let generate = || {
        let whenever = ["--max-facts-age", "9999d", "--max-age", "9999d"];
        let arguments = ["generate", "--days", "365", "--data-dir", &data];
        let output = bwscan(&[&arguments[..], &whenever].concat());
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{text}");
        let latest = directory.path().join("data/v3bw/latest.v3bw");
        let file = std::fs::read_to_string(latest).unwrap();
        let lines = file
            .lines()
            .filter(|line| !line.starts_with("file_created"));
        (lines.map(str::to_owned).collect::<Vec<_>>(), text)
    };
    let (honest, text) = generate();
    assert_eq!(text, "");
    // 2100, and the year 12000, of which no file can be made.
    for ended in [4_102_444_800, 316_000_000_000] {
        add_outcome(&data, 3, bw_results::UnixMillis::from_secs(ended));
        let (file, text) = generate();
        assert_eq!(file, honest);
        assert!(text.contains(&"03".repeat(20)), "{text}");
        assert!(text.contains("ahead of this machine's clock"), "{text}");
    }
}

#[test]
fn with_a_clock_in_the_past_nothing_later_is_used() {
    let (_directory, data) = imported_home();
    let at = |time: &str| refusal(&["generate", "--data-dir", &data, "--now", time]);
    for time in ["2020-01-01T00:00:00", "2026-11-20T11:00:00"] {
        let (code, text) = at(time);
        assert_eq!(code, 3, "{text}");
        assert!(text.contains("of the future"), "{text}");
        assert!(text.contains("clock"), "{text}");
    }
    // An hour later all the same results are those of the past.
    add_outcome(&data, 3, bw_results::UnixMillis::from_secs(1_795_180_000));
    let explain = |time: &str| {
        let arguments = [
            "explain",
            "r3",
            "--json",
            "--data-dir",
            &data,
            "--now",
            time,
        ];
        let text = success(&arguments);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json["attempts"].as_array().unwrap().len()
    };
    assert_eq!(explain("2026-11-20T12:30:00"), 1);
    assert_eq!(explain("2026-11-20T14:30:00"), 2);
}

#[test]
fn a_relay_is_explained_by_whatever_name() {
    let (_directory, data) = imported_home();
    let explain = |relay: &str| {
        success(&[
            "explain",
            relay,
            "--data-dir",
            &data,
            "--now",
            "2026-11-20T12:30:00",
            "--scale",
            "torflow",
            "--max-share",
            "100%",
        ])
    };
    let text = explain("r7");
    for part in [
        "r7",
        "counts",
        "1600000 B/s",
        "weight, rounded",
        "32 of 39 relays",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(text, explain("192.0.2.7"));
    for name in [&"07".repeat(20)[..], "$07070707", "070707070707"] {
        assert_eq!(text, explain(name));
    }
    let verdict = text.lines().nth(1).unwrap();
    assert_eq!(
        verdict,
        "Low because its rate was 0.40 times the mean; place 32 of 39; nothing failed recently."
    );
    // The arithmetic can be followed with the digits that are shown.
    let scaled = text.lines().find(|line| line.starts_with("scaled"));
    let numbers: Vec<f64> = scaled
        .unwrap()
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    assert!((numbers[0] * numbers[1] - numbers[2]).abs() < 1.0, "{text}");
    assert!(
        numbers[0].to_string().len() >= 3 && text.contains("= 0.40"),
        "{text}"
    );
    let failed = explain("r39");
    assert!(failed.contains("NO  measured at least once"), "{failed}");
    let verdict = failed.lines().nth(1).unwrap();
    assert!(
        verdict.starts_with("No weight: ") && verdict.contains("1 of 1 attempts failed"),
        "{failed}"
    );
    // Nothing was tried in the days that count, though long before.
    let days = [
        "--days",
        "1",
        "--now",
        "2026-11-25T00:00:00",
        "--max-facts-age",
        "99d",
    ];
    let untried = success(&[&["explain", "r7", "--data-dir", &data], &days[..]].concat());
    assert!(untried.contains("NO  "), "{untried}");
    assert!(!untried.contains("weight, rounded"), "{untried}");
    let json = success(&[
        "explain",
        "r7",
        "--json",
        "--data-dir",
        &data,
        "--now",
        "2026-11-20T12:30:00",
    ]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["attempts"][0]["use"], "counted");
    assert_eq!(json["standing"]["of"], 39);
    let (code, text) = refusal(&[
        "explain",
        "nobody",
        "--data-dir",
        &data,
        "--now",
        "2026-11-20T12:30:00",
    ]);
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("nobody"), "{text}");
}

/// A store of two relays: relay 1 with an accepted measurement, and relay 2 with
/// what the link let pass of a faster one.
fn write_bounded_store(path: &Path) {
    use bw_results::*;
    use bw_store::Store;
    let now = UnixMillis::from_secs(1_790_000_000);
    let bandwidth = bw_file::BytesPerSecond::new(2_000_000);
    let relays = [1, 2].map(|number| {
        let mut relay = RelayFacts::new(
            bw_file::Fingerprint::from_bytes([number; 20]),
            &format!("relay{number}"),
            bw_file::KilobytesPerSecond::new(7000),
        );
        relay.descriptor = Some(DescriptorFacts::new(now, bandwidth, bandwidth, bandwidth));
        relay
    });
    let mut store = Store::open(path).unwrap();
    let weights = std::collections::BTreeMap::new();
    let network = NetworkSnapshot::new(now, now, now, weights, relays.to_vec());
    let snapshot = store.put_snapshot(&network).unwrap();
    let parameters = ScanParameters::new(vec![DESTINATION.to_owned()]);
    let id = ScanId::from_bytes([1; 16]);
    let scan = Scan::new(id, "here".to_owned(), now, parameters);
    let targets = relays.each_ref().map(|relay| relay.fingerprint);
    store.begin_scan(&scan, &targets, snapshot).unwrap();
    let outcome = |relay: &RelayFacts, at: u64, throttled: u16| {
        let second = std::time::Duration::from_secs(1);
        let slices = vec![
            Slice::new(second, 1_000_000).with_throttled(throttled),
            Slice::new(second, 1_000_000),
        ];
        let ended = UnixMillis::from_secs(1_790_000_000 - at);
        let attempt = Attempt::new(TargetFacts::from(relay), Position::Entry, ended);
        let transfer = Transfer::new(slices, 0, StopReason::Complete);
        Outcome::Measured(Measurement::new(
            attempt,
            ended,
            Timings::default(),
            vec![transfer],
        ))
    };
    for (outcome, verdict, settled) in [
        (outcome(&relays[0], 9, 0), Verdict::Accepted, true),
        (
            outcome(&relays[1], 8, 2),
            Verdict::Remeasure(Remeasure::Throttled),
            false,
        ),
        (
            outcome(&relays[1], 7, 2),
            Verdict::LowerBound(Blame::Scanner),
            true,
        ),
    ] {
        store.record(&id, &outcome, &verdict, settled).unwrap();
    }
    store.finish_scan(&id, now).unwrap();
}

#[test]
fn a_second_scanner_on_one_store_says_so_and_exits() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let store = directory.path().join("results.sqlite");
    write_store(&store);
    let since = bw_results::UnixMillis::from_secs(1_790_000_000);
    let lock = bw_store::ScanLock::acquire(&store, since).unwrap();
    let (code, text) = refusal(&["scan", "-d", DESTINATION, "--data-dir", data]);
    assert_eq!(code, 5, "{text}");
    let holder = format!("process {} since 2026-09-21", std::process::id());
    for part in ["results.sqlite", &holder, "another data directory"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // Readers are free.
    assert!(success(&["list", "--data-dir", data]).contains("completed"));
    drop(lock);
}

#[test]
fn verdicts_are_listed_explained_and_exported() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    write_bounded_store(&directory.path().join("results.sqlite"));

    let list = success(&["list", "--json", "--data-dir", data]);
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list[0]["measured"], 2);
    assert_eq!(list[0]["failed"], 0);
    assert_eq!(
        list[0]["verdicts"],
        serde_json::json!({"accepted": 1, "lower_bound": 1, "remeasure": 1, "charged": 0,
            "excused": 0})
    );

    let common = [
        "relay2",
        "--data-dir",
        data,
        "--now",
        "2026-09-21T14:30:00",
        "--max-facts-age",
        "99d",
        "--scale",
        "torflow",
        "--max-share",
        "100%",
    ];
    let explain = |more: &[&str]| success(&[&["explain"], &common[..], more].concat());
    let text = explain(&[]);
    for part in [
        "measured again: throttled",
        "50 %",
        "lower bound, by the scanner",
        "1.00000000 x 2000000 = 2000000 B/s",
        "the weight in the consensus, 7000 kB/s",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json: serde_json::Value = serde_json::from_str(&explain(&["--json"])).unwrap();
    let attempt = &json["attempts"][1];
    assert_eq!(
        attempt["verdict"],
        serde_json::json!({"kind": "lower_bound", "reason": "scanner"})
    );
    assert_eq!(
        (&attempt["use"], &attempt["throttled"]),
        (&"lower_bound".into(), &0.5.into())
    );
    let steps = &json["steps"]["lower_bound"];
    assert_eq!(
        (&steps["taken"], &steps["scaled"]),
        (&"consensus".into(), &2e6.into())
    );
    assert_eq!(json["network"]["censored"], 1);

    let lines = success(&["export", "--data-dir", data]);
    for part in [
        r#""verdict":{"kind":"accepted"}"#,
        r#""verdict":{"kind":"remeasure","reason":"throttled"}"#,
        r#"{"us":1000000,"b":1000000,"t":2}"#,
    ] {
        assert!(lines.contains(part), "{part}: {lines}");
    }
}

#[test]
fn several_stores_count_each_measurement_once() {
    let (directory, first) = imported_home();
    let stores = [first, import_home(&directory, "second")].map(|data| data + "/results.sqlite");
    let both = ["--store", &stores[0], "--store", &stores[1]];
    let one = ["--store", &stores[0]];
    for command in [
        &["aggregate", "--json"][..],
        &["aggregate", "--format", "csv"],
        &["list"],
    ] {
        let (one, both) = ([command, &one].concat(), [command, &both].concat());
        assert_eq!(success(&one), success(&both), "{command:?}");
    }
    let generate = |stores: &[&str], output: &str| {
        let output = directory.path().join(output);
        let output = output.to_str().unwrap();
        let now = ["--now", "2026-11-20T12:30:00", "--output", output];
        success(&[&["generate"], stores, &now].concat());
        std::fs::read(Path::new(output).join("latest.v3bw")).unwrap()
    };
    assert_eq!(generate(&one, "a"), generate(&both, "b"));
}

#[test]
fn a_report_has_a_page_for_each_relay() {
    let (directory, data) = imported_home();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let at = ["--data-dir", &data, "--now", "2026-11-20T12:30:00"];
    success(&[&["generate"], &at[..]].concat());
    let output = path("report");
    let latest = format!("{data}/v3bw/latest.v3bw");
    let report = |more: &[&str]| {
        let line = [&["report", "-o", &output], &at[..], more].concat();
        success(&line)
    };
    let text = report(&["--file", &latest, "--file", &latest]);
    assert!(text.contains("report/index.html"), "{text}");
    let page = |name: &str| std::fs::read_to_string(format!("{output}/{name}")).unwrap();
    for text in ["All is well", "39 of ", "20261120_123000.v3bw"] {
        assert!(
            page("index.html").contains(text),
            "{text}: {}",
            page("index.html")
        );
    }
    let relay = page(&format!("relay/{}.html", "07".repeat(20)));
    assert!(relay.contains("place 32 of 39"), "{relay}");
    assert!(
        relay.contains("1,600,000 / 4,000,000.00 = 0.40000000"),
        "{relay}"
    );
    assert!(page("comparison.html").contains("latest.v3bw"));
    // Over itself, but over nothing else.
    let json: serde_json::Value = serde_json::from_str(&report(&["--json"])).unwrap();
    assert!(json["pages"].as_u64().unwrap() > 40, "{json}");
    let (code, text) = refusal(&[&["report", "-o", &data], &at[..]].concat());
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("holds no report"), "{text}");
    let missing = path("missing.v3bw");
    let (code, text) = refusal(&[&["report", "-o", &output, "--file", &missing], &at[..]].concat());
    assert_eq!(code, 5, "{text}");
    assert!(text.contains("missing.v3bw"), "{text}");
}
