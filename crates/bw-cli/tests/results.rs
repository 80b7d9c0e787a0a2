//! From results to files with hostile and damaged input, on the command line:
//! one line, one record, one relay never stops or moves the file of all others.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod command;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bw_file::{Document, Ed25519Identity, Fingerprint};
use serde_json::{Value, json};

/// Honest relays.
const HONEST: u16 = 400;

/// The relays after them.
const HOSTILE: u16 = 12;

/// Half an hour after the last result, which is at 12:00.
const NOW: &str = "2026-11-20T12:30:00";

/// A directory with an sbws home and data directories.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Runs bwscan; returns its exit code, standard output and standard error.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = command::bwscan().args(arguments).output().unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }

    fn import(&self, data: &str) -> (i32, String, String) {
        let (home, data) = (self.text("sbws"), self.text(data));
        self.run(&["import", "sbws", &home, "--data-dir", &data])
    }

    fn generate(&self, data: &str, more: &[&str]) -> (i32, String, String) {
        let data = self.text(data);
        let arguments = ["generate", "--now", NOW, "--data-dir", &data];
        self.run(&[&arguments[..], more].concat())
    }

    fn latest(&self, data: &str) -> Vec<u8> {
        std::fs::read(self.path(data).join("v3bw/latest.v3bw")).unwrap()
    }
}

fn fingerprint(number: u16) -> Fingerprint {
    let mut bytes = [0x40; 20];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    Fingerprint::from_bytes(bytes)
}

/// Its 20 bytes in base64, as a consensus has them.
fn identity(number: u16) -> String {
    let mut bytes = [0; 32];
    bytes[..20].copy_from_slice(fingerprint(number).as_bytes());
    Ed25519Identity::from_bytes(bytes).to_string()[..27].to_owned()
}

/// The capacity of a relay: 200 kB/s to 4 MB/s.
fn capacity(number: u16) -> u64 {
    200_000 + u64::from(number) * 7_919 % 3_800_000
}

/// A result line of a relay, `round` times two hours before noon.
fn line(number: u16, round: u16) -> Value {
    let fingerprint = fingerprint(number).to_string();
    let amount = capacity(number) * u64::from(900 + (number * 31 + round * 57) % 200) / 1_000;
    json!({
        "version": 4, "type": "success",
        "time": 1_795_176_000.5 - f64::from(round) * 7_200.0 - f64::from(number),
        "fingerprint": fingerprint, "nickname": format!("r{number}"), "address": "192.0.2.7",
        "master_key_ed25519": null, "circ": [fingerprint, "B".repeat(40)],
        "dest_url": "https://bw.example/1GiB", "scanner": "old",
        "relay_in_recent_consensus": ["2026-11-20T11:00:00"], "rtts": null,
        "downloads": [{"duration": 5.0, "amount": 5 * amount}],
        "relay_average_bandwidth": 1 << 30, "relay_burst_bandwidth": 1 << 30,
        "relay_observed_bandwidth": capacity(number),
        "consensus_bandwidth": capacity(number) / 1_000 * 1_000,
        "consensus_bandwidth_is_unmeasured": false,
    })
}

/// The home of an sbws that has measured each relay three times today.
fn write_home(place: &Place) {
    write_home_of(place, HONEST + HOSTILE);
}

