//! Relays of a bandwidth file by the names that users give them.

use std::path::PathBuf;

use anyhow::bail;
use bw_file::Document;
use bw_results::NetworkSnapshot;
use clap::Args;

use crate::relay_name::RelayName;
use crate::text::printable;

/// Options that help to find a relay.
#[derive(Args, Debug)]
pub(super) struct RelayArgs {
    /// Take addresses of relays, and nicknames that a file lacks, from this consensus.
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

/// The index of the relay's line in a file; none if it is not there.
///
/// # Errors
/// If several relays of the file are called so, or an address cannot be looked up.
pub(super) fn find(
    name: &RelayName,
    document: &Document<'_>,
    network: Option<&NetworkSnapshot>,
) -> anyhow::Result<Option<usize>> {
    let index = document.index();
    if let Some(fingerprint) = name.fingerprint() {
        return Ok(index.by_fingerprint(&fingerprint));
    }
    if let Some(identity) = name.ed25519() {
        return Ok(index.by_identity(&identity));
    }
    if name.address().is_some() && network.is_none() {
        bail!("bandwidth files have no addresses: tell them with --consensus FILE");
    }
    let mut found = Vec::new();
    for line in document.relays() {
        let Some(relay) = line.fingerprint() else {
            continue;
        };
        let nickname = line.nick().value().unwrap_or_default();
        let facts = network.and_then(|network| network.relay(&relay));
        let is_there =
            name.address().is_some() && facts.is_some_and(|facts| facts.address == name.address());
        if is_there
            || name.is_short_for(relay, &nickname)
            || facts.is_some_and(|facts| name.is_short_for(relay, &facts.nickname))
        {
            found.push((relay, printable(&nickname)));
        }
    }
    found.sort();
    found.dedup_by_key(|(relay, _)| *relay);
    match &found[..] {
        [] => Ok(None),
        [(only, _)] => Ok(index.by_fingerprint(only)),
        several => {
            let several: Vec<_> = several
                .iter()
                .map(|(relay, nick)| (*relay, &**nick))
                .collect();
            Err(name.is_of_several(&several).into())
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
        let line =
            super::find(&name.parse()?, &document, None).map_err(|error| error.to_string())?;
        let relay = line.and_then(|line| document.relay(line));
        Ok(relay
            .and_then(|relay| relay.bandwidth())
            .map(bw_file::KilobytesPerSecond::value))
    }

    #[test]
    fn names_of_all_kinds() {
        for (name, bw) in [
            ("ABCE0000", 2),
            ("$ABCD000000", 1),
            ("abcd", 3),
            ("none", 4),
            ("$1111111111111111111111111111111111111111", 4),
        ] {
            assert_eq!(find(name), Ok(Some(bw)), "{name}");
        }
        assert_eq!(find("nobody"), Ok(None));
        assert_eq!(find(&"F".repeat(40)), Ok(None));
        for name in ["no-nick", "", "x\u{1b}"] {
            assert!(find(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_name_of_several_relays_is_refused() {
        for name in ["unnamed", "UNNAMED"] {
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
            let line = super::find(&name, &document, Some(&network))
                .unwrap()
                .unwrap();
            assert_eq!(
                document.relay(line).unwrap().bandwidth().unwrap().value(),
                2
            );
        }
    }
}
