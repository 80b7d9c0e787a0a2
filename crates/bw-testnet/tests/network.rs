//! Networks of real tor processes.
//!
//! These tests need `tor` and `tor-gencert` (`apt-get install tor`) and fail
//! with that advice if they are missing.
#![allow(clippy::unwrap_used, reason = "a test that fails should panic")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bw_file::{BytesPerSecond, FileDigest, VoteLines};
use bw_testnet::{
    ErrorKind, Event, Lifetime, Network, Plan, PlanBuilder, Prior, ProcessState, RelaySpec, Role,
};

const RATE: BytesPerSecond = BytesPerSecond::new(2_000_000);

/// One authority, one middle, one exit.
fn small() -> PlanBuilder {
    Plan::builder()
        .authorities(1)
        .relay(RelaySpec::middle("mid", RATE))
        .relay(RelaySpec::exit("out", RATE))
        .voting_interval(Duration::from_secs(10))
}

async fn up(builder: PlanBuilder) -> Network {
    let plan = builder.build().unwrap();
    Network::up(&plan, |_| ())
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

/// The tor processes whose configuration is in `directory`.
fn processes_of(directory: &Path) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc").unwrap();
    let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let marker = format!("{}/", directory.display());
    pids.filter(|pid: &u32| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(&marker)
    })
    .collect()
}

fn wait_until(patience: Duration, what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + patience;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[tokio::test]
async fn a_network_side_by_side_with_another() {
    let base = tempfile::tempdir().unwrap();
    let mut events = Vec::new();
    let plan = Plan::builder()
        .relay(RelaySpec::middle("relay01", RATE))
        .relay(RelaySpec::middle("relay02", BytesPerSecond::new(900_000)))
        .relay(RelaySpec::middle("liar", RATE).observed(BytesPerSecond::new(20_000_000)))
        .relay(RelaySpec::exit("exit01", RATE).burst(BytesPerSecond::new(3_000_000)))
        .prior(Prior::new(0.5, 1))
        .voting_interval(Duration::from_secs(10))
        .directory(base.path().join("a net"))
        .build()
        .unwrap();
    let (network, other) = tokio::join!(
        Network::up(&plan, |event| events.push(event)),
        up(small().directory(base.path().join("other"))),
    );
    let network = network.unwrap_or_else(|error| panic!("{error}"));

    // Progress was told, in order.
    assert_eq!(events[0], Event::Keys { done: 1, total: 7 });
    assert!(matches!(events.last(), Some(Event::Ready { .. })));

    // Another process sees it too, complete.
    let seen = Network::open(network.directory()).unwrap();
    let status = seen.status().await;
    assert!(status.ready, "{status:#?}");
    assert_eq!(status.nodes.len(), 7);
    for node in &status.nodes {
        assert_eq!(node.state, ProcessState::Running);
        let is_authority = node.record.role == Role::Authority;
        let has = |flag: &str| node.flags.iter().flatten().any(|own| own == flag);
        assert!(has("Running") && has("Valid"));
        assert_eq!(has("Exit"), node.record.role == Role::Exit);
        assert_eq!(has("Authority"), is_authority);
        // The weights are those of the prior, and not the true rates.
        assert_eq!(node.unmeasured, is_authority);
        if !is_authority {
            assert_eq!(node.weight, node.record.prior);
            assert_ne!(node.weight.unwrap().to_bytes(), node.record.rate);
        }
    }
    let addresses = seen.nodes().map(|node| node.record().address);
    let others = other.nodes().map(|node| node.record().address);
    let all: std::collections::BTreeSet<_> = addresses.chain(others).collect();
    assert_eq!(
        all.len(),
        7 + 3,
        "an address for each node of both networks"
    );

    capacities_and_descriptors(&network).await;
    parameters_and_a_busy_port(&network).await;

    // Taking one down leaves the other alone.
    let directory = other.directory().to_owned();
    other.down().await.unwrap();
    assert_eq!(processes_of(&directory), Vec::<u32>::new());
    assert!(!directory.exists());
    assert!(network.status().await.ready);

    a_bandwidth_file_becomes_weights(&network).await;
    faults(&network).await;

    let directory = network.directory().to_owned();
    assert_eq!(processes_of(&directory).len(), 7);
    drop(seen);
    // From "another process"; the owner's drop then finds nothing to do.
    Network::open(&directory).unwrap().down().await.unwrap();
    assert_eq!(processes_of(&directory), Vec::<u32>::new());
    drop(network);
    assert!(!directory.exists());
    let gone = Network::open(&directory).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NoNetwork);
}

