//! Bandwidth files as tables in CSV.

use std::io::Write;

use crate::document::Document;
use crate::error::Error;
use crate::keys::RELAY_KEYS;

/// Writes the relay lines as CSV (RFC 4180, but with LF): a column for each
/// known key that some line has, in order of name, then `other` for the
/// remaining pairs. Values are as the file spells them, absent ones empty.
///
/// # Errors
/// If writing fails.
pub fn write_csv<W: Write>(document: &Document<'_>, writer: W) -> Result<(), Error> {
    let columns = Columns::of(document);
    let mut out = csv::Writer::from_writer(writer);
    columns.write_head(&[], &mut out)?;
    columns.write_rows(&[], document, &mut out)?;
    Ok(out.flush()?)
}

/// Writes the head of a table with the relays of many files, for the rows of
/// [`write_csv_of`]: `file`, `timestamp`, every known key, `other`.
///
/// # Errors
/// If writing fails.
pub fn write_csv_head<W: Write>(writer: W) -> Result<(), Error> {
    let mut out = csv::Writer::from_writer(writer);
    Columns::all().write_head(&["file", "timestamp"], &mut out)?;
    Ok(out.flush()?)
}

/// Writes a row for each relay line of one file among others, below
/// [`write_csv_head`].
///
/// ```
/// use bw_file::{Document, write_csv_head, write_csv_of};
///
/// let mut out = Vec::new();
/// write_csv_head(&mut out)?;
/// write_csv_of("first", &Document::parse(b"1700000000\nbw=5 node_id=$00\n"), &mut out)?;
/// write_csv_of("second", &Document::parse(b"1700003600\nbw=6 node_id=$00\n"), &mut out)?;
/// let text = String::from_utf8(out).unwrap();
/// let rows: Vec<&str> = text.lines().collect();
/// assert!(rows[0].starts_with("file,timestamp,bw,bw_mean,"));
/// assert!(rows[2].starts_with("second,1700003600,6,"));
/// # Ok::<(), bw_file::Error>(())
/// ```
///
/// # Errors
/// If writing fails.
pub fn write_csv_of<W: Write>(file: &str, document: &Document<'_>, writer: W) -> Result<(), Error> {
    let timestamp = document.timestamp().value();
    let timestamp = timestamp.map_or_else(String::new, |time| time.to_string());
    let before = [file.as_bytes(), timestamp.as_bytes()];
    let mut out = csv::Writer::from_writer(writer);
    Columns::all().write_rows(&before, document, &mut out)?;
    Ok(out.flush()?)
}

/// The columns of a table after those that it has for all its rows.
#[derive(Debug)]
struct Columns {
    /// Indices of [`RELAY_KEYS`].
    keys: Vec<usize>,
    other: bool,
}

impl Columns {
    fn all() -> Self {
        Self {
            keys: (0..RELAY_KEYS.len()).collect(),
            other: true,
        }
    }

    /// One for each known key that some line has.
    fn of(document: &Document<'_>) -> Self {
        let mut used = [false; RELAY_KEYS.len()];
        let mut other = false;
        for relay in document.relays() {
            for pair in relay.pairs() {
                match column_of(pair.key) {
                    Some(column) => used[column] = true,
                    None => other = true,
                }
            }
        }
        let keys = (0..used.len()).filter(|&column| used[column]).collect();
        Self { keys, other }
    }

    fn write_head<W: Write>(&self, before: &[&str], out: &mut csv::Writer<W>) -> Result<(), Error> {
        let keys = self.keys.iter().map(|&column| RELAY_KEYS[column].name);
        let other = self.other.then_some("other");
        write_row(before.iter().copied().chain(keys).chain(other), out)
    }

    fn write_rows<W: Write>(
        &self,
        before: &[&[u8]],
        document: &Document<'_>,
        out: &mut csv::Writer<W>,
    ) -> Result<(), Error> {
        for relay in document.relays() {
            let mut values = [&b""[..]; RELAY_KEYS.len()];
            let mut other = Vec::new();
            for pair in relay.pairs() {
                match (column_of(pair.key), pair.value) {
                    (Some(column), Some(value)) => values[column] = value,
                    _ => {
                        if !other.is_empty() {
                            other.push(b' ');
                        }
                        other.extend_from_slice(&relay.as_bytes()[pair.offset..pair.end()]);
                    }
                }
            }
            let known = self.keys.iter().map(|&column| values[column]);
            let other = self.other.then_some(&other[..]);
            write_row(before.iter().copied().chain(known).chain(other), out)?;
        }
        Ok(())
    }
}

fn write_row<W: Write>(
    cells: impl IntoIterator<Item = impl AsRef<[u8]>>,
    out: &mut csv::Writer<W>,
) -> Result<(), Error> {
    Ok(out.write_record(cells).map_err(into_io)?)
}

/// The error of the writer below, whose kind callers look at: a pipe that nobody reads any more.
fn into_io(error: csv::Error) -> std::io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => std::io::Error::other(format!("{other:?}")),
    }
}

fn column_of(key: &[u8]) -> Option<usize> {
    RELAY_KEYS
        .binary_search_by(|info| info.name.as_bytes().cmp(key))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = b"1\nbw=1 nick=a,\"b node_id=$00 x=1 word\nnode_id=$01 bw=2\n";

    #[test]
    fn csv_quotes_what_it_must() {
        let mut out = Vec::new();
        write_csv(&Document::parse(FILE), &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "bw,nick,node_id,other\n1,\"a,\"\"b\",$00,x=1 word\n2,,$01,\n"
        );
    }
}
