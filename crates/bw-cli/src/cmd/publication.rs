//! The directory in which bandwidth files are published.

use std::path::Path;

use anyhow::Context;

/// The name under which the authority finds the newest file.
pub(super) const LATEST: &str = "latest.v3bw";

pub(super) fn make_directory(output: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(output)
        .with_context(|| format!("{}: the directory cannot be made", output.display()))
}

/// The message for a file that could not be written to `output`.
pub(super) fn not_written(output: &Path) -> String {
    format!("{}: the bandwidth file cannot be written", output.display())
}
