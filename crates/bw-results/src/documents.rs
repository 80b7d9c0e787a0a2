//! Directory documents as tor caches them: a consensus and server descriptors
//! (dir-spec), as far as a network snapshot needs them. Signatures are not
//! checked: tor did so before it wrote them to its own disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use bw_file::{BytesPerSecond, Ed25519Identity, Fingerprint, KilobytesPerSecond};

use crate::{DescriptorFacts, Lines, NetworkSnapshot, PortRanges, RelayFacts, UnixMillis};

/// The most relays that are read of one document.
const RELAY_LIMIT: usize = 1 << 18;

/// The one of several descriptors of a relay that counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DescriptorChoice {
    /// The one published last.
    #[default]
    Newest,
    /// The one that comes last, as for sbws.
    Last,
}

/// A document that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// Reading failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A line is not what it should be.
    #[error("line {line}: {problem}")]
    Line {
        /// Its number, from 1.
        line: u64,
        /// The problem.
        problem: String,
    },
    /// It is another kind of document, or cut off.
    #[error("{0}")]
    Document(&'static str),
    /// This file cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The problem.
        source: Box<DocumentError>,
    },
}

/// A line, split into its keyword and the rest.
struct Item<'l> {
    line: u64,
    keyword: &'l str,
    rest: &'l str,
}

impl Item<'_> {
    fn bad(&self, problem: &str) -> DocumentError {
        DocumentError::Line {
            line: self.line,
            problem: format!("{:?}: {problem}", self.keyword),
        }
    }

    fn words(&self) -> Vec<&str> {
        self.rest.split_ascii_whitespace().collect()
    }
}

