//! Checks for plausibility.

use crate::document::Document;
use crate::error::{Position, wide};
use crate::fields::HeaderFields;
use crate::line::{HeaderLine, LineKind};
use crate::relay::RelayLineRef;
use crate::report::{Code, Report};
use crate::time::UnixTime;
use crate::tor::{MAX_FILE_AGE_SECONDS, TorJudgement, TorWarningKind};
use crate::value::CountryCode;

/// The facts with which a file is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LintContext {
    /// The time, for the file's age; unknown if absent.
    pub now: Option<UnixTime>,
    /// The timestamp of the file before it; unknown if absent.
    pub previous: Option<UnixTime>,
}

impl LintContext {
    /// A context that knows the time.
    pub fn at(now: UnixTime) -> Self {
        Self {
            now: Some(now),
            previous: None,
        }
    }

    /// With the timestamp of the file before.
    pub fn after(mut self, previous: UnixTime) -> Self {
        self.previous = Some(previous);
        self
    }
}

/// Judges the plausibility of what a document says.
pub fn lint(document: &Document<'_>, context: LintContext) -> Report {
    let mut report = Report::default();
    let fields = HeaderFields::new(document);
    // Once: finding it passes over all annotations.
    let timestamp = document.timestamp().value();
    let is_sbws = fields
        .software
        .as_value()
        .is_some_and(|name| name == "sbws");
    let mut at = Position::START;
    let mut relays = Eligibility::default();
    let mut long_lines = LongLines::default();
    for line in document.lines() {
        let content = line.content();
        match line.kind() {
            LineKind::Timestamp => age(&mut report, timestamp, context, at, content.len()),
            LineKind::Header => {
                if let Some(header) = HeaderLine::parse(content) {
                    header_line(&mut report, header, &fields, timestamp, at);
                }
            }
            LineKind::Relay => {
                let relay = RelayLineRef::new(content);
                relays.count(relay);
                above_rate(&mut report, relay, at);
                if is_sbws && is_bare_unmeasured(relay) {
                    report.push(Code::BareUnmeasured, at, content.len(), String::new());
                }
            }
            _ => {}
        }
        long_lines.see(&mut report, content.len(), at);
        at = Position::new(at.byte + wide(line.as_bytes().len()), at.line + 1, 1);
    }
    long_lines.report(&mut report);
    relays.report(&mut report, &fields);
    report.sort();
    report
}

/// Counts of eligible relay lines: to be voted for, or not only because the
/// whole file has too few.
#[derive(Default)]
struct Eligibility {
    lines: u64,
    voted: u64,
    eligible: u64,
}

impl Eligibility {
    fn count(&mut self, relay: RelayLineRef<'_>) {
        let voted = relay.is_voted();
        let held_back =
            relay.get(b"under_min_report") == Some(b"1") && relay.get(b"unmeasured") != Some(b"1");
        self.lines += 1;
        self.voted += u64::from(voted);
        self.eligible += u64::from(voted || held_back);
    }

    fn report(&self, report: &mut Report, fields: &HeaderFields<'_>) {
        let Some(&declared) = fields.number_eligible_relays.as_value() else {
            return;
        };
        // Before 1.4.0, a file with too few eligible relays has no lines.
        if self.lines > 0 && declared != self.eligible {
            let detail = format!("{declared} in the header, {} lines", self.eligible);
            report.push(Code::EligibleCount, Position::START, 0, detail);
        }
        let minimum = fields.minimum_number_eligible_relays.as_value();
        if let Some(minimum) = minimum.filter(|&&minimum| declared < minimum && self.voted > 0) {
            let detail = format!(
                "{declared} eligible, minimum {minimum}, {} voted",
                self.voted
            );
            report.push(Code::BelowMinimum, Position::START, 0, detail);
        }
    }
}

/// Lines beyond 510 bytes are told of once: every file since 1.4.0 is full of
/// them.
#[derive(Default)]
struct LongLines {
    first: Option<Position>,
    count: u64,
}

impl LongLines {
    fn see(&mut self, report: &mut Report, length: usize, at: Position) {
        if length > 1022 {
            report.push(Code::LongLine, at, 0, length.to_string());
        }
        if length > 510 {
            self.first.get_or_insert(at);
            self.count += 1;
        }
    }

