//! Bandwidth files as tables: CSV and JSON Lines.

use std::io::Write;

use crate::document::Document;
use crate::error::Error;
use crate::keys::RELAY_KEYS;
#[cfg(feature = "json")]
use crate::relay::RelayLineRef;

/// Writes the relay lines as CSV (RFC 4180, but with LF): a column for each
/// known key that some line has, in order of name, then `other` for the
/// remaining pairs. Values are as the file spells them, absent ones empty.
///
/// # Errors
/// If writing fails.
pub fn write_csv<W: Write>(document: &Document<'_>, mut writer: W) -> Result<(), Error> {
    let columns = Columns::of(document);
    columns.write_head(&[], &mut writer)?;
    columns.write_rows(&[], document, &mut writer)
}

/// Writes the head of a table with the relays of many files, for the rows of
/// [`write_csv_of`]: `file`, `timestamp`, every known key, `other`.
///
/// # Errors
/// If writing fails.
pub fn write_csv_head<W: Write>(mut writer: W) -> Result<(), Error> {
    Columns::all().write_head(&["file", "timestamp"], &mut writer)
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
pub fn write_csv_of<W: Write>(
    file: &str,
    document: &Document<'_>,
    mut writer: W,
) -> Result<(), Error> {
    let timestamp = document.timestamp().value();
    let timestamp = timestamp.map_or_else(String::new, |time| time.to_string());
    let before = [file.as_bytes(), timestamp.as_bytes()];
    Columns::all().write_rows(&before, document, &mut writer)
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

    fn write_head(&self, before: &[&str], writer: &mut impl Write) -> Result<(), Error> {
        let keys = self.keys.iter().map(|&column| RELAY_KEYS[column].name);
        let other = self.other.then_some("other");
        let head: Vec<&str> = before.iter().copied().chain(keys).chain(other).collect();
        writeln!(writer, "{}", head.join(","))?;
        Ok(())
    }

    fn write_rows(
        &self,
        before: &[&[u8]],
        document: &Document<'_>,
        writer: &mut impl Write,
    ) -> Result<(), Error> {
        let mut row = Vec::new();
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
            row.clear();
            for (index, cell) in before.iter().copied().chain(known).chain(other).enumerate() {
                if index > 0 {
                    row.push(b',');
                }
                push_cell(cell, &mut row);
            }
            row.push(b'\n');
            writer.write_all(&row)?;
        }
        Ok(())
    }
}

fn column_of(key: &[u8]) -> Option<usize> {
    RELAY_KEYS
        .binary_search_by(|info| info.name.as_bytes().cmp(key))
        .ok()
}

fn push_cell(cell: &[u8], row: &mut Vec<u8>) {
    if cell
        .iter()
        .any(|byte| matches!(byte, b',' | b'"' | b'\r' | b'\n'))
    {
        row.push(b'"');
        for &byte in cell {
            if byte == b'"' {
                row.push(b'"');
            }
            row.push(byte);
        }
        row.push(b'"');
    } else {
        row.extend_from_slice(cell);
    }
}

/// JSON Schema (2020-12) of all JSON that this crate writes: a line of
/// [`write_json_lines`] as the schema itself, the other types in its `$defs`
/// as `header`, `report`, `judgement`, `diff`, and `comparison`.
pub const JSON_SCHEMA: &str = include_str!("../schema/bw-file.schema.json");

/// Writes the relay lines as JSON Lines: for each an object as
/// [`RelayFields`](crate::RelayFields) describes.
///
/// # Errors
/// If writing fails.
#[cfg(feature = "json")]
pub fn write_json_lines<'a, W: Write>(
    relays: impl IntoIterator<Item = RelayLineRef<'a>>,
    mut writer: W,
) -> Result<(), Error> {
    for relay in relays {
        serde_json::to_writer(&mut writer, &crate::RelayFields::new(relay))
            .map_err(std::io::Error::from)?;
        writer.write_all(b"\n")?;
    }
    Ok(())
}

/// As [`write_json_lines`] for the relays of one file among others: each object
/// begins with `file` and `timestamp`, which is `null` if the file has none.
///
/// # Errors
/// If writing fails.
#[cfg(feature = "json")]
pub fn write_json_lines_of<W: Write>(
    file: &str,
    document: &Document<'_>,
    mut writer: W,
) -> Result<(), Error> {
    #[derive(serde::Serialize)]
    struct Row<'a> {
        file: &'a str,
        timestamp: Option<crate::UnixTime>,
        #[serde(flatten)]
        relay: crate::RelayFields<'a>,
    }
    let timestamp = document.timestamp().value();
    for relay in document.relays() {
        let row = Row {
            file,
            timestamp,
            relay: crate::RelayFields::new(relay),
        };
        serde_json::to_writer(&mut writer, &row).map_err(std::io::Error::from)?;
        writer.write_all(b"\n")?;
    }
    Ok(())
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

    #[cfg(feature = "json")]
    #[test]
    fn json_lines_come_back() {
        let mut out = Vec::new();
        write_json_lines(Document::parse(FILE).relays(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for (line, relay) in text.lines().zip(Document::parse(FILE).relays()) {
            let fields: crate::RelayFields<'_> = serde_json::from_str(line).unwrap();
            assert_eq!(fields, crate::RelayFields::new(relay));
        }
        assert_eq!(text.lines().count(), 2);
    }
}