/// Shows each line of `reader` that is text.
fn for_each_item(
    reader: impl BufRead,
    mut visit: impl FnMut(&Item<'_>) -> Result<(), DocumentError>,
) -> Result<(), DocumentError> {
    let mut lines = Lines::new(reader);
    loop {
        let line = lines.number() + 1;
        let text = match lines.read()? {
            None => return Ok(()),
            Some(Ok(text)) => text,
            Some(Err(_)) => continue,
        };
        // Contact lines and the like may be in any encoding.
        let Ok(text) = std::str::from_utf8(text) else {
            continue;
        };
        let text = text.trim_end();
        let (keyword, rest) = text.split_once(' ').unwrap_or((text, ""));
        visit(&Item {
            line,
            keyword,
            rest,
        })?;
    }
}

impl NetworkSnapshot {
    /// Reads the files of a consensus and of server descriptors; of several
    /// descriptors of a relay the newest counts.
    ///
    /// # Errors
    /// [`DocumentError::File`] with the file that cannot be read or is not what it
    /// should be.
    pub fn read_files(consensus: &Path, descriptors: &[PathBuf]) -> Result<Self, DocumentError> {
        Self::read_files_by(consensus, descriptors, DescriptorChoice::Newest)
    }

    /// The same, with `choice` of the descriptors that a relay has in one file.
    ///
    /// # Errors
    /// Those of [`read_files`](Self::read_files).
    pub fn read_files_by(
        consensus: &Path,
        descriptors: &[PathBuf],
        choice: DescriptorChoice,
    ) -> Result<Self, DocumentError> {
        let mut network = in_file(consensus, Self::read_consensus)?;
        for path in descriptors {
            in_file(path, |file| network.read_descriptors_by(file, choice))?;
        }
        Ok(network)
    }

    /// Reads a consensus (`cached-consensus`, or one of microdescriptors).
    ///
    /// A relay without a policy summary has no exit port.
    ///
    /// # Errors
    /// If reading fails, or it is no consensus.
    pub fn read_consensus(reader: impl BufRead) -> Result<Self, DocumentError> {
        let mut times = [None; 3];
        let mut params = BTreeMap::new();
        let mut weights = BTreeMap::new();
        let mut relays: Vec<RelayFacts> = Vec::new();
        let (mut is_consensus, mut complete) = (false, false);
        for_each_item(reader, |item| {
            match item.keyword {
                "vote-status" => is_consensus = item.rest.trim() == "consensus",
                "valid-after" => times[0] = Some(date(item)?),
                "fresh-until" => times[1] = Some(date(item)?),
                "valid-until" => times[2] = Some(date(item)?),
                "params" => params = numbers(item),
                "bandwidth-weights" => weights = numbers(item),
                "directory-footer" | "directory-signature" => complete = true,
                "r" => {
                    if relays.len() == RELAY_LIMIT {
                        return Err(item.bad("too many relays"));
                    }
                    relays.push(router(item)?);
                }
                _ => {
                    if let Some(relay) = relays.last_mut().filter(|_| !complete) {
                        describe(relay, item);
                    }
                }
            }
            Ok(())
        })?;
        let [Some(valid_after), Some(fresh_until), Some(valid_until)] = times else {
            return Err(DocumentError::Document("this is not a consensus of tor"));
        };
        if !is_consensus {
            return Err(DocumentError::Document("this is a vote, not a consensus"));
        }
        if !complete {
            return Err(DocumentError::Document("the consensus is cut off"));
        }
        let mut network = Self::new(valid_after, fresh_until, valid_until, params, relays);
        network.bandwidth_weights = weights;
        Ok(network)
    }

    /// Reads server descriptors (`cached-descriptors`, `cached-descriptors.new`);
    /// of several of a relay the one published last counts. Returns how many
    /// were read. A relay whose Ed25519 identity the consensus does not tell (only
    /// one of microdescriptors does) has that of its descriptor.
    ///
    /// # Errors
    /// If reading fails. A descriptor without a fingerprint, publication time or
    /// bandwidths is left out.
    pub fn read_descriptors(&mut self, reader: impl BufRead) -> Result<u64, DocumentError> {
        self.read_descriptors_by(reader, DescriptorChoice::Newest)
    }

    /// The same, with `choice` of the descriptors that one relay has in it.
    ///
    /// # Errors
    /// If reading fails.
    pub fn read_descriptors_by(
        &mut self,
        reader: impl BufRead,
        choice: DescriptorChoice,
    ) -> Result<u64, DocumentError> {
        #[derive(Default)]
        struct Pending {
            fingerprint: Option<Fingerprint>,
            identity: Option<Ed25519Identity>,
            published: Option<UnixMillis>,
            bandwidth: Option<[u64; 3]>,
        }
        let mut found = 0;
        let mut pending = Pending::default();
        for_each_item(reader, |item| {
            match item.keyword {
                "router" => pending = Pending::default(),
                "fingerprint" => {
                    let digits: String = item.rest.split_ascii_whitespace().collect();
                    pending.fingerprint = digits.parse().ok();
                }
                "master-key-ed25519" => {
                    pending.identity = Ed25519Identity::parse(item.rest.trim().as_bytes()).ok();
                }
                "published" => pending.published = date(item).ok(),
                "bandwidth" => {
                    let values: Vec<u64> = item
                        .words()
                        .iter()
                        .map_while(|word| word.parse().ok())
                        .collect();
                    pending.bandwidth = values.first_chunk().copied();
                }
                "router-signature" => {
                    if let Pending {
                        fingerprint: Some(fingerprint),
                        published: Some(published),
                        bandwidth: Some(bandwidth),
                        identity,
                    } = std::mem::take(&mut pending)
                    {
                        let [average, burst, observed] = bandwidth.map(BytesPerSecond::new);
                        let facts = DescriptorFacts::new(published, average, burst, observed);
                        if choice == DescriptorChoice::Last {
                            self.forget_descriptor(&fingerprint);
                        }
                        self.see_descriptor(fingerprint, facts, identity);
                        found += 1;
                    }
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(found)
    }

    fn forget_descriptor(&mut self, relay: &Fingerprint) {
        self.other_descriptors.remove(relay);
        let index = self
            .relays
            .binary_search_by_key(relay, |relay| relay.fingerprint);
        if let Ok(index) = index {
            self.relays[index].descriptor = None;
        }
    }

    fn see_descriptor(
        &mut self,
        fingerprint: Fingerprint,
        facts: DescriptorFacts,
        identity: Option<Ed25519Identity>,
    ) {
        let index = self
            .relays
            .binary_search_by_key(&fingerprint, |relay| relay.fingerprint);
        match index {
            Ok(index) => {
                let relay = &mut self.relays[index];
                relay.ed25519 = relay.ed25519.or(identity);
                let known = &mut relay.descriptor;
                if known.is_none_or(|known| known.published <= facts.published) {
                    *known = Some(facts);
                }
            }
            Err(_) if self.other_descriptors.len() < RELAY_LIMIT => {
                let known = self.other_descriptors.entry(fingerprint).or_insert(facts);
                if known.published <= facts.published {
                    *known = facts;
                }
            }
            Err(_) => {}
        }
    }
}

/// Gives the file at `path` to `read`; an error names the file.
fn in_file<T>(
    path: &Path,
    read: impl FnOnce(BufReader<File>) -> Result<T, DocumentError>,
) -> Result<T, DocumentError> {
    File::open(path)
        .map_err(DocumentError::Io)
        .and_then(|file| read(BufReader::with_capacity(1 << 16, file)))
        .map_err(|source| DocumentError::File {
            path: path.to_owned(),
            source: source.into(),
        })
}

/// `2026-11-20 12:00:00`
fn date(item: &Item<'_>) -> Result<UnixMillis, DocumentError> {
    UnixMillis::parse_iso(&item.rest.replacen(' ', "T", 1))
        .ok_or_else(|| item.bad("this is no time"))
}

/// `name=value` pairs; what is not a number is left out.
fn numbers(item: &Item<'_>) -> BTreeMap<String, i32> {
    item.words()
        .into_iter()
        .filter_map(|word| {
            let (name, value) = word.split_once('=')?;
            Some((name.to_owned(), value.parse().ok()?))
        })
        .collect()
}

/// `r nickname identity [digest] date time address orport dirport`; a
/// consensus of microdescriptors has no digest.
fn router(item: &Item<'_>) -> Result<RelayFacts, DocumentError> {
    let words = item.words();
    let [nickname, identity, .., address, _, _] = words[..] else {
        return Err(item.bad("too short"));
    };
    let fingerprint = identity_of(identity).ok_or_else(|| item.bad("this is no identity"))?;
    let mut relay = RelayFacts::new(fingerprint, nickname, KilobytesPerSecond::new(0));
    relay.address = address.parse::<IpAddr>().ok();
    Ok(relay)
}

/// 20 bytes in base64 without padding.
fn identity_of(text: &str) -> Option<Fingerprint> {
    // 27 characters hold 162 bits; an Ed25519 identity's 43 characters hold
    // 256: the same alphabet, so that its reader does the work.
    if text.len() != 27 {
        return None;
    }
    let padded = format!("{text}{}", "A".repeat(16));
    let identity = Ed25519Identity::parse(padded.as_bytes()).ok()?;
    Some(Fingerprint::from_bytes(
        *identity.as_bytes().first_chunk::<20>()?,
    ))
}

/// Adds the facts in a line after `r` to the relay.
fn describe(relay: &mut RelayFacts, item: &Item<'_>) {
    match item.keyword {
        "s" => {
            let flags = &mut relay.flags;
            for flag in item.words() {
                match flag {
                    "Authority" => flags.authority = true,
                    "BadExit" => flags.bad_exit = true,
                    "Exit" => flags.exit = true,
                    "Fast" => flags.fast = true,
                    "Guard" => flags.guard = true,
                    "Running" => flags.running = true,
                    "Stable" => flags.stable = true,
                    "Valid" => flags.valid = true,
                    _ => {}
                }
            }
        }
        "w" => {
            for word in item.words() {
                match word.split_once('=') {
                    Some(("Bandwidth", value)) => {
                        relay.consensus_weight =
                            KilobytesPerSecond::new(value.parse().unwrap_or(0));
                    }
                    Some(("Unmeasured", value)) => relay.unmeasured = value == "1",
                    _ => {}
                }
            }
        }
        "v" => relay.set_version(item.rest),
        "pr" => {
            relay.flow_control_2 = item
                .words()
                .iter()
                .filter_map(|word| word.strip_prefix("FlowCtrl="))
                .any(|versions| ranges(versions).contains(2));
        }
        "p" => {
            if let Some((verb, list)) = item.rest.split_once(' ') {
                relay.exit_ports = match verb {
                    "accept" => ranges(list.trim()),
                    _ => others(list.trim()),
                };
            }
        }
        "id" => {
            if let Some(key) = item.rest.strip_prefix("ed25519 ") {
                relay.ed25519 = Ed25519Identity::parse(key.trim().as_bytes()).ok();
            }
        }
        _ => {}
    }
}

/// `80,443,1000-2000`
fn range_list(list: &str) -> Vec<(u16, u16)> {
    list.split(',')
        .filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some((first.parse().ok()?, last.parse().ok()?))
        })
        .collect()
}

fn ranges(list: &str) -> PortRanges {
    PortRanges::new(range_list(list))
}

/// The ports that are in none of the ranges.
fn others(list: &str) -> PortRanges {
    let mut rejected = range_list(list);
    rejected.sort_unstable();
    let mut accepted = Vec::new();
    let mut next = 1;
    for (first, last) in rejected {
        if first > next {
            accepted.push((next, first - 1));
        }
        match last.checked_add(1) {
            Some(after) => next = next.max(after),
            None => return PortRanges::new(accepted),
        }
    }
    accepted.push((next, u16::MAX));
    PortRanges::new(accepted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSENSUS: &str = "network-status-version 3\nvote-status consensus\n\
        valid-after 2026-11-20 12:00:00\nfresh-until 2026-11-20 13:00:00\n\
        valid-until 2026-11-20 15:00:00\nparams bwauthpid=1 bwscanner_cc=2 odd\n\
        r one AQEBAQEBAQEBAQEBAQEBAQEBAQE AQEBAQEBAQEBAQEBAQEBAQEBAQE 2026-11-20 01:02:03 192.0.2.1 9001 0\n\
        s Exit Fast Guard Running Valid\nv Tor 0.4.9.11\npr FlowCtrl=1-2 Link=1-5\nw Bandwidth=30 Unmeasured=1\np reject 25,100-200,65535\n\
        r two AgICAgICAgICAgICAgICAgICAgI 2026-11-20 01:02:03 192.0.2.2 9001 0\n\
        id ed25519 AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE\n\
        s Authority Running\npr FlowCtrl=1\nw Bandwidth=7\np accept 80,443\n\
        directory-footer\nbandwidth-weights Wbd=0 Wgd=4131\n";

    fn network() -> NetworkSnapshot {
        NetworkSnapshot::read_consensus(CONSENSUS.as_bytes()).unwrap()
    }

    #[test]
    fn a_consensus_with_all_that_matters() {
        let network = network();
        assert_eq!(network.valid_after, UnixMillis::from_secs(1_795_176_000));
        assert_eq!(network.param("bwscanner_cc"), Some(2));
        assert_eq!(network.bandwidth_weights["Wgd"], 4131);
        let [one, two] = &network.relays[..] else {
            panic!("{network:?}")
        };
        assert_eq!(one.fingerprint, Fingerprint::from_bytes([1; 20]));
        assert_eq!(one.consensus_weight, KilobytesPerSecond::new(30));
        assert!(one.unmeasured && one.flow_control_2 && one.flags.guard);
        assert_eq!(one.version.as_deref(), Some("Tor 0.4.9.11"));
        assert_eq!(one.address, Some("192.0.2.1".parse().unwrap()));
        for (port, exits) in [
            (24, true),
            (25, false),
            (99, true),
            (150, false),
            (201, true),
        ] {
            assert_eq!(one.exits_to(port), exits, "{port}");
        }
        assert!(!one.exits_to(65535));
        assert!(two.flags.authority && !two.flow_control_2 && !two.unmeasured);
        assert_eq!(two.ed25519, Some(Ed25519Identity::from_bytes([1; 32])));
        assert!(two.exit_ports.contains(80) && !two.exit_ports.contains(81));
    }

    #[test]
    fn the_newest_descriptor_counts_wherever_it_is() {
        let descriptor = |byte: &str, hour: u32, observed: u32| {
            format!(
                "@source \"x\"\nrouter x 192.0.2.1 9001 0 0\nbandwidth 900 800 {observed}\n\
                 published 2026-11-20 {hour:02}:00:00\nfingerprint {}\nrouter-signature\n",
                vec![byte.repeat(2); 10].join(" ")
            )
        };
        let mut network = network();
        let text = descriptor("01", 5, 500) + &descriptor("01", 4, 400) + &descriptor("77", 4, 70);
        assert_eq!(network.read_descriptors(text.as_bytes()).unwrap(), 3);
        let journal = descriptor("01", 6, 600) + &descriptor("77", 3, 60) + "router cut off";
        assert_eq!(network.read_descriptors(journal.as_bytes()).unwrap(), 2);
        let facts = network.relays[0].descriptor.unwrap();
        assert_eq!(facts.observed, BytesPerSecond::new(600));
        assert_eq!(facts.average, BytesPerSecond::new(900));
        let gone = network.other_descriptors[&Fingerprint::from_bytes([0x77; 20])];
        assert_eq!(gone.observed, BytesPerSecond::new(70));
    }

    #[test]
    fn the_ed25519_identity_comes_with_the_descriptor() {
        let key = |byte: u8| Ed25519Identity::from_bytes([byte; 32]);
        let descriptor = |byte: &str, identity: Ed25519Identity| {
            format!(
                "router x 192.0.2.1 9001 0 0\nmaster-key-ed25519 {identity}\n\
                 bandwidth 900 800 700\npublished 2026-11-20 05:00:00\n\
                 fingerprint {}\nrouter-signature\n",
                vec![byte.repeat(2); 10].join(" ")
            )
        };
        let mut network = network();
        assert_eq!(network.relays[0].ed25519, None);
        let text = descriptor("01", key(7)) + &descriptor("02", key(8));
        network.read_descriptors(text.as_bytes()).unwrap();
        assert_eq!(network.relays[0].ed25519, Some(key(7)));
        assert_eq!(
            network.relays[1].ed25519,
            Some(key(1)),
            "the consensus knows it"
        );
    }

    #[test]
    fn for_sbws_the_descriptor_that_comes_last_counts() {
        let descriptor = |hour: u32, observed: u32| {
            format!(
                "router x 192.0.2.1 9001 0 0\nbandwidth 900 800 {observed}\n\
                 published 2026-11-20 {hour:02}:00:00\nfingerprint {}\nrouter-signature\n",
                "01".repeat(20)
            )
        };
        let text = descriptor(6, 600) + &descriptor(5, 500);
        for (choice, expected) in [
            (DescriptorChoice::Last, 500),
            (DescriptorChoice::Newest, 600),
        ] {
            let mut network = network();
            network
                .read_descriptors_by(text.as_bytes(), choice)
                .unwrap();
            let facts = network.relays[0].descriptor.unwrap();
            assert_eq!(facts.observed, BytesPerSecond::new(expected));
        }
    }

    #[test]
    fn other_documents_are_refused() {
        let cut = CONSENSUS.split("directory-footer").next().unwrap();
        let vote = CONSENSUS.replace("vote-status consensus", "vote-status vote");
        let bad = CONSENSUS.replace("AQEBAQEBAQEBAQEBAQEBAQEBAQE AQ", "AQ== AQ");
        for (text, expected) in [
            ("", "not a consensus"),
            ("bw=1 node_id=$00\n", "not a consensus"),
            (cut, "cut off"),
            (&vote, "vote"),
            (&bad, "line 7"),
        ] {
            let error = NetworkSnapshot::read_consensus(text.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
