//! Payload on its way: the body of an answer, verified as it comes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bw_results::{FailureKind, Stage, Timings};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use tokio::time::{Instant, sleep_until};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use tokio_util::task::AbortOnDropHandle;

use super::download::Download;
use super::request::Request;
use super::upload::Upload;
use super::waiting::{Waiting, Watched};
use super::{Problem, local};
use crate::error::chain;
use crate::{Circuit, Fault, Flow, PathError};

/// At this share of a server's limit the server is what was measured.
const SATURATED: f64 = 0.9;
/// A flow younger than this tells nothing of it.
const SATURATION_TIME: Duration = Duration::from_secs(1);
/// More cannot be there at once. An exit that is asked for a pause has sent 500 cells that wait
/// (proposal 324, `cc_xoff_client`), and what is on its way then: with the 50 MB/s that a tor
/// process forwards and a round trip of 0.3 s, 15 MB.
const FLOOD: u64 = 16 << 20;
/// The time within which a prompt reader takes what is offered, and holds no flow back.
const PROMPT: Duration = Duration::from_millis(10);

/// A stream to a web server, plain or within TLS.
pub(super) type Stream<S> = Either<Watched<S>, TlsStream<Watched<S>>>;

/// Payload on its way through a circuit.
pub struct HttpFlow<C: Circuit> {
    phase: Phase<C::Stream>,
    _circuit: C,
}

/// The phases of a flow.
enum Phase<S> {
    /// Nothing was asked for.
    Open(Box<(Stream<S>, Request, Arc<Waiting>)>),
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
            .finish_non_exhaustive()
    }
}

