//! Bytes that wait in a stream to be read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::has_budget_remaining;

/// A stream that notes when it runs dry: when nothing waits to be read.
///
/// arti does not tell how much waits in a stream's queue, and takes up to 2,000,000
/// messages (tor-proto 0.47), about 1 GB, before it calls that a fault; what it asks of the exit
/// (XOFF) need not be heeded. But whoever reads faster than the path brings finds the stream
/// empty again and again. As long as that does not happen, what is read comes from the queue.
pub(super) struct Watched<S> {
    stream: S,
    waiting: Arc<Waiting>,
}

/// The bytes that wait, as far as they are known.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    ran_dry: AtomicBool,
    /// Bytes read since it last ran dry, or since it was last forgiven.
    read: AtomicU64,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            waiting: Arc::default(),
        }
    }

    pub(super) fn waiting(&self) -> Arc<Waiting> {
        Arc::clone(&self.waiting)
    }
}

impl Waiting {
    /// Returns true if it ran dry since this was last asked.
    pub(super) fn ran_dry(&self) -> bool {
        self.ran_dry.swap(false, Ordering::Relaxed)
    }

    /// The bytes that came at once: without a moment at which there were none.
    pub(super) fn at_once(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Nobody wanted to read for a while: that something waits is no fault.
    pub(super) fn forgive(&self) {
        self.read.store(0, Ordering::Relaxed);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // tokio's own streams also wait when it is another task's turn.
        let has_turn = has_budget_remaining();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let read = buffer.filled().len() - before;
        self.waiting.read.fetch_add(read as u64, Ordering::Relaxed);
        if polled.is_pending() && has_turn {
            self.waiting.ran_dry.store(true, Ordering::Relaxed);
            self.waiting.forgive();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
