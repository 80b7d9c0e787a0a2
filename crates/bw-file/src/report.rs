//! Diagnostics: what is wrong with a file, where, and what to do about it.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use crate::document::Document;
use crate::error::{Position, wide};

/// The severity of a diagnostic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Some readers stumble, or something is implausible.
    Warning,
    /// The specification forbids it, or tor drops something.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

macro_rules! codes {
    ($($variant:ident $code:literal $severity:ident $meaning:literal;)*) => {
        /// The defect. Each has a code that does not change between
        /// versions of this crate.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        #[allow(clippy::doc_markdown, reason = "meanings are also shown as plain text")]
        pub enum Code {
            $(#[doc = $meaning] $variant,)*
        }

        impl Code {
            /// All codes, in order of name.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The code as it is written.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code),* }
            }

            /// The severity of this defect.
            pub fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity),* }
            }

            /// One sentence of what it means and what to do.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),* }
            }
        }
    };
}

codes! {
    Annotation "annotation" Note "A line with `@` comes before the timestamp: CollecTor's form, which tor refuses.";
    BandwidthAboveRate "bandwidth-above-rate" Warning "The bandwidth is above the relay's rate, which must limit it.";
    BandwidthTooLarge "bandwidth-too-large" Error "The bandwidth is above 2147483647: tor can be kept from voting at all.";
    BareUnmeasured "bare-unmeasured" Warning "A line has bw=1 and nothing else, as sbws before 2.0 wrote for relays that were not measured: tor votes 1 for it.";
    BareWord "bare-word" Warning "A word without `=` is in a relay line: readers must ignore it, some refuse the file.";
    BelowMinimum "below-minimum" Warning "Relays are to be voted for, although fewer than the minimum are eligible.";
    BlankLine "blank-line" Warning "A line is blank: tor warns, other readers lose the file.";
    BooleanForm "boolean-form" Warning "A truth value is neither 0 nor 1 (in `consensus_bandwidth_is_unmeasured`: True or False).";
    ByteOrderMark "byte-order-mark" Error "The file begins with a byte-order mark: tor refuses it.";
    CarriageReturn "carriage-return" Error "A line ends in a carriage return: tor refuses the file, or the line.";
    CountOutOfRange "count-out-of-range" Note "A count is outside of what a healthy scanner has.";
    CountryForm "country-form" Warning "A country is not two upper-case letters.";
    DateTimeForm "date-time-form" Warning "A time is not spelt YYYY-MM-DDTHH:MM:SS.";
    DefaultNotEdited "default-not-edited" Note "A value is sbws's default, which the operator has not edited.";
    DollarMissing "dollar-missing" Error "A fingerprint lacks its `$` in a file labelled older than 1.9.0.";
    DuplicateHeader "duplicate-header" Error "A header comes twice: both go into the vote.";
    DuplicateIdentity "duplicate-identity" Error "Two relay lines have the same Ed25519 key.";
    DuplicateKey "duplicate-key" Error "A key comes twice in a relay line: tor refuses the line for `bw` and `node_id`.";
    DuplicateRelay "duplicate-relay" Error "Two relay lines have the same fingerprint: tor votes for the last.";
    EligibleCount "eligible-count" Note "The number of eligible relays is not that of the lines without vote=0.";
    EmptyValue "empty-value" Error "A value is empty.";
    FutureTimestamp "future-timestamp" Warning "The timestamp is in the future: tor remembers such values for its flags until it restarts.";
    HeaderAfterRelays "stray-line" Warning "A line is neither header nor relay: tor warns and ignores it.";
    HeaderBudget "header-budget" Error "The header is larger than tor takes into a vote: 50 entries, 1024 bytes.";
    HeaderInRelay "header-key-in-relay" Error "A header's key is in a relay line.";
    HeaderWithoutEquals "header-without-equals" Warning "A header line has no key and value: readers should ignore it.";
    InvalidBandwidth "invalid-bandwidth" Error "The bandwidth is not made of digits alone, or too large: tor refuses most such lines.";
    InvalidFingerprint "invalid-fingerprint" Error "The fingerprint is not 40 hexadecimal digits: tor refuses the line.";
    InvalidIdentity "invalid-identity" Error "The Ed25519 key is not 43 characters of base64.";
    InvalidKey "invalid-key" Error "A key has characters other than letters, digits, `-` and `_`.";
    InvalidTimestamp "invalid-timestamp" Error "The first line is no Unix time: tor refuses the file.";
    InvalidValue "invalid-value" Error "A value is not of its key's type.";
    KeyNewerThanVersion "key-newer-than-version" Note "A key is newer than the version that the file declares.";
    LatestBandwidth "latest-bandwidth" Error "latest_bandwidth is not the timestamp.";
    LineOver510 "line-over-510" Note "Lines are longer than 510 bytes, where tor before 0.3.5.1 cuts them; the first is shown.";
    LongLine "long-line" Warning "A line is longer than 1022 bytes, where sbws warns.";
    MeansOutOfOrder "means-out-of-order" Note "The mean of the filtered bandwidths, muf, is below that of all, mu.";
    MissingBandwidth "missing-bandwidth" Error "A relay line has no bandwidth: tor ignores it.";
    MissingFinalLineFeed "missing-final-line-feed" Error "The last line has no line feed: tor drops it.";
    MissingNodeId "missing-node-id" Error "A relay line has no fingerprint: tor ignores it.";
    MissingTerminator "missing-terminator" Warning "No terminator ends the header: stem hangs, others find no relays.";
    MissingTimestamp "missing-timestamp" Error "There is no timestamp: tor refuses the file.";
    MisspeltKey "misspelt-key" Note "A key is one that the specification once had by mistake.";
    NegativeCount "negative-count" Warning "A count is negative.";
    NicknameForm "nickname-form" Warning "A nickname is not 1 to 19 letters and digits.";
    NonAscii "non-ascii" Error "A byte is not printable ASCII.";
    NotNewer "not-newer" Warning "The timestamp is not newer than the previous file's: tor keeps the old values for its flags.";
    Nul "nul" Error "A NUL byte hides the rest of its line from tor, and from the digest.";
    PercentArithmetic "percent-arithmetic" Note "A percentage or minimum does not follow from the counts.";
    RelayKeyInHeader "relay-key-in-header" Error "A header line has a relay's key.";
    RemovedKey "removed-key" Note "A key is one that the declared version has dropped.";
    SecondTerminator "second-terminator" Warning "A second terminator: tor warns and ignores it.";
    ShortTerminator "short-terminator" Warning "The terminator has four characters instead of five.";
    SpaceInHeader "space-in-header" Error "A header's value has a space: tor leaves it out of the vote.";
    Stale "stale" Warning "The timestamp is more than three days old: tor refuses the file.";
    TimesOutOfOrder "times-out-of-order" Note "Times of the header are not in the order that they should have.";
    TorflowScannerFile "torflow-scanner-file" Error "This is a file of Torflow's scanners or of bwscanner, another format: it has `strm_bw` and `filt_bw`, and is to be aggregated first.";
    TorWarns "tor-warns" Warning "tor warns of the line when it reads it.";
    TorRefuses "tor-refuses-file" Error "tor refuses the whole file.";
    TorCastsNoVote "tor-casts-no-vote" Error "tor cannot parse its own vote, and casts none.";
    TorEmptyHeaders "tor-empty-headers" Error "tor votes with an empty header line.";
    UnknownCountry "unknown-country" Note "A country code is not one that ISO 3166-1 assigns, nor ZZ.";
    UnknownKey "unknown-key" Note "A key is in no version of the format.";
    UnknownVersion "unknown-version" Note "The version is not one of 1.0.0 to 1.9.0.";
    UnmeasuredBandwidth "unmeasured-bandwidth" Error "A relay has unmeasured=1 with a bandwidth other than 1.";
    VersionPosition "version-position" Error "The version is not on the second line.";
    VoteMissing "vote-missing" Warning "unmeasured=1 or under_min_report=1 goes without vote=0: tor votes for the relay.";
    WhiteSpace "white-space" Warning "Tabs, or spaces where none should be: some readers lose the line or the file.";
    WithdrawnVersion "withdrawn-version" Note "Version 1.3.0 was withdrawn.";
    WrittenNone "written-none" Warning "A bandwidth is `None`: sbws writes that for what it does not know.";
    ZeroBandwidth "zero-bandwidth" Warning "The bandwidth is zero: it should be at least 1, and tor votes for it.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Something that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Diagnostic {
    /// The defect.
    pub code: Code,
    /// Its severity.
    pub severity: Severity,
    /// Where it begins.
    pub position: Position,
    /// The number of bytes concerned; 0 for the line as a whole.
    pub length: u64,
    /// The details; empty if the code says it all.
    pub detail: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}[{}]: {}",
            self.severity,
            self.code,
            self.code.meaning()
        )?;
        if !self.detail.is_empty() {
            f.write_str(" (")?;
            for character in self.detail.chars() {
                // What comes from a file must not move the cursor of a terminal.
                if character.is_control() {
                    write!(f, "{}", character.escape_default())?;
                } else {
                    f.write_char(character)?;
                }
            }
            f.write_str(")")?;
        }
        Ok(())
    }
}

