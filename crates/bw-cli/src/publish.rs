//! Files that others read while we replace them.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirEntry, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rustix::fs::{FlockOperation, flock};

/// Readable by everybody, tor's user among them: the file is published anyway.
const MODE: u32 = 0o644;

/// A temporary link this old was left behind: between making and renaming it
/// lie microseconds.
const LINK_LEFT: Duration = Duration::from_secs(60);

/// Writes a bandwidth file to `directory` under `dated_name`, and makes the symbolic
/// link `latest_name` in the same directory point to it, as sbws does. Returns the path
/// of the dated file.
///
/// See [`replace_file`] for what a crash can do, which is not much.
///
/// # Errors
/// If the file or the link cannot be written.
pub(crate) fn publish(
    file: &[u8],
    directory: &Path,
    dated_name: &str,
    latest_name: &str,
) -> anyhow::Result<PathBuf> {
    let path = directory.join(dated_name);
    replace_file(&path, file)?;
    replace_symlink(Path::new(dated_name), &directory.join(latest_name))?;
    Ok(path)
}

/// Replaces `path` with `bytes`, so that a reader finds the old file or the
/// new one, whole, whatever happens in between.
///
/// The bytes go to a new file in the same directory, are synced, and renamed;
/// then the directory is synced. The file can be read by every user (mode
/// 0644, whatever the umask). A process that is killed can leave a hidden file
/// ending in `.tmp` behind; the next call for a file with the same extension
/// in this directory removes it.
///
/// # Errors
/// If any of that fails. `path` is then as it was before, or, where only syncing the
/// directory failed, replaced.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let write = || {
        let (temporary, mut file) = create_temporary(path)?;
        remove_leftovers(path, &file);
        let written = file
            .write_all(bytes)
            .and_then(|()| file.set_permissions(Permissions::from_mode(MODE)))
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&temporary, path));
        clean_up(&temporary, written)
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    sync_directory(path)
}

/// Makes `link` a symbolic link to `target`, replacing one that is there
/// without a moment in which there is none.
///
/// `target` is taken as the link has it: a name alone is one in the link's
/// own directory.
///
/// # Errors
/// If the link cannot be made or put in place.
fn replace_symlink(target: &Path, link: &Path) -> anyhow::Result<()> {
    let make = || {
        for attempt in 0.. {
            let temporary = temporary_name(link, attempt)?;
            match symlink(target, &temporary) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(()) => return clean_up(&temporary, fs::rename(&temporary, link)),
            }
        }
        Ok(())
    };
    make().with_context(|| format!("cannot make the link {}", link.display()))?;
    sync_directory(link)
}

/// A new file beside `path`, locked as long as it is open: so others know
/// that it is not left behind.
fn create_temporary(path: &Path) -> io::Result<(PathBuf, File)> {
    let mut attempt = 0;
    loop {
        let temporary = temporary_name(path, attempt)?;
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(MODE)
            .open(&temporary);
        match opened {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            // Not every file system has locks; without, nobody removes leftovers.
            Ok(file) if lock(&file) == Err(rustix::io::Errno::WOULDBLOCK) => {}
            // Somebody took it for a leftover before it was locked.
            Ok(file) if file.metadata()?.nlink() == 0 => {}
            Ok(file) => return Ok((temporary, file)),
        }
        attempt += 1;
    }
}

fn lock(file: &File) -> Result<(), rustix::io::Errno> {
    flock(file, FlockOperation::NonBlockingLockExclusive)
}

/// Removes what killed processes left in the directory of `path` while they
/// wrote files of its kind; `ours` is being written. Whatever cannot be
/// removed stays.
fn remove_leftovers(path: &Path, ours: &File) {
    let Some(entries) = fs::read_dir(directory_of(path)).ok() else {
        return;
    };
    for entry in entries.flatten() {
        if is_temporary_for(path, &entry.file_name()) && is_left(&entry, ours) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Returns true if `name` is [a temporary name](temporary_name) for `path` or a file
/// with its extension.
fn is_temporary_for(path: &Path, name: &OsStr) -> bool {
    let is_number = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let numbered = name
        .as_bytes()
        .strip_prefix(b".")
        .and_then(|name| name.strip_suffix(b".tmp"));
    let Some(numbered) = numbered else {
        return false;
    };
    let mut parts = numbered.rsplitn(3, |&byte| byte == b'.');
    let numbers = parts
        .by_ref()
        .take(2)
        .filter(|part| is_number(part))
        .count();
    let Some(written) = parts.next().map(OsStr::from_bytes).map(Path::new) else {
        return false;
    };
    let same_kind = path.extension().is_some() && written.extension() == path.extension();
    numbers == 2 && (same_kind || Some(written.as_os_str()) == path.file_name())
}

/// Returns true if nobody works with a temporary file or link any more.
fn is_left(entry: &DirEntry, ours: &File) -> bool {
    let (Ok(theirs), Ok(ours)) = (entry.metadata(), ours.metadata()) else {
        return false;
    };
    if theirs.is_symlink() {
        // By the clock of the file system, which wrote both times.
        let (Ok(theirs), Ok(ours)) = (theirs.modified(), ours.modified()) else {
            return false;
        };
        return ours.duration_since(theirs).is_ok_and(|age| age > LINK_LEFT);
    }
    theirs.is_file()
        && (theirs.dev(), theirs.ino()) != (ours.dev(), ours.ino())
        && File::open(entry.path()).is_ok_and(|file| lock(&file).is_ok())
}

/// `.NAME.PROCESS.ATTEMPT.tmp` beside `path`.
fn temporary_name(path: &Path, attempt: u32) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} has no file name", path.display()),
        )
    })?;
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.{attempt}.tmp", std::process::id()));
    Ok(path.with_file_name(temporary))
}

