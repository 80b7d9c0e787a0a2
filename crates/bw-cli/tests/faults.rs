//! Faults of everything that a scan depends on, on a private network of real
//! tor processes: relays, the consensus, the destination, the scanner itself.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::print_stdout,
    reason = "a test that fails should tell its seed"
)]

mod bench;
mod faulty;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant, SystemTime};

use bw_file::BytesPerSecond;
use bw_store::Filter;
use bw_testnet::{Network, Plan, Prior, RelaySpec};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use serde_json::Value;

use bench::{Bench, Kill, outcomes, send, store, text};
use faulty::{FaultyServer, Mode};

/// Relays and exits of the network.
const RELAYS: u64 = 8;
/// Whatever has to happen happens by then, or the test fails.
const PATIENCE: Duration = Duration::from_secs(120);
/// The number of times that the scanner is killed.
const KILLS: usize = 30;
/// Short measurements, one at a time so that a fault finds relays that wait.
const SHORT: [&str; 6] = ["--circuits", "1", "--min-time", "500ms", "--max-time", "2s"];
/// Faults are noticed within seconds.
const IMPATIENT: [&str; 4] = ["--step-timeout", "5s", "--stall-timeout", "2s"];
/// The number of times that a part may meet a machine too busy to build a circuit.
const HICCUPS: usize = 2;

/// The event of a line: "failed" only if something went wrong. A measurement that did
/// not satisfy is not a fault, and it is made again.
fn sort(event: &Value) -> &str {
    match event["event"].as_str().unwrap() {
        "measured" if event["settled"] == false => "again",
        other => other,
    }
}

/// Returns true if honest relays did not build a circuit, as happens on a busy machine: it
/// takes too long, or tor refuses it because too many handshakes wait (`MaxOnionQueueDelay`).
/// The scan tries again and gives nothing up for it.
fn is_hiccup(event: &Value) -> bool {
    let stage = event["stage"].as_str().unwrap();
    (event["kind"] == "timeout" || event["kind"] == "refused")
        && ["channel", "create", "extend"].contains(&stage)
        && event["settled"] == false
}

/// A `bwscan scan --json` that runs.
struct Running {
    process: Kill,
    lines: Receiver<Value>,
    /// The events so far.
    events: Vec<Value>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .arg("--json")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        Self {
            process: Kill(child),
            lines,
            events: Vec::new(),
        }
    }

    /// Waits until the scan has told `count` further events of this sort.
    fn wait_for(&mut self, wanted: &str, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = 0;
        while seen < count {
            match self.lines.recv_timeout(deadline - Instant::now()) {
                Ok(event) => {
                    seen += usize::from(sort(&event) == wanted);
                    self.events.push(event);
                }
                Err(why) => panic!("{why}: {count} events {wanted:?} in {:#?}", self.events),
            }
        }
    }

    /// Waits until it ends, which it must do with success.
    fn finish(mut self) -> Told {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline - Instant::now()) {
                Ok(event) => self.events.push(event),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("no end: {:#?}", self.events),
            }
        }
        let status = self.process.0.wait().unwrap();
        let told = Told(self.events);
        assert!(status.success(), "{status}: {:#?}", told.0);
        told
    }
}

/// The events of a scan.
struct Told(Vec<Value>);

impl Told {
    fn of<'a>(&'a self, wanted: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |event| sort(event) == wanted)
    }

    /// The changes that the scan told, in order.
    fn changes(&self) -> Vec<&str> {
        let names = self.of("changed").map(|event| &event["change"]);
        names.filter_map(Value::as_str).collect()
    }

    /// The nicknames of relays measured, each once.
    fn measured(&self) -> BTreeSet<&str> {
        let mut names = BTreeSet::new();
        for event in self.of("measured") {
            let name = event["nickname"].as_str().unwrap();
            assert!(names.insert(name), "{name} twice: {:#?}", self.0);
        }
        names
    }

    /// Failures that ended a relay's round, by nickname.
    fn given_up(&self) -> BTreeMap<&str, &Value> {
        let settled = self.of("failed").filter(|event| event["settled"] == true);
        settled
            .map(|event| (event["nickname"].as_str().unwrap(), event))
            .collect()
    }
}

