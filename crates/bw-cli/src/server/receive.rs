//! Uploads: what comes is counted, and confirmed while it comes.

use std::convert::Infallible;
use std::time::Duration;

use bw_measure::{Content, Receipt, Receipts};
use bytes::Bytes;
use futures::stream::{self, StreamExt, unfold};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body, Frame};
use tokio::time::{Instant, sleep_until, timeout};

use super::throttle::Throttle;

/// No two receipts are closer than this, but for the last.
const CLOSEST: Duration = Duration::from_millis(25);
/// Before `SLOWEST` is over, a receipt is written for no fewer bytes: it takes
/// a cell of 514 bytes on the way back, through the same relays.
const WORTH: u64 = 32 << 10;
/// No byte waits longer for its receipt.
const SLOWEST: Duration = Duration::from_millis(100);
/// The longest silence of a client.
const IDLE: Duration = Duration::from_secs(30);
/// How long a client that was refused may go on sending.
const LINGER: Duration = Duration::from_secs(2);

/// One upload.
pub(super) struct Reception<B> {
    body: B,
    /// The most bytes that are taken.
    most: u64,
    /// What must come, if that is known.
    content: Option<Content>,
    receipts: Receipts,
    throttle: Throttle,
    /// What has come but is not counted.
    unread: Bytes,
    count: u64,
    /// When the head of the request had come.
    begin: Instant,
    /// What was confirmed last, and when; at first nothing was.
    said: Option<u64>,
    said_at: Instant,
    over: bool,
}

impl<B> Reception<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    pub(super) fn new(
        body: B,
        most: u64,
        content: Option<Content>,
        receipts: Receipts,
        throttle: Throttle,
    ) -> Self {
        Self {
            body,
            most,
            content,
            receipts,
            throttle,
            unread: Bytes::new(),
            count: 0,
            begin: Instant::now(),
            said: None,
            said_at: Instant::now(),
            over: false,
        }
    }

    /// The receipts, as the body of the answer.
    pub(super) fn into_body(self) -> UnsyncBoxBody<Bytes, Infallible> {
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
                let patience = if self.count > said { SLOWEST } else { IDLE };
                let frame = tokio::select! {
                    frame = self.body.frame() => frame,
                    () = sleep_until(self.said_at + patience) => {
                        // Silence, or a receipt that is due.
                        return (self.count > said).then(|| self.confirm());
                    }
                };
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
pub(super) fn drain<B>(mut body: B) -> UnsyncBoxBody<Bytes, Infallible>
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
