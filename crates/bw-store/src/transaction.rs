//! An open transaction, and what changes the store in it.

use std::collections::{HashMap, HashSet};

use bw_file::Fingerprint;
use bw_results::{Outcome, OutcomeId, Scan, ScanId, SummaryResult, Verdict};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use crate::codec::OutcomeCodec;
use crate::columns::{encode_helpers, scan_row, signed, time};
use crate::fault::Fault;
use crate::store::{GIVEN_UP, MEASURED};
use crate::{Encoded, Error, NoSupplement, SnapshotId};

/// A transaction in which nobody else writes.
pub(crate) struct Transaction<'s> {
    pub(crate) sql: rusqlite::Transaction<'s>,
    pub(crate) codec: &'s mut OutcomeCodec,
    /// Rows of relays that were looked up.
    relays: HashMap<Fingerprint, i64>,
    /// Rows of scans that were looked up.
    scans: HashMap<ScanId, i64>,
    /// Targets, as scan and relay, that are known to be measured.
    measured: HashSet<(i64, i64)>,
}

impl<'s> Transaction<'s> {
    /// Begins a transaction in which nobody else writes.
    pub(crate) fn begin(
        connection: &'s mut Connection,
        codec: &'s mut OutcomeCodec,
    ) -> Result<Self, Fault> {
        Ok(Self {
            sql: connection.transaction_with_behavior(TransactionBehavior::Immediate)?,
            codec,
            relays: HashMap::new(),
            scans: HashMap::new(),
            measured: HashSet::new(),
        })
    }

    pub(crate) fn commit(self) -> Result<(), Fault> {
        Ok(self.sql.commit()?)
    }

    pub(crate) fn scan_row(&mut self, scan: &ScanId) -> Result<i64, Fault> {
        if let Some(&row) = self.scans.get(scan) {
            return Ok(row);
        }
        let row = scan_row(&self.sql, scan)?;
        self.scans.insert(*scan, row);
        Ok(row)
    }

    /// The scanner of a scan, if the store has that scan.
    pub(crate) fn scanner(&self, scan: &ScanId) -> Result<Option<String>, Fault> {
        let mut statement = self
            .sql
            .prepare_cached("SELECT scanner FROM scan WHERE identity = ?1")?;
        let scanner = statement.query_row(params![scan.as_bytes()], |row| row.get(0));
        Ok(scanner.optional()?)
    }

