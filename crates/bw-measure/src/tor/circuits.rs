//! Circuits of two chosen relays, built hop by hop.

use std::sync::Arc;
use std::time::Duration;

use bw_file::Fingerprint;
use bw_results::{FailureKind, Stage, Timings};
use tokio::time::{Instant, timeout};
use tor_chanmgr::{ChanMgr, ChannelUsage};
use tor_dirmgr::DirProvider;
use tor_error::{ErrorKind, HasKind};
use tor_linkspec::OwnedCircTarget;
use tor_netdir::{NetDir, Timeliness};
use tor_proto::ClientTunnel;
use tor_proto::client::circuit::{CircParameters, TimeoutEstimator};
use tor_proto::client::stream::DataStream;
use tor_rtcompat::tokio::TokioRustlsRuntime;

use super::words::describe;
use super::{Lane, Lanes, rsa_identity};
use crate::error::chain;
use crate::{Circuit, Circuits, Fault, PathError, StageTimeouts, TwoHops};

/// The manager of one lane's channels.
pub(super) type Channels = Arc<ChanMgr<TokioRustlsRuntime>>;

/// A stream through a Tor circuit.
pub type TorStream = DataStream;

/// Builds circuits through a real network, over channels of its own.
pub struct TorCircuits {
    provider: Arc<dyn DirProvider>,
    channels: Arc<Lanes<Channels>>,
}

impl std::fmt::Debug for TorCircuits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TorCircuits").finish_non_exhaustive()
    }
}

/// An open circuit of two hops; dropping it closes it.
pub struct TorCircuit {
    tunnel: Arc<ClientTunnel>,
    _lane: Lane<Channels>,
}

impl std::fmt::Debug for TorCircuit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TorCircuit").finish_non_exhaustive()
    }
}

impl Drop for TorCircuit {
    fn drop(&mut self) {
        self.tunnel.terminate();
    }
}

/// The time after which arti's circuit reactor expires closed streams; our
/// own timeouts are around each step.
struct HalfStreamTimeout;

impl TimeoutEstimator for HalfStreamTimeout {
    fn circuit_build_timeout(&self, _: usize) -> Duration {
        Duration::from_secs(60)
    }
}

impl TorCircuits {
    pub(super) fn new(provider: Arc<dyn DirProvider>, channels: Arc<Lanes<Channels>>) -> Self {
        Self { provider, channels }
    }
}

impl Circuits for TorCircuits {
    type Circuit = TorCircuit;

    async fn build(
        &self,
        path: TwoHops,
        timeouts: &StageTimeouts,
        timings: &mut Timings,
    ) -> Result<TorCircuit, PathError> {
        let netdir = self
            .provider
            .netdir(Timeliness::Timely)
            .map_err(|error| local(Stage::Path, &error))?;
        let entry = target(&netdir, &path.entry, Fault::Entry)?;
        let exit = target(&netdir, &path.exit, Fault::Exit)?;
        let parameters = tor_circmgr::build::exit_circparams_from_netparams(netdir.params())
            .map_err(|error| local(Stage::Path, &error))?;
        drop(netdir);

        let opening = Instant::now();
        let limit = timeouts.left(opening).channel;
        let begin = Instant::now();
        let lane = self.channels.take(path.entry);
        let channel = lane
            .manager()
            .get_or_launch(&entry, ChannelUsage::UserTraffic);
        let (channel, _) = within(Stage::Channel, limit, Fault::Entry, channel).await?;
        timings.channel = Some(begin.elapsed());

        let limit = timeouts.left(opening).create;
        let begin = Instant::now();
        let create = create(&channel, &entry, parameters.clone());
        let tunnel = within(Stage::Create, limit, Fault::Entry, create).await?;
        timings.create = Some(begin.elapsed());
        let circuit = TorCircuit {
            tunnel: Arc::new(tunnel),
            _lane: lane,
        };

        let limit = timeouts.left(opening).extend;
        let begin = Instant::now();
        // The entry relays the request, connects to the exit if it has no
        // connection yet, and relays the answer: either may be at fault.
        let extend = async {
            circuit
                .tunnel
                .as_single_circ()?
                .extend(&exit, parameters)
                .await
        };
        within(Stage::Extend, limit, Fault::Either, extend).await?;
        timings.extend = Some(begin.elapsed());
        Ok(circuit)
    }
}

