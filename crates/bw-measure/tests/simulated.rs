//! The scan loop over a simulated network, in tokio's paused time: no arti,
//! no sockets, no waiting.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bw_file::{Fingerprint, KilobytesPerSecond};
use bw_measure::{
    Circuit, Circuits, Completion, Destination, Directory, EachOnce, Error, ErrorKind, Event,
    Fault, HttpTransport, LevelHalf, Limits, PathError, Records, RunId, Scan, ScanError,
    ScanReport, Selection, StageTimeouts, Tls, TwoHops, WallClock,
};
use bw_results::{
    Blame, FailureKind, NetworkSnapshot, Outcome, PortRanges, RelayFacts, Stage, TargetFacts,
    Timings, UnixMillis, Verdict,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// The behaviour of a simulated relay.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Nature {
    Honest,
    /// Refuses every circuit in which it is first.
    Refuses,
    /// Never answers.
    Silent,
    /// Stops after 50,000 bytes.
    Dries,
    /// As exit, says that no web server can be reached.
    Spoils,
}

struct Network {
    snapshot: Arc<NetworkSnapshot>,
    /// Bytes per second, and what it does.
    relays: HashMap<Fingerprint, (u64, Nature)>,
    /// True if the web server can be reached.
    server_up: bool,
    /// Relays that share what each of them carries alone, and how many streams they carry.
    machine: (Vec<Fingerprint>, Arc<AtomicU64>),
}

fn id(number: u8) -> Fingerprint {
    Fingerprint::from_bytes([number; 20])
}

/// Relays 1 to n with capacities of n × 100 kB/s; every third is an exit.
fn network(natures: &[(u8, Nature)], count: u8) -> Network {
    let mut facts = Vec::new();
    let mut relays = HashMap::new();
    for number in 1..=count {
        let capacity = u64::from(number) * 100_000;
        let mut relay =
            RelayFacts::new(id(number), "sim", KilobytesPerSecond::new(capacity / 1000));
        (relay.flags.running, relay.flags.valid) = (true, true);
        relay.flow_control_2 = true;
        if number % 3 == 0 {
            relay.flags.exit = true;
            relay.exit_ports = PortRanges::all();
        }
        facts.push(relay);
        let nature = natures.iter().find(|(n, _)| *n == number);
        let nature = nature.map_or(Nature::Honest, |(_, nature)| *nature);
        relays.insert(id(number), (capacity, nature));
    }
    let time = UnixMillis::from_secs(1_790_000_000);
    let snapshot = NetworkSnapshot::new(time, time, time, BTreeMap::new(), facts);
    Network {
        snapshot: Arc::new(snapshot),
        relays,
        server_up: true,
        machine: Default::default(),
    }
}

impl Directory for Network {
    async fn snapshot(&self) -> Result<Arc<NetworkSnapshot>, Error> {
        Ok(Arc::clone(&self.snapshot))
    }
}

struct SimCircuit {
    rate: u64,
    dries: bool,
    server_up: bool,
    machine: Option<Arc<AtomicU64>>,
}

impl Circuits for &Network {
    type Circuit = SimCircuit;

    async fn build(
        &self,
        path: TwoHops,
        timeouts: &StageTimeouts,
        timings: &mut Timings,
    ) -> Result<SimCircuit, PathError> {
        let (entry_rate, entry) = self.relays[&path.entry];
        let (exit_rate, exit) = self.relays[&path.exit];
        let error = |stage, kind, fault| Err(PathError::new(stage, kind, fault, "simulated"));
        match (entry, exit) {
            (Nature::Refuses, _) => {
                return error(Stage::Create, FailureKind::Refused, Fault::Entry);
            }
            (Nature::Silent, _) => {
                sleep(timeouts.channel).await;
                return error(Stage::Channel, FailureKind::Timeout, Fault::Entry);
            }
            (_, Nature::Silent | Nature::Refuses) => {
                sleep(timeouts.extend).await;
                return error(Stage::Extend, FailureKind::Timeout, Fault::Either);
            }
            _ => {}
        }
        sleep(Duration::from_millis(200)).await;
        timings.extend = Some(Duration::from_millis(200));
        Ok(SimCircuit {
            rate: entry_rate.min(exit_rate),
            dries: [entry, exit].contains(&Nature::Dries),
            server_up: self.server_up && exit != Nature::Spoils,
            machine: (self.machine.0.contains(&path.entry)).then(|| Arc::clone(&self.machine.1)),
        })
    }
}

impl Circuit for SimCircuit {
    type Stream = DuplexStream;

