//! A network of tor processes, running or not.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bw_file::KilobytesPerSecond;
use rustix::process::Signal;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::directory::{StatusDocument, valid_after};
use crate::files::{CAPACITIES, CLIENT_CONFIG, LINES_LOG, client_processes};
use crate::home::Home;
use crate::line::{self, Keeper};
use crate::manifest::{Manifest, NodeRecord};
use crate::process::{GLANCE, ProcessId, ProcessState, start_tor, tail};
use crate::{Authority, Error, ErrorKind, LineCommand, Node, Role};

/// The words that tor logs when it tests its own bandwidth.
const SELF_TEST: &str = "Performing bandwidth self-test";
/// The time for which cells of the last such test may be on their way.
const SELF_TEST_LASTS: Duration = Duration::from_secs(5);
/// After SIGTERM tor ends within a second, unless it is stuck: once in some
/// hundred times its threads wait for each other for ever.
const TERM_PATIENCE: Duration = Duration::from_secs(5);
/// After SIGKILL only the kernel can be slow.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// The time for which a drop may block, in pieces: 2 s.
const DROP_GLANCE: Duration = Duration::from_millis(5);
const DROP_GLANCES: usize = 400;
/// Lines of a log that an error shows.
const TAIL: usize = 20;

/// A private Tor network.
///
/// Made by [`Network::up`], or by [`Network::open`] for one that another
/// process has brought up. All methods take `&self`, so it can be shared.
///
/// If it is [owned](crate::Lifetime::Owned), dropping it kills the processes
/// (at once, and waiting for them some milliseconds); [`down`](Self::down) is
/// the orderly way.
#[derive(Debug)]
pub struct Network {
    /// Everything but the processes, which may be started anew.
    pub(crate) facts: Manifest,
    processes: Mutex<BTreeMap<String, ProcessId>>,
    /// Those that this process started: it has to ask for their exit status.
    children: Mutex<HashMap<String, Child>>,
    pub(crate) owned: bool,
    /// Serves the relays' lines, unless another process does.
    lines: Option<Keeper>,
    pub(crate) home: Home,
}

/// The state of a network.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// The directory of the network.
    pub directory: PathBuf,
    /// The version of tor.
    pub tor_version: String,
    /// Since when the network has existed, in seconds since the Unix epoch.
    pub created: u64,
    /// The newest consensus of the first authority that has one.
    pub consensus: Option<ConsensusTimes>,
    /// True if all nodes run, are in the consensus with the flags they should
    /// have, and hold a consensus that is not too old.
    pub ready: bool,
    /// The state of the process that serves the relays' delays and lines, if there is one.
    pub lines: Option<ProcessState>,
    /// The nodes, authorities first.
    pub nodes: Vec<NodeStatus>,
}

/// The times of a consensus, in seconds since the Unix epoch.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ConsensusTimes {
    /// When it became valid.
    pub valid_after: u64,
    /// When the next one is due.
    pub fresh_until: u64,
    /// When the authorities vote for the next one.
    pub next_vote: u64,
}

/// The state of one node of a network.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeStatus {
    /// The node's facts.
    #[serde(flatten)]
    pub record: NodeRecord,
    /// The number of its process, if it was started.
    pub pid: Option<u32>,
    /// The state of its process.
    pub state: ProcessState,
    /// The memory it uses, in bytes (its proportional share).
    pub memory: Option<u64>,
    /// Its flags in the consensus; none if it is not listed.
    pub flags: Option<Vec<String>>,
    /// Its weight in the consensus.
    pub weight: Option<KilobytesPerSecond>,
    /// True if the consensus says that its weight is not measured.
    pub unmeasured: bool,
    /// When the consensus that the node holds itself became valid, in seconds
    /// since the Unix epoch.
    pub holds: Option<u64>,
    /// Why the network is not ready because of this node, if it is so.
    pub problem: Option<String>,
}

impl Status {
    /// Why the network is not ready: one text for each node at fault, with its nickname.
    pub fn problems(&self) -> impl Iterator<Item = String> + '_ {
        let lines = self.lines.filter(|state| *state != ProcessState::Running);
        let lines = lines.map(|state| format!("the process of the relays' lines {}", state.told()));
        let nodes = self.nodes.iter().filter_map(|node| {
            let problem = node.problem.as_ref()?;
            Some(format!("{} {problem}", node.record.nickname))
        });
        lines.into_iter().chain(nodes)
    }
}

