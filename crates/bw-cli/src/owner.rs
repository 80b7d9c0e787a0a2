//! The owner of what root makes in somebody else's directory.

use std::path::Path;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Uid};
use rustix::fs::{chownat, fstat, openat, statat};
use rustix::io::Result;

use crate::text::warn;

/// Directories of bwscan are not deeper than this.
const DEEPEST: u32 = 8;

/// Gives what root made in `directory` to its owner, so that the service can use it.
///
/// Nothing is done by other users than root, or if the directory is root's.
pub(crate) fn give_to_owner(directory: &Path) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let given = open(CWD, directory).and_then(|opened| {
        let facts = fstat(&opened)?;
        let owner = (Uid::from_raw(facts.st_uid), Gid::from_raw(facts.st_gid));
        if owner.0.is_root() {
            return Ok(());
        }
        give(&opened, owner, DEEPEST)
    });
    match given {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => warn(&format!(
            "{}: files of root cannot be given to its owner: {error}",
            directory.display()
        )),
    }
}

fn open(place: impl AsFd, name: impl rustix::path::Arg) -> Result<OwnedFd> {
    // The owner could put a link to elsewhere in its place.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(place, name, flags, Mode::empty())
}

fn give(directory: &OwnedFd, owner: (Uid, Gid), depth: u32) -> Result<()> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if [c".", c".."].contains(&name) {
            continue;
        }
        let Ok(facts) = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue; // It is gone by now.
        };
        let is_directory = FileType::from_raw_mode(facts.st_mode) == FileType::Directory;
        // A file with another name may be one of elsewhere.
        if facts.st_uid == 0 && (is_directory || facts.st_nlink == 1) {
            let (user, group) = owner;
            chownat(
                directory,
                name,
                Some(user),
                Some(group),
                AtFlags::SYMLINK_NOFOLLOW,
            )?;
        }
        if is_directory
            && depth > 0
            && let Ok(inner) = open(directory, name)
        {
            give(&inner, owner, depth - 1)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, chown, symlink};

    use super::*;

    #[test]
    fn what_root_makes_belongs_to_the_owner_of_the_directory() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: only root may give files away");
            return;
        }
        let elsewhere = tempfile::NamedTempFile::new().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::fs::create_dir_all(path.join("a/b")).unwrap();
        for file in ["results.sqlite", "a/b/file"] {
            std::fs::write(path.join(file), "x").unwrap();
        }
        std::fs::write(path.join("other"), "x").unwrap();
        chown(path.join("other"), Some(7), Some(7)).unwrap();
        symlink(elsewhere.path(), path.join("link")).unwrap();
        let owner = |name: &str| std::fs::symlink_metadata(path.join(name)).unwrap().uid();
        give_to_owner(path);
        assert_eq!(owner("results.sqlite"), 0, "it is root's own directory");
        chown(path, Some(1234), Some(1235)).unwrap();
        give_to_owner(path);
        for name in ["a", "a/b", "a/b/file", "results.sqlite", "link"] {
            assert_eq!(owner(name), 1234, "{name}");
        }
        assert_eq!(owner("other"), 7);
        assert_eq!(elsewhere.as_file().metadata().unwrap().uid(), 0);
        give_to_owner(&path.join("missing"));
    }
}
