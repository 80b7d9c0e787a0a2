//! Files that others read while we replace them.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::builder::FileBuilder;
use crate::error::Error;

/// Readable by everybody, tor's user among them: the file is published anyway.
const MODE: u32 = 0o644;

/// Replaces `path` with `bytes`, so that a reader finds the old file or the
/// new one, whole, whatever happens in between.
///
/// The bytes go to a new file in the same directory, are synced, and renamed;
/// then the directory is synced. The file can be read by every user (mode
/// 0644, whatever the umask). A crash can leave a hidden file ending in `.tmp`
/// behind, which later calls do not mind.
///
/// # Errors
/// If any of that fails; `path` is then as it was before, or, where only
/// syncing the directory failed, replaced.
pub fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let (temporary, mut file) = create_temporary(path)?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.set_permissions(Permissions::from_mode(MODE)))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, path));
    clean_up(&temporary, written)?;
    sync_directory(path)?;
    Ok(())
}

/// Makes `link` a symbolic link to `target`, replacing one that is there
/// without a moment in which there is none.
///
/// `target` is taken as the link has it: a name alone is one in the link's
/// own directory.
///
/// # Errors
/// If the link cannot be made or put in place.
pub fn replace_symlink(target: &Path, link: &Path) -> Result<(), Error> {
    for attempt in 0.. {
        let temporary = temporary_name(link, attempt)?;
        match symlink(target, &temporary) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
            Ok(()) => {
                clean_up(&temporary, fs::rename(&temporary, link))?;
                break;
            }
        }
    }
    sync_directory(link)?;
    Ok(())
}

impl FileBuilder {
    /// Builds the file, writes it to `directory` under `dated_name`, and makes
    /// the symbolic link `latest_name` in the same directory point to it, as
    /// sbws does. Returns the path of the dated file.
    ///
    /// See [`replace_file`] for what a crash can do, which is not much.
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// # let directory = directory.path();
    /// let builder = bw_file::FileBuilder::new(bw_file::UnixTime::new(1_700_000_000));
    /// builder.publish(directory, "20231114_221320.v3bw", "latest.v3bw")?;
    /// assert_eq!(std::fs::read(directory.join("latest.v3bw"))?, builder.build()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If the file must not be written (nothing has been touched then), or
    /// writing fails.
    pub fn publish(
        &self,
        directory: &Path,
        dated_name: &str,
        latest_name: &str,
    ) -> Result<PathBuf, Error> {
        let bytes = self.build()?;
        let path = directory.join(dated_name);
        replace_file(&path, &bytes)?;
        replace_symlink(Path::new(dated_name), &directory.join(latest_name))?;
        Ok(path)
    }
}

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
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => attempt += 1,
            opened => return opened.map(|file| (temporary, file)),
        }
    }
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

fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::UnixTime;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn latest_follows_the_newest() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        for (seconds, name) in [(1, "a.v3bw"), (2, "b.v3bw"), (3, "b.v3bw")] {
            let builder = FileBuilder::new(UnixTime::new(seconds));
            builder.publish(directory, name, "latest.v3bw").unwrap();
            let latest = directory.join("latest.v3bw");
            assert_eq!(fs::read_link(&latest).unwrap(), Path::new(name));
            assert_eq!(fs::read(&latest).unwrap(), builder.build().unwrap());
            let mode = fs::metadata(&latest).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o644);
        }
        assert_eq!(names(directory), ["a.v3bw", "b.v3bw", "latest.v3bw"]);
    }

    #[test]
    fn leftovers_of_a_crash_do_no_harm() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.v3bw");
        let leftover = temporary_name(&path, 0).unwrap();
        fs::write(&leftover, "half").unwrap();
        let link_leftover = temporary_name(&directory.path().join("latest"), 0).unwrap();
        symlink("nowhere", &link_leftover).unwrap();
        FileBuilder::new(UnixTime::new(1))
            .publish(directory.path(), "a.v3bw", "latest")
            .unwrap();
        assert_eq!(fs::read(leftover).unwrap(), b"half");
        assert!(fs::read(directory.path().join("latest")).is_ok());
    }

    #[test]
    fn a_refused_file_touches_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut builder = FileBuilder::new(UnixTime::new(1));
        builder.header("bw", "1");
        assert!(builder.publish(directory.path(), "a", "latest").is_err());
        assert!(names(directory.path()).is_empty());
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
