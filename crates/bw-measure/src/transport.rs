//! Payload through a path: what the scan loop sees of circuits and web servers.

use bw_results::{Direction, Timings};

use crate::{Destination, PathError, TwoHops};

/// A way to move payload through two chosen relays.
///
/// [`HttpTransport`](crate::HttpTransport) does it over circuits and HTTP; a
/// simulator moves counts instead of bytes. Everything above this trait
/// (scheduler, estimator, scan loop) is the same for both.
pub trait Transport: Send + Sync {
    /// Payload on its way.
    type Flow: Flow + 'static;

    /// Opens `path` up to the point where payload flows, each stage within its
    /// limit, and notes in `timings` how long each took.
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
pub trait Flow: Send {
    /// Waits for more payload, reads about `most` bytes of it at most, and returns
    /// how many it read (for an upload: how many more the server confirmed); `None` when
    /// everything that was ordered has come. Only verified bytes are counted. What is
    /// not read waits, and the sender with it.
    ///
    /// Cancel safe: nothing is lost if the future is dropped and made again.
    ///
    /// # Errors
    /// What broke. The flow is of no use after that.
    fn receive(&mut self, most: u64)
    -> impl Future<Output = Result<Option<u64>, PathError>> + Send;
}

/// What to move, and with which web server.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Order<'a> {
    /// The web server.
    pub destination: &'a Destination,
    /// Which way the payload goes.
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
