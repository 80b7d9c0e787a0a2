//! Made-up records for tests: the same for the same numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use bw_file::{BytesPerSecond, Ed25519Identity, Fingerprint, KilobytesPerSecond};
use sha2::{Digest, Sha256};

use crate::{
    Attempt, Blame, DescriptorFacts, Failure, FailureKind, Measurement, NetworkSnapshot, Outcome,
    PortRanges, Position, RelayFacts, Scan, ScanId, ScanParameters, Slice, Stage, StopReason,
    TargetFacts, Timings, Transfer, UnixMillis,
};

/// A number that looks random, the same for the same input.
fn noise(seed: u64, what: &str) -> u64 {
    let digest = Sha256::digest(format!("{seed} {what}"));
    digest
        .iter()
        .take(8)
        .fold(0, |value, &byte| (value << 8) | u64::from(byte))
}

/// The fingerprint of relay `number`.
pub fn fingerprint(number: u64) -> Fingerprint {
    let digest: [u8; 32] = Sha256::digest(number.to_be_bytes()).into();
    let mut bytes = [0; 20];
    bytes.copy_from_slice(&digest[..20]);
    Fingerprint::from_bytes(bytes)
}

/// Relay `number` as the consensus and descriptor of hour `hour` show it.
pub fn relay(number: u64, hour: u64) -> RelayFacts {
    let weight = 20 + noise(number, "weight") % 50_000 + noise(number * 1000 + hour, "drift") % 9;
    let name = format!("relay{}", noise(number, "name") % 100_000);
    let mut relay = RelayFacts::new(fingerprint(number), &name, KilobytesPerSecond::new(weight));
    relay.ed25519 = Some(Ed25519Identity::from_bytes(
        Sha256::digest(format!("key {number}")).into(),
    ));
    let address = (noise(number, "address") >> 32) as u32;
    relay.address = Some(std::net::Ipv4Addr::from(address).into());
    relay.set_version(["Tor 0.4.9.11", "Tor 0.4.8.21"][usize::from(number.is_multiple_of(5))]);
    relay.flags.running = true;
    relay.flags.valid = true;
    relay.flags.fast = !noise(number, "fast").is_multiple_of(10);
    relay.flags.guard = noise(number, "guard").is_multiple_of(2);
    relay.flags.exit = noise(number, "exit").is_multiple_of(4);
    if relay.flags.exit {
        relay.exit_ports = PortRanges::new([(20, 23), (43, 43), (53, 53), (80, 81), (443, 443)]);
    }
    let family = noise(number, "family") % 1000;
    relay.family = (0..noise(family, "size") % 12)
        .map(|member| fingerprint(noise(family, &member.to_string()) % 8000))
        .collect();
    // Descriptors are published every 18 hours.
    let generation = (hour + number % 18) / 18;
    relay.descriptor = Some(DescriptorFacts::new(
        UnixMillis::from_secs(1_790_000_000 + generation * 64_800 + noise(number, "age") % 3600),
        BytesPerSecond::new(1 << 30),
        BytesPerSecond::new(1 << 30),
        BytesPerSecond::new(weight * 1000 + noise(number * 1000 + generation, "observed") % 99_999),
    ));
    relay
}

/// The network of `relays` relays in hour `hour`, with a little churn.
pub fn snapshot(relays: u64, hour: u64) -> NetworkSnapshot {
    let start = UnixMillis::from_secs(1_790_000_000 + hour * 3600);
    let numbers = (hour..relays + hour).map(|number| number % (relays * 2));
    NetworkSnapshot::new(
        start,
        start.after(Duration::from_secs(3600)),
        start.after(Duration::from_secs(3 * 3600)),
        BTreeMap::from([("bwauthpid".to_owned(), 1)]),
        numbers.map(|number| relay(number, hour)).collect(),
    )
}

/// Scan `number` of the scanner "test", begun at `started` (in ms).
pub fn scan(number: u8, started: u64) -> Scan {
    Scan::new(
        ScanId::from_bytes([number; 16]),
        "test".to_owned(),
        UnixMillis::new(started),
        ScanParameters::new(vec!["https://example.org/file".to_owned()]),
    )
}

fn attempt(number: u64, started: u64) -> Attempt {
    let target = TargetFacts::from(&relay(number, 0));
    let mut attempt = Attempt::new(target, Position::Entry, UnixMillis::new(started));
    attempt.helpers = vec![fingerprint(noise(started, "helper") % 8000)];
    "https://example.org/file".clone_into(&mut attempt.destination);
    attempt
}

/// A measurement of relay `number`: 3 s in 30 slices.
pub fn measured(number: u64, started: u64) -> Outcome {
    let seed = noise(number, "rate") ^ started;
    let rate = 10_000 + noise(number, "rate") % 1_000_000;
    let slices = (0..30).map(|index: u64| {
        let jitter = noise(seed, &index.to_string());
        Slice::new(
            Duration::from_micros(100_000 + jitter % 900),
            498 * (rate * (900 + (jitter >> 32) % 200) / 1000 / 498),
        )
    });
    let transfer = Transfer::new(slices.collect(), 5, StopReason::TimeLimit);
    let micros = |what| Some(Duration::from_micros(10_000 + noise(seed, what) % 90_000));
    let timings = Timings {
        channel: micros("channel"),
        create: micros("create"),
        extend: micros("extend"),
        begin: micros("begin"),
        tls: micros("tls"),
        response: micros("response"),
    };
    Outcome::Measured(Measurement::new(
        attempt(number, started),
        UnixMillis::new(started + 4_000),
        timings,
        vec![transfer],
    ))
}

/// A failure to measure relay `number`: no answer to EXTEND2.
pub fn failed(number: u64, started: u64) -> Outcome {
    Outcome::Failed(Failure::new(
        attempt(number, started),
        UnixMillis::new(started + 10_000),
        Stage::Extend,
        FailureKind::Timeout,
        Blame::Path,
        "no answer to EXTEND2 for 10 s",
    ))
}