    async fn connect(&self, _: &str, _: u16, _: &StageTimeouts) -> Result<DuplexStream, PathError> {
        if !self.server_up {
            let text = "connection refused";
            let kind = FailureKind::Refused;
            return Err(PathError::new(Stage::Begin, kind, Fault::Destination, text));
        }
        let (ours, theirs) = duplex(64 << 10);
        let (rate, dries, machine) = (self.rate, self.dries, self.machine.clone());
        tokio::spawn(async move {
            let served = serve(theirs, rate, dries, machine.as_deref()).await;
            if let Some(streams) = machine {
                streams.fetch_sub(1, Ordering::Relaxed);
            }
            served
        });
        Ok(ours)
    }
}

/// A web server behind a path that carries `rate` bytes per second, ramping
/// up in the first half second.
async fn serve(
    mut stream: DuplexStream,
    rate: u64,
    dries: bool,
    machine: Option<&AtomicU64>,
) -> std::io::Result<()> {
    let streams = || machine.map_or(1, |streams| streams.load(Ordering::Relaxed));
    if let Some(streams) = machine {
        streams.fetch_add(1, Ordering::Relaxed);
    }
    let mut request = vec![0; 4096];
    let length = stream.read(&mut request).await?;
    let text = String::from_utf8_lossy(&request[..length]).into_owned();
    assert!(text.contains("range: bytes=0-1073741823"), "{text}");
    let head = "HTTP/1.1 206 Partial Content\r\ncontent-length: 1073741824\r\n\
                content-range: bytes 0-1073741823/9999999999\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    let begin = Instant::now();
    let mut sent = 0;
    loop {
        sleep(Duration::from_millis(10)).await;
        let ramp = (begin.elapsed().as_secs_f64() / 0.5).min(1.0);
        let chunk = (rate as f64 * 0.01 * ramp) as usize / streams() as usize;
        stream.write_all(&vec![0; chunk]).await?;
        sent += chunk;
        if dries && sent > 50_000 {
            std::future::pending::<()>().await;
        }
    }
}

/// A record, whether it settled its relay, and the verdict that it has in the end.
type Logged = (Outcome, bool, Verdict);

#[derive(Default)]
struct Log {
    outcomes: Mutex<Vec<(RunId, Logged)>>,
    snapshots: Mutex<usize>,
}

impl Records for Log {
    type Error = Infallible;

    fn network(&self, _: &NetworkSnapshot) -> Result<(), Infallible> {
        *self.snapshots.lock().unwrap() += 1;
        Ok(())
    }

    fn record(&self, run: RunId, completion: &Completion) -> Result<(), Infallible> {
        let outcome = completion.outcome.clone();
        let entry = (outcome, completion.settled, completion.verdict);
        self.outcomes.lock().unwrap().push((run, entry));
        Ok(())
    }

    fn revise(&self, run: RunId, verdict: Verdict) -> Result<(), Infallible> {
        let mut outcomes = self.outcomes.lock().unwrap();
        let of = outcomes.iter_mut().find(|(of, _)| *of == run);
        of.expect("what was recorded is revised").1.2 = verdict;
        Ok(())
    }
}

async fn run(
    network: &Network,
    targets: impl IntoIterator<Item = u8>,
    cancel: &CancellationToken,
) -> (Result<ScanReport, Error>, Vec<Logged>) {
    let transport = HttpTransport::new(network, Tls::with_public_roots().unwrap());
    // In this network circuits do not share what relays carry; what does is
    // in bw-sim.
    let mut limits = Limits::default();
    limits.helpers = 1;
    let mut selection = Selection::default();
    selection.relays = targets.into_iter().map(id).collect();
    let log = Log::default();
    let report = Scan::builder(network, transport)
        .destination(Destination::new("http://198.51.100.1/file").unwrap())
        .limits(limits)
        .estimator(|_: &TargetFacts| LevelHalf::default())
        .clock(WallClock::starting_at(UnixMillis::from_secs(1_790_000_000)))
        .cancel(cancel.clone())
        .seed(1)
        .run(&EachOnce::new(selection), &log)
        .await;
    assert!(
        *log.snapshots.lock().unwrap() <= 1,
        "one consensus is noted once"
    );
    let report = report.map_err(|error| match error {
        ScanError::Scan(error) => error,
        other => panic!("{other}"),
    });
    let outcomes = log.outcomes.into_inner().unwrap().into_iter();
    (report, outcomes.map(|(_, logged)| logged).collect())
}

