//! The directory in which bandwidth files are published.

use std::path::{Path, PathBuf};

use anyhow::Context;
use bw_file::Document;
use bw_results::UnixMillis;

use crate::paths::DataDir;

/// The name under which the authority finds the newest file.
pub(super) const LATEST: &str = "latest.v3bw";

/// The directory that was named, or the one in the data directory.
pub(super) fn directory(named: Option<&Path>, data: &DataDir) -> PathBuf {
    named.map_or_else(|| data.bandwidth_files(), Path::to_owned)
}

pub(super) fn make_directory(output: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(output)
        .with_context(|| format!("{}: the directory cannot be made", output.display()))
}

/// The message for a file that could not be written to `output`.
pub(super) fn not_written(output: &Path) -> String {
    format!("{}: the bandwidth file cannot be written", output.display())
}

/// The bandwidth file that the authority reads.
pub(super) struct InUse {
    /// The time at which it was made, if it says so.
    pub(super) created: Option<UnixMillis>,
    /// Relays that it asks authorities to vote on.
    pub(super) relays: u64,
}

impl InUse {
    /// Reads the file at `latest`; `None` if there is none.
    pub(super) fn read(latest: &Path) -> Option<Self> {
        let bytes = std::fs::read(latest).ok()?;
        let document = Document::parse(&bytes);
        let created = document.created().or(document.timestamp().value());
        let created = created.and_then(|time| u64::try_from(time.seconds()).ok());
        let voted = document.relays().filter(bw_file::RelayLineRef::is_voted);
        Some(Self {
            created: created.map(UnixMillis::from_secs),
            relays: voted.count() as u64,
        })
    }
}
