//! Families: relays that declare each other.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bw_file::Fingerprint;
use bw_results::NetworkSnapshot;

/// The families of a network.
#[derive(Debug, Default)]
pub(crate) struct Families {
    /// The relays that a relay and they themselves declare a family.
    mutual: BTreeMap<Fingerprint, Vec<Fingerprint>>,
    /// The first member of a relay's group: all that are led to by one family after the other.
    group: BTreeMap<Fingerprint, Fingerprint>,
}

impl Families {
    pub(crate) fn of(network: &NetworkSnapshot) -> Self {
        let mut families = Self::default();
        for relay in &network.relays {
            let known = relay
                .family
                .iter()
                .filter_map(|member| network.relay(member));
            let mutual: Vec<_> = known
                .filter(|member| {
                    member.same_family(relay) && member.fingerprint != relay.fingerprint
                })
                .map(|member| member.fingerprint)
                .collect();
            if !mutual.is_empty() {
                families.mutual.insert(relay.fingerprint, mutual);
            }
        }
        for first in families.mutual.keys() {
            let mut open = vec![*first];
            while let Some(member) = open.pop() {
                if let Entry::Vacant(place) = families.group.entry(member) {
                    place.insert(*first);
                    open.extend(families.mutual.get(&member).into_iter().flatten());
                }
            }
        }
        families
    }

    /// The relays that a relay and they themselves declare a family.
    pub(crate) fn members(&self, relay: &Fingerprint) -> &[Fingerprint] {
        self.mutual.get(relay).map_or(&[], Vec::as_slice)
    }

    /// The name of a relay's group: its first member by fingerprint.
    pub(crate) fn group(&self, relay: &Fingerprint) -> Option<Fingerprint> {
        self.group.get(relay).copied()
    }
}

#[cfg(test)]
mod tests {
    use bw_file::KilobytesPerSecond;
    use bw_results::{RelayFacts, UnixMillis};

    use super::*;

    #[test]
    fn a_family_is_what_both_declare() {
        let id = |byte: u8| Fingerprint::from_bytes([byte; 20]);
        let relay = |byte: u8, family: &[u8]| {
            let mut relay = RelayFacts::new(id(byte), "x", KilobytesPerSecond::new(1));
            relay.family = family.iter().copied().map(id).collect();
            relay
        };
        // 3 claims 1, which does not know it; 9 is not there.
        let relays = vec![
            relay(2, &[1, 4]),
            relay(1, &[2, 9]),
            relay(4, &[2]),
            relay(3, &[1]),
        ];
        let now = UnixMillis::default();
        let network = NetworkSnapshot::new(now, now, now, BTreeMap::new(), relays);
        let families = Families::of(&network);
        assert_eq!(families.members(&id(2)), [id(1), id(4)]);
        assert_eq!(families.members(&id(3)), []);
        assert_eq!(
            [1, 2, 4, 3].map(|byte| families.group(&id(byte))),
            [Some(id(1)), Some(id(1)), Some(id(1)), None]
        );
    }
}
