//! Where things are kept.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::args::Global;
use crate::exit::UsageError;

/// bwscan's own among the user's directories, unless there is no home.
fn user_directories() -> Option<directories::ProjectDirs> {
    directories::ProjectDirs::from("", "", "bwscan")
}

/// The configuration file of the machine, for users who have none.
pub(crate) const SYSTEM_CONFIG: &str = "/etc/bwscan/bwscan.toml";

/// The configuration file that is read if none is named: the user's own, else the machine's.
pub(crate) fn default_config() -> Option<PathBuf> {
    let own = user_directories().map(|dirs| dirs.config_dir().join("bwscan.toml"));
    own.filter(|path| path.exists())
        .or_else(|| Some(SYSTEM_CONFIG.into()))
}

/// The data directory and what is in it.
#[derive(Clone, Debug)]
pub(crate) struct DataDir(PathBuf);

impl DataDir {
    /// The one that was asked for, or the user's own.
    pub(crate) fn new(global: &Global) -> anyhow::Result<Self> {
        if let Some(path) = &global.data_dir {
            return Ok(Self(path.clone()));
        }
        let dirs = user_directories()
            .ok_or_else(|| UsageError("there is no home directory; give --data-dir".to_owned()))?;
        Ok(Self(dirs.data_dir().to_owned()))
    }

    /// The one at `path`.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Makes sure that it exists.
    pub(crate) fn create(&self) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.0)
            .with_context(|| format!("{}: the data directory cannot be made", self.0.display()))
    }

    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The store of results.
    pub(crate) fn store(&self) -> PathBuf {
        self.0.join("results.sqlite")
    }

    /// The socket on which a scanner tells what it does.
    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("watch.sock")
    }

    /// The directory of arti.
    pub(crate) fn tor(&self) -> PathBuf {
        self.0.join("tor")
    }

    /// The bandwidth files.
    pub(crate) fn bandwidth_files(&self) -> PathBuf {
        self.0.join("v3bw")
    }

    /// The private network that `testnet` makes by default.
    pub(crate) fn testnet(&self) -> PathBuf {
        self.0.join("testnet")
    }
}