/// All that is wrong with a file, by one judgement.
///
/// As JSON (feature `serde`): an object with `diagnostics`; `errors`,
/// `warnings` and `notes`, their numbers; and `codes`, the number of each
/// code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    diagnostics: Vec<Diagnostic>,
    counts: BTreeMap<Code, u64>,
}

/// Diagnostics that a report keeps; the rest is counted only, so that a
/// hostile file does not take memory without bound.
const MAX_KEPT: usize = 10_000;

impl Report {
    /// The diagnostics in order of their place: the first 10,000.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// The number of diagnostics of a severity, kept or not.
    pub fn count(&self, severity: Severity) -> u64 {
        let counts = self.counts();
        counts
            .filter(|(code, _)| code.severity() == severity)
            .map(|(_, count)| count)
            .sum()
    }

    /// The number of diagnostics of each code that occurs, kept or not.
    pub fn counts(&self) -> impl Iterator<Item = (Code, u64)> {
        self.counts.iter().map(|(&code, &count)| (code, count))
    }

    /// Returns true if nothing has this severity or a worse one.
    pub fn is_clean_of(&self, severity: Severity) -> bool {
        self.counts().all(|(code, _)| code.severity() < severity)
    }

    /// Returns true if a diagnostic has this code, kept or not.
    pub fn has(&self, code: Code) -> bool {
        self.counts.contains_key(&code)
    }

