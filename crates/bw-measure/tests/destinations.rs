//! Web servers that are down, slow, wrong or lying: each ends with a failure
//! at the right stage, never with a rate. Real sockets, no Tor.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::time::Duration;

use bw_measure::{Destination, LevelHalf, StageTimeouts, TransferOptions, download};
use bw_results::{FailureKind, Stage, StopReason, Transfer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const SIZE: u64 = 1 << 20;

/// Answers one connection with `head`, then `body` bytes; then it closes, or
/// stays silent.
async fn server(head: String, body: usize, then_closes: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 2048];
        let _ = stream.read(&mut request).await;
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(&vec![7; body]).await;
        if !then_closes {
            std::future::pending::<()>().await;
        }
    });
    address
}

fn partial(length: u64) -> String {
    format!(
        "HTTP/1.1 206 Partial Content\r\ncontent-length: {length}\r\n\
         content-range: bytes 0-{}/{SIZE}\r\n\r\n",
        SIZE - 1
    )
}

async fn fetch(address: SocketAddr) -> Result<Transfer, (Stage, FailureKind)> {
    let stream = TcpStream::connect(address).await.unwrap();
    let destination = Destination::new(&format!("http://{address}/file")).unwrap();
    let mut options = TransferOptions::default();
    options.max_bytes = SIZE;
    let mut timeouts = StageTimeouts::default();
    timeouts.response = Duration::from_millis(500);
    timeouts.stall = Duration::from_millis(500);
    let mut response = None;
    let mut estimator = LevelHalf::new(Duration::from_secs(1), Duration::from_secs(2));
    let result = download(
        stream,
        &destination,
        &options,
        &timeouts,
        &mut estimator,
        &mut response,
        &mut |_| {},
    )
    .await;
    result.map_err(|error| (error.stage, error.kind))
}

async fn failure(head: String, body: usize, then_closes: bool) -> (Stage, FailureKind) {
    fetch(server(head, body, then_closes).await)
        .await
        .unwrap_err()
}

#[tokio::test]
async fn what_was_asked_for_is_measured() {
    let transfer = fetch(server(partial(SIZE), SIZE as usize, true).await)
        .await
        .unwrap();
    assert_eq!(transfer.stop, StopReason::Complete);
    assert_eq!(transfer.bytes(), SIZE);
}

#[tokio::test]
async fn answers_404() {
    let head = "HTTP/1.1 404 Not Found\r\ncontent-length: 9\r\n\r\n".to_owned();
    assert_eq!(
        failure(head, 9, true).await,
        (Stage::Http, FailureKind::Status)
    );
}

#[tokio::test]
async fn redirects() {
    let head =
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n".to_owned();
    assert_eq!(
        failure(head, 0, true).await,
        (Stage::Http, FailureKind::Status)
    );
}

#[tokio::test]
async fn ignores_range() {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n");
    let failed = failure(head, SIZE as usize, true).await;
    assert_eq!(failed, (Stage::Http, FailureKind::Range));
}

#[tokio::test]
async fn lies_about_the_length_in_its_head() {
    let failed = failure(partial(SIZE / 2), SIZE as usize / 2, true).await;
    assert_eq!(failed, (Stage::Http, FailureKind::Length));
}

#[tokio::test]
async fn sends_less_than_it_announced() {
    let failed = failure(partial(SIZE), SIZE as usize / 2, true).await;
    assert_eq!(failed, (Stage::Transfer, FailureKind::Closed));
}

#[tokio::test]
async fn stops_in_the_middle() {
    let failed = failure(partial(SIZE), SIZE as usize / 2, false).await;
    assert_eq!(failed, (Stage::Transfer, FailureKind::Timeout));
}

#[tokio::test]
async fn never_answers() {
    let failed = failure(String::new(), 0, false).await;
    assert_eq!(failed, (Stage::Http, FailureKind::Timeout));
}

#[tokio::test]
async fn closes_without_an_answer() {
    let failed = failure(String::new(), 0, true).await;
    assert_eq!(failed, (Stage::Http, FailureKind::Closed));
}

#[tokio::test]
async fn speaks_no_http() {
    let failed = failure("SSH-2.0-OpenSSH_9.9\r\n\r\n".to_owned(), 0, false).await;
    assert_eq!(failed, (Stage::Http, FailureKind::Protocol));
}

#[tokio::test]
async fn sends_a_head_without_end() {
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\n{}",
        "x: y\r\n".repeat(100_000)
    );
    let (stage, _) = failure(head, 0, false).await;
    assert_eq!(stage, Stage::Http);
}

#[tokio::test]
async fn drips() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 2048];
        let _ = stream.read(&mut request).await;
        let _ = stream.write_all(partial(SIZE).as_bytes()).await;
        while stream.write_all(&[7; 10]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let failed = fetch(address).await.unwrap_err();
    assert_eq!(failed, (Stage::Transfer, FailureKind::TooShort));
}
