//! Payload over circuits and HTTP/1.1: one circuit, one stream, one request,
//! verified.

mod download;
mod upload;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bw_results::{Direction, FailureKind, Stage, Timings};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use hyper::header::{HOST, HeaderMap, RANGE, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use self::download::Download;
use self::upload::{Upload, UploadBody};
use crate::error::chain;
use crate::{
    Circuit, Circuits, Content, ContentKey, Destination, Fault, Flow, Nonce, Order, PathError,
    Receipts, StageTimeouts, Tls, Transport, TwoHops,
};

/// What the scanner calls itself to web servers.
const AGENT: &str = concat!("bwscan/", env!("CARGO_PKG_VERSION"));
/// Of what waits to be sent, hyper keeps no more than this.
const BUFFER: usize = 64 << 10;
/// At this share of a server's limit the server is what was measured.
const SATURATED: f64 = 0.9;
/// A flow younger than this tells nothing of it.
const SATURATION_TIME: Duration = Duration::from_secs(1);

/// The response's header with which a server tells its limit: the bytes per
/// second of all its clients together, in decimal.
pub const RATE_HEADER: &str = "bwscan-rate";

/// Downloads and uploads over HTTP/1.1 and HTTPS through circuits of its own.
///
/// Each flow has a circuit, a stream and a request for itself; nothing depends
/// on a server's keep-alive, and a redirect is not followed.
///
/// A download asks for a Range. The answer must be 206 with the range that was
/// asked for, or the part of it that the file has, and with just as many
/// bytes. An upload is a POST that the server answers at once, with
/// [`Receipts`]; only what they confirm counts.
///
/// With a key, the request carries a [`Nonce`], and nobody but the server can
/// send or confirm a single byte. A flow that takes nearly all of what the
/// server says that it gives ([`RATE_HEADER`]) fails: that is no relay's rate.
#[derive(Debug)]
#[non_exhaustive]
pub struct HttpTransport<C> {
    /// Builds the circuits.
    pub circuits: C,
    /// How web servers prove who they are.
    pub tls: Tls,
    /// How long each stage may take.
    pub timeouts: StageTimeouts,
    /// The secret that all destinations must share with us. Default: none.
    pub key: Option<ContentKey>,
    /// Whether it was said that a server has a limit.
    warned: AtomicBool,
}

impl<C: Circuits> HttpTransport<C> {
    /// A transport over `circuits` with default limits.
    pub fn new(circuits: C, tls: Tls) -> Self {
        Self {
            circuits,
            tls,
            timeouts: StageTimeouts::default(),
            key: None,
            warned: AtomicBool::new(false),
        }
    }

    /// Sends the request over `stream`, waits for the head of the answer and
    /// verifies it.
    async fn request<S>(
        &self,
        stream: S,
        order: &Order<'_>,
        timings: &mut Timings,
    ) -> Result<Payload, PathError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let begin = Instant::now();
        let nonce = Nonce::from_bytes(rand::random());
        let secret = self.key.as_ref().map(|key| (key, &nonce));
        let mut head = Request::builder()
            .uri(order.destination.path_and_query())
            .header(HOST, order.destination.authority())
            .header(USER_AGENT, AGENT)
            .header("accept-encoding", "identity")
            .header("connection", "close");
        if secret.is_some() {
            head = head.header(Nonce::HEADER, nonce.to_string());
        }
        let content = |direction| secret.map(|(key, nonce)| key.content(nonce, direction));
        let forger = forger(order.destination);
        let (answer, connection, part) = match order.direction {
            Direction::Download => {
                let range = format!("bytes=0-{}", order.bytes.saturating_sub(1));
                let request = head.header(RANGE, range).body(Empty::<Bytes>::new());
                let (answer, connection) = self.exchange(stream, request).await?;
                let length = download::verify(&answer, order.bytes)?;
                if secret.is_some() {
                    announced(&answer, Content::HEADER, forger)?;
                }
                let content = content(Direction::Download);
                (
                    answer,
                    connection,
                    Part::Download(Download::new(length, content)),
                )
            }
            Direction::Upload => {
                let body = UploadBody::new(order.bytes, content(Direction::Upload));
                let sent = body.sent();
                let request = head.method("POST").body(body);
                let (answer, connection) = self.exchange(stream, request).await?;
                upload::verify(&answer)?;
                announced(&answer, Receipts::HEADER, forger)?;
                let receipts = Receipts::new(secret);
                (
                    answer,
                    connection,
                    Part::Upload(Upload::new(order.bytes, sent, receipts)),
                )
            }
            _ => return Err(local("only downloads and uploads can be made over HTTP")),
        };
        timings.response = Some(begin.elapsed());
        let limit = number(answer.headers(), RATE_HEADER);
        if let Some(limit) = limit
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            let destination = order.destination;
            tracing::warn!(%destination, limit, "the server limits its bytes per second; \
                ask it for less (limit of the destination), or rates are too low");
        }
        Ok(Payload {
            body: answer.into_body(),
            part,
            forger,
            limit,
            moved: 0,
            begin: Instant::now(),
            _connection: connection,
        })
    }

    /// Sends `request` and waits for the head of the answer. The connection
    /// lives as long as the returned handle.
    async fn exchange<S, B>(
        &self,
        stream: S,
        request: hyper::http::Result<Request<B>>,
    ) -> Result<(Response<Incoming>, AbortOnDropHandle<()>), PathError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        B: Body<Data = Bytes, Error = std::convert::Infallible> + Send + 'static,
    {
        let request = request.map_err(|error| local(error.to_string()))?;
        let exchange = async {
            let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
                .max_buf_size(BUFFER)
                .handshake(TokioIo::new(stream))
                .await
                .map_err(|error| http_error(&error))?;
            let connection = AbortOnDropHandle::new(tokio::spawn(async move {
                // Its errors reach us through the request and the body.
                let _ = connection.await;
            }));
            let answer = sender.send_request(request).await;
            Ok((answer.map_err(|error| http_error(&error))?, connection))
        };
        let limit = self.timeouts.response;
        timeout(limit, exchange).await.map_err(|_| {
            let detail = format!("no answer within {} s", limit.as_secs_f64());
            PathError::new(Stage::Http, FailureKind::Timeout, Fault::Either, detail)
        })?
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
        let circuit = self.circuits.build(path, &self.timeouts, timings).await?;
        let destination = order.destination;
        let begin = Instant::now();
        let stream = circuit
            .connect(destination.host(), destination.port(), &self.timeouts)
            .await?;
        timings.begin = Some(begin.elapsed());
        let payload = if destination.is_tls() {
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
            payload,
            _circuit: circuit,
        })
    }
}

