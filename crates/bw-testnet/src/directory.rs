//! Consensuses and votes, as far as checks need them.
//!
//! A small reader of the format in dir-spec, "Vote and consensus status
//! document formats": it checks no signature and keeps only the items below. The
//! lines that a vote has for a bandwidth file are read by [`bw_file::VoteLines`].

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, SystemTime};

use bw_file::{Fingerprint, KilobytesPerSecond};
use data_encoding::{BASE64_NOPAD, HEXUPPER};

use crate::{Error, ErrorKind};

/// A status document of the network: a consensus, or a vote.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct StatusDocument {
    /// True if this is one authority's vote.
    pub is_vote: bool,
    /// When its interval begins.
    pub valid_after: SystemTime,
    /// When the next one should take its place.
    pub fresh_until: SystemTime,
    /// From when on it must not be used.
    pub valid_until: SystemTime,
    /// The time before `valid_after` at which the authorities publish their votes.
    pub vote_delay: Duration,
    /// The time before `valid_after` at which the authorities exchange signatures.
    pub signature_delay: Duration,
    /// The network parameters.
    pub params: BTreeMap<String, i32>,
    /// The relays, by fingerprint.
    pub relays: BTreeMap<Fingerprint, StatusEntry>,
}

/// A relay in a status document.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct StatusEntry {
    /// The nickname.
    pub nickname: String,
    /// Address and `ORPort`.
    pub address: SocketAddrV4,
    /// The names of its flags, such as `Running`.
    pub flags: Vec<String>,
    /// `Bandwidth=`: the consensus weight, or what an authority found
    /// credible.
    pub bandwidth: Option<KilobytesPerSecond>,
    /// A vote's `Measured=`: the value from the bandwidth file.
    pub measured: Option<KilobytesPerSecond>,
    /// A consensus's `Unmeasured=1`: fewer than three authorities measured it.
    pub unmeasured: bool,
}

impl StatusDocument {
    /// Reads a consensus (flavour "ns") or a vote.
    ///
    /// # Errors
    /// [`ErrorKind::Parse`] with the line, if an item that should be there is
    /// not, or is not understood. Items that are not in this type are passed
    /// over.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut reader = Reader::default();
        for (number, line) in text.lines().enumerate() {
            reader
                .line(line)
                .ok_or_else(|| parse_error(&format!("line {}: {line:?}", number + 1)))?;
        }
        reader.finish()
    }

    /// Returns true if the relay is listed with the flag.
    pub fn has_flag(&self, relay: &Fingerprint, flag: &str) -> bool {
        self.relays
            .get(relay)
            .is_some_and(|entry| entry.has_flag(flag))
    }

    /// When the authorities read their bandwidth files and vote for the next
    /// time. The resulting consensus is published at `fresh_until`.
    pub fn next_vote(&self) -> SystemTime {
        self.fresh_until - self.vote_delay - self.signature_delay
    }
}

impl StatusEntry {
    /// Returns true if the relay has the flag.
    pub fn has_flag(&self, flag: &str) -> bool {
        self.flags.iter().any(|has| has == flag)
    }
}

/// The document so far.
#[derive(Default)]
struct Reader {
    is_vote: Option<bool>,
    times: BTreeMap<String, SystemTime>,
    delays: Option<(Duration, Duration)>,
    params: BTreeMap<String, i32>,
    relays: BTreeMap<Fingerprint, StatusEntry>,
    current: Option<Fingerprint>,
    /// Within "-----BEGIN" and "-----END".
    in_object: bool,
}

