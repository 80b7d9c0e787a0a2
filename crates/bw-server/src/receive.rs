//! Uploads: what comes is counted, and confirmed while it comes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bw_protocol::{Content, Receipt, Receipts};
use bytes::Bytes;
use futures::stream::{self, StreamExt, unfold};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body, Frame};
use tokio::time::{Instant, sleep_until, timeout};

use crate::Statistics;
use crate::patient::Patience;
use crate::throttle::Throttle;

/// No two receipts are closer than this, but for the last.
const CLOSEST: Duration = Duration::from_millis(25);
/// Before `SLOWEST` is over, a receipt is written for no fewer bytes: it takes
/// a cell of 514 bytes on the way back, through the same relays.
const WORTH: u64 = 32 << 10;
/// No byte waits longer for its receipt.
const SLOWEST: Duration = Duration::from_millis(100);
/// The time for which a client that was refused may go on sending.
const LINGER: Duration = Duration::from_secs(2);

/// One upload.
pub(crate) struct Reception<B> {
    body: B,
    /// The most bytes that are taken.
    most: u64,
    /// The content that must come, if it is known.
    content: Option<Content>,
    receipts: Receipts,
    throttle: Throttle,
    statistics: Arc<Statistics>,
    /// Bytes that have come and are not counted yet.
    unread: Bytes,
    count: u64,
    /// When the head of the request had come.
    begin: Instant,
    /// The count that was confirmed last, and the time; at first there is none.
    said: Option<u64>,
    said_at: Instant,
    patience: Patience,
    over: bool,
}

impl<B> Reception<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    pub(crate) fn new(
        body: B,
        most: u64,
        content: Option<Content>,
        receipts: Receipts,
        throttle: Throttle,
        statistics: Arc<Statistics>,
    ) -> Self {
        Self {
            body,
            most,
            content,
            receipts,
            throttle,
            statistics,
            unread: Bytes::new(),
            count: 0,
            begin: Instant::now(),
            said: None,
            said_at: Instant::now(),
            patience: Patience::new(),
            over: false,
        }
    }

    /// The receipts, as the body of the answer.
    pub(crate) fn into_body(self) -> UnsyncBoxBody<Bytes, Infallible> {
        let lines = unfold(self, async |mut reception| {
            let line = reception.next().await?;
            Some((Ok(Frame::data(line.into())), reception))
        });
        StreamBody::new(lines).boxed_unsync()
    }

    /// Receives until there is something to confirm; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        if self.over {
            linger(&mut self.body).await;
            return None;
        }
        let Some(said) = self.said else {
            // So the time of all that comes is known.
            return Some(self.confirm());
        };
        loop {
            if self.unread.is_empty() {
                let began = Instant::now();
                let silence = began + self.patience.left();
                let due = (self.count > said).then(|| self.said_at + SLOWEST);
                let until = due.unwrap_or(silence).min(silence);
                let frame = tokio::select! {
                    frame = self.body.frame() => frame,
                    () = sleep_until(until) => {
                        self.patience.waited(began.elapsed(), 0);
                        if due.is_none() || self.patience.left().is_zero() {
                            self.statistics.too_slow().add(1);
                            return None;
                        }
                        return Some(self.confirm());
                    }
                };
                let bytes = frame
                    .as_ref()
                    .and_then(|frame| frame.as_ref().ok()?.data_ref());
                let bytes = bytes.map_or(0, Bytes::len) as u64;
                self.patience.waited(began.elapsed(), bytes);
                match frame {
                    Some(Ok(frame)) => self.unread = frame.into_data().unwrap_or_default(),
                    Some(Err(_)) => return None,
                    None => {
                        self.over = true;
                        return Some(self.confirm());
                    }
                }
                continue;
            }
            let step = self.throttle.step().min(self.unread.len());
            let piece = self.unread.split_to(step);
            self.throttle.take(step).await;
            let right = self
                .content
                .as_mut()
                .is_none_or(|content| content.matches(&piece));
            if !right || self.count + step as u64 > self.most {
                self.over = true;
                return Some(self.receipts.line(Receipt::Wrong));
            }
            self.count += step as u64;
            self.statistics.received().add(step as u64);
            let (new, time) = (self.count - said, self.said_at.elapsed());
            if time >= SLOWEST || (time >= CLOSEST && new >= WORTH) {
                return Some(self.confirm());
            }
        }
    }

    fn confirm(&mut self) -> String {
        self.said = Some(self.count);
        self.said_at = Instant::now();
        self.receipts
            .line(Receipt::bytes(self.count, self.begin.elapsed()))
    }
}

/// An empty body that ends when the client has ended, or soon after.
pub(crate) fn drain<B>(mut body: B) -> UnsyncBoxBody<Bytes, Infallible>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    let nothing = stream::once(async move { linger(&mut body).await });
    let nothing = nothing.filter_map(async |()| None::<Result<Frame<Bytes>, Infallible>>);
    StreamBody::new(nothing).boxed_unsync()
}

/// Takes what comes and forgets it.
async fn linger<B: Body<Data = Bytes> + Unpin>(body: &mut B) {
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    let _ = timeout(LINGER, rest).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For how long an upload lasts whose client sends `bytes` each `pause`; an hour if it
    /// is not given up.
    async fn lasts(bytes: usize, pause: Duration) -> Duration {
        let pieces = unfold((), move |()| async move {
            tokio::time::sleep(pause).await;
            let piece = Bytes::from(vec![7; bytes]);
            Some((Ok::<_, Infallible>(Frame::data(piece)), ()))
        });
        let body = StreamBody::new(Box::pin(pieces));
        let receipts = Receipts::new(None);
        let reception = Reception::new(
            body,
            u64::MAX,
            None,
            receipts,
            Throttle::default(),
            Arc::default(),
        );
        let mut answer = reception.into_body();
        let begin = Instant::now();
        let all = async { while answer.frame().await.is_some() {} };
        let _ = timeout(Duration::from_secs(3600), all).await;
        begin.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_slowly_is_waited_for_and_who_hardly_sends_is_not() {
        let secs = Duration::from_secs;
        assert_eq!(lasts(3000, secs(5)).await, secs(3600), "600 B/s");
        let drips = lasts(1, secs(29)).await;
        assert!(drips <= secs(31), "a byte each 29 s: {drips:?}");
        let slow = lasts(100, secs(1)).await;
        assert!((secs(30)..secs(60)).contains(&slow), "100 B/s: {slow:?}");
        let never = lasts(1, secs(7200)).await;
        assert_eq!(never, secs(30));
    }
}
