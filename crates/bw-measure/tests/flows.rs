//! The two phases of a flow, and what it hands out: streams in memory, no network.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Mutex;

use bw_file::Fingerprint;
use bw_measure::{
    Circuit, Circuits, Destination, Fault, Flow, HttpFlow, HttpTransport, Order, PathError,
    StageTimeouts, Tls, Transport, TwoHops,
};
use bw_results::{FailureKind, Stage, Timings};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

const SIZE: u64 = 1 << 20;

/// A single stream whose other end is the test's.
struct Scripted(Mutex<Option<DuplexStream>>);

impl Circuits for Scripted {
    type Circuit = Self;

    async fn build(
        &self,
        _: TwoHops,
        _: &StageTimeouts,
        _: &mut Timings,
    ) -> Result<Self, PathError> {
        Ok(Self(Mutex::new(self.0.lock().unwrap().take())))
    }
}

impl Circuit for Scripted {
    type Stream = DuplexStream;

    async fn connect(&self, _: &str, _: u16, _: &StageTimeouts) -> Result<DuplexStream, PathError> {
        Ok(self.0.lock().unwrap().take().unwrap())
    }
}

/// A flow that is open, and the server's end of its stream.
async fn open() -> (HttpFlow<Scripted>, DuplexStream) {
    let (ours, theirs) = duplex(64 << 10);
    let circuits = Scripted(Mutex::new(Some(ours)));
    let transport = HttpTransport::new(circuits, Tls::with_public_roots().unwrap());
    let relay = |byte| Fingerprint::from_bytes([byte; 20]);
    let path = TwoHops {
        entry: relay(1),
        exit: relay(2),
    };
    let destination = Destination::new("http://server/file").unwrap();
    let order = Order::download(&destination, SIZE);
    let flow = transport
        .open(path, &order, &mut Timings::default())
        .await
        .unwrap();
    (flow, theirs)
}

fn head() -> String {
    let last = SIZE - 1;
    format!(
        "HTTP/1.1 206 Partial Content\r\ncontent-length: {SIZE}\r\n\
         content-range: bytes 0-{last}/{SIZE}\r\n\r\n"
    )
}

/// Reads a request; then sends `size` bytes as the whole file.
async fn serve(mut stream: DuplexStream, size: u64) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.unwrap());
    }
    stream.write_all(head().as_bytes()).await.unwrap();
    stream.write_all(&vec![7; size as usize]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_for_before_it_begins() {
    let (mut flow, mut server) = open().await;
    let silence = tokio::time::timeout(std::time::Duration::from_secs(60), server.read_u8());
    assert!(silence.await.is_err(), "a request went out");
    assert_eq!(flow.take(u64::MAX), 0);
    assert_eq!(flow.ready().await.unwrap_err().fault, Fault::Scanner);

    tokio::spawn(serve(server, SIZE));
    let mut timings = Timings::default();
    flow.begin(&mut timings).await.unwrap();
    assert!(timings.response.is_some() && flow.ready().await.unwrap());
    assert_eq!(
        flow.begin(&mut timings).await.unwrap_err().fault,
        Fault::Scanner,
        "once"
    );
}

#[tokio::test(start_paused = true)]
async fn no_more_is_handed_out_than_is_allowed_and_nothing_is_lost() {
    let (mut flow, server) = open().await;
    let sent = tokio::spawn(serve(server, SIZE));
    flow.begin(&mut Timings::default()).await.unwrap();
    let (mut sum, mut most) = (0, 0);
    while flow.ready().await.unwrap() {
        assert_eq!(flow.take(0), 0);
        // Being ready hands out nothing, however often it is asked for.
        assert!(flow.ready().await.unwrap());
        most = most % 700 + 1;
        let taken = flow.take(most);
        assert!((1..=most).contains(&taken), "{taken} of {most}");
        sum += taken;
    }
    sent.await.unwrap();
    assert_eq!(sum, SIZE);
    assert_eq!(flow.take(u64::MAX), 0);
}

#[tokio::test(start_paused = true)]
async fn who_is_not_ready_loses_nothing_by_being_dropped() {
    let (mut flow, mut server) = open().await;
    let begun = tokio::spawn(async move {
        flow.begin(&mut Timings::default()).await.unwrap();
        flow
    });
    let mut request = [0; 4096];
    assert!(server.read(&mut request).await.unwrap() > 0);
    server.write_all(head().as_bytes()).await.unwrap();
    let mut flow = begun.await.unwrap();
    let short = std::time::Duration::from_millis(1);
    for _ in 0..3 {
        assert!(tokio::time::timeout(short, flow.ready()).await.is_err());
    }
    server.write_all(&[7; 100]).await.unwrap();
    assert!(flow.ready().await.unwrap());
    assert_eq!(flow.take(u64::MAX), 100);
}

#[tokio::test(start_paused = true)]
async fn what_comes_before_the_request_is_a_fault_of_the_path() {
    let (mut flow, mut server) = open().await;
    server.write_all(head().as_bytes()).await.unwrap();
    let early = flow.begin(&mut Timings::default()).await.unwrap_err();
    assert_eq!(
        (early.stage, early.kind, early.fault),
        (Stage::Http, FailureKind::Protocol, Fault::Either)
    );

    let (mut flow, server) = open().await;
    drop(server);
    let closed = flow.begin(&mut Timings::default()).await.unwrap_err();
    assert_eq!(closed.kind, FailureKind::Closed);
}
