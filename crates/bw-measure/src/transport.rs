//! Payload through a path: what the scan loop sees of circuits and web servers.

use bw_results::{Direction, Timings};

use crate::{Destination, PathError, TwoHops};

/// A way to move payload through two chosen relays.
///
/// [`HttpTransport`](crate::HttpTransport) does it over circuits and HTTP; a
/// simulator moves counts instead of bytes. Everything above this trait
/// (scheduler, estimator, scan loop) is the same for both.
///
/// A measurement has two phases: it opens all its flows, and only then do requests go out
/// ([`Flow::begin`]). So no flow brings payload while another is still opening, and a relay
/// cannot fill our queues through some circuits while it delays the last one.
pub trait Transport: Send + Sync {
    /// Payload on its way.
    type Flow: Flow + 'static;

    /// Opens `path` up to the point where a request can be sent (circuit, stream, TLS), each
    /// stage within its limit, and notes in `timings` how long each took. Asks for nothing yet.
    ///
    /// # Errors
    /// The stage that failed, how, and which end is at fault.
    fn open(
        &self,
        path: TwoHops,
        order: &Order<'_>,
        timings: &mut Timings,
    ) -> impl Future<Output = Result<Self::Flow, PathError>> + Send;
}

/// Payload on its way through a path. Dropping it closes the path.
///
/// Bytes are read in two steps: [`ready`](Self::ready) waits until some are at hand, and
/// [`take`](Self::take) hands out no more than the caller allows. A caller that finds a flow
/// ready and takes nothing thus knows that it held the flow back, and nobody else did.
pub trait Flow: Send {
    /// Sends the request, waits for the head of the answer, verifies it, and notes in
    /// `timings` how long that took. To be called once, when all flows of a measurement
    /// are open.
    ///
    /// # Errors
    /// What went wrong: no answer in time, a wrong one, or bytes that came before the request.
    /// The flow is of no use after that.
    fn begin(
        &mut self,
        timings: &mut Timings,
    ) -> impl Future<Output = Result<(), PathError>> + Send;

    /// Waits until at least one verified byte is at hand (for an upload: one that the server
    /// confirmed); `false` when everything that was ordered has come and was taken. Hands
    /// out nothing. What is not taken waits, and the sender with it.
    ///
    /// Cancel safe: nothing is lost if the future is dropped and made again.
    ///
    /// # Errors
    /// What broke. The flow is of no use after that.
    fn ready(&mut self) -> impl Future<Output = Result<bool, PathError>> + Send;

    /// Hands out up to `most` of the bytes at hand, and returns how many these are.
    fn take(&mut self, most: u64) -> u64;

    /// Returns true if, at some moment since this was last asked, nothing waited to be read. If not,
    /// what was taken since then came from a queue, at our own pace, and tells nothing of the
    /// path: after a time in which the flow was held back, or if somebody fills the queue
    /// although he was asked for a pause. A slice is evidence only if its flow ran dry in it.
    fn ran_dry(&mut self) -> bool;

    /// Returns true if the server gives as much as it says that it gives at most: then the
    /// rate is the server's, and a lower bound of the path's.
    fn is_at_servers_limit(&self) -> bool {
        false
    }
}

/// The transfer to make, and with which web server.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Order<'a> {
    /// The web server.
    pub destination: &'a Destination,
    /// The direction of the payload.
    pub direction: Direction,
    /// The most bytes to move.
    pub bytes: u64,
}

impl<'a> Order<'a> {
    /// A download of `bytes` from `destination`.
    pub const fn download(destination: &'a Destination, bytes: u64) -> Self {
        Self {
            destination,
            direction: Direction::Download,
            bytes,
        }
    }
}

impl<T: Transport + ?Sized> Transport for &T {
    type Flow = T::Flow;

    fn open(
        &self,
        path: TwoHops,
        order: &Order<'_>,
        timings: &mut Timings,
    ) -> impl Future<Output = Result<Self::Flow, PathError>> + Send {
        (**self).open(path, order, timings)
    }
}