fn write_home_of(place: &Place, relays: u16) {
    let (mut lines, mut consensus, mut descriptors) = (String::new(), String::new(), String::new());
    consensus.push_str(
        "network-status-version 3\nvote-status consensus\nvalid-after 2026-11-20 12:00:00\n\
         fresh-until 2026-11-20 13:00:00\nvalid-until 2026-11-20 15:00:00\n",
    );
    for number in 0..relays {
        for round in 0..3 {
            writeln!(lines, "{}", line(number, round)).unwrap();
        }
        let (id, kilobytes) = (identity(number), capacity(number) / 1_000);
        writeln!(
            consensus,
            "r r{number} {id} {id} 2026-11-20 01:00:00 192.0.2.7 9001 0\n\
             s Fast Running Valid\nw Bandwidth={kilobytes}"
        )
        .unwrap();
        descriptors.push_str(&descriptor(
            number,
            &capacity(number).to_string(),
            "ordinary",
        ));
    }
    consensus.push_str("directory-footer\n");
    for directory in ["sbws/datadir", "sbws/tor"] {
        std::fs::create_dir_all(place.path(directory)).unwrap();
    }
    std::fs::write(place.path("sbws/datadir/2026-11-20.txt"), lines).unwrap();
    std::fs::write(place.path("sbws/tor/cached-consensus"), consensus).unwrap();
    std::fs::write(place.path("sbws/tor/cached-descriptors"), descriptors).unwrap();
}

fn descriptor(number: u16, observed: &str, contact: &str) -> String {
    format!(
        "router r{number} 192.0.2.7 9001 0 0\nmaster-key-ed25519 {}\n\
         bandwidth 1073741824 1073741824 {observed}\npublished 2026-11-20 05:00:00\n\
         fingerprint {}\ncontact {contact}\nrouter-signature\n",
        key(number),
        fingerprint(number)
    )
}

