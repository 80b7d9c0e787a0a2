//! The connection to a Tor network: configuration and bootstrap.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tor_chanmgr::{ChanMgr, ChanMgrConfig, ChannelConfig, Dormancy};
use tor_llcrypto::pk::rsa::RsaIdentity;
use tor_memquota::MemoryQuotaTracker;
use tor_netdir::NetDirProvider;
use tor_proto::memquota::ToplevelAccount;
use tor_rtcompat::Runtime;
use tor_rtcompat::tokio::TokioRustlsRuntime;

use super::circuits::Channels;
use super::configuration::configuration;
use super::words::describe;
use super::{Lanes, TorCircuits, TorDirectory};
use crate::error::chain;
use crate::{Error, ErrorKind};

/// The way to a Tor network.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TorSettings {
    /// Where arti keeps its cache and its state.
    pub directory: PathBuf,
    /// arti configuration files (TOML), each overriding the one before. None
    /// means the public Tor network.
    pub config: Vec<PathBuf>,
    /// The longest time to reach the network. Default 3 minutes.
    pub patience: Duration,
    /// The most memory for what waits in the queues of all measuring circuits, in bytes, at
    /// least 16 MiB. Above it arti closes the streams whose data has waited longest, which
    /// fails their measurements. Default 256 MiB: 100 circuits, each with ten times what a
    /// sender that is asked for a pause lets wait (500 cells of 514 bytes).
    pub memory: u64,
}

impl TorSettings {
    /// The public Tor network, with cache and state under `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            config: Vec::new(),
            patience: Duration::from_secs(180),
            memory: 256 << 20,
        }
    }
}

/// The progress of reaching the network.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Bootstrap {
    /// From 0 to 1.
    pub fraction: f32,
    /// The present step, in words.
    pub status: String,
}

/// Channels to the same relay at most: as many as a measurement usually has circuits.
const LANES: usize = 4;

/// A client of a Tor network that has a directory and can build circuits.
pub struct TorClient {
    client: Arc<arti_client::TorClient<TokioRustlsRuntime>>,
    channels: Arc<Lanes<Channels>>,
    /// The authorities that sign the consensus.
    authorities: Vec<RsaIdentity>,
    /// The channel manager's own tasks, which end with this.
    _tasks: Vec<tor_rtcompat::scheduler::TaskHandle>,
}

impl std::fmt::Debug for TorClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TorClient").finish_non_exhaustive()
    }
}

impl TorClient {
    /// Reaches the network that `settings` describe: connects, and downloads
    /// its directory. `progress` is told how that goes.
    ///
    /// Must be called within a tokio runtime, after a rustls `CryptoProvider`
    /// was installed for the process.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if a configuration file is wrong,
    /// [`ErrorKind::Directory`] if the network cannot be reached within
    /// [`TorSettings::patience`].
    pub async fn bootstrap(
        settings: &TorSettings,
        mut progress: impl FnMut(&Bootstrap),
    ) -> Result<Self, Error> {
        let config = configuration(settings)?;
        let runtime = TokioRustlsRuntime::current().map_err(|error| {
            Error::new(ErrorKind::Configuration, "no tokio runtime").with_source(error)
        })?;
        let authorities = config
            .dir_mgr_config()
            .map_err(|error| unusable(&error))?
            .authorities()
            .v3idents()
            .clone();
        let client = arti_client::TorClient::with_runtime(runtime.clone())
            .config(config)
            .create_unbootstrapped()
            .map_err(|error| unusable(&error))?;
        let mut events = client.bootstrap_events();
        let done = {
            let bootstrap = tokio::time::timeout(settings.patience, client.bootstrap());
            tokio::pin!(bootstrap);
            loop {
                tokio::select! {
                    done = &mut bootstrap => break done,
                    Some(event) = events.next() => progress(&Bootstrap {
                        fraction: event.as_frac(),
                        status: event.to_string(),
                    }),
                }
            }
        };
        let cause = match done {
            Ok(Ok(())) => {
                let memory = quota(settings.memory, &runtime)?;
                return Self::with_client(client, runtime, authorities, memory);
            }
            Ok(Err(error)) => describe(&error),
            Err(_) => format!("not done within {} s", settings.patience.as_secs()),
        };
        Err(unreachable_network(
            &client.bootstrap_status().to_string(),
            &cause,
        ))
    }

