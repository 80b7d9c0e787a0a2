//! No circuits at all, for looking at a web server by itself.

use bw_results::{FailureKind, Stage, Timings};
use tokio::net::TcpStream;

use crate::{Circuit, Circuits, Fault, PathError, StageTimeouts, TwoHops};

/// [`Circuits`] that lead straight to the web server, whatever relays are asked for.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "it holds nothing")]
pub struct Direct;

impl Circuits for Direct {
    type Circuit = Self;

    async fn build(
        &self,
        _: TwoHops,
        _: &StageTimeouts,
        _: &mut Timings,
    ) -> Result<Self, PathError> {
        Ok(Self)
    }
}

impl Circuit for Direct {
    type Stream = TcpStream;

    async fn connect(
        &self,
        host: &str,
        port: u16,
        timeouts: &StageTimeouts,
    ) -> Result<TcpStream, PathError> {
        let failed =
            |kind, detail: String| PathError::new(Stage::Begin, kind, Fault::Destination, detail);
        let connect = TcpStream::connect((host.trim_matches(['[', ']']), port));
        match tokio::time::timeout(timeouts.begin, connect).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(failed(FailureKind::Refused, error.to_string())),
            Err(_) => Err(failed(FailureKind::Timeout, "no connection".to_owned())),
        }
    }
}
