//! Reading outcomes one by one, without a list of all of them.

use std::collections::HashMap;
use std::ops::ControlFlow;

use bw_file::{BytesPerSecond, Fingerprint, KilobytesPerSecond};
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use crate::codec::OutcomeCodec;
use crate::error::Result;
use crate::schema::decode_helpers;
use crate::store::{Fault, decode_facts, read_time, time, unsigned};
use crate::{
    Blame, DescriptorFacts, FailureKind, Outcome, OutcomeId, OutcomeSummary, Position, SbwsFacts,
    SbwsResult, ScanId, Stage, Store, SummaryResult, UnixMillis, Verdict,
};

/// Which outcomes to read. The default is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Filter {
    /// Only those of these scans, if given; an empty list selects nothing.
    pub scans: Option<Vec<ScanId>>,
    /// Only those that ended at this time or later.
    pub since: Option<UnixMillis>,
    /// Only those that ended before this time.
    pub until: Option<UnixMillis>,
    /// Only those of this relay.
    pub relay: Option<Fingerprint>,
}

impl Filter {
    /// All outcomes.
    pub const fn all() -> Self {
        Self {
            scans: None,
            since: None,
            until: None,
            relay: None,
        }
    }

    /// Only those of `scans`.
    #[must_use]
    pub fn scans(mut self, scans: impl IntoIterator<Item = ScanId>) -> Self {
        self.scans = Some(scans.into_iter().collect());
        self
    }

    /// Only those that ended at `time` or later.
    #[must_use]
    pub const fn since(mut self, time: UnixMillis) -> Self {
        self.since = Some(time);
        self
    }

    /// Only those that ended before `time`.
    #[must_use]
    pub const fn until(mut self, time: UnixMillis) -> Self {
        self.until = Some(time);
        self
    }

    /// Only those of `relay`.
    #[must_use]
    pub const fn relay(mut self, relay: Fingerprint) -> Self {
        self.relay = Some(relay);
        self
    }

    /// The `WHERE` clause and its parameters.
    fn clause(&self) -> (String, Vec<Value>) {
        let mut conditions = vec!["TRUE".to_owned()];
        let mut values = Vec::new();
        if let Some(scans) = &self.scans {
            let marks = vec!["?"; scans.len()].join(",");
            conditions.push(format!(
                "outcome.scan IN (SELECT id FROM scan WHERE identity IN ({marks}))"
            ));
            values.extend(scans.iter().map(|scan| blob(scan.as_bytes())));
        }
        for (condition, bound) in [
            ("outcome.ended >= ?", self.since),
            ("outcome.ended < ?", self.until),
        ] {
            if let Some(bound) = bound {
                conditions.push(condition.to_owned());
                values.push(Value::Integer(time(bound)));
            }
        }
        if let Some(relay) = &self.relay {
            conditions
                .push("outcome.relay = (SELECT id FROM relay WHERE fingerprint = ?)".to_owned());
            values.push(blob(relay.as_bytes()));
        }
        (conditions.join(" AND "), values)
    }
}

fn blob(bytes: &[u8]) -> Value {
    Value::Blob(bytes.to_vec())
}

/// Something read from the store, and where it belongs.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Stored<'a, T> {
    /// Identity, the same in every store.
    pub id: OutcomeId,
    /// The scan that it belongs to.
    pub scan: ScanId,
    /// The scanner's name.
    pub scanner: &'a str,
    /// The verdict on it.
    pub verdict: Verdict,
    /// The outcome, or its summary.
    pub value: T,
}

/// An outcome with the verdict on it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Record {
    /// Identity, the same in every store.
    pub id: OutcomeId,
    /// The facts, which never change.
    pub outcome: Outcome,
    /// The judgement, which may.
    pub verdict: Verdict,
}

