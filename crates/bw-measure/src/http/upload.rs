//! The payload of an upload: what is sent, and what the server confirms of it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bw_protocol::{Content, Receipt, Receipts};
use bw_results::{FailureKind, Stage};
use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};
use hyper::{Response, StatusCode};
use tokio::time::Instant;

use super::playout::Playout;
use super::{Problem, wrong_status};
use crate::PathError;

/// The bytes that are made at a time.
const CHUNK: u64 = 16 << 10;
/// The bytes that may be on their way at first, and at least: about what a Tor stream lets wait at its end
/// (500 cells, proposal 324).
const FIRST: u64 = 256 << 10;
/// Later, what the server got within this time: more than a round trip through two relays, and
/// the queues in them.
const AHEAD: Duration = Duration::from_secs(2);
/// The interval between two receipts that are remembered.
const APART: Duration = Duration::from_millis(25);
/// More receipts wait in the connection.
const WAITING: usize = 256;
/// By how much a server's clock may run ahead of ours within one upload.
const SKEW: Duration = Duration::from_secs(1);

/// The body of the request, made as it is sent.
///
/// Nothing is sent before the server has answered, and later only so far ahead of what it
/// confirmed: what an exit could collect, to pass it on at once, is that and no more.
pub(super) struct UploadBody {
    content: Content,
    left: u64,
    gate: Arc<Gate>,
}

/// The bytes that were sent, and those that may be.
#[derive(Debug, Default)]
pub(super) struct Gate(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    sent: u64,
    limit: u64,
    waiting: Option<Waker>,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets as many bytes as `limit` be sent, all in all.
    fn allow(&self, limit: u64) {
        let mut open = self.lock();
        open.limit = open.limit.max(limit);
        if let Some(waker) = open.waiting.take() {
            waker.wake();
        }
    }

    /// The number of bytes handed on to the connection.
    fn sent(&self) -> u64 {
        self.lock().sent
    }
}

impl UploadBody {
    /// `length` bytes of `content`, else of something that nobody knows.
    pub(super) fn new(length: u64, content: Option<Content>) -> Self {
        Self {
            content: content.unwrap_or_else(|| Content::from_seed(rand::random())),
            left: length,
            gate: Arc::default(),
        }
    }

    pub(super) fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.gate)
    }
}

