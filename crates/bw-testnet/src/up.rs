//! Bringing a network up.
//!
//! The order makes it fast. Authorities listen before relays start, since a
//! relay that cannot publish its descriptor tries again only after a minute.
//! The authorities are told to vote when every one of them knows every relay:
//! relays that got a consensus without some others would keep it for a whole
//! interval. Then nodes without a consensus are told to fetch it (SIGHUP), as
//! their own next attempt can be ten seconds away.

use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bw_file::Fingerprint;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::block::Block;
use crate::directory::described;
use crate::files::CLIENT;
use crate::home::Home;
use crate::manifest::{Manifest, NodeRecord};
use crate::network::has_flags;
use crate::process::{GLANCE, ProcessId};
use crate::programs::{Identity, Programs};
use crate::torrc::{Timetable, Torrc, first_consensus_after, prior_file, state_file};
use crate::{Error, ErrorKind, Event, Lifetime, Network, Plan, Role};

/// The time for a node that was told to fetch the consensus to do so.
const FETCH_PATIENCE: Duration = Duration::from_secs(3);

impl Network {
    /// Brings a network up and returns when it is ready: every relay is in the
    /// consensus of every authority with `Running` (exits with `Exit`, and
    /// none `Unmeasured` if there is a prior), and every node holds that
    /// consensus itself, so that exits know the relays that speak to them.
    ///
    /// If the future is dropped, or its process dies, before the network is
    /// ready, the processes end like those of an owned network.
    ///
    /// # Errors
    /// By [`kind`](Error::kind): [`TorMissing`](ErrorKind::TorMissing) and
    /// [`TorUnusable`](ErrorKind::TorUnusable),
    /// [`AddressBusy`](ErrorKind::AddressBusy),
    /// [`DirectoryBusy`](ErrorKind::DirectoryBusy),
    /// [`NodeDied`](ErrorKind::NodeDied) if a tor ends,
    /// [`Timeout`](ErrorKind::Timeout) if the network is not ready in time
    /// (the last two with the end of a log), [`Io`](ErrorKind::Io). Nothing is
    /// left running.
    pub async fn up(plan: &Plan, progress: impl FnMut(Event)) -> Result<Self, Error> {
        let begun = Instant::now();
        let programs = Programs::find(&plan.options).await?;
        let mut ascent = Ascent {
            plan,
            begun,
            deadline: begun + plan.options.timeout,
            progress,
        };
        let mut network = ascent.prepare(programs).await?;
        ascent.serve_lines(&mut network).await?;
        ascent.start(&network).await?;
        ascent.wait_for_descriptors(&network).await?;
        ascent.wait_for_consensus(&network).await?;
        ascent.finish(network).await
    }
}

/// A network on its way up.
struct Ascent<'a, F> {
    plan: &'a Plan,
    begun: Instant,
    deadline: Instant,
    progress: F,
}