impl NodeStatus {
    /// Why the network is not ready because of this node.
    fn find_problem(&self, consensus: Option<&StatusDocument>, oldest: u64) -> Option<String> {
        if self.state != ProcessState::Running {
            return Some(self.state.told().to_owned());
        }
        match consensus {
            None => return Some("has no consensus to be in".to_owned()),
            Some(consensus) if !has_flags(consensus, &self.record) => {
                return Some("is not in the consensus with the flags it should have".to_owned());
            }
            Some(_) => {}
        }
        let old = self.holds < Some(oldest);
        old.then(|| "holds no consensus that is valid still".to_owned())
    }
}

impl Network {
    pub(crate) fn new(facts: Manifest, home: Home, owned: bool) -> Self {
        Self {
            processes: Mutex::new(facts.processes.clone()),
            children: Mutex::default(),
            facts,
            owned,
            lines: None,
            home,
        }
    }

    /// The network in `directory`, brought up by this process or another one,
    /// whether it runs or not. Dropping the result does nothing to it.
    ///
    /// # Errors
    /// [`ErrorKind::NoNetwork`] if there is none, [`ErrorKind::Parse`] if its
    /// `network.json` cannot be understood.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, Error> {
        let directory = directory.as_ref();
        let directory = directory
            .canonicalize()
            .unwrap_or_else(|_| directory.to_owned());
        let manifest = Manifest::read(&directory)?;
        let home = Home::of(&directory, &manifest);
        Ok(Self::new(manifest, home, false))
    }

    /// Where the network lives.
    pub fn directory(&self) -> &Path {
        self.home.path()
    }

    /// The file with [`capacities_json`](Self::capacities_json).
    pub fn capacities_file(&self) -> PathBuf {
        self.directory().join(CAPACITIES)
    }

    /// The file with a [client's configuration](Self::client_config_toml); the
    /// client's own files go to `client/cache` and `client/state` beside it.
    pub fn client_config_file(&self) -> PathBuf {
        self.directory().join(CLIENT_CONFIG)
    }

    /// The version of tor, such as `0.4.9.11`.
    pub fn tor_version(&self) -> &str {
        &self.facts.tor_version
    }

    /// The time from one consensus to the next.
    pub fn voting_interval(&self) -> Duration {
        Duration::from_secs(self.facts.voting_interval)
    }

    /// When the network was made.
    pub fn created(&self) -> SystemTime {
        self.facts.created()
    }

    /// All nodes, authorities first.
    pub fn nodes(&self) -> impl Iterator<Item = Node<'_>> {
        self.facts.nodes.iter().map(|node| Node::new(self, node))
    }

    /// The directory authorities.
    pub fn authorities(&self) -> impl Iterator<Item = Authority<'_>> {
        self.nodes().filter_map(Authority::of)
    }

    /// The node with this nickname.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownNode`] if there is none.
    pub fn node(&self, nickname: &str) -> Result<Node<'_>, Error> {
        let unknown = || {
            let names: Vec<_> = self.facts.nodes.iter().map(|n| &*n.nickname).collect();
            let text = format!("no node {nickname:?}; there are {}", names.join(", "));
            Error::new(ErrorKind::UnknownNode, text)
        };
        self.nodes()
            .find(|node| node.nickname() == nickname)
            .ok_or_else(unknown)
    }

    /// The true capacities and the identities of all nodes: a JSON array of
    /// [`NodeRecord`]s, rates in bytes per second and priors in kB/s.
    pub fn capacities_json(&self) -> String {
        // A record holds nothing that JSON cannot: no map, no float.
        serde_json::to_string_pretty(&self.facts.nodes).unwrap_or_default()
    }

    /// The newest consensus (flavour "ns") of the first authority that gives one.
    ///
    /// # Errors
    /// The last authority's, if none does.
    pub async fn consensus(&self) -> Result<StatusDocument, Error> {
        let mut last = Error::new(ErrorKind::Http, "the network has no authorities");
        for authority in self.authorities() {
            match authority.consensus().await {
                Ok(consensus) => return Ok(consensus),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Waits for a consensus that is valid after `time` and that `holds`, on
    /// every authority; gives the first authority's.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] if there is none within `patience`.
    pub async fn wait_for_consensus(
        &self,
        time: SystemTime,
        patience: Duration,
        holds: impl Fn(&StatusDocument) -> bool,
    ) -> Result<StatusDocument, Error> {
        let deadline = Instant::now() + patience;
        loop {
            let mut good = Vec::new();
            for authority in self.authorities() {
                let newest = authority.consensus().await.ok();
                good.extend(newest.filter(|it| it.valid_after > time && holds(it)));
            }
            if good.len() == self.facts.authorities().count() && !good.is_empty() {
                return Ok(good.swap_remove(0));
            }
            if Instant::now() >= deadline {
                let text = format!("no such consensus on every authority within {patience:?}");
                return Err(Error::new(ErrorKind::Timeout, text));
            }
            sleep(GLANCE).await;
        }
    }

    /// Waits until all nodes have tested their own bandwidth and the traffic of that is
    /// over: about a minute after it has started, once, each tor sends up to half a megabyte
    /// through others (its notice "Performing bandwidth self-test"), which together
    /// takes most of a small network's capacity for two or three seconds. For
    /// measurements that this would disturb.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] if a node has not done so within `patience`; two
    /// minutes are plenty.
    pub async fn wait_for_self_tests(&self, patience: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + patience;
        let mut waiting: Vec<_> = self.nodes().collect();
        while let Some(node) = waiting.last() {
            let log = std::fs::read(node.log_file()).unwrap_or_default();
            if String::from_utf8_lossy(&log).contains(SELF_TEST) {
                waiting.pop();
            } else if Instant::now() >= deadline {
                let text = format!(
                    "{} has not tested its bandwidth within {patience:?}",
                    node.nickname()
                );
                return Err(Error::new(ErrorKind::Timeout, text));
            } else {
                sleep(GLANCE).await;
            }
        }
        sleep(SELF_TEST_LASTS).await;
        Ok(())
    }

    /// Gives all authorities this bandwidth file, which they read when they
    /// vote for the next time ([`StatusDocument::next_vote`]). Each has a file
    /// of its own, replaced as a whole.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if a file cannot be written.
    pub fn install_bandwidth_file(&self, contents: &[u8]) -> Result<(), Error> {
        self.authorities()
            .try_for_each(|authority| authority.install_bandwidth_file(contents))
    }

    /// Looks at the state of the network.
    pub async fn status(&self) -> Status {
        let consensus = self.consensus().await.ok();
        let processes = self.known_processes();
        let times = consensus.as_ref().map(|consensus| ConsensusTimes {
            valid_after: unix_seconds(consensus.valid_after),
            fresh_until: unix_seconds(consensus.fresh_until),
            next_vote: unix_seconds(consensus.next_vote()),
        });
        // After three intervals a consensus is not valid any more.
        let oldest = unix_seconds(SystemTime::now() - 3 * self.voting_interval());
        let node = |record: &NodeRecord| {
            let process = processes.get(&record.nickname);
            let document = consensus.as_ref();
            let listed = document.and_then(|it| it.relays.get(&record.fingerprint));
            let mut status = NodeStatus {
                record: record.clone(),
                pid: process.map(ProcessId::pid),
                state: process.map_or(ProcessState::Gone, ProcessId::state),
                memory: process.and_then(ProcessId::memory),
                flags: listed.map(|entry| entry.flags.clone()),
                weight: listed.and_then(|entry| entry.bandwidth),
                unmeasured: listed.is_some_and(|entry| entry.unmeasured),
                holds: self.held_by(record).map(unix_seconds),
                problem: None,
            };
            status.problem = status.find_problem(document, oldest);
            status
        };
        let nodes: Vec<_> = self.facts.nodes.iter().map(node).collect();
        let lines = processes.get(line::NAME).map(ProcessId::state);
        let mut status = Status {
            directory: self.directory().to_owned(),
            tor_version: self.facts.tor_version.clone(),
            created: self.facts.created,
            consensus: times,
            ready: false,
            lines,
            nodes,
        };
        let ready = status.problems().next().is_none();
        status.ready = ready;
        status
    }

    /// Ends the network's processes, and no others, and removes its files
    /// unless they are to be kept. Works for a network that has crashed too.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] if a process outlives even SIGKILL,
    /// [`ErrorKind::Io`] if a file cannot be removed.
    pub async fn down(mut self) -> Result<(), Error> {
        let mut ids: Vec<_> = self.known_processes().into_iter().collect();
        ids.extend(client_processes(self.directory()));
        self.end(&ids).await?;
        self.owned = false;
        let files = if self.facts.keep_files {
            // What stays is no network any more.
            let path = self.directory().join(crate::manifest::FILE);
            std::fs::remove_file(&path).map_err(|error| Error::io("removing", &path, error))
        } else {
            self.home.remove()
        };
        self.home.keep = true;
        files
    }

    /// Ends these processes: SIGTERM, and SIGKILL for those that stay.
    pub(crate) async fn end(&self, ids: &[(String, ProcessId)]) -> Result<(), Error> {
        let steps = [(Signal::TERM, TERM_PATIENCE), (Signal::KILL, KILL_PATIENCE)];
        for (signal, patience) in steps {
            for (_, id) in ids {
                id.signal(signal);
                // A stopped process takes the signal when it goes on.
                id.signal(Signal::CONT);
            }
            let deadline = Instant::now() + patience;
            while Instant::now() < deadline {
                self.reap();
                if ids.iter().all(|(_, id)| id.state() == ProcessState::Gone) {
                    return Ok(());
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
        let alive = |(_, id): &&(String, ProcessId)| id.state() != ProcessState::Gone;
        let names: Vec<_> = ids.iter().filter(alive).map(|(name, _)| &**name).collect();
        let text = format!("still running after SIGKILL: {}", names.join(", "));
        Err(Error::new(ErrorKind::Timeout, text))
    }

    /// Starts the tor of `node`.
    pub(crate) fn start(&self, node: &NodeRecord) -> Result<(), Error> {
        let home = node.home(self.directory());
        let torrc = node.torrc_file(self.directory());
        let log = node.log_file(self.directory());
        let child = start_tor(&self.facts.tor, &home, &torrc, &log)?;
        let id = ProcessId::of(child.id());
        lock(&self.children).insert(node.nickname.clone(), child);
        match id {
            Some(id) => {
                lock(&self.processes).insert(node.nickname.clone(), id);
                Ok(())
            }
            None => Err(self.fault(ErrorKind::NodeDied, node, "could not be started")),
        }
    }

    /// Starts what serves the relays' lines: this command, or a thread.
    pub(crate) fn start_lines(&mut self, command: Option<&LineCommand>) -> Result<(), Error> {
        let Some(command) = command else {
            self.lines = Some(Keeper::start(&self.facts)?);
            return Ok(());
        };
        let child = command.start(self.directory(), &self.lines_log())?;
        let id = ProcessId::of(child.id());
        lock(&self.children).insert(line::NAME.to_owned(), child);
        match id {
            Some(id) => {
                lock(&self.processes).insert(line::NAME.to_owned(), id);
                self.save()
            }
            None => Err(self.lines_ended("")),
        }
    }

    fn lines_log(&self) -> PathBuf {
        self.directory().join(LINES_LOG)
    }

    fn lines_ended(&self, how: &str) -> Error {
        let log = self.lines_log();
        let text = format!("the process of the relays' lines ended{how}");
        Error::new(ErrorKind::NodeDied, text).with_node(line::NAME, &log, &tail(&log, TAIL))
    }

    /// Writes `network.json`.
    pub(crate) fn save(&self) -> Result<(), Error> {
        let manifest = Manifest {
            processes: lock(&self.processes).clone(),
            ..self.facts.clone()
        };
        manifest.write(self.directory())
    }

    /// The process of each node, another process's restarts included.
    pub(crate) fn known_processes(&self) -> BTreeMap<String, ProcessId> {
        self.reap();
        let mut processes = lock(&self.processes).clone();
        if let Ok(manifest) = Manifest::read(self.directory()) {
            for (nickname, id) in manifest.processes {
                let ours = processes.get(&nickname).map(ProcessId::state);
                if !matches!(ours, Some(ProcessState::Running | ProcessState::Stopped)) {
                    processes.insert(nickname, id);
                }
            }
        }
        processes
    }

    /// Takes the exit status of children that have ended, and gives the last
    /// one of each.
    fn reap(&self) -> HashMap<String, ExitStatus> {
        let mut children = lock(&self.children);
        let ended = |(nickname, child): (&String, &mut Child)| {
            let status = child.try_wait().ok()??;
            Some((nickname.clone(), status))
        };
        children.iter_mut().filter_map(ended).collect()
    }

    /// An error if a node that was started does not run any more.
    pub(crate) fn check_alive(&self) -> Result<(), Error> {
        let ended = self.reap();
        let processes = lock(&self.processes).clone();
        if let Some(id) = processes.get(line::NAME)
            && id.state() == ProcessState::Gone
        {
            let status = ended.get(line::NAME);
            let how = status.map_or(String::new(), |status| format!(" ({status})"));
            return Err(self.lines_ended(&how));
        }
        for node in &self.facts.nodes {
            let Some(id) = processes.get(&node.nickname) else {
                continue;
            };
            if id.state() == ProcessState::Gone {
                let how = match ended.get(&node.nickname) {
                    Some(status) => format!("ended ({status})"),
                    None => "ended".to_owned(),
                };
                return Err(self.fault(ErrorKind::NodeDied, node, &how));
            }
        }
        Ok(())
    }

    /// An error that blames `node`, with the end of its log.
    pub(crate) fn fault(&self, kind: ErrorKind, node: &NodeRecord, what: &str) -> Error {
        let log = node.log_file(self.directory());
        let end = tail(&log, TAIL);
        let busy = kind == ErrorKind::NodeDied && end.contains("Address already in use");
        let kind = if busy { ErrorKind::AddressBusy } else { kind };
        let text = format!("{} {what}", node.nickname);
        Error::new(kind, text).with_node(&node.nickname, &log, &end)
    }

    /// When the consensus that `node` holds became valid: the older one of
    /// both flavours. tor writes these files when it starts to use them.
    pub(crate) fn held_by(&self, node: &NodeRecord) -> Option<SystemTime> {
        let data = node.data_directory(self.directory());
        let held = |name| {
            let mut start = Vec::new();
            let file = std::fs::File::open(data.join(name)).ok()?;
            std::io::Read::read_to_end(&mut std::io::Read::take(file, 1024), &mut start).ok()?;
            valid_after(&String::from_utf8_lossy(&start))
        };
        Some(held("cached-consensus")?.min(held("cached-microdesc-consensus")?))
    }

    /// Makes `node` read its torrc again and fetch what it lacks.
    pub(crate) fn reload(&self, node: &NodeRecord) {
        let id = lock(&self.processes).get(&node.nickname).cloned();
        if let Some(id) = id {
            id.signal(Signal::HUP);
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if !self.owned {
            return;
        }
        let clients = client_processes(self.directory());
        let nodes = self.known_processes();
        for id in nodes.values().chain(clients.iter().map(|(_, id)| id)) {
            id.signal(Signal::KILL);
        }
        // Killed processes end in milliseconds; no one else asks about ours.
        let mut children = lock(&self.children);
        for _ in 0..DROP_GLANCES {
            if children
                .values_mut()
                .all(|child| !matches!(child.try_wait(), Ok(None)))
            {
                break;
            }
            std::thread::sleep(DROP_GLANCE);
        }
        drop(children);
        self.home.keep = self.facts.keep_files;
        if self.home.keep {
            let _ = std::fs::remove_file(self.directory().join(crate::manifest::FILE));
        }
    }
}

/// Returns true if `node` is in the document as a node with its role should be.
pub(crate) fn has_flags(document: &StatusDocument, node: &NodeRecord) -> bool {
    let needed: &[&str] = match node.role {
        Role::Authority => &["Authority", "Running", "Valid"],
        Role::Exit => &["Exit", "Running", "Valid"],
        Role::Middle => &["Running", "Valid"],
    };
    let weighted = |entry: &crate::StatusEntry| node.prior.is_none() || !entry.unmeasured;
    document
        .relays
        .get(&node.fingerprint)
        .is_some_and(|entry| needed.iter().all(|flag| entry.has_flag(flag)) && weighted(entry))
}

/// A poisoned lock guards a map that no panic can leave half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
