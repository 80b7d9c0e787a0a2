//! The judgement of tor's directory authority.
//!
//! Written from the behaviour of tor 0.4.9.11 on a test network, and checked
//! against it: see `docs/bandwidth-file-format.md`, "What tor does".

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use crate::digest::{FileDigest, up_to_nul};
use crate::identity::Fingerprint;
use crate::line::RawLines;
use crate::time::UnixTime;
use crate::units::KilobytesPerSecond;
use crate::version::TorVersion;
use crate::vote::VoteLines;

/// Entries that tor takes into a vote's `bandwidth-file-headers`, the
/// timestamp among them.
pub const MAX_VOTE_HEADERS: usize = 50;

/// Bytes that the entries may have when they are joined.
pub const MAX_VOTE_HEADER_BYTES: usize = 1024;

/// Seconds after its timestamp for which tor takes a file: three days.
pub const MAX_FILE_AGE_SECONDS: i64 = 3 * 24 * 60 * 60;

/// Judges files as tor's directory authority does.
///
/// ```
/// use bw_file::{TorJudge, UnixTime};
///
/// let judge = TorJudge::new(UnixTime::new(1_700_000_000));
/// let verdict = judge.judge(
///     b"1700000000\nversion=1.9.0\n=====\n\
///       bw=760 node_id=$ABABABABABABABABABABABABABABABABABABABAB\n",
/// );
/// assert!(verdict.casts_vote());
/// assert_eq!(verdict.warnings(), []);
/// assert_eq!(
///     verdict.headers_line(),
///     b"bandwidth-file-headers timestamp=1700000000 version=1.9.0",
/// );
/// assert_eq!(verdict.measured().values().next().map(|bw| bw.value()), Some(760));
/// ```
#[derive(Clone, Debug)]
pub struct TorJudge {
    now: UnixTime,
    version: TorVersion,
    known: Option<HashSet<Fingerprint>>,
    authorities: HashSet<Fingerprint>,
}

/// Something that tor warns of when it reads a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TorWarning {
    /// Number of the line, from 1; the last one for what concerns the file.
    pub line: u64,
    /// The kind of complaint.
    pub kind: TorWarningKind,
}

/// A complaint of tor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum TorWarningKind {
    /// `bw=` twice in a line: the line is refused.
    BandwidthTwice,
    /// The file has no bytes: it is refused.
    EmptyFile,
    /// A line that begins with NUL.
    EmptyLine,
    /// The header is longer than 1024 bytes: the vote gets an empty one.
    HeadersTooLong,
    /// A line without line feed, or one that lacks `bw=` or `node_id=` after
    /// the header.
    IncompleteLine,
    /// A `bw=` that is no number.
    InvalidBandwidth,
    /// A line without anything but white space.
    InvalidLine,
    /// A `node_id=` that is no fingerprint.
    InvalidNodeId,
    /// There is no file: nothing is read.
    NoFile,
    /// `node_id=` twice in a line: the line is refused.
    NodeIdTwice,
    /// The first line is no number: the file is refused.
    NonIntegerTime,
    /// The timestamp is more than three days old: the file is refused.
    Stale,
    /// The first line has no line feed: the file is refused.
    TruncatedTime,
    /// A bandwidth comes out negative: tor cannot read the vote that it has
    /// made, and casts none.
    UnreadableVote,
}

