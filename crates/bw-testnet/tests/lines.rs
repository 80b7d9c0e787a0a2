//! Relays of real tor processes that are far away and behind narrow lines.
#![allow(clippy::unwrap_used, reason = "a test that fails should panic")]

#[path = "server/mod.rs"]
mod server;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bw_file::BytesPerSecond;
use bw_testnet::{
    Lifetime, Limit, LineCommand, LoadPlan, Network, NodeRecord, Observed, Plan, ProcessState,
    RelaySpec, serve_lines,
};
use server::serve;

const FAST: BytesPerSecond = BytesPerSecond::new(4_000_000);
const SLOW: BytesPerSecond = BytesPerSecond::new(400_000);

/// The process of the lines, for the network that its last argument names.
#[tokio::test]
#[ignore = "no test: the process that another test starts"]
async fn process_of_the_lines() {
    let directory = std::env::args_os().next_back().map(PathBuf::from).unwrap();
    serve_lines(directory).await.unwrap();
}

fn line_command() -> LineCommand {
    let arguments = ["--ignored", "--exact", "process_of_the_lines"];
    LineCommand::new(std::env::current_exe().unwrap(), arguments)
}

/// The time that a relay takes to refuse other bytes than TLS, over its advertised port.
fn refusal_takes(node: &NodeRecord) -> Duration {
    let began = Instant::now();
    let mut stream = TcpStream::connect(node.or_address()).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    // tor closes the connection, or resets it.
    let _ = stream.read_to_end(&mut Vec::new());
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrow_line_is_the_rate_of_downloads() {
    let base = tempfile::tempdir().unwrap();
    let plan = Plan::builder()
        .authorities(1)
        .relay(RelaySpec::middle("mid1", FAST))
        .relay(RelaySpec::middle("mid2", FAST))
        .relay(RelaySpec::exit("out", SLOW).delay(Duration::from_millis(50)))
        .limit(Limit::Line)
        .delay(Duration::from_millis(10)..=Duration::from_millis(20), 3)
        .lifetime(Lifetime::Detached)
        .line_command(line_command())
        .directory(base.path().join("net"))
        .build()
        .unwrap();
    let network = Network::up(&plan, |_| ()).await.unwrap();
    // No node will miss its owner: all have read that they have none.
    for node in network.nodes() {
        let log = std::fs::read_to_string(node.log_file()).unwrap();
        let (_, since) = log.rsplit_once("Received reload signal").unwrap();
        assert!(since.contains("Read configuration file"), "{log}");
    }
    let status = network.status().await;
    assert!(status.ready, "{status:#?}");
    assert_eq!(status.lines, Some(ProcessState::Running));
    let record = |name| network.node(name).unwrap().record().clone();
    let (middle, exit) = (record("mid1"), record("out"));
    assert!((10..=20).contains(&middle.delay_ms) && exit.delay_ms == 50);
    assert_eq!((exit.limit, exit.rate), (Limit::Line, SLOW));
    // The descriptor has the true observed bandwidth, and no limit.
    let authority = network.authorities().next().unwrap();
    let descriptors = authority.get("/tor/server/all").await.unwrap();
    let descriptors = String::from_utf8_lossy(&descriptors).into_owned();
    let bandwidth = "\nbandwidth 1073741824 1073741824 400000\n";
    assert!(descriptors.contains(bandwidth), "{descriptors}");

    // The connection, then there and back: two round trips, of which a reset saves one way.
    let took = refusal_takes(&exit);
    assert!((150..1000).contains(&took.as_millis()), "{took:?}");

    // All downloads last longer than this test.
    let wanted = LoadPlan::new(serve().await).clients(1).share(1.0);
    let wanted = wanted.sizes(2_000_000..=3_000_000);
    let load = network.load(&wanted).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = load.totals();
    tokio::time::sleep(Duration::from_secs(6)).await;
    let after = load.stop().await;
    let rate = (after.bytes - before.bytes) as f64 / (after.seconds - before.seconds);
    println!("{rate} of {SLOW}");
    // Cells and TLS take some 7 % of the line, and so soon after the start
    // relays build and test circuits of their own.
    assert!((0.4..1.0).contains(&(rate / 400_000.0)), "{rate}");

    let directory = network.directory().to_owned();
    drop(network);
    let network = Network::open(&directory).unwrap();
    network.node("mid2").unwrap().kill().await.unwrap();
    let status = network.status().await;
    let problems: Vec<_> = status.problems().collect();
    assert!(!status.ready);
    assert!(problems[0].starts_with("mid2 has ended"), "{problems:?}");
    network.down().await.unwrap();
    assert!(!directory.exists());
    let refused = TcpStream::connect(exit.or_address());
    assert!(refused.is_err(), "the lines' process has ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owned_network_serves_its_lines_itself() {
    let plan = Plan::builder()
        .authorities(1)
        .relay(RelaySpec::middle("near", SLOW).delay(Duration::ZERO))
        .relay(RelaySpec::exit("far", SLOW))
        .limit(Limit::Relay)
        .observed(Observed::Live)
        .delay(Duration::from_millis(40)..=Duration::from_millis(40), 1)
        .build()
        .unwrap();
    let network = Network::up(&plan, |_| ()).await.unwrap();
    let status = network.status().await;
    assert!(status.ready && status.lines.is_none(), "{status:#?}");
    let far = network.node("far").unwrap().record().clone();
    let near = network.node("near").unwrap().record().clone();
    assert!(far.inner_port.is_some() && near.inner_port.is_none());
    let torrc = network.directory().join("nodes/near/torrc");
    let torrc = std::fs::read_to_string(torrc).unwrap();
    assert!(torrc.contains("\nRelayBandwidthRate 400000\n"), "{torrc}");
    assert!(!torrc.contains("\nBandwidthRate"), "{torrc}");
    let (there, here) = (refusal_takes(&far), refusal_takes(&near));
    assert!(there >= Duration::from_millis(120), "{there:?}");
    assert!(here < there, "{here:?}");
    drop(network);
    assert!(TcpStream::connect(far.or_address()).is_err());
}
