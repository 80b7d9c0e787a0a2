//! Circuits of two chosen relays, and streams through them.

use bw_results::Timings;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{PathError, StageTimeouts, TwoHops};

/// A way to build circuits of two chosen relays.
///
/// [`TorCircuits`](crate::tor::TorCircuits) builds them in a real network; a
/// simulator or a test hands out streams of its own.
pub trait Circuits: Send + Sync {
    /// An open circuit. Dropping it closes it.
    type Circuit: Circuit;

    /// Builds a circuit along `path`, hop by hop, each step within its limit
    /// in `timeouts`, and notes in `timings` how long each step took.
    ///
    /// # Errors
    /// The stage that failed ([`Stage::Channel`](bw_results::Stage::Channel), [`Stage::Create`](bw_results::Stage::Create) or
    /// [`Stage::Extend`](bw_results::Stage::Extend)), how, and which end is at fault.
    fn build(
        &self,
        path: TwoHops,
        timeouts: &StageTimeouts,
        timings: &mut Timings,
    ) -> impl Future<Output = Result<Self::Circuit, PathError>> + Send;
}

/// An open circuit.
pub trait Circuit: Send + Sync {
    /// A byte stream from the exit to a host.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Opens a stream to `port` of `host` (a name or an address; the exit
    /// resolves it) within [`StageTimeouts::begin`].
    ///
    /// # Errors
    /// A failure of [`Stage::Begin`](bw_results::Stage::Begin).
    fn connect(
        &self,
        host: &str,
        port: u16,
        timeouts: &StageTimeouts,
    ) -> impl Future<Output = Result<Self::Stream, PathError>> + Send;
}
