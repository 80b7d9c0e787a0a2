//! A whole file, kept byte for byte.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use crate::error::{Error, ErrorKind, Limit, Position, wide};
use crate::identity::{Ed25519Identity, Fingerprint};
use crate::line::{
    Classifier, HeaderLine, Line, LineEnding, LineKind, RawLines, classify_in_body, split_ending,
};
use crate::relay::{RelayLine, RelayLineRef, check_pair};
use crate::time::{DateTime, UnixTime};
use crate::value::{Field, FieldValue};
use crate::version::FormatVersion;

/// The most input that is taken before an [error](ErrorKind::LimitExceeded).
///
/// The defaults suit files from unknown hands: 256 MiB a file, 1 MiB a line,
/// a million lines. A file of today's network has about 8 MB, lines of less
/// than 1 KiB, and about 12,000 of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes in one file.
    pub file_bytes: u64,
    /// Bytes in one line.
    pub line_bytes: u64,
    /// Lines in one file.
    pub lines: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: 256 << 20,
            line_bytes: 1 << 20,
            lines: 1_000_000,
        }
    }
}

impl Limits {
    /// No limits at all.
    pub const NONE: Self = Self {
        file_bytes: u64::MAX,
        line_bytes: u64::MAX,
        lines: u64::MAX,
    };

    pub(crate) fn check(
        maximum: u64,
        actual: u64,
        limit: Limit,
        position: impl FnOnce() -> Position,
    ) -> Result<(), Error> {
        if actual <= maximum {
            return Ok(());
        }
        Err(Error::new(ErrorKind::LimitExceeded {
            limit,
            maximum,
            position: position(),
        }))
    }
}

/// A bandwidth file with every byte of it.
///
/// Any input is a document; [`to_bytes`](Self::to_bytes) gives it back
/// unchanged, whatever it was. What is wrong with it is the business of
/// [`spec`](crate::spec), [`TorJudge`](crate::TorJudge), and
/// [`lint`](crate::lint).
///
/// ```
/// use bw_file::Document;
///
/// let text = b"1700000000\nversion=1.9.0\nsoftware=x\n=====\n\
///     node_id=$0123456789012345678901234567890123456789 bw=760\n";
/// let mut document = Document::parse(text);
/// assert_eq!(document.to_bytes(), text);
///
/// document.set_header("software", "bwscan")?;
/// let relay = document.relays().next().unwrap();
/// assert_eq!(relay.bandwidth().unwrap().value(), 760);
/// assert!(document.to_bytes().starts_with(b"1700000000\nversion=1.9.0\nsoftware=bwscan\n====="));
/// # Ok::<(), bw_file::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Document<'a> {
    lines: Vec<Line<'a>>,
}

/// Where each relay's line is in a document, by both identities.
///
/// A snapshot: edits of the document do not reach it. Where a relay comes
/// twice, its last line counts, as it does in tor's vote.
#[derive(Clone, Debug, Default)]
pub struct RelayIndex {
    by_fingerprint: HashMap<Fingerprint, usize>,
    by_identity: HashMap<Ed25519Identity, usize>,
}

impl RelayIndex {
    /// Index of the relay's line among the document's lines.
    pub fn by_fingerprint(&self, fingerprint: &Fingerprint) -> Option<usize> {
        self.by_fingerprint.get(fingerprint).copied()
    }

    /// Index of the relay's line among the document's lines.
    pub fn by_identity(&self, identity: &Ed25519Identity) -> Option<usize> {
        self.by_identity.get(identity).copied()
    }
}

impl Document<'static> {
    /// Reads the file at `path`, with the defaults of [`Limits`]. To copy nothing, read
    /// the bytes, and [parse](Document::parse) them.
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("latest.v3bw");
    /// # std::fs::write(&path, "1700000000\nversion=1.9.0\n=====\n")?;
    /// let document = bw_file::Document::from_path(&path)?;
    /// assert_eq!(document.timestamp().value().unwrap().seconds(), 1_700_000_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::File`] if it cannot be read, [`ErrorKind::LimitExceeded`] if it is
    /// too large.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, Error> {
        let (path, limits) = (path.as_ref(), Limits::default());
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| {
            let most = limits.file_bytes.saturating_add(1);
            file.take(most).read_to_end(&mut bytes)
        });
        read.map_err(|error| Error::file("cannot read", path, error))?;
        Ok(Document::parse_with_limits(&bytes, &limits)?.into_owned())
    }
}