impl TorWarningKind {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::BandwidthTwice,
        Self::EmptyFile,
        Self::EmptyLine,
        Self::HeadersTooLong,
        Self::IncompleteLine,
        Self::InvalidBandwidth,
        Self::InvalidLine,
        Self::InvalidNodeId,
        Self::NoFile,
        Self::NodeIdTwice,
        Self::NonIntegerTime,
        Self::Stale,
        Self::TruncatedTime,
        Self::UnreadableVote,
    ];

    /// The beginning of tor's message.
    pub fn tor_says(self) -> &'static str {
        match self {
            Self::BandwidthTwice => "Double bw= in bandwidth file line",
            Self::EmptyFile => "Empty bandwidth file",
            Self::EmptyLine => "Empty line in bandwidth file",
            Self::HeadersTooLong => {
                "Bug: Non-fatal assertion !(strlen(bw_file_headers) > MAX_BW_FILE_HEADERS_LINE_LEN) failed"
            }
            Self::IncompleteLine => "Incomplete line in bandwidth file",
            Self::InvalidBandwidth => "Invalid bandwidth in bandwidth file line",
            Self::InvalidLine => "Invalid line in bandwidth file",
            Self::InvalidNodeId => "Invalid node_id in bandwidth file line",
            Self::NoFile => "Can't open bandwidth file at configured location",
            Self::NodeIdTwice => "Double node_id= in bandwidth file line",
            Self::NonIntegerTime => "Non-integer time in bandwidth file",
            Self::Stale => "Bandwidth measurement file stale",
            Self::TruncatedTime => "Long or truncated time in bandwidth file",
            Self::UnreadableVote => "Generated a networkstatus vote we couldn't parse",
        }
    }
}

impl fmt::Display for TorWarningKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.tor_says())
    }
}

/// A line that tor uses.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct UsedLine {
    /// Number of the line, from 1.
    pub line: u64,
    /// The relay that it is for.
    pub fingerprint: Fingerprint,
    /// The bandwidth as it is read, 0..=2⁶³−1.
    pub bw: KilobytesPerSecond,
}

impl UsedLine {
    /// The number that tor prints into the vote: `bw` cut to 32 bits with a sign. A
    /// negative one spoils the vote.
    pub fn printed(&self) -> i32 {
        let [a, b, c, d, ..] = self.bw.value().to_le_bytes();
        i32::from_le_bytes([a, b, c, d])
    }
}

/// The judgement of a file by tor.
///
/// As JSON (feature `serde`): an object with what the methods give; in the
/// header line, bytes outside UTF-8 are `\xNN`, and a backslash is `\\`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TorJudgement {
    version: TorVersion,
    used: Vec<UsedLine>,
    skipped: u64,
    warnings: Vec<TorWarning>,
    refused: bool,
    /// The joined header entries, whatever their length.
    headers: Vec<u8>,
    header_count: usize,
    digest: FileDigest,
    measured: BTreeMap<Fingerprint, i32>,
}

impl TorJudge {
    /// A judge at this time: tor [`CHECKED`](TorVersion::CHECKED), an
    /// authority that knows every relay.
    pub fn new(now: UnixTime) -> Self {
        Self {
            now,
            version: TorVersion::CHECKED,
            known: None,
            authorities: HashSet::new(),
        }
    }

    /// Judges as this version of tor. Versions before
    /// [`OLDEST_JUDGED`](TorVersion::OLDEST_JUDGED) cut lines into pieces of
    /// 511 bytes, which is not modelled.
    pub fn version(mut self, version: TorVersion) -> Self {
        self.version = version;
        self
    }

    /// Judges as an authority that knows these relays only. Lines for others
    /// are read, but have no effect.
    pub fn known_relays(mut self, relays: impl IntoIterator<Item = Fingerprint>) -> Self {
        self.known = Some(relays.into_iter().collect());
        self
    }

    /// These relays are authorities themselves. From 0.4.7.11, what the file
    /// says of them goes into the vote as `MeasuredButAuthority=`, which
    /// nothing uses and which cannot spoil the vote.
    pub fn authorities(mut self, relays: impl IntoIterator<Item = Fingerprint>) -> Self {
        self.authorities = relays.into_iter().collect();
        self
    }

    /// Judges the absence of a file.
    pub fn judge_missing(&self) -> TorJudgement {
        let mut judgement = self.blank(FileDigest::of(b""));
        judgement.refuse(TorWarningKind::NoFile, 1);
        judgement
    }

    /// Judges a file.
    pub fn judge(&self, file: &[u8]) -> TorJudgement {
        self.judge_after(0, file)
    }

