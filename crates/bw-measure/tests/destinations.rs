//! Web servers that are down, slow, wrong or lying: each ends with a failure
//! at the right stage, never with a rate. Real sockets, no Tor.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::time::Duration;

use bw_file::Fingerprint;
use bw_measure::{
    Assignment, Circuit, Circuits, Destination, HttpTransport, LevelHalf, Measurer, PathError,
    StageTimeouts, Tls, TwoHops, WallClock,
};
use bw_results::{
    FailureKind, Outcome, Position, Stage, StopReason, TargetFacts, Timings, Transfer, UnixMillis,
};
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

/// Straight to the server, without any relay.
struct Direct;

impl Circuits for Direct {
    type Circuit = Self;

    async fn build(
        &self,
        _: TwoHops,
        _: &StageTimeouts,
        _: &mut Timings,
    ) -> Result<Self, PathError> {
        Ok(Self)
    }
}

impl Circuit for Direct {
    type Stream = TcpStream;

    async fn connect(
        &self,
        host: &str,
        port: u16,
        _: &StageTimeouts,
    ) -> Result<TcpStream, PathError> {
        Ok(TcpStream::connect((host, port)).await.unwrap())
    }
}

async fn fetch(address: SocketAddr) -> Result<Transfer, (Stage, FailureKind)> {
    let destination = Destination::new(&format!("http://{address}/file")).unwrap();
    let mut transport = HttpTransport::new(Direct, Tls::with_public_roots().unwrap());
    transport.timeouts.response = Duration::from_millis(500);
    let estimator =
        |_: &TargetFacts| LevelHalf::new(Duration::from_secs(1), Duration::from_secs(2));
    let clock = WallClock::starting_at(UnixMillis::new(1));
    let mut measurer = Measurer::new(transport, estimator, clock);
    measurer.options.max_bytes = SIZE;
    measurer.options.stall = Duration::from_millis(500);
    let relay = |byte| Fingerprint::from_bytes([byte; 20]);
    let target = TargetFacts::new(relay(1));
    let assignment = Assignment::new(target, Position::Entry, vec![relay(2)], destination);
    match measurer.measure(&assignment, &mut (), &()).await {
        Outcome::Measured(mut measurement) => Ok(measurement.transfers.remove(0)),
        Outcome::Failed(failure) => Err((failure.stage, failure.kind)),
    }
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
