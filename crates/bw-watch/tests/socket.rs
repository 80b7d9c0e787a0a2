//! From a scan over its socket to one who watches.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use bw_measure::{Event, Observer};
use bw_results::testing;
use bw_watch::{Hub, Shared, attach};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixStream;

/// Waits until `holds` is true.
async fn wait_for(shared: &Shared, holds: impl Fn(&bw_watch::State, Option<&str>) -> bool) {
    let held = async {
        while !shared.look(&holds) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), held)
        .await
        .unwrap();
}

#[tokio::test]
async fn who_comes_late_sees_what_was_before_and_what_follows() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("watch.sock");
    let hub = Hub::new();
    hub.introduce("east", 1000);
    hub.observe(&Event::Started { targets: 7 });
    let listening = hub.listen(&socket).unwrap();

    let shared = Shared::default();
    let (path, watching) = (socket.clone(), shared.clone());
    tokio::spawn(async move { attach(&path, &watching).await });
    wait_for(&shared, |state, _| state.round.targets == 7).await;
    let outcome = testing::measured(1, 1_790_000_000);
    hub.observe(&Event::Attempt(outcome.attempt()));
    wait_for(&shared, |state, _| state.running.len() == 1).await;
    hub.observe(&Event::Control(&outcome));
    wait_for(&shared, |state, _| state.running.is_empty()).await;
    assert_eq!(shared.look(|state, _| state.scanner.clone()), "east");

    // A scanner that ends is waited for, and found again.
    drop(listening);
    wait_for(&shared, |_, lost| lost.is_some()).await;
    assert!(!socket.exists());
    hub.observe(&Event::Started { targets: 2 });
    let _listening = hub.listen(&socket).unwrap();
    wait_for(&shared, |state, lost| {
        lost.is_none() && state.round.targets == 9
    })
    .await;
}

#[tokio::test]
async fn a_socket_takes_sixteen_and_is_its_owners() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("watch.sock");
    let hub = Hub::new();
    let _listening = hub.listen(&socket).unwrap();
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut watchers = Vec::new();
    for _ in 0..16 {
        let mut reader = BufReader::new(UnixStream::connect(&socket).await.unwrap());
        let mut line = String::new();
        reader.read_line(&mut line).await.unwrap();
        assert!(line.contains("snapshot"), "{line}");
        watchers.push(reader);
    }
    let mut one_more = BufReader::new(UnixStream::connect(&socket).await.unwrap());
    let mut line = String::new();
    assert_eq!(one_more.read_line(&mut line).await.unwrap(), 0);
}
