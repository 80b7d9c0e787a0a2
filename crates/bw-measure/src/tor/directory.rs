//! The network view through arti.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bw_file::{CountryCode, Ed25519Identity, KilobytesPerSecond};
use bw_results::{NetworkSnapshot, PortRanges, RelayFacts, UnixMillis};
use tokio::time::Instant;
use tor_circmgr::CircMgr;
use tor_dirmgr::DirProvider;
use tor_geoip::GeoipDb;
use tor_llcrypto::pk::rsa::RsaIdentity;
use tor_netdir::{NetDir, Timeliness};
use tor_netdoc::doc::netstatus::RelayWeight;
use tor_netdoc::types::policy::PortPolicy;
use tor_netdoc::types::relay_flags::RelayFlag;
use tor_rtcompat::tokio::TokioRustlsRuntime;

use super::descriptors::{self, Descriptors};
use super::{consensus, fingerprint};
use crate::error::chain;
use crate::{Directory, Error, ErrorKind};

/// The directory of a real network: arti's consensus and microdescriptors,
/// and full server descriptors beside them.
pub struct TorDirectory {
    provider: Arc<dyn DirProvider>,
    circuits: Arc<CircMgr<TokioRustlsRuntime>>,
    runtime: TokioRustlsRuntime,
    /// The authorities that sign the consensus.
    authorities: Vec<RsaIdentity>,
    known: tokio::sync::Mutex<Known>,
}

/// The network that was last seen.
#[derive(Default)]
struct Known {
    snapshot: Option<Arc<NetworkSnapshot>>,
    descriptors: Descriptors,
    /// When they were fetched.
    fetched: Option<Instant>,
}

/// The time for which descriptors are good enough: all of them are some 30 MB, and a
/// relay makes a new one every 18 hours or when something changes.
const DESCRIPTORS_LAST: Duration = Duration::from_secs(3 * 3600);

impl Known {
    /// Returns true if descriptors are to be fetched for `netdir`: they are old, or more than
    /// one in twenty is missing.
    fn needs_descriptors(&self, netdir: &NetDir) -> bool {
        let (mut relays, mut missing) = (0_usize, 0_usize);
        for relay in netdir.relays() {
            relays += 1;
            let known = fingerprint(relay.rsa_id())
                .is_some_and(|relay| self.descriptors.contains_key(&relay));
            missing += usize::from(!known);
        }
        self.fetched
            .is_none_or(|at| at.elapsed() >= DESCRIPTORS_LAST)
            || missing * 20 > relays
    }

    /// Adds `descriptors`, except where a newer one is known: caches lag.
    fn add(&mut self, descriptors: Descriptors) {
        for (relay, facts) in descriptors {
            let newest = self.descriptors.entry(relay).or_insert(facts);
            if facts.published > newest.published {
                *newest = facts;
            }
        }
    }
}

impl std::fmt::Debug for TorDirectory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TorDirectory").finish_non_exhaustive()
    }
}

impl TorDirectory {
    pub(super) fn new(
        provider: Arc<dyn DirProvider>,
        circuits: Arc<CircMgr<TokioRustlsRuntime>>,
        runtime: TokioRustlsRuntime,
        authorities: Vec<RsaIdentity>,
    ) -> Self {
        Self {
            provider,
            circuits,
            runtime,
            authorities,
            known: tokio::sync::Mutex::default(),
        }
    }
}

impl Directory for TorDirectory {
    async fn snapshot(&self) -> Result<Arc<NetworkSnapshot>, Error> {
        let netdir = self.provider.netdir(Timeliness::Timely).map_err(|error| {
            Error::new(
                ErrorKind::Directory,
                format!("no usable consensus: {}", chain(&error)),
            )
        })?;
        let mut known = self.known.lock().await;
        // arti replaces its directory object also when microdescriptors
        // arrive; one snapshot per consensus is enough.
        let valid_after = UnixMillis::from(netdir.lifetime().valid_after());
        if let Some(snapshot) = &known.snapshot
            && snapshot.valid_after == valid_after
        {
            return Ok(Arc::clone(snapshot));
        }
        let plain = consensus::fetch(&netdir, &self.circuits, &self.runtime, &self.authorities)
            .await
            .unwrap_or_else(|error| {
                tracing::warn!(
                    "going on without the consensus's parameters and new descriptors: {error}"
                );
                consensus::Consensus::default()
            });
        if known.needs_descriptors(&netdir) {
            let listed = &plain.descriptors;
            match descriptors::fetch(&netdir, &self.circuits, &self.runtime, listed).await {
                Ok(descriptors) => {
                    known.add(descriptors);
                    known.fetched = Some(Instant::now());
                }
                Err(error) if known.descriptors.is_empty() => {
                    return Err(Error::new(
                        ErrorKind::Directory,
                        format!("no server descriptors could be had: {error}"),
                    ));
                }
                Err(error) => tracing::warn!("keeping the descriptors of before: {error}"),
            }
        }
        let snapshot = Arc::new(snapshot(&netdir, plain.params, &known.descriptors));
        known
            .descriptors
            .retain(|relay, _| snapshot.relay(relay).is_some());
        known.snapshot = Some(Arc::clone(&snapshot));
        Ok(snapshot)
    }
}