impl Store {
    /// The outcomes of one relay in one scan, with their verdicts, in the order
    /// in which they were recorded: what an interrupted scan goes on from.
    ///
    /// # Errors
    /// If the store fails. An unknown scan has no outcomes.
    pub fn records_of(&self, scan: &ScanId, relay: &Fingerprint) -> Result<Vec<Record>> {
        self.read(|connection| {
            // Not through `for_each_row`, which looks all scans and relays up: a
            // scan asks for thousands of relays one by one.
            let mut statement = connection.prepare_cached(
                "SELECT outcome.identity, data, verdict, verdict_reason
                 FROM outcome JOIN outcome_record USING (id)
                 WHERE scan = (SELECT id FROM scan WHERE identity = ?1)
                    AND relay = (SELECT id FROM relay WHERE fingerprint = ?2)
                 ORDER BY outcome.id",
            )?;
            let mut rows = statement.query([scan.as_bytes().as_slice(), relay.as_bytes()])?;
            let mut codec = None;
            let mut records = Vec::new();
            while let Some(row) = rows.next()? {
                let codec = match &mut codec {
                    Some(codec) => codec,
                    none => none.insert(OutcomeCodec::new()?),
                };
                records.push(Record {
                    id: OutcomeId::from_bytes(row.get(0)?),
                    outcome: codec.decode(bytes(row, 1)?)?,
                    verdict: read_verdict(row, 2)?,
                });
            }
            Ok(records)
        })
    }

