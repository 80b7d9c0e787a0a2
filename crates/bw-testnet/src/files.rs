//! Files in the directory of a network.

use std::path::Path;

use crate::Error;
use crate::process::ProcessId;

/// The directory with a directory for each node.
pub(crate) const NODES: &str = "nodes";
/// Where a client with our configuration keeps its files.
pub(crate) const CLIENT: &str = "client";
/// The directory with a directory for each client that makes load.
pub(crate) const LOAD: &str = "load";
/// The client's configuration.
pub(crate) const CLIENT_CONFIG: &str = "arti.toml";
/// The log of the process that serves the relays' lines.
pub(crate) const LINES_LOG: &str = "lines.log";
/// The table of true capacities.
pub(crate) const CAPACITIES: &str = "capacities.json";
/// In the network's directory: an empty file, for tor not to read its tables
/// of countries, which takes seconds.
pub(crate) const EMPTY: &str = "empty";
/// In the network's directory: names no resolver that answers, since a private
/// network has none.
pub(crate) const RESOLVER: &str = "resolv.conf";
/// In a client's directory: its process, for `down` in another process.
pub(crate) const PROCESS: &str = "process.json";

/// Writes a file that others read: they see the old bytes or the new ones.
pub(crate) fn replace_file(path: &Path, contents: &[u8]) -> Result<(), Error> {
    let write = || {
        let directory = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        std::io::Write::write_all(&mut file, contents)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|error: std::io::Error| Error::io("writing", path, error))
}

/// The processes of all clients of the network in `directory`, whoever started them.
pub(crate) fn client_processes(directory: &Path) -> Vec<(String, ProcessId)> {
    let clients = std::fs::read_dir(directory.join(LOAD));
    let process = |entry: std::fs::DirEntry| {
        let record = std::fs::read(entry.path().join(PROCESS)).ok()?;
        let id = serde_json::from_slice(&record).ok()?;
        Some((entry.file_name().to_string_lossy().into_owned(), id))
    };
    clients
        .into_iter()
        .flatten()
        .filter_map(|entry| process(entry.ok()?))
        .collect()
}
