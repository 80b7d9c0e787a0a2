//! The store: scans, their targets and what came of them, in one SQLite file.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use bw_file::Fingerprint;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use crate::codec::OutcomeCodec;
use crate::error::{Error, Result};
use crate::schema::encode_helpers;
use crate::{
    Outcome, OutcomeId, OutcomeSummary, SbwsFacts, Scan, ScanId, ScanParameters, SnapshotId,
    SummaryResult, UnixMillis, Verdict, schema,
};

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

/// The columns that [`read_scan`] reads.
const SCAN_COLUMNS: &str = "identity, scanner, started, ended, parameters";

/// A scan and how far it is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ScanSummary {
    /// The scan.
    pub scan: Scan,
    /// When it was given up, if it was.
    pub abandoned: Option<UnixMillis>,
    /// How many relays it covers.
    pub targets: u64,
    /// How many of them were measured: accepted, or as a lower bound.
    pub measured: u64,
    /// How many were given up.
    pub failed: u64,
    /// How many have no final outcome yet.
    pub pending: u64,
    /// Outcomes, those of attempts that were repeated included.
    pub outcomes: u64,
    /// How many outcomes have each kind of verdict.
    pub verdicts: VerdictCounts,
    /// Payload bytes of all of them.
    pub bytes: u64,
    /// End of the newest outcome.
    pub last_outcome: Option<UnixMillis>,
}

/// How many outcomes have each kind of verdict.
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

