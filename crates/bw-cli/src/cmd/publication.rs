//! The directory in which bandwidth files are published.

use std::path::{Path, PathBuf};

use anyhow::Context;

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