    /// Judges a file from CollecTor's archive as [`judge`](Self::judge) does, but for the
    /// lines with `@` that were put before it. These count as lines and for nothing else.
    pub fn judge_archived(&self, file: &[u8]) -> TorJudgement {
        let annotations = RawLines::new(file).take_while(|line| line.first() == Some(&b'@'));
        let (lines, bytes) = annotations.fold((0, 0), |(lines, bytes), line| {
            (lines + 1, bytes + line.len())
        });
        self.judge_after(lines, &file[bytes..])
    }

    fn judge_after(&self, annotations: u64, file: &[u8]) -> TorJudgement {
        let mut judgement = self.blank(FileDigest::as_tor_computes(file));
        let mut lines = RawLines::new(file);
        let mut number = annotations + 1;
        match self.read_timestamp(lines.next()) {
            Ok(timestamp) => judgement.add_header(format!("timestamp={timestamp}").as_bytes()),
            Err(kind) => {
                judgement.refuse(kind, number);
                return judgement;
            }
        }
        let mut after_header = false;
        for raw in lines {
            number += 1;
            let line = up_to_nul(raw);
            match read_relay(line, &self.version) {
                Ok((fingerprint, bw)) => {
                    after_header = true;
                    let used = UsedLine {
                        line: number,
                        fingerprint,
                        bw: KilobytesPerSecond::new(bw.unsigned_abs()),
                    };
                    if self.measures(&fingerprint) {
                        judgement.measured.insert(fingerprint, used.printed());
                    }
                    judgement.used.push(used);
                    continue;
                }
                Err(Refusal::Vote0) => judgement.skipped += 1,
                Err(Refusal::Warns(kind)) => judgement.warn(kind, number),
                Err(Refusal::Incomplete) if after_header => {
                    judgement.warn(TorWarningKind::IncompleteLine, number);
                }
                Err(Refusal::Incomplete) => {}
            }
            if line == b"=====\n" {
                after_header = true;
            } else if !after_header && is_vote_header(line) {
                // Without a line feed, a byte of the value is cut off.
                judgement.add_header(&line[..line.len() - 1]);
            }
        }
        if judgement.headers.len() > MAX_VOTE_HEADER_BYTES {
            judgement.warn(TorWarningKind::HeadersTooLong, number);
        }
        if judgement.measured.values().any(|&printed| printed < 0) {
            judgement.warn(TorWarningKind::UnreadableVote, number);
        }
        judgement
    }

    fn blank(&self, digest: FileDigest) -> TorJudgement {
        TorJudgement {
            version: self.version.clone(),
            used: Vec::new(),
            skipped: 0,
            warnings: Vec::new(),
            refused: false,
            headers: Vec::new(),
            header_count: 0,
            digest,
            measured: BTreeMap::new(),
        }
    }

    /// Returns true if the vote has a `Measured=` of this relay.
    fn measures(&self, relay: &Fingerprint) -> bool {
        let known = self
            .known
            .as_ref()
            .is_none_or(|known| known.contains(relay));
        let apart = self.version.measures_authorities_apart() && self.authorities.contains(relay);
        known && !apart
    }

    /// The timestamp as the vote shows it.
    fn read_timestamp(&self, line: Option<&[u8]>) -> Result<u64, TorWarningKind> {
        let line = up_to_nul(line.ok_or(TorWarningKind::EmptyFile)?);
        let text = line
            .strip_suffix(b"\n")
            .ok_or(TorWarningKind::TruncatedTime)?;
        let (number, rest) = strtoul(text).ok_or(TorWarningKind::NonIntegerTime)?;
        if !rest.is_empty() {
            return Err(TorWarningKind::NonIntegerTime);
        }
        // As tor computes it, with numbers that have a sign and wrap around: a
        // timestamp of 2^63 is not stale.
        let timestamp = i64::from_le_bytes(number.to_le_bytes());
        if self.now.seconds().wrapping_sub(timestamp) > MAX_FILE_AGE_SECONDS {
            return Err(TorWarningKind::Stale);
        }
        Ok(number)
    }
}

