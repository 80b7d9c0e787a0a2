//! Checks by the specification.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::document::{Document, timestamp_digits};
use crate::error::{Position, wide};
use crate::escape::escaped;
use crate::identity::{Ed25519Identity, Fingerprint};
use crate::keys::{KeyInfo, MISSPELT_KEYS};
use crate::line::{HeaderLine, Line, LineEnding, LineKind};
use crate::number::parse_unsigned;
use crate::pair::Pair;
use crate::relay::RelayLineRef;
use crate::report::{Code, Report};
use crate::time::{DateTime, UnixTime};
use crate::tor::{MAX_VOTE_HEADER_BYTES, MAX_VOTE_HEADERS};
use crate::value::{CountryCode, Field, FieldValue, PythonBool, is_key, is_nickname};
use crate::version::FormatVersion;

/// Judges a document by bandwidth-file-spec, for the version that it declares
/// or for `version`. Never stops at the first thing that is wrong.
///
/// ```
/// use bw_file::{Code, Document};
///
/// let document = Document::parse(b"1700000000\n=====\nbw=1 node_id=$XYZ\n");
/// let report = bw_file::spec(&document, None);
/// assert!(report.has(Code::InvalidFingerprint));
/// ```
pub fn spec(document: &Document<'_>, version: Option<FormatVersion>) -> Report {
    let version = version
        .or_else(|| document.version().value())
        .unwrap_or(FormatVersion::V1_9_0);
    let mut judge = Judge {
        report: Report::default(),
        version,
        timestamp: document.timestamp().value(),
        fingerprints: HashSet::new(),
        identities: HashSet::new(),
        headers: HashSet::new(),
        entries: 1,
        header_bytes: document
            .timestamp()
            .value()
            .map_or(0, |time| format!("timestamp={time}").len()),
        terminated: false,
        in_body: false,
        keys: Vec::new(),
    };
    let mut at = Position::START;
    let mut after_timestamp = None;
    for line in document.lines() {
        judge.line(line, at, after_timestamp);
        if line.kind() == LineKind::Timestamp {
            after_timestamp = Some(at.line + 1);
        }
        at = Position::new(at.byte + wide(line.as_bytes().len()), at.line + 1, 1);
    }
    judge.end(document, at);
    judge.report.sort();
    judge.report
}

struct Judge<'a> {
    report: Report,
    version: FormatVersion,
    timestamp: Option<UnixTime>,
    fingerprints: HashSet<Fingerprint>,
    identities: HashSet<Ed25519Identity>,
    headers: HashSet<&'a [u8]>,
    entries: usize,
    header_bytes: usize,
    terminated: bool,
    in_body: bool,
    /// The keys of the line at hand.
    keys: Vec<&'a [u8]>,
}

/// The pairs of a relay line that bear on each other.
#[derive(Default)]
struct RelayFacts<'a> {
    bw: Option<&'a [u8]>,
    has_node_id: bool,
    unmeasured: bool,
    under_min_report: bool,
    no_vote: bool,
}

impl RelayFacts<'_> {
    /// The faults of the line as a whole.
    fn faults(&self) -> impl Iterator<Item = Code> {
        let no_weight = self.unmeasured || self.under_min_report;
        let faults = [
            (self.bw.is_none(), Code::MissingBandwidth),
            (!self.has_node_id, Code::MissingNodeId),
            (
                self.unmeasured && self.bw.is_some_and(|bw| bw != b"1"),
                Code::UnmeasuredBandwidth,
            ),
            (no_weight && !self.no_vote, Code::VoteMissing),
        ];
        let faults = faults.into_iter().filter(|fault| fault.0);
        faults.map(|fault| fault.1)
    }
}

fn column(at: Position, offset: usize) -> Position {
    Position::new(at.byte + wide(offset), at.line, at.column + wide(offset))
}

/// A value or key for a message: short, whatever the file has.
fn shown(raw: &[u8]) -> String {
    escaped(&raw[..raw.len().min(60)]).into_owned()
}

impl<'a> Judge<'a> {
    fn push(&mut self, code: Code, at: Position, offset: usize, length: usize, detail: &[u8]) {
        self.report
            .push(code, column(at, offset), length, shown(detail));
    }