async fn capacities_and_descriptors(network: &Network) {
    let table = std::fs::read(network.capacities_file()).unwrap();
    let table: Vec<bw_testnet::NodeRecord> = serde_json::from_slice(&table).unwrap();
    let config = std::fs::read_to_string(network.client_config_file()).unwrap();
    assert!(config.contains("client/cache"), "{config}");
    let liar = table.iter().find(|node| node.nickname == "liar").unwrap();
    assert_eq!(liar.rate, RATE);
    assert_eq!(liar.observed, Some(BytesPerSecond::new(20_000_000)));

    let authority = network.authorities().next().unwrap();
    let descriptors = authority.get("/tor/server/all").await.unwrap();
    let descriptors = String::from_utf8_lossy(&descriptors).into_owned();
    for expected in [
        "\nbandwidth 2000000 2000000 20000000\n", // liar
        "\nbandwidth 900000 900000 900000\n",     // relay02
        "\nbandwidth 2000000 3000000 2000000\n",  // exit01
    ] {
        assert!(
            descriptors.contains(expected),
            "{expected:?} in:\n{descriptors}"
        );
    }
    // Congestion control, as in the public network.
    let exits = descriptors.matches("FlowCtrl=1-2").count();
    assert_eq!(exits, 7);
}

async fn parameters_and_a_busy_port(network: &Network) {
    let consensus = network.consensus().await.unwrap();
    assert_eq!(consensus.params["cc_alg"], 2);
    assert_eq!(consensus.params["bwscanner_cc"], 1);

    let [_, a, b, _] = network.nodes().next().unwrap().record().address.octets();
    let taken = small().block(a, b).build().unwrap();
    let error = Network::up(&taken, |_| ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddressBusy);
    let address = format!("127.{a}.{b}.1:5000");
    assert!(error.to_string().contains(&address), "{error}");
}

async fn a_bandwidth_file_becomes_weights(network: &Network) {
    let before = network.consensus().await.unwrap();
    let exit = network.node("exit01").unwrap().record().fingerprint;
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let file = format!("{now}\nversion=1.4.0\nsoftware=check\n=====\nbw=4321 node_id=${exit}\n");
    network.install_bandwidth_file(file.as_bytes()).unwrap();

    let weight = |document: &bw_testnet::StatusDocument| document.relays[&exit].bandwidth;
    let shown = |document: &bw_testnet::StatusDocument| {
        weight(document).is_some_and(|weight| weight.value() == 4321)
    };
    let patience = Duration::from_secs(40);
    let after = network
        .wait_for_consensus(before.valid_after, patience, shown)
        .await
        .unwrap();
    assert!(!after.relays[&exit].unmeasured);

    for authority in network.authorities() {
        let vote = authority.vote().await.unwrap();
        assert!(vote.is_vote);
        assert_eq!(vote.relays[&exit].measured, weight(&after));
        let path = "/tor/status-vote/current/authority";
        let lines = VoteLines::parse(&authority.get(path).await.unwrap());
        let headers = String::from_utf8(lines.headers.unwrap()).unwrap();
        assert!(headers.contains(" software=check"), "{headers}");
        assert_eq!(lines.digest, Some(FileDigest::of(file.as_bytes())));
        assert_eq!(
            std::fs::read(authority.bandwidth_file()).unwrap(),
            file.as_bytes()
        );
    }
}

async fn faults(network: &Network) {
    let relay = network.node("relay01").unwrap();
    let first = relay.process().unwrap();
    relay.stop().await.unwrap();
    assert_eq!(relay.state(), ProcessState::Stopped);
    let status = network.status().await;
    assert!(!status.ready);
    let mut problems = status.problems();
    assert!(problems.any(|problem| problem == "relay01 is stopped"));
    relay.cont().await.unwrap();
    assert_eq!(relay.state(), ProcessState::Running);
    relay.kill().await.unwrap();
    assert_eq!(relay.state(), ProcessState::Gone);
    assert_eq!(relay.stop().await.unwrap_err().kind(), ErrorKind::NodeDied);
    relay.restart().await.unwrap();
    assert_eq!(relay.state(), ProcessState::Running);
    assert_ne!(relay.process(), Some(first));
    // The restart is known to others, so that they can stop it.
    let seen = Network::open(network.directory()).unwrap();
    assert_eq!(seen.node("relay01").unwrap().process(), relay.process());
    // A stopped process is taken down as well.
    network.node("relay02").unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn a_broken_torrc_gives_the_end_of_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("net");
    let plan = small()
        .relay(RelaySpec::middle("broken", RATE).torrc("NoSuchOption 1"))
        .directory(&home)
        .build()
        .unwrap();
    let error = Network::up(&plan, |_| ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NodeDied);
    assert_eq!(error.node(), Some("broken"));
    let text = error.to_string();
    assert!(text.contains("Unknown option 'NoSuchOption'"), "{text}");
    assert!(text.contains("exit status: 1"), "{text}");
    assert_eq!(processes_of(&home), Vec::<u32>::new());
    assert!(!home.exists());
}