/// Removes a temporary file that could not be put in place.
fn clean_up(temporary: &Path, result: io::Result<()>) -> io::Result<()> {
    if result.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(temporary);
    }
    result
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn sync_directory(path: &Path) -> anyhow::Result<()> {
    let directory = directory_of(path);
    File::open(directory)
        .and_then(|open| open.sync_all())
        .with_context(|| format!("cannot sync the directory {}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn made_an_hour_ago(link: &Path) {
        use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
        let time = fs::symlink_metadata(link).unwrap().mtime() - 3600;
        let time = Timespec {
            tv_sec: time,
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        utimensat(CWD, link, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }

    #[test]
    fn latest_follows_the_newest() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        for (seconds, name) in [(1, "a.v3bw"), (2, "b.v3bw"), (3, "b.v3bw")] {
            let file = format!("{seconds}\n").into_bytes();
            publish(&file, directory, name, "latest.v3bw").unwrap();
            let latest = directory.join("latest.v3bw");
            assert_eq!(fs::read_link(&latest).unwrap(), Path::new(name));
            assert_eq!(fs::read(&latest).unwrap(), file);
            let mode = fs::metadata(&latest).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o644);
        }
        assert_eq!(names(directory), ["a.v3bw", "b.v3bw", "latest.v3bw"]);
    }

    #[test]
    fn leftovers_of_killed_processes_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let leftovers = [".a.v3bw.1.0.tmp", ".20231114_221320.v3bw.99999.17.tmp"];
        let others = [
            ".a.v3bw.1.tmp",
            ".a.v3bw.x.0.tmp",
            ".a.toml.1.0.tmp",
            "a.v3bw.1.0.tmp",
            ".tmp",
        ];
        for name in leftovers.iter().chain(&others) {
            fs::write(directory.join(name), "half").unwrap();
        }
        // Somebody is about to rename this link, and to write this file.
        symlink("nowhere", directory.join(".latest.v3bw.1.0.tmp")).unwrap();
        let (busy, file) = create_temporary(&directory.join("busy.v3bw")).unwrap();
        publish(b"1\n", directory, "a.v3bw", "latest.v3bw").unwrap();
        let left = names(directory);
        for name in leftovers {
            assert!(!left.contains(&name.to_owned()), "{name} of {left:?}");
        }
        assert_eq!(left.len(), others.len() + 4, "{left:?}");
        assert!(fs::read(directory.join("latest.v3bw")).is_ok());
        assert!(busy.exists());
        drop(file);
        let link = directory.join(".latest.v3bw.1.0.tmp");
        made_an_hour_ago(&link);
        replace_file(&directory.join("b.v3bw"), b"x").unwrap();
        assert!(!busy.exists() && !link.is_symlink());
    }

    #[test]
    fn temporary_names_in_use_are_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.v3bw");
        let (first, _file) = create_temporary(&path).unwrap();
        let link = temporary_name(&directory.path().join("latest"), 0).unwrap();
        symlink("nowhere", &link).unwrap();
        publish(b"1\n", directory.path(), "a.v3bw", "latest").unwrap();
        assert!(first.exists() && link.is_symlink());
        assert!(fs::read(directory.path().join("latest")).is_ok());
    }

    #[test]
    fn errors_name_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("missing/a.v3bw");
        for error in [
            replace_file(&path, b"x").unwrap_err(),
            replace_symlink(Path::new("b"), &path).unwrap_err(),
        ] {
            let text = format!("{error:#}");
            assert!(text.contains(path.to_str().unwrap()), "{text}");
            assert!(text.contains("No such file"), "{text}");
        }
    }

    #[test]
    fn a_failure_leaves_no_temporary_file() {
        let directory = tempfile::tempdir().unwrap();
        let taken = directory.path().join("taken");
        fs::create_dir(&taken).unwrap();
        assert!(replace_file(&taken, b"x").is_err());
        assert_eq!(names(directory.path()), ["taken"]);
    }
}
