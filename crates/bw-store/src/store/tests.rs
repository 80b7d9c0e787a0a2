use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::testing::{failed, fingerprint, keep, measured, scan, snapshot};
use crate::{ErrorKind, Filter};
use bw_results::{Blame, OutcomeSummary, Remeasure, SummaryResult};

fn new_store() -> (TempDir, Store) {
    let directory = TempDir::new().unwrap();
    let store = Store::open(directory.path().join("store.db")).unwrap();
    (directory, store)
}

/// A store with one scan of relays 1 to `targets`.
fn store_with_scan(targets: u64) -> (TempDir, Store, ScanId) {
    let (directory, mut store) = new_store();
    let scan = scan(1, 1_000);
    let targets: Vec<_> = (1..=targets).map(fingerprint).collect();
    let network = store.put_snapshot(&snapshot(5, 0)).unwrap();
    store.begin_scan(&scan, &targets, network).unwrap();
    (directory, store, scan.id)
}

fn outcomes(store: &Store, filter: &Filter) -> Vec<Outcome> {
    let mut found = Vec::new();
    let end = store.for_each_outcome(filter, |stored| {
        found.push(stored.value);
        ControlFlow::<()>::Continue(())
    });
    assert_eq!(end.unwrap(), ControlFlow::Continue(()));
    found
}

#[test]
fn a_store_can_be_sent_to_another_thread() {
    fn check<T: Send>() {}
    check::<Store>();
}

#[test]
fn a_scan_from_begin_to_end() {
    let (_directory, mut store, id) = store_with_scan(3);
    assert_eq!(store.pending_targets(&id).unwrap().len(), 3);

    assert!(keep(&mut store, &id, &measured(1, 2_000)).unwrap());
    assert!(
        !keep(&mut store, &id, &measured(1, 2_000)).unwrap(),
        "twice"
    );
    assert!(keep(&mut store, &id, &failed(2, 3_000)).unwrap());
    assert_eq!(
        store.pending_targets(&id).unwrap().len(),
        2,
        "to be retried"
    );
    let refused = store.finish_scan(&id, UnixMillis::new(9_000)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(store.latest_completed_scans(5).unwrap().is_empty());

    assert!(keep(&mut store, &id, &measured(2, 20_000)).unwrap());
    assert!(keep(&mut store, &id, &failed(3, 30_000)).unwrap());
    store.settle(&id, &fingerprint(3)).unwrap();
    store.settle(&id, &fingerprint(1)).unwrap();
    assert!(store.pending_targets(&id).unwrap().is_empty());
    store.finish_scan(&id, UnixMillis::new(99_000)).unwrap();

    let summaries = store.scans().unwrap();
    let [summary] = summaries.as_slice() else {
        panic!("one scan, not {summaries:?}")
    };
    assert_eq!(
        (
            summary.targets,
            summary.measured,
            summary.failed,
            summary.pending
        ),
        (3, 2, 1, 0)
    );
    assert_eq!(summary.outcomes, 4);
    assert_eq!(summary.last_outcome, Some(UnixMillis::new(40_000)));
    assert_eq!(summary.scan.ended, Some(UnixMillis::new(99_000)));
    assert_eq!(
        store.latest_completed_scans(5).unwrap(),
        std::slice::from_ref(&summary.scan)
    );
    assert_eq!(store.scan(&id).unwrap(), summary.scan);
    assert_eq!(store.snapshots_of(&id).unwrap().len(), 1);
}

#[test]
fn unfinished_scans_are_found_by_their_parameters() {
    let (_directory, mut store, first) = store_with_scan(2);
    let parameters = scan(1, 0).parameters;
    let newer = scan(2, 5_000);
    let network = store.latest_snapshot().unwrap().unwrap().0;
    store.begin_scan(&newer, &[], network).unwrap();
    let find = |store: &Store| {
        let found = store.unfinished_scans("test", &parameters).unwrap();
        found.first().map(|scan| scan.id)
    };
    assert_eq!(find(&store), Some(newer.id), "the newest");
    store
        .abandon_scan(&newer.id, UnixMillis::new(6_000))
        .unwrap();
    assert_eq!(find(&store), Some(first));
    assert_eq!(store.unfinished_scans("other", &parameters).unwrap(), []);
    let mut different = parameters.clone();
    different.partitions = 2;
    assert_eq!(store.unfinished_scans("test", &different).unwrap(), []);
    for target in [1, 2] {
        store.settle(&first, &fingerprint(target)).unwrap();
    }
    store.finish_scan(&first, UnixMillis::new(7_000)).unwrap();
    assert_eq!(find(&store), None);
    let completed = store.latest_completed_scans(9).unwrap();
    assert_eq!(completed.len(), 1, "an abandoned scan is not completed");
}

#[test]
fn what_is_not_there_is_an_error() {
    let (_directory, mut store, id) = store_with_scan(1);
    let unknown = ScanId::from_bytes([9; 16]);
    let at = UnixMillis::new(1);
    let network = store.latest_snapshot().unwrap().unwrap().0;
    for error in [
        keep(&mut store, &unknown, &measured(1, 1)).unwrap_err(),
        store.settle(&unknown, &fingerprint(1)).unwrap_err(),
        store.finish_scan(&unknown, at).unwrap_err(),
        store.abandon_scan(&unknown, at).unwrap_err(),
        store.pending_targets(&unknown).unwrap_err(),
        store.link_snapshot(&unknown, network).unwrap_err(),
        store.scan(&unknown).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unknown, "{error}");
    }
    let again = store.begin_scan(&scan(1, 1), &[], network).unwrap_err();
    assert!(matches!(again, Error::ScanExists { scan } if scan == id));
}

