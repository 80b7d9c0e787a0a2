//! The store: scans, their targets and what came of them, in one SQLite file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bw_file::Fingerprint;
use bw_results::{Outcome, OutcomeId, Scan, ScanId, ScanParameters, UnixMillis, Verdict};
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::OutcomeCodec;
use crate::columns::{SCAN_COLUMNS, optional_time, read_scan, read_time, scan_row, time, unsigned};
use crate::fault::Fault;
use crate::transaction::Transaction;
use crate::{Error, Result, SnapshotId, schema};

/// A store of scans, outcomes and network snapshots.
///
/// One file (with two companions, `-wal` and `-shm`, while it is open) that
/// any number of processes may have open: writers take turns, readers see what
/// was committed when they began and never wait. Everything is committed as it
/// is recorded, so that killing the process at any instant loses at most the
/// outcome being written.
pub struct Store {
    pub(crate) connection: Connection,
    path: PathBuf,
    codec: OutcomeCodec,
}

/// State of a target in the database.
pub(crate) const PENDING: u8 = 0;
pub(crate) const MEASURED: u8 = 1;
pub(crate) const GIVEN_UP: u8 = 2;

/// A scan and how far it is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ScanSummary {
    /// The scan.
    pub scan: Scan,
    /// The time at which it was given up, if it was.
    pub abandoned: Option<UnixMillis>,
    /// The number of relays that it covers.
    pub targets: u64,
    /// The number of relays that were measured: accepted, or as a lower bound.
    pub measured: u64,
    /// The number of relays that were given up.
    pub failed: u64,
    /// The number of relays without a final outcome.
    pub pending: u64,
    /// Outcomes, those of attempts that were repeated included.
    pub outcomes: u64,
    /// The number of outcomes with each kind of verdict.
    pub verdicts: VerdictCounts,
    /// Payload bytes of all of them.
    pub bytes: u64,
    /// End of the newest outcome.
    pub last_outcome: Option<UnixMillis>,
}

/// The number of outcomes with each kind of verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct VerdictCounts {
    /// [`Verdict::Accepted`].
    pub accepted: u64,
    /// [`Verdict::LowerBound`].
    pub lower_bound: u64,
    /// [`Verdict::Remeasure`].
    pub remeasure: u64,
    /// [`Verdict::Charged`].
    pub charged: u64,
    /// [`Verdict::Excused`].
    pub excused: u64,
}

/// The last outcomes of a relay, by which a scheduler decides what to measure next.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct RelayHistory {
    /// End of the newest outcome, measured or failed.
    pub last_attempt: UnixMillis,
    /// End of the newest accepted measurement, if there is one.
    pub last_measured: Option<UnixMillis>,
    /// Its rate, in bytes per second.
    pub rate: Option<f64>,
    /// The highest lower bound since that measurement, in bytes per second.
    pub lower_bound: Option<f64>,
    /// The number of failures since that measurement that are charged to the relay.
    pub failures_since: u64,
}