impl<F: FnMut(Event)> Ascent<'_, F> {
    /// Makes keys and files.
    async fn prepare(&mut self, programs: Programs) -> Result<Network, Error> {
        let options = &self.plan.options;
        let block = Block::find(self.plan)?;
        let home = Home::create(options.directory.as_deref(), options.keep_files)?;
        let records = self.records(block);
        for record in &records {
            home.make_node(record)?;
        }
        let facts = Manifest {
            format: Manifest::FORMAT,
            tor: programs.tor.clone(),
            tor_version: programs.version.clone(),
            created: SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            keep_files: options.keep_files,
            made_directory: home.made,
            owner: ProcessId::of(std::process::id()),
            voting_interval: options.voting_interval.as_secs(),
            nodes: self.make_keys(programs, &home, records).await?,
            processes: Default::default(),
        };
        let network = Network::new(facts, home, true);
        self.write_torrcs(&network, Timetable::waiting(SystemTime::now()), true)?;
        Self::write_histories(&network)?;
        self.write_prior(&network)?;
        Ok(network)
    }

    /// The records of all nodes, before they have keys.
    fn records(&self, block: Block) -> Vec<NodeRecord> {
        let plan = self.plan;
        let priors = plan.prior_weights();
        let record = |(index, (relay, prior)): (usize, (&crate::RelaySpec, _))| {
            let is_authority = relay.role == Role::Authority;
            NodeRecord {
                nickname: relay.nickname.clone(),
                role: relay.role,
                address: block.address(index),
                or_port: plan.options.or_port,
                inner_port: relay.has_line().then(|| plan.inner_port()),
                dir_port: is_authority.then_some(plan.options.dir_port),
                fingerprint: Fingerprint::from_bytes([0; 20]),
                ed25519: bw_file::Ed25519Identity::from_bytes([0; 32]),
                v3ident: None,
                rate: relay.rate,
                limit: relay.limit.unwrap_or_default(),
                delay_ms: relay.delay.map_or(0, |delay| {
                    u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)
                }),
                burst: plan.burst(relay),
                observed: plan.observed(relay),
                prior,
            }
        };
        let relays = plan.relays.iter().zip(priors).enumerate();
        relays.map(record).collect()
    }

    /// Makes the keys of all nodes, as many at a time as there are processors.
    async fn make_keys(
        &mut self,
        programs: Programs,
        home: &Home,
        mut records: Vec<NodeRecord>,
    ) -> Result<Vec<NodeRecord>, Error> {
        let programs = Arc::new(programs);
        let parallel = std::thread::available_parallelism().map_or(1, usize::from);
        let permits = Arc::new(Semaphore::new(parallel));
        let mut tasks = JoinSet::new();
        for (index, record) in records.iter().enumerate() {
            let (programs, permits) = (Arc::clone(&programs), Arc::clone(&permits));
            let (record, home) = (record.clone(), home.path().to_owned());
            tasks.spawn(async move {
                // The semaphore is never closed.
                let _permit = permits.acquire().await;
                let data = record.data_directory(&home);
                let v3ident = match record.dir_address() {
                    Some(address) => {
                        let keys = data.join("keys");
                        let address = address.to_string();
                        Some(programs.make_authority_keys(&keys, &address).await?)
                    }
                    None => None,
                };
                let torrc = record.torrc_file(&home);
                let identity = programs
                    .make_relay_keys(&data, &record.nickname, &torrc)
                    .await?;
                Ok((index, v3ident, identity))
            });
        }
        let (mut done, total) = (0, records.len());
        while let Some(made) = tasks.join_next().await {
            let made =
                made.map_err(|error| Error::new(ErrorKind::Io, "making keys").with_source(error))?;
            let (
                index,
                v3ident,
                Identity {
                    fingerprint,
                    ed25519,
                },
            ) = made?;
            let record = &mut records[index];
            record.v3ident = v3ident;
            (record.fingerprint, record.ed25519) = (fingerprint, ed25519);
            done += 1;
            (self.progress)(Event::Keys { done, total });
        }
        Ok(records)
    }

    /// Writes the torrc of every node, of an owned one or not.
    fn write_torrcs(
        &self,
        network: &Network,
        timetable: Timetable,
        owned: bool,
    ) -> Result<(), Error> {
        let torrc = Torrc {
            plan: self.plan,
            manifest: &network.facts,
            directory: network.directory(),
            owner: owned.then(std::process::id),
            timetable,
        };
        for (index, node) in network.facts.nodes.iter().enumerate() {
            let path = node.torrc_file(network.directory());
            write(&path, &torrc.text(index, node))?;
        }
        Ok(())
    }

    fn write_histories(network: &Network) -> Result<(), Error> {
        for node in &network.facts.nodes {
            if let Some(rate) = node.observed {
                let path = node.data_directory(network.directory()).join("state");
                write(&path, &state_file(rate, SystemTime::now()))?;
            }
        }
        Ok(())
    }

    fn write_prior(&self, network: &Network) -> Result<(), Error> {
        if self.plan.options.prior.is_none() {
            return Ok(());
        }
        let nodes = network.facts.nodes.iter();
        let weights = nodes.filter_map(|node| Some((node.fingerprint, node.prior?)));
        let file = prior_file(weights, SystemTime::now());
        network.install_bandwidth_file(file.as_bytes())
    }

    /// Has somebody listen at the advertised ports of relays that have a line.
    async fn serve_lines(&self, network: &mut Network) -> Result<(), Error> {
        if !self.plan.has_lines() {
            return Ok(());
        }
        network.save()?;
        network.start_lines(self.plan.options.line_command.as_ref())?;
        let nodes = network.facts.nodes.iter();
        for node in nodes.filter(|node| node.inner_port.is_some()) {
            while tokio::net::TcpStream::connect(node.or_address())
                .await
                .is_err()
            {
                self.pause(network, node, "has no line").await?;
            }
        }
        Ok(())
    }

    /// Starts the authorities, then the relays.
    async fn start(&mut self, network: &Network) -> Result<(), Error> {
        let nodes = &network.facts.nodes;
        let (authorities, relays): (Vec<_>, Vec<_>) =
            nodes.iter().partition(|node| node.role == Role::Authority);
        for node in authorities {
            network.start(node)?;
        }
        for authority in network.authorities() {
            authority.wait_until_listening(self.deadline).await?;
        }
        for node in relays {
            network.start(node)?;
        }
        network.save()?;
        (self.progress)(Event::Started { total: nodes.len() });
        Ok(())
    }

    /// Waits until every authority has every node's descriptor.
    async fn wait_for_descriptors(&mut self, network: &Network) -> Result<(), Error> {
        let nodes = &network.facts.nodes;
        let mut shown = None;
        loop {
            let mut known: BTreeSet<_> = nodes.iter().map(|node| node.fingerprint).collect();
            for authority in network.authorities() {
                // Without any descriptor yet, tor answers 404.
                let all = authority.get("/tor/server/all").await.unwrap_or_default();
                let has: BTreeSet<_> = described(&String::from_utf8_lossy(&all)).collect();
                known.retain(|fingerprint| has.contains(fingerprint));
            }
            let event = Event::Described {
                known: known.len(),
                total: nodes.len(),
            };
            self.show(&mut shown, event);
            let Some(absent) = nodes.iter().find(|node| !known.contains(&node.fingerprint)) else {
                return Ok(());
            };
            let why = "has not published its descriptor to every authority";
            self.pause(network, absent, why).await?;
        }
    }

    /// Has the authorities vote, and waits until every node has the result.
    async fn wait_for_consensus(&mut self, network: &Network) -> Result<(), Error> {
        let due = first_consensus_after(SystemTime::now());
        let timetable = self.timetable(due);
        self.write_torrcs(network, timetable, true)?;
        for authority in network.authorities() {
            network.reload(authority.record());
        }
        (self.progress)(Event::Voting { due });
        while SystemTime::now() < due {
            network.check_alive()?;
            sleep(GLANCE).await;
        }
        let complete = self.wait_until_listed(network).await?;
        self.wait_until_held(network, complete).await
    }

    /// Gives the time of the oldest consensus with all nodes that an authority
    /// has.
    async fn wait_until_listed(&mut self, network: &Network) -> Result<SystemTime, Error> {
        let nodes = &network.facts.nodes;
        let mut shown = None;
        loop {
            let mut unlisted: BTreeSet<_> = BTreeSet::new();
            let mut oldest = None;
            for authority in network.authorities() {
                let Ok(consensus) = authority.consensus().await else {
                    unlisted.extend(nodes.iter().map(|node| node.fingerprint));
                    continue;
                };
                let lacking = nodes.iter().filter(|node| !has_flags(&consensus, node));
                unlisted.extend(lacking.map(|node| node.fingerprint));
                let time = consensus.valid_after;
                oldest = Some(oldest.map_or(time, |oldest| time.min(oldest)));
            }
            let event = Event::Listed {
                listed: nodes.len() - unlisted.len(),
                total: nodes.len(),
            };
            self.show(&mut shown, event);
            let lacking = nodes
                .iter()
                .find(|node| unlisted.contains(&node.fingerprint));
            match (lacking, oldest) {
                (None, Some(oldest)) => return Ok(oldest),
                (lacking, _) => {
                    let why = "is not in every authority's consensus with the flags it should have";
                    self.pause(network, lacking.unwrap_or(&nodes[0]), why)
                        .await?;
                }
            }
        }
    }

    async fn wait_until_held(
        &mut self,
        network: &Network,
        complete: SystemTime,
    ) -> Result<(), Error> {
        let nodes = &network.facts.nodes;
        let mut shown = None;
        let mut told: Option<Instant> = None;
        loop {
            let holds = |node: &&NodeRecord| network.held_by(node) >= Some(complete);
            let lacking: Vec<_> = nodes.iter().filter(|node| !holds(node)).collect();
            let event = Event::Holding {
                holding: nodes.len() - lacking.len(),
                total: nodes.len(),
            };
            self.show(&mut shown, event);
            let Some(first) = lacking.first() else {
                return Ok(());
            };
            if told.is_none_or(|told| told.elapsed() >= FETCH_PATIENCE) {
                for node in &lacking {
                    network.reload(node);
                }
                told = Some(Instant::now());
            }
            let why = "does not have a consensus with all nodes";
            self.pause(network, first, why).await?;
        }
    }

    /// Writes what clients need, and lets a detached network go.
    async fn finish(&mut self, mut network: Network) -> Result<Network, Error> {
        let client = network.directory().join(CLIENT);
        let config = network.client_config_toml(&client.join("cache"), &client.join("state"));
        write(&network.client_config_file(), &config)?;
        write(&network.capacities_file(), &network.capacities_json())?;
        if self.plan.options.lifetime == Lifetime::Detached {
            self.let_go(&network).await?;
            network.facts.owner = None;
            network.save()?;
            network.owned = false;
            network.home.keep = true;
        }
        network.check_alive()?;
        let elapsed = self.begun.elapsed();
        (self.progress)(Event::Ready { elapsed });
        Ok(network)
    }

    /// Has every node forget its owner, and waits until it has: one that still looks for it
    /// when this process has ended would end too.
    async fn let_go(&self, network: &Network) -> Result<(), Error> {
        let nodes = &network.facts.nodes;
        let valid_after = nodes.first().and_then(|node| network.held_by(node));
        let timetable = self.timetable(valid_after.unwrap_or(SystemTime::UNIX_EPOCH));
        self.write_torrcs(network, timetable, false)?;
        let log = |node: &NodeRecord| node.log_file(network.directory());
        let mut waiting: Vec<_> = nodes
            .iter()
            .map(|node| (node, length(&log(node))))
            .collect();
        for node in nodes {
            network.reload(node);
        }
        loop {
            waiting.retain(|(node, told_at)| !has_reloaded(&log(node), *told_at));
            let Some((first, _)) = waiting.first() else {
                return Ok(());
            };
            let why = "has not read its configuration again";
            self.pause(network, first, why).await?;
        }
    }

    fn timetable(&self, a_consensus: SystemTime) -> Timetable {
        Timetable::starting(a_consensus, self.plan.options.voting_interval)
    }

    /// Tells of a step, but not of the same one twice.
    fn show(&mut self, shown: &mut Option<Event>, event: Event) {
        if shown.as_ref() != Some(&event) {
            (self.progress)(event.clone());
            *shown = Some(event);
        }
    }

    /// Waits a little, unless a process has ended or time is up: then `node`
    /// and what keeps it are named.
    async fn pause(&self, network: &Network, node: &NodeRecord, why: &str) -> Result<(), Error> {
        network.check_alive()?;
        if Instant::now() >= self.deadline {
            let patience = self.plan.options.timeout;
            let what = format!("{why}; the network did not come up within {patience:?}");
            return Err(network.fault(ErrorKind::Timeout, node, &what));
        }
        sleep(GLANCE).await;
        Ok(())
    }
}

