//! The two phases of a flow, and what it hands out: streams in memory, no network.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Mutex;
use std::time::Duration;

use bw_file::Fingerprint;
use bw_measure::{
    Circuit, Circuits, Destination, Fault, Flow, HttpFlow, HttpTransport, Order, PathError,
    StageTimeouts, Tls, Transport, TwoHops,
};
use bw_protocol::{Receipt, Receipts};
use bw_results::{Direction, FailureKind, Stage, Timings};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, sleep, sleep_until, timeout};

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
    open_with(Direction::Download, SIZE, 64 << 10).await
}

/// The same for `size` bytes, with a stream in which `queue` bytes can wait each way.
async fn open_with(
    direction: Direction,
    size: u64,
    queue: usize,
) -> (HttpFlow<Scripted>, DuplexStream) {
    let (ours, theirs) = duplex(queue);
    let circuits = Scripted(Mutex::new(Some(ours)));
    let transport = HttpTransport::new(circuits, Tls::with_public_roots().unwrap());
    let relay = |byte| Fingerprint::from_bytes([byte; 20]);
    let path = TwoHops {
        entry: relay(1),
        exit: relay(2),
    };
    let destination = Destination::new("http://server/file").unwrap();
    let mut order = Order::download(&destination, size);
    order.direction = direction;
    let flow = transport
        .open(path, &order, &mut Timings::default())
        .await
        .unwrap();
    (flow, theirs)
}

/// The head of an answer with `size` bytes.
fn head(size: u64) -> String {
    let last = size - 1;
    format!(
        "HTTP/1.1 206 Partial Content\r\ncontent-length: {size}\r\n\
         content-range: bytes 0-{last}/{size}\r\n\r\n"
    )
}

/// Reads a request; then sends `size` bytes as the whole file.
async fn serve(mut stream: DuplexStream, size: u64) -> DuplexStream {
    request(&mut stream).await;
    stream.write_all(head(size).as_bytes()).await.unwrap();
    stream.write_all(&vec![7; size as usize]).await.unwrap();
    stream
}

async fn request(stream: &mut DuplexStream) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_for_before_it_begins() {
    let (mut flow, mut server) = open().await;
    let silence = timeout(Duration::from_secs(60), server.read_u8());
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
    server.write_all(head(SIZE).as_bytes()).await.unwrap();
    let mut flow = begun.await.unwrap();
    let short = Duration::from_millis(1);
    for _ in 0..3 {
        assert!(timeout(short, flow.ready()).await.is_err());
    }
    server.write_all(&[7; 100]).await.unwrap();
    assert!(flow.ready().await.unwrap());
    assert_eq!(flow.take(u64::MAX), 100);
}