impl Store {
    /// Opens the store at `path`, making one if there is none. The directory
    /// must exist.
    ///
    /// # Errors
    /// [`Newer`](Error::Newer), [`NotAStore`](Error::NotAStore),
    /// [`Unusable`](Error::Unusable), [`Busy`](Error::Busy),
    /// [`Damaged`](Error::Damaged) and [`Io`](Error::Io).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::new(path, schema::open(path)?)
    }

    /// Opens the store at `path` for reading only; another process may be
    /// writing to it.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), and [`Missing`](Error::Missing) and
    /// [`Older`](Error::Older).
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::new(path, schema::open_read_only(path)?)
    }

    fn new(path: &Path, connection: Connection) -> Result<Self> {
        Ok(Self {
            connection,
            path: path.to_owned(),
            codec: OutcomeCodec::new()
                .map_err(|error| Error::io(path, "preparing the compression", error))?,
        })
    }

    /// The path of its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a scan of `targets` on the network of `snapshot`.
    ///
    /// # Errors
    /// [`ScanExists`](Error::ScanExists), [`UnknownSnapshot`](Error::UnknownSnapshot),
    /// or a failure of the store.
    pub fn begin_scan(
        &mut self,
        scan: &Scan,
        targets: &[Fingerprint],
        snapshot: SnapshotId,
    ) -> Result<()> {
        self.write(|writer| {
            writer.insert_scan(scan)?;
            let row = writer.scan_row(&scan.id)?;
            for target in targets {
                writer.insert_target(row, target, PENDING)?;
            }
            writer.link_snapshot(row, snapshot)
        })
    }

    /// Adds targets to a scan that runs: relays that joined the network.
    /// Those that it has already stay as they are.
    ///
    /// # Errors
    /// [`UnknownScan`](Error::UnknownScan), or a failure of the store.
    pub fn add_targets(&mut self, scan: &ScanId, targets: &[Fingerprint]) -> Result<()> {
        self.write(|writer| {
            let row = writer.scan_row(scan)?;
            for target in targets {
                writer.insert_target(row, target, PENDING)?;
            }
            Ok(())
        })
    }

    /// Notes that `scan` also used the network of `snapshot`.
    ///
    /// # Errors
    /// [`UnknownScan`](Error::UnknownScan), [`UnknownSnapshot`](Error::UnknownSnapshot),
    /// or a failure of the store.
    pub fn link_snapshot(&mut self, scan: &ScanId, snapshot: SnapshotId) -> Result<()> {
        self.write(|writer| {
            let row = writer.scan_row(scan)?;
            writer.link_snapshot(row, snapshot)
        })
    }

    /// Adds an outcome with the verdict on it; `false` if the store has it
    /// already, which then stays as it is.
    ///
    /// `settled` alone says that its target is done in this scan, as with
    /// [`settle`](Self::settle); otherwise the target stays pending, whatever
    /// was measured. A relay that is not among the scan's targets becomes one.
    ///
    /// # Errors
    /// [`UnknownScan`](Error::UnknownScan), or a failure of the store.
    pub fn record(
        &mut self,
        scan: &ScanId,
        outcome: &Outcome,
        verdict: &Verdict,
        settled: bool,
    ) -> Result<bool> {
        self.write(|writer| {
            let row = writer.scan_row(scan)?;
            let target = &outcome.attempt().target.fingerprint;
            writer.insert_target(row, target, PENDING)?;
            let added = writer.insert_outcome(scan, outcome, *verdict)?;
            if settled {
                writer.settle(row, target)?;
            }
            Ok(added)
        })
    }

    /// Changes the verdict on an outcome; `false` if the store has no such one.
    ///
    /// A settled target counts as measured or as given up after it; a pending one
    /// stays pending.
    ///
    /// # Errors
    /// A failure of the store.
    pub fn set_verdict(&mut self, outcome: OutcomeId, verdict: &Verdict) -> Result<bool> {
        self.write(|writer| {
            let target = writer
                .sql
                .prepare_cached(
                    "UPDATE outcome SET verdict = ?2, verdict_reason = ?3
                     WHERE identity = ?1 RETURNING scan, relay",
                )?
                .query_row(
                    params![outcome.as_bytes(), verdict.as_str(), verdict.reason()],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()?;
            let Some((scan, relay)) = target else {
                return Ok(false);
            };
            writer.judge_target(scan, relay)?;
            Ok(true)
        })
    }

    /// Settles a target: it is measured if any of its records in this scan is
    /// accepted or a lower bound, and given up otherwise.
    ///
    /// # Errors
    /// [`UnknownScan`](Error::UnknownScan), or a failure of the store.
    pub fn settle(&mut self, scan: &ScanId, target: &Fingerprint) -> Result<()> {
        self.write(|writer| {
            let row = writer.scan_row(scan)?;
            writer.settle(row, target)
        })
    }

    /// The targets that have no final outcome yet, sorted.
    ///
    /// # Errors
    /// [`UnknownScan`](Error::UnknownScan), or a failure of the store.
    pub fn pending_targets(&self, scan: &ScanId) -> Result<Vec<Fingerprint>> {
        self.targets_in(scan, PENDING)
    }

    /// All targets of a scan, sorted.
    ///
    /// # Errors
    /// [`UnknownScan`](Error::UnknownScan), or a failure of the store.
    pub fn targets(&self, scan: &ScanId) -> Result<Vec<Fingerprint>> {
        self.read(|connection| {
            let row = scan_row(connection, scan)?;
            let mut statement = connection.prepare_cached(
                "SELECT fingerprint FROM target JOIN relay ON relay.id = target.relay
                 WHERE scan = ?1 ORDER BY fingerprint",
            )?;
            let rows = statement.query_map(params![row], |row| row.get(0))?;
            rows.map(|bytes| Ok(Fingerprint::from_bytes(bytes?)))
                .collect()
        })
    }

    pub(crate) fn targets_given_up(&self, scan: &ScanId) -> Result<Vec<Fingerprint>> {
        self.targets_in(scan, GIVEN_UP)
    }

    fn targets_in(&self, scan: &ScanId, state: u8) -> Result<Vec<Fingerprint>> {
        self.read(|connection| {
            let row = scan_row(connection, scan)?;
            let mut statement = connection.prepare_cached(
                "SELECT fingerprint FROM target JOIN relay ON relay.id = target.relay
                 WHERE scan = ?1 AND state = ?2 ORDER BY fingerprint",
            )?;
            let rows = statement.query_map(params![row, state], |row| row.get(0))?;
            rows.map(|bytes| Ok(Fingerprint::from_bytes(bytes?)))
                .collect()
        })
    }

    /// Marks a scan as completed.
    ///
    /// # Errors
    /// [`ScanPending`](Error::ScanPending) if targets are left,
    /// [`UnknownScan`](Error::UnknownScan), or a failure of the store.
    pub fn finish_scan(&mut self, scan: &ScanId, at: UnixMillis) -> Result<()> {
        self.write(|writer| {
            let row = writer.scan_row(scan)?;
            let pending: u64 = writer.sql.query_row(
                "SELECT count(*) FROM target WHERE scan = ?1 AND state = ?2",
                params![row, PENDING],
                |row| row.get(0).map(unsigned),
            )?;
            if pending > 0 {
                let scan = *scan;
                return Err(Error::ScanPending { scan, pending }.into());
            }
            writer.sql.execute(
                "UPDATE scan SET ended = ?2 WHERE id = ?1",
                params![row, time(at)],
            )?;
            Ok(())
        })
    }

    /// Marks an unfinished scan as given up: it is neither continued nor
    /// counted as completed. Its outcomes stay.
    ///
    /// # Errors
    /// [`UnknownScan`](Error::UnknownScan), or a failure of the store.
    pub fn abandon_scan(&mut self, scan: &ScanId, at: UnixMillis) -> Result<()> {
        self.write(|writer| {
            let row = writer.scan_row(scan)?;
            writer.sql.execute(
                "UPDATE scan SET abandoned = ?2 WHERE id = ?1 AND ended IS NULL",
                params![row, time(at)],
            )?;
            Ok(())
        })
    }

    /// The scans of `scanner` with equal parameters that are neither completed nor given
    /// up, the newest first.
    ///
    /// # Errors
    /// If the store fails.
    pub fn unfinished_scans(
        &self,
        scanner: &str,
        parameters: &ScanParameters,
    ) -> Result<Vec<Scan>> {
        let mut scans = self.select_scans(
            "WHERE ended IS NULL AND abandoned IS NULL AND scanner = ?1
             ORDER BY started DESC, id DESC",
            params![scanner],
        )?;
        scans.retain(|scan| scan.parameters == *parameters);
        Ok(scans)
    }

    /// The scan with this identity.
    ///
    /// # Errors
    /// [`UnknownScan`](Error::UnknownScan), or a failure of the store.
    pub fn scan(&self, scan: &ScanId) -> Result<Scan> {
        let found = self.select_scans("WHERE identity = ?1", params![scan.as_bytes()])?;
        found
            .into_iter()
            .next()
            .ok_or(Error::UnknownScan { scan: *scan })
    }

    /// The `count` completed scans that ended last, newest first.
    ///
    /// # Errors
    /// If the store fails.
    pub fn latest_completed_scans(&self, count: usize) -> Result<Vec<Scan>> {
        self.select_scans(
            "WHERE ended IS NOT NULL ORDER BY ended DESC, id DESC LIMIT ?1",
            params![i64::try_from(count).unwrap_or(i64::MAX)],
        )
    }

    fn select_scans(&self, clause: &str, params: impl rusqlite::Params) -> Result<Vec<Scan>> {
        self.read(|connection| {
            let sql = format!("SELECT {SCAN_COLUMNS} FROM scan {clause}");
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(params, read_scan)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// All scans with their counts, newest first.
    ///
    /// # Errors
    /// If the store fails.
    pub fn scans(&self) -> Result<Vec<ScanSummary>> {
        self.read(|connection| {
            let sql = format!(
                "SELECT {SCAN_COLUMNS}, abandoned,
                    (SELECT count(*) FROM target WHERE target.scan = scan.id),
                    (SELECT count(*) FROM target WHERE target.scan = scan.id AND state = {MEASURED}),
                    (SELECT count(*) FROM target WHERE target.scan = scan.id AND state = {GIVEN_UP}),
                    (SELECT count(*) FROM target WHERE target.scan = scan.id AND state = {PENDING}),
                    tally.outcomes, tally.bytes, tally.last, tally.accepted, tally.lower_bound,
                    tally.remeasure, tally.charged, tally.excused
                 FROM scan LEFT JOIN (
                    SELECT scan, count(*) AS outcomes, total(bytes) AS bytes, max(ended) AS last,
                        sum(verdict = 'accepted') AS accepted,
                        sum(verdict = 'lower_bound') AS lower_bound,
                        sum(verdict = 'remeasure') AS remeasure,
                        sum(verdict = 'charged') AS charged,
                        sum(verdict = 'excused') AS excused
                    FROM outcome GROUP BY scan
                 ) AS tally ON tally.scan = scan.id
                 ORDER BY started DESC, id DESC"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map([], |row| {
                let count = |column| -> rusqlite::Result<u64> {
                    Ok(row.get::<_, Option<i64>>(column)?.map_or(0, unsigned))
                };
                Ok(ScanSummary {
                    scan: read_scan(row)?,
                    abandoned: optional_time(row, 5)?,
                    targets: count(6)?,
                    measured: count(7)?,
                    failed: count(8)?,
                    pending: count(9)?,
                    outcomes: count(10)?,
                    verdicts: VerdictCounts {
                        accepted: count(13)?,
                        lower_bound: count(14)?,
                        remeasure: count(15)?,
                        charged: count(16)?,
                        excused: count(17)?,
                    },
                    bytes: row.get::<_, Option<f64>>(11)?.unwrap_or(0.0) as u64,
                    last_outcome: optional_time(row, 12)?,
                })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// The last outcomes of each relay among those that ended at `since` or later.
    ///
    /// # Errors
    /// If the store fails.
    pub fn last_outcomes(&self, since: UnixMillis) -> Result<BTreeMap<Fingerprint, RelayHistory>> {
        self.read(|connection| {
            // With max(), SQLite takes the other columns from the row of the maximum.
            let mut statement = connection.prepare_cached(
                "SELECT fingerprint, attempt.last, measured.last, measured.rate,
                    (SELECT count(*) FROM outcome WHERE outcome.relay = attempt.relay
                        AND ended >= ?1 AND ended > coalesce(measured.last, -1)
                        AND verdict = 'charged'),
                    (SELECT max(rate) FROM outcome WHERE outcome.relay = attempt.relay
                        AND ended >= ?1 AND ended > coalesce(measured.last, -1)
                        AND verdict = 'lower_bound')
                 FROM (SELECT relay, max(ended) AS last FROM outcome WHERE ended >= ?1
                       GROUP BY relay) AS attempt
                 JOIN relay ON relay.id = attempt.relay
                 LEFT JOIN (SELECT relay, max(ended) AS last, rate FROM outcome
                       WHERE ended >= ?1 AND verdict = 'accepted' GROUP BY relay) AS measured
                    ON measured.relay = attempt.relay",
            )?;
            let rows = statement.query_map(params![time(since)], |row| {
                let history = RelayHistory {
                    last_attempt: read_time(row, 1)?,
                    last_measured: optional_time(row, 2)?,
                    rate: row.get(3)?,
                    failures_since: row.get(4).map(unsigned)?,
                    lower_bound: row.get(5)?,
                };
                Ok((Fingerprint::from_bytes(row.get(0)?), history))
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Keeps the state of the program whose results were imported last; one that
    /// is there is replaced.
    ///
    /// # Errors
    /// If `state` cannot be written as JSON, or the store fails.
    pub fn put_imported_state(&mut self, state: &impl Serialize) -> Result<()> {
        self.write(|writer| {
            writer.sql.execute(
                "INSERT INTO imported_state (id, data) VALUES (1, ?1)
                 ON CONFLICT DO UPDATE SET data = ?1",
                params![serde_json::to_string(state)?],
            )?;
            Ok(())
        })
    }

    /// The state of the program whose results were imported last, if there is one.
    ///
    /// # Errors
    /// If it is no `T`, or the store fails.
    pub fn imported_state<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        self.read(|connection| {
            let text: Option<String> = connection
                .query_row("SELECT data FROM imported_state", [], |row| row.get(0))
                .optional()?;
            Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
        })
    }

    /// Runs `action` in a transaction of its own, committed if it succeeds.
    pub(crate) fn write<T>(
        &mut self,
        action: impl FnOnce(&mut Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T> {
        let attempt = || {
            let mut transaction = self.begin()?;
            let value = action(&mut transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        let done: Result<T, Fault> = attempt();
        done.map_err(|fault| fault.at(&self.path))
    }

    pub(crate) fn begin(&mut self) -> Result<Transaction<'_>, Fault> {
        Transaction::begin(&mut self.connection, &mut self.codec)
    }

    /// Runs `action`, telling where it failed.
    pub(crate) fn read<T>(
        &self,
        action: impl FnOnce(&Connection) -> Result<T, Fault>,
    ) -> Result<T> {
        action(&self.connection).map_err(|fault| fault.at(&self.path))
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
