//! Payload over circuits and HTTP/1.1: one circuit, one stream, one request,
//! verified.

use bw_results::{Direction, FailureKind, Stage, Timings};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, HOST, HeaderMap, RANGE, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::error::chain;
use crate::{
    Circuit, Circuits, Destination, Fault, Flow, Order, PathError, StageTimeouts, Tls, Transport,
    TwoHops,
};

/// What the scanner calls itself to web servers.
const AGENT: &str = concat!("bwscan/", env!("CARGO_PKG_VERSION"));

/// Downloads over HTTP/1.1 and HTTPS through circuits of its own.
///
/// Each flow has a circuit, a stream and a request for itself, with a Range;
/// nothing depends on a server's keep-alive. The answer must be 206 with the
/// range that was asked for, or the part of it that the file has, and with
/// just as many bytes; a redirect is not followed.
#[derive(Debug)]
#[non_exhaustive]
pub struct HttpTransport<C> {
    /// Builds the circuits.
    pub circuits: C,
    /// How web servers prove who they are.
    pub tls: Tls,
    /// How long each stage may take.
    pub timeouts: StageTimeouts,
}

impl<C: Circuits> HttpTransport<C> {
    /// A transport over `circuits` with default limits.
    pub fn new(circuits: C, tls: Tls) -> Self {
        Self {
            circuits,
            tls,
            timeouts: StageTimeouts::default(),
        }
    }

    /// Sends the request over `stream` and waits for the head of the answer.
    async fn request<S>(
        &self,
        stream: S,
        order: &Order<'_>,
        timings: &mut Timings,
    ) -> Result<(Incoming, u64, AbortOnDropHandle<()>), PathError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let begin = Instant::now();
        let limit = self.timeouts.response;
        let (answer, connection) =
            timeout(limit, download(stream, order))
                .await
                .map_err(|_| {
                    PathError::new(
                        Stage::Http,
                        FailureKind::Timeout,
                        Fault::Either,
                        format!("no answer within {} s", limit.as_secs_f64()),
                    )
                })??;
        let length = verify(&answer, order.bytes)?;
        timings.response = Some(begin.elapsed());
        Ok((answer.into_body(), length, connection))
    }
}

impl<C: Circuits> Transport for HttpTransport<C>
where
    C::Circuit: 'static,
{
    type Flow = HttpFlow<C::Circuit>;

    async fn open(
        &self,
        path: TwoHops,
        order: &Order<'_>,
        timings: &mut Timings,
    ) -> Result<Self::Flow, PathError> {
        if order.direction != Direction::Download {
            return Err(PathError::new(
                Stage::Path,
                FailureKind::Local,
                Fault::Scanner,
                "only downloads can be made over HTTP",
            ));
        }
        let circuit = self.circuits.build(path, &self.timeouts, timings).await?;
        let destination = order.destination;
        let begin = Instant::now();
        let stream = circuit
            .connect(destination.host(), destination.port(), &self.timeouts)
            .await?;
        timings.begin = Some(begin.elapsed());
        let (body, length, connection) = if destination.is_tls() {
            let begin = Instant::now();
            let stream = timeout(self.timeouts.tls, self.tls.connect(destination, stream))
                .await
                .map_err(|_| tls_timeout(&self.timeouts))?
                .map_err(|error| tls_problem(&error))?;
            timings.tls = Some(begin.elapsed());
            self.request(stream, order, timings).await?
        } else {
            self.request(stream, order, timings).await?
        };
        Ok(HttpFlow {
            body,
            length,
            received: 0,
            _connection: connection,
            _circuit: circuit,
        })
    }
}

/// The body of an answer on its way through a circuit.
#[derive(Debug)]
pub struct HttpFlow<C> {
    body: Incoming,
    /// What the head of the answer announced.
    length: u64,
    received: u64,
    _connection: AbortOnDropHandle<()>,
    _circuit: C,
}

impl<C: Circuit> Flow for HttpFlow<C> {
    async fn receive(&mut self) -> Result<Option<u64>, PathError> {
        let broken =
            |kind, detail| Err(PathError::new(Stage::Transfer, kind, Fault::Either, detail));
        let (received, length) = (self.received, self.length);
        match self.body.frame().await {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.received += bytes;
                Ok(Some(bytes))
            }
            Some(Err(error)) => {
                let error = chain(&error);
                let detail = format!("after {received} of {length} bytes: {error}");
                broken(FailureKind::Closed, detail)
            }
            None if received == length => Ok(None),
            None => {
                let detail = format!("{received} bytes came, {length} were announced");
                broken(FailureKind::Length, detail)
            }
        }
    }
}

fn tls_timeout(timeouts: &StageTimeouts) -> PathError {
    PathError::new(
        Stage::Tls,
        FailureKind::Timeout,
        Fault::Destination,
        format!("no handshake within {} s", timeouts.tls.as_secs_f64()),
    )
}

fn tls_problem(error: &std::io::Error) -> PathError {
    use std::io::ErrorKind;
    let kind = match error.kind() {
        // rustls reports alerts and bad certificates as invalid data. An exit
        // that poses as the server looks the same as a server with a wrong
        // certificate, so that the fault is anyone's on the way.
        ErrorKind::InvalidData => FailureKind::Protocol,
        _ => FailureKind::Closed,
    };
    PathError::new(Stage::Tls, kind, Fault::Either, chain(error))
}

/// Asks for the first bytes of the file. The connection lives as long as the
/// returned handle.
async fn download<S>(
    stream: S,
    order: &Order<'_>,
) -> Result<(Response<Incoming>, AbortOnDropHandle<()>), PathError>
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
    let destination: &Destination = order.destination;
    let request = Request::get(destination.path_and_query())
        .header(HOST, destination.authority())
        .header(USER_AGENT, AGENT)
        .header(RANGE, format!("bytes=0-{}", order.bytes.saturating_sub(1)))
        .header("accept-encoding", "identity")
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| {
            let detail = error.to_string();
            PathError::new(Stage::Http, FailureKind::Local, Fault::Scanner, detail)
        })?;
    let answer = sender
        .send_request(request)
        .await
        .map_err(|error| http_error(&error))?;
    Ok((answer, connection))
}

fn http_error(error: &hyper::Error) -> PathError {
    let (kind, fault) = if error.is_parse() || error.is_parse_status() {
        (FailureKind::Protocol, Fault::Destination)
    } else {
        (FailureKind::Closed, Fault::Either)
    };
    PathError::new(Stage::Http, kind, fault, chain(error))
}

/// Checks status, range and length of an answer to `bytes=0-{max_bytes - 1}`;
/// returns the length of its body.
fn verify<B>(answer: &Response<B>, max_bytes: u64) -> Result<u64, PathError> {
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
