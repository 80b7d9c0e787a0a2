//! A timed download over a byte stream: HTTP/1.1 with a Range request,
//! verified, counted where it arrives.

use std::time::Duration;

use bw_results::{FailureKind, Slice, Stage, Transfer};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, HOST, HeaderMap, RANGE, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::{Destination, Estimator, Meter, StageTimeouts};

/// What to fetch and how finely to count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransferOptions {
    /// How many bytes to ask for; the transfer ends there if the estimator
    /// did not end it before. Default 1 GiB, as sbws's `max_download_size`.
    pub max_bytes: u64,
    /// How many bytes the slices that count must hold for a rate: what comes
    /// in drips tells nothing of a relay. Default 16 KiB, or what was asked
    /// for if that is less.
    pub min_bytes: u64,
    /// The length of a slice. Default 100 ms.
    pub slice: Duration,
}

impl Default for TransferOptions {
    fn default() -> Self {
        Self {
            max_bytes: 1 << 30,
            min_bytes: 16 << 10,
            slice: Duration::from_millis(100),
        }
    }
}

/// A transfer that does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{stage}: {kind}: {detail}")]
#[non_exhaustive]
pub struct TransferError {
    /// [`Stage::Http`] or [`Stage::Transfer`].
    pub stage: Stage,
    /// What went wrong.
    pub kind: FailureKind,
    /// The cause in words.
    pub detail: String,
    /// Bytes of the body that had come.
    pub bytes: u64,
}

impl TransferError {
    fn new(stage: Stage, kind: FailureKind, detail: impl Into<String>) -> Self {
        Self {
            stage,
            kind,
            detail: detail.into(),
            bytes: 0,
        }
    }
}

/// What the scanner calls itself to web servers.
const AGENT: &str = concat!("bwscan/", env!("CARGO_PKG_VERSION"));

/// Downloads from `destination` over `stream` (TLS, if any, is already in
/// it) until `estimator` has seen enough.
///
/// One stream carries one request. The answer must be 206 with the range
/// that was asked for, or the part of it that the file has, and with just as
/// many bytes; a redirect is not followed. `response` is set to the time from
/// the request to the head of the answer, and `progress` is told the bytes of
/// the body after every slice.
///
/// # Errors
/// [`Stage::Http`] if the answer is not the one that was asked for,
/// [`Stage::Transfer`] if the body stalls, ends early or gives no rate.
pub async fn download<S>(
    stream: S,
    destination: &Destination,
    options: &TransferOptions,
    timeouts: &StageTimeouts,
    estimator: &mut dyn Estimator,
    response: &mut Option<Duration>,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<Transfer, TransferError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let begin = Instant::now();
    let (answer, _connection) = timeout(
        timeouts.response,
        request(stream, destination, options.max_bytes),
    )
    .await
    .map_err(|_| {
        TransferError::new(
            Stage::Http,
            FailureKind::Timeout,
            format!("no answer within {} s", timeouts.response.as_secs_f64()),
        )
    })??;
    let length = verify(&answer, options.max_bytes)?;
    *response = Some(begin.elapsed());
    receive(answer, length, options, timeouts, estimator, progress).await
}

/// Sends the request and waits for the head of the answer. The connection
/// lives as long as the returned handle.
async fn request<S>(
    stream: S,
    destination: &Destination,
    max_bytes: u64,
) -> Result<(Response<hyper::body::Incoming>, AbortOnDropHandle<()>), TransferError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| http_error(&error))?;
    let connection = AbortOnDropHandle::new(tokio::spawn(async move {
        // Its errors reach us through the request and the body.
        let _ = connection.await;
    }));
    let request = Request::get(destination.path_and_query())
        .header(HOST, destination.authority())
        .header(USER_AGENT, AGENT)
        .header(RANGE, format!("bytes=0-{}", max_bytes.saturating_sub(1)))
        .header("accept-encoding", "identity")
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| TransferError::new(Stage::Http, FailureKind::Local, error.to_string()))?;
    let answer = sender
        .send_request(request)
        .await
        .map_err(|error| http_error(&error))?;
    Ok((answer, connection))
}