#[test]
fn relays_that_were_no_targets_become_such() {
    let (_directory, mut store, id) = store_with_scan(1);
    keep(&mut store, &id, &measured(7, 1_000)).unwrap();
    keep(&mut store, &id, &failed(8, 1_000)).unwrap();
    store.settle(&id, &fingerprint(8)).unwrap();
    let summary = store.scans().unwrap().remove(0);
    assert_eq!(
        (summary.targets, summary.measured, summary.failed),
        (3, 1, 1)
    );
    assert_eq!(store.pending_targets(&id).unwrap(), [fingerprint(1)]);
}

#[test]
fn outcomes_are_read_as_recorded() {
    let (_directory, mut store, id) = store_with_scan(4);
    let mut several = measured(3, 5_000);
    if let Outcome::Measured(measurement) = &mut several {
        let transfer = measurement.transfers[0].clone();
        measurement.transfers.extend([transfer.clone(), transfer]);
        measurement.transfers[1].slices[7].bytes += 999;
    }
    let mut none = measured(4, 6_000);
    if let Outcome::Measured(measurement) = &mut none {
        measurement.transfers.clear();
        measurement.attempt.target = bw_results::TargetFacts::new(fingerprint(4));
    }
    let recorded = [measured(1, 3_000), failed(2, 2_000), several, none];
    for outcome in &recorded {
        keep(&mut store, &id, outcome).unwrap();
    }
    assert_eq!(outcomes(&store, &Filter::all()), recorded);

    let mut summaries = Vec::new();
    let end = store.for_each_summary(&Filter::all(), |stored| {
        assert_eq!((stored.scan, stored.scanner), (id, "test"));
        summaries.push((stored.id, stored.value));
        ControlFlow::<()>::Continue(())
    });
    assert!(end.unwrap().is_continue());
    let expected: Vec<_> = recorded
        .iter()
        .map(|outcome| {
            (
                OutcomeId::new("test", outcome),
                OutcomeSummary::from(outcome),
            )
        })
        .collect();
    assert_eq!(summaries, expected);
}