#[tokio::test(start_paused = true)]
async fn what_comes_before_the_request_is_a_fault_of_the_path() {
    let (mut flow, mut server) = open().await;
    server.write_all(head(SIZE).as_bytes()).await.unwrap();
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

#[tokio::test(start_paused = true)]
async fn a_flow_that_was_held_back_is_evidence_once_its_queue_ran_dry() {
    let (mut flow, mut server) = open_with(Direction::Download, 2 * SIZE, 2 << 20).await;
    let sent = tokio::spawn(async move {
        request(&mut server).await;
        server.write_all(head(2 * SIZE).as_bytes()).await.unwrap();
        server.write_all(&vec![7; SIZE as usize]).await.unwrap();
        server
    });
    flow.begin(&mut Timings::default()).await.unwrap();
    assert!(flow.ready().await.unwrap());
    let _server = sent.await.unwrap();
    sleep(Duration::from_secs(5)).await;
    flow.ran_dry();
    let mut left = SIZE;
    while left > 200_000 {
        assert!(flow.ready().await.unwrap());
        left -= flow.take(100_000);
        assert!(!flow.ran_dry(), "{left} bytes wait");
    }
    while let Ok(ready) = timeout(Duration::from_secs(1), flow.ready()).await {
        assert!(ready.unwrap());
        left -= flow.take(u64::MAX);
    }
    assert!(flow.ran_dry() && left == 0);
    assert!(!flow.ran_dry(), "it was asked just now");
}

#[tokio::test(start_paused = true)]
async fn who_sends_although_nobody_reads_is_cut_off() {
    const FLOOD: u64 = 64 << 20;
    // An exit that does not heed that it should pause: all is in our memory.
    let (mut flow, server) = open_with(Direction::Download, FLOOD, 65 << 20).await;
    let sent = tokio::spawn(serve(server, FLOOD));
    flow.begin(&mut Timings::default()).await.unwrap();
    let _server = sent.await.unwrap();
    sleep(Duration::from_secs(20)).await;
    let mut taken = 0;
    let error = loop {
        match flow.ready().await {
            Ok(_) => taken += flow.take(u64::MAX),
            Err(error) => break error,
        }
        assert!(taken <= 17 << 20, "{taken} bytes from a queue");
    };
    assert_eq!(
        (error.stage, error.kind, error.fault),
        (Stage::Transfer, FailureKind::Protocol, Fault::Either)
    );

    // The same bytes as they come, or read bit by bit, are nobody's fault.
    for slow_server in [true, false] {
        let (mut flow, mut server) = open_with(Direction::Download, FLOOD, 1 << 20).await;
        tokio::spawn(async move {
            request(&mut server).await;
            server.write_all(head(FLOOD).as_bytes()).await.unwrap();
            for _ in 0..FLOOD >> 18 {
                server.write_all(&vec![7; 1 << 18]).await.unwrap();
                if slow_server {
                    sleep(Duration::from_millis(1)).await;
                }
            }
        });
        flow.begin(&mut Timings::default()).await.unwrap();
        let mut sum = 0;
        while flow.ready().await.unwrap() {
            if !slow_server {
                sleep(Duration::from_millis(20)).await;
            }
            sum += flow.take(u64::MAX);
        }
        assert_eq!(sum, FLOOD);
    }
}

/// Bytes confirmed in each tenth of a second if an exit lets a server's receipts pass only
/// at whole multiples of `hold`. The server gets 100,000 bytes per second.
async fn confirmed(hold: Duration) -> Vec<u64> {
    const PIECE: usize = 2_500;
    let (mut flow, mut server) = open_with(Direction::Upload, 1 << 30, 64 << 10).await;
    let (lines, mut passed) = tokio::sync::mpsc::unbounded_channel::<String>();
    let task = tokio::spawn(async move {
        request(&mut server).await;
        let begin = Instant::now();
        let (name, value) = Receipts::HEADER;
        let head =
            format!("HTTP/1.1 200 OK\r\n{name}: {value}\r\ntransfer-encoding: chunked\r\n\r\n");
        server.write_all(head.as_bytes()).await.unwrap();
        let (mut upload, mut answer) = tokio::io::split(server);
        tokio::spawn(async move {
            while let Some(line) = passed.recv().await {
                let millis = begin.elapsed().as_millis() as u64;
                let next = millis.next_multiple_of(hold.as_millis() as u64);
                sleep_until(begin + Duration::from_millis(next)).await;
                let chunk = format!("{:x}\r\n{line}\r\n", line.len());
                answer.write_all(chunk.as_bytes()).await.unwrap();
            }
        });
        let (receipts, mut piece) = (Receipts::new(None), vec![0; PIECE]);
        for number in 0_u64.. {
            let receipt = Receipt::bytes(number * PIECE as u64, begin.elapsed());
            lines.send(receipts.line(receipt)).unwrap();
            sleep(Duration::from_millis(25)).await;
            upload.read_exact(&mut piece).await.unwrap();
        }
    });
    flow.begin(&mut Timings::default()).await.unwrap();
    let (begin, mut tenths) = (Instant::now(), Vec::new());
    for tenth in 1..=400 {
        let (end, mut sum) = (begin + Duration::from_millis(100 * tenth), 0);
        let all = async {
            while flow.ready().await.unwrap() {
                sum += flow.take(u64::MAX);
            }
        };
        assert!(
            timeout(end - Instant::now(), all).await.is_err(),
            "it ended"
        );
        tenths.push(sum);
    }
    task.abort();
    tenths
}

#[tokio::test(start_paused = true)]
async fn receipts_that_are_held_back_raise_no_rate() {
    for millis in [1, 300, 2_000, 9_000, 19_000] {
        let tenths = confirmed(Duration::from_millis(millis)).await;
        let most = tenths
            .windows(10)
            .map(|second| second.iter().sum::<u64>())
            .max()
            .unwrap();
        assert!(most <= 110_000, "{most} B/s if held back for {millis} ms");
        if millis <= 2_000 {
            let all: u64 = tenths.iter().sum();
            assert!(all >= 3_700_000, "{all} bytes in 40 s, {millis} ms");
        }
    }
}

/// Circuits that take 40 s.
struct Slow;

impl Circuits for Slow {
    type Circuit = Self;

    async fn build(
        &self,
        _: TwoHops,
        _: &StageTimeouts,
        _: &mut Timings,
    ) -> Result<Self, PathError> {
        sleep(Duration::from_secs(40)).await;
        Ok(Self)
    }
}

impl Circuit for Slow {
    type Stream = DuplexStream;

    async fn connect(
        &self,
        _: &str,
        _: u16,
        timeouts: &StageTimeouts,
    ) -> Result<DuplexStream, PathError> {
        assert_eq!(timeouts.begin, Duration::from_secs(5));
        sleep(Duration::from_secs(2)).await;
        let (ours, theirs) = duplex(64 << 10);
        // Whoever is there says nothing.
        tokio::spawn(async move {
            let _theirs = theirs;
            std::future::pending::<()>().await;
        });
        Ok(ours)
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_slow_in_each_stage_is_not_waited_for_longer_than_for_all() {
    let transport = HttpTransport::new(Slow, Tls::with_public_roots().unwrap());
    let relay = |byte| Fingerprint::from_bytes([byte; 20]);
    let path = TwoHops {
        entry: relay(1),
        exit: relay(2),
    };
    let destination = Destination::new("https://server.example/file").unwrap();
    let order = Order::download(&destination, SIZE);
    let begin = Instant::now();
    let opened = transport.open(path, &order, &mut Timings::default()).await;
    let error = opened.unwrap_err();
    assert_eq!(
        (error.stage, error.kind),
        (Stage::Tls, FailureKind::Timeout)
    );
    assert_eq!(begin.elapsed(), transport.timeouts.opening);
}