    fn report(&self, report: &mut Report) {
        if let Some(first) = self.first {
            report.push(Code::LineOver510, first, 0, format!("{} lines", self.count));
        }
    }
}

/// Returns true if a line is `bw=1` and an identity, nothing else.
fn is_bare_unmeasured(relay: RelayLineRef<'_>) -> bool {
    relay.get(b"bw") == Some(b"1")
        && relay
            .pairs()
            .all(|pair| matches!(pair.key, b"bw" | b"node_id" | b"master_key_ed25519"))
}

fn age(
    report: &mut Report,
    timestamp: Option<UnixTime>,
    context: LintContext,
    at: Position,
    length: usize,
) {
    let Some(timestamp) = timestamp else {
        return;
    };
    if let Some(now) = context.now {
        let age = now.seconds().saturating_sub(timestamp.seconds());
        if age > MAX_FILE_AGE_SECONDS {
            report.push(Code::Stale, at, length, format!("{age} seconds old"));
        } else if age < 0 {
            report.push(Code::FutureTimestamp, at, length, String::new());
        }
    }
    if context
        .previous
        .is_some_and(|previous| timestamp <= previous)
    {
        report.push(Code::NotNewer, at, length, String::new());
    }
}

fn header_line(
    report: &mut Report,
    header: HeaderLine<'_>,
    fields: &HeaderFields<'_>,
    timestamp: Option<UnixTime>,
    at: Position,
) {
    let mut push = |code: Code, detail: String| {
        report.push(code, at, header.as_bytes().len(), detail);
    };
    match (header.key(), header.value()) {
        (b"scanner_country", b"AA") | (b"dirauth_nickname", b"dirauth_nickname") => {
            push(Code::DefaultNotEdited, String::new());
        }
        (b"scanner_country" | b"destinations_countries", value) => {
            let mut countries = value.split(|&byte| byte == b',');
            if let Some(unknown) = countries.find(|&country| is_unknown(country)) {
                let detail = String::from_utf8_lossy(unknown).into_owned();
                push(Code::UnknownCountry, detail);
            }
        }
        (b"muf", _) if fields.muf.as_value() < fields.mu.as_value() => {
            push(Code::MeansOutOfOrder, String::new());
        }
        (b"recent_measurement_attempt_count", _) => attempts(fields, &mut push),
        (b"recent_measurement_failure_count", _) => failures(fields, &mut push),
        (b"percent_eligible_relays", _) => {
            let percent = fields.percent_eligible_relays.as_value().map(|p| p.value());
            off_by_more_than_1(percent, percent_eligible(fields), &mut push);
        }
        (b"minimum_number_eligible_relays", _) => {
            let minimum = fields.minimum_number_eligible_relays.as_value().copied();
            off_by_more_than_1(minimum, minimum_eligible(fields), &mut push);
        }
        (b"recent_consensus_count", value) => out_of(value, 60..=120, &mut push),
        (b"recent_priority_list_count", value) => out_of(value, 24..=120, &mut push),
        (b"recent_priority_relay_count", value) => out_of(value, 7200..=48_000, &mut push),
        (b"file_created", _) => {
            let created = fields.file_created.as_value().map(|time| time.seconds());
            let timestamp = timestamp.map(UnixTime::seconds);
            if created.is_some() && timestamp.is_some() && created < timestamp {
                let detail = "created before the latest measurement";
                push(Code::TimesOutOfOrder, detail.to_owned());
            }
        }
        (b"earliest_bandwidth", _) => {
            let earliest = fields.earliest_bandwidth.as_value();
            let latest = fields.latest_bandwidth.as_value();
            if latest.is_some() && earliest > latest {
                push(Code::TimesOutOfOrder, "earliest after latest".to_owned());
            }
        }
        _ => {}
    }
}

/// Relays are prioritised to be attempted.
fn attempts(fields: &HeaderFields<'_>, push: &mut impl FnMut(Code, String)) {
    let attempts = fields.recent_measurement_attempt_count.as_value();
    let relays = fields.recent_priority_relay_count.as_value();
    if let (Some(attempts), Some(relays)) = (attempts, relays) {
        if attempts != relays {
            let detail = format!("{relays} expected: recent_priority_relay_count");
            push(Code::CountOutOfRange, detail);
        }
    }
}

