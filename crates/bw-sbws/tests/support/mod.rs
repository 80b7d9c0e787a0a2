//! Made-up sbws homes, the same for the same plan.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use bw_file::{DateTime, Ed25519Identity, Fingerprint, UnixTime};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

const HOUR: u64 = 3_600;
const DAY: u64 = 86_400;

/// The plan of a made-up home.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HomePlan {
    pub(crate) seed: u64,
    pub(crate) relays: u64,
    pub(crate) days: u64,
    /// Results per relay and day.
    pub(crate) per_day: f64,
    /// The most entries of `relay_in_recent_consensus`: one an hour.
    pub(crate) consensus_times: u64,
    /// The newest result, in Unix seconds.
    pub(crate) end: u64,
    /// `true` for everything that sbws survives: nulls, empty lists,
    /// both forms of time, moved relays, a second scanner, bad lines.
    pub(crate) odd: bool,
}

struct Relay {
    fingerprint: Fingerprint,
    key: Ed25519Identity,
    nickname: String,
    address: String,
    /// Where it moved to, and when.
    moved: Option<(String, f64)>,
    capacity: f64,
    observed: u64,
    average: u64,
    burst: u64,
    weight: u64,
    first_seen: f64,
    exit: bool,
    dead: bool,
    in_consensus: bool,
    described: bool,
    measured: bool,
}

/// `2026-11-20T12:00:00`
pub(crate) fn iso(seconds: u64) -> String {
    let time = UnixTime::new(i64::try_from(seconds).unwrap());
    DateTime::new(time).unwrap().to_string()
}

/// Base64 without padding: that of an Ed25519 identity, cut.
fn base64(bytes: &[u8]) -> String {
    let mut padded = [0; 32];
    padded[..bytes.len()].copy_from_slice(bytes);
    let digits = (bytes.len() * 8).div_ceil(6);
    Ed25519Identity::from_bytes(padded).to_string()[..digits].to_owned()
}

/// Writes `datadir`, `tor`, `state.dat` and an empty `v3bw` into `home`;
/// returns how many results there are.
pub(crate) fn write_home(home: &Path, plan: &HomePlan) -> io::Result<u64> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(plan.seed);
    for directory in ["datadir/second", "tor", "v3bw", "log"] {
        fs::create_dir_all(home.join(directory))?;
    }
    let relays: Vec<Relay> = (0..plan.relays)
        .map(|number| relay(&mut rng, plan, number))
        .collect();
    let results = write_results(home, plan, &relays, &mut rng)?;
    write_consensus(&home.join("tor/cached-consensus"), plan, &relays)?;
    write_descriptors(
        &home.join("tor/cached-descriptors"),
        plan,
        &relays,
        &mut rng,
    )?;
    let list = |count: u64, step: u64| -> Vec<String> {
        (0..count)
            .rev()
            .map(|at| iso(plan.end - at * step))
            .collect()
    };
    let state = json!({
        "scanner_started": iso(plan.end - (plan.days + 1) * DAY),
        "uuid": "00000000-0000-4000-8000-000000000000",
        "tor_version": "0.4.8.10",
        "recent_consensus": list(120, HOUR),
        "recent_priority_list": list(100, 4_000),
        "recent_priority_relay": list(100, 4_000).into_iter().map(|at| json!([at, plan.relays / 20]))
            .collect::<Vec<_>>(),
        "min_perc_reached": null,
    });
    fs::write(home.join("state.dat"), state.to_string())?;
    Ok(results)
}