fn key(number: u16) -> Ed25519Identity {
    let mut bytes = [9; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    Ed25519Identity::from_bytes(bytes)
}

/// Adds everything that a relay, a web server, a clock or a broken disk may
/// bring into the home, all at once; of honest relays only results that are not theirs.
fn spoil(place: &Place) {
    let hostile = |index: u16| HONEST + index;
    let download = |duration: f64, amount: u64| json!([{"duration": duration, "amount": amount}]);
    let mut lines = Vec::new();
    let mut add = |number: u16, changes: Value| {
        let mut line = line(number, 7);
        let fields = line.as_object_mut().unwrap();
        fields.extend(changes.as_object().unwrap().clone());
        lines.push(line.to_string());
    };
    // Rates: of a 404, of nobody, of no time, sums that wrap.
    add(hostile(0), json!({"downloads": download(0.04, 1 << 30)}));
    add(
        hostile(1),
        json!({"downloads": download(1.0, 2_000_000_000)}),
    );
    add(hostile(3), json!({"downloads": download(0.0, 1 << 40)}));
    let wrap = json!({"duration": 1e-6, "amount": u64::MAX});
    add(hostile(4), json!({"downloads": [wrap, wrap, wrap]}));
    add(hostile(5), json!({"downloads": download(1e-300, u64::MAX)}));
    // Times.
    for time in [4_102_444_800.0, 3.1e11, 2.4e11, -1.0, 1e300] {
        add(hostile(6), json!({"time": time}));
    }
    // What a relay says of itself.
    for nickname in [
        "None",
        "unmeasured",
        "a bw=9",
        "x\nbw=9",
        "1234567890123456789",
    ] {
        add(hostile(7), json!({"nickname": nickname, "downloads": []}));
    }
    add(
        hostile(8),
        json!({"scanner": "\u{1b}]0;owned\u{7}", "address": "None", "downloads": []}),
    );
    add(
        hostile(8),
        json!({"relay_observed_bandwidth": u64::MAX, "relay_average_bandwidth": 0, "downloads": []}),
    );
    add(
        hostile(8),
        json!({"relay_observed_bandwidth": null, "circ": [], "downloads": []}),
    );
    add(
        hostile(9),
        json!({"type": "error-circ", "msg": "\u{1b}[2J".repeat(9)}),
    );
    // Nobody's.
    add(
        hostile(9),
        json!({"fingerprint": "E".repeat(40), "downloads": download(1.0, 2_000_000_000)}),
    );
    let doubled = line(hostile(10), 7).to_string();
    lines.push(doubled.replacen('{', "{\"downloads\": [], \"time\": 1, ", 1));
    lines.extend(["[]", "5", "null", "", "{\"version\":4,\"ti"].map(str::to_owned));
    let path = place.path("sbws/datadir/2026-11-20.txt");
    let text = std::fs::read_to_string(&path).unwrap() + &lines.join("\n");
    std::fs::write(path, text).unwrap();
    std::fs::write(place.path("sbws/datadir/2026-11-19.txt"), b"\xff\xfe\x00").unwrap();
    std::fs::write(place.path("sbws/datadir/2026-11-18.txt.gz"), b"\x1f\x8bno").unwrap();
    std::fs::write(place.path("sbws/state.dat"), "{\"scanner_st").unwrap();

    let path = place.path("sbws/tor/cached-consensus");
    let mut consensus = std::fs::read_to_string(&path).unwrap();
    for (index, nickname) in [(7, "None"), (8, "unmeasured")] {
        let number = hostile(index);
        consensus = consensus.replace(&format!("r r{number} "), &format!("r {nickname} "));
    }
    std::fs::write(path, consensus).unwrap();
    let path = place.path("sbws/tor/cached-descriptors");
    let mut descriptors = std::fs::read(&path).unwrap();
    for (index, observed) in [(10, "1000000000000000000"), (11, "99999999999999999999999")] {
        let text = descriptor(hostile(index), observed, "router-signature \u{7f} bw=1");
        descriptors.extend(text.replace(" 05:00:00", " 06:00:00").into_bytes());
    }
    descriptors.extend(b"contact \xff\xfe\nbandwidth x\nrouter cut");
    std::fs::write(path, descriptors).unwrap();
}

/// The weights of the honest relays.
fn honest_weights(file: &[u8]) -> BTreeMap<Fingerprint, u64> {
    let document = Document::parse(file);
    let weights = document.relays().filter_map(|line| {
        let relay = line.fingerprint()?;
        let number = u16::from_be_bytes([relay.as_bytes()[0], relay.as_bytes()[1]]);
        (number < HONEST && line.is_voted()).then_some((relay, line.bandwidth()?.value()))
    });
    weights.collect()
}

/// Weights by capacity have the sum of the consensus: those of hostile relays move it.
const TORFLOW: &[&str] = &["--scale", "torflow"];

#[test]
fn every_hostile_value_at_once_moves_no_honest_weight() {
    let place = Place::new();
    write_home(&place);
    let (code, _, text) = place.import("honest");
    assert_eq!((code, text.as_str()), (0, ""));
    let (code, _, text) = place.generate("honest", TORFLOW);
    assert_eq!((code, text.as_str()), (0, ""));
    let honest = honest_weights(&place.latest("honest"));
    assert_eq!(honest.len(), usize::from(HONEST));

    spoil(&place);
    let (code, _, text) = place.import("hostile");
    assert_eq!(code, 1, "{text}");
    for said in [
        "2026-11-20.txt:",
        "2026-11-18.txt.gz: ",
        "state.dat: ",
        "ahead of now",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    assert!(!text.contains('\u{1b}'), "{text}");
    // Beside the file of before, and for the first time.
    std::fs::create_dir(place.path("hostile/v3bw")).unwrap();
    std::fs::write(
        place.path("hostile/v3bw/latest.v3bw"),
        place.latest("honest"),
    )
    .unwrap();
    for run in 0..2 {
        let (code, _, text) = place.generate("hostile", TORFLOW);
        assert_eq!((code, text.as_str()), (0, ""), "{run}");
        let file = place.latest("hostile");
        assert_eq!(honest_weights(&file), honest);
        assert_eq!(
            file.split(|byte| *byte == b'\n').next().unwrap(),
            b"1795176000"
        );
        std::fs::remove_file(place.path("hostile/v3bw/latest.v3bw")).unwrap();
    }
    // A relay whose own rate falls to nothing moves the mean, and with it all
    // others by the same factor.
    let exact = |data: &str| {
        let (code, _, text) = place.generate(
            data,
            &[TORFLOW, &["--round-digits", "9", "--force"]].concat(),
        );
        assert_eq!((code, text.as_str()), (0, ""));
        honest_weights(&place.latest(data))
    };
    let before = exact("hostile");
    let mut drip = line(HONEST + 2, 8);
    drip["downloads"] = json!([{"duration": 2.4e11, "amount": 1}]);
    let path = place.path("sbws/datadir/2026-11-17.txt");
    std::fs::write(path, format!("{drip}\n")).unwrap();
    place.import("hostile");
    let after = exact("hostile");
    for (relay, &weight) in &before {
        // In whole kilobytes.
        let (weight, now) = (weight as f64, after[relay] as f64);
        assert!(
            (now - weight).abs() <= 1.0 + weight * 0.005,
            "{weight} {now}"
        );
    }
    // With the controller, too.
    std::fs::remove_file(place.path("hostile/v3bw/latest.v3bw")).unwrap();
    let (code, _, text) = place.generate("hostile", &["--scale", "torflow-pid"]);
    assert_eq!((code, text.as_str()), (0, ""));
    let (relay, data) = (fingerprint(HONEST).to_string(), place.text("hostile"));
    let (code, out, text) = place.run(&["explain", &relay, "--now", NOW, "--data-dir", &data]);
    assert_eq!(code, 0, "{text}");
    let said = "the most that is believed by its other measurements";
    assert!(out.contains(said), "{out}");
    let (code, list, _) = place.run(&["list", "--data-dir", &place.text("hostile")]);
    assert!(code == 0 && !list.contains('\u{1b}'), "{list}");
}

/// That `file check` has nothing to say of the latest file.
fn check(place: &Place, what: &str) {
    let file = place.text("data/v3bw/latest.v3bw");
    let (code, out, text) = place.run(&["file", "check", "--now", "1795177800", &file]);
    assert_eq!(code, 0, "{what}: {out}{text}");
    assert_eq!(
        out.matches(" 0 errors, 0 warnings").count(),
        3,
        "{what}: {out}"
    );
}

#[test]
fn what_bwscan_writes_gives_no_warning() {
    // So few that a twentieth of the whole is less than an equal share.
    for relays in [3, 13, HONEST] {
        let place = Place::new();
        write_home_of(&place, relays);
        place.import("data");
        for scale in [
            "torflow",
            "torflow-pid",
            "sbws",
            "linear",
            "raw",
            "capacity",
        ] {
            let (code, _, text) = place.generate("data", &["--scale", scale, "--force"]);
            assert_eq!(code, 0, "{text}");
            check(&place, scale);
        }
        let few = ["--min-measurements", "9", "--force"];
        assert_eq!(place.generate("data", &few).0, 1);
        check(&place, "nothing to vote with");
    }
}

#[test]
fn a_relay_that_left_the_consensus_keeps_the_state_of_the_controller() {
    let place = Place::new();
    write_home_of(&place, 30);
    place.import("data");
    let pid = ["--scale", "torflow-pid"];
    assert_eq!(place.generate("data", &pid).0, 0);
    let state = |file: &[u8]| {
        let document = Document::parse(file);
        let line = document
            .relays()
            .find(|line| line.fingerprint() == Some(fingerprint(4)));
        let line = line.unwrap();
        assert!(line.pid_bw().value().is_some());
        (
            line.bandwidth(),
            line.pid_bw().value(),
            line.pid_error().value(),
            line.is_voted(),
        )
    };
    let (weight, bw, error, voted) = state(&place.latest("data"));
    assert!(voted);
    let text = std::fs::read_to_string(place.path("sbws/tor/cached-consensus")).unwrap();
    let entry = text.find("r r4 ").unwrap()..text.find("r r5 ").unwrap();
    let consensus = place.text("consensus");
    std::fs::write(
        &consensus,
        text[..entry.start].to_owned() + &text[entry.end..],
    )
    .unwrap();
    let descriptors = place.text("sbws/tor/cached-descriptors");
    let without = ["--consensus", &consensus, "--descriptors", &descriptors];
    for _ in 0..2 {
        let (code, _, text) = place.generate("data", &[&pid[..], &without].concat());
        assert_eq!(code, 0, "{text}");
        assert_eq!(state(&place.latest("data")), (weight, bw, error, false));
        check(&place, "with a relay that is away");
    }
    assert_eq!(place.generate("data", &pid).0, 0);
    assert_eq!(state(&place.latest("data")), (weight, bw, error, true));
}

#[test]
fn lines_have_the_identities_of_cached_descriptors() {
    let place = Place::new();
    write_home_of(&place, 30);
    place.import("data");
    assert_eq!(place.generate("data", &[]).0, 0);
    let file = place.latest("data");
    for line in Document::parse(&file).relays() {
        let relay = line.fingerprint().unwrap();
        let number = u16::from_be_bytes([relay.as_bytes()[0], relay.as_bytes()[1]]);
        assert_eq!(line.identity(), Some(key(number)));
    }
}

#[test]
fn a_damaged_file_in_use_is_named_and_stops_nothing() {
    let place = Place::new();
    write_home(&place);
    place.import("data");
    assert_eq!(place.generate("data", &[]).0, 0);
    let whole = place.latest("data");
    let latest = place.path("data/v3bw/latest.v3bw");
    let half = &whole[..whole.len() / 2];
    for (damaged, said) in [
        (&b""[..], "no bandwidth file with relays"),
        (b"garbage\x00\xff", "no bandwidth file with relays"),
        (half, "cut off"),
    ] {
        std::fs::remove_file(&latest).unwrap();
        std::fs::write(&latest, damaged).unwrap();
        let (code, _, text) = place.generate("data", &[]);
        assert_eq!(code, 0, "{text}");
        assert!(text.contains("latest.v3bw: "), "{text}");
        assert!(
            text.contains(said) || text.contains("cannot be read"),
            "{text}"
        );
    }
    // One that was asked for must be one.
    let other = place.text("other.v3bw");
    std::fs::write(&other, "garbage").unwrap();
    let (code, _, text) = place.generate("data", &["--previous", &other]);
    assert_eq!(code, 2, "{text}");
    assert!(
        text.contains("--previous") && text.contains("other.v3bw"),
        "{text}"
    );
}

#[test]
fn steps_that_no_controller_writes_do_not_stop_the_file() {
    let place = Place::new();
    write_home(&place);
    place.import("data");
    let pid = ["--scale", "torflow-pid", "--param", "bwauthpid=1"];
    assert_eq!(place.generate("data", &pid).0, 0);
    let fresh = String::from_utf8(place.latest("data")).unwrap();
    // As if each relay had been measured before, with steps beyond any controller.
    let steps = ["nan", "inf", "-inf", "1e308", "-1e300", "7e9"];
    let mut spoiled = 0;
    let lines = fresh.lines().map(|line| {
        let pairs = line.split(' ').map(|pair| match pair.split_once('=') {
            Some(("measured_at" | "updated_at", _)) => {
                let key = pair.split('=').next().unwrap();
                format!("{key}=1795000000")
            }
            Some((key @ ("pid_error" | "pid_error_sum" | "pid_delta"), _)) => {
                spoiled += 1;
                format!("{key}={}", steps[spoiled % steps.len()])
            }
            _ => pair.to_owned(),
        });
        pairs.collect::<Vec<_>>().join(" ") + "\n"
    });
    let lines: String = lines.collect();
    assert!(spoiled > 1_000, "{spoiled}");
    let previous = place.text("previous.v3bw");
    std::fs::write(&previous, lines).unwrap();
    let more = [&pid[..], &["--previous", &previous]].concat();
    let (code, _, text) = place.generate("data", &more);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("pid_ values that no controller writes"),
        "{text}"
    );
    let file = String::from_utf8(place.latest("data")).unwrap();
    for key in ["pid_error", "pid_error_sum", "pid_delta", "pid_bw"] {
        let values = file.lines().filter_map(|line| {
            let value = line.split(&format!(" {key}=")).nth(1)?;
            value.split(' ').next()?.parse::<f64>().ok()
        });
        let values: Vec<_> = values.collect();
        assert!(values.len() > 300 && values.iter().all(|value| value.is_finite()));
    }
}

#[test]
fn errors_name_the_file() {
    let place = Place::new();
    write_home(&place);
    place.import("data");
    // Where the file should be is a directory.
    let output = place.path("taken");
    std::fs::create_dir_all(output.join("20261120_123000.v3bw/x")).unwrap();
    for compat in [&[][..], &["--compat", "sbws"]] {
        let more = [&["--output", output.to_str().unwrap()], compat].concat();
        let (code, _, text) = place.generate("data", &more);
        assert_eq!(code, 5, "{text}");
        assert!(text.contains("/taken"), "{text}");
    }
    let (home, data) = (place.text("sbws"), place.text("data"));
    let (code, _, text) = place.run(&["import", "jsonl", &home, "--data-dir", &data]);
    assert_eq!(code, 5, "{text}");
    assert!(text.contains(&home), "{text}");
}

#[test]
fn an_import_of_nothing_is_an_error_and_nothing_is_overwritten() {
    let place = Place::new();
    write_home(&place);
    let data = place.text("data");
    std::fs::create_dir(place.path("empty")).unwrap();
    let empty = place.text("empty");
    let (code, out, text) = place.run(&["import", "sbws", &empty, "--data-dir", &data]);
    assert_eq!(code, 2, "{out}{text}");
    assert!(text.contains(&empty) && text.contains("datadir"), "{text}");

    let (home, config) = (place.text("sbws"), place.text("bwscan.toml"));
    std::fs::write(place.path("sbws/sbws.ini"), "[scanner]\ncountry = DE\n").unwrap();
    let arguments = [
        "import",
        "sbws",
        &home,
        "--data-dir",
        &data,
        "--write-config",
        &config,
    ];
    let (code, out, text) = place.run(&arguments);
    assert_eq!(code, 0, "{text}");
    assert!(out.contains(&format!("wrote {config}")), "{out}");
    std::fs::write(&config, "mine").unwrap();
    let (code, _, text) = place.run(&arguments);
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("bwscan.toml exists already"), "{text}");
    assert_eq!(std::fs::read(&config).unwrap(), b"mine");
    let ini = place.text("sbws/sbws.ini");
    let arguments = [
        "import",
        "sbws",
        &home,
        "--data-dir",
        &data,
        "--sbws-config",
        &ini,
    ];
    assert_eq!(place.run(&arguments).0, 2, "without effect");
}