fn length(log: &Path) -> u64 {
    std::fs::metadata(log).map_or(0, |data| data.len())
}

/// Returns true if tor has read its torrc on a signal that came when its log ended at
/// `told_at`, or later.
fn has_reloaded(log: &Path, told_at: u64) -> bool {
    let since = || {
        let mut file = std::fs::File::open(log).ok()?;
        file.seek(SeekFrom::Start(told_at)).ok()?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    };
    let since = since().unwrap_or_default();
    let told = since.split_once("Received reload signal");
    told.is_some_and(|(_, since)| since.contains("Read configuration file"))
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(|error| Error::io("writing", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_torrc_that_was_read_after_the_signal_counts() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        assert!(!has_reloaded(&log, 0));
        let add = |text: &str| {
            let old = std::fs::read_to_string(&log).unwrap_or_default();
            std::fs::write(&log, old + text).unwrap();
        };
        let (signal, read) = (
            "[notice] Received reload signal (hup). Reloading config.\n",
            "[notice] Read configuration file \"torrc\".\n",
        );
        add(read);
        add(signal);
        let told_at = length(&log);
        // The file was read before it was written anew, and told afterwards.
        add(read);
        assert!(!has_reloaded(&log, told_at));
        add(signal);
        assert!(!has_reloaded(&log, told_at));
        add(read);
        assert!(has_reloaded(&log, told_at));
    }
}