#[test]
fn being_settled_and_being_measured_are_two_things() {
    let (_directory, mut store, id) = store_with_scan(3);
    let counts = |store: &Store| {
        let summary = store.scans().unwrap().remove(0);
        (summary.pending, summary.measured, summary.failed)
    };
    // Both positions of relay 1: one half is recorded, and the scan is killed.
    let halves = [measured(1, 1_000), measured(1, 9_000)];
    store
        .record(&id, &halves[0], &Verdict::Accepted, false)
        .unwrap();
    assert_eq!(counts(&store), (3, 0, 0));
    assert_eq!(store.pending_targets(&id).unwrap().len(), 3);
    let records = store.records_of(&id, &fingerprint(1)).unwrap();
    let [record] = records.as_slice() else {
        panic!("{records:?}")
    };
    assert_eq!(
        (&record.outcome, record.verdict),
        (&halves[0], Verdict::Accepted)
    );
    store
        .record(&id, &halves[1], &Verdict::Accepted, true)
        .unwrap();
    assert_eq!(counts(&store), (2, 1, 0));

    // A relay that is settled by a failure keeps what was measured before.
    store
        .record(
            &id,
            &measured(2, 1_000),
            &Verdict::LowerBound(Blame::Scanner),
            false,
        )
        .unwrap();
    store
        .record(&id, &failed(2, 9_000), &Verdict::Charged, true)
        .unwrap();
    assert_eq!(counts(&store), (1, 2, 0));

    // One that was only throttled is settled without a rate.
    let throttled = measured(3, 1_000);
    let verdict = Verdict::Remeasure(Remeasure::Throttled);
    store.record(&id, &throttled, &verdict, true).unwrap();
    assert_eq!(counts(&store), (0, 2, 1));
    let verdicts = store.scans().unwrap()[0].verdicts;
    assert_eq!((verdicts.accepted, verdicts.lower_bound), (2, 1));
    assert_eq!(
        (verdicts.remeasure, verdicts.charged, verdicts.excused),
        (1, 1, 0)
    );
    store.finish_scan(&id, UnixMillis::new(99_000)).unwrap();
}

#[test]
fn a_verdict_changes_and_the_record_stays() {
    let (_directory, mut store, id) = store_with_scan(2);
    let outcome = measured(1, 1_000);
    let again = Verdict::Remeasure(Remeasure::Disputed);
    store.record(&id, &outcome, &again, false).unwrap();
    let target = fingerprint(1);
    let before = store.records_of(&id, &target).unwrap().remove(0);
    assert_eq!(before.verdict, again);
    assert!(store.set_verdict(before.id, &Verdict::Accepted).unwrap());
    let after = store.records_of(&id, &target).unwrap().remove(0);
    assert_eq!(after.verdict, Verdict::Accepted);
    assert_eq!((after.id, after.outcome), (before.id, outcome));
    assert_eq!(
        store.pending_targets(&id).unwrap().len(),
        2,
        "settled alone says done"
    );
    store.settle(&id, &target).unwrap();
    assert_eq!(store.scans().unwrap()[0].measured, 1);
    let superseded = Verdict::Remeasure(Remeasure::Superseded);
    store.set_verdict(after.id, &superseded).unwrap();
    let summary = store.scans().unwrap().remove(0);
    assert_eq!(
        (summary.measured, summary.failed, summary.pending),
        (0, 1, 1)
    );
    let unknown = OutcomeId::from_bytes([0; 16]);
    assert!(!store.set_verdict(unknown, &superseded).unwrap());
}

