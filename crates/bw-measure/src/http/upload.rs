//! The payload of an upload: what is sent, and what the server confirms of it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bw_results::{FailureKind, Stage};
use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};
use hyper::{Response, StatusCode};

use super::{Problem, wrong_status};
use crate::receipts::Receipt;
use crate::{Content, PathError, Receipts};

/// How much is made at a time.
const CHUNK: u64 = 16 << 10;

/// The body of the request, made as it is sent.
pub(super) struct UploadBody {
    content: Content,
    left: u64,
    sent: Arc<AtomicU64>,
}

impl UploadBody {
    /// `length` bytes of `content`, else of something that nobody knows.
    pub(super) fn new(length: u64, content: Option<Content>) -> Self {
        Self {
            content: content.unwrap_or_else(|| Content::from_seed(rand::random())),
            left: length,
            sent: Arc::default(),
        }
    }

    /// How many bytes have been handed on to the connection.
    pub(super) fn sent(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.sent)
    }
}

impl Body for UploadBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.left.min(CHUNK);
        if length == 0 {
            return Poll::Ready(None);
        }
        let mut data = BytesMut::zeroed(length as usize);
        self.content.fill(&mut data);
        self.left -= length;
        self.sent.fetch_add(length, Ordering::Release);
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
    sent: Arc<AtomicU64>,
    confirmed: u64,
    receipts: Receipts,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
}

impl Upload {
    /// An upload of `length` bytes, of which `sent` have left.
    pub(super) fn new(length: u64, sent: Arc<AtomicU64>, receipts: Receipts) -> Self {
        Self {
            length,
            sent,
            confirmed: 0,
            receipts,
            line: Vec::new(),
        }
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Reads what came of the answer; returns how many bytes it confirms that
    /// were not confirmed before.
    pub(super) fn take(&mut self, data: &[u8]) -> Result<u64, Problem> {
        let before = self.confirmed;
        for piece in data.split_inclusive(|&byte| byte == b'\n') {
            if self.line.len() + piece.len() > Receipts::LONGEST_LINE {
                return Err(no_receipt());
            }
            self.line.extend_from_slice(piece);
            if let Some(line) = self.line.strip_suffix(b"\n") {
                let receipt = self.receipts.read(line).ok_or_else(no_receipt)?;
                self.accept(receipt)?;
                self.line.clear();
            }
        }
        Ok(self.confirmed - before)
    }

    fn accept(&mut self, receipt: Receipt) -> Result<(), Problem> {
        let Receipt::Bytes(count) = receipt else {
            let detail = format!(
                "the server got something else than was sent, after {} bytes: it has another \
                 key, or someone changed it on the way",
                self.confirmed
            );
            return Err((Stage::Content, FailureKind::Content, detail));
        };
        let sent = self.sent.load(Ordering::Acquire);
        let problem = if count > sent {
            format!("the server confirmed {count} bytes when {sent} had been sent")
        } else if count < self.confirmed {
            let before = self.confirmed;
            format!("the server confirmed {count} bytes after it had confirmed {before}")
        } else {
            self.confirmed = count;
            return Ok(());
        };
        Err((Stage::Transfer, FailureKind::Length, problem))
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

    fn upload(sent: u64) -> Upload {
        Upload::new(1000, Arc::new(AtomicU64::new(sent)), Receipts::new(None))
    }

    proptest! {
        #[test]
        fn receipts_count_once_however_they_are_cut(
            mut counts in proptest::collection::vec(0_u64..=1000, 1..30),
            cuts in proptest::collection::vec(1_usize..10, 100),
        ) {
            counts.sort_unstable();
            let lines: String = counts.iter().map(|count| format!("{count}\n")).collect();
            let (mut upload, mut rest, mut sum) = (upload(1000), lines.as_bytes(), 0);
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                sum += upload.take(now).unwrap();
                rest = later;
            }
            sum += upload.take(rest).unwrap();
            prop_assert_eq!(Some(&sum), counts.last());
        }

        #[test]
        fn never_more_than_was_sent(data: Vec<u8>, count: u64, sent in 0_u64..=1000) {
            let mut upload = upload(sent);
            if let Ok(more) = upload.take(&data) {
                prop_assert!(more <= sent);
            }
            let line = format!("\n{count}\n");
            prop_assert!(upload.take(line.as_bytes()).is_err() || count <= sent);
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        let problem = |data: &str| {
            let (stage, kind, _) = upload(500).take(data.as_bytes()).unwrap_err();
            (stage, kind)
        };
        let content = (Stage::Content, FailureKind::Content);
        let length = (Stage::Transfer, FailureKind::Length);
        assert_eq!(problem("501\n"), length, "more than was sent");
        assert_eq!(problem("100\n99\n"), length, "fewer than before");
        assert_eq!(problem("100\nwrong\n"), content);
        assert_eq!(problem("<html>\n"), content);
        assert_eq!(problem(&"0".repeat(100)), content, "a line without end");
    }
}