#[test]
fn an_sbws_is_taken_over_as_often_as_one_likes() {
    let place = Place::new();
    write_home(&place);
    let (home, data) = (place.text("sbws"), place.text("data"));
    let (theirs, ours) = (place.text("sbws.ini"), place.text("bwscan.toml"));
    let ini = format!(
        "[paths]\nsbws_home = {home}\n[scanner]\ncountry = DE\nnickname = here\n\
         [destinations]\na = on\n[destinations.a]\nurl = https://a.example/1GiB\nverify = False\n"
    );
    std::fs::write(&theirs, ini).unwrap();
    let mine = "# Mine.\n[scan]\nlink_rate = \"1Gbit\"\n\n[generate]\nscanner_country = \"FR\"\n";
    std::fs::write(&ours, mine).unwrap();
    let migrate = |more: &[&str]| {
        let arguments = ["migrate-from-sbws", "--data-dir", &data, "--config", &ours];
        let arguments = [&arguments[..], &["--sbws-config", &theirs], more].concat();
        place.run(&arguments)
    };

    let (code, out, text) = migrate(&["--dry-run"]);
    assert_eq!(code, 0, "{text}");
    assert!(out.contains("would be added to"), "{out}");
    assert_eq!(std::fs::read_to_string(&ours).unwrap(), mine);
    assert!(!place.path("data").exists());

    let (code, out, text) = migrate(&[]);
    assert_eq!(code, 0, "{text}");
    for line in [
        "  [scan] scanner = \"here\"",
        "  [generate] scanner_country = \"DE\" (it is \"FR\")",
    ] {
        assert!(out.lines().any(|found| found == line), "{line}: {out}");
    }
    assert!(
        out.contains("verify = False: certificates are always"),
        "{out}"
    );
    assert!(out.contains("0 known already"), "{out}");
    let files = format!("{home}/v3bw/latest.v3bw {data}/v3bw/latest.v3bw");
    assert!(out.contains(&files), "{out}");
    let merged = std::fs::read_to_string(&ours).unwrap();
    assert!(merged.starts_with("# Mine.\n[scan]\n"), "{merged}");
    assert!(merged.contains("\nlink_rate = \"1Gbit\"\n"), "{merged}");
    assert!(
        merged.contains("\ndestination = [\"https://a.example/1GiB\"]\n"),
        "{merged}"
    );
    assert_eq!(place.generate("data", &[]).0, 0);

    let (code, out, _) = migrate(&[]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("0 outcomes added"), "{out}");
    assert_eq!(std::fs::read_to_string(&ours).unwrap(), merged);

    let missing = place.text("none.ini");
    let (code, _, text) = place.run(&["migrate-from-sbws", "--sbws-config", &missing]);
    assert_eq!(code, 2, "{text}");
    assert!(
        text.contains(&missing) && text.contains("--sbws-config"),
        "{text}"
    );
}

