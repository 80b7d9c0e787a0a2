//! What users call a relay.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::bail;
use bw_file::{Document, Ed25519Identity, Fingerprint};
use bw_results::NetworkSnapshot;
use clap::Args;

/// The relay that a command is about.
#[derive(Args, Debug)]
pub(super) struct RelayArgs {
    /// A consensus that tells the addresses of relays, and the nicknames that
    /// are missing in files.
    #[arg(long, value_name = "FILE")]
    consensus: Option<PathBuf>,
}

impl RelayArgs {
    /// The consensus, if there is one.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn network(&self) -> anyhow::Result<Option<NetworkSnapshot>> {
        match &self.consensus {
            Some(path) => Ok(Some(NetworkSnapshot::read_files(path, &[])?)),
            None => Ok(None),
        }
    }
}

/// A fingerprint, its beginning, an Ed25519 key, a nickname, or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RelayName {
    text: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Fingerprint(Fingerprint),
    Identity(Ed25519Identity),
    Address(IpAddr),
    /// The beginning of a fingerprint, in upper case, or a nickname, or either.
    Short {
        digits: bool,
        nickname: bool,
    },
}

/// So many digits of a fingerprint must be given.
const LEAST_DIGITS: usize = 4;

impl FromStr for RelayName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unmarked = text.strip_prefix('$').unwrap_or(text);
        let kind = if let Ok(fingerprint) = text.parse() {
            Kind::Fingerprint(fingerprint)
        } else if let Ok(identity) = text.parse() {
            Kind::Identity(identity)
        } else if let Ok(address) = text.trim_matches(['[', ']']).parse() {
            Kind::Address(address)
        } else {
            let is_hex = unmarked.bytes().all(|byte| byte.is_ascii_hexdigit());
            let digits = is_hex && (LEAST_DIGITS..40).contains(&unmarked.len());
            let nickname = (1..=19).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
            if !digits && !nickname {
                return Err(
                    "a fingerprint or at least 4 digits of one, an Ed25519 key, a nickname or \
                     an address expected",
                );
            }
            Kind::Short { digits, nickname }
        };
        Ok(Self {
            text: unmarked.to_owned(),
            kind,
        })
    }
}

impl RelayName {
    /// The index of the relay's line in a file; none if it is not there.
    ///
    /// # Errors
    /// If several relays are called so, or an address cannot be looked up.
    pub(super) fn find(
        &self,
        document: &Document<'_>,
        network: Option<&NetworkSnapshot>,
    ) -> anyhow::Result<Option<usize>> {
        let index = document.index();
        match &self.kind {
            Kind::Fingerprint(fingerprint) => Ok(index.by_fingerprint(fingerprint)),
            Kind::Identity(identity) => Ok(index.by_identity(identity)),
            Kind::Address(address) => {
                let Some(network) = network else {
                    bail!("bandwidth files have no addresses: tell them with --consensus FILE");
                };
                let at = network
                    .relays
                    .iter()
                    .filter(|relay| relay.address == Some(*address));
                self.only(at.map(|relay| relay.fingerprint), document)
            }
            Kind::Short { digits, nickname } => {
                let begins = |relay: Fingerprint| {
                    *digits
                        && relay
                            .to_string()
                            .starts_with(&self.text.to_ascii_uppercase())
                };
                let is_called = |name: &str| *nickname && name.eq_ignore_ascii_case(&self.text);
                let in_file = document.relays().filter_map(|line| {
                    let relay = line.fingerprint()?;
                    let name = line.nick().value().unwrap_or_default();
                    (begins(relay) || is_called(&name)).then_some(relay)
                });
                let known = network.map_or(&[][..], |network| &network.relays);
                let in_network = known
                    .iter()
                    .filter(|relay| is_called(&relay.nickname))
                    .map(|relay| relay.fingerprint);
                self.only(in_file.chain(in_network), document)
            }
        }
    }

    /// The line of the only one of these relays that is in the file.
    fn only(
        &self,
        relays: impl Iterator<Item = Fingerprint>,
        document: &Document<'_>,
    ) -> anyhow::Result<Option<usize>> {
        let index = document.index();
        let mut relays: Vec<Fingerprint> = relays
            .filter(|relay| index.by_fingerprint(relay).is_some())
            .collect();
        relays.sort_unstable();
        relays.dedup();
        match &relays[..] {
            [] => Ok(None),
            [only] => Ok(index.by_fingerprint(only)),
            several => {
                let shown: Vec<String> = several.iter().take(5).map(|id| id.to_string()).collect();
                let more = if several.len() > shown.len() {
                    ", ..."
                } else {
                    ""
                };
                bail!(
                    "{} relays are {}: say which by its fingerprint: {}{more}",
                    several.len(),
                    self.text,
                    shown.join(", ")
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "1700000000\n=====\n\
        bw=1 nick=Unnamed node_id=$ABCD000000000000000000000000000000000000\n\
        bw=2 nick=Unnamed node_id=$ABCE000000000000000000000000000000000000\n\
        bw=3 nick=abcd node_id=$0000000000000000000000000000000000000000\n\
        bw=4 nick=None node_id=$1111111111111111111111111111111111111111\n";

    fn find(name: &str) -> Result<Option<u64>, String> {
        let document = Document::parse(FILE.as_bytes());
        let name: RelayName = name.parse()?;
        let line = name
            .find(&document, None)
            .map_err(|error| error.to_string())?;
        Ok(line
            .and_then(|line| document.relay(line)?.bandwidth())
            .map(|bw| bw.value()))
    }

    #[test]
    fn names_of_all_kinds() {
        for (name, bw) in [
            ("ABCE", 2),
            ("$ABCD", 1),
            ("abce0000", 2),
            ("none", 4),
            ("$1111111111111111111111111111111111111111", 4),
        ] {
            assert_eq!(find(name), Ok(Some(bw)), "{name}");
        }
        assert_eq!(find("nobody"), Ok(None));
        assert_eq!(find(&"F".repeat(40)), Ok(None));
        for name in ["$ABC", "no-nick", "", "x\u{1b}"] {
            assert!(find(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_name_of_several_relays_is_refused() {
        for name in ["unnamed", "ABCD"] {
            let error = find(name).unwrap_err();
            assert!(error.starts_with("2 relays are "), "{error}");
            assert!(
                error.contains("ABCD000000000000000000000000000000000000"),
                "{error}"
            );
        }
        assert!(find("192.0.2.1").unwrap_err().contains("--consensus"));
    }

    #[test]
    fn addresses_are_looked_up_in_a_consensus() {
        use bw_file::KilobytesPerSecond;
        use bw_results::{RelayFacts, UnixMillis};
        let time = UnixMillis::from_secs(1_700_000_000);
        let mut facts = RelayFacts::new(
            "ABCE000000000000000000000000000000000000".parse().unwrap(),
            "other",
            KilobytesPerSecond::new(1),
        );
        facts.address = Some("192.0.2.1".parse().unwrap());
        let network = NetworkSnapshot::new(time, time, time, Default::default(), vec![facts]);
        let document = Document::parse(FILE.as_bytes());
        for name in ["192.0.2.1", "other"] {
            let name: RelayName = name.parse().unwrap();
            let line = name.find(&document, Some(&network)).unwrap().unwrap();
            assert_eq!(
                document.relay(line).unwrap().bandwidth().unwrap().value(),
                2
            );
        }
    }
}
