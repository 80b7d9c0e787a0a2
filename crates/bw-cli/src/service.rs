//! The parts of `bwscan run`: what a process needs that works unattended for years.

mod endpoint;
mod hourly;
mod metrics;
mod supervisor;

pub(crate) use endpoint::{Address, Endpoint, Watched};
pub(crate) use hourly::Minute;
pub(crate) use metrics::Metrics;
pub(crate) use supervisor::Supervisor;

use std::path::Path;

/// Returns the size of a store with its log, in bytes.
///
/// # Errors
/// If there is no store.
pub(crate) fn store_size(store: &Path) -> std::io::Result<u64> {
    let mut bytes = std::fs::metadata(store)?.len();
    for suffix in ["-wal", "-shm"] {
        let mut path = store.as_os_str().to_owned();
        path.push(suffix);
        bytes += std::fs::metadata(path).map_or(0, |file| file.len());
    }
    Ok(bytes)
}

/// Returns the free space of the disk that `directory` is on, in bytes, as far as it can be
/// told.
pub(crate) fn free_space(directory: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(directory).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}