    pub(crate) fn insert_scan(&self, scan: &Scan) -> Result<(), Fault> {
        let added = self.sql.execute(
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

    pub(crate) fn link_snapshot(&self, scan: i64, snapshot: SnapshotId) -> Result<(), Fault> {
        let found: bool = self.sql.query_row(
            "SELECT EXISTS (SELECT 1 FROM snapshot WHERE id = ?1)",
            params![snapshot.row()],
            |row| row.get(0),
        )?;
        if !found {
            let snapshot = snapshot.row();
            return Err(Error::UnknownSnapshot { snapshot }.into());
        }
        self.sql.execute(
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
            .sql
            .prepare_cached("SELECT id FROM relay WHERE fingerprint = ?1")?
            .query_row(params![relay.as_bytes()], |row| row.get(0))
            .optional()?;
        if let Some(row) = found {
            return Ok(row);
        }
        let row = self
            .sql
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
        self.sql
            .prepare_cached(
                "INSERT INTO target (scan, relay, state) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET state = ?3 WHERE state = 0",
            )?
            .execute(params![scan, relay, state])?;
        Ok(())
    }

    /// Settles a target, as the verdicts on its records say.
    pub(crate) fn settle(&mut self, scan: i64, target: &Fingerprint) -> Result<(), Fault> {
        let relay = self.relay_row(target)?;
        self.set_target(scan, relay, GIVEN_UP)?;
        self.judge_target(scan, relay)
    }

    /// Makes a settled target a measured or a given-up one, as the verdicts on
    /// its records say.
    pub(crate) fn judge_target(&self, scan: i64, relay: i64) -> Result<(), Fault> {
        self.sql
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
        scan: &ScanId,
        outcome: &Outcome,
        verdict: Verdict,
    ) -> Result<bool, Fault> {
        let row = self.scan_row(scan)?;
        let scanner = self.scanner(scan)?.unwrap_or_default();
        let none = None::<&NoSupplement>;
        let encoded = Encoded::new(self.codec, &scanner, outcome, verdict, none)?;
        self.insert_encoded(row, &encoded)
    }

    /// The same of one that is encoded. A known one gets the supplement that it
    /// lacks.
    pub(crate) fn insert_encoded(&mut self, scan: i64, encoded: &Encoded) -> Result<bool, Fault> {
        let relay = self.relay_row(&encoded.summary.fingerprint)?;
        let added = self.insert_summary(scan, relay, encoded)?
            || (self.remove_without_rate(encoded)? && self.insert_summary(scan, relay, encoded)?);
        if added {
            self.insert_record(&encoded.record)?;
            self.note_target(scan, relay, encoded.summary.verdict)?;
        }
        if let Some(supplement) = &encoded.supplement {
            self.insert_supplement(encoded.id, supplement)?;
        }
        Ok(added)
    }

    /// Writes the record of the outcome that was inserted last.
    fn insert_record(&self, record: &[u8]) -> Result<(), Fault> {
        let row = self.sql.last_insert_rowid();
        self.sql
            .prepare_cached("INSERT INTO outcome_record (id, data) VALUES (?1, ?2)")?
            .execute(params![row, record])?;
        Ok(())
    }

    /// Writes the supplement of an outcome, unless it has one.
    fn insert_supplement(&self, outcome: OutcomeId, supplement: &[u8]) -> Result<(), Fault> {
        self.sql
            .prepare_cached(
                "INSERT OR IGNORE INTO supplement (id, data)
                 SELECT id, ?2 FROM outcome WHERE identity = ?1",
            )?
            .execute(params![outcome.as_bytes(), supplement])?;
        Ok(())
    }

    /// Removes the record with the identity of `encoded` if only that one has
    /// a rate: older software kept a measurement without its slices first, and
    /// whole when it was chosen.
    fn remove_without_rate(&self, encoded: &Encoded) -> Result<bool, Fault> {
        if !matches!(&encoded.summary.result, SummaryResult::Measured(rates) if !rates.is_empty()) {
            return Ok(false);
        }
        let row: Option<i64> = self
            .sql
            .prepare_cached(
                "SELECT id FROM outcome WHERE identity = ?1 AND stage IS NULL AND rate IS NULL",
            )?
            .query_row([encoded.id.as_bytes()], |row| row.get(0))
            .optional()?;
        let Some(row) = row else { return Ok(false) };
        for table in ["supplement", "outcome_record", "outcome"] {
            let sql = format!("DELETE FROM {table} WHERE id = ?1");
            self.sql.prepare_cached(&sql)?.execute([row])?;
        }
        Ok(true)
    }

    /// Writes the columns of an outcome; `false` if it is known.
    fn insert_summary(&self, scan: i64, relay: i64, encoded: &Encoded) -> Result<bool, Fault> {
        let summary = &encoded.summary;
        let result = ResultColumns::of(&summary.result);
        let weight = summary.consensus_weight;
        let descriptor = summary.descriptor.as_ref();
        let added = self
            .sql
            .prepare_cached(
                "INSERT OR IGNORE INTO outcome (identity, scan, relay, started, ended, position,
                    stage, kind, blame, rate, rates, bytes, consensus_weight_kb, unmeasured,
                    descriptor_published, descriptor_average, descriptor_burst,
                    descriptor_observed, verdict, verdict_reason, helpers)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16,
                    ?17, ?18, ?19, ?20, ?21)",
            )?
            .execute(params![
                encoded.id.as_bytes(),
                scan,
                relay,
                time(summary.started),
                time(summary.ended),
                summary.position.as_str(),
                result.stage,
                result.kind,
                result.blame,
                result.rate,
                result.rates,
                signed(summary.bytes),
                weight.map(|weight| signed(weight.value())),
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
            .sql
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

/// The columns that tell what came of an attempt.
#[derive(Default)]
struct ResultColumns {
    stage: Option<&'static str>,
    kind: Option<&'static str>,
    blame: Option<&'static str>,
    /// The mean of the rates.
    rate: Option<f64>,
    /// All rates, unless there is just one.
    rates: Option<Vec<u8>>,
}

impl ResultColumns {
    fn of(result: &SummaryResult) -> Self {
        match result {
            SummaryResult::Measured(rates) => Self {
                rate: (!rates.is_empty()).then(|| rates.iter().sum::<f64>() / rates.len() as f64),
                rates: (rates.len() != 1)
                    .then(|| rates.iter().flat_map(|rate| rate.to_le_bytes()).collect()),
                ..Self::default()
            },
            SummaryResult::Failed(stage, kind, blame) => Self {
                stage: Some(stage.as_str()),
                kind: Some(kind.as_str()),
                blame: Some(blame.as_str()),
                ..Self::default()
            },
        }
    }
}
