//! Values of columns, and rows that several queries read.

use bw_file::Fingerprint;
use bw_results::{Scan, ScanId, UnixMillis};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::Error;
use crate::fault::Fault;

/// The columns that [`read_scan`] reads, in this order from the first.
pub(crate) const SCAN_COLUMNS: &str = "identity, scanner, started, ended, parameters";

/// The row of a scan.
pub(crate) fn scan_row(connection: &Connection, scan: &ScanId) -> Result<i64, Fault> {
    let found = connection
        .prepare_cached("SELECT id FROM scan WHERE identity = ?1")?
        .query_row(params![scan.as_bytes()], |row| row.get(0))
        .optional()?;
    found.ok_or_else(|| Error::UnknownScan { scan: *scan }.into())
}

/// The scan in [`SCAN_COLUMNS`].
pub(crate) fn read_scan(row: &Row<'_>) -> rusqlite::Result<Scan> {
    let parameters: String = row.get(4)?;
    let parameters = serde_json::from_str(&parameters).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(4, rusqlite::types::Type::Text, error.into())
    })?;
    let id = ScanId::from_bytes(row.get(0)?);
    let mut scan = Scan::new(id, row.get(1)?, read_time(row, 2)?, parameters);
    scan.ended = optional_time(row, 3)?;
    Ok(scan)
}

pub(crate) fn read_time(row: &Row<'_>, column: usize) -> rusqlite::Result<UnixMillis> {
    row.get(column).map(unsigned).map(UnixMillis::new)
}

pub(crate) fn optional_time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<UnixMillis>> {
    let value: Option<i64> = row.get(column)?;
    Ok(value.map(|value| UnixMillis::new(unsigned(value))))
}

/// SQLite's integers are signed: a larger value becomes the largest.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

pub(crate) fn time(time: UnixMillis) -> i64 {
    signed(time.value())
}

/// Fingerprints as the column of helpers has them.
pub(crate) fn encode_helpers(helpers: &[Fingerprint]) -> Vec<u8> {
    helpers
        .iter()
        .flat_map(Fingerprint::as_bytes)
        .copied()
        .collect()
}

/// The fingerprints in the column of helpers.
pub(crate) fn decode_helpers(column: &[u8]) -> Vec<Fingerprint> {
    let (helpers, _) = column.as_chunks();
    helpers
        .iter()
        .map(|&bytes| Fingerprint::from_bytes(bytes))
        .collect()
}