/// Reading.
impl<'a> Document<'a> {
    /// Reads a document from bytes, borrowing them. Takes any input.
    pub fn parse(bytes: &'a [u8]) -> Self {
        let mut classifier = Classifier::default();
        // Relay lines have hundreds of bytes.
        let mut lines = Vec::with_capacity(bytes.len() / 128 + 8);
        for raw in RawLines::new(bytes) {
            let kind = classifier.classify(split_ending(raw).0);
            lines.push(Line::new(kind, Cow::Borrowed(raw)));
        }
        Self { lines }
    }

    /// Reads a document from bytes of unknown origin.
    ///
    /// # Errors
    /// If there is more of something than `limits` allow.
    pub fn parse_with_limits(bytes: &'a [u8], limits: &Limits) -> Result<Self, Error> {
        Limits::check(
            limits.file_bytes,
            wide(bytes.len()),
            Limit::FileBytes,
            || Position::START,
        )?;
        let (mut number, mut byte) = (0, 0);
        for raw in RawLines::new(bytes) {
            number += 1;
            let position = || Position::new(byte, number, 1);
            Limits::check(limits.lines, number, Limit::Lines, position)?;
            Limits::check(
                limits.line_bytes,
                wide(raw.len()),
                Limit::LineBytes,
                position,
            )?;
            byte += wide(raw.len());
        }
        Ok(Self::parse(bytes))
    }

    /// All bytes of the document.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.lines.iter().map(|l| l.as_bytes().len()).sum());
        for line in &self.lines {
            bytes.extend_from_slice(line.as_bytes());
        }
        bytes
    }

    /// Writes all bytes of the document.
    ///
    /// # Errors
    /// If writing fails.
    pub fn write_to<W: io::Write>(&self, mut writer: W) -> Result<(), Error> {
        for line in &self.lines {
            writer.write_all(line.as_bytes())?;
        }
        Ok(())
    }

    /// The same document without borrowing.
    pub fn into_owned(self) -> Document<'static> {
        Document {
            lines: self.lines.into_iter().map(Line::into_owned).collect(),
        }
    }

    /// Returns true if this can be a bandwidth file at all: the first line that is no
    /// annotation is a time, or some line has a relay with a bandwidth. The file may have
    /// defects nevertheless.
    ///
    /// ```
    /// use bw_file::Document;
    ///
    /// assert!(Document::parse(b"1700000000\n").is_bandwidth_file());
    /// assert!(!Document::parse(b"\x7fELF").is_bandwidth_file());
    /// assert!(!Document::parse(b"").is_bandwidth_file());
    /// ```
    pub fn is_bandwidth_file(&self) -> bool {
        let is_usable =
            |relay: RelayLineRef<'_>| relay.fingerprint().is_some() && relay.bandwidth().is_some();
        self.timestamp().value().is_some() || self.relays().any(is_usable)
    }

    /// When the file was made: `file_created`, or the timestamp of a file that
    /// does not say so.
    pub fn created(&self) -> Option<UnixTime> {
        let created = self.header(b"file_created").and_then(DateTime::parse_field);
        created
            .map(UnixTime::from)
            .or_else(|| self.timestamp().value())
    }

    /// All lines in order.
    pub fn lines(&self) -> &[Line<'a>] {
        &self.lines
    }

    /// The timestamp in the file's first line that is no annotation.
    ///
    /// Spaces and tabs around the number and a byte-order mark before it are
    /// overlooked here; tor refuses most of them.
    pub fn timestamp(&self) -> Field<'_, UnixTime> {
        match self.timestamp_line() {
            Some(line) => Field::read("timestamp", Some(timestamp_digits(line.content()))),
            None => Field::Absent,
        }
    }

    fn timestamp_line(&self) -> Option<&Line<'a>> {
        self.lines
            .iter()
            .find(|line| line.kind() == LineKind::Timestamp)
    }

    /// The version of the format: 1.0.0 if no header names one.
    pub fn version(&self) -> Field<'_, FormatVersion> {
        match self.header(b"version") {
            None => Field::Value(FormatVersion::V1_0_0),
            raw => Field::read("version", raw),
        }
    }

    /// The header lines in order, duplicates and all.
    pub fn headers(&self) -> impl Iterator<Item = HeaderLine<'_>> {
        self.lines
            .iter()
            .filter(|line| line.kind() == LineKind::Header)
            .filter_map(|line| HeaderLine::parse(line.content()))
    }

    /// The value of a header as it is written; the last one, if there are
    /// several.
    pub fn header(&self, key: &[u8]) -> Option<&[u8]> {
        self.headers()
            .filter(|header| header.key() == key)
            .last()
            .map(|header| header.value())
    }

    /// The relay lines in order.
    pub fn relays(&self) -> impl Iterator<Item = RelayLineRef<'_>> {
        self.relay_lines().map(|(_, relay)| relay)
    }

    /// The relay lines in order, each with its index among all lines.
    pub fn relay_lines(&self) -> impl Iterator<Item = (usize, RelayLineRef<'_>)> {
        self.lines
            .iter()
            .enumerate()
            .filter(|(_, line)| line.kind() == LineKind::Relay)
            .map(|(index, line)| (index, RelayLineRef::new(line.content())))
    }

    /// The relay line with this index among all lines, if it is one.
    pub fn relay(&self, line: usize) -> Option<RelayLineRef<'_>> {
        self.lines
            .get(line)
            .filter(|line| line.kind() == LineKind::Relay)
            .map(|line| RelayLineRef::new(line.content()))
    }

    /// Where each relay's line is.
    pub fn index(&self) -> RelayIndex {
        let mut index = RelayIndex::default();
        for (line, relay) in self.relay_lines() {
            if let Some(fingerprint) = relay.fingerprint() {
                index.by_fingerprint.insert(fingerprint, line);
            }
            if let Some(identity) = relay.identity() {
                index.by_identity.insert(identity, line);
            }
        }
        index
    }

    /// The relay lines that borrow from the input, for as long as the input
    /// lives; lines that were edited are not among them.
    pub fn borrowed_relays(&self) -> impl Iterator<Item = RelayLineRef<'a>> {
        self.lines
            .iter()
            .filter(|line| line.kind() == LineKind::Relay)
            .filter_map(Line::as_borrowed)
            .map(|raw| RelayLineRef::new(split_ending(raw).0))
    }
}