/// Payload on its way through a circuit.
#[derive(Debug)]
pub struct HttpFlow<C> {
    payload: Payload,
    _circuit: C,
}

impl<C: Circuit> Flow for HttpFlow<C> {
    /// One frame of the body, whatever its size: hyper has read it already, and
    /// reads only one ahead, of at most a few times 16 KiB.
    async fn receive(&mut self, _most: u64) -> Result<Option<u64>, PathError> {
        self.payload.receive().await
    }
}

/// The body of an answer, and what is known of the transfer.
#[derive(Debug)]
struct Payload {
    body: Incoming,
    part: Part,
    /// Who can have sent what the server would not.
    forger: Fault,
    /// The server's limit, in bytes per second.
    limit: Option<u64>,
    /// Verified bytes.
    moved: u64,
    begin: Instant,
    _connection: AbortOnDropHandle<()>,
}

#[derive(Debug)]
enum Part {
    Download(Download),
    Upload(Upload),
}

impl Payload {
    /// See [`Flow::receive`]; cancel safe, as nothing is kept across the wait.
    async fn receive(&mut self) -> Result<Option<u64>, PathError> {
        let (moved, total) = match &self.part {
            Part::Download(download) => (self.moved, download.length()),
            Part::Upload(upload) => (self.moved, upload.length()),
        };
        let broken =
            |kind, detail| Err(PathError::new(Stage::Transfer, kind, Fault::Either, detail));
        let data = match self.body.frame().await {
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(error)) => {
                let error = chain(&error);
                let detail = format!("after {moved} of {total} bytes: {error}");
                return broken(FailureKind::Closed, detail);
            }
            None if moved == total => return Ok(None),
            None => {
                let detail = format!("the answer ended after {moved} of {total} bytes");
                return broken(FailureKind::Length, detail);
            }
        };
        let more = match &mut self.part {
            Part::Download(download) => download.take(&data),
            Part::Upload(upload) => upload.take(&data),
        }
        .map_err(|(stage, kind, detail)| PathError::new(stage, kind, self.forger, detail))?;
        self.moved += more;
        self.attribute()?;
        Ok(Some(more))
    }

    /// Fails if the server is slower than the relays, by its own words.
    fn attribute(&self) -> Result<(), PathError> {
        let time = self.begin.elapsed();
        match self.limit {
            Some(limit)
                if time >= SATURATION_TIME
                    && self.moved as f64 >= SATURATED * limit as f64 * time.as_secs_f64() =>
            {
                Err(PathError::new(
                    Stage::Transfer,
                    FailureKind::Limited,
                    Fault::Destination,
                    format!("the server gives {limit} bytes per second at most, and says so"),
                ))
            }
            _ => Ok(()),
        }
    }
}

/// A stage, how it failed, and the cause in words.
type Problem = (Stage, FailureKind, String);

/// Who can pose as `destination`: over plain HTTP, any relay.
fn forger(destination: &Destination) -> Fault {
    if destination.is_tls() {
        Fault::Destination
    } else {
        Fault::Either
    }
}

/// Makes sure that the answer has a header that only a `bwscan serve` sends.
fn announced<B>(
    answer: &Response<B>,
    (name, value): (&str, &str),
    forger: Fault,
) -> Result<(), PathError> {
    let found = answer.headers().get(name);
    if found.is_some_and(|found| found.as_bytes() == value.as_bytes()) {
        return Ok(());
    }
    let needs = if name == Receipts::HEADER.0 {
        "an upload needs a server that confirms what comes"
    } else {
        "there is a key, which the server has not"
    };
    let detail = format!("{needs}: no header {name:?} with {value:?} in the answer");
    Err(PathError::new(
        Stage::Http,
        FailureKind::Protocol,
        forger,
        detail,
    ))
}

fn local(detail: impl Into<String>) -> PathError {
    PathError::new(Stage::Http, FailureKind::Local, Fault::Scanner, detail)
}

fn number(headers: &HeaderMap, name: impl hyper::header::AsHeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

fn wrong_status(status: StatusCode, expected: StatusCode) -> PathError {
    PathError::new(
        Stage::Http,
        FailureKind::Status,
        Fault::Destination,
        format!("the server answered {status}, not {}", expected.as_u16()),
    )
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

fn http_error(error: &hyper::Error) -> PathError {
    let (kind, fault) = if error.is_parse() || error.is_parse_status() {
        (FailureKind::Protocol, Fault::Destination)
    } else {
        (FailureKind::Closed, Fault::Either)
    };
    PathError::new(Stage::Http, kind, fault, chain(error))
}
