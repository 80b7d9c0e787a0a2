//! One direction of one connection: lines are passed, then time.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until};

use super::Line;

/// Bytes that may be under way before anything has arrived, as after a pause: as much as
/// TCP's first receive window of 64 KiB lets pass in one round trip, half of which we hold.
const FIRST_WINDOW: usize = 32 * 1024;
/// The most that one direction holds: 128 MB/s over 125 ms.
const LAST_WINDOW: usize = 16 * 1024 * 1024;
/// The shortest round trip after which the window is looked at, so that short ones are
/// no business of a busy machine's timers.
const SHORTEST_ROUND: Duration = Duration::from_millis(10);
/// The largest piece that is passed on as one.
const LARGEST_PIECE: usize = 64 * 1024;
/// The smallest: a few cells.
const SMALLEST_PIECE: usize = 2 * 1024;
/// Connections that share a line take turns of this length.
const TURN: Duration = Duration::from_millis(5);

/// The stations that bytes pass in one direction.
#[derive(Debug)]
pub(super) struct Way {
    /// The time that bytes take.
    pub(super) delay: Duration,
    /// The line that they leave by, if the sender has one.
    pub(super) from: Option<Arc<Line>>,
    /// The line that they come by, if the receiver has one.
    pub(super) to: Option<Arc<Line>>,
}

impl Way {
    /// Bytes that both lines carry in `time`; none: any number.
    pub(super) fn carries(&self, time: Duration) -> Option<usize> {
        let lines = [&self.from, &self.to];
        let rates = lines.into_iter().flatten().filter_map(|line| line.rate);
        let slowest = rates.min()?;
        Some((slowest.value() as f64 * time.as_secs_f64()) as usize)
    }

    /// When `bytes` that are sent now have passed both lines.
    fn pass(&self, bytes: usize, now: Instant) -> Instant {
        let up = self.from.as_ref().map(|line| line.up.take(bytes, now));
        let down = self.to.as_ref().map(|line| line.down.take(bytes, now));
        [up, down].into_iter().flatten().fold(now, Instant::max)
    }
}

/// Bytes on their way, with the time of their arrival.
struct Flight {
    pieces: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    /// The most bytes that may be under way.
    window: usize,
    /// The time there and back.
    round: Duration,
    round_began: Instant,
    /// Bytes since then.
    arrived: usize,
}

impl Flight {
    fn new(delay: Duration) -> Self {
        Self {
            pieces: VecDeque::new(),
            bytes: 0,
            window: FIRST_WINDOW,
            round: (2 * delay).max(SHORTEST_ROUND),
            round_began: Instant::now(),
            arrived: 0,
        }
    }

    fn room(&self) -> usize {
        self.window.saturating_sub(self.bytes)
    }

    fn depart(&mut self, arrival: Instant, piece: Bytes) {
        self.bytes += piece.len();
        self.pieces.push_back((arrival, piece));
    }

    /// The first piece, or what is left of it.
    fn first(&self) -> (Option<Instant>, &[u8]) {
        match self.pieces.front() {
            Some((arrival, piece)) => (Some(*arrival), piece),
            None => (None, &[]),
        }
    }