impl Body for UploadBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut length = self.left.min(CHUNK);
        if length == 0 {
            return Poll::Ready(None);
        }
        {
            let mut open = self.gate.lock();
            length = length.min(open.limit - open.sent);
            if length == 0 {
                open.waiting = Some(cx.waker().clone());
                return Poll::Pending;
            }
            open.sent += length;
        }
        let mut data = BytesMut::zeroed(length as usize);
        self.content.fill(&mut data);
        self.left -= length;
        Poll::Ready(Some(Ok(Frame::data(data.freeze()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Receipts as they come.
#[derive(Debug)]
pub(super) struct Upload {
    length: u64,
    gate: Arc<Gate>,
    confirmed: u64,
    /// The server's time of the last receipt.
    at: Duration,
    /// When we asked.
    asked: Instant,
    /// Receipts of lately: the server's time, and what was confirmed.
    lately: VecDeque<(Duration, u64)>,
    receipts: Receipts,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    playout: Playout,
    /// True if somebody waited for more since that was last asked.
    ran_dry: bool,
}

impl Upload {
    /// An upload of `length` bytes that was asked for at `asked`, and begins now.
    pub(super) fn new(length: u64, gate: Arc<Gate>, receipts: Receipts, asked: Instant) -> Self {
        gate.allow(FIRST);
        Self {
            length,
            gate,
            confirmed: 0,
            at: Duration::ZERO,
            asked,
            lately: VecDeque::new(),
            receipts,
            line: Vec::new(),
            playout: Playout::default(),
            ran_dry: false,
        }
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The number of bytes that the server confirmed.
    pub(super) fn confirmed(&self) -> u64 {
        self.confirmed
    }

    /// The time that this took by the server's clock.
    pub(super) fn at(&self) -> Duration {
        self.at
    }

    /// Confirmed bytes that may be handed out now.
    pub(super) fn at_hand(&mut self, now: Instant) -> u64 {
        self.playout.due(now)
    }

    /// When there will be more at hand of what is confirmed already; somebody waits for it.
    pub(super) fn next(&mut self, now: Instant) -> Option<Instant> {
        self.ran_dry = true;
        self.playout.next(now)
    }

    pub(super) fn take(&mut self, most: u64) -> u64 {
        self.playout.take(most)
    }

    /// Returns true if more receipts may be read.
    pub(super) fn has_room(&self) -> bool {
        self.playout.len() < WAITING
    }

    pub(super) fn ran_dry(&mut self) -> bool {
        std::mem::take(&mut self.ran_dry)
    }

    /// Reads what came of the answer at `now`.
    pub(super) fn receive(&mut self, data: &[u8], now: Instant) -> Result<(), Problem> {
        for piece in data.split_inclusive(|&byte| byte == b'\n') {
            if self.line.len() + piece.len() > Receipts::LONGEST_LINE {
                return Err(no_receipt());
            }
            self.line.extend_from_slice(piece);
            if let Some(line) = self.line.strip_suffix(b"\n") {
                let receipt = self.receipts.read(line).ok_or_else(no_receipt)?;
                self.accept(receipt, now)?;
                self.line.clear();
            }
        }
        Ok(())
    }

    fn accept(&mut self, receipt: Receipt, now: Instant) -> Result<(), Problem> {
        let Receipt::Bytes { count, at, .. } = receipt else {
            let detail = format!(
                "the server got something else than was sent, after {} bytes: it has another \
                 key, or someone changed it on the way",
                self.confirmed
            );
            return Err((Stage::Content, FailureKind::Content, detail));
        };
        let (sent, before) = (self.gate.sent(), self.confirmed);
        let problem = if count > sent {
            format!("the server confirmed {count} bytes when {sent} had been sent")
        } else if count < before {
            format!("the server confirmed {count} bytes after it had confirmed {before}")
        } else if at < self.at {
            format!("the server's clock went back, from {:?} to {at:?}", self.at)
        } else if at > now - self.asked + SKEW {
            let passed = now - self.asked;
            format!("the server's clock shows {at:?} when {passed:?} have passed")
        } else {
            self.playout.add(count - before, at, now);
            (self.confirmed, self.at) = (count, at);
            self.go_on();
            return Ok(());
        };
        Err((Stage::Transfer, FailureKind::Length, problem))
    }

    /// Lets more be sent.
    fn go_on(&mut self) {
        let is_new = |&(at, _): &(Duration, u64)| self.at >= at + APART;
        if self.lately.back().is_none_or(is_new) {
            self.lately.push_back((self.at, self.confirmed));
        }
        while self
            .lately
            .front()
            .is_some_and(|(at, _)| self.at.saturating_sub(*at) > AHEAD)
        {
            self.lately.pop_front();
        }
        let before = self.lately.front().map_or(0, |&(_, count)| count);
        self.gate
            .allow(self.confirmed + FIRST.max(self.confirmed - before));
    }
}

fn no_receipt() -> Problem {
    let detail = "the answer has a line that is no receipt of our server: it has another key, \
        or someone answers in its place";
    (Stage::Content, FailureKind::Content, detail.to_owned())
}

/// Checks the status of an answer to an upload.
pub(super) fn verify<B>(answer: &Response<B>) -> Result<(), PathError> {
    match answer.status() {
        StatusCode::OK => Ok(()),
        status => Err(wrong_status(status, StatusCode::OK)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An upload of which `sent` bytes have left.
    fn upload(sent: u64) -> Upload {
        let gate = Gate::default();
        gate.lock().sent = sent;
        let asked = Instant::now();
        Upload::new(1000, Arc::new(gate), Receipts::new(None), asked)
    }

    /// Reads it after as long as it says.
    fn receive(upload: &mut Upload, data: &[u8]) -> Result<u64, Problem> {
        let now = upload.asked + Duration::from_secs(1);
        upload.receive(data, now)?;
        Ok(upload.confirmed())
    }

    proptest! {
        #[test]
        fn receipts_count_once_however_they_are_cut(
            mut counts in proptest::collection::vec(0_u64..=1000, 1..30),
            cuts in proptest::collection::vec(1_usize..10, 100),
        ) {
            counts.sort_unstable();
            let numbered = counts.iter().enumerate();
            let lines: String = numbered.map(|(at, count)| format!("{count} {at}\n")).collect();
            let (mut upload, mut rest) = (upload(1000), lines.as_bytes());
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                receive(&mut upload, now).unwrap();
                rest = later;
            }
            let confirmed = receive(&mut upload, rest).unwrap();
            prop_assert_eq!(Some(&confirmed), counts.last());
            // What the first confirmed came before.
            let late = upload.asked + Duration::from_secs(100);
            prop_assert_eq!(upload.at_hand(late), confirmed - counts[0]);
        }

        #[test]
        fn never_more_than_was_sent(data: Vec<u8>, count: u64, sent in 0_u64..=1000) {
            let mut upload = upload(sent);
            if let Ok(more) = receive(&mut upload, &data) {
                prop_assert!(more <= sent);
            }
            let line = format!("\n{count} 0\n");
            prop_assert!(receive(&mut upload, line.as_bytes()).is_err() || count <= sent);
        }
    }

    /// Lets the body go on, and returns how much it has sent.
    fn sent(body: &mut UploadBody) -> u64 {
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(Ok(_))) = Pin::new(&mut *body).poll_frame(&mut cx) {}
        body.gate.sent()
    }

    #[test]
    fn nothing_is_sent_before_the_answer_and_then_no_more_than_two_seconds_ahead() {
        let mut body = UploadBody::new(1 << 30, None);
        assert_eq!(sent(&mut body), 0);
        let (asked, receipts) = (Instant::now(), Receipts::new(None));
        let mut upload = Upload::new(1 << 30, body.gate(), receipts, asked);
        let mut say = |count: u64, millis: u64| {
            let line = format!("{count} {}\n", millis * 1000);
            let now = asked + Duration::from_millis(millis);
            upload.receive(line.as_bytes(), now).unwrap();
            sent(&mut body) - count
        };
        assert_eq!(say(0, 0), FIRST);
        for second in 1..10 {
            // It sends as fast as it may; the server confirms all of it within a second.
            let ahead = say(FIRST * second, 1000 * second);
            let expected = FIRST * second.min(2);
            assert_eq!(ahead, expected, "{second} s");
        }
        // For eight seconds nothing comes: what is on its way stays the same.
        assert_eq!(say(FIRST * 9 + 1, 17_000), 2 * FIRST - 1);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let problem = |data: &str| {
            let (stage, kind, _) = receive(&mut upload(500), data.as_bytes()).unwrap_err();
            (stage, kind)
        };
        let content = (Stage::Content, FailureKind::Content);
        let length = (Stage::Transfer, FailureKind::Length);
        assert_eq!(problem("501 0\n"), length, "more than was sent");
        assert_eq!(problem("100 0\n99 0\n"), length, "fewer than before");
        assert_eq!(problem("100 5\n200 4\n"), length, "earlier than before");
        assert_eq!(problem("100 2000001\n"), length, "later than now");
        assert_eq!(problem("100 0\nwrong\n"), content);
        assert_eq!(problem("100\n"), content, "of version 1");
        assert_eq!(problem("<html>\n"), content);
        assert_eq!(problem(&"0".repeat(100)), content, "a line without end");
    }
}
