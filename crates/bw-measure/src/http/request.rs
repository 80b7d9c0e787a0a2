//! One request, and the head of its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bw_protocol::{Content, ContentKey, Nonce, Proof, RATE_HEADER, Receipts};
use bw_results::{Direction, FailureKind, Stage};
use bytes::Bytes;
use futures::FutureExt;
use http_body_util::Empty;
use hyper::Response;
use hyper::body::{Body, Incoming};
use hyper::header::{HOST, RANGE, USER_AGENT};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::download::{self, Download};
use super::flow::{Part, Payload};
use super::upload::{self, Upload, UploadBody};
use super::waiting::Waiting;
use super::{local, number};
use crate::error::chain;
use crate::{Destination, Fault, PathError};

/// The scanner's name to web servers.
const AGENT: &str = concat!("bwscan/", env!("CARGO_PKG_VERSION"));
/// The most that hyper keeps of what waits to be sent or read, in bytes.
const BUFFER: usize = 64 << 10;

/// A request to a web server, and how its answer is recognised.
pub(super) struct Request {
    pub(super) destination: Destination,
    pub(super) direction: Direction,
    /// The most bytes to move.
    pub(super) bytes: u64,
    pub(super) key: Option<ContentKey>,
    /// The longest time until the head of the answer.
    pub(super) patience: Duration,
    /// True if it was said that a server has a limit.
    pub(super) warned: Arc<AtomicBool>,
}

impl Request {
    /// Sends it over `stream`, waits for the head of the answer and verifies it.
    pub(super) async fn send<S>(
        &self,
        mut stream: S,
        waiting: Arc<Waiting>,
    ) -> Result<Payload, PathError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.silent_until_asked(&mut stream)?;
        let asked = Instant::now();
        let nonce = Nonce::from_bytes(rand::random());
        let secret = self.key.as_ref().map(|key| (key, &nonce));
        let content = secret.map(|(key, nonce)| key.content(nonce, self.direction));
        let mut head = hyper::Request::builder()
            .uri(self.destination.path_and_query())
            .header(HOST, self.destination.authority())
            .header(USER_AGENT, AGENT)
            .header("accept-encoding", "identity")
            .header("connection", "close");
        if let Some((key, nonce)) = secret {
            head = head
                .header(Nonce::HEADER, nonce.to_string())
                .header(Proof::HEADER, Proof::new(key, nonce).to_string());
        }
        let (answer, connection, part) = match self.direction {
            Direction::Download => {
                let range = format!("bytes=0-{}", self.bytes.saturating_sub(1));
                let request = head.header(RANGE, range).body(Empty::<Bytes>::new());
                let (answer, connection) = self.exchange(stream, request).await?;
                let length = download::verify(&answer, self.bytes)?;
                if secret.is_some() {
                    self.announced(&answer, Content::HEADER)?;
                }
                let part = Part::Download(Download::new(length, content));
                (answer, connection, part)
            }
            Direction::Upload => {
                let body = UploadBody::new(self.bytes, content);
                let gate = body.gate();
                let request = head.method("POST").body(body);
                let (answer, connection) = self.exchange(stream, request).await?;
                upload::verify(&answer)?;
                self.announced(&answer, Receipts::HEADER)?;
                let upload = Upload::new(self.bytes, gate, Receipts::new(secret), asked);
                (answer, connection, Part::Upload(Box::new(upload)))
            }
            _ => return Err(local("only downloads and uploads can be made over HTTP")),
        };
        let limit = number(answer.headers(), RATE_HEADER);
        self.warn_of(limit);
        Ok(Payload {
            body: answer.into_body(),
            part,
            waiting,
            forger: self.forger(),
            limit,
            begin: Instant::now(),
            ended: false,
            offered: None,
            _connection: connection,
        })
    }

    /// Fails if something has come already: nobody was asked for anything.
    fn silent_until_asked<S>(&self, stream: &mut S) -> Result<(), PathError>
    where
        S: AsyncRead + Unpin,
    {
        let read = stream.read(&mut [0]).now_or_never();
        let (kind, detail) = match read {
            None => return Ok(()),
            Some(Ok(1..)) => (
                FailureKind::Protocol,
                "bytes came before anything was asked for".to_owned(),
            ),
            Some(Ok(0)) => (
                FailureKind::Closed,
                "the stream was closed before the request".to_owned(),
            ),
            Some(Err(error)) => (FailureKind::Closed, chain(&error)),
        };
        let fault = match kind {
            FailureKind::Protocol => self.forger(),
            _ => Fault::Either,
        };
        Err(PathError::new(Stage::Http, kind, fault, detail))
    }

    /// Sends `request` and waits for the head of the answer. The connection
    /// lives as long as the returned handle.
    async fn exchange<S, B>(
        &self,
        stream: S,
        request: hyper::http::Result<hyper::Request<B>>,
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
        timeout(self.patience, exchange).await.map_err(|_| {
            let detail = format!("no answer within {} s", self.patience.as_secs_f64());
            PathError::new(Stage::Http, FailureKind::Timeout, Fault::Either, detail)
        })?
    }

    /// Makes sure that the answer has a header that only a `bwscan serve` sends.
    fn announced<B>(
        &self,
        answer: &Response<B>,
        (name, value): (&str, &str),
    ) -> Result<(), PathError> {
        let found = answer.headers().get(name);
        if found.is_some_and(|found| found.as_bytes() == value.as_bytes()) {
            return Ok(());
        }
        let detail = match found {
            Some(other) => format!(
                "the answer has {name:?} with {other:?}, not {value:?}: the server's bwscan is of \
                 another version, let both be of the same"
            ),
            None if name == Receipts::HEADER.0 => {
                format!("an upload needs a server that confirms what comes: no header {name:?}")
            }
            None => format!("there is a key, which the server has not: no header {name:?}"),
        };
        let (stage, kind) = (Stage::Http, FailureKind::Protocol);
        Err(PathError::new(stage, kind, self.forger(), detail))
    }

    /// The one who can pose as the destination: over plain HTTP, any relay.
    fn forger(&self) -> Fault {
        if self.destination.is_tls() {
            Fault::Destination
        } else {
            Fault::Either
        }
    }

    /// Says once that a server gives no more than `limit` bytes per second.
    fn warn_of(&self, limit: Option<u64>) {
        if let Some(limit) = limit
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            let destination = &self.destination;
            tracing::warn!(%destination, limit, "the server limits its bytes per second; \
                ask it for less (limit of the destination), or rates are too low");
        }
    }
}

fn http_error(error: &hyper::Error) -> PathError {
    let (kind, fault) = if error.is_parse() || error.is_parse_status() {
        (FailureKind::Protocol, Fault::Destination)
    } else {
        (FailureKind::Closed, Fault::Either)
    };
    PathError::new(Stage::Http, kind, fault, chain(error))
}
