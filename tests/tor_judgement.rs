//! `TorJudge` beside a real tor: nine authorities of a private network are
//! given generated bandwidth files, one after the other, and what their votes
//! and logs say is compared with the judgement of each file.
//!
//! The files come from a seed that is printed; `BWSCAN_SEED` in the
//! environment repeats them, `BWSCAN_ROUNDS` sets how often the nine
//! authorities vote (7 by default, ten seconds each). The first are no file at
//! all and those of `crates/bw-file/tests/data/writers`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "this is a test")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bw_file::{
    BytesPerSecond, Document, Fingerprint, LineKind, TorJudge, TorJudgement, TorWarningKind,
    UnixTime, VoteLines,
};
use bw_testnet::{Authority, Network, Plan, RelaySpec, Role, StatusDocument};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};

const AUTHORITIES: usize = 9;
const INTERVAL: Duration = Duration::from_secs(10);
/// So many authorities may go without a vote, so that the others still make a
/// consensus.
const MAX_SILENT: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn a_real_tor_judges_generated_files_as_we_do() {
    let from_environment = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let seed = from_environment("BWSCAN_SEED").unwrap_or_else(|| unix_seconds(SystemTime::now()));
    let rounds = from_environment("BWSCAN_ROUNDS").unwrap_or(7);
    println!("BWSCAN_SEED={seed}");

    let mut plan = Plan::builder()
        .authorities(AUTHORITIES)
        .voting_interval(INTERVAL);
    for number in 1..=3 {
        let rate = BytesPerSecond::new(1_000_000);
        plan = plan.relay(RelaySpec::middle(format!("relay{number}"), rate));
    }
    let network = Network::up(&plan.build().unwrap(), |_| ()).await.unwrap();
    let mut generator = Generator::new(seed, &network);
    let mut due = network.consensus().await.unwrap().fresh_until;
    let (mut given, mut compared, mut failures) = (0, 0, Vec::new());
    for _ in 0..rounds {
        due = next_after(due);
        let cases = generator.cases(&network);
        let votes = collect(&network, &cases, due).await;
        given += cases.len();
        for ((case, vote), authority) in cases.iter().zip(votes).zip(network.authorities()) {
            match case.compare(vote.as_deref(), &authority) {
                Ok(seen) => compared += usize::from(seen),
                Err(difference) => failures.push(format!(
                    "{difference}\n  file {}\n  judged {:?}",
                    case.shown(),
                    case.verdict
                )),
            }
        }
    }
    network.down().await.unwrap();
    println!("{compared} files agree");
    assert!(
        failures.is_empty(),
        "BWSCAN_SEED={seed}: {} files differ\n{}",
        failures.len(),
        failures.join("\n")
    );
    // On a busy machine some votes come too late to be seen.
    assert!(2 * compared > given, "{compared} of {given} seen");
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// Counts the lines of a log that have this text.
fn count(log: &str, text: &str) -> usize {
    log.lines().filter(|line| line.contains(text)).count()
}

/// The first consensus after `due` whose votes are some seconds away.
fn next_after(mut due: SystemTime) -> SystemTime {
    while due < SystemTime::now() + Duration::from_secs(6) {
        due += INTERVAL;
    }
    due
}

/// A file, and what we say of it.
struct Case {
    /// None: the authority is to find no file.
    file: Option<Vec<u8>>,
    verdict: TorJudgement,
    relays: Vec<Fingerprint>,
    /// Where the authority's log ended when it was given the file.
    log_start: usize,
}

impl Case {
    /// Compares a vote, if there was one, and what the authority has logged
    /// since it was given the file; false if it did neither in time.
    fn compare(&self, vote: Option<&[u8]>, authority: &Authority<'_>) -> Result<bool, String> {
        let log = std::fs::read(authority.log_file()).unwrap();
        let log = String::from_utf8_lossy(&log[self.log_start..]);
        let votes = count(&log, "Time to vote.");
        let spoiled = count(&log, TorWarningKind::UnreadableVote.tor_says()) > 0;
        match vote {
            _ if votes == 0 => return Ok(false),
            None if !spoiled => return Ok(false),
            Some(vote) if self.verdict.casts_vote() => self.compare_vote(vote)?,
            None if !self.verdict.casts_vote() => {}
            _ => return Err(format!("vote cast: {}", vote.is_some())),
        }
        self.compare_warnings(&log, votes)?;
        Ok(true)
    }

    fn compare_vote(&self, vote: &[u8]) -> Result<(), String> {
        let (said, expected) = (VoteLines::parse(vote), self.verdict.vote_lines());
        if said.headers != expected.headers {
            let text = said.headers.unwrap_or_default();
            return Err(format!("headers: {}", text.escape_ascii()));
        }
        if said.digest != expected.digest {
            return Err(format!("digest: {:?}", said.digest));
        }
        let mut expected = expected.measured;
        expected.retain(|relay, _| self.relays.contains(relay));
        if said.measured != expected {
            return Err(format!("measured: {:?}", said.measured));
        }
        Ok(())
    }

    /// tor reads a file twice for a vote; a late vote it makes twice.
    fn compare_warnings(&self, log: &str, votes: usize) -> Result<(), String> {
        for &kind in TorWarningKind::ALL {
            // tor has the place in its source after "Bug:".
            let found = count(log, kind.tor_says().trim_start_matches("Bug: "));
            let warnings = self.verdict.warnings().iter();
            let expected = warnings.filter(|warning| warning.kind == kind).count();
            let agree = match kind {
                // Of the vote, not of a reading, and more than one message.
                TorWarningKind::HeadersTooLong | TorWarningKind::UnreadableVote => {
                    (found > 0) == (expected > 0)
                }
                _ => found == 2 * votes * expected,
            };
            if !agree {
                return Err(format!(
                    "{kind:?}: {found} in the log, {expected} of ours\n{log}"
                ));
            }
        }
        Ok(())
    }

    fn shown(&self) -> String {
        match &self.file {
            None => "missing".to_owned(),
            Some(file) if file.len() > 6000 => format!("of {} bytes", file.len()),
            Some(file) => format!("\"{}\"", file.escape_ascii()),
        }
    }
}

/// Gives each authority its file, and returns their votes for the consensus
/// that is due then.
async fn collect(network: &Network, cases: &[Case], due: SystemTime) -> Vec<Option<Vec<u8>>> {
    for (case, authority) in cases.iter().zip(network.authorities()) {
        match &case.file {
            Some(file) => authority.install_bandwidth_file(file).unwrap(),
            // In the first round there is none anyway.
            None => assert!(!authority.bandwidth_file().exists()),
        }
    }
    let mut votes = vec![None; cases.len()];
    let end = due - Duration::from_millis(300);
    while SystemTime::now() < end {
        if votes.iter().all(Option::is_some) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        for (vote, authority) in votes.iter_mut().zip(network.authorities()) {
            if vote.is_some() {
                continue;
            }
            // There is none but in the seconds before the consensus.
            if let Ok(text) = authority.get("/tor/status-vote/next/authority").await {
                let parsed = StatusDocument::parse(&String::from_utf8_lossy(&text)).unwrap();
                if parsed.valid_after == due {
                    *vote = Some(text.to_vec());
                }
            }
        }
    }
    let rest = due.duration_since(SystemTime::now()).unwrap_or_default();
    tokio::time::sleep(rest + Duration::from_millis(300)).await;
    votes
}

/// Makes files that are good, bad and odd.
struct Generator {
    rng: Xoshiro256PlusPlus,
    relays: Vec<Fingerprint>,
    authorities: Vec<Fingerprint>,
    /// Files to begin with, the next one last; none stands for no file.
    given: Vec<Option<Vec<u8>>>,
}

/// Files as different programs write them, of relays that the network has.
fn files_of_writers(relays: &[Fingerprint]) -> Vec<Vec<u8>> {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/crates/bw-file/tests/data/writers"
    );
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let renamed = |path: &PathBuf| {
        let mut text = std::fs::read_to_string(path).unwrap();
        let parsed = Document::parse(text.as_bytes()).into_owned();
        let ids = parsed.relays().filter_map(|relay| relay.fingerprint());
        let ids: BTreeSet<_> = ids.collect();
        for (old, new) in ids.iter().zip(relays) {
            text = text.replace(&old.to_string(), &new.to_string());
        }
        text.into_bytes()
    };
    paths.iter().map(renamed).collect()
}