impl TorJudgement {
    /// Returns true if the authority casts a vote at all.
    pub fn casts_vote(&self) -> bool {
        self.measured.values().all(|&printed| printed >= 0)
    }

    /// Returns true if tor refuses the whole file. The authority still votes, without
    /// measurements.
    pub fn refused(&self) -> bool {
        self.refused
    }

    /// The warnings of one reading. tor reads the file twice for each vote,
    /// and so says each of them twice.
    pub fn warnings(&self) -> &[TorWarning] {
        &self.warnings
    }

    /// The lines that are used, in order.
    pub fn used(&self) -> &[UsedLine] {
        &self.used
    }

    /// The number of lines that are skipped for `vote=0`.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The vote on each relay that the authority knows: of several lines for a relay, the
    /// last. Numbers that tor prints as negative, and then [casts no
    /// vote](Self::casts_vote), are not among them.
    pub fn measured(&self) -> BTreeMap<Fingerprint, KilobytesPerSecond> {
        let printed = self.measured.iter();
        printed
            .filter_map(|(relay, &printed)| {
                let printed = u64::try_from(printed).ok()?;
                Some((*relay, KilobytesPerSecond::new(printed)))
            })
            .collect()
    }

    /// The bandwidth that tor remembers of each relay for its flags: of several lines for a
    /// relay, the first.
    pub fn remembered_for_flags(&self) -> BTreeMap<Fingerprint, KilobytesPerSecond> {
        let mut remembered = BTreeMap::new();
        for line in &self.used {
            remembered.entry(line.fingerprint).or_insert(line.bw);
        }
        remembered
    }

    /// Entries of the header, the timestamp among them, and their bytes when
    /// joined: at most 50 and, for the vote to have any, 1024.
    pub fn header_budget(&self) -> (usize, usize) {
        (self.header_count, self.headers.len())
    }

    /// The vote's `bandwidth-file-headers` line, without line feed. Its bytes
    /// are those of the file, UTF-8 or not.
    pub fn headers_line(&self) -> Vec<u8> {
        let mut line = b"bandwidth-file-headers ".to_vec();
        if self.headers.len() <= MAX_VOTE_HEADER_BYTES {
            line.extend_from_slice(&self.headers);
        }
        line
    }

    /// The digest of the file, as tor computes it.
    pub fn digest(&self) -> FileDigest {
        self.digest
    }

    /// The vote's `bandwidth-file-digest` line, without line feed; none from
    /// a tor before 0.4.0.4.
    pub fn digest_line(&self) -> Option<String> {
        self.version
            .votes_digest()
            .then(|| format!("bandwidth-file-digest {}", self.digest))
    }

    /// The lines about this file in a vote with it.
    pub fn vote_lines(&self) -> VoteLines {
        VoteLines {
            headers: Some(self.headers_line()),
            digest: self.version.votes_digest().then_some(self.digest),
            measured: self.measured(),
        }
    }

    fn add_header(&mut self, entry: &[u8]) {
        if self.header_count < MAX_VOTE_HEADERS {
            if self.header_count > 0 {
                self.headers.push(b' ');
            }
            self.headers.extend_from_slice(entry);
            self.header_count += 1;
        }
    }

    fn warn(&mut self, kind: TorWarningKind, line: u64) {
        self.warnings.push(TorWarning { line, kind });
    }

