//! The manifest of a running network: the file `network.json`.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bw_file::{BytesPerSecond, Ed25519Identity, Fingerprint, KilobytesPerSecond};
use serde::{Deserialize, Serialize};

use crate::files::{NODES, replace_file};
use crate::process::ProcessId;
use crate::{Error, ErrorKind, Limit, Role};

pub(crate) const FILE: &str = "network.json";

/// The contents of `network.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The layout of this file; another one is refused.
    pub(crate) format: u32,
    pub(crate) tor: PathBuf,
    pub(crate) tor_version: String,
    /// Seconds since the Unix epoch.
    pub(crate) created: u64,
    pub(crate) keep_files: bool,
    /// True if we made the directory itself.
    pub(crate) made_directory: bool,
    /// The process without which the network ends; none if it is detached.
    #[serde(default)]
    pub(crate) owner: Option<ProcessId>,
    /// Seconds.
    pub(crate) voting_interval: u64,
    /// Authorities first.
    pub(crate) nodes: Vec<NodeRecord>,
    /// The process of each node that was started, by nickname, and that of the lines.
    pub(crate) processes: BTreeMap<String, ProcessId>,
}

/// The facts of one node, as they are kept in `network.json`.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// The nickname, unique within the network.
    pub nickname: String,
    /// The role of the node.
    pub role: Role,
    /// Its own address, in 127.0.0.0/8.
    pub address: Ipv4Addr,
    /// Its `ORPort`.
    pub or_port: u16,
    /// Where its tor itself listens, if the relay has a line: delay or limit.
    #[serde(default)]
    pub inner_port: Option<u16>,
    /// Its `DirPort`, if it is an authority.
    pub dir_port: Option<u16>,
    /// Its RSA identity.
    pub fingerprint: Fingerprint,
    /// Its Ed25519 identity.
    pub ed25519: Ed25519Identity,
    /// The fingerprint of its authority identity key, if it is an authority.
    pub v3ident: Option<Fingerprint>,
    /// The true capacity.
    pub rate: BytesPerSecond,
    /// The kind of limit.
    #[serde(default)]
    pub limit: Limit,
    /// The time that bytes take on connections to it, one way, in milliseconds.
    #[serde(default)]
    pub delay_ms: u64,
    /// The size of the token bucket: bytes at once after a pause.
    pub burst: BytesPerSecond,
    /// The observed bandwidth that the node was made to claim; none: what tor
    /// saw by itself.
    pub observed: Option<BytesPerSecond>,
    /// The weight that the network started with.
    pub prior: Option<KilobytesPerSecond>,
}

impl NodeRecord {
    pub(crate) fn home(&self, network: &Path) -> PathBuf {
        network.join(NODES).join(&self.nickname)
    }

    pub(crate) fn data_directory(&self, network: &Path) -> PathBuf {
        self.home(network).join("data")
    }

    pub(crate) fn log_file(&self, network: &Path) -> PathBuf {
        self.home(network).join("log")
    }

    pub(crate) fn torrc_file(&self, network: &Path) -> PathBuf {
        self.home(network).join("torrc")
    }

    pub(crate) fn bandwidth_file(&self, network: &Path) -> PathBuf {
        self.home(network).join("bandwidths")
    }

    /// Where the node serves the directory, if it is an authority.
    pub fn dir_address(&self) -> Option<SocketAddrV4> {
        let port = self.dir_port?;
        Some(SocketAddrV4::new(self.address, port))
    }

    /// Where the node takes Tor connections.
    pub fn or_address(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, self.or_port)
    }

    /// The time that bytes take on connections to it, one way.
    pub fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_ms)
    }

    /// Where its tor listens as soon as it has started.
    pub(crate) fn first_address(&self) -> SocketAddrV4 {
        let or_port = self.inner_port.unwrap_or(self.or_port);
        self.dir_address()
            .unwrap_or(SocketAddrV4::new(self.address, or_port))
    }
}

impl Manifest {
    pub(crate) const FORMAT: u32 = 1;

    pub(crate) fn authorities(&self) -> impl Iterator<Item = &NodeRecord> {
        self.nodes
            .iter()
            .filter(|node| node.role == Role::Authority)
    }

    pub(crate) fn created(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.created)
    }

    pub(crate) fn exists(directory: &Path) -> bool {
        directory.join(FILE).exists()
    }

    pub(crate) fn read(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(FILE);
        let text = std::fs::read(&path).map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                Error::new(
                    ErrorKind::NoNetwork,
                    format!("no network in {}: bring one up first", directory.display()),
                )
            } else {
                Error::io("reading", &path, error)
            }
        })?;
        let unreadable =
            |why: String| Error::new(ErrorKind::Parse, format!("{}: {why}", path.display()));
        let manifest: Self =
            serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
        if manifest.format == Self::FORMAT {
            Ok(manifest)
        } else {
            let format = manifest.format;
            Err(unreadable(format!(
                "layout {format} is of another version of this program; use that one"
            )))
        }
    }

    /// Replaces the file as a whole.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| {
            Error::new(ErrorKind::Io, "writing network.json").with_source(error)
        })?;
        replace_file(&directory.join(FILE), &text)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample_manifest() -> Manifest {
        let node = |index: u8, nickname: &str, role| NodeRecord {
            nickname: nickname.into(),
            role,
            address: Ipv4Addr::new(127, 9, 8, index),
            or_port: 5000,
            inner_port: None,
            dir_port: (role == Role::Authority).then_some(7000),
            fingerprint: Fingerprint::from_bytes([index; 20]),
            ed25519: Ed25519Identity::from_bytes([index; 32]),
            v3ident: (role == Role::Authority).then_some(Fingerprint::from_bytes([9; 20])),
            rate: BytesPerSecond::new(1_000_000),
            limit: Limit::Node,
            delay_ms: 0,
            burst: BytesPerSecond::new(2_000_000),
            observed: None,
            prior: None,
        };
        Manifest {
            format: Manifest::FORMAT,
            tor: "/usr/sbin/tor".into(),
            tor_version: "0.4.9.11".into(),
            created: 1_795_209_475,
            keep_files: false,
            made_directory: true,
            owner: None,
            voting_interval: 20,
            nodes: vec![
                node(1, "auth1", Role::Authority),
                node(2, "mid", Role::Middle),
                node(3, "out", Role::Exit),
            ],
            processes: BTreeMap::new(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let missing = Manifest::read(directory.path()).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NoNetwork);
        let manifest = sample_manifest();
        manifest.write(directory.path()).unwrap();
        assert_eq!(Manifest::read(directory.path()).unwrap(), manifest);
        let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "no temporary file is left");
    }

    #[test]
    fn other_layouts_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let mut manifest = sample_manifest();
        manifest.format = 2;
        manifest.write(directory.path()).unwrap();
        let error = Manifest::read(directory.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Parse);
        assert!(error.to_string().contains("layout 2"), "{error}");
    }
}