impl Reader {
    /// Takes one line; none if it cannot be understood.
    fn line(&mut self, line: &str) -> Option<()> {
        if let Some(rest) = line.strip_prefix("-----") {
            self.in_object = rest.starts_with("BEGIN");
            return Some(());
        }
        if self.in_object {
            return Some(());
        }
        let (keyword, rest) = line.split_once(' ').unwrap_or((line, ""));
        let entry = self.current.and_then(|id| self.relays.get_mut(&id));
        match (keyword, entry) {
            ("vote-status", None) => {
                self.is_vote = Some(match rest {
                    "consensus" => false,
                    "vote" => true,
                    _ => return None,
                });
            }
            ("valid-after" | "fresh-until" | "valid-until", None) => {
                let time = humantime::parse_rfc3339_weak(rest).ok()?;
                self.times.insert(keyword.to_owned(), time);
            }
            ("voting-delay", None) => {
                let (vote, signatures) = rest.split_once(' ')?;
                let seconds =
                    |text: &str| Some(Duration::from_secs(text.parse::<u32>().ok()?.into()));
                self.delays = Some((seconds(vote)?, seconds(signatures)?));
            }
            ("params", None) => {
                for (name, value) in pairs(rest) {
                    self.params.insert(name.to_owned(), value?.parse().ok()?);
                }
            }
            ("r", _) => {
                let (id, entry) = router(rest)?;
                self.relays.insert(id, entry);
                self.current = Some(id);
            }
            ("s", Some(entry)) => entry.flags = rest.split(' ').map(str::to_owned).collect(),
            ("w", Some(entry)) => {
                for (name, value) in pairs(rest) {
                    let value = || Some(KilobytesPerSecond::new(value?.parse().ok()?));
                    match name {
                        "Bandwidth" => entry.bandwidth = Some(value()?),
                        "Measured" => entry.measured = Some(value()?),
                        "Unmeasured" => entry.unmeasured = value()?.value() != 0,
                        _ => {}
                    }
                }
            }
            ("directory-footer", _) => self.current = None,
            _ => {}
        }
        Some(())
    }

    fn finish(mut self) -> Result<StatusDocument, Error> {
        let mut time = |name: &str| {
            self.times
                .remove(name)
                .ok_or_else(|| parse_error(&format!("no {name}")))
        };
        let (valid_after, fresh_until) = (time("valid-after")?, time("fresh-until")?);
        let valid_until = time("valid-until")?;
        let (vote_delay, signature_delay) =
            self.delays.ok_or_else(|| parse_error("no voting-delay"))?;
        Ok(StatusDocument {
            is_vote: self.is_vote.ok_or_else(|| parse_error("no vote-status"))?,
            valid_after,
            fresh_until,
            valid_until,
            vote_delay,
            signature_delay,
            params: self.params,
            relays: self.relays,
        })
    }
}

/// Nickname, identity, digest, date, time, address, `ORPort`, `DirPort`.
fn router(rest: &str) -> Option<(Fingerprint, StatusEntry)> {
    let fields: Vec<_> = rest.split(' ').collect();
    let [nickname, identity, _, _, _, address, or_port, ..] = fields.as_slice() else {
        return None;
    };
    let identity = BASE64_NOPAD.decode(identity.as_bytes()).ok()?;
    let address: Ipv4Addr = address.parse().ok()?;
    let entry = StatusEntry {
        nickname: (*nickname).to_owned(),
        address: SocketAddrV4::new(address, or_port.parse().ok()?),
        flags: Vec::new(),
        bandwidth: None,
        measured: None,
        unmeasured: false,
    };
    Some((Fingerprint::from_bytes(identity.try_into().ok()?), entry))
}

