//! Bandwidth files as JSON Lines.

#[cfg(feature = "json")]
use std::io::Write;

#[cfg(feature = "json")]
use crate::document::Document;
#[cfg(feature = "json")]
use crate::error::Error;
#[cfg(feature = "json")]
use crate::relay::RelayLineRef;

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
