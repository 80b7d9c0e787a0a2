//! Lines and what they are.

use std::borrow::Cow;
use std::fmt;
use std::iter::FusedIterator;
use std::sync::LazyLock;

use memchr::memchr;

use crate::pair::{KeyFinder, Pair};

/// The kind of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum LineKind {
    /// A line with `@` before the timestamp, as CollecTor's archive has them.
    Annotation,
    /// The first line that is no annotation, whether or not it is a number.
    Timestamp,
    /// A line of the header with a `=` that is not its first byte.
    Header,
    /// Five or four `=` and nothing else.
    Terminator,
    /// A line about a relay: one with a `bw` or an identity after the header,
    /// or the first with both, which ends a header that has no terminator.
    Relay,
    /// Nothing, or spaces and tabs only.
    Blank,
    /// Any other line.
    Other,
}

impl fmt::Display for LineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Annotation => "annotation",
            Self::Timestamp => "timestamp",
            Self::Header => "header line",
            Self::Terminator => "terminator",
            Self::Relay => "relay line",
            Self::Blank => "blank line",
            Self::Other => "line that is nothing",
        })
    }
}

/// The end of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LineEnding {
    /// A line feed, as the format has it.
    Lf,
    /// Carriage return and line feed.
    CrLf,
    /// Nothing: the end of the file.
    None,
}

impl LineEnding {
    /// The bytes of the ending.
    pub const fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::Lf => b"\n",
            Self::CrLf => b"\r\n",
            Self::None => b"",
        }
    }
}

/// A line of a file, with every byte of it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Line<'a> {
    kind: LineKind,
    bytes: Cow<'a, [u8]>,
}

impl<'a> Line<'a> {
    pub(crate) fn new(kind: LineKind, bytes: Cow<'a, [u8]>) -> Self {
        Self { kind, bytes }
    }

    /// The kind of the line.
    pub fn kind(&self) -> LineKind {
        self.kind
    }

    /// The whole line with its ending.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The line without its ending.
    pub fn content(&self) -> &[u8] {
        split_ending(&self.bytes).0
    }

    /// The end of the line.
    pub fn ending(&self) -> LineEnding {
        split_ending(&self.bytes).1
    }

    pub(crate) fn set_kind(&mut self, kind: LineKind) {
        self.kind = kind;
    }

    /// Replaces everything but the ending.
    pub(crate) fn set_content(&mut self, content: &[u8]) {
        let mut bytes = content.to_vec();
        bytes.extend_from_slice(self.ending().as_bytes());
        self.bytes = Cow::Owned(bytes);
    }

    /// Gives the line an ending if it has none.
    pub(crate) fn terminate(&mut self, ending: LineEnding) {
        if self.ending() == LineEnding::None {
            self.bytes.to_mut().extend_from_slice(ending.as_bytes());
        }
    }

    pub(crate) fn into_owned(self) -> Line<'static> {
        Line {
            kind: self.kind,
            bytes: Cow::Owned(self.bytes.into_owned()),
        }
    }

    pub(crate) fn as_borrowed(&self) -> Option<&'a [u8]> {
        match self.bytes {
            Cow::Borrowed(bytes) => Some(bytes),
            Cow::Owned(_) => None,
        }
    }
}

impl fmt::Debug for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} {:?}",
            self.kind,
            self.bytes.escape_ascii().to_string()
        )
    }
}

/// Splits a line into what it says and what ends it.
pub(crate) fn split_ending(line: &[u8]) -> (&[u8], LineEnding) {
    match line {
        [content @ .., b'\r', b'\n'] => (content, LineEnding::CrLf),
        [content @ .., b'\n'] => (content, LineEnding::Lf),
        content => (content, LineEnding::None),
    }
}

/// The lines of `bytes` with their endings.
#[derive(Clone, Debug)]
pub(crate) struct RawLines<'a> {
    rest: &'a [u8],
}

impl<'a> RawLines<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for RawLines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let length = memchr(b'\n', self.rest).map_or(self.rest.len(), |at| at + 1);
        let (line, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(line)
    }
}

impl FusedIterator for RawLines<'_> {}

/// Finders of the keys that tell what a line is.
#[derive(Debug)]
pub(crate) struct IdentityFinders {
    pub(crate) bw: KeyFinder,
    pub(crate) node_id: KeyFinder,
    pub(crate) master_key: KeyFinder,
}

impl IdentityFinders {
    fn any(&self, holds: impl Fn(&KeyFinder) -> bool) -> bool {
        holds(&self.bw) || holds(&self.node_id) || holds(&self.master_key)
    }
}

