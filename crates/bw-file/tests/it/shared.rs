//! Sample files that are not ours to distribute: read where they are, beside
//! the repository.

use std::path::PathBuf;

/// The folder of the sample files; `None`, loudly, where it is absent.
pub(crate) fn folder() -> Option<PathBuf> {
    let folder = PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/data/bandwidth-files"
    ));
    if folder.is_dir() {
        return Some(folder);
    }
    println!("SKIPPED: no sample files at {}", folder.display());
    None
}