/// The consensus, as far as its microdescriptors have come, with `descriptors`.
fn snapshot(
    netdir: &NetDir,
    params: BTreeMap<String, i32>,
    descriptors: &Descriptors,
) -> NetworkSnapshot {
    let lifetime = netdir.lifetime();
    let relays = netdir
        .relays()
        .filter_map(|relay| relay_facts(&relay, descriptors))
        .collect();
    NetworkSnapshot::new(
        lifetime.valid_after().into(),
        lifetime.fresh_until().into(),
        lifetime.valid_until().into(),
        params,
        relays,
    )
}

fn relay_facts(relay: &tor_netdir::Relay<'_>, descriptors: &Descriptors) -> Option<RelayFacts> {
    let status = relay.rs();
    let (weight, unmeasured) = match *status.weight() {
        RelayWeight::Measured(weight) => (weight, false),
        RelayWeight::Unmeasured(weight) => (weight, true),
        _ => (0, true),
    };
    let mut facts = RelayFacts::new(
        fingerprint(relay.rsa_id())?,
        status.nickname(),
        KilobytesPerSecond::new(weight.into()),
    );
    let flags = status.flags();
    facts.ed25519 = Some(Ed25519Identity::from_bytes((*relay.id()).into()));
    facts.address = status.addrs().next().map(|address| address.ip());
    facts.country = facts.address.and_then(country);
    if let Some(version) = status.version() {
        facts.set_version(&version.to_string());
    }
    facts.flags.authority = flags.contains(RelayFlag::Authority);
    facts.flags.bad_exit = flags.contains(RelayFlag::BadExit);
    facts.flags.exit = flags.contains(RelayFlag::Exit);
    facts.flags.fast = flags.contains(RelayFlag::Fast);
    facts.flags.guard = flags.contains(RelayFlag::Guard);
    facts.flags.running = flags.contains(RelayFlag::Running);
    facts.flags.stable = flags.contains(RelayFlag::Stable);
    facts.flags.valid = flags.contains(RelayFlag::Valid);
    facts.unmeasured = unmeasured;
    facts.exit_ports = port_ranges(&relay.low_level_details().ipv4_policy());
    facts.flow_control_2 = status
        .protovers()
        .supports_named_subver(tor_protover::named::FLOWCTRL_CC);
    facts.family = relay
        .md()
        .family()
        .members()
        .filter(|member| *member != relay.rsa_id())
        .filter_map(fingerprint)
        .collect();
    facts.descriptor = descriptors.get(&facts.fingerprint).copied();
    Some(facts)
}

/// Where `address` is by the GeoIP database that comes with arti.
fn country(address: IpAddr) -> Option<CountryCode> {
    let places = GeoipDb::new_embedded();
    CountryCode::parse(places.lookup_country_code(address)?.get().as_bytes())
}

/// The ports that a policy summary allows.
fn port_ranges(policy: &PortPolicy) -> PortRanges {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    if policy.allows_some_port() {
        for port in 1..=u16::MAX {
            match ranges.last_mut() {
                _ if !policy.allows_port(port) => {}
                Some((_, last)) if *last == port - 1 => *last = port,
                _ => ranges.push((port, port)),
            }
        }
    }
    PortRanges::new(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_in_countries() {
        // The RIPE NCC's and the Internet Archive's.
        let known = ["193.0.6.139", "2001:67c:2e8:22::c100:68b", "207.241.224.2"];
        let known = known.map(|address| country(address.parse().unwrap()).unwrap().to_string());
        assert_eq!(known, ["NL", "NL", "US"]);
        assert_eq!(country("127.0.0.1".parse().unwrap()), None);
    }

    #[test]
    fn policies_become_ranges() {
        let policy: PortPolicy = "accept 80,443,6000-7000".parse().unwrap();
        let expected = PortRanges::new([(80, 80), (443, 443), (6000, 7000)]);
        assert_eq!(port_ranges(&policy), expected);
        let policy: PortPolicy = "reject 25".parse().unwrap();
        assert_eq!(
            port_ranges(&policy),
            PortRanges::new([(1, 24), (26, u16::MAX)])
        );
        assert!(port_ranges(&PortPolicy::new_reject_all()).is_empty());
    }
}
