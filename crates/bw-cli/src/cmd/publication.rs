//! The directory in which bandwidth files are published.

use std::path::{Path, PathBuf};

use anyhow::Context;
use bw_file::{Document, KilobytesPerSecond};
use bw_results::UnixMillis;
use serde::{Deserialize, Serialize};

use crate::paths::DataDir;
use crate::publish::replace_file;
use crate::text::warn;

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
    /// The sum of their weights.
    pub(super) sum: KilobytesPerSecond,
}

impl InUse {
    /// Reads the file at `latest`; `None` if there is none.
    pub(super) fn read(latest: &Path) -> Option<Self> {
        let bytes = std::fs::read(latest).ok()?;
        let document = Document::parse(&bytes);
        let created = document.created().or(document.timestamp().value());
        let created = created.and_then(|time| u64::try_from(time.seconds()).ok());
        let voted = document.relays().filter(bw_file::RelayLineRef::is_voted);
        let (mut relays, mut sum) = (0, KilobytesPerSecond::new(0));
        for relay in voted {
            relays += 1;
            sum += relay.bandwidth().unwrap_or_default();
        }
        Some(Self {
            created: created.map(UnixMillis::from_secs),
            relays,
            sum,
        })
    }
}

/// The reason why no newer bandwidth file was published, kept beside the one in use until there
/// is a newer one.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refusal {
    pub(super) at: UnixMillis,
    pub(super) reason: String,
}

impl Refusal {
    /// The name of its file.
    const NAME: &str = "refusal.json";
    /// A longer file is none of ours.
    const LONGEST: u64 = 1 << 16;

    pub(super) fn new(at: UnixMillis, reason: String) -> Self {
        Self { at, reason }
    }

    /// Reads the one in a directory of bandwidth files; `None` if the last file was published.
    pub(super) fn read(directory: &Path) -> Option<Self> {
        let path = directory.join(Self::NAME);
        let length = path.metadata().ok()?.len();
        let bytes = (length <= Self::LONGEST).then(|| std::fs::read(path).ok())??;
        serde_json::from_slice(&bytes).ok()
    }

    /// Keeps it. That it cannot be kept stops nothing.
    pub(super) fn keep(&self, directory: &Path) {
        let kept = make_directory(directory)
            .and_then(|()| Ok(serde_json::to_vec(self)?))
            .and_then(|bytes| replace_file(&directory.join(Self::NAME), &bytes));
        if let Err(error) = kept {
            warn(&format!("\"bwscan status\" cannot show this: {error:#}"));
        }
    }

    /// Forgets the one in `directory`: a file was published.
    pub(super) fn forget(directory: &Path) {
        let _ = std::fs::remove_file(directory.join(Self::NAME));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_kept_until_a_file_is_published() {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("v3bw");
        assert_eq!(Refusal::read(&output), None);
        let refusal = Refusal::new(UnixMillis::from_secs(7), "too few relays".to_owned());
        refusal.keep(&output);
        assert_eq!(Refusal::read(&output), Some(refusal));
        Refusal::forget(&output);
        assert_eq!(Refusal::read(&output), None);
        std::fs::write(output.join(Refusal::NAME), "no JSON").unwrap();
        assert_eq!(Refusal::read(&output), None);
    }
}