/// A network for one test, with what scans need.
async fn bring_up() -> (Network, Bench) {
    let rate = |kilobytes: u64| BytesPerSecond::new(kilobytes * 1000);
    let plan = Plan::builder()
        .relay(RelaySpec::middle("relay1", rate(500)))
        .relay(RelaySpec::middle("relay2", rate(700)))
        .relay(RelaySpec::middle("relay3", rate(900)))
        .relay(RelaySpec::middle("relay4", rate(1200)))
        .relay(RelaySpec::exit("exit1", rate(600)))
        .relay(RelaySpec::exit("exit2", rate(900)))
        .relay(RelaySpec::exit("exit3", rate(1300)))
        .relay(RelaySpec::exit("exit4", rate(2000)))
        .prior(Prior::new(0.0, 1))
        // tor's shortest: a client takes a new consensus some 20 s later.
        .voting_interval(Duration::from_secs(10))
        .build()
        .unwrap();
    let network = Network::up(&plan, |_| {}).await.unwrap();
    let bench = tokio::task::block_in_place(|| Bench::new(&network));
    (network, bench)
}

/// Runs `part` against a server that can fail.
async fn with_faulty_server(part: impl FnOnce(&Bench, &FaultyServer)) {
    let (network, bench) = bring_up().await;
    let server = FaultyServer::start(&bench.url).await;
    tokio::task::block_in_place(|| part(&bench, &server));
    network.down().await.unwrap();
}