    /// The report for people: for each diagnostic the line that it is about,
    /// with a caret.
    pub fn display<'a>(&'a self, document: &'a Document<'_>) -> impl fmt::Display + 'a {
        Human {
            report: self,
            document,
        }
    }

    /// The report as JSON, as described [above](Self).
    ///
    /// # Errors
    /// None that are known of: the types can all be written.
    #[cfg(feature = "json")]
    pub fn to_json(&self) -> Result<String, crate::Error> {
        serde_json::to_string(self).map_err(|error| std::io::Error::from(error).into())
    }

    pub(crate) fn push(&mut self, code: Code, position: Position, length: usize, detail: String) {
        *self.counts.entry(code).or_default() += 1;
        if self.diagnostics.len() < MAX_KEPT {
            self.diagnostics.push(Diagnostic {
                code,
                severity: code.severity(),
                position,
                length: wide(length),
                detail,
            });
        }
    }

    pub(crate) fn sort(&mut self) {
        self.diagnostics.sort_by_key(|found| found.position);
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Report {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut report = serializer.serialize_struct("Report", 5)?;
        report.serialize_field("diagnostics", &self.diagnostics)?;
        report.serialize_field("errors", &self.count(Severity::Error))?;
        report.serialize_field("warnings", &self.count(Severity::Warning))?;
        report.serialize_field("notes", &self.count(Severity::Note))?;
        report.serialize_field("codes", &self.counts)?;
        report.end()
    }
}