/// The file as it would be now, without annotations.
fn as_of(now: UnixTime, file: &[u8]) -> Vec<u8> {
    let mut document = Document::parse(file);
    document.set_timestamp(now).unwrap();
    let lines = document.lines().iter();
    let kept = lines.filter(|line| line.kind() != LineKind::Annotation);
    kept.flat_map(|line| line.as_bytes().to_vec()).collect()
}

impl Generator {
    fn new(seed: u64, network: &Network) -> Self {
        let of = |wanted: bool| {
            let nodes = network.nodes();
            let nodes = nodes.filter(|node| (node.role() == Role::Authority) == wanted);
            nodes.map(|node| node.record().fingerprint).collect()
        };
        let relays: Vec<_> = of(false);
        let files = files_of_writers(&relays).into_iter().map(Some);
        Self {
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            relays,
            authorities: of(true),
            given: files.chain([None]).collect(),
        }
    }

    /// One case for each authority; of those for which no vote is cast, few.
    fn cases(&mut self, network: &Network) -> Vec<Case> {
        let now = UnixTime::new(unix_seconds(SystemTime::now()).try_into().unwrap());
        let judge = TorJudge::new(now)
            .known_relays(self.relays.iter().chain(&self.authorities).copied())
            .authorities(self.authorities.iter().copied());
        let mut silent = 0;
        let mut cases = Vec::new();
        for authority in network.authorities() {
            let (file, verdict) = loop {
                let file = match self.given.pop() {
                    Some(None) => break (None, judge.judge_missing()),
                    Some(Some(file)) => as_of(now, &file),
                    None => self.file(now.seconds()),
                };
                let verdict = judge.judge(&file);
                silent += usize::from(!verdict.casts_vote());
                if verdict.casts_vote() || silent <= MAX_SILENT {
                    break (Some(file), verdict);
                }
            };
            let log_start = std::fs::metadata(authority.log_file()).unwrap().len();
            cases.push(Case {
                file,
                verdict,
                relays: self.relays.clone(),
                log_start: log_start.try_into().unwrap(),
            });
        }
        cases
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.rng.random_range(0..of.len())]
    }

    fn file(&mut self, now: i64) -> Vec<u8> {
        let mut file = self.timestamp(now);
        let headers = match self.rng.random_range(0..10) {
            0 => self.rng.random_range(45..60),
            1 => 0,
            _ => self.rng.random_range(1..8),
        };
        for _ in 0..headers {
            file.extend(self.header());
        }
        if self.chance(15) {
            // Up to and beyond what a vote's line takes.
            let joined = file.len() + "timestamp=".len() - 1;
            let target = self.rng.random_range(1018..1030);
            if let Some(length) = usize::checked_sub(target, joined + "long= ".len()) {
                file.extend(format!("long={}\n", "x".repeat(length)).bytes());
            }
        }
        if self.chance(60) {
            file.extend(b"=====\n");
        }
        for _ in 0..self.rng.random_range(0..12) {
            if self.chance(12) {
                file.extend(self.header());
            } else {
                file.extend(self.relay_line());
            }
        }
        if self.chance(12) {
            file.pop();
        }
        if self.chance(15) {
            self.mutate(&mut file);
        }
        file
    }

    /// The first line.
    fn timestamp(&mut self, now: i64) -> Vec<u8> {
        const ODD: &[&[u8]] = &[
            b"",
            b"0",
            b"-5",
            b"9223372036854775807",
            b"9223372036854775808",
            b"18446744073709551615",
            b"18446744073709551616",
            b"-9223372036854775808",
            b"-18446744073709551615",
            b"@type bandwidth-file 1.0",
            b"abc",
            b"0x65",
            b"\0",
        ];
        // Far enough from three days for the time that this test takes.
        let days = 3 * 86_400;
        let ages = [0, 0, 0, 0, -400_000_000, days - 600, days + 600];
        let age = ages[self.rng.random_range(0..ages.len())];
        let number = (now - age).to_string().into_bytes();
        let mut line = match self.rng.random_range(0..20) {
            0 => self.pick(ODD).to_vec(),
            1 => {
                let before = self.pick::<[u8]>(&[
                    b" ",
                    b"+",
                    b"\t",
                    b"\x0b\r ",
                    b"-",
                    b"\xef\xbb\xbf",
                    b"000",
                ]);
                [before, &number[..]].concat()
            }
            2 => {
                let after = self.pick::<[u8]>(&[b" ", b"\r", b".5", b"\0", b"\0\0x", b" 5"]);
                [&number[..], after].concat()
            }
            _ => number,
        };
        line.push(b'\n');
        line
    }

    /// A line that is a header, or nearly one.
    fn header(&mut self) -> Vec<u8> {
        const LINES: &[&[u8]] = &[
            b"version=1.4.0",
            b"software=sbws",
            b"a=b",
            b"a=b",
            b"k=",
            b"=v",
            b"k",
            b"=",
            b"==",
            b"====",
            b"======",
            b"===== ",
            b"=====\r",
            b"=====\0",
            b" =====",
            b"",
            b" ",
            b"\t",
            b" \t ",
            b"\r",
            b"\x0b",
            b"# comment",
            b"k=v w",
            b"k =v",
            b"k\t=v",
            b"k=\tv\t",
            b"k=v\r",
            b"k=a=b=c",
            b"\xfck=\xe9\xff",
            b"k=\xe2\x82\xac",
            b"k=v\0w x",
            b"\0",
            b"\0k=v",
            b"k\0=v",
            b"vote=0",
            b"vote=0\tbw=5",
            b"vote=01",
            b"bw=5",
            b"bw=x",
            b"bw=5\tbw=6",
            b"bw=",
            b"node_id=$AB",
            b"@type x=y",
            b"k=\x1b[0m",
            b"bandwidth-file-digest=x",
        ];
        let mut line = match self.rng.random_range(0..30) {
            0 => self.node_id(),
            1 => [&self.node_id()[..], b"\tvote=0\tbw=7"].concat(),
            _ => self.pick(LINES).to_vec(),
        };
        line.push(b'\n');
        line
    }

    fn node_id(&mut self) -> Vec<u8> {
        let id = match self.rng.random_range(0..10) {
            0 => Fingerprint::from_bytes(self.rng.random()),
            1 => self.authorities[self.rng.random_range(0..self.authorities.len())],
            _ => self.relays[self.rng.random_range(0..self.relays.len())],
        };
        let text = match self.rng.random_range(0..24) {
            0 => format!("$${id}"),
            1 => format!("${id}0"),
            2 => format!("${}", &id.to_string()[1..]),
            3 => format!("${id}~nick"),
            4 => format!("${id}={id}"),
            5 => "$".to_owned(),
            6 => String::new(),
            7 => format!(
                "${}",
                id.to_string().replace(|c: char| c.is_ascii_digit(), "g")
            ),
            8 => format!("+{}", &id.to_string()[1..]),
            9 | 10 => id.to_string(),
            11 => id.to_string().to_lowercase(),
            12 => format!("${}", id.to_string().to_lowercase()),
            13 => format!("${id}\r"),
            14 => format!(" ${id}"),
            _ => format!("${id}"),
        };
        format!("node_id={text}").into_bytes()
    }

    fn bandwidth(&mut self) -> Vec<u8> {
        const VALUES: &[&str] = &[
            "0",
            "1",
            "007",
            "+5",
            "-0",
            "-1",
            "+-5",
            "",
            "-",
            "abc",
            "5x",
            "5.0",
            "1e3",
            "0x10",
            "5,000",
            "2147483646",
            "2147483647",
            "4294967296",
            "4294967303",
            "8589934593",
            "9223372036854775808",
            "-9223372036854775808",
            "99999999999999999999999",
            "000000000000000000000000000012",
            "5\r",
            "5\x0b",
            "5\x0c7",
            "\x0b5",
            "\r5",
            "\x0b",
            "5=6",
            "5\u{a0}",
            "None",
        ];
        // Those with bit 31, which cost the vote, are rarer.
        const SPOILING: &[&str] = &[
            "2147483648",
            "4294967295",
            "6442450944",
            "9223372036854775807",
        ];
        let value = match self.rng.random_range(0..40) {
            0 => self.pick(SPOILING).to_owned(),
            1..14 => self.pick(VALUES).to_owned(),
            _ => self.rng.random_range(1..100_000_u32).to_string(),
        };
        format!("bw={value}").into_bytes()
    }

    fn relay_line(&mut self) -> Vec<u8> {
        const OTHER: &[&[u8]] = &[
            b"nick=relay",
            b"vote=1",
            b"vote=0",
            b"vote=01",
            b"vote=",
            b"Vote=0",
            b"VOTE=0",
            b"xvote=0",
            b"unmeasured=1",
            b"word",
            b"=v",
            b"=",
            b"k=",
            b"\xff=\xfe",
            b"BW=5",
            b"bw",
            b"xbw=5",
            b"NODE_ID=x",
            b"node_id",
            b"\r",
            b"\x0b",
            b"\x0bbw=5",
            b"k=\0v",
            b"\0",
            b"bw_mean=5",
            b"bwx=7",
            b"time=2026-01-01T00:00:00",
            b"=====",
            b"#",
            b"node_idx=$AB",
        ];
        const SPACES: &[&[u8]] = &[b" ", b" ", b" ", b" ", b"\t", b"  ", b" \t", b"\t\t"];
        let mut tokens = Vec::new();
        if !self.chance(6) {
            tokens.push(self.bandwidth());
        }
        if !self.chance(6) {
            tokens.push(self.node_id());
        }
        for _ in 0..self.rng.random_range(0..3) {
            tokens.push(match self.rng.random_range(0..20) {
                0 => self.bandwidth(),
                1 => self.node_id(),
                2 => [&b"nick="[..], &b"x".repeat(100_000)].concat(),
                _ => self.pick(OTHER).to_vec(),
            });
        }
        for last in (1..tokens.len()).rev() {
            tokens.swap(last, self.rng.random_range(0..=last));
        }
        let mut line = Vec::new();
        if self.chance(5) {
            line.extend_from_slice(self.pick(SPACES));
        }
        for token in tokens {
            line.extend(token);
            line.extend_from_slice(self.pick(SPACES));
        }
        if !self.chance(10) {
            line.pop();
        }
        if self.chance(4) {
            line.push(b'\r');
        }
        line.push(b'\n');
        line
    }

    /// Changes a byte or a few anywhere.
    fn mutate(&mut self, file: &mut Vec<u8>) {
        const BYTES: &[u8] = b"\0\r\n\t =$0\x0b\xff";
        for _ in 0..self.rng.random_range(1..4) {
            if file.is_empty() {
                return;
            }
            let at = self.rng.random_range(0..file.len());
            let byte = BYTES[self.rng.random_range(0..BYTES.len())];
            match self.rng.random_range(0..4) {
                0 => file[at] = byte,
                1 => drop(file.remove(at)),
                2 => file.insert(at, byte),
                _ => file.truncate(at),
            }
        }
    }
}