/// No more attempts fail than there are.
fn failures(fields: &HeaderFields<'_>, push: &mut impl FnMut(Code, String)) {
    let failures = fields.recent_measurement_failure_count.as_value();
    let attempts = fields.recent_measurement_attempt_count.as_value();
    if let (Some(&failures), Some(&attempts)) = (failures, attempts) {
        if u64::try_from(failures).is_ok_and(|failures| failures > attempts) {
            let detail = format!("at most {attempts} expected");
            push(Code::CountOutOfRange, detail);
        }
    }
}

fn percent_eligible(fields: &HeaderFields<'_>) -> Option<u64> {
    let eligible = *fields.number_eligible_relays.as_value()?;
    let consensus = *fields.number_consensus_relays.as_value()?;
    eligible.checked_mul(100)?.checked_div(consensus)
}

fn minimum_eligible(fields: &HeaderFields<'_>) -> Option<u64> {
    let consensus = *fields.number_consensus_relays.as_value()?;
    let percent = fields.minimum_percent_eligible_relays.as_value()?;
    Some(consensus.checked_mul(percent.value())? / 100)
}

/// The country codes that ISO 3166-1 assigns (2025), and `ZZ` for unknown.
const COUNTRIES: &[u8] = b"AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI \
    BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE \
    DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS \
    GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW \
    KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW \
    MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO \
    RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM \
    TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW ZZ";

/// Returns true if something has the form of a country code but is none.
fn is_unknown(country: &[u8]) -> bool {
    CountryCode::parse(country).is_some()
        && !COUNTRIES
            .split(|&byte| byte == b' ')
            .any(|known| known == country)
}

fn off_by_more_than_1(
    found: Option<u64>,
    expected: Option<u64>,
    push: &mut impl FnMut(Code, String),
) {
    if let (Some(found), Some(expected)) = (found, expected) {
        if found.abs_diff(expected) > 1 {
            push(Code::PercentArithmetic, format!("{expected} expected"));
        }
    }
}

fn out_of(value: &[u8], range: std::ops::RangeInclusive<u64>, push: &mut impl FnMut(Code, String)) {
    if crate::number::parse_unsigned(value).is_some_and(|count| !range.contains(&count)) {
        push(
            Code::CountOutOfRange,
            format!("{} to {} expected", range.start(), range.end()),
        );
    }
}

/// `bw` is rounded to two digits, which can add 5 %.
fn above_rate(report: &mut Report, relay: RelayLineRef<'_>, at: Position) {
    let (Some(bw), Some(rate)) = (relay.bandwidth(), relay.desc_bw_avg().value()) else {
        return;
    };
    let bytes = u128::from(bw.to_bytes().value());
    if bw.value() > 1 && bytes * 100 > u128::from(rate.value()) * 105 {
        report.push(
            Code::BandwidthAboveRate,
            at,
            relay.as_bytes().len(),
            format!("{bw}, rate {rate}"),
        );
    }
}