fn relay(rng: &mut Xoshiro256PlusPlus, plan: &HomePlan, number: u64) -> Relay {
    let start = (plan.end - plan.days * DAY) as f64;
    // Nearly normal, which is near enough.
    let normal = (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
    let capacity = 3e6 * (1.4 * normal).exp();
    let observed = (capacity * rng.random_range(0.4..1.0)) as u64;
    let average = match rng.random_range(0..3) {
        0 => 1 << 30,
        1 => (capacity * rng.random_range(0.8..4.0)) as u64,
        _ => (capacity * 2.0) as u64,
    };
    let address = |rng: &mut Xoshiro256PlusPlus| {
        let [a, b, c, d]: [u8; 4] = rng.random();
        format!("{}.{b}.{c}.{d}", 1 + a % 223)
    };
    let moves = plan.odd && rng.random_bool(0.1);
    let moved = moves.then(|| {
        let at = start + rng.random::<f64>() * plan.days as f64 * DAY as f64;
        (address(rng), at)
    });
    Relay {
        fingerprint: Fingerprint::from_bytes(rng.random()),
        key: Ed25519Identity::from_bytes(rng.random()),
        nickname: format!("r{number:05}"),
        address: address(rng),
        moved,
        capacity,
        observed,
        average,
        burst: average + average * rng.random_range(0..3) / 2,
        weight: ((observed as f64 * rng.random_range(0.3..1.6) / 1000.0) as u64).max(1),
        first_seen: start - rng.random::<f64>() * 60.0 * DAY as f64,
        exit: rng.random_bool(0.25),
        dead: rng.random_bool(0.03),
        in_consensus: !rng.random_bool(0.02),
        described: !rng.random_bool(0.01),
        measured: !rng.random_bool(0.03),
    }
}

fn write_results(
    home: &Path,
    plan: &HomePlan,
    relays: &[Relay],
    rng: &mut Xoshiro256PlusPlus,
) -> io::Result<u64> {
    let start = (plan.end - plan.days * DAY) as f64;
    let mut events = Vec::new();
    for (index, relay) in relays
        .iter()
        .enumerate()
        .filter(|(_, relay)| relay.measured)
    {
        let mean = plan.per_day * plan.days as f64;
        let spread = mean.sqrt() * (rng.random::<f64>() * 2.0 - 1.0);
        for _ in 0..((mean + spread).round() as u64).max(1) {
            let at = start + rng.random::<f64>() * (plan.days * DAY) as f64;
            events.push((at, index));
        }
        if plan.odd && relay.dead {
            // Sometimes from a clock that is ahead.
            events.push((plan.end as f64 + rng.random::<f64>() * 7_200.0, index));
        }
    }
    events.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut files = std::collections::BTreeMap::new();
    for &(at, index) in &events {
        let second = plan.odd && rng.random_bool(0.2);
        let helper = &relays[rng.random_range(0..relays.len())];
        let line = result(rng, plan, &relays[index], helper, at, second);
        let day = &iso(at as u64)[..10];
        let name = format!("{}{day}.txt", if second { "second/" } else { "" });
        let file = match files.entry(name) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let file = File::create(home.join("datadir").join(entry.key()))?;
                entry.insert(BufWriter::new(file))
            }
        };
        writeln!(file, "{line}")?;
        if plan.odd && rng.random_bool(0.01) {
            writeln!(file, "{{\"version\": 4, \"typ")?;
            writeln!(file)?;
        }
    }
    for mut file in files.into_values() {
        file.flush()?;
    }
    Ok(events.len() as u64)
}

fn result(
    rng: &mut Xoshiro256PlusPlus,
    plan: &HomePlan,
    relay: &Relay,
    helper: &Relay,
    at: f64,
    second: bool,
) -> Value {
    let odd = |rng: &mut Xoshiro256PlusPlus, share: f64| plan.odd && rng.random_bool(share);
    let zone = if odd(rng, 0.5) { "+00:00" } else { "" };
    let seconds = at as u64;
    let listed = ((at - relay.first_seen) / HOUR as f64) as u64;
    let listed = listed.clamp(1, plan.consensus_times);
    let hour = seconds - seconds % HOUR;
    let times: Vec<String> = (0..listed)
        .rev()
        .map(|back| format!("{}{zone}", iso(hour - back * HOUR)))
        .collect();
    let address = match &relay.moved {
        Some((address, when)) if at >= *when => address,
        _ => &relay.address,
    };
    let circuit = if relay.exit {
        [helper.fingerprint, relay.fingerprint]
    } else {
        [relay.fingerprint, helper.fingerprint]
    };
    let mut line = json!({
        "version": 4, "type": "success", "time": at,
        "fingerprint": relay.fingerprint, "nickname": relay.nickname, "address": address,
        "master_key_ed25519": relay.key, "circ": circuit,
        "dest_url": "https://x.example/1G", "scanner": if second { "second" } else { "first" },
        "relay_in_recent_consensus": times,
        "relay_recent_measurement_attempt": [format!("{}{zone}", iso(seconds))],
        "relay_recent_priority_list": [format!("{}{zone}", iso(seconds - 600))],
    });
    if odd(rng, 0.03) {
        line["relay_recent_priority_list"] = Value::Null;
        line["relay_in_recent_consensus"] = Value::Null;
    }
    if odd(rng, 0.1) {
        line["master_key_ed25519"] = Value::Null;
    }
    if odd(rng, 0.2) {
        let times: Vec<String> = (0..3).map(|k| iso(seconds - k)).collect();
        line["xoff_recv"] = times.into();
    }
    if odd(rng, 0.1) {
        // Of before 1.2.0.
        line["time"] = seconds.into();
    }
    if relay.dead || rng.random_bool(0.08) {
        let kinds = ["stream", "circ", "circ", "second-relay", "misc", "auth"];
        let kind = kinds[rng.random_range(0..if plan.odd { 6 } else { 4 })];
        line["type"] = format!("error-{kind}").into();
        line["msg"] = "Circuit failed to be created: \"TIMEOUT\"".into();
        return line;
    }
    let base = relay.capacity.min(helper.capacity * 1.2) * rng.random_range(0.1..0.6);
    let base = base.max(2_000.0);
    let amount = (base * rng.random_range(5.2..8.0)) as u64;
    let count = if odd(rng, 0.05) {
        rng.random_range(0..3)
    } else {
        5
    };
    let downloads: Vec<Value> = (0..count)
        .map(|_| json!({"duration": amount as f64 / (base * rng.random_range(0.85..1.15)), "amount": amount}))
        .collect();
    line["downloads"] = downloads.into();
    line["rtts"] = match plan.odd {
        true if rng.random_bool(0.3) => (0..rng.random_range(0..4))
            .map(|_| json!(rng.random::<f64>()))
            .collect(),
        true => Value::Null,
        false => Value::Array(Vec::new()),
    };
    line["relay_average_bandwidth"] = relay.average.into();
    line["relay_burst_bandwidth"] = relay.burst.into();
    line["relay_observed_bandwidth"] =
        ((relay.observed as f64 * rng.random_range(0.9..1.1)) as u64).into();
    line["consensus_bandwidth"] = (relay.weight * 1000).into();
    line["consensus_bandwidth_is_unmeasured"] = rng.random_bool(0.05).into();
    for (key, share) in [
        ("relay_burst_bandwidth", 0.05),
        ("relay_observed_bandwidth", 0.2),
        ("consensus_bandwidth", 0.05),
        ("consensus_bandwidth_is_unmeasured", 0.05),
    ] {
        if odd(rng, share) {
            line[key] = Value::Null;
        }
    }
    if odd(rng, 0.1) {
        line["relay_observed_bandwidth"] = 0.into();
    }
    line
}

