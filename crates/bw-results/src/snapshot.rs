//! The network as the directory shows it: consensus and descriptors.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bw_file::{BytesPerSecond, CountryCode, Ed25519Identity, Fingerprint, KilobytesPerSecond};
use serde::{Deserialize, Serialize};

use crate::UnixMillis;

/// The network as one consensus and the descriptors fetched with it show it.
///
/// Kept once per consensus; everything that scaling and a later explanation
/// need of the network is in here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NetworkSnapshot {
    /// Start of the consensus's validity (`valid-after`).
    pub valid_after: UnixMillis,
    /// The time at which a newer consensus is due (`fresh-until`).
    pub fresh_until: UnixMillis,
    /// End of the consensus's validity (`valid-until`).
    pub valid_until: UnixMillis,
    /// The consensus's parameters (`params`), by name.
    pub params: BTreeMap<String, i32>,
    /// The relays of the consensus, sorted by fingerprint, each once.
    pub relays: Vec<RelayFacts>,
    /// The consensus's `bandwidth-weights`, by name, where they are known.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bandwidth_weights: BTreeMap<String, i32>,
    /// Descriptors of relays that are not in the consensus, where they are known.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub other_descriptors: BTreeMap<Fingerprint, DescriptorFacts>,
}

impl NetworkSnapshot {
    /// A snapshot of `relays`, which are sorted here; of two entries with the
    /// same fingerprint the first is kept.
    pub fn new(
        valid_after: UnixMillis,
        fresh_until: UnixMillis,
        valid_until: UnixMillis,
        params: BTreeMap<String, i32>,
        mut relays: Vec<RelayFacts>,
    ) -> Self {
        relays.sort_by_key(|relay| relay.fingerprint);
        relays.dedup_by_key(|relay| relay.fingerprint);
        Self {
            valid_after,
            fresh_until,
            valid_until,
            params,
            relays,
            bandwidth_weights: BTreeMap::new(),
            other_descriptors: BTreeMap::new(),
        }
    }

    /// The descriptor of this relay, whether the consensus lists it or not.
    pub fn descriptor(&self, fingerprint: &Fingerprint) -> Option<&DescriptorFacts> {
        match self.relay(fingerprint) {
            Some(relay) => relay.descriptor.as_ref(),
            None => self.other_descriptors.get(fingerprint),
        }
    }

    /// The relay with this fingerprint, if the consensus lists it.
    pub fn relay(&self, fingerprint: &Fingerprint) -> Option<&RelayFacts> {
        let index = self
            .relays
            .binary_search_by_key(fingerprint, |relay| relay.fingerprint)
            .ok()?;
        self.relays.get(index)
    }

    /// The value of the consensus parameter `name`, if the consensus sets it.
    pub fn param(&self, name: &str) -> Option<i32> {
        self.params.get(name).copied()
    }
}

/// One relay as the directory shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RelayFacts {
    /// RSA identity.
    pub fingerprint: Fingerprint,
    /// Ed25519 identity, if it has one.
    pub ed25519: Option<Ed25519Identity>,
    /// Nickname; not unique.
    pub nickname: String,
    /// The address of its first OR port, if it is known.
    pub address: Option<IpAddr>,
    /// The country of that address by a GeoIP database, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<CountryCode>,
    /// The flags of the consensus that matter to a scanner.
    pub flags: RelayFlags,
    /// `w Bandwidth=` of the consensus.
    pub consensus_weight: KilobytesPerSecond,
    /// `w Unmeasured=1`: the weight does not come from scanners.
    pub unmeasured: bool,
    /// Ports to which exiting is allowed for most addresses (the policy summary).
    pub exit_ports: PortRanges,
    /// The program that it runs, in its own words (`v Tor 0.4.9.11`), if they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `true` if it speaks congestion-control flow control (`FlowCtrl=2`).
    pub flow_control_2: bool,
    /// The relays that it declares its family, itself excluded.
    pub family: Vec<Fingerprint>,
    /// The bandwidths of its server descriptor, if that is known.
    pub descriptor: Option<DescriptorFacts>,
}

impl RelayFacts {
    /// The most bytes of a version: authorities copy what relays say, and `Tor 0.4.9.1-alpha-dev`
    /// has 21.
    pub const LONGEST_VERSION: usize = 64;

    /// A relay of which only these three facts are known: no flags, no exit
    /// ports, no descriptor.
    pub fn new(fingerprint: Fingerprint, nickname: &str, weight: KilobytesPerSecond) -> Self {
        Self {
            fingerprint,
            ed25519: None,
            nickname: nickname.to_owned(),
            address: None,
            country: None,
            flags: RelayFlags::default(),
            consensus_weight: weight,
            unmeasured: false,
            exit_ports: PortRanges::default(),
            version: None,
            flow_control_2: false,
            family: Vec::new(),
            descriptor: None,
        }
    }

