//! The directory of a network.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::files::{CAPACITIES, CLIENT, CLIENT_CONFIG, EMPTY, LINES_LOG, LOAD, NODES, RESOLVER};
use crate::manifest::{self, Manifest, NodeRecord};
use crate::{Error, ErrorKind};

/// The files of a network; removed with this value unless it is told not to.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    /// True if the directory itself is ours.
    pub(crate) made: bool,
    /// True if dropping this leaves the files where they are.
    pub(crate) keep: bool,
}

impl Home {
    /// Prepares the directory `wanted`, or a new one for temporary files.
    pub(crate) fn create(wanted: Option<&Path>, keep: bool) -> Result<Self, Error> {
        let home = match wanted {
            None => {
                let directory = tempfile::Builder::new().prefix("bw-testnet-").tempdir();
                let directory = directory.map_err(|error| {
                    Error::new(ErrorKind::Io, "making a temporary directory").with_source(error)
                })?;
                Self {
                    path: directory.keep(),
                    made: true,
                    keep,
                }
            }
            Some(wanted) => Self::claim(wanted, keep)?,
        };
        let write = |name, contents: &str| {
            let path = home.path.join(name);
            fs::write(&path, contents).map_err(|error| Error::io("writing", &path, error))
        };
        write(EMPTY, "")?;
        write(RESOLVER, "nameserver 127.0.0.1\n")?;
        Ok(home)
    }

    fn claim(wanted: &Path, keep: bool) -> Result<Self, Error> {
        let failed = |error| Error::io("making the directory", wanted, error);
        let made = !wanted.exists();
        if Manifest::exists(wanted) {
            let text = format!(
                "{} already holds a network: take it down first, or use another directory",
                wanted.display()
            );
            return Err(Error::new(ErrorKind::DirectoryBusy, text));
        }
        fs::create_dir_all(wanted).map_err(failed)?;
        if fs::read_dir(wanted).map_err(failed)?.next().is_some() {
            let text = format!("{} is not empty: use another directory", wanted.display());
            return Err(Error::new(ErrorKind::DirectoryBusy, text));
        }
        let path = wanted.canonicalize().map_err(failed)?;
        if path.to_str().is_none_or(|path| path.contains('\n')) {
            let text = format!("{}: tor wants a path in UTF-8", wanted.display());
            return Err(Error::new(ErrorKind::Plan, text));
        }
        Ok(Self { path, made, keep })
    }

    /// The directory of a network that runs, or ran; it stays.
    pub(crate) fn of(directory: &Path, manifest: &Manifest) -> Self {
        Self {
            path: directory.to_owned(),
            made: manifest.made_directory,
            keep: true,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directories of `node`, private as tor wants its keys.
    pub(crate) fn make_node(&self, node: &NodeRecord) -> Result<(), Error> {
        let keys = node.data_directory(&self.path).join("keys");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&keys)
            .map_err(|error| Error::io("making the directory", &keys, error))
    }

    /// Removes what we made, and nothing else.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        let tolerant = |result: io::Result<()>, path: &Path| match result {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("removing", path, error))
            }
            _ => Ok(()),
        };
        for name in [NODES, CLIENT, LOAD] {
            let path = self.path.join(name);
            tolerant(fs::remove_dir_all(&path), &path)?;
        }
        let files = [
            EMPTY,
            RESOLVER,
            LINES_LOG,
            CAPACITIES,
            CLIENT_CONFIG,
            manifest::FILE,
        ];
        for name in files {
            let path = self.path.join(name);
            tolerant(fs::remove_file(&path), &path)?;
        }
        if self.made {
            // Others may have put their files here: then it stays.
            let _ = fs::remove_dir(&self.path);
        }
        Ok(())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = self.remove()
        {
            tracing::warn!("{error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::sample_manifest;

    #[test]
    fn a_network_leaves_nothing_behind() {
        let base = tempfile::tempdir().unwrap();
        let wanted = base.path().join("a/net");
        let home = Home::create(Some(&wanted), false).unwrap();
        let manifest = sample_manifest();
        home.make_node(&manifest.nodes[0]).unwrap();
        manifest.write(home.path()).unwrap();
        let again = Home::create(Some(&wanted), false).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::DirectoryBusy);
        assert!(again.to_string().contains("take it down"), "{again}");
        drop(home);
        assert!(!wanted.exists() && base.path().join("a").exists());
    }

    #[test]
    fn files_of_others_are_left_alone() {
        let base = tempfile::tempdir().unwrap();
        let home = Home::create(Some(base.path()), false).unwrap();
        fs::write(base.path().join("notes"), "mine").unwrap();
        drop(home);
        let left: Vec<_> = fs::read_dir(base.path()).unwrap().collect();
        assert_eq!(left.len(), 1);
        let refused = Home::create(Some(base.path()), false).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::DirectoryBusy);
    }

    #[test]
    fn temporary_directories_are_made_and_kept_on_demand() {
        let home = Home::create(None, true).unwrap();
        let path = home.path().to_owned();
        drop(home);
        assert!(path.join(RESOLVER).exists());
        Home {
            path: path.clone(),
            made: true,
            keep: false,
        };
        assert!(!path.exists());
    }
}