#[test]
fn options_without_effect_are_errors() {
    let place = Place::new();
    write_home(&place);
    place.import("data");
    for more in [
        &["--quota", "5000"][..],
        &["--scale-constant", "5000"],
        &["--param", "bwauthkp=5000"],
        &["--scale", "raw", "--max-share", "0.1"],
        &["--scale", "sbws", "--round-digits", "3"],
        &["--compat", "sbws", "--scale", "raw", "--max-share", "0.1"],
        &["--max-share", "0"],
        &["--min-percent", "30"],
        &["--compat", "sbws", "--days", "3"],
        &["--compat", "sbws", "--min-share", "30%"],
        &["--compat", "sbws", "--previous", "x.v3bw"],
        &["--compat", "sbws", "--max-facts-age", "2d"],
        &["--compat", "sbws", "--force"],
        &["--compat", "sbws", "--max-age", "2d"],
        &["--compat", "sbws", "--sbws-home", "x", "--store", "y"],
    ] {
        let (code, _, text) = place.generate("data", more);
        assert_eq!(code, 2, "{more:?}: {text}");
        assert!(more.iter().any(|option| text.contains(option)), "{text}");
    }
}

/// Adds a completed scan of these relays to the store.
fn add_scan(store: &Path, number: u8, relays: &[u16], chosen: bool) {
    use bw_results::*;
    use bw_store::Store;
    let mut store = Store::open(store).unwrap();
    let (snapshot, network) = store.latest_snapshot().unwrap().unwrap();
    let started = UnixMillis::from_secs(1_795_177_000 + u64::from(number));
    let mut parameters = ScanParameters::new(vec!["https://bw.example/".to_owned()]);
    let targets: Vec<_> = relays.iter().map(|&number| fingerprint(number)).collect();
    if chosen {
        parameters.relays.clone_from(&targets);
    }
    let scan = Scan::new(
        ScanId::from_bytes([number; 16]),
        "here".to_owned(),
        started,
        parameters,
    );
    store.begin_scan(&scan, &targets, snapshot).unwrap();
    for target in &targets {
        let facts = network.relay(target).unwrap();
        let attempt = Attempt::new(TargetFacts::from(facts), Position::Entry, started);
        let slice = Slice::new(std::time::Duration::from_secs(1), 900_000);
        let transfer = Transfer::new(vec![slice], 0, StopReason::Complete);
        let timings = Timings::default();
        let measurement = Measurement::new(attempt, started, timings, vec![transfer]);
        let outcome = Outcome::Measured(measurement);
        store
            .record(&scan.id, &outcome, &Verdict::Accepted, true)
            .unwrap();
    }
    store.finish_scan(&scan.id, started).unwrap();
}