    fn refuse(&mut self, kind: TorWarningKind, line: u64) {
        self.refused = true;
        self.warn(kind, line);
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for TorJudgement {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let (entries, bytes) = self.header_budget();
        let headers = crate::escape::escaped(&self.headers_line()).into_owned();
        let mut judgement = serializer.serialize_struct("TorJudgement", 11)?;
        judgement.serialize_field("tor_version", &self.version)?;
        judgement.serialize_field("casts_vote", &self.casts_vote())?;
        judgement.serialize_field("refused", &self.refused)?;
        judgement.serialize_field("headers_line", &headers)?;
        judgement.serialize_field("digest_line", &self.digest_line())?;
        judgement.serialize_field("header_entries", &entries)?;
        judgement.serialize_field("header_bytes", &bytes)?;
        judgement.serialize_field("skipped", &self.skipped)?;
        judgement.serialize_field("warnings", &self.warnings)?;
        judgement.serialize_field("used", &self.used)?;
        judgement.serialize_field("measured", &self.measured)?;
        judgement.end()
    }
}

/// Why tor does not use a line.
enum Refusal {
    /// `bw` or `node_id` is missing: a warning after the header only.
    Incomplete,
    /// `vote=0`: no warning.
    Vote0,
    /// A warning in any case.
    Warns(TorWarningKind),
}

/// Reads a line with its line feed, cut at its first NUL.
fn read_relay(line: &[u8], version: &TorVersion) -> Result<(Fingerprint, i64), Refusal> {
    use TorWarningKind as Kind;
    if line.is_empty() {
        return Err(Refusal::Warns(Kind::EmptyLine));
    }
    let (text, complete) = match line.strip_suffix(b"\n") {
        Some(text) => (text, true),
        None => (line, false),
    };
    let mut tokens = text
        .split(|byte| matches!(byte, b' ' | b'\t'))
        .filter(|token| !token.is_empty())
        .peekable();
    if tokens.peek().is_none() {
        return Err(Refusal::Warns(Kind::InvalidLine));
    }
    if !complete {
        return Err(Refusal::Warns(Kind::IncompleteLine));
    }
    let (mut bw, mut fingerprint) = (None, None);
    for token in tokens {
        if version.skips_vote_0() && token.starts_with(b"vote=0") {
            return Err(Refusal::Vote0);
        } else if let Some(value) = token.strip_prefix(b"bw=") {
            if bw.is_some() {
                return Err(Refusal::Warns(Kind::BandwidthTwice));
            }
            bw = Some(read_bandwidth(value).ok_or(Refusal::Warns(Kind::InvalidBandwidth))?);
        } else if let Some(value) = node_id(token, version) {
            if fingerprint.is_some() {
                return Err(Refusal::Warns(Kind::NodeIdTwice));
            }
            if value.first() == Some(&b'$') {
                return Err(Refusal::Warns(Kind::InvalidNodeId));
            }
            let parsed =
                Fingerprint::parse(value).map_err(|_| Refusal::Warns(Kind::InvalidNodeId))?;
            fingerprint = Some(parsed);
        }
    }
    match (fingerprint, bw) {
        (Some(fingerprint), Some(bw)) => Ok((fingerprint, bw)),
        _ => Err(Refusal::Incomplete),
    }
}

/// The digits of a `node_id` token, without its `$`.
fn node_id<'a>(token: &'a [u8], version: &TorVersion) -> Option<&'a [u8]> {
    let value = token.strip_prefix(b"node_id=")?;
    match value.strip_prefix(b"$") {
        Some(digits) => Some(digits),
        None => version.takes_bare_fingerprints().then_some(value),
    }
}

/// A `bw` as tor reads it: C's `strtol` of a number in 0..=2⁶³−1, then white
/// space or the end.
fn read_bandwidth(text: &[u8]) -> Option<i64> {
    let number = c_number(text)?;
    let value = i64::try_from(number.magnitude).ok()?;
    if (number.negative && value > 0) || !number.rest.first().is_none_or(|&byte| is_space(byte)) {
        return None;
    }
    Some(value)
}

/// C's `strtoul` to base 10: the number, negated modulo 2⁶⁴ after a minus, and
/// what follows it; none without digits or if it overflows.
fn strtoul(text: &[u8]) -> Option<(u64, &[u8])> {
    let number = c_number(text)?;
    let value = if number.negative {
        number.magnitude.wrapping_neg()
    } else {
        number.magnitude
    };
    Some((value, number.rest))
}