fn http_error(error: &hyper::Error) -> TransferError {
    let kind = if error.is_parse() || error.is_parse_status() {
        FailureKind::Protocol
    } else {
        FailureKind::Closed
    };
    TransferError::new(Stage::Http, kind, crate::error::chain(error))
}

/// Checks status, range and length of an answer to `bytes=0-{max_bytes - 1}`;
/// returns the length of its body.
fn verify<B>(answer: &Response<B>, max_bytes: u64) -> Result<u64, TransferError> {
    let refuse = |kind, detail: String| Err(TransferError::new(Stage::Http, kind, detail));
    match answer.status() {
        StatusCode::PARTIAL_CONTENT => {}
        StatusCode::OK => {
            return refuse(
                FailureKind::Range,
                "the server ignores Range requests (it answered 200, not 206)".to_owned(),
            );
        }
        status => {
            return refuse(
                FailureKind::Status,
                format!("the server answered {status}, not 206"),
            );
        }
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

fn number(headers: &HeaderMap, name: hyper::header::HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
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

/// Receives the body and counts it.
async fn receive(
    answer: Response<hyper::body::Incoming>,
    length: u64,
    options: &TransferOptions,
    timeouts: &StageTimeouts,
    estimator: &mut dyn Estimator,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<Transfer, TransferError> {
    let mut body = answer.into_body();
    let start = Instant::now();
    let mut meter = Meter::new(options.slice);
    let mut received = 0;
    let mut last_byte = start;
    let fail = |kind, detail: String, bytes| TransferError {
        bytes,
        ..TransferError::new(Stage::Transfer, kind, detail)
    };
    let stop = loop {
        // Wake at the end of each slice even if nothing comes: time without
        // a byte counts, and the estimator may end the transfer.
        let boundary = start + meter.next_boundary();
        let frame = tokio::time::timeout_at(boundary, body.frame()).await;
        let now = Instant::now();
        let finished_slice = match frame {
            Err(_) if now - last_byte >= timeouts.stall => {
                let silence = timeouts.stall.as_secs_f64();
                let detail = format!("no byte for {silence} s, after {received} bytes");
                return Err(fail(FailureKind::Timeout, detail, received));
            }
            Err(_) => meter.advance(now - start),
            Ok(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                received += bytes;
                if bytes > 0 {
                    last_byte = now;
                }
                meter.add(now - start, bytes)
            }
            Ok(Some(Err(error))) => {
                let detail = crate::error::chain(&error);
                let detail = format!("after {received} of {length} bytes: {detail}");
                return Err(fail(FailureKind::Closed, detail, received));
            }
            Ok(None) => {
                meter.advance(now - start);
                break None;
            }
        };
        if finished_slice {
            progress(received);
            if let Some(stop) = estimator.observe(meter.slices()) {
                break Some(stop);
            }
        }
    };
    if stop.is_none() && received != length {
        let detail = format!("{received} bytes came, {length} were announced");
        return Err(fail(FailureKind::Length, detail, received));
    }
    let slices = match stop {
        // The slice that was not finished when the estimator stopped is not
        // the whole of what was on its way.
        Some(_) => meter.slices().to_vec(),
        None => meter.finish(),
    };
    progress(received);
    let least = options.min_bytes.min(options.max_bytes);
    finish(slices, stop, estimator, received, least)
}

/// Sets the warm-up apart and makes sure that a rate is left.
fn finish(
    slices: Vec<Slice>,
    stop: Option<bw_results::StopReason>,
    estimator: &dyn Estimator,
    received: u64,
    least: u64,
) -> Result<Transfer, TransferError> {
    let warm_up = estimator.warm_up(&slices);
    let stop = stop.unwrap_or(bw_results::StopReason::Complete);
    let transfer = Transfer::new(slices, warm_up, stop);
    let counted: u64 = transfer.counted().iter().map(|slice| slice.bytes).sum();
    if transfer.rate().is_some() && counted >= least {
        return Ok(transfer);
    }
    let millis = transfer.duration().as_millis();
    Err(TransferError {
        bytes: received,
        ..TransferError::new(
            Stage::Transfer,
            FailureKind::TooShort,
            format!(
                "{received} bytes in {millis} ms, {counted} of them after the warm-up, \
                 give no rate (at least {least} must)"
            ),
        )
    })
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
