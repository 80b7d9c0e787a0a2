//! Rounds that are killed, resumed, and follow each other while the network changes.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::sync::Mutex;
use std::time::Duration;

use bw_file::{BytesPerSecond, Fingerprint};
use bw_measure::{
    Change, Error, ErrorKind, Event, Limits, Placement, RoundOptions, Rounds, RoundsError, Scan,
};
use bw_results::{Blame, Outcome, Position, ScanId, ScanParameters, Verdict};
use bw_sim::{JournalRecord, MemoryJournal, Model, Outage, Population, Relay, Server};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{destination, network};

/// The options of the process with this number.
fn options(process: u64, interval: Option<Duration>) -> RoundOptions {
    let destinations = vec![destination(1).to_string()];
    let mut options = RoundOptions::new("test", ScanParameters::new(destinations));
    (options.interval, options.seed) = (interval, Some(process));
    options
}

fn scan(model: &Model, placement: Placement) -> Scan<Model, Model> {
    let mut limits = Limits::default();
    limits.placement = placement;
    let mut scan = Scan::builder(model.clone(), model.clone()).limits(limits);
    for server in model.servers() {
        scan = scan.destination(server.destination.clone());
    }
    scan
}

/// Runs rounds until `time` is over, as a process would that is killed then: what runs is
/// dropped, and nobody is told. Returns whether they ended before, and what was said.
async fn run_for(
    model: &Model,
    placement: Placement,
    mut options: RoundOptions,
    journal: &MemoryJournal,
    time: Duration,
) -> (bool, Vec<String>) {
    options.clock = model.clock();
    let rounds = Rounds::new(journal.clone(), options);
    let said = Mutex::new(Vec::new());
    let observer = |event: &Event<'_>| {
        bw_measure::Observer::observe(model, event);
        match event {
            Event::Changed(change) => said.lock().unwrap().push(format!("{change:?}")),
            Event::Resumed(report) => said.lock().unwrap().push(format!("resumed {report:?}")),
            Event::Waiting { reason, .. } => said.lock().unwrap().push(format!("waiting {reason}")),
            _ => {}
        }
    };
    let cancel = CancellationToken::new();
    let running = rounds.run(|| ready(Ok(scan(model, placement))), &observer, &cancel);
    let ended = tokio::time::timeout(time, running).await;
    if let Ok(result) = &ended {
        result.as_ref().unwrap();
    }
    (ended.is_ok(), said.into_inner().unwrap())
}

/// Lets one process after the other live for some seconds, until a round is done.
async fn kill_until_done(model: &Model, placement: Placement, journal: &MemoryJournal) {
    let life = Duration::from_secs(12);
    for process in 0..100 {
        let options = options(process, None);
        if run_for(model, placement, options, journal, life).await.0 {
            assert!(process >= 3, "only {process} were killed");
            return;
        }
    }
    panic!("no end");
}

fn settled(records: &[JournalRecord], scan: ScanId) -> BTreeMap<Fingerprint, usize> {
    let mut times = BTreeMap::new();
    for record in records.iter().filter(|one| one.scan == scan && one.settled) {
        let relay = record.outcome.attempt().target.fingerprint;
        *times.entry(relay).or_default() += 1;
    }
    times
}