#[test]
fn history_uses_accepted_records_and_charged_failures() {
    let (_directory, mut store, id) = store_with_scan(3);
    let rate = |outcome: &Outcome| match outcome {
        Outcome::Measured(measurement) => measurement.rates().next(),
        Outcome::Failed(_) => None,
    };
    let accepted = measured(1, 1_000);
    let bound = measured(1, 20_000);
    for (outcome, verdict) in [
        (&measured(1, 500), Verdict::LowerBound(Blame::Scanner)),
        (&accepted, Verdict::Accepted),
        (
            &measured(1, 10_000),
            Verdict::Remeasure(Remeasure::HelperBound),
        ),
        (&bound, Verdict::LowerBound(Blame::Scanner)),
        (&failed(1, 30_000), Verdict::Charged),
        (&failed(1, 50_000), Verdict::Excused(Blame::Destination)),
    ] {
        store.record(&id, outcome, &verdict, false).unwrap();
    }
    let history = store.last_outcomes(UnixMillis::new(0)).unwrap()[&fingerprint(1)];
    assert_eq!(history.last_attempt, UnixMillis::new(60_000));
    assert_eq!(history.last_measured, Some(accepted.ended()));
    assert_eq!(history.rate, rate(&accepted));
    assert_eq!(history.lower_bound, rate(&bound));
    assert_eq!(history.failures_since, 1);
}

#[test]
fn filters_select() {
    let (_directory, mut store, id) = store_with_scan(4);
    let second = scan(2, 0);
    let network = store.latest_snapshot().unwrap().unwrap().0;
    store.begin_scan(&second, &[], network).unwrap();
    for number in 1..=4 {
        // Ends 4,000 later.
        keep(&mut store, &id, &measured(number, number * 1_000)).unwrap();
    }
    keep(&mut store, &second.id, &measured(1, 9_000)).unwrap();
    let count = |filter: Filter| outcomes(&store, &filter).len();
    assert_eq!(count(Filter::all()), 5);
    assert_eq!(count(Filter::all().scans([id])), 4);
    assert_eq!(count(Filter::all().scans([])), 0);
    assert_eq!(count(Filter::all().scans([id, second.id])), 5);
    assert_eq!(count(Filter::all().relay(fingerprint(1))), 2);
    assert_eq!(count(Filter::all().relay(fingerprint(99))), 0);
    let window = Filter::all()
        .since(UnixMillis::new(6_000))
        .until(UnixMillis::new(8_000));
    assert_eq!(count(window), 2);
    let stopped = store.for_each_summary(&Filter::all(), |stored| ControlFlow::Break(stored.id));
    assert!(matches!(stopped, Ok(ControlFlow::Break(_))));
}

#[test]
fn history_tells_the_last_attempt_and_the_last_rate() {
    let (_directory, mut store, id) = store_with_scan(3);
    for outcome in [
        measured(1, 1_000),
        measured(1, 50_000),
        failed(1, 60_000),
        failed(1, 80_000),
        failed(2, 10_000),
    ] {
        keep(&mut store, &id, &outcome).unwrap();
    }
    let history = store.last_outcomes(UnixMillis::new(0)).unwrap();
    assert_eq!(history.len(), 2);
    let first = history[&fingerprint(1)];
    assert_eq!(first.last_attempt, UnixMillis::new(90_000));
    assert_eq!(first.last_measured, Some(UnixMillis::new(54_000)));
    assert_eq!(first.failures_since, 2);
    let Outcome::Measured(measurement) = measured(1, 50_000) else {
        unreachable!()
    };
    assert_eq!(first.rate, measurement.rates().next());
    let second = history[&fingerprint(2)];
    assert_eq!((second.last_measured, second.rate), (None, None));
    assert_eq!(second.failures_since, 1);
    let recent = store.last_outcomes(UnixMillis::new(60_000)).unwrap();
    assert_eq!(recent[&fingerprint(1)].last_measured, None);
}

/// Returns whether this process is the one that [`child`] started for `role`.
fn is_child(role: &str) -> Option<PathBuf> {
    (std::env::var("BW_RESULTS_ROLE").ok()? == role)
        .then(|| std::env::var_os("BW_RESULTS_STORE").map(Into::into))?
}

