//! Reading outcomes one by one, without a list of all of them.

use std::collections::HashMap;
use std::ops::ControlFlow;

use bw_file::{BytesPerSecond, Fingerprint, KilobytesPerSecond};
use bw_results::{
    Blame, DescriptorFacts, FailureKind, Outcome, OutcomeId, OutcomeSummary, Position, ScanId,
    Stage, SummaryResult, Verdict,
};
use rusqlite::{Connection, Row, params_from_iter};

use crate::codec::OutcomeCodec;
use crate::columns::{decode_helpers, read_time, unsigned};
use crate::fault::Fault;
use crate::{Filter, Result, Store, Supplement, Supplemented};

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

    /// The same with what another program said beyond them.
    ///
    /// # Errors
    /// If the store fails; `visit` has seen some of them then.
    pub fn for_each_supplemented<S: Supplement, B>(
        &self,
        filter: &Filter,
        visit: impl FnMut(Stored<'_, (Outcome, Option<S>)>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>> {
        self.read(|connection| {
            let mut codec = OutcomeCodec::new()?;
            let selection = "outcome_record.data, supplement.data
                FROM outcome JOIN outcome_record USING (id) LEFT JOIN supplement USING (id)";
            let decode = |row: &Row<'_>, _, _| {
                let outcome = codec.decode(bytes(row, FIRST)?)?;
                Ok((outcome, read_supplement(row, FIRST + 1)?))
            };
            for_each_row(connection, filter, selection, decode, visit)
        })
    }

    /// Shows the supplement of each selected outcome, with the relay that it is
    /// of, and the outcome itself only where it has none: several times faster.
    ///
    /// # Errors
    /// If the store fails; `visit` has seen some of them then.
    pub fn for_each_supplement<S: Supplement, B>(
        &self,
        filter: &Filter,
        visit: impl FnMut(Stored<'_, (Fingerprint, Supplemented<S>)>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>> {
        self.read(|connection| {
            let mut codec = OutcomeCodec::new()?;
            let mut record =
                connection.prepare_cached("SELECT data FROM outcome_record WHERE id = ?1")?;
            let selection = "supplement.data, outcome.id
                FROM outcome LEFT JOIN supplement USING (id)";
            let decode = |row: &Row<'_>, fingerprint, _| {
                let value = match read_supplement(row, FIRST)? {
                    Some(supplement) => Supplemented::Supplement(supplement),
                    None => {
                        let id: i64 = row.get(FIRST + 1)?;
                        let data: Vec<u8> = record.query_row([id], |row| row.get(0))?;
                        Supplemented::Outcome(codec.decode(&data)?.into())
                    }
                };
                Ok((fingerprint, value))
            };
            for_each_row(connection, filter, selection, decode, visit)
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
                 helpers FROM outcome";
            for_each_row(connection, filter, selection, read_summary, visit)
        })
    }
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

fn read_supplement<S: Supplement>(row: &Row<'_>, column: usize) -> Result<Option<S>, Fault> {
    let bytes = optional_bytes(row, column)?;
    Ok(bytes.map(S::from_bytes).transpose()?.flatten())
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
    let mut summary = OutcomeSummary::of_attempt(
        fingerprint,
        name(row, FIRST, Position::from_name)?,
        read_time(row, FIRST + 1)?,
        read_time(row, FIRST + 2)?,
        read_result(row)?,
        verdict,
    );
    let weight: Option<i64> = row.get(FIRST + 4)?;
    summary.bytes = row.get(FIRST + 3).map(unsigned)?;
    summary.consensus_weight = weight.map(|weight| KilobytesPerSecond::new(unsigned(weight)));
    summary.unmeasured = row.get(FIRST + 5)?;
    summary.descriptor = read_descriptor(row, FIRST + 6)?;
    summary.helpers = decode_helpers(bytes(row, FIRST + 15)?);
    Ok(summary)
}

/// The descriptor whose time is in `column`, and its bandwidths in the next ones.
fn read_descriptor(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<DescriptorFacts>> {
    let bandwidth = |column| -> rusqlite::Result<_> {
        let value: Option<i64> = row.get(column)?;
        Ok(BytesPerSecond::new(unsigned(value.unwrap_or(0))))
    };
    Ok(match row.get::<_, Option<i64>>(column)? {
        Some(_) => Some(DescriptorFacts::new(
            read_time(row, column)?,
            bandwidth(column + 1)?,
            bandwidth(column + 2)?,
            bandwidth(column + 3)?,
        )),
        None => None,
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
