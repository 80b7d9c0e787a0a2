//! The payload of a download: a file from its first byte on.

use bw_protocol::Content;
use bw_results::{FailureKind, Stage};
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap};
use hyper::{Response, StatusCode};

use super::{Problem, number, wrong_status};
use crate::{Fault, PathError};

/// Bytes of a file as they come.
#[derive(Debug)]
pub(super) struct Download {
    /// The length that the head of the answer announced, in bytes.
    length: u64,
    received: u64,
    /// Bytes of these that were not taken.
    at_hand: u64,
    /// The content that must come, if that is known.
    content: Option<Content>,
}

impl Download {
    pub(super) fn new(length: u64, content: Option<Content>) -> Self {
        Self {
            length,
            received: 0,
            at_hand: 0,
            content,
        }
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn received(&self) -> u64 {
        self.received
    }

    pub(super) fn at_hand(&self) -> u64 {
        self.at_hand
    }

    pub(super) fn take(&mut self, most: u64) -> u64 {
        let taken = most.min(self.at_hand);
        self.at_hand -= taken;
        taken
    }

    /// Verifies the next bytes.
    pub(super) fn receive(&mut self, data: &[u8]) -> Result<(), Problem> {
        let content = self.content.as_mut();
        if content.is_some_and(|content| !content.matches(data)) {
            let detail = format!(
                "what came after {} bytes is not of our server: it has another key, or \
                 someone answers in its place",
                self.received
            );
            return Err((Stage::Content, FailureKind::Content, detail));
        }
        self.received += data.len() as u64;
        self.at_hand += data.len() as u64;
        Ok(())
    }
}

/// Checks status, range and length of an answer to `bytes=0-{max_bytes - 1}`;
/// returns the length of its body.
pub(super) fn verify<B>(answer: &Response<B>, max_bytes: u64) -> Result<u64, PathError> {
    let refuse = |kind, detail: String| {
        Err(PathError::new(
            Stage::Http,
            kind,
            Fault::Destination,
            detail,
        ))
    };
    match answer.status() {
        StatusCode::PARTIAL_CONTENT => {}
        StatusCode::OK => {
            return refuse(
                FailureKind::Range,
                "the server ignores Range requests (it answered 200, not 206)".to_owned(),
            );
        }
        status => return Err(wrong_status(status, StatusCode::PARTIAL_CONTENT)),
    }
    if answer.headers().contains_key("content-encoding") {
        return refuse(
            FailureKind::Protocol,
            "the server encoded the body although identity was asked for".to_owned(),
        );
    }
    let Some((first, last, total)) = content_range(answer.headers()) else {
        return refuse(
            FailureKind::Range,
            "206 without a Content-Range that can be read".to_owned(),
        );
    };
    let end_of_file = total.is_some_and(|total| last.checked_add(1) == Some(total));
    if first != 0 || last >= max_bytes || (last != max_bytes - 1 && !end_of_file) {
        return refuse(
            FailureKind::Range,
            format!("asked for bytes 0-{}, got {first}-{last}", max_bytes - 1),
        );
    }
    let length = last + 1;
    match number(answer.headers(), CONTENT_LENGTH) {
        Some(announced) if announced == length => Ok(length),
        Some(announced) => refuse(
            FailureKind::Length,
            format!("Content-Range has {length} bytes, Content-Length says {announced}"),
        ),
        None => refuse(
            FailureKind::Length,
            "206 without a Content-Length".to_owned(),
        ),
    }
}

/// First byte, last byte and total length of `Content-Range: bytes 0-9/100`
/// (RFC 9110, section 14.4); the total may be unknown (`*`).
fn content_range(headers: &HeaderMap) -> Option<(u64, u64, Option<u64>)> {
    let value = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = value.strip_prefix("bytes ")?.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let total = match total {
        "*" => None,
        digits => Some(digits.parse().ok()?),
    };
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && total.is_none_or(|total| last < total)).then_some((first, last, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&str, &str)]) -> Response<()> {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        response.body(()).unwrap()
    }

    #[test]
    fn only_the_range_that_was_asked_for_counts() {
        let good = [
            ("content-range", "bytes 0-99/1000"),
            ("content-length", "100"),
        ];
        assert_eq!(verify(&answer(206, &good), 100), Ok(100));
        let short_file = [("content-range", "bytes 0-49/50"), ("content-length", "50")];
        assert_eq!(verify(&answer(206, &short_file), 100), Ok(50));

        type Case<'a> = (u16, &'a [(&'a str, &'a str)], FailureKind);
        let cases: &[Case<'_>] = &[
            (200, &good, FailureKind::Range),
            (404, &good, FailureKind::Status),
            (302, &good, FailureKind::Status),
            (206, &[("content-length", "100")], FailureKind::Range),
            (206, &good[..1], FailureKind::Length),
            (
                206,
                &[
                    ("content-range", "bytes 0-99/1000"),
                    ("content-length", "99"),
                ],
                FailureKind::Length,
            ),
            (
                206,
                &[
                    ("content-range", "bytes 1-100/1000"),
                    ("content-length", "100"),
                ],
                FailureKind::Range,
            ),
            (
                206,
                &[
                    ("content-range", "bytes 0-49/1000"),
                    ("content-length", "50"),
                ],
                FailureKind::Range,
            ),
            (
                206,
                &[
                    ("content-range", "bytes 0-199/1000"),
                    ("content-length", "200"),
                ],
                FailureKind::Range,
            ),
            (
                206,
                &[
                    ("content-range", "bytes 0-99/1000"),
                    ("content-length", "100"),
                    ("content-encoding", "gzip"),
                ],
                FailureKind::Protocol,
            ),
        ];
        for (status, headers, kind) in cases {
            let error = verify(&answer(*status, headers), 100).unwrap_err();
            assert_eq!(
                (error.stage, error.kind),
                (Stage::Http, *kind),
                "{headers:?}"
            );
        }
    }

    #[test]
    fn content_ranges() {
        let parse = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, value.parse().unwrap());
            content_range(&headers)
        };
        assert_eq!(parse("bytes 0-9/100"), Some((0, 9, Some(100))));
        assert_eq!(parse("bytes 5-9/*"), Some((5, 9, None)));
        for bad in [
            "",
            "bytes */100",
            "bytes 9-0/100",
            "bytes 0-100/100",
            "bytes 0-9",
            "bytes -1-9/100",
            "items 0-9/100",
            "bytes 0-99999999999999999999/*",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
