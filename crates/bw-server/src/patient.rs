//! The least speed of a client.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use crate::places::Activity;

/// For how long a client may let us wait.
const LONGEST: Duration = Duration::from_secs(30);
/// The slowest rate that is waited for on and on, in bytes per second. Less than 16 KiB in 30 s
/// give a scanner no rate.
const SLOWEST: u64 = 500;

/// For how much longer a client may let us wait: 30 s without a byte, and at most so much
/// again for what it moves.
#[derive(Debug)]
pub(crate) struct Patience(Duration);

impl Patience {
    pub(crate) const fn new() -> Self {
        Self(LONGEST)
    }

    pub(crate) const fn left(&self) -> Duration {
        self.0
    }

    /// The client let us wait for `time`, and then moved `bytes`.
    pub(crate) fn waited(&mut self, time: Duration, bytes: u64) {
        let earned = Duration::from_secs(bytes / SLOWEST)
            + Duration::from_secs(bytes % SLOWEST) / SLOWEST as u32;
        self.0 = (self.0.saturating_sub(time) + earned).min(LONGEST);
    }
}

/// A connection that breaks if the client takes what is written too slowly.
pub(crate) struct Patient<S> {
    stream: S,
    activity: Arc<Activity>,
    patience: Patience,
    /// Since when the client lets us wait, and when it is too long.
    blocked: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<S> Patient<S> {
    pub(crate) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self {
            stream,
            activity,
            patience: Patience::new(),
            blocked: None,
        }
    }

    /// The result of writing, unless the client took too long.
    fn written(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &polled {
            let blocked = self.blocked.take();
            let time = blocked.map_or(Duration::ZERO, |(since, _)| since.elapsed());
            self.patience.waited(time, *bytes as u64);
            self.activity.moved();
        }
        if polled.is_pending() {
            let left = self.patience.left();
            let (_, too_long) = self
                .blocked
                .get_or_insert_with(|| (Instant::now(), Box::pin(sleep(left))));
            if too_long.as_mut().poll(cx).is_ready() {
                let text = "the client takes what is sent too slowly";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, text)));
            }
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.moved();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, data);
        self.written(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, data);
        self.written(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConnectionLimits;
    use crate::places::Places;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    /// For how long a client is written to that reads `bytes` each `pause`; an hour if it is
    /// not given up.
    async fn written_to(bytes: usize, pause: Duration) -> Duration {
        let (ours, mut theirs) = duplex(64);
        let places = Places::new(ConnectionLimits::new(1));
        let place = places.enter([127, 0, 0, 1].into()).unwrap();
        let mut stream = Patient::new(ours, Arc::clone(&place.activity));
        let reader = tokio::spawn(async move {
            let mut data = vec![0; bytes];
            loop {
                sleep(pause).await;
                theirs.read_exact(&mut data).await.unwrap();
            }
        });
        let begin = Instant::now();
        let write = async { while stream.write_all(&[7; 1000]).await.is_ok() {} };
        let _ = tokio::time::timeout(Duration::from_secs(3600), write).await;
        reader.abort();
        begin.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_slowly_is_waited_for_and_who_hardly_reads_is_not() {
        let secs = Duration::from_secs;
        assert_eq!(written_to(3000, secs(5)).await, secs(3600), "600 B/s");
        let drips = written_to(1, secs(29)).await;
        assert!(drips <= secs(31), "a byte each 29 s: {drips:?}");
        let slow = written_to(100, secs(1)).await;
        assert!((secs(30)..secs(60)).contains(&slow), "100 B/s: {slow:?}");
        let never = written_to(1, secs(7200)).await;
        assert_eq!(never, secs(30));
    }

    #[test]
    fn what_was_moved_early_is_no_credit_for_later() {
        let mut patience = Patience::new();
        patience.waited(Duration::ZERO, u64::MAX);
        assert_eq!(patience.left(), LONGEST);
        patience.waited(Duration::from_secs(40), 250);
        assert_eq!(patience.left(), Duration::from_millis(500));
    }
}
