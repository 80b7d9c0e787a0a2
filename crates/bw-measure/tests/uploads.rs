//! Uploads to web servers that are honest, slow, silent or lying: what counts is
//! what the server says that it has, never what was handed to a buffer.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod direct;

use std::future::pending;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bw_protocol::{ContentKey, Receipt, Receipts};
use bw_results::{Blame, Direction, Failure, FailureKind, Stage, StopReason, Transfer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const SIZE: u64 = 1 << 20;

fn key() -> ContentKey {
    ContentKey::new(&[1; 32]).unwrap()
}

async fn upload(address: SocketAddr, key: Option<ContentKey>) -> Result<Transfer, Failure> {
    direct::measure(address, Direction::Upload, key, SIZE).await
}

/// The cause of a failure, for programs.
fn cause(result: Result<Transfer, Failure>) -> (Stage, FailureKind, Blame) {
    let failure = result.unwrap_err();
    (failure.stage, failure.kind, failure.blame)
}

/// Runs `serve` with one connection.
async fn server<F>(serve: impl FnOnce(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream).await;
    });
    address
}

/// A server that has read the head and answered.
struct Answering {
    stream: TcpStream,
    receipts: Receipts,
    count: u64,
    begin: Instant,
}

impl Answering {
    async fn new(mut stream: TcpStream, key: Option<&ContentKey>) -> Self {
        let head = direct::request(&mut stream).await;
        let begin = Instant::now();
        assert!(head.text.starts_with("POST /file HTTP/1.1\r\n"));
        assert!(head.text.contains(&format!("content-length: {SIZE}\r\n")));
        let (name, value) = Receipts::HEADER;
        let answer =
            format!("HTTP/1.1 200 OK\r\n{name}: {value}\r\ntransfer-encoding: chunked\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
        let receipts = Receipts::new(key.zip(head.nonce.as_ref()));
        let mut server = Self {
            stream,
            receipts,
            count: 0,
            begin,
        };
        server.confirm(0).await;
        server
    }

    async fn read(&mut self, most: usize) -> Vec<u8> {
        let mut data = vec![0; most];
        let length = self.stream.read(&mut data).await.unwrap_or(0);
        data.truncate(length);
        self.count += length as u64;
        data
    }

    /// Says `text`, as a chunk.
    async fn say(&mut self, text: &str) {
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        let _ = self.stream.write_all(chunk.as_bytes()).await;
    }

    async fn confirm(&mut self, count: u64) {
        let receipt = Receipt::bytes(count, self.begin.elapsed());
        let line = self.receipts.line(receipt);
        self.say(&line).await;
    }

    async fn end(&mut self) {
        let _ = self.stream.write_all(b"0\r\n\r\n").await;
    }
}

/// Confirms all that comes, some 2.6 MB/s; what came is returned.
async fn honest(stream: TcpStream, key: Option<&ContentKey>) -> Vec<u8> {
    let mut server = Answering::new(stream, key).await;
    let mut tick = tokio::time::interval(Duration::from_millis(25));
    let mut all = Vec::new();
    while server.count < SIZE {
        tick.tick().await;
        let data = server.read(64 << 10).await;
        assert!(!data.is_empty(), "the scanner never closes its side first");
        all.extend(data);
        server.confirm(server.count).await;
    }
    server.end().await;
    all
}

#[tokio::test]
async fn what_is_confirmed_is_measured() {
    for key in [None, Some(key())] {
        let (sender, came) = tokio::sync::oneshot::channel();
        let shared = key.clone();
        let address = server(async move |stream| {
            let _ = sender.send(honest(stream, shared.as_ref()).await);
        })
        .await;
        let transfer = upload(address, key).await.unwrap();
        assert_eq!(transfer.stop, StopReason::Complete);
        assert_eq!(transfer.bytes(), SIZE);
        assert_eq!(came.await.unwrap().len() as u64, SIZE);
    }
}

#[tokio::test]
async fn a_slow_server_behind_a_fast_buffer_is_slow() {
    const RATE: u64 = 200_000;
    let slow = server(async |stream| {
        let mut server = Answering::new(stream, None).await;
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        while server.count < SIZE {
            tick.tick().await;
            server.read(RATE as usize / 20).await;
            server.confirm(server.count).await;
        }
    })
    .await;
    // Takes everything at once, however slowly it gets rid of it.
    let buffer = server(async move |stream| {
        let (mut from, mut to) = stream.into_split();
        let (mut answers, mut requests) = TcpStream::connect(slow).await.unwrap().into_split();
        let (sender, mut buffered) = tokio::sync::mpsc::unbounded_channel::<Vec<u8>>();
        tokio::spawn(async move { tokio::io::copy(&mut answers, &mut to).await });
        tokio::spawn(async move {
            while let Some(data) = buffered.recv().await {
                requests.write_all(&data).await.unwrap();
            }
        });
        let mut data = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from.read(&mut data).await {
            sender.send(data[..length].to_vec()).unwrap();
        }
    })
    .await;
    let transfer = upload(buffer, None).await.unwrap();
    let most = RATE as f64 * (transfer.duration().as_secs_f64() + 0.1);
    assert!(
        transfer.bytes() as f64 <= most,
        "{} bytes in {:?}",
        transfer.bytes(),
        transfer.duration()
    );
}

#[tokio::test]
async fn confirms_more_than_was_sent() {
    let address = server(async |stream| {
        let mut server = Answering::new(stream, None).await;
        server.read(1000).await;
        server.confirm(SIZE + 1).await;
        pending::<()>().await;
    })
    .await;
    let expected = (Stage::Transfer, FailureKind::Length, Blame::Path);
    assert_eq!(cause(upload(address, None).await), expected);
}

#[tokio::test]
async fn takes_back_what_it_confirmed() {
    let address = server(async |stream| {
        let mut server = Answering::new(stream, None).await;
        server.read(1000).await;
        server.confirm(2).await;
        server.confirm(1).await;
        pending::<()>().await;
    })
    .await;
    let expected = (Stage::Transfer, FailureKind::Length, Blame::Path);
    assert_eq!(cause(upload(address, None).await), expected);
}

#[tokio::test]
async fn an_exit_confirms_in_its_place() {
    // It can read and answer all, but has no key.
    let address = server(async |stream| {
        honest(stream, None).await;
        pending::<()>().await;
    })
    .await;
    let expected = (Stage::Content, FailureKind::Content, Blame::Path);
    assert_eq!(cause(upload(address, Some(key())).await), expected);
}

#[tokio::test]
async fn got_something_else() {
    let address = server(async |stream| {
        let key = key();
        let mut server = Answering::new(stream, Some(&key)).await;
        server.read(1000).await;
        let line = server.receipts.line(Receipt::Wrong);
        server.say(&line).await;
        pending::<()>().await;
    })
    .await;
    let expected = (Stage::Content, FailureKind::Content, Blame::Path);
    assert_eq!(cause(upload(address, Some(key())).await), expected);
}

#[tokio::test]
async fn stalls() {
    let address = server(async |stream| {
        let mut server = Answering::new(stream, None).await;
        while server.count < SIZE / 2 {
            server.read(64 << 10).await;
            server.confirm(server.count).await;
        }
        pending::<()>().await;
    })
    .await;
    let expected = (Stage::Transfer, FailureKind::Timeout, Blame::Path);
    assert_eq!(cause(upload(address, None).await), expected);
}

#[tokio::test]
async fn reads_but_confirms_nothing() {
    let address = server(async |stream| {
        let mut server = Answering::new(stream, None).await;
        while !server.read(64 << 10).await.is_empty() {}
    })
    .await;
    let expected = (Stage::Transfer, FailureKind::Timeout, Blame::Path);
    assert_eq!(cause(upload(address, None).await), expected);
}

#[tokio::test]
async fn closes_in_the_middle() {
    for ends_well in [false, true] {
        let address = server(async move |stream| {
            let mut server = Answering::new(stream, None).await;
            while server.count < SIZE / 2 {
                server.read(64 << 10).await;
                server.confirm(server.count).await;
            }
            if ends_well {
                server.end().await;
                pending::<()>().await;
            }
        })
        .await;
        let kind = if ends_well {
            FailureKind::Length
        } else {
            FailureKind::Closed
        };
        let expected = (Stage::Transfer, kind, Blame::Path);
        assert_eq!(cause(upload(address, None).await), expected);
    }
}

#[tokio::test]
async fn does_not_know_of_uploads() {
    for (head, kind) in [
        ("405 Method Not Allowed", FailureKind::Status),
        ("302 Found", FailureKind::Status),
        ("200 OK", FailureKind::Protocol),
    ] {
        let address = server(async move |mut stream| {
            direct::request(&mut stream).await;
            let head = format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).await;
            pending::<()>().await;
        })
        .await;
        let (stage, found, _) = cause(upload(address, None).await);
        assert_eq!((stage, found), (Stage::Http, kind), "{head}");
    }
}

#[tokio::test]
async fn answers_only_when_it_has_everything() {
    // Web servers that buffer what is posted: nothing could be measured.
    let address = server(async |mut stream| {
        direct::request(&mut stream).await;
        let mut data = vec![0; 64 << 10];
        while let Ok(1..) = stream.read(&mut data).await {}
        pending::<()>().await;
    })
    .await;
    let expected = (Stage::Http, FailureKind::Timeout, Blame::Path);
    assert_eq!(cause(upload(address, None).await), expected);
}
