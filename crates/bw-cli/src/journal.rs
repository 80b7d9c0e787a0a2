//! The journal of a scanner's rounds: its store.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bw_file::{BytesPerSecond, Fingerprint};
use bw_measure::{Interrupted, Journal, Known};
use bw_results::{
    NetworkSnapshot, Outcome, OutcomeId, Scan, ScanId, ScanParameters, UnixMillis, Verdict,
};
use bw_store::{Error, Filter, RelayHistory, Result, Store, StoreWriter};

/// A [`Journal`] on disk, which a thread of its own writes.
#[derive(Debug)]
pub(crate) struct StoreJournal {
    writer: StoreWriter,
    scanner: String,
}

impl StoreJournal {
    /// Keeps what `scanner` does.
    pub(crate) const fn new(writer: StoreWriter, scanner: String) -> Self {
        Self { writer, scanner }
    }
}

impl Journal for StoreJournal {
    type Id = OutcomeId;
    type Error = Error;

    fn known(&self, since: UnixMillis) -> Result<BTreeMap<Fingerprint, Known>> {
        let history = self.writer.call(move |store| store.last_outcomes(since))?;
        let known = history.into_iter();
        Ok(known.map(|(relay, of)| (relay, known_of(&of))).collect())
    }

    fn spent(&self, since: UnixMillis) -> Result<u64> {
        self.writer.call(move |store| {
            let mut bytes: u64 = 0;
            let _ = store.for_each_summary(&Filter::all().since(since), |stored| {
                bytes = bytes.saturating_add(stored.value.bytes);
                ControlFlow::<()>::Continue(())
            })?;
            Ok(bytes)
        })
    }

    fn interrupted(
        &self,
        scanner: &str,
        parameters: &ScanParameters,
        now: UnixMillis,
    ) -> Result<Option<Interrupted<OutcomeId>>> {
        let (scanner, parameters) = (scanner.to_owned(), parameters.clone());
        self.writer.call(move |store| {
            let mut newest = None;
            for scan in store.unfinished_scans(&scanner, &parameters)? {
                if store.pending_targets(&scan.id)?.is_empty() {
                    // Interrupted after its last outcome.
                    store.finish_scan(&scan.id, now)?;
                } else if newest.is_some() {
                    store.abandon_scan(&scan.id, now)?;
                } else {
                    newest = Some(scan.id);
                }
            }
            newest.map(|scan| interrupted(store, scan)).transpose()
        })
    }

    fn begin(
        &self,
        scan: &Scan,
        relays: &[Fingerprint],
        network: &NetworkSnapshot,
        abandon: bool,
    ) -> Result<()> {
        let (scan, relays, network) = (scan.clone(), relays.to_vec(), network.clone());
        self.writer.submit(move |store| {
            let snapshot = store.put_snapshot(&network)?;
            if abandon {
                for other in store.unfinished_scans(&scan.scanner, &scan.parameters)? {
                    store.abandon_scan(&other.id, scan.started)?;
                }
            }
            // The last one, as what was begun cannot be begun again.
            store.begin_scan(&scan, &relays, snapshot)
        })
    }

    fn join(&self, scan: ScanId, relays: &[Fingerprint]) -> Result<()> {
        let relays = relays.to_vec();
        self.writer
            .submit(move |store| store.add_targets(&scan, &relays))
    }

    fn network(&self, rounds: &[ScanId], network: &NetworkSnapshot) -> Result<()> {
        let (rounds, network) = (rounds.to_vec(), network.clone());
        self.writer.submit(move |store| {
            let id = store.put_snapshot(&network)?;
            let mut rounds = rounds.iter();
            rounds.try_for_each(|scan| store.link_snapshot(scan, id))
        })
    }

    fn record(
        &self,
        scan: ScanId,
        record: &Outcome,
        verdict: Verdict,
        settled: bool,
    ) -> Result<OutcomeId> {
        let id = OutcomeId::new(&self.scanner, record);
        let record = record.clone();
        self.writer
            .submit(move |store| store.record(&scan, &record, &verdict, settled).map(drop))?;
        Ok(id)
    }

    fn revise(&self, record: &OutcomeId, verdict: Verdict) -> Result<()> {
        let id = *record;
        self.writer
            .submit(move |store| store.set_verdict(id, &verdict).map(drop))
    }

    fn finish(&self, scan: ScanId, at: UnixMillis) -> Result<()> {
        self.writer
            .submit(move |store| store.finish_scan(&scan, at))
    }

    fn flush(&self) -> Result<()> {
        self.writer.flush()
    }
}

/// The store's knowledge of a relay. One that is only known to be faster than something was
/// measured too.
fn known_of(history: &RelayHistory) -> Known {
    let bounded = history.lower_bound.map(|_| history.last_attempt);
    let rate = history.rate.into_iter().chain(history.lower_bound);
    Known {
        last_measured: history.last_measured.max(bounded),
        rate: rate
            .max_by(f64::total_cmp)
            .map(|rate| BytesPerSecond::new(rate.round() as u64)),
    }
}

/// The round `scan`, with what it has left.
fn interrupted(store: &Store, scan: ScanId) -> Result<Interrupted<OutcomeId>> {
    let mut pending = BTreeMap::new();
    for relay in store.pending_targets(&scan)? {
        let records = store.records_of(&scan, &relay)?.into_iter();
        let records = records.filter_map(|record| match record.outcome {
            Outcome::Measured(measurement) => Some((record.id, measurement, record.verdict)),
            Outcome::Failed(_) => None,
        });
        pending.insert(relay, records.collect());
    }
    let scans = store.scans()?;
    let summary = scans.iter().find(|one| one.scan.id == scan);
    let count = |count| usize::try_from(count).unwrap_or(usize::MAX);
    Ok(Interrupted {
        scan,
        targets: store.targets(&scan)?.into_iter().collect(),
        pending,
        measured: summary.map_or(0, |summary| count(summary.measured)),
        failed: summary.map_or(0, |summary| count(summary.failed)),
        bytes: summary.map_or(0, |summary| summary.bytes),
    })
}
