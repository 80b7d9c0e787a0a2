//! Payload on its way: the body of an answer, verified as it comes.

use std::fmt;
use std::time::Duration;

use bw_results::{FailureKind, Stage, Timings};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use tokio_util::task::AbortOnDropHandle;

use super::download::Download;
use super::local;
use super::request::Request;
use super::upload::Upload;
use crate::error::chain;
use crate::{Circuit, Fault, Flow, PathError};

/// At this share of a server's limit the server is what was measured.
const SATURATED: f64 = 0.9;
/// A flow younger than this tells nothing of it.
const SATURATION_TIME: Duration = Duration::from_secs(1);

/// A stream to a web server, plain or within TLS.
type Stream<S> = Either<S, TlsStream<S>>;

/// Payload on its way through a circuit.
pub struct HttpFlow<C: Circuit> {
    phase: Phase<C::Stream>,
    _circuit: C,
}

/// How far a flow is.
enum Phase<S> {
    /// Nothing was asked for.
    Open(Box<(Stream<S>, Request)>),
    /// The head of the answer was right.
    Begun(Box<Payload>),
    /// The request failed or was given up.
    Over,
}

impl<C: Circuit> fmt::Debug for HttpFlow<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let payload = match &self.phase {
            Phase::Begun(payload) => Some(payload),
            _ => None,
        };
        f.debug_struct("HttpFlow")
            .field("payload", &payload)
            .finish()
    }
}

impl<C: Circuit> HttpFlow<C> {
    /// A flow that will send `request` over `stream`.
    pub(super) fn new(stream: Stream<C::Stream>, request: Request, circuit: C) -> Self {
        Self {
            phase: Phase::Open(Box::new((stream, request))),
            _circuit: circuit,
        }
    }
}

impl<C: Circuit> Flow for HttpFlow<C> {
    async fn begin(&mut self, timings: &mut Timings) -> Result<(), PathError> {
        let Phase::Open(open) = std::mem::replace(&mut self.phase, Phase::Over) else {
            return Err(local("a flow begins once"));
        };
        let begin = Instant::now();
        let (stream, request) = *open;
        self.phase = Phase::Begun(Box::new(request.send(stream).await?));
        timings.response = Some(begin.elapsed());
        Ok(())
    }

    async fn ready(&mut self) -> Result<bool, PathError> {
        match &mut self.phase {
            Phase::Begun(payload) => payload.ready().await,
            _ => Err(local("a flow that has not begun brings nothing")),
        }
    }

    fn take(&mut self, most: u64) -> u64 {
        match &mut self.phase {
            Phase::Begun(payload) => payload.take(most),
            _ => 0,
        }
    }
}

/// The body of an answer, and what is known of the transfer.
#[derive(Debug)]
pub(super) struct Payload {
    body: Incoming,
    part: Part,
    /// Who can have sent what the server would not.
    forger: Fault,
    /// The server's limit, in bytes per second.
    limit: Option<u64>,
    /// Verified bytes, and those of them that nobody has taken.
    moved: u64,
    at_hand: u64,
    begin: Instant,
    _connection: AbortOnDropHandle<()>,
}

/// Which way the payload goes.
#[derive(Debug)]
pub(super) enum Part {
    Download(Download),
    Upload(Upload),
}

impl Payload {
    pub(super) fn new(
        body: Incoming,
        part: Part,
        forger: Fault,
        limit: Option<u64>,
        connection: AbortOnDropHandle<()>,
    ) -> Self {
        Self {
            body,
            part,
            forger,
            limit,
            moved: 0,
            at_hand: 0,
            begin: Instant::now(),
            _connection: connection,
        }
    }

    /// See [`Flow::ready`]; cancel safe, as what comes is kept here at once. One frame of
    /// the body is at hand at most (64 KiB), and hyper reads one ahead.
    async fn ready(&mut self) -> Result<bool, PathError> {
        while self.at_hand == 0 {
            let Some(data) = self.frame().await? else {
                return Ok(false);
            };
            let verified = match &mut self.part {
                Part::Download(download) => download.take(&data),
                Part::Upload(upload) => upload.take(&data),
            };
            let forger = self.forger;
            let more = verified
                .map_err(|(stage, kind, detail)| PathError::new(stage, kind, forger, detail))?;
            self.moved += more;
            self.at_hand += more;
            self.attribute()?;
        }
        Ok(true)
    }

    /// See [`Flow::take`].
    fn take(&mut self, most: u64) -> u64 {
        let taken = most.min(self.at_hand);
        self.at_hand -= taken;
        taken
    }

    /// The next piece of the body; `None` at its end.
    async fn frame(&mut self) -> Result<Option<Bytes>, PathError> {
        let (kind, detail) = match self.body.frame().await {
            Some(Ok(frame)) => return Ok(Some(frame.into_data().unwrap_or_default())),
            Some(Err(error)) => (FailureKind::Closed, chain(&error)),
            None if self.moved == self.length() => return Ok(None),
            None => (FailureKind::Length, "the answer ended".to_owned()),
        };
        let detail = format!("after {} of {} bytes: {detail}", self.moved, self.length());
        Err(PathError::new(Stage::Transfer, kind, Fault::Either, detail))
    }

    fn length(&self) -> u64 {
        match &self.part {
            Part::Download(download) => download.length(),
            Part::Upload(upload) => upload.length(),
        }
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