/// What was last seen of a relay, for deciding what to measure next.
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
    /// How many failures since that measurement are charged to the relay.
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

    /// Where it is.
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
            let (row, scanner) = writer.scan_row_and_scanner(scan)?;
            let target = &outcome.attempt().target.fingerprint;
            writer.insert_target(row, target, PENDING)?;
            let added = writer.insert_outcome(row, &scanner, outcome, *verdict, None)?;
            if settled {
                writer.settle(row, target)?;
            }
            Ok(added)
        })
    }

    /// Changes the verdict on an outcome; `false` if the store has no such one.
    ///
    /// Whether a settled target counts as measured or as given up follows; a
    /// pending one stays pending.
    ///
    /// # Errors
    /// A failure of the store.
    pub fn set_verdict(&mut self, outcome: OutcomeId, verdict: &Verdict) -> Result<bool> {
        self.write(|writer| {
            let target = writer
                .transaction
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
            let pending: u64 = writer.transaction.query_row(
                "SELECT count(*) FROM target WHERE scan = ?1 AND state = ?2",
                params![row, PENDING],
                |row| row.get(0).map(unsigned),
            )?;
            if pending > 0 {
                let scan = *scan;
                return Err(Error::ScanPending { scan, pending }.into());
            }
            writer.transaction.execute(
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
            writer.transaction.execute(
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

    /// What was last seen of each relay in the outcomes that ended at `since`
    /// or later.
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

    /// Runs `action` in a transaction of its own, committed if it succeeds.
    pub(crate) fn write<T>(
        &mut self,
        action: impl FnOnce(&mut Writer<'_>) -> Result<T, Fault>,
    ) -> Result<T> {
        let attempt = || {
            let transaction = self
                .connection
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut writer = Writer {
                transaction,
                codec: &mut self.codec,
                relays: HashMap::new(),
                measured: HashSet::new(),
            };
            let value = action(&mut writer)?;
            writer.transaction.commit()?;
            Ok(value)
        };
        attempt().map_err(|fault: Fault| fault.at(&self.path))
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

/// A failure inside an operation, before it is known at which path.
pub(crate) enum Fault {
    Sqlite(rusqlite::Error),
    Codec(io::Error),
    Store(Error),
}

impl Fault {
    pub(crate) fn at(self, path: &Path) -> Error {
        match self {
            Self::Sqlite(error) => Error::sqlite(path, error),
            Self::Codec(error) => Error::damaged(path, error),
            Self::Store(error) => error,
        }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Codec(error)
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Self::Codec(error.into())
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

/// An open transaction, and what changes the store in it.
pub(crate) struct Writer<'s> {
    pub(crate) transaction: Transaction<'s>,
    codec: &'s mut OutcomeCodec,
    /// Rows of relays that were looked up.
    relays: HashMap<Fingerprint, i64>,
    /// Targets, as scan and relay, that are known to be measured.
    measured: HashSet<(i64, i64)>,
}

/// An outcome as it is written: what takes time is done, on whatever thread.
pub(crate) struct Prepared {
    id: OutcomeId,
    summary: OutcomeSummary,
    record: Vec<u8>,
    /// [`SbwsFacts`], encoded.
    facts: Option<Vec<u8>>,
}

impl Prepared {
    pub(crate) fn new(
        codec: &mut OutcomeCodec,
        scanner: &str,
        outcome: &Outcome,
        verdict: Verdict,
        facts: Option<&SbwsFacts>,
    ) -> io::Result<Self> {
        Ok(Self {
            id: OutcomeId::new(scanner, outcome),
            summary: OutcomeSummary::new(outcome, verdict),
            record: codec.encode(outcome)?,
            facts: facts.map(encode_facts).transpose()?,
        })
    }

    pub(crate) const fn ended(&self) -> UnixMillis {
        self.summary.ended
    }
}

impl Writer<'_> {
    pub(crate) fn scan_row(&self, scan: &ScanId) -> Result<i64, Fault> {
        scan_row(&self.transaction, scan)
    }

    pub(crate) fn scan_row_and_scanner(&self, scan: &ScanId) -> Result<(i64, String), Fault> {
        let found = self
            .transaction
            .prepare_cached("SELECT id, scanner FROM scan WHERE identity = ?1")?
            .query_row(params![scan.as_bytes()], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        found.ok_or_else(|| Error::UnknownScan { scan: *scan }.into())
    }

    pub(crate) fn insert_scan(&self, scan: &Scan) -> Result<(), Fault> {
        let added = self.transaction.execute(
            "INSERT OR IGNORE INTO scan (identity, scanner, started, ended, parameters)
             VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                scan.id.as_bytes(),
                scan.scanner,
                time(scan.started),
                scan.ended.map(time),
                serde_json::to_string(&scan.parameters)?,
            ],
        )?;
        if added == 0 {
            return Err(Error::ScanExists { scan: scan.id }.into());
        }
        Ok(())
    }

    fn link_snapshot(&self, scan: i64, snapshot: SnapshotId) -> Result<(), Fault> {
        let found: bool = self.transaction.query_row(
            "SELECT EXISTS (SELECT 1 FROM snapshot WHERE id = ?1)",
            params![snapshot.row()],
            |row| row.get(0),
        )?;
        if !found {
            let snapshot = snapshot.row();
            return Err(Error::UnknownSnapshot { snapshot }.into());
        }
        self.transaction.execute(
            "INSERT OR IGNORE INTO scan_snapshot (scan, snapshot) VALUES (?1, ?2)",
            params![scan, snapshot.row()],
        )?;
        Ok(())
    }

    fn relay_row(&mut self, relay: &Fingerprint) -> Result<i64, Fault> {
        if let Some(&row) = self.relays.get(relay) {
            return Ok(row);
        }
        let row = self.find_or_add_relay(relay)?;
        self.relays.insert(*relay, row);
        Ok(row)
    }

    fn find_or_add_relay(&self, relay: &Fingerprint) -> Result<i64, Fault> {
        let found = self
            .transaction
            .prepare_cached("SELECT id FROM relay WHERE fingerprint = ?1")?
            .query_row(params![relay.as_bytes()], |row| row.get(0))
            .optional()?;
        if let Some(row) = found {
            return Ok(row);
        }
        let row = self
            .transaction
            .prepare_cached("INSERT INTO relay (fingerprint) VALUES (?1)")?
            .insert(params![relay.as_bytes()])?;
        Ok(row)
    }

    /// Adds a target, or brings it from pending to `state`.
    pub(crate) fn insert_target(
        &mut self,
        scan: i64,
        target: &Fingerprint,
        state: u8,
    ) -> Result<(), Fault> {
        let relay = self.relay_row(target)?;
        self.set_target(scan, relay, state)
    }

    fn set_target(&self, scan: i64, relay: i64, state: u8) -> Result<(), Fault> {
        self.transaction
            .prepare_cached(
                "INSERT INTO target (scan, relay, state) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET state = ?3 WHERE state = 0",
            )?
            .execute(params![scan, relay, state])?;
        Ok(())
    }

    fn settle(&mut self, scan: i64, target: &Fingerprint) -> Result<(), Fault> {
        let relay = self.relay_row(target)?;
        self.set_target(scan, relay, GIVEN_UP)?;
        self.judge_target(scan, relay)
    }

    /// Makes a settled target a measured or a given-up one, as the verdicts on
    /// its records say.
    fn judge_target(&self, scan: i64, relay: i64) -> Result<(), Fault> {
        self.transaction
            .prepare_cached(
                "UPDATE target SET state = CASE WHEN EXISTS (
                    SELECT 1 FROM outcome WHERE scan = ?1 AND relay = ?2
                        AND verdict IN ('accepted', 'lower_bound')
                 ) THEN 1 ELSE 2 END WHERE scan = ?1 AND relay = ?2 AND state <> 0",
            )?
            .execute(params![scan, relay])?;
        Ok(())
    }

    /// Adds an outcome and what it means for its target; `false` if it is known.
    pub(crate) fn insert_outcome(
        &mut self,
        scan: i64,
        scanner: &str,
        outcome: &Outcome,
        verdict: Verdict,
        facts: Option<&SbwsFacts>,
    ) -> Result<bool, Fault> {
        let prepared = Prepared::new(self.codec, scanner, outcome, verdict, facts)?;
        self.insert_prepared(scan, &prepared)
    }

    /// The same of one that is prepared. A known one gets the facts that it lacks.
    pub(crate) fn insert_prepared(
        &mut self,
        scan: i64,
        prepared: &Prepared,
    ) -> Result<bool, Fault> {
        let relay = self.relay_row(&prepared.summary.fingerprint)?;
        let added = self.insert_summary(scan, relay, prepared)?
            || (self.remove_without_rate(prepared)?
                && self.insert_summary(scan, relay, prepared)?);
        if added {
            self.transaction
                .prepare_cached("INSERT INTO outcome_record (id, data) VALUES (?1, ?2)")?
                .execute(params![
                    self.transaction.last_insert_rowid(),
                    prepared.record
                ])?;
            self.note_target(scan, relay, prepared.summary.verdict)?;
        }
        if let Some(facts) = &prepared.facts {
            self.transaction
                .prepare_cached(
                    "INSERT OR IGNORE INTO sbws_result (id, data)
                     SELECT id, ?2 FROM outcome WHERE identity = ?1",
                )?
                .execute(params![prepared.id.as_bytes(), facts])?;
        }
        Ok(added)
    }

    /// Removes the record with the identity of `prepared` if only that one has
    /// a rate: older software kept a measurement without its slices first, and
    /// whole when it was chosen.
    fn remove_without_rate(&self, prepared: &Prepared) -> Result<bool, Fault> {
        if !matches!(&prepared.summary.result, SummaryResult::Measured(rates) if !rates.is_empty())
        {
            return Ok(false);
        }
        let row: Option<i64> = self
            .transaction
            .prepare_cached(
                "SELECT id FROM outcome WHERE identity = ?1 AND stage IS NULL AND rate IS NULL",
            )?
            .query_row([prepared.id.as_bytes()], |row| row.get(0))
            .optional()?;
        let Some(row) = row else { return Ok(false) };
        for table in ["sbws_result", "outcome_record", "outcome"] {
            let sql = format!("DELETE FROM {table} WHERE id = ?1");
            self.transaction.prepare_cached(&sql)?.execute([row])?;
        }
        Ok(true)
    }

    /// Writes the columns of an outcome; `false` if it is known.
    fn insert_summary(&self, scan: i64, relay: i64, prepared: &Prepared) -> Result<bool, Fault> {
        let summary = &prepared.summary;
        let (rates, failure) = match &summary.result {
            SummaryResult::Measured(rates) => (rates.as_slice(), None),
            SummaryResult::Failed(stage, kind, blame) => (
                [].as_slice(),
                Some((stage.as_str(), kind.as_str(), blame.as_str())),
            ),
        };
        let mean = (!rates.is_empty()).then(|| rates.iter().sum::<f64>() / rates.len() as f64);
        let several = (rates.len() != 1 && failure.is_none())
            .then(|| rates.iter().flat_map(|rate| rate.to_le_bytes()).collect());
        let several: Option<Vec<u8>> = several;
        let descriptor = summary.descriptor;
        let added = self
            .transaction
            .prepare_cached(
                "INSERT OR IGNORE INTO outcome (identity, scan, relay, started, ended, position,
                    stage, kind, blame, rate, rates, bytes, consensus_weight_kb, unmeasured,
                    descriptor_published, descriptor_average, descriptor_burst,
                    descriptor_observed, verdict, verdict_reason, helpers)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16,
                    ?17, ?18, ?19, ?20, ?21)",
            )?
            .execute(params![
                prepared.id.as_bytes(),
                scan,
                relay,
                time(summary.started),
                time(summary.ended),
                summary.position.as_str(),
                failure.map(|failure| failure.0),
                failure.map(|failure| failure.1),
                failure.map(|failure| failure.2),
                mean,
                several,
                signed(summary.bytes),
                summary
                    .consensus_weight
                    .map(|weight| signed(weight.value())),
                summary.unmeasured,
                descriptor.map(|facts| time(facts.published)),
                descriptor.map(|facts| signed(facts.average.value())),
                descriptor.map(|facts| signed(facts.burst.value())),
                descriptor.map(|facts| signed(facts.observed.value())),
                summary.verdict.as_str(),
                summary.verdict.reason(),
                encode_helpers(&summary.helpers),
            ])?;
        Ok(added > 0)
    }

    /// Has the target of a new outcome follow its verdict: one that the scan
    /// does not have yet is added as done, one that was given up is measured
    /// after all, and a pending one stays pending.
    fn note_target(&mut self, scan: i64, relay: i64, verdict: Verdict) -> Result<(), Fault> {
        if self.measured.contains(&(scan, relay)) {
            return Ok(());
        }
        let state = if verdict.is_measured() {
            MEASURED
        } else {
            GIVEN_UP
        };
        let now: u8 = self
            .transaction
            .prepare_cached(
                "INSERT INTO target (scan, relay, state) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET state = iif(state = 2, ?3, state) RETURNING state",
            )?
            .query_row(params![scan, relay, state], |row| row.get(0))?;
        if now == MEASURED {
            self.measured.insert((scan, relay));
        }
        Ok(())
    }
}

fn scan_row(connection: &Connection, scan: &ScanId) -> Result<i64, Fault> {
    let found = connection
        .prepare_cached("SELECT id FROM scan WHERE identity = ?1")?
        .query_row(params![scan.as_bytes()], |row| row.get(0))
        .optional()?;
    found.ok_or_else(|| Error::UnknownScan { scan: *scan }.into())
}

fn read_scan(row: &Row<'_>) -> rusqlite::Result<Scan> {
    let parameters: String = row.get(4)?;
    let parameters = serde_json::from_str(&parameters).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(4, rusqlite::types::Type::Text, error.into())
    })?;
    Ok(Scan {
        id: ScanId::from_bytes(row.get(0)?),
        scanner: row.get(1)?,
        started: read_time(row, 2)?,
        ended: optional_time(row, 3)?,
        parameters,
    })
}

pub(crate) fn read_time(row: &Row<'_>, column: usize) -> rusqlite::Result<UnixMillis> {
    row.get(column).map(unsigned).map(UnixMillis::new)
}

fn optional_time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<UnixMillis>> {
    let value: Option<i64> = row.get(column)?;
    Ok(value.map(|value| UnixMillis::new(unsigned(value))))
}

/// First byte of every record of [`SbwsFacts`].
const FACTS_FORM: u8 = 1;

fn encode_facts(facts: &SbwsFacts) -> io::Result<Vec<u8>> {
    postcard::to_extend(facts, vec![FACTS_FORM]).map_err(io::Error::other)
}

pub(crate) fn decode_facts(record: &[u8]) -> io::Result<SbwsFacts> {
    match record.split_first() {
        Some((&FACTS_FORM, facts)) => postcard::from_bytes(facts).map_err(io::Error::other),
        _ => Err(io::Error::other("facts of sbws in an unknown encoding")),
    }
}

/// SQLite's integers are signed: what does not fit becomes the largest.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

pub(crate) fn time(time: UnixMillis) -> i64 {
    signed(time.value())
}

#[cfg(test)]
mod tests;