#[test]
fn scans_of_chosen_relays_are_marked_and_not_the_latest() {
    let place = Place::new();
    write_home(&place);
    std::fs::remove_dir_all(place.path("sbws/datadir")).unwrap();
    std::fs::create_dir(place.path("sbws/datadir")).unwrap();
    assert_eq!(place.import("data").0, 0);
    let (store, data) = (place.path("data/results.sqlite"), place.text("data"));
    let aggregate = |more: &[&str]| {
        let arguments = ["aggregate", "--format", "csv", "--data-dir", &data];
        let (code, out, text) = place.run(&[&arguments[..], more].concat());
        (code, out.lines().count().saturating_sub(1), text)
    };
    add_scan(&store, 1, &[5], true);
    let (code, _, text) = aggregate(&[]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("--partial"), "{text}");
    add_scan(&store, 2, &[1, 2, 3], false);
    add_scan(&store, 3, &[7], true);
    assert_eq!(aggregate(&[]), (0, 3, String::new()));
    assert_eq!(aggregate(&["--partial"]), (0, 1, String::new()));
    let (_, list, _) = place.run(&["list", "--data-dir", &data]);
    assert_eq!(list.matches("1 relay").count(), 2, "{list}");
    assert_eq!(list.matches("1/1").count(), 1, "{list}");
}