#[tokio::test(start_paused = true)]
async fn a_round_over_a_simulated_network() {
    let begin = Instant::now();
    let network = network(&[], 30);
    let (report, outcomes) = run(&network, 1..=30, &CancellationToken::new()).await;
    let report = report.unwrap();
    assert_eq!((report.measured, report.failed, report.left), (30, 0, 0));
    for (outcome, ..) in &outcomes {
        let Outcome::Measured(measurement) = outcome else {
            panic!("{outcome:?}");
        };
        let (capacity, _) = network.relays[&measurement.attempt.target.fingerprint];
        let (helper, _) = network.relays[&measurement.attempt.helpers[0]];
        let expected = capacity.min(helper) as f64;
        let Some(rate) = measurement.rates().next() else {
            continue; // The link could not carry it.
        };
        assert!((rate / expected - 1.0).abs() < 0.03, "{rate} of {expected}");
    }
    // Some seconds of virtual time for each, several at a time.
    let elapsed = begin.elapsed();
    assert!((10..60).contains(&elapsed.as_secs()), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn those_who_watch_see_rates_become_certain() {
    let network = network(&[], 6);
    let transport = HttpTransport::new(&network, Tls::with_public_roots().unwrap());
    let widths = Mutex::new(Vec::new());
    let mut selection = Selection::default();
    selection.relays = vec![id(5)];
    Scan::builder(&network, transport)
        .destination(Destination::new("http://198.51.100.1/file").unwrap())
        .observer(|event: &Event<'_>| {
            if let Event::Estimate {
                attempt,
                estimate: Some(estimate),
                helpers,
            } = *event
            {
                let told: Vec<_> = helpers.iter().map(|(helper, _)| *helper).collect();
                assert_eq!(told, attempt.helpers);
                assert!(helpers.iter().map(|(_, bytes)| bytes).sum::<u64>() > 0);
                let width = estimate.half_width / estimate.rate;
                widths.lock().unwrap().push(width);
            }
        })
        .seed(1)
        .run(&EachOnce::new(selection), &Log::default())
        .await
        .unwrap();
    let widths = widths.into_inner().unwrap();
    // One each quarter of a second; an interval takes four batches.
    assert!(widths.len() >= 4, "{widths:?}");
    assert!(widths[0].is_infinite(), "{widths:?}");
    assert!(widths.iter().any(|width| *width < 0.05), "{widths:?}");
}

#[tokio::test(start_paused = true)]
async fn relays_at_one_address_are_measured_together_at_the_end() {
    let mut network = network(&[], 12);
    let mut snapshot = NetworkSnapshot::clone(&network.snapshot);
    for relay in &mut snapshot.relays {
        if [id(4), id(5)].contains(&relay.fingerprint) {
            relay.address = Some([192, 0, 2, 1].into());
            network.relays.get_mut(&relay.fingerprint).unwrap().0 = 400_000;
        }
    }
    network.snapshot = Arc::new(snapshot);
    network.machine.0 = vec![id(4), id(5)];
    let (report, outcomes) = run(&network, 1..=12, &CancellationToken::new()).await;
    assert_eq!(report.unwrap().measured, 12);
    let of_machine = |verdict| verdict == Verdict::LowerBound(Blame::Target);
    let parts = outcomes.iter().filter(|(.., verdict)| of_machine(*verdict));
    let parts: Vec<_> = parts
        .map(|(outcome, settled, _)| match outcome {
            Outcome::Measured(one) if !settled => one,
            _ => panic!("{outcome:?}"),
        })
        .collect();
    let [one, other] = parts[..] else {
        panic!("{parts:?}");
    };
    assert!(one.attempt.started <= other.ended && other.attempt.started <= one.ended);
    assert_ne!(one.attempt.helpers, other.attempt.helpers);
    let sum: f64 = parts.iter().flat_map(|one| one.rates()).sum();
    assert!((350e3..440e3).contains(&sum), "{sum}");
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_scan() {
    let network = network(&[(4, Nature::Silent)], 12);
    let cancel = CancellationToken::new();
    let (_, first) = run(&network, 1..=12, &cancel).await;
    let (_, second) = run(&network, 1..=12, &cancel).await;
    assert_eq!(first, second);
}

#[tokio::test(start_paused = true)]
async fn every_relay_gets_a_value_or_a_cause() {
    let natures = [
        (1, Nature::Refuses),
        (2, Nature::Silent),
        (5, Nature::Dries),
    ];
    let network = network(&natures, 12);
    // 200 is not in the consensus.
    let targets = (1..=12).chain([200]);
    let (report, outcomes) = run(&network, targets, &CancellationToken::new()).await;
    let report = report.unwrap();
    assert_eq!((report.measured, report.failed, report.left), (9, 4, 0));

    let failures = |number: u8| -> Vec<_> {
        let of = |outcome: &Outcome| outcome.attempt().target.fingerprint == id(number);
        let mine = outcomes.iter().filter(|(outcome, ..)| of(outcome));
        mine.map(|(outcome, settled, _)| match outcome {
            Outcome::Failed(failure) => (failure.stage, failure.kind, failure.blame, *settled),
            Outcome::Measured(_) => panic!("{number} must not be measured"),
        })
        .collect()
    };
    let tried = |times: usize, number, stage, kind, blame| {
        let failures = failures(number);
        let (last, others) = failures.split_last().unwrap();
        // More often only while nothing else had worked.
        assert!((times..times + 3).contains(&failures.len()), "{failures:?}");
        assert_eq!(*last, (stage, kind, blame, true));
        assert!(others.iter().all(|one| *one == (stage, kind, blame, false)));
    };
    tried(3, 1, Stage::Create, FailureKind::Refused, Blame::Target);
    tried(3, 2, Stage::Channel, FailureKind::Timeout, Blame::Target);
    // Circuits through it were complete: it is tried twice as often.
    tried(6, 5, Stage::Transfer, FailureKind::TooShort, Blame::Path);
    assert_eq!(
        failures(200),
        [(Stage::Path, FailureKind::UnknownRelay, Blame::Target, true)]
    );

    // A relay that failed was tried with other helpers each time.
    let mut helpers: Vec<_> = outcomes
        .iter()
        .filter(|(outcome, ..)| outcome.attempt().target.fingerprint == id(2))
        .flat_map(|(outcome, ..)| outcome.attempt().helpers.clone())
        .collect();
    helpers.sort_unstable();
    helpers.dedup();
    assert!(helpers.len() >= 3, "{helpers:?}");
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_is_down_stops_the_scan_and_settles_nobody() {
    let mut network = network(&[], 12);
    network.server_up = false;
    let (report, outcomes) = run(&network, 1..=12, &CancellationToken::new()).await;
    let error = report.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Destination);
    assert!(error.to_string().contains("198.51.100.1"), "{error}");
    assert!((10..30).contains(&outcomes.len()), "{}", outcomes.len());
    for (outcome, settled, verdict) in outcomes {
        assert_eq!(verdict, Verdict::Excused(Blame::Destination));
        let Outcome::Failed(failure) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(
            (failure.stage, failure.blame),
            (Stage::Begin, Blame::Destination)
        );
        assert!(!settled);
    }
}

#[tokio::test(start_paused = true)]
async fn an_exit_that_blames_the_destination_holds_nobody_up() {
    let network = network(&[(3, Nature::Spoils)], 12);
    let cancel = CancellationToken::new();
    let (report, _) = run(&network, 1..=12, &cancel).await;
    let report = report.unwrap();
    assert_eq!((report.measured, report.failed), (11, 1));
    // Also when it is all that an interrupted scan has left.
    let (report, outcomes) = run(&network, [3], &cancel).await;
    assert_eq!(report.unwrap().failed, 1);
    assert!(outcomes.len() >= 3 && outcomes.last().unwrap().1, "settled");
}

#[tokio::test(start_paused = true)]
async fn many_dead_relays_in_a_row_do_not_stop_a_scan() {
    let dead: Vec<_> = (1..=20).map(|number| (number, Nature::Silent)).collect();
    let network = network(&dead, 40);
    let cancel = CancellationToken::new();
    let (report, _) = run(&network, 1..=40, &cancel).await;
    let report = report.unwrap();
    // Half of the helpers are dead too: no relay is charged with that.
    assert_eq!((report.measured, report.failed), (20, 20));
    // Also when they are all that an interrupted scan has left.
    let (report, outcomes) = run(&network, 1..=20, &cancel).await;
    assert_eq!(report.unwrap().failed, 20);
    // Relays measured only to see whether anything works are not recorded.
    let recorded = |(outcome, ..): &Logged| matches!(outcome, Outcome::Measured(_));
    assert!(!outcomes.iter().any(recorded));
}

#[tokio::test(start_paused = true)]
async fn a_network_that_goes_away_stops_the_scan_and_settles_nobody() {
    let dead: Vec<_> = (1..=30).map(|number| (number, Nature::Silent)).collect();
    let network = network(&dead, 30);
    let (report, outcomes) = run(&network, 1..=30, &CancellationToken::new()).await;
    assert_eq!(report.unwrap_err().kind(), ErrorKind::Directory);
    assert!((10..50).contains(&outcomes.len()), "{}", outcomes.len());
    for (_, settled, verdict) in outcomes {
        assert!(!settled);
        assert_eq!(verdict, Verdict::Excused(Blame::Scanner));
    }
}

#[tokio::test(start_paused = true)]
async fn cancelling_loses_only_the_transfer_in_flight() {
    let network = network(&[], 12);
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    tokio::spawn(async move {
        sleep(Duration::from_secs(6)).await;
        stop.cancel();
    });
    let (report, outcomes) = run(&network, 1..=12, &cancel).await;
    let report = report.unwrap();
    assert!(report.measured > 0 && report.left > 0, "{report:?}");
    assert_eq!(report.measured + report.left, 12);
    let settled = outcomes.iter().filter(|(_, settled, _)| *settled);
    assert_eq!(settled.count(), report.measured);
}