    /// Shows each selected outcome to `visit`, with its raw samples, in the
    /// order in which they were recorded, until there are no more or `visit`
    /// breaks; returns how it ended. All are of the moment when this began.
    ///
    /// # Errors
    /// If the store fails; `visit` has seen some of them then.
    pub fn for_each_outcome<B>(
        &self,
        filter: &Filter,
        visit: impl FnMut(Stored<'_, Outcome>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>> {
        self.read(|connection| {
            let mut codec = OutcomeCodec::new()?;
            let selection = "data FROM outcome JOIN outcome_record USING (id)";
            let decode = |row: &Row<'_>, _, _| Ok(codec.decode(bytes(row, FIRST)?)?);
            for_each_row(connection, filter, selection, decode, visit)
        })
    }

    /// The same with what sbws's result lines said beyond them.
    pub(crate) fn for_each_with_facts<B>(
        &self,
        filter: &Filter,
        visit: impl FnMut(Stored<'_, (Outcome, Option<SbwsFacts>)>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>> {
        self.read(|connection| {
            let mut codec = OutcomeCodec::new()?;
            let selection = "outcome_record.data, sbws_result.data
                FROM outcome JOIN outcome_record USING (id) LEFT JOIN sbws_result USING (id)";
            let decode = |row: &Row<'_>, _, _| {
                let facts = optional_bytes(row, FIRST + 1)?;
                Ok((
                    codec.decode(bytes(row, FIRST)?)?,
                    facts.map(decode_facts).transpose()?,
                ))
            };
            for_each_row(connection, filter, selection, decode, visit)
        })
    }

    /// Shows each selected outcome as a result of sbws: imported ones, and of our
    /// own scans those that sbws would have made, accepted measurements and
    /// charged failures.
    ///
    /// # Errors
    /// If the store fails; `visit` has seen some of them then.
    pub fn for_each_sbws_result<B>(
        &self,
        filter: &Filter,
        mut visit: impl FnMut(Stored<'_, SbwsResult>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>> {
        self.for_each_with_facts(filter, |stored| {
            let (outcome, facts) = stored.value;
            if !is_result(stored.verdict, facts.is_some()) {
                return ControlFlow::Continue(());
            }
            visit(Stored {
                id: stored.id,
                scan: stored.scan,
                scanner: stored.scanner,
                verdict: stored.verdict,
                value: SbwsResult::from_outcome(stored.scanner, &outcome, facts),
            })
        })
    }

    /// The same, several times faster, without path, destination and message.
    ///
    /// # Errors
    /// If the store fails; `visit` has seen some of them then.
    pub fn for_each_sbws_facts<B>(
        &self,
        filter: &Filter,
        mut visit: impl FnMut(Stored<'_, (Fingerprint, SbwsFacts)>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>> {
        self.read(|connection| {
            let mut codec = OutcomeCodec::new()?;
            let mut record =
                connection.prepare_cached("SELECT data FROM outcome_record WHERE id = ?1")?;
            let selection = "sbws_result.data, outcome.id
                FROM outcome LEFT JOIN sbws_result USING (id)";
            let decode = |row: &Row<'_>, fingerprint, verdict| {
                let facts = match optional_bytes(row, FIRST)? {
                    Some(facts) => decode_facts(facts)?,
                    None if !is_result(verdict, false) => return Ok(None),
                    None => {
                        let id: i64 = row.get(FIRST + 1)?;
                        let data: Vec<u8> = record.query_row([id], |row| row.get(0))?;
                        SbwsResult::from_outcome("", &codec.decode(&data)?, None).facts
                    }
                };
                Ok(Some((fingerprint, facts)))
            };
            for_each_row(connection, filter, selection, decode, |stored| {
                let Some(value) = stored.value else {
                    return ControlFlow::Continue(());
                };
                visit(Stored {
                    id: stored.id,
                    scan: stored.scan,
                    scanner: stored.scanner,
                    verdict: stored.verdict,
                    value,
                })
            })
        })
    }

    /// The same as [`for_each_outcome`](Self::for_each_outcome), many times
    /// faster, for what aggregation needs.
    ///
    /// # Errors
    /// If the store fails; `visit` has seen some of them then.
    pub fn for_each_summary<B>(
        &self,
        filter: &Filter,
        visit: impl FnMut(Stored<'_, OutcomeSummary>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>> {
        self.read(|connection| {
            let selection = "position, outcome.started, outcome.ended, bytes,
                 consensus_weight_kb, unmeasured, descriptor_published, descriptor_average,
                 descriptor_burst, descriptor_observed, stage, kind, blame, rate, rates,
                 helpers
                 FROM outcome";
            for_each_row(connection, filter, selection, read_summary, visit)
        })
    }
}

/// Returns whether an outcome is a result of sbws: an imported one, or one that
/// sbws would have made.
const fn is_result(verdict: Verdict, imported: bool) -> bool {
    imported || matches!(verdict, Verdict::Accepted | Verdict::Charged)
}

/// The first column after those that [`for_each_row`] reads itself.
const FIRST: usize = 5;

fn for_each_row<T, B>(
    connection: &Connection,
    filter: &Filter,
    selection: &str,
    mut decode: impl FnMut(&Row<'_>, Fingerprint, Verdict) -> Result<T, Fault>,
    mut visit: impl FnMut(Stored<'_, T>) -> ControlFlow<B>,
) -> Result<ControlFlow<B>, Fault> {
    // What few rows have in common is looked up once, not joined to each row;
    // all of it is of the moment when the transaction began.
    let transaction = connection.unchecked_transaction()?;
    let scans = scans(&transaction)?;
    let relays = relays(&transaction)?;
    let (clause, values) = filter.clause();
    let sql = format!(
        "SELECT outcome.identity, outcome.scan, outcome.relay, outcome.verdict,
            outcome.verdict_reason, {selection}
         WHERE {clause} ORDER BY outcome.id"
    );
    let mut statement = transaction.prepare(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let missing = || std::io::Error::other("an outcome without its scan or relay");
    while let Some(row) = rows.next()? {
        let (scan, scanner) = scans.get(&row.get(1)?).ok_or_else(missing)?;
        let fingerprint = relays.get(&row.get(2)?).ok_or_else(missing)?;
        let verdict = read_verdict(row, 3)?;
        let stored = Stored {
            id: OutcomeId::from_bytes(row.get(0)?),
            scan: *scan,
            scanner,
            verdict,
            value: decode(row, *fingerprint, verdict)?,
        };
        if let stop @ ControlFlow::Break(_) = visit(stored) {
            return Ok(stop);
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn scans(connection: &Connection) -> rusqlite::Result<HashMap<i64, (ScanId, String)>> {
    let mut statement = connection.prepare_cached("SELECT id, identity, scanner FROM scan")?;
    let rows = statement.query_map([], |row| {
        let scan = ScanId::from_bytes(row.get(1)?);
        Ok((row.get(0)?, (scan, row.get(2)?)))
    })?;
    rows.collect()
}

fn relays(connection: &Connection) -> rusqlite::Result<HashMap<i64, Fingerprint>> {
    let mut statement = connection.prepare_cached("SELECT id, fingerprint FROM relay")?;
    let rows = statement.query_map([], |row| {
        Ok((row.get(0)?, Fingerprint::from_bytes(row.get(1)?)))
    })?;
    rows.collect()
}

fn bytes<'r>(row: &'r Row<'_>, column: usize) -> rusqlite::Result<&'r [u8]> {
    Ok(row.get_ref(column)?.as_blob()?)
}

fn optional_bytes<'r>(row: &'r Row<'_>, column: usize) -> rusqlite::Result<Option<&'r [u8]>> {
    Ok(row.get_ref(column)?.as_blob_or_null()?)
}

/// The verdict whose kind is in `column`, and its reason in the next one.
fn read_verdict(row: &Row<'_>, column: usize) -> Result<Verdict, Fault> {
    let kind = row
        .get_ref(column)?
        .as_str()
        .map_err(rusqlite::Error::from)?;
    let reason = row
        .get_ref(column + 1)?
        .as_str_or_null()
        .map_err(rusqlite::Error::from)?;
    Verdict::from_names(kind, reason).ok_or_else(|| {
        std::io::Error::other(format!("verdict of an outcome is {kind:?}, {reason:?}")).into()
    })
}

fn read_summary(
    row: &Row<'_>,
    fingerprint: Fingerprint,
    verdict: Verdict,
) -> Result<OutcomeSummary, Fault> {
    let bandwidth = |column| -> rusqlite::Result<_> {
        let value: Option<i64> = row.get(column)?;
        Ok(BytesPerSecond::new(unsigned(value.unwrap_or(0))))
    };
    let descriptor = match row.get::<_, Option<i64>>(FIRST + 6)? {
        Some(_) => Some(DescriptorFacts {
            published: read_time(row, FIRST + 6)?,
            average: bandwidth(FIRST + 7)?,
            burst: bandwidth(FIRST + 8)?,
            observed: bandwidth(FIRST + 9)?,
        }),
        None => None,
    };
    let weight: Option<i64> = row.get(FIRST + 4)?;
    Ok(OutcomeSummary {
        fingerprint,
        position: name(row, FIRST, Position::from_name)?,
        started: read_time(row, FIRST + 1)?,
        ended: read_time(row, FIRST + 2)?,
        bytes: row.get(FIRST + 3).map(unsigned)?,
        consensus_weight: weight.map(|weight| KilobytesPerSecond::new(unsigned(weight))),
        unmeasured: row.get(FIRST + 5)?,
        descriptor,
        helpers: decode_helpers(bytes(row, FIRST + 15)?),
        result: read_result(row)?,
        verdict,
    })
}

fn read_result(row: &Row<'_>) -> Result<SummaryResult, Fault> {
    let failed: bool = row.get_ref(FIRST + 10)? != rusqlite::types::ValueRef::Null;
    if failed {
        return Ok(SummaryResult::Failed(
            name(row, FIRST + 10, Stage::from_name)?,
            name(row, FIRST + 11, FailureKind::from_name)?,
            name(row, FIRST + 12, Blame::from_name)?,
        ));
    }
    let rates = match optional_bytes(row, FIRST + 14)? {
        Some(bytes) => {
            let (rates, _) = bytes.as_chunks();
            rates.iter().map(|&rate| f64::from_le_bytes(rate)).collect()
        }
        None => row.get::<_, Option<f64>>(FIRST + 13)?.into_iter().collect(),
    };
    Ok(SummaryResult::Measured(rates))
}

/// The value with the name that is in `column`.
fn name<T>(row: &Row<'_>, column: usize, parse: fn(&str) -> Option<T>) -> Result<T, Fault> {
    let text = row
        .get_ref(column)?
        .as_str()
        .map_err(rusqlite::Error::from)?;
    parse(text).ok_or_else(|| {
        let name = row.as_ref().column_name(column).unwrap_or("?");
        std::io::Error::other(format!("{name} of an outcome is {text:?}")).into()
    })
}