/// No relay is given up for a destination that does not work for some seconds,
/// and every failure says what it can have been.
fn assert_only_the_destination_failed(told: &Told, bench: &Bench, data: &str) {
    assert_eq!(told.measured().len() as u64, RELAYS, "{:#?}", told.0);
    assert!(told.given_up().is_empty(), "{:#?}", told.0);
    let (hiccups, failures): (Vec<_>, Vec<_>) =
        told.of("failed").partition(|event| is_hiccup(event));
    assert!(hiccups.len() <= HICCUPS, "{hiccups:#?}");
    for event in failures {
        // A tor exit often answers END with reason MISC when a connection is
        // refused, which does not tell whose fault it is.
        let blame = event["blame"].as_str().unwrap();
        assert!(["destination", "path"].contains(&blame), "{event:#}");
        let stage = event["stage"].as_str().unwrap();
        assert!(["begin", "http", "transfer"].contains(&stage), "{event:#}");
    }
    let listed = &bench.list(data)[0];
    assert_eq!(listed["state"], "completed");
    assert_eq!(listed["measured"], RELAYS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_dies_and_stalls() {
    with_faulty_server(|bench, server| {
        let arguments = [&SHORT[..], &IMPATIENT].concat();
        let mut scan = Running::start(bench.scan("dying", &server.url, &arguments));
        scan.wait_for("measured", 1);
        server.set(Mode::Dead);
        scan.wait_for("changed", 1);
        server.set(Mode::Works);
        scan.wait_for("changed", 1);
        scan.wait_for("measured", 1);
        server.set(Mode::Stalls);
        scan.wait_for("failed", 3);
        server.set(Mode::Works);
        let told = scan.finish();
        assert_eq!(told.changes()[..2], ["nothing_works", "works_again"]);
        assert_only_the_destination_failed(&told, bench, "dying");
        assert!(
            told.of("failed")
                .any(|event| event["kind"] == "stalled" || event["kind"] == "timeout"),
            "{:#?}",
            told.0
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_lies() {
    with_faulty_server(|bench, server| {
        let arguments = [&SHORT[..], &IMPATIENT].concat();
        let mut scan = Running::start(bench.scan("lying", &server.url, &arguments));
        for lie in faulty::LIES {
            scan.wait_for("measured", 1);
            server.set(Mode::Lies(lie));
            scan.wait_for("failed", 2);
            server.set(Mode::Works);
        }
        let told = scan.finish();
        assert_only_the_destination_failed(&told, bench, "lying");
        let blamed = told
            .of("failed")
            .filter(|event| event["blame"] == "destination");
        assert!(blamed.count() >= 2, "{:#?}", told.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_destinations_dies() {
    with_faulty_server(|bench, server| {
        let both = ["--destination", &bench.url];
        let arguments = [&SHORT[..], &IMPATIENT, &both].concat();
        let mut scan = Running::start(bench.scan("two", &server.url, &arguments));
        scan.wait_for("measured", 1);
        server.set(Mode::Dead);
        // It stays dead: the rest is measured against the other.
        let told = scan.finish();
        server.set(Mode::Works);
        assert_eq!(told.changes(), ["destination_down"]);
        assert_only_the_destination_failed(&told, bench, "two");
        // The one that works is blamed for nothing.
        let blamed = told
            .of("failed")
            .filter(|event| event["blame"] == "destination");
        for event in blamed {
            assert_eq!(event["destination"], server.url.as_str(), "{event:#}");
        }
    })
    .await;
}

/// Killed at any instant, the scanner loses nothing that it has recorded, and
/// goes on where it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_scanner_that_is_killed() {
    let (network, bench) = bring_up().await;
    tokio::task::block_in_place(|| {
        resume_a_scan(&bench);
        kill_a_scanner(&bench);
    });
    network.down().await.unwrap();
}

/// The scan that goes on says what was done before, and its sums are of both parts.
fn resume_a_scan(bench: &Bench) {
    let mut scan = Running::start(bench.scan("resumed", &bench.url, &SHORT));
    scan.wait_for("measured", 2);
    drop(scan);
    let done = outcomes(&bench.data("resumed"));
    let rest = bench.scan("resumed", &bench.url, &SHORT).output().unwrap();
    let text = text(&rest);
    assert!(rest.status.success(), "{text}");
    let said = format!(" of {RELAYS} relays are done");
    assert!(
        text.contains("resuming scan ") && text.contains(&said),
        "{done}: {text}"
    );
    let sum = format!("{RELAYS} relays measured, 0 failed, 0 left; ");
    assert!(text.contains(&sum), "{done}: {text}");
}

fn kill_a_scanner(bench: &Bench) {
    let seed: u64 = rand::random();
    println!("kills with seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let data = bench.data("killed");
    let mut arguments = SHORT;
    arguments[1] = "2";
    let mut known = 0;
    let mut killed = 0;
    let mut measuring = 0;
    while killed < KILLS {
        let mut scan = Running::start(bench.scan("killed", &bench.url, &arguments));
        // Some at the beginning, most while it measures. The first line says that it does.
        let begun = rng.random_bool(0.8) && scan.lines.recv_timeout(PATIENCE).is_ok();
        std::thread::sleep(Duration::from_millis(rng.random_range(0..1500)));
        match scan.process.0.try_wait().unwrap() {
            Some(status) => assert!(status.success(), "{status}, seed {seed}"),
            None => {
                killed += 1;
                measuring += usize::from(begun);
            }
        }
        drop(scan);
        let now = outcomes(&data);
        assert!(now >= known, "{known}, then {now} outcomes, seed {seed}");
        known = now;
    }
    let end = bench.scan("killed", &bench.url, &SHORT).output().unwrap();
    assert!(end.status.success(), "{}", text(&end));
    let rounds = bench.list("killed");
    let rounds = rounds.as_array().unwrap();
    println!(
        "{killed} kills in {} rounds, {measuring} of them after the round had begun",
        rounds.len()
    );
    assert!(measuring > KILLS / 2);
    for round in rounds {
        assert_eq!(round["state"], "completed", "{round:#}, seed {seed}");
        assert_eq!(round["targets"], RELAYS, "{round:#}, seed {seed}");
        assert_eq!(round["measured"], RELAYS, "{round:#}, seed {seed}");
    }
    // All of it can be read.
    let mut records = 0;
    let store = store(&data).unwrap();
    let read = store.for_each_outcome(&Filter::all(), |_| {
        records += 1;
        ControlFlow::<()>::Continue(())
    });
    assert!(read.unwrap().is_continue());
    assert_eq!(records, outcomes(&data), "seed {seed}");
    // Each relay is measured by one record: none was settled twice in a round. With two circuits
    // helpers may bound a rate.
    let verdicts = rounds.iter().map(|round| &round["verdicts"]);
    let measured: u64 = verdicts
        .flat_map(|verdicts| [&verdicts["accepted"], &verdicts["lower_bound"]])
        .filter_map(Value::as_u64)
        .sum();
    assert_eq!(measured, RELAYS * rounds.len() as u64, "seed {seed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_that_die_stop_and_restart() {
    let (network, bench) = bring_up().await;
    let (dead, stopped, restarted) = ("relay1", "relay2", "relay3");
    let arguments = [&SHORT[..], &IMPATIENT].concat();
    let mut scan = Running::start(bench.scan("relays", &bench.url, &arguments));
    // Exits come first: these three wait still.
    tokio::task::block_in_place(|| scan.wait_for("measured", 1));
    network.node(dead).unwrap().kill().await.unwrap();
    network.node(stopped).unwrap().stop().await.unwrap();
    network.node(restarted).unwrap().restart().await.unwrap();
    let told = tokio::task::block_in_place(|| scan.finish());
    let given_up = told.given_up();
    let expected = BTreeSet::from([dead, stopped]);
    assert_eq!(given_up.keys().copied().collect::<BTreeSet<_>>(), expected);
    assert_eq!(told.measured().len() as u64, RELAYS - 2, "{:#?}", told.0);
    let record = |name| network.node(name).unwrap().record().fingerprint.to_string();
    let faulty = [dead, stopped, restarted].map(record);
    let takes_part = |event: &Value, relay: &String| {
        let helpers = event["helpers"].as_array().unwrap();
        event["fingerprint"] == **relay || helpers.contains(&Value::from(relay.as_str()))
    };
    let (failures, honest): (Vec<_>, Vec<_>) = told
        .of("failed")
        .partition(|event| faulty.iter().any(|relay| takes_part(event, relay)));
    assert!(
        honest.len() <= HICCUPS && honest.iter().all(|event| is_hiccup(event)),
        "{honest:#?}"
    );
    for event in failures {
        // Nothing that a destination does.
        let stage = event["stage"].as_str().unwrap();
        assert!(
            ["channel", "create", "extend", "begin", "http", "transfer"].contains(&stage),
            "{event:#}"
        );
        let own = faulty.iter().any(|relay| event["fingerprint"] == **relay);
        let blames: &[&str] = if own {
            &["target", "path"]
        } else {
            &["helper", "path"]
        };
        assert!(
            blames.contains(&event["blame"].as_str().unwrap()),
            "{event:#}"
        );
    }
    network.node(dead).unwrap().restart().await.unwrap();
    network.node(stopped).unwrap().cont().await.unwrap();
    network.down().await.unwrap();
}

/// A relay drops out and another gets a weight of its own in the middle.
#[tokio::test(flavor = "multi_thread")]
async fn a_consensus_that_changes() {
    let (network, bench) = bring_up().await;
    let gone = network.node("relay1").unwrap().record();
    let kept = network.node("relay2").unwrap().record();
    let long = [
        "--circuits",
        "1",
        "--sample-time",
        "20s",
        "--min-time",
        "6s",
        "--max-time",
        "7s",
    ];
    let mut scan = Running::start(bench.scan("consensus", &bench.url, &long));
    tokio::task::block_in_place(|| scan.wait_for("measured", 1));
    for authority in network.authorities() {
        let list = authority.data_directory().join("approved-routers");
        std::fs::write(list, format!("!reject {}\n", gone.fingerprint)).unwrap();
        send(authority.process().unwrap().pid(), Signal::HUP);
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let file = format!(
        "{}\nversion=1.4.0\n=====\nbw=4321 node_id=${}\n",
        now.unwrap().as_secs(),
        kept.fingerprint
    );
    network.install_bandwidth_file(file.as_bytes()).unwrap();
    let changed = |document: &bw_testnet::StatusDocument| {
        !document.relays.contains_key(&gone.fingerprint)
            && document.relays[&kept.fingerprint]
                .bandwidth
                .is_some_and(|weight| weight.value() == 4321)
    };
    network
        .wait_for_consensus(SystemTime::UNIX_EPOCH, Duration::from_secs(40), changed)
        .await
        .unwrap();
    let told = tokio::task::block_in_place(|| scan.finish());
    assert_eq!(told.measured().len() as u64, RELAYS - 1, "{:#?}", told.0);
    let given_up = told.of("failed").filter(|event| event["settled"] == true);
    let given_up: Vec<_> = given_up.collect();
    assert_eq!(given_up.len(), 1, "{:#?}", told.0);
    assert_eq!(given_up[0]["fingerprint"], gone.fingerprint.to_string());
    assert_eq!(given_up[0]["kind"], "unknown_relay", "{:#?}", told.0);
    assert_eq!(given_up[0]["blame"], "target");
    // Every consensus that it was measured in is kept with the scan.
    let store = store(&bench.data("consensus")).unwrap();
    let scan = store.scans().unwrap().remove(0).scan;
    let linked = store.snapshots_of(&scan.id).unwrap();
    assert!(linked.len() >= 2, "{linked:#?}");
    network.down().await.unwrap();
}
