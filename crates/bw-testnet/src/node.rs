//! One node of a network, and what can be done to it.

use std::net::SocketAddrV4;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use bw_file::Fingerprint;
use bytes::Bytes;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::directory::StatusDocument;
use crate::files::replace_file;
use crate::manifest::NodeRecord;
use crate::process::{GLANCE, ProcessId, ProcessState};
use crate::{Error, ErrorKind, Network, Role, http};

/// The time for a node that was started again to listen.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// A node of a [`Network`]: its facts, and faults on demand.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    network: &'a Network,
    record: &'a NodeRecord,
}

/// A directory authority of a [`Network`]; a [`Node`] too.
#[derive(Clone, Copy, Debug)]
pub struct Authority<'a> {
    node: Node<'a>,
    address: SocketAddrV4,
    v3ident: Fingerprint,
}

impl<'a> Node<'a> {
    pub(crate) fn new(network: &'a Network, record: &'a NodeRecord) -> Self {
        Self { network, record }
    }

    /// The node's facts: identities, addresses, true capacity.
    pub fn record(&self) -> &'a NodeRecord {
        self.record
    }

    /// The nickname.
    pub fn nickname(&self) -> &'a str {
        &self.record.nickname
    }

    /// The role of the node.
    pub fn role(&self) -> Role {
        self.record.role
    }

    /// The node's log.
    pub fn log_file(&self) -> PathBuf {
        self.record.log_file(self.network.directory())
    }

    /// The directory where its tor keeps keys, state and documents.
    pub fn data_directory(&self) -> PathBuf {
        self.record.data_directory(self.network.directory())
    }

    /// Its process, if it was started.
    pub fn process(&self) -> Option<ProcessId> {
        let mut processes = self.network.known_processes();
        processes.remove(&self.record.nickname)
    }

    /// The state of its process.
    pub fn state(&self) -> ProcessState {
        self.process()
            .map_or(ProcessState::Gone, |process| process.state())
    }

    /// Ends the process at once, as a crash would (SIGKILL).
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] if it is there still after some seconds.
    pub async fn kill(&self) -> Result<(), Error> {
        self.signal(Signal::KILL, ProcessState::Gone).await
    }

    /// Stops the process, as a machine that hangs would (SIGSTOP): connections
    /// stay open, and nothing answers.
    ///
    /// # Errors
    /// [`ErrorKind::NodeDied`] if it has ended.
    pub async fn stop(&self) -> Result<(), Error> {
        self.signal(Signal::STOP, ProcessState::Stopped).await
    }

    /// Lets a stopped process go on.
    ///
    /// # Errors
    /// [`ErrorKind::NodeDied`] if it has ended.
    pub async fn cont(&self) -> Result<(), Error> {
        self.signal(Signal::CONT, ProcessState::Running).await
    }

    /// Ends the process, if it runs, and starts it again with the same keys;
    /// returns when it takes connections.
    ///
    /// # Errors
    /// [`ErrorKind::NodeDied`] with the end of its log if it does not start.
    pub async fn restart(&self) -> Result<(), Error> {
        if let Some(process) = self.process() {
            let one = [(self.record.nickname.clone(), process)];
            self.network.end(&one).await?;
        }
        self.network.start(self.record)?;
        self.network.save()?;
        self.wait_until_listening(Instant::now() + START_PATIENCE)
            .await
    }

    /// Waits until the node takes connections.
    pub(crate) async fn wait_until_listening(&self, deadline: Instant) -> Result<(), Error> {
        let address = self.record.first_address();
        while tokio::net::TcpStream::connect(address).await.is_err() {
            let what = if self.state() == ProcessState::Gone {
                (ErrorKind::NodeDied, "ended while it started")
            } else if Instant::now() >= deadline {
                (ErrorKind::Timeout, "does not take connections")
            } else {
                sleep(GLANCE / 4).await;
                continue;
            };
            return Err(self.network.fault(what.0, self.record, what.1));
        }
        Ok(())
    }

    async fn signal(&self, signal: Signal, wanted: ProcessState) -> Result<(), Error> {
        let gone = || {
            self.network
                .fault(ErrorKind::NodeDied, self.record, "does not run")
        };
        let process = self.process().ok_or_else(gone)?;
        let sent = process.signal(signal);
        if !sent && wanted != ProcessState::Gone {
            return Err(gone());
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while process.state() != wanted {
            if Instant::now() >= deadline {
                let what = format!("is not {wanted:?} after the signal");
                return Err(self.network.fault(ErrorKind::Timeout, self.record, &what));
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

impl<'a> Authority<'a> {
    pub(crate) fn of(node: Node<'a>) -> Option<Self> {
        let address = node.record.dir_address()?;
        let v3ident = node.record.v3ident?;
        Some(Self {
            node,
            address,
            v3ident,
        })
    }

    /// Where it serves the directory, over plain HTTP.
    pub fn dir_address(&self) -> SocketAddrV4 {
        self.address
    }

    /// The fingerprint of its authority identity key.
    pub fn v3ident(&self) -> Fingerprint {
        self.v3ident
    }

    /// The bandwidth file that it reads for each vote (`V3BandwidthsFile`).
    pub fn bandwidth_file(&self) -> PathBuf {
        let directory = self.node.network.directory();
        self.node.record.bandwidth_file(directory)
    }

    /// Replaces its bandwidth file as a whole.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the file cannot be written.
    pub fn install_bandwidth_file(&self, contents: &[u8]) -> Result<(), Error> {
        replace_file(&self.bandwidth_file(), contents)
    }

    /// Gets a directory resource, such as `/tor/server/all`: at most 64 MiB,
    /// within 10 s.
    ///
    /// # Errors
    /// [`ErrorKind::Http`] with the address, if there is no answer or another
    /// status than 200.
    pub async fn get(&self, path: &str) -> Result<Bytes, Error> {
        http::get(self.address, path).await
    }

    /// The newest consensus that it has, flavour "ns".
    ///
    /// # Errors
    /// As [`get`](Self::get); [`ErrorKind::Parse`] if it cannot be understood.
    pub async fn consensus(&self) -> Result<StatusDocument, Error> {
        self.document("/tor/status-vote/current/consensus").await
    }

    /// Its vote for the current consensus.
    ///
    /// # Errors
    /// As [`consensus`](Self::consensus).
    pub async fn vote(&self) -> Result<StatusDocument, Error> {
        self.document("/tor/status-vote/current/authority").await
    }

    /// Its vote for the next consensus; there is one only between
    /// [`StatusDocument::next_vote`] and that consensus.
    ///
    /// # Errors
    /// As [`consensus`](Self::consensus).
    pub async fn next_vote(&self) -> Result<StatusDocument, Error> {
        self.document("/tor/status-vote/next/authority").await
    }

    async fn document(&self, path: &str) -> Result<StatusDocument, Error> {
        let bytes = self.get(path).await?;
        StatusDocument::parse(&String::from_utf8_lossy(&bytes))
    }
}

impl<'a> Deref for Authority<'a> {
    type Target = Node<'a>;

    fn deref(&self) -> &Node<'a> {
        &self.node
    }
}
