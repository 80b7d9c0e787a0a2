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
    let mut used = [false; RELAY_KEYS.len()];
    let mut has_other = false;
    for relay in document.relays() {
        for pair in relay.pairs() {
            match column_of(pair.key) {
                Some(column) => used[column] = true,
                None => has_other = true,
            }
        }
    }
    let columns: Vec<usize> = (0..used.len()).filter(|&column| used[column]).collect();
    let mut head: Vec<&str> = columns
        .iter()
        .map(|&column| RELAY_KEYS[column].name)
        .collect();
    if has_other {
        head.push("other");
    }
    writeln!(writer, "{}", head.join(","))?;
    let mut cells: Vec<&[u8]> = Vec::new();
    for relay in document.relays() {
        cells.clear();
        cells.resize(RELAY_KEYS.len(), b"");
        let mut other = Vec::new();
        for pair in relay.pairs() {
            match (column_of(pair.key), pair.value) {
                (Some(column), Some(value)) => cells[column] = value,
                _ => {
                    if !other.is_empty() {
                        other.push(b' ');
                    }
                    other.extend_from_slice(&relay.as_bytes()[pair.offset..pair.end()]);
                }
            }
        }
        let mut row = Vec::new();
        for (index, &column) in columns.iter().enumerate() {
            if index > 0 {
                row.push(b',');
            }
            push_cell(cells[column], &mut row);
        }
        if has_other {
            if !columns.is_empty() {
                row.push(b',');
            }
            push_cell(&other, &mut row);
        }
        row.push(b'\n');
        writer.write_all(&row)?;
    }
    Ok(())
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