#[tokio::test]
async fn a_network_that_does_not_come_up_names_the_node() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("net");
    let plan = small()
        .relay(RelaySpec::middle("hidden", RATE).torrc("PublishServerDescriptor 0"))
        .directory(&home)
        .timeout(Duration::from_secs(15))
        .keep_files(true)
        .build()
        .unwrap();
    let error = Network::up(&plan, |_| ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(error.node(), Some("hidden"));
    let text = error.to_string();
    assert!(text.contains("has not published its descriptor"), "{text}");
    assert!(text.contains("[notice]"), "{text}");
    assert_eq!(processes_of(&home), Vec::<u32>::new());
    // Files were to be kept, but they are no network.
    assert!(home.join("nodes/hidden/log").exists());
    assert_eq!(
        Network::open(&home).unwrap_err().kind(),
        ErrorKind::NoNetwork
    );
}

#[tokio::test]
async fn dropping_the_future_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("net");
    let plan = small().directory(&home).build().unwrap();
    let started = std::sync::Arc::new(tokio::sync::Notify::new());
    let (told, there) = (std::sync::Arc::clone(&started), home.clone());
    let coming_up = Network::up(&plan, move |event| {
        if matches!(event, Event::Started { .. }) {
            // The kernel shows a command line only a moment after the process began.
            wait_until(Duration::from_secs(5), "three processes", || {
                processes_of(&there).len() == 3
            });
            told.notify_one();
        }
    });
    tokio::select! {
        result = coming_up => panic!("too early: {result:?}"),
        () = started.notified() => {}
    }
    assert_eq!(processes_of(&home), Vec::<u32>::new());
    assert!(!home.exists());
}

/// Runs `helper` of this file in a process of its own.
fn in_another_process(lifetime: &str, directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper", "--ignored", "--nocapture"])
        .env("BW_TESTNET_HELPER", lifetime)
        .env("BW_TESTNET_DIRECTORY", directory)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
#[ignore = "not a test: what other tests run in a process of its own"]
async fn helper() {
    let Ok(lifetime) = std::env::var("BW_TESTNET_HELPER") else {
        return;
    };
    let directory = PathBuf::from(std::env::var("BW_TESTNET_DIRECTORY").unwrap());
    let detached = lifetime == "detached";
    let lifetime = if detached {
        Lifetime::Detached
    } else {
        Lifetime::Owned
    };
    let network = up(small().directory(&directory).lifetime(lifetime)).await;
    std::fs::write(directory.join("came-up"), "").unwrap();
    if !detached {
        std::future::pending::<()>().await;
    }
    drop(network);
}

/// tor looks for its owner every 15 s: an owned network ends by then, and a
/// detached one does not.
#[tokio::test]
async fn the_crash_of_the_parent_ends_owned_networks_only() {
    let base = tempfile::tempdir().unwrap();
    let (owned, detached) = (base.path().join("owned"), base.path().join("detached"));
    let mut owner = in_another_process("owned", &owned);
    let mut leaver = in_another_process("detached", &detached);
    let came_up = || owned.join("came-up").exists() && detached.join("came-up").exists();
    wait_until(Duration::from_secs(90), "both networks are up", came_up);
    assert!(leaver.wait().unwrap().success());
    let left = Instant::now();
    assert_eq!(processes_of(&owned).len(), 3);

    owner.kill().unwrap();
    owner.wait().unwrap();
    let gone = || processes_of(&owned).is_empty();
    wait_until(Duration::from_secs(30), "the owned network ends", gone);
    // What is left of it can be removed.
    let crashed = Network::open(&owned).unwrap();
    assert!(!crashed.status().await.ready);
    crashed.down().await.unwrap();
    assert!(!owned.join("network.json").exists());

    let looked_twice = Duration::from_secs(18).saturating_sub(left.elapsed());
    tokio::time::sleep(looked_twice).await;
    let survivor = Network::open(&detached).unwrap();
    let status = survivor.status().await;
    assert!(status.ready, "{status:#?}");
    survivor.down().await.unwrap();
    assert_eq!(processes_of(&detached), Vec::<u32>::new());
}
