//! The configuration of each node, as text: pure functions.

use std::fmt::Write as _;
use std::net::SocketAddrV4;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bw_file::{BytesPerSecond, Fingerprint, KilobytesPerSecond};

use crate::files::{EMPTY, RESOLVER};
use crate::manifest::{Manifest, NodeRecord};
use crate::{Limit, Plan, Role};

/// Seconds for votes, and for signatures, of the first consensus (tor's
/// minimum in a testing network).
const FIRST_DELAY: u64 = 2;
/// While the authorities wait for descriptors they vote every so many seconds,
/// that is, not before the network is up or has failed.
const WAITING_INTERVAL: u64 = 1800;

/// When the authorities vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timetable {
    interval: u64,
    /// A consensus becomes valid `offset` seconds after each multiple of the
    /// interval.
    offset: u64,
}

impl Timetable {
    /// No vote for nearly half an hour from `now`.
    pub(crate) fn waiting(now: SystemTime) -> Self {
        let offset = unix_seconds(now).saturating_sub(100) % WAITING_INTERVAL;
        Self {
            interval: WAITING_INTERVAL,
            offset,
        }
    }

    /// The first consensus at `first` (whole seconds), then one every `interval`.
    pub(crate) fn starting(first: SystemTime, interval: Duration) -> Self {
        let interval = interval.as_secs();
        Self {
            interval,
            offset: unix_seconds(first) % interval,
        }
    }

    /// Seconds for votes, and for signatures: together below half an interval.
    fn delay(self) -> u64 {
        (self.interval / 6).clamp(2, 20)
    }
}

/// The soonest a first consensus can be: the authorities must read their new
/// timetable, then vote and sign.
pub(crate) fn first_consensus_after(now: SystemTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(unix_seconds(now) + 3 + 2 * FIRST_DELAY)
}

/// The facts that the torrc of one node depends on.
pub(crate) struct Torrc<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) manifest: &'a Manifest,
    /// The network's directory.
    pub(crate) directory: &'a Path,
    /// The process whose end ends the nodes.
    pub(crate) owner: Option<u32>,
    pub(crate) timetable: Timetable,
}

impl Torrc<'_> {
    /// The torrc of `node`, the `index`-th of the plan and of the manifest.
    pub(crate) fn text(&self, index: usize, node: &NodeRecord) -> String {
        let relay = &self.plan.relays[index];
        let options = &self.plan.options;
        let address = node.address;
        let mut text = format!(
            "TestingTorNetwork 1\n\
             Nickname {nickname}\n\
             ContactInfo bwscan private test network\n\
             Address {address}\n\
             OutboundBindAddress {address}\n\
             SocksPort 0\n\
             DataDirectory {data}\n\
             GeoIPFile {empty}\n\
             GeoIPv6File {empty}\n\
             Log notice stdout\n\
             SafeLogging 0\n\
             AssumeReachable 1\n\
             PathsNeededToBuildCircuits 0.25\n\
             NumCPUs 1\n\
             MaxMemInQueues 512 MB\n\
             TokenBucketRefillInterval {refill} msec\n\
             ServerDNSResolvConfFile {resolver}\n\
             ServerDNSDetectHijacking 0\n\
             ServerDNSAllowBrokenConfig 1\n\
             ServerDNSAllowNonRFC953Hostnames 1\n\
             ServerDNSTestAddresses\n\
             DoSCircuitCreationEnabled 0\n\
             DoSConnectionEnabled 0\n\
             DoSStreamCreationEnabled 0\n",
            nickname = node.nickname,
            data = quoted(&node.data_directory(self.directory)),
            empty = quoted(&self.directory.join(EMPTY)),
            resolver = quoted(&self.directory.join(RESOLVER)),
            refill = options.refill_interval.as_millis(),
        );
        text += &or_ports(node);
        text += &limit(node);
        if let Some(owner) = self.owner {
            line(&mut text, format_args!("__OwningControllerProcess {owner}"));
        }
        for authority in self.manifest.authorities() {
            line(&mut text, directory_authority(authority));
        }
        if node.role == Role::Authority {
            self.authority_options(&mut text, node);
        }
        let for_role = options.torrc.iter().filter(|(role, _)| *role == node.role);
        for extra in for_role.map(|(_, extra)| extra).chain(&relay.torrc) {
            line(&mut text, extra);
        }
        text += match node.role {
            // "accept 127.0.0.0/8:*" would be summarised as "reject all".
            Role::Exit => {
                "ExitRelay 1\nIPv6Exit 0\nExitPolicyRejectPrivate 0\nExitPolicy accept *:*\n"
            }
            Role::Authority | Role::Middle => "ExitRelay 0\nExitPolicy reject *:*\n",
        };
        text
    }

    fn authority_options(&self, text: &mut String, node: &NodeRecord) {
        let Timetable { interval, offset } = self.timetable;
        let delay = self.timetable.delay();
        let params = &self.plan.options.params;
        let params: Vec<_> = params.iter().map(|(k, v)| format!("{k}={v}")).collect();
        *text += &format!(
            "AuthoritativeDirectory 1\n\
             V3AuthoritativeDirectory 1\n\
             DirPort {address}:{dir_port}\n\
             AuthDirMaxServersPerAddr 0\n\
             ConsensusParams {params}\n\
             V3BandwidthsFile {bandwidths}\n\
             TestingMinExitFlagThreshold 0\n\
             TestingMinFastFlagThreshold 0\n\
             TestingV3AuthVotingStartOffset {offset}\n\
             TestingV3AuthInitialVotingInterval {interval}\n\
             TestingV3AuthInitialVoteDelay {FIRST_DELAY}\n\
             TestingV3AuthInitialDistDelay {FIRST_DELAY}\n\
             V3AuthVotingInterval {interval}\n\
             V3AuthVoteDelay {delay}\n\
             V3AuthDistDelay {delay}\n",
            address = node.address,
            dir_port = node.dir_port.unwrap_or_default(),
            params = params.join(" "),
            bandwidths = quoted(&node.bandwidth_file(self.directory)),
        );
    }
}