    fn line(&mut self, line: &'a Line<'_>, at: Position, second_line: Option<u64>) {
        let content = line.content();
        match line.ending() {
            LineEnding::Lf => {}
            LineEnding::CrLf => self.push(Code::CarriageReturn, at, content.len(), 1, b""),
            LineEnding::None => self.push(Code::MissingFinalLineFeed, at, content.len(), 0, b""),
        }
        if let Some(nul) = memchr::memchr(0, content) {
            self.push(Code::Nul, at, nul, 1, b"");
        }
        let strange = content
            .iter()
            .position(|&byte| !(byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t' | 0)));
        match line.kind() {
            LineKind::Timestamp => self.timestamp(content, at),
            _ => {
                if let Some(offset) = strange {
                    self.push(Code::NonAscii, at, offset, 1, b"");
                }
            }
        }
        match line.kind() {
            LineKind::Annotation => self.push(Code::Annotation, at, 0, content.len(), b""),
            LineKind::Header => {
                if let Some(header) = HeaderLine::parse(content) {
                    self.header(header, at, second_line);
                }
            }
            LineKind::Terminator => {
                if self.in_body {
                    self.push(Code::SecondTerminator, at, 0, content.len(), b"");
                } else if content.len() == 4 {
                    self.push(Code::ShortTerminator, at, 0, content.len(), b"");
                }
                self.terminated = true;
                self.in_body = true;
            }
            LineKind::Relay => {
                if !self.in_body && !self.headers.is_empty() {
                    self.push(Code::MissingTerminator, at, 0, 0, b"");
                    self.terminated = true;
                }
                self.in_body = true;
                self.relay(RelayLineRef::new(content), at);
            }
            LineKind::Blank => self.push(Code::BlankLine, at, 0, content.len(), b""),
            LineKind::Other if self.in_body => {
                self.push(Code::HeaderAfterRelays, at, 0, content.len(), b"");
            }
            LineKind::Other => self.push(Code::HeaderWithoutEquals, at, 0, content.len(), b""),
            LineKind::Timestamp => {}
        }
    }

    fn timestamp(&mut self, content: &[u8], at: Position) {
        let number = match content.strip_prefix(b"\xef\xbb\xbf") {
            Some(number) => {
                self.push(Code::ByteOrderMark, at, 0, 3, b"");
                number
            }
            None => content,
        };
        if self.timestamp.is_none() || timestamp_digits(number).len() != number.len() {
            self.push(Code::InvalidTimestamp, at, 0, content.len(), content);
        }
    }

    fn header(&mut self, header: HeaderLine<'a>, at: Position, second_line: Option<u64>) {
        let (key, value) = (header.key(), header.value());
        if !value.contains(&b' ') && !key.contains(&b' ') {
            self.entries += 1;
            self.header_bytes += 1 + header.as_bytes().len();
        }
        if !is_key(key) {
            self.push(Code::InvalidKey, at, 0, key.len(), key);
        }
        if value.contains(&b' ') {
            self.push(Code::SpaceInHeader, at, key.len() + 1, value.len(), value);
        }
        if !self.headers.insert(key) {
            self.push(Code::DuplicateHeader, at, 0, key.len(), key);
        }
        if key == b"version" {
            if Some(at.line) != second_line {
                self.push(Code::VersionPosition, at, 0, key.len(), b"");
            }
            match FormatVersion::parse_field(value) {
                Some(FormatVersion::V1_3_0) => {
                    self.push(Code::WithdrawnVersion, at, 8, value.len(), b"");
                }
                Some(version) if version > FormatVersion::V1_9_0 || version.major() != 1 => {
                    self.push(Code::UnknownVersion, at, 8, value.len(), value);
                }
                _ => {}
            }
        } else if key == b"latest_bandwidth" {
            let latest = DateTime::parse_field(value).map(UnixTime::from);
            if latest.is_some() && self.timestamp.is_some() && latest != self.timestamp {
                self.push(Code::LatestBandwidth, at, key.len() + 1, value.len(), value);
            }
        }
        let info = KeyInfo::header(key);
        if info.is_none() && KeyInfo::relay(key).is_some() {
            self.push(Code::RelayKeyInHeader, at, 0, key.len(), key);
        } else {
            self.value(info, header.pair(), at);
        }
    }

    fn relay(&mut self, relay: RelayLineRef<'a>, at: Position) {
        let content = relay.as_bytes();
        if let Some(offset) = odd_white_space(content) {
            self.push(Code::WhiteSpace, at, offset, 1, b"");
        }
        let mut keys = std::mem::take(&mut self.keys);
        keys.clear();
        let mut facts = RelayFacts::default();
        for pair in relay.pairs() {
            match pair.value {
                Some(value) => {
                    keys.push(pair.key);
                    self.pair(&mut facts, pair, value, at);
                }
                None => self.push(Code::BareWord, at, pair.offset, pair.key.len(), pair.key),
            }
        }
        for code in facts.faults() {
            self.push(code, at, 0, content.len(), b"");
        }
        keys.sort_unstable();
        let twice = keys.windows(2).find(|pair| pair[0] == pair[1]);
        if let Some(key) = twice.map(|pair| pair[0]) {
            self.push(Code::DuplicateKey, at, 0, content.len(), key);
        }
        self.keys = keys;
    }

    fn pair(&mut self, facts: &mut RelayFacts<'a>, pair: Pair<'a>, value: &'a [u8], at: Position) {
        match pair.key {
            b"bw" => {
                facts.bw = Some(value);
                self.bandwidth(pair, value, at);
            }
            b"node_id" => {
                facts.has_node_id = true;
                self.fingerprint(pair, value, at);
            }
            b"master_key_ed25519" => self.identity(pair, value, at),
            key => {
                facts.unmeasured |= key == b"unmeasured" && value == b"1";
                facts.under_min_report |= key == b"under_min_report" && value == b"1";
                facts.no_vote |= key == b"vote" && value == b"0";
                let info = KeyInfo::relay(key);
                if info.is_none() && KeyInfo::header(key).is_some() {
                    self.push(Code::HeaderInRelay, at, pair.offset, key.len(), key);
                } else {
                    self.value(info, pair, at);
                }
            }
        }
    }

    fn identity(&mut self, pair: Pair<'_>, value: &[u8], at: Position) {
        let code = match Ed25519Identity::parse(value) {
            Err(_) => Code::InvalidIdentity,
            Ok(identity) if !self.identities.insert(identity) => Code::DuplicateIdentity,
            Ok(_) => return,
        };
        self.push(code, at, pair.value_offset(), value.len(), value);
    }

    fn bandwidth(&mut self, pair: Pair<'_>, value: &[u8], at: Position) {
        let code = match parse_unsigned(value) {
            None => Code::InvalidBandwidth,
            Some(0) => Code::ZeroBandwidth,
            Some(bw) if bw > 2_147_483_647 => Code::BandwidthTooLarge,
            Some(_) => return,
        };
        self.push(code, at, pair.value_offset(), value.len(), value);
    }

    fn fingerprint(&mut self, pair: Pair<'_>, value: &[u8], at: Position) {
        let code = match Fingerprint::parse(value) {
            Err(_) => Code::InvalidFingerprint,
            Ok(fingerprint) if !self.fingerprints.insert(fingerprint) => Code::DuplicateRelay,
            Ok(_) if self.version < FormatVersion::V1_9_0 && value.first() != Some(&b'$') => {
                Code::DollarMissing
            }
            Ok(_) => return,
        };
        self.push(code, at, pair.value_offset(), value.len(), value);
    }

    /// Checks a key and its value against the catalogue.
    fn value(&mut self, info: Option<&KeyInfo>, pair: Pair<'_>, at: Position) {
        let value = pair.value.unwrap_or_default();
        if value.is_empty() {
            self.push(Code::EmptyValue, at, pair.offset, pair.key.len(), pair.key);
            return;
        }
        let Some(info) = info else {
            let misspelt = MISSPELT_KEYS
                .iter()
                .find(|(wrong, _)| wrong.as_bytes() == pair.key);
            match misspelt {
                Some((_, right)) => {
                    self.push(
                        Code::MisspeltKey,
                        at,
                        pair.offset,
                        pair.key.len(),
                        right.as_bytes(),
                    );
                }
                None => self.push(Code::UnknownKey, at, pair.offset, pair.key.len(), pair.key),
            }
            return;
        };
        if info.since > self.version {
            self.push(
                Code::KeyNewerThanVersion,
                at,
                pair.offset,
                pair.key.len(),
                pair.key,
            );
        } else if info.removed.is_some_and(|removed| removed <= self.version) {
            self.push(Code::RemovedKey, at, pair.offset, pair.key.len(), pair.key);
        }
        let negative = value
            .strip_prefix(b"-")
            .is_some_and(|v| parse_unsigned(v).is_some());
        let is = |expected: &str| info.expected == expected;
        let code = if value == b"None" && info.may_be_none() {
            Code::WrittenNone
        } else if negative
            && !is(<f64 as FieldValue<'_>>::EXPECTED)
            && !is(<Cow<'_, str> as FieldValue<'_>>::EXPECTED)
        {
            Code::NegativeCount
        } else if info.accepts(value) {
            // sbws's default has an underscore: that is for `lint` to tell.
            if !info.is_nickname() || is_nickname(value) || value == b"dirauth_nickname" {
                return;
            }
            Code::NicknameForm
        } else if is(<DateTime as FieldValue<'_>>::EXPECTED) {
            Code::DateTimeForm
        } else if is(<bool as FieldValue<'_>>::EXPECTED)
            || is(<PythonBool as FieldValue<'_>>::EXPECTED)
        {
            Code::BooleanForm
        } else if is(<CountryCode as FieldValue<'_>>::EXPECTED)
            || is(<Vec<CountryCode> as FieldValue<'_>>::EXPECTED)
        {
            Code::CountryForm
        } else {
            Code::InvalidValue
        };
        self.push(code, at, pair.value_offset(), value.len(), value);
    }

    fn end(&mut self, document: &Document<'_>, at: Position) {
        if is_torflow_scanner_file(document) {
            self.push(Code::TorflowScannerFile, Position::START, 0, 0, b"");
        }
        if document.timestamp() == Field::Absent {
            self.push(Code::MissingTimestamp, at, 0, 0, b"");
        }
        if !self.terminated && !self.headers.is_empty() {
            self.push(Code::MissingTerminator, at, 0, 0, b"");
        }
        if self.entries > MAX_VOTE_HEADERS || self.header_bytes > MAX_VOTE_HEADER_BYTES {
            let detail = format!("{} entries, {} bytes", self.entries, self.header_bytes);
            self.push(Code::HeaderBudget, Position::START, 0, 0, detail.as_bytes());
        }
    }
}

/// Returns true for a file of Torflow's scanners or of bwscanner for one slice of
/// relays: the number of the slice, a time, and relays with other keys.
fn is_torflow_scanner_file(document: &Document<'_>) -> bool {
    let mut start = document.lines().iter().take(5).map(Line::content);
    start.any(|line| {
        line.starts_with(b"slicenum=") || RelayLineRef::new(line).get(b"strm_bw").is_some()
    })
}

/// Where a relay line has white space other than single spaces between
/// tokens.
fn odd_white_space(content: &[u8]) -> Option<usize> {
    let mut previous = b' ';
    for (offset, &byte) in content.iter().enumerate() {
        if byte == b'\t' || (byte == b' ' && previous == b' ') {
            return Some(offset);
        }
        previous = byte;
    }
    (previous == b' ' && !content.is_empty()).then(|| content.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_torflows_scanners_are_recognised() {
        for file in [
            "slicenum=3\n1700000000\n",
            "0\n1700000000\nnode_id=$00 nick=a strm_bw=5 filt_bw=6\n",
        ] {
            let report = spec(&Document::parse(file.as_bytes()), None);
            assert!(report.has(Code::TorflowScannerFile), "{file}");
        }
    }

    #[test]
    fn forms_of_values() {
        let found = |pair: &str| {
            let id = "AB".repeat(20);
            let file = format!("1700000000\nversion=1.9.0\n=====\nbw=1 node_id=${id} {pair}\n");
            let report = spec(&Document::parse(file.as_bytes()), None);
            report.counts().map(|(code, _)| code).collect::<Vec<_>>()
        };
        let no_nickname = format!("nick={}", "x".repeat(20));
        for (pair, expected) in [
            ("vote=2", Code::BooleanForm),
            ("consensus_bandwidth_is_unmeasured=1", Code::BooleanForm),
            ("nick=a-b", Code::NicknameForm),
            (&no_nickname, Code::NicknameForm),
            ("software=x", Code::HeaderInRelay),
            ("time=2020-01-01", Code::DateTimeForm),
            ("rtt=x", Code::InvalidValue),
        ] {
            assert_eq!(found(pair), [expected], "{pair}");
        }
        assert_eq!(found("nick=Relay19 vote=1"), []);
    }

    #[test]
    fn only_numbers_can_be_negative_counts() {
        let negative = |pair: &str| {
            let file = format!(
                "1700000000\nversion=1.9.0\n=====\nbw=1 {pair} node_id=${}\n",
                "AB".repeat(20)
            );
            spec(&Document::parse(file.as_bytes()), None).has(Code::NegativeCount)
        };
        assert!(negative("success=-1") && negative("bw_mean=-1"));
        assert!(!negative("nick=-0") && !negative("r_strm=-1"));
    }
}
