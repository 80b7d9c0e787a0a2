//! A private network with a server for scans, and the outcomes in their store.

#![allow(dead_code, reason = "each of the tests uses a part of it")]

#[path = "../command/mod.rs"]
mod command;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

pub(crate) use command::bwscan;

use bw_store::Store;
use bw_testnet::Network;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A place for the data of scans, a server to measure against, and what a
/// scanner needs to reach the network.
pub(crate) struct Bench {
    directory: tempfile::TempDir,
    /// The configuration of arti.
    pub(crate) config: PathBuf,
    /// The server's URL.
    pub(crate) url: String,
    _server: Kill,
}

/// A process that ends with the test.
pub(crate) struct Kill(pub(crate) Child);

impl Drop for Kill {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a signal to a process of this test.
pub(crate) fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// `bwscan serve` on a free port; the URL is the one it prints.
pub(crate) fn serve(more: &[&str]) -> (Kill, String) {
    use std::io::{BufRead, BufReader};
    let mut child = bwscan()
        .args(["serve", "--listen", "127.0.0.1:0"])
        .args(more)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let url = line.split_whitespace().last().unwrap().to_owned();
    (Kill(child), url)
}

impl Bench {
    pub(crate) fn new(network: &Network) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("arti.toml");
        let tor = directory.path().join("tor");
        let text = network.client_config_toml(&tor.join("cache"), &tor.join("state"));
        std::fs::write(&config, text).unwrap();
        let (server, url) = serve(&[]);
        Self {
            directory,
            config,
            url,
            _server: server,
        }
    }

    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `bwscan scan` with this data directory, not started yet.
    pub(crate) fn scan(&self, data: &str, url: &str, more: &[&str]) -> Command {
        let mut command = bwscan();
        command
            .args([
                "scan",
                "--bootstrap-timeout",
                "60s",
                "--destination",
                url,
                "--data-dir",
            ])
            .arg(self.data(data))
            .arg("--tor-config")
            .arg(&self.config)
            .args(more);
        command
    }

    pub(crate) fn list(&self, data: &str) -> Value {
        let output = bwscan()
            .args(["list", "--json", "--data-dir"])
            .arg(self.data(data))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

pub(crate) fn store(data: &Path) -> bw_store::Result<Store> {
    Store::open_read_only(data.join("results.sqlite"))
}

/// Outcomes in the store, 0 as long as there is none.
pub(crate) fn outcomes(data: &Path) -> u64 {
    let Ok(store) = store(data) else {
        return 0;
    };
    let scans = store.scans().unwrap();
    scans.iter().map(|scan| scan.outcomes).sum()
}

pub(crate) fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