impl TorJudgement {
    /// The judgement as diagnostics.
    pub fn report(&self, document: &Document<'_>) -> Report {
        let mut starts = Vec::with_capacity(document.lines().len());
        let mut byte = 0;
        for line in document.lines() {
            starts.push(byte);
            byte += wide(line.as_bytes().len());
        }
        let mut report = Report::default();
        for warning in self.warnings() {
            let code = match warning.kind {
                TorWarningKind::EmptyFile
                | TorWarningKind::NoFile
                | TorWarningKind::NonIntegerTime
                | TorWarningKind::Stale
                | TorWarningKind::TruncatedTime => Code::TorRefuses,
                TorWarningKind::HeadersTooLong => Code::TorEmptyHeaders,
                TorWarningKind::UnreadableVote => Code::TorCastsNoVote,
                _ => Code::TorWarns,
            };
            let index = usize::try_from(warning.line).unwrap_or(usize::MAX) - 1;
            let byte = starts.get(index).copied().unwrap_or(0);
            let position = Position::new(byte, warning.line, 1);
            report.push(code, position, 0, warning.kind.to_string());
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(text: &str) -> Vec<(Code, u64)> {
        let document = Document::parse(text.as_bytes());
        lint(&document, LintContext::default()).counts().collect()
    }

    fn relay(pairs: &str) -> String {
        format!("node_id=${} {pairs}\n", "AB".repeat(20))
    }

    #[test]
    fn headers_that_do_not_fit_each_other() {
        let codes = |headers: &str| codes(&format!("1700000000\n{headers}\n=====\n"));
        for (headers, expected) in [
            ("mu=5\nmuf=4", Some(Code::MeansOutOfOrder)),
            ("mu=5\nmuf=5", None),
            ("scanner_country=UK", Some(Code::UnknownCountry)),
            (
                "destinations_countries=ZZ,DE,QQ",
                Some(Code::UnknownCountry),
            ),
            ("destinations_countries=ZZ,DE,AX", None),
            ("destinations_countries=00", None),
            (
                "recent_measurement_attempt_count=8000\nrecent_priority_relay_count=8001",
                Some(Code::CountOutOfRange),
            ),
            (
                "recent_measurement_attempt_count=8\nrecent_measurement_failure_count=9",
                Some(Code::CountOutOfRange),
            ),
            (
                "recent_measurement_attempt_count=8\nrecent_measurement_failure_count=-9",
                None,
            ),
        ] {
            let expected: Vec<_> = expected.into_iter().map(|code| (code, 1)).collect();
            assert_eq!(codes(headers), expected, "{headers}");
        }
        assert_eq!(COUNTRIES.split(|&byte| byte == b' ').count(), 249 + 1);
    }

    #[test]
    fn eligible_lines_are_counted() {
        let file = |headers: &str, lines: &[&str]| {
            let lines: String = lines.iter().map(|pairs| relay(pairs)).collect();
            codes(&format!("1700000000\n{headers}\n=====\n{lines}"))
        };
        let few = "number_eligible_relays=2\nminimum_number_eligible_relays=3";
        let held_back = "bw=5 under_min_report=1 vote=0";
        let unmeasured = "bw=1 under_min_report=1 unmeasured=1 vote=0";
        assert_eq!(file(few, &[held_back, held_back, unmeasured]), []);
        assert_eq!(file(few, &[]), []);
        assert_eq!(file(few, &["bw=5", held_back]), [(Code::BelowMinimum, 1)]);
        let two = "number_eligible_relays=2";
        assert_eq!(
            file(two, &["bw=5", "bw=6 vote=0"]),
            [(Code::EligibleCount, 1)]
        );
        assert_eq!(file(two, &["bw=5", "bw=6"]), []);
    }

    #[test]
    fn lines_that_tell_who_wrote_them() {
        let file = |software: &str, pairs: &str| {
            codes(&format!(
                "1700000000\nsoftware={software}\n=====\n{}",
                relay(pairs)
            ))
        };
        assert_eq!(file("sbws", "bw=1"), [(Code::BareUnmeasured, 1)]);
        assert_eq!(file("sbws", "bw=2"), []);
        assert_eq!(file("sbws", "bw=1 vote=0"), []);
        assert_eq!(file("x", "bw=1"), []);
        let padded = |length: usize| format!("bw=5 nick={}", "x".repeat(length));
        assert_eq!(file("x", &padded(500)), [(Code::LineOver510, 1)]);
        assert_eq!(
            file("x", &padded(1022)),
            [(Code::LineOver510, 1), (Code::LongLine, 1)]
        );
    }

    #[test]
    fn implausible_files() {
        let text = b"1700000000\nversion=1.9.0\nscanner_country=AA\nfile_created=2000-01-01T00:00:00\n\
            number_consensus_relays=100\nnumber_eligible_relays=50\npercent_eligible_relays=80\n=====\n\
            bw=100 desc_bw_avg=50000 node_id=$00\n";
        let document = Document::parse(text);
        let context =
            LintContext::at(UnixTime::new(1_800_000_000)).after(UnixTime::new(1_700_000_000));
        let report = lint(&document, context);
        for code in [
            Code::Stale,
            Code::NotNewer,
            Code::DefaultNotEdited,
            Code::TimesOutOfOrder,
            Code::PercentArithmetic,
            Code::BandwidthAboveRate,
            Code::EligibleCount,
        ] {
            assert!(report.has(code), "{code}");
        }
        assert_eq!(report.diagnostics().len(), 7);
    }
}