    fn with_client(
        client: Arc<arti_client::TorClient<TokioRustlsRuntime>>,
        runtime: TokioRustlsRuntime,
        authorities: Vec<RsaIdentity>,
        memory: ToplevelAccount,
    ) -> Result<Self, Error> {
        let provider = client.dirmgr().map_err(|error| unusable(&error))?;
        let netdir = provider
            .netdir(tor_netdir::Timeliness::Timely)
            .map_err(|error| unusable(&error))?;
        let channel_config = ChannelConfig::builder()
            .padding(tor_config::PaddingLevel::None)
            .build()
            .map_err(|error| unusable(&error))?;
        let provider: Arc<dyn NetDirProvider> = provider;
        let (mut lanes, mut tasks) = (Vec::with_capacity(LANES), Vec::new());
        for _ in 0..LANES {
            // Channels of our own, apart from those of arti's directory circuits.
            let manager = ChanMgr::new(
                runtime.clone(),
                ChanMgrConfig::new(channel_config.clone()),
                Dormancy::Active,
                netdir.params(),
                memory.clone(),
            );
            let manager = Arc::new(manager.map_err(|error| unusable(&error))?);
            let started = manager.launch_background_tasks(&runtime, Arc::clone(&provider));
            tasks.extend(started.map_err(|error| unusable(&error))?);
            lanes.push(manager);
        }
        Ok(Self {
            client,
            channels: Arc::new(Lanes::new(lanes)),
            authorities,
            _tasks: tasks,
        })
    }

    /// The network's directory.
    ///
    /// # Errors
    /// [`ErrorKind::Directory`] if the client was shut down.
    pub fn directory(&self) -> Result<TorDirectory, Error> {
        let provider = self.client.dirmgr().map_err(|error| unusable(&error))?;
        let circuits = self.client.circmgr().map_err(|error| unusable(&error))?;
        let runtime = self.client.runtime().clone();
        let authorities = self.authorities.clone();
        Ok(TorDirectory::new(provider, circuits, runtime, authorities))
    }

    /// Circuits through the network's relays.
    ///
    /// # Errors
    /// [`ErrorKind::Directory`] if the client was shut down.
    pub fn circuits(&self) -> Result<TorCircuits, Error> {
        let provider = self.client.dirmgr().map_err(|error| unusable(&error))?;
        Ok(TorCircuits::new(provider, Arc::clone(&self.channels)))
    }
}

/// At most about `bytes` of memory for everything that waits in queues of arti.
///
/// A stream's queue takes 2,000,000 messages (tor-proto 0.47), about 1 GB, whatever was asked of
/// the sender; nothing but this keeps all of them together within bounds.
fn quota(bytes: u64, runtime: &impl Runtime) -> Result<ToplevelAccount, Error> {
    // Less than arti makes sense of.
    const LEAST: usize = 16 << 20;
    let most = usize::try_from(bytes).unwrap_or(usize::MAX / 2).max(LEAST);
    let config = tor_memquota::Config::builder().max(most).build();
    let config = config.map_err(|error| unusable(&error))?;
    MemoryQuotaTracker::new(runtime, config).map_err(|error| unusable(&error))
}

fn unusable(error: &(dyn std::error::Error + 'static)) -> Error {
    let text = format!("the Tor client cannot be used: {}", chain(error));
    Error::new(ErrorKind::Directory, text)
}

fn unreachable_network(status: &str, cause: &str) -> Error {
    let text = format!(
        "the Tor network cannot be reached: {cause} (it stopped at {status}). Check the network \
         connection, the clock, and the Tor configuration"
    );
    Error::new(ErrorKind::Directory, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::SinkExt as _;
    use tor_memquota::mq_queue::{ChannelSpec as _, MpscUnboundedSpec};
    use tor_rtcompat::DynTimeProvider;

    /// Opens a stream of arti that brings `megabytes` that nobody reads, 1 KiB at a time.
    async fn takes_all(megabytes: usize, limit: u64) -> bool {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = TokioRustlsRuntime::current().unwrap();
        let memory = quota(limit, &runtime).unwrap();
        let account = memory.new_account(None).unwrap();
        let time = DynTimeProvider::new(runtime);
        let queue = MpscUnboundedSpec::new().new_mq::<Kilobyte>(time, &account);
        let (mut sender, _receiver) = queue.unwrap();
        for _ in 0..megabytes << 10 {
            if sender.send(Kilobyte([7; 1024])).await.is_err() {
                return false;
            }
            tokio::task::yield_now().await;
        }
        true
    }

    #[derive(Debug)]
    struct Kilobyte(#[expect(dead_code, reason = "only its size matters")] [u8; 1024]);

    impl tor_memquota::HasMemoryCost for Kilobyte {
        fn memory_cost(&self, _: tor_memquota::EnabledToken) -> usize {
            size_of::<Self>()
        }
    }

    #[tokio::test]
    async fn what_nobody_reads_is_thrown_away_above_the_limit() {
        assert!(takes_all(8, 16 << 20).await);
        assert!(!takes_all(64, 16 << 20).await);
        // Nonsense is brought within bounds.
        assert!(!takes_all(64, 0).await);
        assert!(takes_all(8, u64::MAX).await);
    }
}
