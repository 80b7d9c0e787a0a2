//! Processes that are what they were when we started them.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

use crate::Error;

/// The identity of a process: a pid can be taken by another one later, the pid
/// together with its start time and the boot cannot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    pid: u32,
    /// Clock ticks since boot (`/proc/PID/stat`, field 22).
    start: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    boot: String,
}

/// The interval at which something that takes seconds is looked at.
pub(crate) const GLANCE: Duration = Duration::from_millis(200);

/// The state of a process.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcessState {
    /// It has ended (or is a zombie that its parent has not asked about).
    Gone,
    /// It runs, or could.
    Running,
    /// It was stopped by a signal.
    Stopped,
}

impl ProcessState {
    /// The rest of a sentence about the process.
    pub(crate) const fn told(self) -> &'static str {
        match self {
            Self::Gone => "has ended, or never started",
            Self::Running => "runs",
            Self::Stopped => "is stopped",
        }
    }
}

impl ProcessId {
    /// The process that has `pid` now; none if there is no such process.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let boot = boot_id()?.to_owned();
        let (_, start) = stat(pid)?;
        Some(Self { pid, start, boot })
    }

    /// The number that the system knows it by.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The state of the process.
    pub fn state(&self) -> ProcessState {
        let same =
            |(_, start): &(u8, u64)| *start == self.start && boot_id() == Some(self.boot.as_str());
        match stat(self.pid).filter(same) {
            None | Some((b'Z' | b'X', _)) => ProcessState::Gone,
            Some((b'T' | b't', _)) => ProcessState::Stopped,
            Some(_) => ProcessState::Running,
        }
    }

    /// Sends `signal` to this process and to no other.
    ///
    /// The pidfd is opened before the identity is looked at, so it stands for
    /// the process that was looked at. Returns whether there was one.
    pub(crate) fn signal(&self, signal: Signal) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let Some(Ok(handle)) = pid.map(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()))
        else {
            return false;
        };
        self.state() != ProcessState::Gone
            && rustix::process::pidfd_send_signal(handle, signal).is_ok()
    }

    /// The memory that the process alone uses, plus its share of what it uses
    /// with others, in bytes (`Pss`).
    pub(crate) fn memory(&self) -> Option<u64> {
        if self.state() == ProcessState::Gone {
            return None;
        }
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid)).ok()?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kilobytes * 1024)
    }
}

/// Starts `tor` in `home` with this configuration and no other.
pub(crate) fn start_tor(tor: &Path, home: &Path, torrc: &Path, log: &Path) -> Result<Child, Error> {
    let spawn = || {
        let output = OpenOptions::new().append(true).create(true).open(log)?;
        Command::new(tor)
            .arg("--defaults-torrc")
            .arg(home.join("no-defaults"))
            .arg("--ignore-missing-torrc")
            .arg("-f")
            .arg(torrc)
            .current_dir(home)
            // tor compresses every consensus with large buffers, and
            // glibc keeps them unless told not to: 50 MB each.
            .env("MALLOC_ARENA_MAX", "1")
            .env("MALLOC_MMAP_THRESHOLD_", "131072")
            .stdin(Stdio::null())
            .stderr(output.try_clone()?)
            .stdout(output)
            // Ctrl-C in a terminal goes to a whole group: not to tor,
            // which is stopped in order.
            .process_group(0)
            .spawn()
    };
    spawn().map_err(|error| Error::io("starting", tor, error))
}

/// State and start time from `/proc/PID/stat`.
fn stat(pid: u32) -> Option<(u8, u64)> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(stat: &str) -> Option<(u8, u64)> {
    // The second field is the name in parentheses, which may itself hold
    // blanks and parentheses.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = *fields.next()?.as_bytes().first()?;
    // Field 22, counted from 1; the state is field 3.
    let start = fields.nth(22 - 4)?.parse().ok()?;
    Some((state, start))
}

fn boot_id() -> Option<&'static str> {
    static BOOT: OnceLock<Option<String>> = OnceLock::new();
    let read = || std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    BOOT.get_or_init(|| read().map(|id| id.trim().to_owned()))
        .as_deref()
}

/// The last `lines` lines of a log.
pub(crate) fn tail(log: &Path, lines: usize) -> String {
    const ENOUGH: u64 = 16 * 1024;
    let read = || {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(ENOUGH)))?;
        let mut end = Vec::new();
        file.take(ENOUGH).read_to_end(&mut end)?;
        std::io::Result::Ok(end)
    };
    let end = String::from_utf8_lossy(&read().unwrap_or_default()).into_owned();
    let all: Vec<_> = end.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn sleeper() -> (Child, ProcessId) {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let id = ProcessId::of(child.id()).unwrap();
        (child, id)
    }

    #[test]
    fn names_with_parentheses_do_not_confuse() {
        let tail = "R 1 ".to_owned() + &"0 ".repeat(17) + "4242 0 0";
        assert_eq!(parse_stat(&format!("7 (a) b) {tail}")), Some((b'R', 4242)));
        assert_eq!(parse_stat("7 (short) R 1"), None);
    }

    #[test]
    fn signals_reach_the_process() {
        let (mut child, id) = sleeper();
        assert_eq!(id.state(), ProcessState::Running);
        assert!(id.memory() > Some(0));
        assert!(id.signal(Signal::STOP));
        while id.state() != ProcessState::Stopped {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(id.signal(Signal::KILL));
        while id.state() != ProcessState::Gone {
            std::thread::sleep(Duration::from_millis(5));
        }
        // Not yet waited for: a zombie counts as gone.
        assert!(!id.signal(Signal::KILL));
        child.wait().unwrap();
        assert_eq!(id.state(), ProcessState::Gone);
        assert_eq!(id.memory(), None);
    }

    #[test]
    fn a_recycled_pid_is_left_alone() {
        let (mut child, id) = sleeper();
        let earlier = ProcessId {
            start: id.start - 1,
            ..id.clone()
        };
        let before_reboot = ProcessId {
            boot: "another".into(),
            ..id.clone()
        };
        for other in [earlier, before_reboot] {
            assert_eq!(other.state(), ProcessState::Gone);
            assert!(!other.signal(Signal::KILL));
        }
        assert_eq!(id.state(), ProcessState::Running);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn the_tail_of_a_log() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        assert_eq!(tail(&log, 2), "");
        let long = "x".repeat(100) + "\n";
        std::fs::write(&log, long.repeat(1000) + "one\ntwo\n").unwrap();
        assert_eq!(tail(&log, 2), "one\ntwo");
        assert!(tail(&log, 1_000_000).len() < 20_000);
    }
}