/// The advertised port, and the one that tor listens on if that is another.
fn or_ports(node: &NodeRecord) -> String {
    let (address, advertised) = (node.address, node.or_port);
    match node.inner_port {
        None => format!("ORPort {address}:{advertised} IPv4Only\n"),
        Some(inner) => format!(
            "ORPort {address}:{advertised} IPv4Only NoListen\n\
             ORPort {address}:{inner} IPv4Only NoAdvertise\n"
        ),
    }
}

/// The options for the node's capacity.
fn limit(node: &NodeRecord) -> String {
    let (rate, burst) = (node.rate.value(), node.burst.value());
    let options = |prefix| format!("{prefix}Rate {rate}\n{prefix}Burst {burst}\n");
    match node.limit {
        Limit::Node => options("Bandwidth"),
        Limit::Relay => options("RelayBandwidth"),
        Limit::Line => String::new(),
    }
}

fn line(text: &mut String, line: impl std::fmt::Display) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{line}");
}

/// A path as a value in a torrc.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The torrc of a client that others use over SOCKS at `socks`, for as long as
/// the process `owner` lives.
pub(crate) fn client(
    manifest: &Manifest,
    directory: &Path,
    data: &Path,
    socks: SocketAddrV4,
    owner: u32,
) -> String {
    let mut text = format!(
        "TestingTorNetwork 1\n\
         SocksPort {socks}\n\
         DataDirectory {data}\n\
         GeoIPFile {empty}\n\
         GeoIPv6File {empty}\n\
         Log notice stdout\n\
         SafeLogging 0\n\
         PathsNeededToBuildCircuits 0.25\n\
         NumCPUs 1\n\
         ConnectionPadding 0\n\
         LearnCircuitBuildTimeout 0\n\
         CircuitBuildTimeout 20\n\
         MaxClientCircuitsPending 128\n\
         MaxCircuitDirtiness 10\n\
         UseEntryGuards 0\n\
         __OwningControllerProcess {owner}\n",
        data = quoted(data),
        empty = quoted(&directory.join(EMPTY)),
    );
    for authority in manifest.authorities() {
        line(&mut text, directory_authority(authority));
    }
    text
}

fn directory_authority(node: &NodeRecord) -> String {
    format!(
        "DirAuthority {} orport={} no-v2 v3ident={} {}:{} {}",
        node.nickname,
        node.or_port,
        node.v3ident.map(|id| id.to_string()).unwrap_or_default(),
        node.address,
        node.dir_port.unwrap_or_default(),
        node.fingerprint,
    )
}

/// A `state` file that makes tor believe it has carried `rate` for a day.
///
/// tor's observed bandwidth is the largest 10 s average in this history
/// (`bwhist_load_state`), in both directions.
pub(crate) fn state_file(rate: BytesPerSecond, now: SystemTime) -> String {
    const DAY: u64 = 86_400;
    let ends = now - Duration::from_secs(3600);
    let ends = humantime::format_rfc3339_seconds(ends).to_string();
    let ends = ends.trim_end_matches('Z').replace('T', " ");
    let (rate, total) = (rate.value(), rate.value().saturating_mul(DAY));
    let section = |direction| {
        format!(
            "BWHistory{direction}Ends {ends}\n\
             BWHistory{direction}Interval {DAY}\n\
             BWHistory{direction}Values {total}\n\
             BWHistory{direction}Maxima {rate}\n"
        )
    };
    section("Read") + &section("Write")
}

