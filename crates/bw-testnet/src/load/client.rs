//! One tor client.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::Child;

use tempfile::TempDir;

use crate::files::{LOAD, PROCESS, replace_file};
use crate::process::{ProcessId, ProcessState, start_tor, tail};
use crate::{Error, ErrorKind, Network, torrc};

/// Lines of a log that an error shows.
const TAIL: usize = 20;
/// The last byte of the address at which clients take connections: beyond
/// those of the nodes.
const HOST: u8 = 254;

/// A tor client: killed, and its files removed, when this is dropped.
#[derive(Debug)]
pub(super) struct Client {
    child: Child,
    facts: ClientFacts,
    // Removed after the process has ended.
    place: TempDir,
}

/// The definition of a client.
#[derive(Clone, Debug)]
pub(super) struct ClientFacts {
    name: String,
    log: PathBuf,
    pub(super) id: ProcessId,
    pub(super) socks: SocketAddr,
}

impl Client {
    pub(super) fn start(network: &Network) -> Result<Self, Error> {
        let directory = network.directory();
        let clients = directory.join(LOAD);
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&clients);
        made.map_err(|error| Error::io("making the directory", &clients, error))?;
        let place = tempfile::Builder::new()
            .prefix("client")
            .tempdir_in(&clients)
            .map_err(|error| Error::io("making a directory in", &clients, error))?;
        let name = place.path().file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        let socks = free_address(network)?;
        let torrc = place.path().join("torrc");
        let text = torrc::client(
            &network.facts,
            directory,
            &place.path().join("data"),
            socks,
            std::process::id(),
        );
        std::fs::write(&torrc, text).map_err(|error| Error::io("writing", &torrc, error))?;
        let log = place.path().join("log");
        let mut child = start_tor(&network.facts.tor, place.path(), &torrc, &log)?;
        let Some(id) = ProcessId::of(child.id()) else {
            let _ = child.kill();
            let _ = child.wait();
            let error = Error::new(ErrorKind::NodeDied, format!("{name} could not be started"));
            return Err(error.with_node(&name, &log, &tail(&log, TAIL)));
        };
        let client = Self {
            child,
            facts: ClientFacts {
                name,
                log,
                id,
                socks: socks.into(),
            },
            place,
        };
        let record = serde_json::to_vec(&client.facts.id).map_err(|error| {
            Error::new(ErrorKind::Io, "writing a client's process.json").with_source(error)
        })?;
        replace_file(&client.place.path().join(PROCESS), &record)?;
        Ok(client)
    }

    pub(super) const fn facts(&self) -> &ClientFacts {
        &self.facts
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Nothing that it leaves behind is worth an orderly end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl ClientFacts {
    /// An error if its process has ended.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.id.state() == ProcessState::Gone {
            return Err(self.fault(ErrorKind::NodeDied, "ended"));
        }
        Ok(())
    }

    /// An error that blames this client, with the end of its log.
    pub(super) fn fault(&self, kind: ErrorKind, what: &str) -> Error {
        let error = Error::new(kind, format!("the client {} {what}", self.name));
        error.with_node(&self.name, &self.log, &tail(&self.log, TAIL))
    }
}

/// An address in the network's own block, so that it stays free until tor
/// listens there.
fn free_address(network: &Network) -> Result<SocketAddrV4, Error> {
    let first = network.nodes().next();
    let first = first.map_or(Ipv4Addr::LOCALHOST, |node| node.record().address);
    let [a, b, c, _] = first.octets();
    let host = Ipv4Addr::new(a, b, c, HOST);
    let bound = std::net::TcpListener::bind((host, 0)).and_then(|socket| socket.local_addr());
    match bound {
        Ok(SocketAddr::V4(address)) => Ok(address),
        Ok(SocketAddr::V6(_)) => Err(Error::new(ErrorKind::Io, "an IPv6 address for a client")),
        Err(error) => {
            Err(Error::new(ErrorKind::Io, format!("listening on {host}")).with_source(error))
        }
    }
}
