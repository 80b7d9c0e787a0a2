//! Reading outcomes one by one, without a list of all of them.

use std::ops::ControlFlow;

use bw_file::{BytesPerSecond, Fingerprint, KilobytesPerSecond};
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use crate::codec::OutcomeCodec;
use crate::error::Result;
use crate::store::{Fault, read_time, time, unsigned};
use crate::{
    Blame, DescriptorFacts, FailureKind, Outcome, OutcomeId, OutcomeSummary, Position, ScanId,
    Stage, Store, SummaryResult, UnixMillis,
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
            conditions.push(format!("scan.identity IN ({marks})"));
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
            conditions.push("relay.fingerprint = ?".to_owned());
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
    /// The outcome, or its summary.
    pub value: T,
}

impl Store {
    /// Shows each selected outcome to `visit`, with its raw samples, in the
    /// order in which they were recorded, until there are no more or `visit`
    /// breaks; returns how it ended. All are of the moment when this began.
    ///
    /// # Errors
    /// If the store fails; `visit` has seen some of them then.
    pub fn for_each_outcome<B>(
        &self,
        filter: &Filter,
        mut visit: impl FnMut(Stored<'_, Outcome>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>> {
        self.read(|connection| {
            let mut codec = OutcomeCodec::new()?;
            for_each_row(
                connection,
                filter,
                "outcome_record.data FROM outcome JOIN outcome_record USING (id)",
                |row| {
                    let record = row
                        .get_ref(FIRST)?
                        .as_blob()
                        .map_err(rusqlite::Error::from)?;
                    Ok(codec.decode(record)?)
                },
                &mut visit,
            )
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
        mut visit: impl FnMut(Stored<'_, OutcomeSummary>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>> {
        self.read(|connection| {
            for_each_row(
                connection,
                filter,
                "relay.fingerprint, position, outcome.started, outcome.ended, bytes,
                 consensus_weight_kb, unmeasured, descriptor_published, descriptor_average,
                 descriptor_burst, descriptor_observed, stage, kind, blame, rate, rates
                 FROM outcome",
                read_summary,
                &mut visit,
            )
        })
    }
}

/// The first column after those that [`for_each_row`] reads itself.
const FIRST: usize = 3;

fn for_each_row<T, B>(
    connection: &Connection,
    filter: &Filter,
    selection: &str,
    mut decode: impl FnMut(&Row<'_>) -> Result<T, Fault>,
    visit: &mut impl FnMut(Stored<'_, T>) -> ControlFlow<B>,
) -> Result<ControlFlow<B>, Fault> {
    let (clause, values) = filter.clause();
    let sql = format!(
        "SELECT outcome.identity, scan.identity, scan.scanner, {selection}
         JOIN scan ON scan.id = outcome.scan JOIN relay ON relay.id = outcome.relay
         WHERE {clause} ORDER BY outcome.id"
    );
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    while let Some(row) = rows.next()? {
        let stored = Stored {
            id: OutcomeId::from_bytes(row.get(0)?),
            scan: ScanId::from_bytes(row.get(1)?),
            scanner: row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?,
            value: decode(row)?,
        };
        if let stop @ ControlFlow::Break(_) = visit(stored) {
            return Ok(stop);
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn read_summary(row: &Row<'_>) -> Result<OutcomeSummary, Fault> {
    let bandwidth = |column| -> rusqlite::Result<_> {
        let value: Option<i64> = row.get(column)?;
        Ok(BytesPerSecond::new(unsigned(value.unwrap_or(0))))
    };
    let descriptor = match row.get::<_, Option<i64>>(FIRST + 7)? {
        Some(_) => Some(DescriptorFacts {
            published: read_time(row, FIRST + 7)?,
            average: bandwidth(FIRST + 8)?,
            burst: bandwidth(FIRST + 9)?,
            observed: bandwidth(FIRST + 10)?,
        }),
        None => None,
    };
    let weight: Option<i64> = row.get(FIRST + 5)?;
    Ok(OutcomeSummary {
        fingerprint: Fingerprint::from_bytes(row.get(FIRST)?),
        position: name(row, FIRST + 1, Position::from_name)?,
        started: read_time(row, FIRST + 2)?,
        ended: read_time(row, FIRST + 3)?,
        bytes: row.get(FIRST + 4).map(unsigned)?,
        consensus_weight: weight.map(|weight| KilobytesPerSecond::new(unsigned(weight))),
        unmeasured: row.get(FIRST + 6)?,
        descriptor,
        result: read_result(row)?,
    })
}

fn read_result(row: &Row<'_>) -> Result<SummaryResult, Fault> {
    let failed: bool = row.get_ref(FIRST + 11)? != rusqlite::types::ValueRef::Null;
    if failed {
        return Ok(SummaryResult::Failed(
            name(row, FIRST + 11, Stage::from_name)?,
            name(row, FIRST + 12, FailureKind::from_name)?,
            name(row, FIRST + 13, Blame::from_name)?,
        ));
    }
    let several: Option<&[u8]> = row
        .get_ref(FIRST + 15)?
        .as_blob_or_null()
        .map_err(rusqlite::Error::from)?;
    let rates = match several {
        Some(bytes) => {
            let (rates, _) = bytes.as_chunks();
            rates.iter().map(|&rate| f64::from_le_bytes(rate)).collect()
        }
        None => row.get::<_, Option<f64>>(FIRST + 14)?.into_iter().collect(),
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