    /// The receiver has taken this many bytes of the first piece.
    fn arrive(&mut self, bytes: usize, now: Instant) {
        self.bytes -= bytes;
        self.arrived += bytes;
        if let Some((_, piece)) = self.pieces.front_mut() {
            piece.advance(bytes);
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
        let rounds = (now - self.round_began).as_secs_f64() / self.round.as_secs_f64();
        if rounds >= 1.0 {
            self.adapt(rounds);
            (self.round_began, self.arrived) = (now, 0);
        }
    }

    /// Like TCP's window, grows to twice what has arrived in a round trip, at most twofold in
    /// each, and shrinks by half in each that brought less.
    fn adapt(&mut self, rounds: f64) {
        let arrived = (self.arrived as f64 / rounds) as usize;
        let shrunk = (self.window as f64 * 0.5_f64.powf(rounds)) as usize;
        self.window = (2 * arrived)
            .clamp(shrunk, 2 * self.window)
            .clamp(FIRST_WINDOW, LAST_WINDOW);
    }
}

/// Passes on what `source` gives from `begin` on, to its end.
pub(super) async fn pass_on(
    mut source: impl AsyncRead + Unpin,
    mut sink: impl AsyncWrite + Unpin,
    way: Way,
    begin: Instant,
) -> io::Result<()> {
    let delay = way.delay;
    let largest = way.carries(TURN).map_or(LARGEST_PIECE, |turn| {
        turn.clamp(SMALLEST_PIECE, LARGEST_PIECE)
    });
    let mut scratch = vec![0; largest];
    let mut flight = Flight::new(delay);
    let mut open = true;
    // When the lines are free for the next piece.
    let mut free = begin;
    loop {
        let now = Instant::now();
        let room = flight.room().min(largest);
        let wanted = open && room > 0;
        let (arrival, first) = flight.first();
        let landed = arrival.is_some_and(|arrival| arrival <= now);
        if landed && first.is_empty() {
            return sink.shutdown().await;
        }
        tokio::select! {
            read = source.read(&mut scratch[..room]), if wanted && free <= now => {
                let read = read?;
                free = way.pass(read, Instant::now());
                // The end travels too, as an empty piece.
                flight.depart(free + delay, Bytes::copy_from_slice(&scratch[..read]));
                open = read > 0;
            }
            () = sleep_until(free), if wanted && free > now => {}
            written = sink.write(first), if landed => {
                let written = written?;
                if written == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                flight.arrive(written, Instant::now());
            }
            () = sleep_until(arrival.unwrap_or(now)), if arrival.is_some() && !landed => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use bw_file::BytesPerSecond;
    use tokio::io::{duplex, split};

    use super::*;

    const MEGABYTE: usize = 1_000_000;

    fn way(millis: u64, from: Option<&Arc<Line>>, to: Option<&Arc<Line>>) -> Way {
        Way {
            delay: Duration::from_millis(millis),
            from: from.cloned(),
            to: to.cloned(),
        }
    }

    fn line(rate: u64) -> Arc<Line> {
        Arc::new(Line::new(Some(BytesPerSecond::new(rate))))
    }

    /// Sends `bytes` over as many connections as there are ways; gives when the first byte
    /// and when the last one came.
    async fn send(ways: Vec<Way>, bytes: usize) -> (Duration, Duration) {
        let began = Instant::now();
        let mut receiving = Vec::new();
        for way in ways {
            let (mut sender, source) = duplex(8 * 1024);
            let (sink, mut receiver) = duplex(8 * 1024);
            tokio::spawn(pass_on(source, sink, way, began));
            tokio::spawn(async move { sender.write_all(&vec![7; bytes]).await });
            receiving.push(tokio::spawn(async move {
                receiver.read_u8().await.unwrap();
                let first = began.elapsed();
                let mut rest = Vec::new();
                receiver.read_to_end(&mut rest).await.unwrap();
                assert_eq!(rest.len() + 1, bytes);
                assert!(rest.iter().all(|byte| *byte == 7));
                (first, began.elapsed())
            }));
        }
        let mut times = (Duration::MAX, Duration::ZERO);
        for one in receiving {
            let (first, last) = one.await.unwrap();
            times = (times.0.min(first), times.1.max(last));
        }
        times
    }

    #[tokio::test(start_paused = true)]
    async fn distance_delays_and_does_not_limit() {
        let unlimited = Arc::new(Line::new(None));
        let way = way(40, None, Some(&unlimited));
        let (first, last) = send(vec![way], 100 * MEGABYTE).await;
        assert!(first.as_millis().abs_diff(40) <= 2, "{first:?}");
        // The window doubles with each round trip of 80 ms, up to 16 MiB.
        assert!(last < Duration::from_millis(1500), "{last:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn connections_share_a_line() {
        let (narrow, wide) = (line(400_000), line(900_000));
        for (from, to) in [(&narrow, None), (&wide, Some(&narrow))] {
            let ways = (0..4).map(|_| way(20, Some(from), to));
            let (_, last) = send(ways.collect(), MEGABYTE / 10).await;
            let seconds = last.as_secs_f64() - 0.02 + DEPTH_SECONDS;
            assert!((seconds - 1.0).abs() < 0.05, "{seconds}");
        }
    }

    const DEPTH_SECONDS: f64 = super::super::DEPTH.as_millis() as f64 / 1000.0;

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_does_not_read_holds_the_sender_up() {
        let way = way(20, None, None);
        let (mut sender, source) = duplex(1024);
        let (sink, receiver) = duplex(1024);
        tokio::spawn(pass_on(source, sink, way, Instant::now()));
        let mut sent = 0;
        let patience = Duration::from_secs(60);
        while let Ok(written) = tokio::time::timeout(patience, sender.write(&[0; 1024])).await {
            sent += written.unwrap();
        }
        assert!(sent <= FIRST_WINDOW + 3 * 1024, "{sent}");
        drop(receiver);
        assert!(sender.write_all(&[0; 4096]).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_before_the_end_arrives() {
        let way = way(50, None, Some(&line(100_000)));
        let (ours, far) = duplex(1024);
        let (sink, mut receiver) = duplex(1024);
        let (source, _writer) = split(far);
        let began = Instant::now();
        let begin = began + Duration::from_millis(100);
        tokio::spawn(pass_on(source, sink, way, begin));
        let (_reader, mut sender) = split(ours);
        sender.write_all(b"last words").await.unwrap();
        sender.shutdown().await.unwrap();
        let mut all = Vec::new();
        receiver.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"last words");
        assert!(began.elapsed() >= Duration::from_millis(150));
    }
}
