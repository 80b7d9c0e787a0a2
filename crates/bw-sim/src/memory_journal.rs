//! Remembering rounds without a disk.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bw_file::{BytesPerSecond, Fingerprint};
use bw_measure::{Interrupted, Journal, Known};
use bw_results::{NetworkSnapshot, Outcome, Scan, ScanId, ScanParameters, UnixMillis, Verdict};

/// A [`Journal`] in memory. Clones are the same journal, so that one outlives the
/// [`Rounds`](bw_measure::Rounds) that wrote to it.
#[derive(Clone, Debug, Default)]
pub struct MemoryJournal {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    rounds: Vec<JournalRound>,
    records: Vec<JournalRecord>,
}

/// A round in a [`MemoryJournal`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JournalRound {
    /// The round.
    pub scan: Scan,
    /// True if it was given up.
    pub abandoned: bool,
    /// The relays that it covers.
    pub targets: BTreeSet<Fingerprint>,
    /// Those of them that are not settled.
    pub pending: BTreeSet<Fingerprint>,
    /// The number of networks that it was made in.
    pub networks: usize,
}

/// A record in a [`MemoryJournal`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JournalRecord {
    /// The round that it belongs to.
    pub scan: ScanId,
    /// The record.
    pub outcome: Outcome,
    /// The verdict on it.
    pub verdict: Verdict,
    /// True if it settled its relay.
    pub settled: bool,
}

impl MemoryJournal {
    /// Returns all rounds, the oldest first.
    pub fn rounds(&self) -> Vec<JournalRound> {
        self.lock().rounds.clone()
    }

    /// Returns all records, the oldest first.
    pub fn records(&self) -> Vec<JournalRecord> {
        self.lock().records.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn round(&mut self, scan: ScanId) -> Option<&mut JournalRound> {
        self.rounds.iter_mut().find(|round| round.scan.id == scan)
    }

    fn interrupted(&self, scan: ScanId) -> Option<Interrupted<usize>> {
        let round = self.rounds.iter().find(|round| round.scan.id == scan)?;
        let records = self.records.iter().enumerate();
        let records: Vec<_> = records.filter(|(_, one)| one.scan == scan).collect();
        let of = |relay: &Fingerprint| {
            let mine = records.iter();
            let mine = mine.filter_map(|(id, record)| match &record.outcome {
                Outcome::Measured(one) if one.attempt.target.fingerprint == *relay => {
                    Some((*id, one.clone(), record.verdict))
                }
                _ => None,
            });
            (*relay, mine.collect())
        };
        let settled = records.iter().filter(|(_, record)| record.settled);
        let settled = settled.map(|(_, record)| matches!(record.outcome, Outcome::Measured(_)));
        let (measured, failed): (Vec<bool>, Vec<bool>) = settled.partition(|&measured| measured);
        Some(Interrupted {
            scan,
            targets: round.targets.clone(),
            pending: round.pending.iter().map(of).collect(),
            measured: measured.len(),
            failed: failed.len(),
            bytes: records
                .iter()
                .map(|(_, record)| record.outcome.bytes())
                .sum(),
        })
    }
}

impl Journal for MemoryJournal {
    type Id = usize;
    type Error = Infallible;

    fn known(&self, since: UnixMillis) -> Result<BTreeMap<Fingerprint, Known>, Infallible> {
        let mut known = BTreeMap::new();
        for record in &self.lock().records {
            let Outcome::Measured(measurement) = &record.outcome else {
                continue;
            };
            if record.verdict.gives_rate() && measurement.ended >= since {
                let rate = measurement.rates().next();
                let entry = Known {
                    last_measured: Some(measurement.ended),
                    rate: rate.map(|rate| BytesPerSecond::new(rate.round() as u64)),
                };
                known.insert(measurement.attempt.target.fingerprint, entry);
            }
        }
        Ok(known)
    }

    fn spent(&self, since: UnixMillis) -> Result<u64, Infallible> {
        let state = self.lock();
        let records = state.records.iter();
        let newer = records.filter(|record| record.outcome.ended() >= since);
        Ok(newer.map(|record| record.outcome.bytes()).sum())
    }

    fn interrupted(
        &self,
        scanner: &str,
        parameters: &ScanParameters,
        _: UnixMillis,
    ) -> Result<Option<Interrupted<usize>>, Infallible> {
        let mut state = self.lock();
        let mut newest = None;
        for round in state.rounds.iter_mut().rev() {
            let scan = &round.scan;
            let open = scan.ended.is_none() && !round.abandoned && !round.pending.is_empty();
            if open && scan.scanner == scanner && scan.parameters == *parameters {
                round.abandoned = newest.is_some();
                newest = newest.or(Some(scan.id));
            }
        }
        Ok(newest.and_then(|scan| state.interrupted(scan)))
    }

    fn begin(
        &self,
        scan: &Scan,
        relays: &[Fingerprint],
        _: &NetworkSnapshot,
        abandon: bool,
    ) -> Result<(), Infallible> {
        let mut state = self.lock();
        for round in &mut state.rounds {
            round.abandoned |= abandon && round.scan.ended.is_none();
        }
        state.rounds.push(JournalRound {
            scan: scan.clone(),
            abandoned: false,
            targets: relays.iter().copied().collect(),
            pending: relays.iter().copied().collect(),
            networks: 1,
        });
        Ok(())
    }

    fn join(&self, scan: ScanId, relays: &[Fingerprint]) -> Result<(), Infallible> {
        if let Some(round) = self.lock().round(scan) {
            round.targets.extend(relays);
            round.pending.extend(relays);
        }
        Ok(())
    }

    fn network(&self, rounds: &[ScanId], _: &NetworkSnapshot) -> Result<(), Infallible> {
        let mut state = self.lock();
        for scan in rounds {
            if let Some(round) = state.round(*scan) {
                round.networks += 1;
            }
        }
        Ok(())
    }

    fn record(
        &self,
        scan: ScanId,
        record: &Outcome,
        verdict: Verdict,
        settled: bool,
    ) -> Result<usize, Infallible> {
        let mut state = self.lock();
        if let Some(round) = state.round(scan).filter(|_| settled) {
            round.pending.remove(&record.attempt().target.fingerprint);
        }
        state.records.push(JournalRecord {
            scan,
            outcome: record.clone(),
            verdict,
            settled,
        });
        Ok(state.records.len() - 1)
    }

    fn revise(&self, record: &usize, verdict: Verdict) -> Result<(), Infallible> {
        if let Some(record) = self.lock().records.get_mut(*record) {
            record.verdict = verdict;
        }
        Ok(())
    }

    fn finish(&self, scan: ScanId, at: UnixMillis) -> Result<(), Infallible> {
        if let Some(round) = self.lock().round(scan) {
            round.scan.ended = Some(at);
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), Infallible> {
        Ok(())
    }
}