/// This test binary again, running only `test`, which is to see `role`.
fn child(test: &str, role: &str, store: &Path) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env("BW_RESULTS_ROLE", role)
        .env("BW_RESULTS_STORE", store)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn killing_the_writer_loses_nothing_that_was_committed() {
    const THIS: &str = "store::tests::killing_the_writer_loses_nothing_that_was_committed";
    if let Some(path) = is_child("writer") {
        let mut store = Store::open(path).unwrap();
        let id = scan(1, 1_000).id;
        for number in 1.. {
            keep(&mut store, &id, &measured(number % 50, number)).unwrap();
            println!("committed {number}");
        }
    }
    let (_directory, mut store, id) = store_with_scan(50);
    let mut least = 0;
    for lines in [1, 40, 200] {
        let mut writer = child(THIS, "writer", store.path());
        let output = BufReader::new(writer.stdout.take().unwrap());
        let committed = output
            .lines()
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix("committed ")?.parse::<u64>().ok());
        let last = committed.take(lines).last().unwrap();
        writer.kill().unwrap();
        writer.wait().unwrap();
        least = least.max(last);

        let found = outcomes(
            &Store::open_read_only(store.path()).unwrap(),
            &Filter::all(),
        );
        assert!(found.len() as u64 >= least, "{} < {least}", found.len());
        // Without a gap: nothing but the newest can be missing.
        for (number, outcome) in (1..).zip(&found) {
            assert_eq!(*outcome, measured(number % 50, number));
        }
        // And writing goes on.
        let more = measured(1, 1_000_000 + lines as u64);
        keep(&mut store, &id, &more).unwrap();
        store
            .write(|writer| {
                // Take it out again, so that the next child's numbers have no gap.
                writer.sql.execute_batch(
                    "DELETE FROM outcome_record WHERE id = (SELECT max(id) FROM outcome);
                     DELETE FROM outcome WHERE id = (SELECT max(id) FROM outcome);",
                )?;
                Ok(())
            })
            .unwrap();
    }
}

