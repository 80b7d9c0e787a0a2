//! Whether what a file says is plausible.

use crate::document::Document;
use crate::error::{Position, wide};
use crate::fields::HeaderFields;
use crate::line::{HeaderLine, LineKind};
use crate::relay::RelayLineRef;
use crate::report::{Code, Report};
use crate::time::UnixTime;
use crate::tor::{MAX_FILE_AGE_SECONDS, TorJudgement, TorWarningKind};

/// What a file is compared with.
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
    let mut at = Position::START;
    let mut voted = 0_u64;
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
                voted += u64::from(relay.is_voted());
                above_rate(&mut report, relay, at);
            }
            _ => {}
        }
        if content.len() > 1022 {
            report.push(Code::LongLine, at, 0, content.len().to_string());
        }
        at = Position::new(at.byte + wide(line.as_bytes().len()), at.line + 1, 1);
    }
    if let Some(&eligible) = fields.number_eligible_relays.as_value() {
        let no_diagnostic_lines = voted > 0 || eligible == 0;
        if no_diagnostic_lines && eligible != voted {
            let detail = format!("{eligible} in the header, {voted} lines");
            report.push(Code::EligibleCount, Position::START, 0, detail);
        }
    }
    report.sort();
    report
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
        (b"percent_eligible_relays", _) => {
            let expected = (|| {
                let eligible = *fields.number_eligible_relays.as_value()?;
                let consensus = *fields.number_consensus_relays.as_value()?;
                eligible.checked_mul(100)?.checked_div(consensus)
            })();
            let percent = fields.percent_eligible_relays.as_value().map(|p| p.value());
            off_by_more_than_1(percent, expected, &mut push);
        }
        (b"minimum_number_eligible_relays", _) => {
            let expected = (|| {
                let consensus = *fields.number_consensus_relays.as_value()?;
                let percent = fields.minimum_percent_eligible_relays.as_value()?;
                Some(consensus.checked_mul(percent.value())? / 100)
            })();
            let minimum = fields.minimum_number_eligible_relays.as_value().copied();
            off_by_more_than_1(minimum, expected, &mut push);
        }
        (b"recent_consensus_count", value) => out_of(value, 60..=120, &mut push),
        (b"recent_priority_list_count", value) => out_of(value, 24..=120, &mut push),
        (b"recent_priority_relay_count", value) => out_of(value, 7200..=48_000, &mut push),
        (b"file_created", _) => {
            let created = fields.file_created.as_value().map(|time| time.seconds());
            let timestamp = timestamp.map(UnixTime::seconds);
            if created.is_some() && timestamp.is_some() && created < timestamp {
                push(
                    Code::TimesOutOfOrder,
                    "created before the latest measurement".to_owned(),
                );
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
    if crate::value::parse_unsigned(value).is_some_and(|count| !range.contains(&count)) {
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