#[tokio::test(start_paused = true)]
async fn a_round_that_is_killed_again_and_again_measures_each_relay_once() {
    let model = network(&Population::public_network(60), 1).build();
    let journal = MemoryJournal::default();
    kill_until_done(&model, Placement::Natural, &journal).await;
    let (rounds, records) = (journal.rounds(), journal.records());
    assert_eq!(rounds.len(), 1);
    assert!(rounds[0].scan.ended.is_some() && rounds[0].pending.is_empty());
    let times = settled(&records, rounds[0].scan.id);
    assert_eq!(times.len(), 60);
    assert!(times.values().all(|&times| times == 1), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn both_positions_of_each_exit_are_measured_although_the_scan_is_killed() {
    let model = network(&Population::public_network(60), 1).build();
    let journal = MemoryJournal::default();
    kill_until_done(&model, Placement::Both, &journal).await;
    let rounds = journal.rounds();
    assert_eq!(rounds.len(), 1);
    let mut positions: BTreeMap<Fingerprint, Vec<Position>> = BTreeMap::new();
    for record in journal.records() {
        if matches!(record.verdict, Verdict::Accepted | Verdict::LowerBound(_)) {
            let attempt = record.outcome.attempt();
            let of = positions.entry(attempt.target.fingerprint).or_default();
            of.push(attempt.position);
        }
    }
    for relay in model.relays() {
        let measured = &positions[&relay.facts.fingerprint];
        let expected: &[Position] = if relay.facts.flags.exit {
            &[Position::Exit, Position::Entry]
        } else {
            &[Position::Entry]
        };
        assert_eq!(measured, expected, "{relay:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn rounds_follow_each_other_while_relays_come_and_go_and_processes_are_killed() {
    let mut relays = Population::public_network(60).generate(&mut StdRng::seed_from_u64(1));
    for (number, relay) in relays.iter_mut().enumerate() {
        match number % 10 {
            0 => relay.leaves = Some(Duration::from_secs(60 + 10 * number as u64)),
            1 => relay.joins = Duration::from_secs(60 + 10 * number as u64),
            _ => {}
        }
    }
    let model = Model::builder()
        .relays(relays)
        .server(Server::new(destination(1)))
        .consensus_interval(Duration::from_secs(60))
        .build();
    let journal = MemoryJournal::default();
    let interval = Some(Duration::from_secs(300));
    let starting_at = model.clock().now();
    for (process, life) in (0..).zip([200, 250, 350, 1000]) {
        let (options, life) = (options(process, interval), Duration::from_secs(life));
        let (ended, _) = run_for(&model, Placement::Natural, options, &journal, life).await;
        assert!(!ended, "rounds have no end");
    }
    let (rounds, records) = (journal.rounds(), journal.records());
    assert!((5..=8).contains(&rounds.len()), "{}", rounds.len());
    for round in &rounds[..rounds.len() - 1] {
        assert!(round.scan.ended.is_some() && !round.abandoned, "{round:?}");
        let times = settled(&records, round.scan.id);
        assert_eq!(
            times.keys().copied().collect::<BTreeSet<_>>(),
            round.targets
        );
        assert!(times.values().all(|&times| times == 1), "{times:?}");
    }
    // Relays that joined are of a later round, or of the one in which they came.
    let last = &rounds[rounds.len() - 2];
    let there = |relay: &&Relay| relay.leaves.is_none();
    let there = model.relays().iter().filter(there);
    for relay in there {
        assert!(last.targets.contains(&relay.facts.fingerprint), "{relay:?}");
    }
    // The last process kept to the interval.
    let since = starting_at.after(Duration::from_secs(800));
    let starts = rounds.iter().map(|round| round.scan.started);
    let starts: Vec<_> = starts.filter(|&started| started > since).collect();
    assert!(starts.len() >= 3, "{starts:?}");
    let apart = starts.windows(2).map(|pair| pair[1].since(pair[0]));
    for apart in apart {
        assert!(apart >= Duration::from_secs(299), "{apart:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_only_destination_is_waited_out_and_charged_to_no_relay() {
    let relays = Population::public_network(200).generate(&mut StdRng::seed_from_u64(1));
    let mut server = Server::new(destination(1));
    let from = Duration::from_secs(30);
    let until = Duration::from_secs(30 + 1500);
    let silent = false;
    server.outages = vec![Outage {
        from,
        until,
        silent,
    }];
    let model = Model::builder().relays(relays).server(server).build();
    let journal = MemoryJournal::default();
    let interval = Some(Duration::from_secs(3000));
    let life = Duration::from_secs(2900);
    let (_, said) = run_for(
        &model,
        Placement::Natural,
        options(1, interval),
        &journal,
        life,
    )
    .await;
    let count = |text: &str| said.iter().filter(|line| line.contains(text)).count();
    // It was noticed, given up after the outage's limit, tried each minute, and went on.
    assert!(count("NothingWorks") >= 1, "{said:#?}");
    assert!(count("waiting") >= 5, "{said:#?}");
    assert!(count("resumed") >= 5, "{said:#?}");
    let rounds = journal.rounds();
    assert_eq!(rounds.len(), 1);
    assert!(rounds[0].scan.ended.is_some(), "{said:#?}");
    let records = journal.records();
    let failures = records.iter().filter_map(|record| match &record.outcome {
        Outcome::Failed(failure) => Some((failure, record.verdict, record.settled)),
        Outcome::Measured(_) => None,
    });
    let mut failed = 0;
    for (failure, verdict, settled) in failures {
        failed += 1;
        assert_eq!(verdict, Verdict::Excused(Blame::Destination), "{failure:?}");
        assert!(!settled);
    }
    assert!(failed >= 10, "{failed}");
    assert_eq!(settled(&records, rounds[0].scan.id).len(), 200);
}

#[tokio::test(start_paused = true)]
async fn rounds_begin_when_the_network_is_there() {
    let model = network(&Population::public_network(30), 1).build();
    let journal = MemoryJournal::default();
    let mut options = options(1, Some(Duration::from_secs(600)));
    options.clock = model.clock();
    let rounds = Rounds::new(journal.clone(), options.clone());
    let tries = Mutex::new(0);
    let connect = || {
        let mut tries = tries.lock().unwrap();
        *tries += 1;
        if *tries <= 5 {
            return ready(Err(Error::new(ErrorKind::Directory, "no network")));
        }
        ready(Ok(scan(&model, Placement::Natural)))
    };
    let waits = Mutex::new(0);
    let observer = |event: &Event<'_>| {
        if matches!(event, Event::Waiting { .. }) {
            *waits.lock().unwrap() += 1;
        }
    };
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    tokio::spawn(async move {
        sleep(Duration::from_secs(5 * 60 + 500)).await;
        stop.cancel();
    });
    rounds.run(connect, &observer, &cancel).await.unwrap();
    assert_eq!(*waits.lock().unwrap(), 5);
    assert!(journal.rounds()[0].scan.ended.is_some());

    // A single round does not wait; nor does a wrong configuration.
    options.interval = None;
    for (interval, kind) in [
        (None, ErrorKind::Directory),
        (Some(60), ErrorKind::Configuration),
    ] {
        options.interval = interval.map(Duration::from_secs);
        let rounds = Rounds::new(MemoryJournal::default(), options.clone());
        let connect = || ready(Err::<Scan<Model, Model>, _>(Error::new(kind, "no")));
        let result = rounds.run(connect, &(), &CancellationToken::new()).await;
        let Err(RoundsError::Scan(error)) = result else {
            panic!("{result:?}");
        };
        assert_eq!(error.kind(), kind);
    }
}

#[tokio::test(start_paused = true)]
async fn a_destination_of_two_that_dies_is_told_of_and_charged_to_no_relay() {
    let relays = Population::public_network(400).generate(&mut StdRng::seed_from_u64(1));
    let mut dying = Server::new(destination(2));
    let (from, until) = (Duration::from_secs(60), Duration::from_secs(240));
    let silent = false;
    dying.outages = vec![Outage {
        from,
        until,
        silent,
    }];
    let model = Model::builder()
        .relays(relays)
        .server(Server::new(destination(1)))
        .server(dying)
        .build();
    let journal = MemoryJournal::default();
    let life = Duration::from_secs(3600);
    let (ended, said) = run_for(&model, Placement::Natural, options(1, None), &journal, life).await;
    assert!(ended);
    let down = Change::DestinationDown(destination(2));
    let up = Change::DestinationUp(destination(2));
    assert_eq!(said, [format!("{down:?}"), format!("{up:?}")]);
    let charged = journal.records().into_iter().filter(|record| {
        matches!(record.outcome, Outcome::Failed(_)) && record.verdict == Verdict::Charged
    });
    assert_eq!(charged.count(), 0);
    let link = BytesPerSecond::new(12_500_000);
    assert_eq!(
        Limits::default().link,
        link,
        "the default is what is tested"
    );
}