#[test]
fn compatible_files_as_sbws_makes_them_of_damaged_and_future_things() {
    let place = Place::new();
    write_home(&place);
    let home = place.text("sbws");
    let compat = |version: &str, from: &[&str]| {
        let version = format!("sbws={version}");
        let output = place.text("compat");
        let more = ["--compat", &version, "--output", &output];
        let (code, _, text) = place.generate("data", &[&more[..], from].concat());
        let file = std::fs::read_to_string(place.path("compat/latest.v3bw"));
        (code, text, file.unwrap_or_default())
    };
    let from_home = ["--sbws-home", &home];
    std::fs::write(place.path("sbws/state.dat"), "").unwrap();
    // sbws 2.2.0 goes on without, older ones do not.
    let (code, text, file) = compat("2.2.0", &from_home);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("state.dat"), "{text}");
    assert_eq!(compat("1.9.0", &from_home).0, 5);
    std::fs::remove_file(place.path("sbws/state.dat")).unwrap();
    assert_eq!(compat("2.2.0", &from_home).2, file);

    // Of the descriptors of a relay the last counts, though it is older.
    let path = place.path("sbws/tor/cached-descriptors");
    let mut text = std::fs::read_to_string(&path).unwrap();
    let older = descriptor(3, "1234", "x").replace(" 05:00:00", " 04:00:00");
    text.push_str(&older);
    std::fs::write(&path, text).unwrap();
    let (_, _, file) = compat("2.2.0", &from_home);
    assert!(file.contains(" desc_bw_obs_last=1234 "), "{file}");

    // A result of tomorrow is in a file that sbws does not look at.
    place.import("data");
    let before = compat("1.9.0", &[]).2;
    let mut tomorrow = line(3, 0);
    tomorrow["time"] = 1_795_219_200.5_f64.into();
    let path = place.path("sbws/datadir/2026-11-21.txt");
    std::fs::write(path, format!("{tomorrow}\n")).unwrap();
    place.import("data");
    assert_eq!(compat("1.9.0", &[]).2, before);
    assert_eq!(
        compat("1.9.0", &from_home).2.lines().next(),
        before.lines().next()
    );
}