fn pairs(rest: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let split = |word| match str::split_once(word, '=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    rest.split(' ').filter(|word| !word.is_empty()).map(split)
}

fn parse_error(what: &str) -> Error {
    Error::new(ErrorKind::Parse, format!("status document: {what}"))
}

/// When the consensus that starts with these bytes becomes valid.
///
/// For the files that tor keeps: only their beginning has to be read.
pub(crate) fn valid_after(start: &str) -> Option<SystemTime> {
    let mut lines = start.lines();
    let line = lines.find_map(|line| line.strip_prefix("valid-after "))?;
    humantime::parse_rfc3339_weak(line.trim_end()).ok()
}

/// The fingerprints of the server descriptors in `text`.
pub(crate) fn described(text: &str) -> impl Iterator<Item = Fingerprint> {
    let digits = text
        .lines()
        .filter_map(|line| line.strip_prefix("fingerprint "));
    digits.filter_map(|digits| {
        let digits = digits.replace(' ', "");
        let bytes = HEXUPPER.decode(digits.as_bytes()).ok()?;
        Some(Fingerprint::from_bytes(bytes.try_into().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSENSUS: &str = "\
network-status-version 3
vote-status consensus
consensus-method 35
valid-after 2026-11-20 21:08:39
fresh-until 2026-11-20 21:08:59
valid-until 2026-11-20 21:09:39
voting-delay 2 3
known-flags Authority Exit Fast Guard HSDir Running Stable V2Dir Valid
params AuthDirMaxServersPerAddr=0 bwscanner_cc=1 cc_alg=2
dir-source auth1 3BAF30A87124855403B5BEEFD797DB73CB881B93 127.9.8.1 127.9.8.1 7000 5000
contact w Bandwidth=none of this is read
vote-digest 84683B78268F458D6EB918F3976086A43ACC8A3A
r out dQj1A7oYKwMDHdLLbootLqaizn4 3wPdugTsXtduoiiX9ZP0qaNWJak 2026-11-20 21:08:00 127.9.8.3 5000 0
s Exit Fast Running Valid
v Tor 0.4.9.11
w Bandwidth=4070
p accept 1-65535
r auth1 db++TfFPz2t39xts4eMZNsUY6Wc KOtVOdIimx/KBXsVfAubZ4F1DuM 2026-11-20 21:07:54 127.9.8.1 5000 7000
s Authority Running Valid
w Bandwidth=0 Unmeasured=1
p reject 1-65535
directory-footer
bandwidth-weights Wbd=3182
directory-signature 3BAF30A87124855403B5BEEFD797DB73CB881B93 1BA4C463F13DC6653531656AAA8AB693CEE6BB4D
-----BEGIN SIGNATURE-----
w Bandwidth=x
-----END SIGNATURE-----
";

    fn out() -> Fingerprint {
        let bytes = BASE64_NOPAD.decode(b"dQj1A7oYKwMDHdLLbootLqaizn4").unwrap();
        Fingerprint::from_bytes(bytes.try_into().unwrap())
    }

    #[test]
    fn a_consensus_is_read() {
        let document = StatusDocument::parse(CONSENSUS).unwrap();
        assert!(!document.is_vote);
        assert_eq!(document.params["cc_alg"], 2);
        assert_eq!(document.relays.len(), 2);
        let exit = &document.relays[&out()];
        assert_eq!(exit.address, "127.9.8.3:5000".parse().unwrap());
        assert_eq!(exit.bandwidth, Some(KilobytesPerSecond::new(4070)));
        assert!(!exit.unmeasured && exit.measured.is_none());
        assert!(document.has_flag(&out(), "Exit") && !document.has_flag(&out(), "Guard"));
        let authority = document.relays.values().find(|r| r.nickname == "auth1");
        assert!(authority.unwrap().unmeasured);
        let interval = document.fresh_until.duration_since(document.valid_after);
        assert_eq!(interval.unwrap(), Duration::from_secs(20));
        let vote = document.next_vote().duration_since(document.valid_after);
        assert_eq!(vote.unwrap(), Duration::from_secs(15));
        assert_eq!(valid_after(&CONSENSUS[..200]), Some(document.valid_after));
    }

    #[test]
    fn a_vote_shows_what_was_measured() {
        let vote = CONSENSUS
            .replace("vote-status consensus", "vote-status vote")
            .replace("Bandwidth=4070", "Bandwidth=4070 Measured=4000")
            .replace("Unmeasured=1", "MeasuredButAuthority=1000");
        let document = StatusDocument::parse(&vote).unwrap();
        assert!(document.is_vote);
        let measured = document.relays[&out()].measured;
        assert_eq!(measured, Some(KilobytesPerSecond::new(4000)));
    }

    #[test]
    fn what_is_missing_or_broken_is_named() {
        for (from, to, named) in [
            ("valid-after", "x", "no valid-after"),
            ("Bandwidth=4070", "Bandwidth=-1", "line 16"),
            ("cc_alg=2", "cc_alg", "line 9"),
            ("127.9.8.3 5000 0", "127.9.8.3", "line 13"),
            ("2026-11-20 21:08:39", "soon", "line 4"),
            ("vote-status consensus", "", "no vote-status"),
        ] {
            let error = StatusDocument::parse(&CONSENSUS.replacen(from, to, 1)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Parse);
            assert!(error.to_string().contains(named), "{error}");
        }
        assert!(StatusDocument::parse("").is_err());
    }

    #[test]
    fn descriptors_are_counted_by_fingerprint() {
        let text = "router a 127.0.0.1 1 0 0\nfingerprint 3BAF 30A8 7124 8554 03B5 BEEF D797 DB73 CB88 1B93\n";
        let all: Vec<_> = described(text).collect();
        assert_eq!(
            all[0].to_string(),
            "3BAF30A87124855403B5BEEFD797DB73CB881B93"
        );
        assert_eq!(described("fingerprint 3BAF\n").count(), 0);
    }
}