fn write_consensus(path: &Path, plan: &HomePlan, relays: &[Relay]) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let hour = plan.end - plan.end % HOUR;
    let date = |seconds| iso(seconds).replace('T', " ");
    writeln!(
        file,
        "network-status-version 3\nvote-status consensus\nconsensus-method 33"
    )?;
    for (key, hours) in [("valid-after", 0), ("fresh-until", 1), ("valid-until", 3)] {
        writeln!(file, "{key} {}", date(hour + hours * HOUR))?;
    }
    writeln!(
        file,
        "voting-delay 300 300\nclient-versions\nserver-versions"
    )?;
    writeln!(
        file,
        "known-flags Authority BadExit Exit Fast Guard HSDir Running Stable V2Dir Valid"
    )?;
    writeln!(file, "params bwscanner_cc=1 cc_alg=2")?;
    let mut listed: Vec<&Relay> = relays.iter().filter(|relay| relay.in_consensus).collect();
    listed.sort_unstable_by_key(|relay| relay.fingerprint);
    for relay in listed {
        let identity = base64(relay.fingerprint.as_bytes());
        let published = date(hour - 5 * HOUR);
        let (nickname, address) = (&relay.nickname, &relay.address);
        writeln!(
            file,
            "r {nickname} {identity} {identity} {published} {address} 9001 0"
        )?;
        let exit = if relay.exit { "Exit " } else { "" };
        writeln!(
            file,
            "s {exit}Fast Running Stable V2Dir Valid\nv Tor 0.4.8.10"
        )?;
        writeln!(file, "pr Cons=1-2 Desc=1-2 FlowCtrl=1-2 Link=1-5 Relay=1-4")?;
        let unmeasured = if relay.dead { " Unmeasured=1" } else { "" };
        writeln!(file, "w Bandwidth={}{unmeasured}", relay.weight)?;
        writeln!(
            file,
            "p {}",
            if relay.exit {
                "accept 80,443"
            } else {
                "reject 1-65535"
            }
        )?;
    }
    let weights = "Wbd=0 Wbe=0 Wbg=4131 Wbm=10000 Wdb=10000 Web=10000 Wed=10000 Wee=10000 \
        Weg=10000 Wem=10000 Wgb=10000 Wgd=0 Wgg=5869 Wgm=5869 Wmb=10000 Wmd=0 Wme=0 Wmg=4131 \
        Wmm=10000";
    writeln!(file, "directory-footer\nbandwidth-weights {weights}")?;
    file.flush()
}

fn write_descriptors(
    path: &Path,
    plan: &HomePlan,
    relays: &[Relay],
    rng: &mut Xoshiro256PlusPlus,
) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for relay in relays.iter().filter(|relay| relay.described) {
        let age = rng.random_range(1..18) * HOUR;
        let published = iso(plan.end - plan.end % HOUR - age).replace('T', " ");
        let digits = relay.fingerprint.to_string();
        let groups: Vec<&str> = (0..10).map(|at| &digits[at * 4..at * 4 + 4]).collect();
        writeln!(file, "@downloaded-at {published}")?;
        writeln!(file, "router {} {} 9001 0 0", relay.nickname, relay.address)?;
        writeln!(
            file,
            "platform Tor 0.4.8.10 on Linux\npublished {published}"
        )?;
        writeln!(file, "fingerprint {}\nuptime 100000", groups.join(" "))?;
        let observed = (relay.observed as f64 * rng.random_range(0.9..1.1)) as u64;
        writeln!(
            file,
            "bandwidth {} {} {observed}",
            relay.average, relay.burst
        )?;
        writeln!(
            file,
            "reject *:*\nrouter-signature\n-----BEGIN SIGNATURE-----\nAAAA"
        )?;
        writeln!(file, "-----END SIGNATURE-----")?;
    }
    file.flush()
}