impl Circuit for TorCircuit {
    type Stream = TorStream;

    async fn connect(
        &self,
        host: &str,
        port: u16,
        timeouts: &StageTimeouts,
    ) -> Result<TorStream, PathError> {
        let begin = self.tunnel.begin_stream(host, port, None);
        within(Stage::Begin, timeouts.begin, Fault::Either, begin).await
    }
}

/// Everything that is needed to make `relay` a hop.
fn target(
    netdir: &NetDir,
    relay: &Fingerprint,
    fault: Fault,
) -> Result<OwnedCircTarget, PathError> {
    rsa_identity(relay)
        .and_then(|id| netdir.by_id(&id))
        .map(|relay| OwnedCircTarget::from_circ_target(&relay))
        .ok_or_else(|| {
            PathError::new(
                Stage::Path,
                FailureKind::UnknownRelay,
                fault,
                format!("{relay} is not in the consensus, or its microdescriptor is missing"),
            )
        })
}

/// Makes the first hop.
async fn create(
    channel: &Arc<tor_proto::channel::Channel>,
    entry: &OwnedCircTarget,
    parameters: CircParameters,
) -> tor_proto::Result<ClientTunnel> {
    let (pending, reactor) = channel.new_tunnel(Arc::new(HalfStreamTimeout)).await?;
    tokio::spawn(async move {
        // How the circuit ends reaches us through what uses it.
        let _ = reactor.run().await;
    });
    pending.create_firsthop(entry, parameters).await
}

/// Waits for `step` no longer than `limit`; what goes wrong in it is laid to
/// `usual` unless the error itself tells better.
async fn within<T, E>(
    stage: Stage,
    limit: Duration,
    usual: Fault,
    step: impl Future<Output = Result<T, E>>,
) -> Result<T, PathError>
where
    E: HasKind + std::error::Error + 'static,
{
    match timeout(limit, step).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            let (kind, fault) = classify(error.kind(), usual);
            Err(PathError::new(stage, kind, fault, describe(&error)))
        }
        Err(_) => Err(PathError::new(
            stage,
            FailureKind::Timeout,
            usual,
            format!("not done within {} s", limit.as_secs_f64()),
        )),
    }
}

/// The meaning of arti's error kinds for a measurement.
fn classify(kind: ErrorKind, usual: Fault) -> (FailureKind, Fault) {
    use ErrorKind as K;
    match kind {
        K::RemoteConnectionRefused => (FailureKind::Refused, Fault::Destination),
        K::RemoteHostNotFound | K::RemoteHostResolutionFailed => {
            (FailureKind::Refused, Fault::Either)
        }
        K::RemoteNetworkFailed => (FailureKind::Refused, Fault::Destination),
        K::RemoteNetworkTimeout | K::ExitTimeout => (FailureKind::Timeout, usual),
        K::ExitPolicyRejected | K::RelayTooBusy => (FailureKind::Refused, Fault::Exit),
        K::CircuitRefused | K::TorAccessFailed | K::LocalNetworkError => {
            (FailureKind::Refused, usual)
        }
        K::TorNetworkTimeout => (FailureKind::Timeout, usual),
        K::TorProtocolViolation | K::RelayIdMismatch | K::RemoteProtocolViolation => {
            (FailureKind::Protocol, usual)
        }
        K::BadApiUsage | K::Internal | K::InvalidConfig | K::LocalResourceExhausted => {
            (FailureKind::Local, Fault::Scanner)
        }
        _ => (FailureKind::Closed, usual),
    }
}

fn local(stage: Stage, error: &(dyn std::error::Error + 'static)) -> PathError {
    PathError::new(stage, FailureKind::Local, Fault::Scanner, chain(error))
}