#[test]
fn readers_see_whole_states_while_another_process_writes() {
    const THIS: &str = "store::tests::readers_see_whole_states_while_another_process_writes";
    if let Some(path) = is_child("writer") {
        let mut store = Store::open(path).unwrap();
        let id = scan(1, 1_000).id;
        println!("ready");
        for number in 1.. {
            keep(&mut store, &id, &measured(number % 9, number)).unwrap();
        }
    }
    let (_directory, store, _) = store_with_scan(9);
    let mut writer = child(THIS, "writer", store.path());
    let mut output = BufReader::new(writer.stdout.take().unwrap()).lines();
    while !output.next().unwrap().unwrap().contains("ready") {}
    let reader = Store::open_read_only(store.path()).unwrap();
    let (mut last, mut grew) = (0, 0);
    for _ in 0..2_000 {
        let found = outcomes(&reader, &Filter::all()).len();
        assert!(found >= last);
        grew += usize::from(found > last);
        last = found;
        if grew > 20 {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(grew > 20, "the reader saw the store grow {grew} times");
    writer.kill().unwrap();
    writer.wait().unwrap();
}

#[test]
fn two_writers_take_turns() {
    let (_directory, store, id) = store_with_scan(1);
    let threads: Vec<_> = (0..2)
        .map(|thread| {
            let path = store.path().to_owned();
            std::thread::spawn(move || {
                let mut store = Store::open(path).unwrap();
                for number in 0..100 {
                    let outcome = measured(number, 1_000_000 * (thread + 1) + number);
                    assert!(keep(&mut store, &id, &outcome).unwrap());
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(outcomes(&store, &Filter::all()).len(), 200);
}

#[test]
fn a_store_that_is_being_written_cannot_be_written_through_a_reader() {
    let (_directory, store, id) = store_with_scan(1);
    let mut reader = Store::open_read_only(store.path()).unwrap();
    let error = keep(&mut reader, &id, &measured(1, 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unusable, "{error}");
}

/// Prints size and speed of a store of the public network. Run with
/// `cargo nextest run --release -p bw-results --run-ignored only --no-capture figures`.
#[test]
#[ignore = "prints figures; takes a minute"]
fn figures() {
    const RELAYS: u64 = 8_000;
    const DAYS: u64 = 28;
    let (directory, mut store) = new_store();
    let say = |what: &str, since: std::time::Instant| {
        println!("{what}: {:.3} s", since.elapsed().as_secs_f64());
    };
    let size = || {
        let files = std::fs::read_dir(directory.path()).unwrap();
        let sizes = files.map(|file| file.unwrap().metadata().unwrap().len());
        sizes.sum::<u64>() as f64 / 1e6
    };

    let start = std::time::Instant::now();
    for hour in 0..24 {
        store.put_snapshot(&snapshot(RELAYS, hour)).unwrap();
    }
    say("24 hourly snapshots put", start);
    let sizes: Vec<_> = store
        .snapshots()
        .unwrap()
        .iter()
        .map(|s| s.stored_bytes)
        .collect();
    println!("snapshot sizes {sizes:?}");
    let json = serde_json::to_vec(&snapshot(RELAYS, 0)).unwrap().len();
    println!("a snapshot's JSON {json}");
    let start = std::time::Instant::now();
    store.latest_snapshot().unwrap();
    say("latest snapshot read", start);

    let before = size();
    let network = store.latest_snapshot().unwrap().unwrap().0;
    let targets: Vec<_> = (0..RELAYS).map(fingerprint).collect();
    for day in 0..DAYS {
        let scan = scan(u8::try_from(day).unwrap(), day * 86_400_000);
        let outcomes: Vec<_> = (0..RELAYS)
            .map(|number| {
                let at = day * 86_400_000 + number * 10_000;
                match number % 20 {
                    19 => failed(number, at),
                    _ => measured(number, at),
                }
            })
            .collect();
        let start = std::time::Instant::now();
        store.begin_scan(&scan, &targets, network).unwrap();
        if day == 0 {
            say("a scan of 8,000 begun", start);
        }
        let start = std::time::Instant::now();
        for outcome in &outcomes {
            keep(&mut store, &scan.id, outcome).unwrap();
        }
        if day == 27 {
            say("8,000 outcomes recorded, each committed", start);
        }
        for target in store.pending_targets(&scan.id).unwrap() {
            store.settle(&scan.id, &target).unwrap();
        }
        store
            .finish_scan(&scan.id, UnixMillis::new((day + 1) * 86_400_000))
            .unwrap();
    }
    println!("outcomes of {DAYS} days: {:.1} MB", size() - before);
    let path = store.path().to_owned();
    drop(store);
    println!("after closing: {:.1} MB", size());

    let store = Store::open_read_only(path).unwrap();
    let (mut count, mut sum) = (0_u64, 0.0);
    let start = std::time::Instant::now();
    let end = store.for_each_summary(&Filter::all(), |stored| {
        count += 1;
        if let SummaryResult::Measured(rates) = stored.value.result {
            sum += rates.iter().sum::<f64>();
        }
        ControlFlow::<()>::Continue(())
    });
    assert!(end.unwrap().is_continue());
    say(&format!("{count} summaries read ({sum})"), start);
    let start = std::time::Instant::now();
    let mut bytes = 0;
    let end = store.for_each_outcome(&Filter::all(), |stored| {
        bytes += OutcomeSummary::from(&stored.value).bytes;
        ControlFlow::<()>::Continue(())
    });
    assert!(end.unwrap().is_continue());
    say(&format!("as many whole outcomes ({bytes})"), start);
    let one = Filter::all().relay(fingerprint(77));
    let start = std::time::Instant::now();
    assert_eq!(outcomes(&store, &one).len(), 28);
    say("the outcomes of one relay", start);
    let start = std::time::Instant::now();
    assert_eq!(store.scans().unwrap().len(), 28);
    say("the list of scans", start);
    let start = std::time::Instant::now();
    assert_eq!(
        store.last_outcomes(UnixMillis::new(0)).unwrap().len(),
        8_000
    );
    say("the history of all relays", start);
}