/// The part of a timestamp line that has the number.
pub(crate) fn timestamp_digits(content: &[u8]) -> &[u8] {
    content
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(content)
        .trim_ascii()
}

/// Editing. Every edit changes only the lines it names, and leaves the
/// document as if the edited bytes had been parsed.
impl Document<'_> {
    /// Replaces the timestamp.
    ///
    /// # Errors
    /// If the document has no line for it: it is empty or has annotations
    /// only. Also if the time is before 1970.
    pub fn set_timestamp(&mut self, timestamp: UnixTime) -> Result<(), Error> {
        let mut text = String::new();
        timestamp.write_field(&mut text);
        if UnixTime::parse_field(text.as_bytes()).is_none() {
            return Err(Error::new(ErrorKind::InvalidValue {
                key: "timestamp".to_owned(),
                value: text,
                expected: UnixTime::EXPECTED,
            }));
        }
        let line = self.timestamp_index()?;
        self.lines[line].set_content(text.as_bytes());
        Ok(())
    }

    /// Sets a header: replaces the value of its last occurrence, or inserts
    /// a line after the last line of the header (`version`: after the
    /// timestamp).
    ///
    /// # Errors
    /// If the key or the value cannot be written, or there is no timestamp
    /// that the header could follow.
    pub fn set_header(&mut self, key: &str, value: &str) -> Result<(), Error> {
        check_pair(key, value)?;
        let content = format!("{key}={value}");
        let existing = self.lines.iter().rposition(|line| {
            line.kind() == LineKind::Header
                && HeaderLine::parse(line.content())
                    .is_some_and(|header| header.key() == key.as_bytes())
        });
        if let Some(line) = existing {
            self.lines[line].set_content(content.as_bytes());
            return Ok(());
        }
        let timestamp = self.timestamp_index()?;
        let after = if key == "version" {
            timestamp
        } else {
            self.lines
                .iter()
                .rposition(|line| line.kind() == LineKind::Header)
                .unwrap_or(timestamp)
        };
        self.insert_line(after + 1, LineKind::Header, content.as_bytes());
        Ok(())
    }

    /// Removes all lines of a header and says how many there were.
    pub fn remove_header(&mut self, key: &str) -> usize {
        let before = self.lines.len();
        self.lines.retain(|line| {
            line.kind() != LineKind::Header
                || HeaderLine::parse(line.content())
                    .is_none_or(|header| header.key() != key.as_bytes())
        });
        before - self.lines.len()
    }

    /// Edits every relay line: `edit` changes a copy, which replaces the line if it
    /// differs. A line that loses its last `bw` or identity may cease to be a relay line.
    ///
    /// ```
    /// use bw_file::{Document, Error};
    ///
    /// let mut document = Document::parse(b"1700000000\nbw=760 node_id=$0 xoff_recv=3\n");
    /// document.edit_relays(|relay| {
    ///     relay.remove("xoff_recv");
    ///     relay.set("bw", "380")
    /// })?;
    /// assert_eq!(document.to_bytes(), b"1700000000\nbw=380 node_id=$0\n");
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of `edit`. Lines that were edited before stay so.
    pub fn edit_relays<E>(
        &mut self,
        mut edit: impl FnMut(&mut RelayLine) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut relay = RelayLine::default();
        let mut line = 0;
        while line < self.lines.len() {
            self.edit_line(line, &mut relay, &mut edit)?;
            line += 1;
        }
        Ok(())
    }

    /// Edits the last line of a relay, as [`edit_relays`](Self::edit_relays) does; false
    /// if there is none.
    ///
    /// ```
    /// use bw_file::{Document, Error, Fingerprint};
    ///
    /// let mut document = Document::parse(
    ///     b"1700000000\nbw=760 node_id=$ABABABABABABABABABABABABABABABABABABABAB\n",
    /// );
    /// let relay = Fingerprint::from_bytes([0xAB; 20]);
    /// // Lines move, and the relay is found all the same.
    /// document.set_header("software", "bwscan")?;
    /// assert!(document.edit_relay(&relay, |line| line.set("bw", "380"))?);
    /// assert_eq!(document.relays().next().unwrap().bandwidth().unwrap().value(), 380);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of `edit`; the line is then as it was.
    pub fn edit_relay<E>(
        &mut self,
        relay: &Fingerprint,
        edit: impl FnOnce(&mut RelayLine) -> Result<(), E>,
    ) -> Result<bool, E> {
        let line = self.lines.iter().rposition(|line| {
            line.kind() == LineKind::Relay
                && RelayLineRef::new(line.content()).fingerprint() == Some(*relay)
        });
        let Some(line) = line else {
            return Ok(false);
        };
        self.edit_line(line, &mut RelayLine::default(), edit)?;
        Ok(true)
    }

    /// Edits a line if it is a relay's; `relay` is memory for its copy.
    fn edit_line<E>(
        &mut self,
        line: usize,
        relay: &mut RelayLine,
        edit: impl FnOnce(&mut RelayLine) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(before) = self.relay(line) else {
            return Ok(());
        };
        relay.assign(before.as_bytes());
        edit(relay)?;
        if relay.as_bytes() != before.as_bytes() {
            self.replace_relay(line, relay.as_bytes());
        }
        Ok(())
    }

    /// Inserts a header so that it becomes the line with this index among all
    /// lines. Whether the header has the key already is not looked at.
    ///
    /// # Errors
    /// If the key or the value cannot be written, or the place is not after
    /// the timestamp and before what ends the header.
    pub fn insert_header(&mut self, line: usize, key: &str, value: &str) -> Result<(), Error> {
        check_pair(key, value)?;
        let timestamp = self.timestamp_index()?;
        if line <= timestamp || line > self.lines.len() || !self.ends_header(line) {
            return Err(no_such_place(line, "place for a header"));
        }
        let content = format!("{key}={value}");
        self.insert_line(line, LineKind::Header, content.as_bytes());
        Ok(())
    }

    /// Appends a relay line after the last line. If that has no line end, it
    /// gets one.
    ///
    /// # Errors
    /// If there is no timestamp that it could follow, or the line would not
    /// be taken for a relay line there.
    pub fn push_relay(&mut self, relay: &RelayLine) -> Result<(), Error> {
        self.insert_relay(self.lines.len(), relay)
    }

    /// Inserts a relay line so that it becomes the line with this index among
    /// all lines.
    ///
    /// # Errors
    /// If the place is before the end of the header, or the line would not be
    /// taken for a relay line there.
    pub fn insert_relay(&mut self, line: usize, relay: &RelayLine) -> Result<(), Error> {
        let timestamp = self.timestamp_index()?;
        let in_header = line <= self.lines.len() && self.ends_header(line);
        // Within a header, what follows would cease to be header.
        let splits = in_header
            && self.lines[line..]
                .iter()
                .take_while(|line| line.kind() != LineKind::Relay)
                .any(|line| line.kind() != LineKind::Blank);
        if line <= timestamp || line > self.lines.len() || splits {
            return Err(no_such_place(line, "place for a relay line"));
        }
        let mut classifier = if in_header {
            Classifier::Header
        } else {
            Classifier::Body
        };
        let content = relay.as_bytes();
        if classifier.classify(content) != LineKind::Relay || content.ends_with(b"\r") {
            return Err(Error::new(ErrorKind::InvalidValue {
                key: "relay line".to_owned(),
                value: String::from_utf8_lossy(content).into_owned(),
                expected: "a relay line with bw and an identity",
            }));
        }
        self.insert_line(line, LineKind::Relay, content);
        Ok(())
    }

    /// Removes all lines of a relay, and returns their number.
    pub fn remove_relay(&mut self, relay: &Fingerprint) -> usize {
        let before = self.lines.len();
        self.retain_relays(|line| line.fingerprint() != Some(*relay));
        before - self.lines.len()
    }

    /// Keeps the relay lines that `keep` returns true for, and all other
    /// lines.
    pub fn retain_relays(&mut self, mut keep: impl FnMut(RelayLineRef<'_>) -> bool) {
        self.lines.retain(|line| {
            line.kind() != LineKind::Relay || keep(RelayLineRef::new(line.content()))
        });
        self.classify_all();
    }

    /// Sorts the relay lines among the places that relay lines have; other
    /// lines stay where they are. Equal ones keep their order.
    pub fn sort_relays_by<K: Ord>(&mut self, mut key: impl FnMut(RelayLineRef<'_>) -> K) {
        let places: Vec<usize> = self.relay_lines().map(|(line, _)| line).collect();
        if self
            .lines
            .last()
            .is_some_and(|l| l.kind() == LineKind::Relay)
        {
            self.terminate_last();
        }
        let mut relays: Vec<Line<'_>> = places
            .iter()
            .map(|&place| {
                let empty = Line::new(LineKind::Blank, Cow::Borrowed(&b""[..]));
                std::mem::replace(&mut self.lines[place], empty)
            })
            .collect();
        relays.sort_by_cached_key(|line| key(RelayLineRef::new(line.content())));
        for (place, relay) in places.into_iter().zip(relays) {
            self.lines[place] = relay;
        }
        self.classify_all();
    }

    fn timestamp_index(&self) -> Result<usize, Error> {
        self.lines
            .iter()
            .position(|line| line.kind() == LineKind::Timestamp)
            .ok_or_else(|| {
                Error::new(ErrorKind::NoSuchLine {
                    index: self.lines.len(),
                    expected: "timestamp",
                })
            })
    }

    fn replace_relay(&mut self, line: usize, content: &[u8]) {
        let ends_header = self.ends_header(line);
        self.lines[line].set_content(content);
        let vanished = self.lines[line].as_bytes().is_empty();
        if vanished {
            // The last line, without line feed, has lost its last key.
            self.lines.remove(line);
        }
        if ends_header {
            self.classify_all();
        } else if !vanished {
            // The content may have gained a `\r` at its end, or a new kind.
            let kind = classify_in_body(self.lines[line].content());
            self.lines[line].set_kind(kind);
        }
    }

    /// Returns true if a header without terminator ends at this line.
    fn ends_header(&self, line: usize) -> bool {
        !self.lines[..line]
            .iter()
            .any(|line| matches!(line.kind(), LineKind::Terminator | LineKind::Relay))
    }

    fn insert_line(&mut self, at: usize, kind: LineKind, content: &[u8]) {
        if at == self.lines.len() {
            self.terminate_last();
        }
        let mut bytes = content.to_vec();
        bytes.extend_from_slice(self.usual_ending().as_bytes());
        self.lines.insert(at, Line::new(kind, Cow::Owned(bytes)));
    }

    fn terminate_last(&mut self) {
        let ending = self.usual_ending();
        if let Some(last) = self.lines.last_mut() {
            // A carriage return at the very end becomes part of the ending,
            // which can make another kind of line of it.
            let changes = last.content().ends_with(b"\r");
            last.terminate(ending);
            if changes {
                self.classify_all();
            }
        }
    }

    /// The ending of the first line.
    fn usual_ending(&self) -> LineEnding {
        match self.lines.first().map(Line::ending) {
            Some(LineEnding::CrLf) => LineEnding::CrLf,
            _ => LineEnding::Lf,
        }
    }

    fn classify_all(&mut self) {
        let mut classifier = Classifier::default();
        for line in &mut self.lines {
            let kind = classifier.classify(line.content());
            line.set_kind(kind);
        }
    }
}

fn no_such_place(index: usize, expected: &'static str) -> Error {
    Error::new(ErrorKind::NoSuchLine { index, expected })
}

impl fmt::Debug for Document<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.lines).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = b"1700000000\nversion=1.4.0\nsoftware=x\n=====\n\
        node_id=$00 bw=1 nick=b\nbw=2 node_id=$01  nick=a\nstray\n";

    fn after(edit: impl FnOnce(&mut Document<'_>)) -> String {
        let mut document = Document::parse(FILE);
        edit(&mut document);
        let bytes = document.to_bytes();
        assert_eq!(Document::parse(&bytes), document, "as if parsed");
        String::from_utf8(bytes).unwrap()
    }

    fn edit_nth(document: &mut Document<'_>, nth: usize, edit: impl Fn(&mut RelayLine)) {
        let mut number = 0;
        let edited = document.edit_relays(|relay| {
            if number == nth {
                edit(relay);
            }
            number += 1;
            Ok::<(), Error>(())
        });
        edited.unwrap();
    }

    #[test]
    fn relays_are_edited_wherever_they_are() {
        let text = format!(
            "1\n=====\nbw=1 node_id=${0}\nbw=2 node_id=${1}\nbw=3 node_id=${0}\n",
            "A".repeat(40),
            "B".repeat(40)
        );
        let mut document = Document::parse(text.as_bytes());
        let [a, b, c] = [0xAA, 0xBB, 0xCC].map(|byte| Fingerprint::from_bytes([byte; 20]));
        document.sort_relays_by(|relay| std::cmp::Reverse(relay.bandwidth()));
        document.set_header("software", "x").unwrap();
        // Of several lines the last.
        assert!(document.edit_relay(&a, |line| line.set("bw", "9")).unwrap());
        assert!(!document.edit_relay(&c, |line| line.set("bw", "9")).unwrap());
        assert!(document.edit_relay(&b, |_| Err(())).is_err());
        let bandwidths: Vec<_> = document.relays().map(|relay| relay.get(b"bw")).collect();
        assert_eq!(bandwidths, [Some(&b"3"[..]), Some(b"2"), Some(b"9")]);
        assert_eq!(document.remove_relay(&a), 2);
        assert_eq!(document.remove_relay(&a), 0);
        assert_eq!(document.relays().count(), 1);
    }

    #[test]
    fn edits_touch_one_line() {
        let text = String::from_utf8(FILE.to_vec()).unwrap();
        assert_eq!(
            after(|d| d.set_header("software", "y").unwrap()),
            text.replace("software=x", "software=y")
        );
        assert_eq!(
            after(|d| d.set_header("mu", "5").unwrap()),
            text.replace("=====", "mu=5\n=====")
        );
        assert_eq!(
            after(|d| assert_eq!(d.remove_header("software"), 1)),
            text.replace("software=x\n", "")
        );
        assert_eq!(
            after(|d| edit_nth(d, 1, |relay| relay.set("bw", "77").unwrap())),
            text.replace("bw=2", "bw=77")
        );
        assert_eq!(
            after(|d| edit_nth(d, 0, |relay| assert_eq!(relay.remove("nick"), 1))),
            text.replace(" nick=b", "")
        );
        assert_eq!(
            after(|d| d.retain_relays(|relay| relay.get(b"nick") != Some(b"b"))),
            text.replace("node_id=$00 bw=1 nick=b\n", "")
        );
        assert_eq!(
            after(|d| d.set_timestamp(UnixTime::new(5)).unwrap()),
            text.replace("1700000000", "5")
        );
    }

    #[test]
    fn inserting_adds_one_line_or_pair() {
        let text = String::from_utf8(FILE.to_vec()).unwrap();
        let relay = RelayLine::new("bw=3 node_id=$02").unwrap();
        assert_eq!(
            after(|d| d.insert_header(2, "mu", "5").unwrap()),
            text.replace("software", "mu=5\nsoftware")
        );
        assert_eq!(
            after(|d| d.insert_header(3, "mu", "5").unwrap()),
            text.replace("=====", "mu=5\n=====")
        );
        assert_eq!(
            after(|d| d.insert_relay(5, &relay).unwrap()),
            text.replace("bw=2", "bw=3 node_id=$02\nbw=2")
        );
        assert_eq!(
            after(|d| edit_nth(d, 1, |relay| relay.insert(1, "k", "v").unwrap())),
            text.replace("bw=2 node", "bw=2 k=v node")
        );
        let mut document = Document::parse(FILE);
        for line in [0, 4, 7, 99] {
            assert!(document.insert_header(line, "a", "b").is_err(), "{line}");
        }
        for line in [0, 1, 2, 3, 8] {
            assert!(document.insert_relay(line, &relay).is_err(), "{line}");
        }
        assert_eq!(document.to_bytes(), FILE);

        // Without a terminator, the first relay line ends the header.
        let mut document = Document::parse(b"1\na=b\n\nbw=1 node_id=x\nc");
        assert!(document.insert_relay(1, &relay).is_err());
        document.insert_header(3, "c", "d").unwrap();
        document.insert_relay(4, &relay).unwrap();
        document.insert_relay(7, &relay).unwrap();
        assert_eq!(
            document.to_bytes(),
            b"1\na=b\n\nc=d\nbw=3 node_id=$02\nbw=1 node_id=x\nc\nbw=3 node_id=$02\n"
        );
        assert_eq!(Document::parse(&document.to_bytes()), document);
    }

    #[test]
    fn reordering_keeps_other_lines() {
        assert_eq!(
            after(|d| d.sort_relays_by(|r| r.get(b"nick").map(<[u8]>::to_vec))),
            "1700000000\nversion=1.4.0\nsoftware=x\n=====\n\
             bw=2 node_id=$01  nick=a\nnode_id=$00 bw=1 nick=b\nstray\n"
        );
    }

    #[test]
    fn removing_what_ends_a_header_reads_the_rest_anew() {
        let mut document = Document::parse(b"1\na=b\nbw=1 node_id=x\nc=d\nbw=2 node_id=y\n");
        assert_eq!(document.headers().count(), 1);
        document.retain_relays(|relay| relay.get(b"bw") != Some(b"1"));
        assert_eq!(document.headers().count(), 2);
        assert_eq!(document.relays().count(), 1);
    }

    #[test]
    fn appending_ends_the_last_line() {
        let mut document = Document::parse(b"1\nbw=1 node_id=x");
        document
            .push_relay(&RelayLine::new("bw=2 node_id=y").unwrap())
            .unwrap();
        assert_eq!(document.to_bytes(), b"1\nbw=1 node_id=x\nbw=2 node_id=y\n");
        assert!(
            document
                .push_relay(&RelayLine::new("x=y").unwrap())
                .is_err()
        );
    }

    #[test]
    fn a_document_without_timestamp_takes_no_header() {
        let mut document = Document::parse(b"@type\n");
        assert!(document.set_header("a", "b").is_err());
        assert!(document.set_timestamp(UnixTime::new(1)).is_err());
        assert!(document.timestamp().is_absent());
    }

    /// Found by fuzzing.
    #[test]
    fn a_last_line_that_loses_everything_is_no_line() {
        let mut document = Document::parse(b"1\n=====\nnode_id=x");
        edit_nth(&mut document, 0, |relay| {
            relay.remove("node_id");
        });
        assert_eq!(document, Document::parse(b"1\n=====\n"));
    }

    #[test]
    fn a_last_carriage_return_becomes_part_of_the_ending() {
        let relay = RelayLine::new(format!("bw=1 node_id=${}", "A".repeat(40))).unwrap();
        for last in ["\r", "=====\r", "k=v\r"] {
            let text = format!("1\nsoftware=x\n{last}");
            let mut document = Document::parse(text.as_bytes());
            document.push_relay(&relay).unwrap();
            let bytes = document.to_bytes();
            assert_eq!(Document::parse(&bytes), document, "{last:?}");
        }
    }

    #[test]
    fn limits_name_the_place() {
        let limits = Limits {
            line_bytes: 20,
            ..Limits::default()
        };
        let error = Document::parse_with_limits(FILE, &limits).unwrap_err();
        assert_eq!(error.position(), Some(Position::new(42, 5, 1)));
    }
}