    /// Sets its version, of which [`LONGEST_VERSION`](Self::LONGEST_VERSION) bytes are kept.
    pub fn set_version(&mut self, version: &str) {
        let end = version.floor_char_boundary(Self::LONGEST_VERSION);
        self.version = Some(version[..end].to_owned());
    }

    /// Returns whether it may carry exit traffic to `port`: the Exit flag, no `BadExit`,
    /// and a policy that allows the port.
    pub fn exits_to(&self, port: u16) -> bool {
        self.flags.exit && !self.flags.bad_exit && self.exit_ports.contains(port)
    }

    /// Returns whether both relays declare each other as family.
    pub fn same_family(&self, other: &Self) -> bool {
        self.family.contains(&other.fingerprint) && other.family.contains(&self.fingerprint)
    }

    /// Returns whether both relays are in the same IPv4 /16 or IPv6 /32, as tor's
    /// path selection understands networks (path-spec). Addresses of private
    /// networks tell nothing.
    pub fn same_network(&self, other: &Self) -> bool {
        match (self.address, other.address) {
            (Some(IpAddr::V4(a)), Some(IpAddr::V4(b))) => {
                !a.is_loopback() && !a.is_private() && a.octets()[..2] == b.octets()[..2]
            }
            (Some(IpAddr::V6(a)), Some(IpAddr::V6(b))) => {
                !a.is_loopback() && a.segments()[..2] == b.segments()[..2]
            }
            _ => false,
        }
    }
}

/// The consensus flags that matter to a scanner (dir-spec, `s` line).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct RelayFlags {
    /// Authority.
    pub authority: bool,
    /// `BadExit`.
    pub bad_exit: bool,
    /// Exit.
    pub exit: bool,
    /// Fast.
    pub fast: bool,
    /// Guard.
    pub guard: bool,
    /// Running.
    pub running: bool,
    /// Stable.
    pub stable: bool,
    /// Valid.
    pub valid: bool,
}

/// The bandwidths of a server descriptor (dir-spec, `bandwidth` line).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DescriptorFacts {
    /// The time at which the relay published it.
    pub published: UnixMillis,
    /// `bandwidth-avg`: the configured rate.
    pub average: BytesPerSecond,
    /// `bandwidth-burst`: the configured burst.
    pub burst: BytesPerSecond,
    /// `bandwidth-observed`: what the relay says it has sustained.
    pub observed: BytesPerSecond,
}

impl DescriptorFacts {
    /// The facts of one descriptor.
    pub const fn new(
        published: UnixMillis,
        average: BytesPerSecond,
        burst: BytesPerSecond,
        observed: BytesPerSecond,
    ) -> Self {
        Self {
            published,
            average,
            burst,
            observed,
        }
    }
}

/// A set of ports, as inclusive ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PortRanges(Vec<(u16, u16)>);

impl PortRanges {
    /// The union of `ranges`, each from its first to its last port.
    pub fn new(ranges: impl IntoIterator<Item = (u16, u16)>) -> Self {
        Self(ranges.into_iter().collect())
    }

    /// Every port but 0.
    pub fn all() -> Self {
        Self::new([(1, u16::MAX)])
    }

    /// Returns whether `port` is in the set.
    pub fn contains(&self, port: u16) -> bool {
        self.0
            .iter()
            .any(|&(first, last)| (first..=last).contains(&port))
    }

    /// Returns whether no port is in the set.
    pub fn is_empty(&self) -> bool {
        !self.0.iter().any(|&(first, last)| first <= last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay(byte: u8) -> RelayFacts {
        RelayFacts::new(
            Fingerprint::from_bytes([byte; 20]),
            "relay",
            KilobytesPerSecond::new(byte.into()),
        )
    }

    #[test]
    fn relays_are_found_by_fingerprint() {
        let zero = UnixMillis::default();
        let relays = vec![relay(9), relay(1), relay(5), relay(5)];
        let snapshot = NetworkSnapshot::new(zero, zero, zero, BTreeMap::new(), relays);
        assert_eq!(snapshot.relays.len(), 3);
        assert_eq!(snapshot.relay(&relay(5).fingerprint), Some(&relay(5)));
        assert_eq!(snapshot.relay(&relay(2).fingerprint), None);
    }

    #[test]
    fn exits_need_flag_policy_and_a_clean_record() {
        let mut exit = relay(1);
        exit.exit_ports = PortRanges::new([(80, 80), (443, 445)]);
        assert!(!exit.exits_to(443), "no Exit flag");
        exit.flags.exit = true;
        assert!(exit.exits_to(443) && exit.exits_to(80) && !exit.exits_to(81));
        exit.flags.bad_exit = true;
        assert!(!exit.exits_to(443));
    }

    #[test]
    fn family_must_be_mutual() {
        let (mut a, mut b) = (relay(1), relay(2));
        a.family.push(b.fingerprint);
        assert!(!a.same_family(&b));
        b.family.push(a.fingerprint);
        assert!(a.same_family(&b) && b.same_family(&a));
    }
}