struct Human<'a> {
    report: &'a Report,
    document: &'a Document<'a>,
}

/// Bytes of a line that are shown around the place.
const SHOWN: usize = 100;

impl fmt::Display for Human<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for found in &self.report.diagnostics {
            let Position { line, column, .. } = found.position;
            writeln!(f, "{line}:{column}: {found}")?;
            let index = usize::try_from(line)
                .unwrap_or(usize::MAX)
                .saturating_sub(1);
            let Some(source) = self.document.lines().get(index) else {
                continue;
            };
            let content = source.content();
            let at = usize::try_from(column)
                .unwrap_or(usize::MAX)
                .saturating_sub(1)
                .min(content.len());
            let from = at.saturating_sub(SHOWN / 3);
            let to = content.len().min(from + SHOWN);
            let shown: String = content[from..to].iter().copied().map(printable).collect();
            let carets = usize::try_from(found.length)
                .unwrap_or(usize::MAX)
                .min(to - at)
                .max(1);
            writeln!(f, "    {shown}")?;
            writeln!(f, "    {}{}", " ".repeat(at - from), "^".repeat(carets))?;
        }
        let all: u64 = self.report.counts().map(|(_, count)| count).sum();
        let hidden = all - wide(self.report.diagnostics.len());
        if hidden > 0 {
            writeln!(f, "and {hidden} more")?;
        }
        Ok(())
    }
}

/// One column for each byte.
fn printable(byte: u8) -> char {
    match byte {
        b' '..=b'~' => char::from(byte),
        b'\t' => ' ',
        _ => '?',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_in_kebab_case() {
        let codes: std::collections::HashSet<_> = Code::ALL.iter().map(|c| c.as_str()).collect();
        assert_eq!(codes.len(), Code::ALL.len());
        assert!(codes.iter().all(|c| {
            c.bytes()
                .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        }));
    }

    #[test]
    fn what_a_file_says_cannot_move_the_cursor() {
        let document = Document::parse(b"1700000000\nversion=\x1b[2J\x07\nk\x1b=\r\xc2\x9b\n");
        let report = crate::spec(&document, None);
        assert!(report.count(Severity::Error) > 0);
        let text = report.display(&document).to_string();
        assert!(text.contains(r"(\u{1b}[2J\u{7})"), "{text:?}");
        assert!(
            text.chars().all(|c| c == '\n' || !c.is_control()),
            "{text:?}"
        );
    }

    #[test]
    fn what_is_not_kept_is_counted() {
        let mut text = b"1700000000\n=====\n".to_vec();
        text.extend_from_slice(&b"bw=1 node_id=x k=v\n".repeat(10_000));
        text.extend_from_slice(b"bw=0 node_id=x\n");
        let report = crate::spec(&Document::parse(&text), None);
        assert_eq!(report.diagnostics().len(), MAX_KEPT);
        assert!(report.has(Code::ZeroBandwidth) && !report.has(Code::BlankLine));
        let counts: BTreeMap<Code, u64> = report.counts().collect();
        assert_eq!(counts[&Code::InvalidFingerprint], 10_001);
        assert_eq!(report.count(Severity::Warning), 1);
        assert!(!report.is_clean_of(Severity::Warning));
    }

    #[test]
    fn people_see_the_line_and_a_caret() {
        let document = Document::parse(b"1700000000\n=====\nbw=x node_id=$ABC\n");
        let report = crate::spec(&document, None);
        let text = report.display(&document).to_string();
        assert!(
            text.contains("3:4: error[invalid-bandwidth]")
                && text.contains("\n    bw=x node_id=$ABC\n       ^\n"),
            "{text}"
        );
    }
}