pub(crate) static FINDERS: LazyLock<IdentityFinders> = LazyLock::new(|| IdentityFinders {
    bw: KeyFinder::new(b"bw="),
    node_id: KeyFinder::new(b"node_id="),
    master_key: KeyFinder::new(b"master_key_ed25519="),
});

/// Tells what lines are, one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Classifier {
    /// Before the timestamp.
    #[default]
    Start,
    /// After the timestamp.
    Header,
    /// After the terminator or the first relay line.
    Body,
}

impl Classifier {
    /// Tells what the next line is, given without its ending.
    pub(crate) fn classify(&mut self, content: &[u8]) -> LineKind {
        match self {
            Self::Start if content.first() == Some(&b'@') => LineKind::Annotation,
            Self::Start => {
                *self = Self::Header;
                LineKind::Timestamp
            }
            Self::Header => {
                let kind = classify_in_header(content);
                if matches!(kind, LineKind::Terminator | LineKind::Relay) {
                    *self = Self::Body;
                }
                kind
            }
            Self::Body => classify_in_body(content),
        }
    }
}

fn classify_in_header(content: &[u8]) -> LineKind {
    if let Some(kind) = classify_anywhere(content) {
        kind
    } else if FINDERS.bw.is_in(content)
        && (FINDERS.node_id.is_in(content) || FINDERS.master_key.is_in(content))
    {
        LineKind::Relay
    } else if memchr(b'=', content).is_some_and(|at| at > 0) {
        LineKind::Header
    } else {
        LineKind::Other
    }
}

pub(crate) fn classify_in_body(content: &[u8]) -> LineKind {
    if let Some(kind) = classify_anywhere(content) {
        kind
    } else if FINDERS.any(|finder| finder.is_first(content))
        || FINDERS.any(|finder| finder.is_in(content))
    {
        LineKind::Relay
    } else {
        LineKind::Other
    }
}

fn classify_anywhere(content: &[u8]) -> Option<LineKind> {
    if content == b"=====" || content == b"====" {
        Some(LineKind::Terminator)
    } else if content.iter().all(|byte| matches!(byte, b' ' | b'\t')) {
        Some(LineKind::Blank)
    } else {
        None
    }
}

/// A header line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HeaderLine<'a> {
    content: &'a [u8],
    equals: usize,
}

impl<'a> HeaderLine<'a> {
    /// Reads a line without its ending; `None` if it has no `=`, or has it
    /// first.
    pub fn parse(content: &'a [u8]) -> Option<Self> {
        match memchr(b'=', content) {
            None | Some(0) => None,
            Some(equals) => Some(Self { content, equals }),
        }
    }

    /// Everything before the first `=`.
    pub fn key(&self) -> &'a [u8] {
        &self.content[..self.equals]
    }

    /// Everything after the first `=`, spaces and all.
    pub fn value(&self) -> &'a [u8] {
        &self.content[self.equals + 1..]
    }

    /// The whole line without its ending.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.content
    }

    /// The line as a pair.
    pub fn pair(&self) -> Pair<'a> {
        Pair {
            key: self.key(),
            value: Some(self.value()),
            offset: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &[u8]) -> Vec<LineKind> {
        let mut classifier = Classifier::default();
        RawLines::new(text)
            .map(|line| classifier.classify(split_ending(line).0))
            .collect()
    }

    #[test]
    fn the_parts_of_a_file() {
        use LineKind::*;
        assert_eq!(
            kinds(b"@type x\n1\nversion=1.4.0\n\nword\n====\nbw=1\nx=1\n \t\n=====\nnode_id=x"),
            [
                Annotation, Timestamp, Header, Blank, Other, Terminator, Relay, Other, Blank,
                Terminator, Relay
            ]
        );
    }

    #[test]
    fn a_relay_line_ends_a_header_without_terminator() {
        use LineKind::*;
        assert_eq!(
            kinds(b"1\nbw=1\nnode_id=x\nnode_id=x\tbw=1\nbw=1\nx=1\n"),
            [Timestamp, Header, Header, Relay, Relay, Other]
        );
        assert_eq!(kinds(b"1\nmaster_key_ed25519=x bw=\n"), [Timestamp, Relay]);
        assert_eq!(kinds(b"1\nxnode_id=x xbw=1\n"), [Timestamp, Header]);
    }

    #[test]
    fn endings() {
        assert_eq!(split_ending(b"a\r\n"), (&b"a"[..], LineEnding::CrLf));
        assert_eq!(split_ending(b"a\r"), (&b"a\r"[..], LineEnding::None));
        assert_eq!(split_ending(b"\n"), (&b""[..], LineEnding::Lf));
    }
}