struct CNumber<'a> {
    negative: bool,
    magnitude: u64,
    rest: &'a [u8],
}

/// A number as C reads it: white space, a sign, digits.
fn c_number(text: &[u8]) -> Option<CNumber<'_>> {
    let spaces = text.iter().take_while(|&&byte| is_space(byte)).count();
    let text = &text[spaces..];
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(digits);
    Some(CNumber {
        negative,
        magnitude: crate::number::parse_unsigned(digits)?,
        rest,
    })
}

/// C's `isspace`, in the C locale.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Returns true if a line, with its last byte, goes into the vote as a header.
fn is_vote_header(line: &[u8]) -> bool {
    line.len() >= 2
        && memchr::memchr(b'=', line).is_some_and(|at| at > 0)
        && memchr::memchr(b' ', line).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "ABABABABABABABABABABABABABABABABABABABAB";

    fn judge(body: &str) -> TorJudgement {
        let file = format!("1700000000\n=====\n{}", body.replace("ID", ID));
        TorJudge::new(UnixTime::new(1_700_000_000)).judge(file.as_bytes())
    }

    fn only_warning(body: &str) -> Option<TorWarningKind> {
        let judgement = judge(body);
        assert!(judgement.warnings().len() <= 1, "{judgement:?}");
        judgement.warnings().first().map(|warning| warning.kind)
    }

    #[test]
    fn the_last_line_of_a_relay_is_voted_and_the_first_remembered() {
        let judgement = judge("node_id=$ID bw=1\nnode_id=ID bw=2\nnode_id=ID bw=3 vote=0\n");
        let measured = judgement.measured();
        let measured: Vec<_> = measured.values().map(|bw| bw.value()).collect();
        assert_eq!(measured, [2]);
        let remembered = judgement.remembered_for_flags();
        let remembered: Vec<_> = remembered.values().map(|bw| bw.value()).collect();
        assert_eq!(remembered, [1]);
        assert_eq!(judgement.skipped(), 1);
    }

    #[test]
    fn a_bandwidth_with_bit_31_spoils_the_vote_unless_overridden() {
        assert!(!judge("node_id=ID bw=2147483648\n").casts_vote());
        assert!(judge("node_id=ID bw=4294967303\n").casts_vote());
        assert!(judge("node_id=ID bw=2147483648\nnode_id=ID bw=1\n").casts_vote());
        let unknown = TorJudge::new(UnixTime::new(0)).known_relays([]);
        let file = format!("5\nnode_id={ID} bw=2147483648\n");
        assert!(unknown.judge(file.as_bytes()).casts_vote());
    }

    #[test]
    fn warnings_by_line() {
        use TorWarningKind as K;
        for (line, expected) in [
            ("node_id=ID bw=1\n", None),
            ("node_id=ID bw=1", Some(K::IncompleteLine)),
            ("node_id=ID\n", Some(K::IncompleteLine)),
            (" \t\n", Some(K::InvalidLine)),
            ("\0\n", Some(K::EmptyLine)),
            ("bw=1 bw=1 node_id=ID\n", Some(K::BandwidthTwice)),
            ("bw=1 node_id=ID node_id=ID\n", Some(K::NodeIdTwice)),
            ("bw=- node_id=ID\n", Some(K::InvalidBandwidth)),
            ("bw=1 node_id=$$ID\n", Some(K::InvalidNodeId)),
            ("bw=x vote=0\n", Some(K::InvalidBandwidth)),
            ("vote=0 bw=x\n", None),
            ("bw=\x0b5\x0cx node_id=ID\n", None),
        ] {
            assert_eq!(only_warning(line), expected, "{line:?}");
        }
    }

    #[test]
    fn older_versions() {
        let at = UnixTime::new(1_700_000_000);
        let file = format!("1700000000\nnode_id={ID} bw=1\nnode_id=${ID} bw=2 vote=0\n");
        let used = |version: &str| {
            TorJudge::new(at)
                .version(version.parse().unwrap())
                .judge(file.as_bytes())
                .used()
                .iter()
                .map(|line| line.bw.value())
                .collect::<Vec<_>>()
        };
        assert_eq!(used("0.4.9.11"), [1]);
        assert_eq!(used("0.4.8.10"), [0_u64; 0]);
        assert_eq!(used("0.3.5.8"), [2]);
        let old = TorJudge::new(at).version("0.4.0.3-alpha".parse().unwrap());
        assert_eq!(old.judge(file.as_bytes()).digest_line(), None);
    }

    #[test]
    fn timestamps() {
        let at = |text: &str, now: i64| {
            let judgement = TorJudge::new(UnixTime::new(now)).judge(text.as_bytes());
            judgement.warnings().first().map(|warning| warning.kind)
        };
        use TorWarningKind as K;
        assert_eq!(at("", 0), Some(K::EmptyFile));
        assert_eq!(at("5", 0), Some(K::TruncatedTime));
        assert_eq!(at("\n", 0), Some(K::NonIntegerTime));
        assert_eq!(at("5\n", 5 + MAX_FILE_AGE_SECONDS), None);
        assert_eq!(at("5\n", 6 + MAX_FILE_AGE_SECONDS), Some(K::Stale));
        assert_eq!(at("-5\n", 1_700_000_000), Some(K::Stale));
        assert_eq!(at("-18446744073709551615\n", 0), None);
        assert_eq!(at("18446744073709551616\n", 0), Some(K::NonIntegerTime));
        assert_eq!(at(" \x0b+5\n", 0), None);
        assert_eq!(at("+-5\n", 0), Some(K::NonIntegerTime));
        // Found by comparing with tor 0.4.9.11.
        assert_eq!(at("18446744073709551615\n", 1_700_000_000), Some(K::Stale));
        assert_eq!(at("9223372036854775808\n", 1_700_000_000), None);
        let judgement = TorJudge::new(UnixTime::new(1)).judge(b"9223372036854775808\n");
        assert_eq!(
            judgement.headers_line(),
            b"bandwidth-file-headers timestamp=9223372036854775808"
        );
    }

    #[test]
    fn authorities_are_measured_apart() {
        let id: Fingerprint = ID.parse().unwrap();
        let file = format!("1700000000\nnode_id={ID} bw=2147483648\n");
        let judge = TorJudge::new(UnixTime::new(1_700_000_000)).authorities([id]);
        let verdict = judge.judge(file.as_bytes());
        assert!(verdict.casts_vote() && verdict.measured().is_empty());
        assert_eq!(verdict.used().len(), 1);
        let old = judge.version("0.4.7.10".parse().unwrap());
        // That version wants a `$`.
        let file = file.replace("node_id=", "node_id=$");
        assert!(!old.judge(file.as_bytes()).casts_vote());
    }

    #[test]
    fn annotations_count_as_lines_only() {
        let file = format!("1700000000\nnode_id={ID} bw=1\n");
        let archived = format!("@type bandwidth-file 1.0\n@source x\n{file}");
        let judge = TorJudge::new(UnixTime::new(1_700_000_000));
        assert!(judge.judge(archived.as_bytes()).refused());
        let verdict = judge.judge_archived(archived.as_bytes());
        assert_eq!(verdict.digest(), FileDigest::of(file.as_bytes()));
        assert_eq!(verdict.used()[0].line, 4);
        let plain = judge.judge_archived(file.as_bytes());
        assert_eq!(plain, judge.judge(file.as_bytes()));
        assert_eq!(plain.vote_lines(), verdict.vote_lines());
    }

    #[test]
    fn no_file() {
        let judgement = TorJudge::new(UnixTime::new(0)).judge_missing();
        assert!(judgement.refused() && judgement.casts_vote());
        assert_eq!(judgement.headers_line(), b"bandwidth-file-headers ");
        assert_eq!(judgement.digest(), FileDigest::of(b""));
    }
}
