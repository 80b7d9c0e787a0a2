//! Web servers that are down, slow, wrong or lying: each ends with a failure
//! at the right stage, never with a rate. Real sockets, no Tor.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod direct;

use std::net::SocketAddr;
use std::time::Duration;

use bw_protocol::{Content, ContentKey, Nonce, RATE_HEADER};
use bw_results::{Blame, Direction, FailureKind, Stage, StopReason, Transfer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

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
    direct::measure(address, Direction::Download, None, SIZE)
        .await
        .map_err(|failure| (failure.stage, failure.kind))
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

fn key(secret: u8) -> ContentKey {
    ContentKey::new(&[secret; 32]).unwrap()
}

/// Answers one request for content with that of `secret`, one bit wrong at
/// `wrong`, after `headers`.
async fn keyed_server(secret: u8, wrong: Option<usize>, headers: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = direct::request(&mut stream).await;
        assert!(head.text.contains("\r\nrange: bytes=0-"), "{}", head.text);
        let nonce = head.nonce.unwrap();
        let mut body = vec![0; SIZE as usize];
        key(secret)
            .content(&nonce, Direction::Download)
            .fill(&mut body);
        if let Some(at) = wrong {
            body[at] ^= 1;
        }
        let head = partial(SIZE);
        let head = head.trim_end();
        let _ = stream
            .write_all(format!("{head}\r\n{headers}\r\n").as_bytes())
            .await;
        let _ = stream.write_all(&body).await;
        std::future::pending::<()>().await;
    });
    address
}

fn content_header() -> String {
    let (name, value) = Content::HEADER;
    format!("{name}: {value}\r\n")
}

async fn fetch_keyed(address: SocketAddr) -> Result<Transfer, (Stage, FailureKind, Blame)> {
    direct::measure(address, Direction::Download, Some(key(1)), SIZE)
        .await
        .map_err(|failure| (failure.stage, failure.kind, failure.blame))
}

#[tokio::test]
async fn content_of_our_server_is_measured() {
    let address = keyed_server(1, None, content_header()).await;
    let transfer = fetch_keyed(address).await.unwrap();
    assert_eq!(transfer.stop, StopReason::Complete);
    assert_eq!(transfer.bytes(), SIZE);
}

#[tokio::test]
async fn sends_one_wrong_bit_at_the_end() {
    let address = keyed_server(1, Some(SIZE as usize - 1), content_header()).await;
    let failed = fetch_keyed(address).await.unwrap_err();
    // Over plain HTTP it may be the exit.
    let expected = (Stage::Content, FailureKind::Content, Blame::Path);
    assert_eq!(failed, expected);
}

#[tokio::test]
async fn has_another_key() {
    let address = keyed_server(2, None, content_header()).await;
    let failed = fetch_keyed(address).await.unwrap_err();
    let expected = (Stage::Content, FailureKind::Content, Blame::Path);
    assert_eq!(failed, expected);
}

#[tokio::test]
async fn replays_what_it_sent_before() {
    // An exit's cache: right for another nonce.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        direct::request(&mut stream).await;
        let mut body = vec![0; SIZE as usize];
        let old = Nonce::from_bytes([3; 16]);
        key(1).content(&old, Direction::Download).fill(&mut body);
        let head = partial(SIZE);
        let head = head.trim_end();
        let _ = stream
            .write_all(format!("{head}\r\n{}\r\n", content_header()).as_bytes())
            .await;
        let _ = stream.write_all(&body).await;
        std::future::pending::<()>().await;
    });
    let (stage, kind, _) = fetch_keyed(address).await.unwrap_err();
    assert_eq!((stage, kind), (Stage::Content, FailureKind::Content));
}

#[tokio::test]
async fn does_not_know_of_keys() {
    let address = keyed_server(1, None, String::new()).await;
    let failure = direct::measure(address, Direction::Download, Some(key(1)), SIZE)
        .await
        .unwrap_err();
    assert_eq!(
        (failure.stage, failure.kind, failure.blame),
        (Stage::Http, FailureKind::Protocol, Blame::Path)
    );
    assert!(failure.detail.contains("key"), "{}", failure.detail);
}

#[tokio::test]
async fn is_overloaded() {
    let head = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";
    let address = server(head.to_owned(), 0, true).await;
    let failure = direct::measure(address, Direction::Download, None, SIZE)
        .await
        .unwrap_err();
    assert_eq!(
        (failure.stage, failure.kind, failure.blame),
        (Stage::Http, FailureKind::Status, Blame::Destination)
    );
    assert!(failure.detail.contains("503"), "{}", failure.detail);
}

#[tokio::test]
async fn throttles_and_says_so() {
    const RATE: u64 = 200_000;
    let (listener, limit) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), RATE);
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        direct::request(&mut stream).await;
        let head = format!(
            "{}\r\n{RATE_HEADER}: {limit}\r\n\r\n",
            partial(SIZE).trim_end()
        );
        let _ = stream.write_all(head.as_bytes()).await;
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        let piece = vec![7; limit as usize / 50];
        while stream.write_all(&piece).await.is_ok() {
            tick.tick().await;
        }
    });
    let transfer = direct::measure(address, Direction::Download, None, SIZE)
        .await
        .unwrap();
    assert_eq!(transfer.bound, Some(Blame::Destination));
    let rate = transfer.rate().unwrap();
    assert!((rate / RATE as f64 - 1.0).abs() < 0.2, "{rate}");
}
