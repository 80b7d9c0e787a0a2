//! Client traffic on a network of real tor processes.
#![allow(clippy::unwrap_used, reason = "a test that fails should panic")]

#[path = "server/mod.rs"]
mod server;

use std::path::Path;
use std::time::Duration;

use bw_file::BytesPerSecond;
use bw_testnet::{ErrorKind, LoadPlan, Network, Node, Plan, Prior, ProcessState, RelaySpec};
use server::serve;

/// The tor processes whose configuration is in `directory`.
fn processes_of(directory: &Path) -> usize {
    let marker = format!("{}/", directory.display());
    let entries = std::fs::read_dir("/proc").unwrap();
    let commands =
        entries.filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok());
    commands
        .filter(|command| String::from_utf8_lossy(command).contains(&marker))
        .count()
}

/// Bytes that the network's nodes wrote over TLS: tor sends to the destinations
/// in another way, which the kernel does not count here.
fn written(network: &Network) -> u64 {
    let written = |node: Node<'_>| {
        let pid = node.process().unwrap().pid();
        let counters = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
        let line = counters
            .lines()
            .find_map(|line| line.strip_prefix("wchar: "));
        line.unwrap().parse::<u64>().unwrap()
    };
    network.nodes().map(written).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_take_their_share_and_go() {
    let rate = |kilobytes: u64| BytesPerSecond::new(kilobytes * 1000);
    let plan = Plan::builder()
        .relay(RelaySpec::middle("relay1", rate(1000)))
        .relay(RelaySpec::middle("relay2", rate(1500)))
        .relay(RelaySpec::exit("exit1", rate(1000)))
        .relay(RelaySpec::exit("exit2", rate(1500)))
        .prior(Prior::new(0.0, 1))
        .build()
        .unwrap();
    let network = Network::up(&plan, |_| {}).await.unwrap();
    let patience = Duration::from_secs(180);
    network.wait_for_self_tests(patience).await.unwrap();
    let directory = network.directory().to_owned();
    let clients = directory.join("load");
    let url = serve().await;

    // A file that is not there is told at once, and leaves nothing behind.
    let wrong = LoadPlan::new(url.replace("file", "other")).clients(1);
    let error = network.load(&wrong).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Http, "{error}");
    assert!(error.to_string().contains("404"), "{error}");
    assert_eq!(processes_of(&clients), 0);

    let wanted = LoadPlan::new(&url).clients(2).sizes(20_000..=1_000_000);
    let load = network.load(&wanted).await.unwrap();
    assert_eq!(processes_of(&clients), 2);
    let before = written(&network);
    tokio::time::sleep(Duration::from_secs(10)).await;
    load.check().unwrap();
    let totals = load.stop().await;
    println!("{totals:?}");
    assert_eq!(processes_of(&clients), 0);
    assert_eq!(std::fs::read_dir(&clients).unwrap().count(), 0);
    // A busy machine may carry less, but nothing makes clients take more.
    assert!((0.1..0.7).contains(&totals.share), "{totals:?}");
    assert!(totals.downloads > 5, "{totals:?}");
    assert_eq!(totals.rate, totals.bytes as f64 / totals.seconds);
    let capacity = 5_000_000.0;
    assert!((totals.share * capacity / totals.rate - 3.0).abs() < 1e-6);
    // Every byte was carried by three relays, with what tor adds to it.
    let carried = (written(&network) - before) as f64 / totals.bytes as f64;
    println!("{carried} bytes carried for each");
    // Nearly 4 was seen, which is more than headers explain.
    assert!((2.9..5.0).contains(&carried), "{carried}");
    assert!(
        network
            .nodes()
            .all(|node| node.state() == ProcessState::Running)
    );

    // Another process that takes the network down takes its clients along.
    let load = network.load(&wanted).await.unwrap();
    assert_eq!(processes_of(&directory), 3 + 4 + 2);
    Network::open(&directory).unwrap().down().await.unwrap();
    assert_eq!(processes_of(&directory), 0);
    assert_eq!(load.check().unwrap_err().kind(), ErrorKind::NoNetwork);
    drop((load, network));
    assert!(!directory.exists());
}
