//! Relays that may share a machine, by what the directory and joint measurements tell.

use std::collections::HashMap;
use std::net::IpAddr;

use bw_file::Fingerprint;

use crate::{NetworkSnapshot, RelayFacts};

/// Groups of relays that may share a machine and its line: measured one after the
/// other, each of them shows the whole line.
///
/// Relays with the same public address are a group. So are relays of one declared family
/// with addresses in the same /24 (IPv6: /48). Who is in two groups joins them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machines {
    /// Each has two relays or more, ascending; sorted.
    groups: Vec<Vec<Fingerprint>>,
    /// The group of each relay that is in one.
    places: HashMap<Fingerprint, usize>,
}

/// Two relays that were measured one after the other, and then together.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Pair {
    /// The two.
    pub relays: [Fingerprint; 2],
    /// The rate that each carried alone, in bytes per second.
    pub alone: [f64; 2],
    /// The rate that both carried together, in bytes per second.
    pub together: f64,
}

impl Pair {
    /// Rates in bytes per second.
    pub const fn new(relays: [Fingerprint; 2], alone: [f64; 2], together: f64) -> Self {
        Self {
            relays,
            alone,
            together,
        }
    }

    /// Returns whether they carried so much less together that they seem to share a line:
    /// less than this share of what they carried alone.
    pub fn shares_a_line(&self, least: f64) -> bool {
        self.together < least * self.alone.iter().sum::<f64>()
    }
}

impl Machines {
    /// The groups that the directory shows.
    pub fn of(network: &NetworkSnapshot) -> Self {
        let mut unions = Unions::default();
        let mut by_address: HashMap<IpAddr, Fingerprint> = HashMap::new();
        let mut by_block: HashMap<IpAddr, Vec<&RelayFacts>> = HashMap::new();
        for relay in &network.relays {
            let Some(address) = relay.address.filter(|&address| is_public(address)) else {
                continue;
            };
            let first = by_address.entry(address).or_insert(relay.fingerprint);
            unions.join(*first, relay.fingerprint);
            if !relay.family.is_empty() {
                by_block.entry(block(address)).or_default().push(relay);
            }
        }
        for relays in by_block.values() {
            for (index, one) in relays.iter().enumerate() {
                let family = relays[..index]
                    .iter()
                    .filter(|other| one.same_family(other));
                for other in family {
                    unions.join(one.fingerprint, other.fingerprint);
                }
            }
        }
        unions.groups()
    }

    /// These groups, and those that joint measurements of pairs show: who carried less
    /// than `least` of the sum together, shares a machine, whatever its address.
    pub fn suspected(&self, pairs: &[Pair], least: f64) -> Self {
        let mut unions = Unions::default();
        for group in &self.groups {
            for relay in group {
                unions.join(group[0], *relay);
            }
        }
        for pair in pairs.iter().filter(|pair| pair.shares_a_line(least)) {
            unions.join(pair.relays[0], pair.relays[1]);
        }
        unions.groups()
    }

    /// The groups, each of two relays or more, ascending.
    pub fn groups(&self) -> &[Vec<Fingerprint>] {
        &self.groups
    }

    /// The group of this relay, itself included; none if it is alone.
    pub fn group_of(&self, relay: &Fingerprint) -> Option<&[Fingerprint]> {
        let place = self.places.get(relay)?;
        self.groups.get(*place).map(Vec::as_slice)
    }
}

/// Returns whether an address tells where a relay is: not one of a private network.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_private() && !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unspecified(),
    }
}

/// The /24 or /48 of an address.
fn block(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & !0xFF).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !((1 << 80) - 1)).into()),
    }
}

/// Relays that are joined two by two: each knows one that is ahead of it, the first itself.
#[derive(Debug, Default)]
struct Unions(HashMap<Fingerprint, Fingerprint>);

impl Unions {
    fn first(&mut self, relay: Fingerprint) -> Fingerprint {
        let mut first = relay;
        while let Some(&ahead) = self.0.get(&first).filter(|&&ahead| ahead != first) {
            first = ahead;
        }
        self.0.insert(relay, first);
        first
    }

    fn join(&mut self, one: Fingerprint, other: Fingerprint) {
        let (one, other) = (self.first(one), self.first(other));
        self.0.insert(one.max(other), one.min(other));
    }

    fn groups(mut self) -> Machines {
        let mut members: Vec<Fingerprint> = self.0.keys().copied().collect();
        members.sort_unstable();
        let mut groups: HashMap<Fingerprint, Vec<Fingerprint>> = HashMap::new();
        for relay in members {
            groups.entry(self.first(relay)).or_default().push(relay);
        }
        let mut groups: Vec<_> = groups
            .into_values()
            .filter(|group| group.len() > 1)
            .collect();
        groups.sort_unstable();
        let places = groups.iter().enumerate();
        let places = places.flat_map(|(place, group)| group.iter().map(move |&one| (one, place)));
        Machines {
            places: places.collect(),
            groups,
        }
    }
}

#[cfg(test)]
mod tests {
    use bw_file::KilobytesPerSecond;

    use super::*;
    use crate::UnixMillis;

    fn id(number: u8) -> Fingerprint {
        Fingerprint::from_bytes([number; 20])
    }

    /// Relays 1, 2, … with these addresses and families.
    fn machines(relays: &[(&str, &[u8])]) -> Machines {
        let facts = relays.iter().zip(1..).map(|(&(address, family), number)| {
            let mut relay = RelayFacts::new(id(number), "x", KilobytesPerSecond::new(1));
            relay.address = address.parse().ok();
            relay.family = family.iter().copied().map(id).collect();
            relay
        });
        let time = UnixMillis::default();
        let facts = facts.collect();
        Machines::of(&NetworkSnapshot::new(
            time,
            time,
            time,
            Default::default(),
            facts,
        ))
    }

    #[test]
    fn an_address_or_a_family_in_one_block_is_a_machine() {
        let found = machines(&[
            ("192.0.2.1", &[]),
            ("192.0.2.1", &[]),
            // Neighbours that are no family.
            ("192.0.2.7", &[]),
            // A family in one /24, and a member elsewhere.
            ("198.51.100.1", &[5, 6]),
            ("198.51.100.2", &[4, 6]),
            ("203.0.113.1", &[4, 5]),
            ("2001:db8:1:2::1", &[8]),
            ("2001:db8:1:3::1", &[7]),
            // Declared by one of them only.
            ("198.51.100.9", &[4, 5]),
            ("127.0.0.1", &[]),
            ("127.0.0.1", &[]),
        ]);
        let groups = [vec![id(1), id(2)], vec![id(4), id(5)], vec![id(7), id(8)]];
        assert_eq!(found.groups(), groups);
        assert_eq!(found.group_of(&id(5)), Some(&groups[1][..]));
        assert_eq!(found.group_of(&id(6)), None);
    }

    #[test]
    fn pairs_that_carry_less_together_share_a_machine() {
        let known = machines(&[("192.0.2.1", &[]), ("192.0.2.1", &[])]);
        let pairs = [
            // Half of the sum: one line.
            Pair::new([id(2), id(9)], [10.0, 10.0], 10.0),
            Pair::new([id(9), id(8)], [10.0, 6.0], 10.0),
            // Nearly all of it: two lines.
            Pair::new([id(5), id(6)], [10.0, 10.0], 18.0),
        ];
        let found = known.suspected(&pairs, 0.75);
        assert_eq!(found.groups(), [vec![id(1), id(2), id(8), id(9)]]);
    }
}