impl<C: Circuit> HttpFlow<C> {
    /// A flow that will send `request` over `stream`.
    pub(super) fn new(
        stream: Stream<C::Stream>,
        waiting: Arc<Waiting>,
        request: Request,
        circuit: C,
    ) -> Self {
        Self {
            phase: Phase::Open(Box::new((stream, request, waiting))),
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
        let (stream, request, waiting) = *open;
        let payload = request.send(stream, waiting).await?;
        self.phase = Phase::Begun(Box::new(payload));
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

    fn ran_dry(&mut self) -> bool {
        match &mut self.phase {
            Phase::Begun(payload) => match &mut payload.part {
                Part::Download(_) => payload.waiting.ran_dry(),
                Part::Upload(upload) => upload.ran_dry(),
            },
            _ => true,
        }
    }

    fn is_at_servers_limit(&self) -> bool {
        match &self.phase {
            Phase::Begun(payload) => payload.is_at_servers_limit(),
            _ => false,
        }
    }
}

/// The body of an answer, and what is known of the transfer.
#[derive(Debug)]
pub(super) struct Payload {
    pub(super) body: Incoming,
    pub(super) part: Part,
    /// The bytes that wait in the stream.
    pub(super) waiting: Arc<Waiting>,
    /// The end of the circuit that can have sent what the server would not.
    pub(super) forger: Fault,
    /// The server's limit, in bytes per second.
    pub(super) limit: Option<u64>,
    pub(super) begin: Instant,
    /// True if the body has come to its end.
    pub(super) ended: bool,
    /// Since when bytes are at hand.
    pub(super) offered: Option<Instant>,
    pub(super) _connection: AbortOnDropHandle<()>,
}

/// The part of a flow in one direction.
#[derive(Debug)]
pub(super) enum Part {
    Download(Download),
    Upload(Box<Upload>),
}

impl Payload {
    /// See [`Flow::ready`]; cancel safe, as what comes is kept here at once. Of a download one
    /// frame of the body is at hand at most (64 KiB), and hyper reads one ahead.
    async fn ready(&mut self) -> Result<bool, PathError> {
        loop {
            let now = Instant::now();
            if self.part.at_hand(now) > 0 {
                self.offered.get_or_insert(now);
                return Ok(true);
            }
            let due = self.part.next(now);
            if self.ended && due.is_none() {
                return Ok(false);
            }
            let reads = !self.ended && self.part.has_room();
            tokio::select! {
                biased;
                frame = self.body.frame(), if reads => self.receive(frame)?,
                () = sleep_until(due.unwrap_or(now)), if due.is_some() => {}
            }
        }
    }

    /// See [`Flow::take`].
    fn take(&mut self, most: u64) -> u64 {
        let offered = self.offered.take();
        let (at_hand, taken) = match &mut self.part {
            Part::Download(download) => (download.at_hand(), download.take(most)),
            Part::Upload(upload) => (upload.at_hand(Instant::now()), upload.take(most)),
        };
        let is_late = offered.is_some_and(|offered| offered.elapsed() >= PROMPT);
        if is_late || taken < at_hand {
            self.waiting.forgive();
        }
        taken
    }

    /// Takes the next piece of the body, or its end.
    fn receive(
        &mut self,
        frame: Option<Result<Frame<Bytes>, hyper::Error>>,
    ) -> Result<(), PathError> {
        let (moved, length) = (self.part.moved(), self.part.length());
        let (kind, detail) = match frame {
            Some(Ok(frame)) => {
                let data = frame.into_data().unwrap_or_default();
                self.part
                    .receive(&data)
                    .map_err(|problem| self.laid_to_forger(problem))?;
                return self.not_too_much_waits();
            }
            Some(Err(error)) => (FailureKind::Closed, chain(&error)),
            None if moved == length => {
                self.ended = true;
                return Ok(());
            }
            None => (FailureKind::Length, "the answer ended".to_owned()),
        };
        let detail = format!("after {moved} of {length} bytes: {detail}");
        Err(PathError::new(Stage::Transfer, kind, Fault::Either, detail))
    }

    fn laid_to_forger(&self, (stage, kind, detail): Problem) -> PathError {
        PathError::new(stage, kind, self.forger, detail)
    }

    /// Fails if more was there at once than a sender that heeds flow control can have sent.
    fn not_too_much_waits(&self) -> Result<(), PathError> {
        let waited = self.waiting.at_once();
        if waited <= FLOOD {
            return Ok(());
        }
        let detail = format!(
            "{waited} bytes were there at once: somebody sends although we asked for a pause, \
             or this machine is too slow for its link"
        );
        let (stage, kind) = (Stage::Transfer, FailureKind::Protocol);
        Err(PathError::new(stage, kind, Fault::Either, detail))
    }

    /// See [`Flow::is_at_servers_limit`].
    fn is_at_servers_limit(&self) -> bool {
        let time = match &self.part {
            Part::Download(_) => self.begin.elapsed(),
            Part::Upload(upload) => upload.at(),
        };
        let moved = self.part.moved() as f64;
        self.limit.is_some_and(|limit| {
            time >= SATURATION_TIME && moved >= SATURATED * limit as f64 * time.as_secs_f64()
        })
    }
}

impl Part {
    /// Verified bytes, or those that the server confirmed.
    fn moved(&self) -> u64 {
        match self {
            Self::Download(download) => download.received(),
            Self::Upload(upload) => upload.confirmed(),
        }
    }

    fn length(&self) -> u64 {
        match self {
            Self::Download(download) => download.length(),
            Self::Upload(upload) => upload.length(),
        }
    }

    fn at_hand(&mut self, now: Instant) -> u64 {
        match self {
            Self::Download(download) => download.at_hand(),
            Self::Upload(upload) => upload.at_hand(now),
        }
    }

    /// When more is at hand, even if nothing comes.
    fn next(&mut self, now: Instant) -> Option<Instant> {
        match self {
            Self::Download(_) => None,
            Self::Upload(upload) => upload.next(now),
        }
    }

    fn has_room(&self) -> bool {
        match self {
            Self::Download(_) => true,
            Self::Upload(upload) => upload.has_room(),
        }
    }

    fn receive(&mut self, data: &[u8]) -> Result<(), Problem> {
        match self {
            Self::Download(download) => download.receive(data),
            Self::Upload(upload) => upload.receive(data, Instant::now()),
        }
    }
}