/// A bandwidth file with these weights: what the authorities start with.
pub(crate) fn prior_file(
    weights: impl IntoIterator<Item = (Fingerprint, KilobytesPerSecond)>,
    now: SystemTime,
) -> String {
    let mut text = format!(
        "{}\nversion=1.4.0\nsoftware=bw-testnet\nsoftware_version={}\n=====\n",
        unix_seconds(now),
        env!("CARGO_PKG_VERSION"),
    );
    for (fingerprint, weight) in weights {
        line(
            &mut text,
            format_args!("bw={} node_id=${fingerprint}", weight.value()),
        );
    }
    text
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RelaySpec;
    use crate::manifest::tests::sample_manifest;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn texts(timetable: Timetable, owner: Option<u32>) -> Vec<String> {
        let rate = BytesPerSecond::new(1_000_000);
        let exit = RelaySpec::exit("out", rate).torrc("ExitPolicy reject *:25");
        let plan = Plan::builder()
            .authorities(1)
            .relay(RelaySpec::middle("mid", rate))
            .relay(exit)
            .torrc(Role::Middle, "HeartbeatPeriod 0")
            .param("a_param", 9)
            .build()
            .unwrap();
        let manifest = sample_manifest();
        let torrc = Torrc {
            plan: &plan,
            manifest: &manifest,
            directory: Path::new("/net"),
            owner,
            timetable,
        };
        let nodes = manifest.nodes.iter().enumerate();
        nodes.map(|(i, node)| torrc.text(i, node)).collect()
    }

    #[test]
    fn each_role_gets_its_options() {
        let timetable = Timetable::starting(at(1_000_007), Duration::from_secs(20));
        let texts = texts(timetable, Some(77));
        let [authority, middle, exit] = texts.as_slice() else {
            unreachable!()
        };
        for text in &texts {
            assert!(text.contains("\nTestingTorNetwork") || text.starts_with("TestingTorNetwork"));
            assert!(text.contains("\n__OwningControllerProcess 77\n"));
            assert_eq!(text.matches("\nDirAuthority ").count(), 1);
            assert!(text.ends_with(":*\n"));
        }
        assert!(authority.contains("\nDirPort 127.9.8.1:7000\n"));
        assert!(authority.contains("\nConsensusParams a_param=9 bwscanner_cc=1 cc_alg=2\n"));
        assert!(authority.contains("\nTestingV3AuthVotingStartOffset 7\n"));
        assert!(authority.contains("\nV3BandwidthsFile \"/net/nodes/auth1/bandwidths\"\n"));
        assert!(!middle.contains("DirPort") && !middle.contains("V3Auth"));
        assert!(middle.contains("\nHeartbeatPeriod 0\n") && !exit.contains("HeartbeatPeriod"));
        assert!(middle.contains("\nBandwidthRate 1000000\n"));
        // A policy of the caller's comes first, since the first match counts.
        let own = exit.find("ExitPolicy reject *:25").unwrap();
        assert!(own < exit.find("ExitPolicy accept *:*").unwrap());
    }

    #[test]
    fn tor_knows_what_its_relay_shall_know() {
        let mut node = sample_manifest().nodes.remove(1);
        assert_eq!(or_ports(&node), "ORPort 127.9.8.2:5000 IPv4Only\n");
        assert_eq!(
            limit(&node),
            "BandwidthRate 1000000\nBandwidthBurst 2000000\n"
        );
        (node.inner_port, node.limit) = (Some(5001), Limit::Relay);
        let ports = "ORPort 127.9.8.2:5000 IPv4Only NoListen\n\
                     ORPort 127.9.8.2:5001 IPv4Only NoAdvertise\n";
        assert_eq!(or_ports(&node), ports);
        let relay = "RelayBandwidthRate 1000000\nRelayBandwidthBurst 2000000\n";
        assert_eq!(limit(&node), relay);
        node.limit = Limit::Line;
        assert_eq!(limit(&node), "");
    }

    #[test]
    fn authorities_wait_and_then_vote_when_told() {
        let now = at(1_795_209_475);
        let waiting = Timetable::waiting(now);
        // The next multiple of the interval plus offset is far away.
        let since_slot = (1_795_209_475 - waiting.offset) % WAITING_INTERVAL;
        assert_eq!(since_slot, 100);
        assert_eq!(first_consensus_after(now), at(1_795_209_482));
        let voting = Timetable::starting(at(1_795_209_482), Duration::from_secs(10));
        assert_eq!((voting.offset, voting.delay()), (2, 2));
        assert!(!texts(waiting, None)[0].contains("__Owning"));
    }

    #[test]
    fn a_history_of_one_day_at_full_rate() {
        let text = state_file(BytesPerSecond::new(1000), at(1_795_209_475));
        assert!(
            text.starts_with("BWHistoryReadEnds 2026-11-20 20:17:55\n"),
            "{text}"
        );
        assert!(text.contains("\nBWHistoryWriteValues 86400000\n"));
        assert!(text.ends_with("\nBWHistoryWriteMaxima 1000\n"));
    }

    #[test]
    fn the_prior_is_a_bandwidth_file() {
        let weight = (
            Fingerprint::from_bytes([1; 20]),
            KilobytesPerSecond::new(42),
        );
        let text = prior_file([weight], at(1_795_209_475));
        let document = format!("bw=42 node_id=${}\n", "01".repeat(20));
        assert!(text.starts_with("1795209475\nversion=1.4.0\n"));
        assert!(text.ends_with(&format!("=====\n{document}")), "{text}");
    }
}
