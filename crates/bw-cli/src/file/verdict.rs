//! A file or a relay in one sentence.

use bw_file::{
    Document, HeaderFields, RelayFields, RelayLineRef, Standing, TorJudgement, UnixTime, Weights,
};

use crate::text::grouped;
use crate::text::printable;

/// Tor's judgement of a file at a time, and the content.
pub(super) fn of_file(document: &Document<'_>, judgement: &TorJudgement, now: UnixTime) -> String {
    let weights = Weights::of(document);
    let tor = match judgement.warnings().first() {
        Some(first) if judgement.refused() => format!("tor refuses it ({})", first.kind),
        _ if !judgement.casts_vote() => "tor casts no vote with it".to_owned(),
        _ => "tor takes it".to_owned(),
    };
    let lines = document.relays().count();
    let votes = match weights.relays() {
        0 if lines == 0 => "it has no relays".to_owned(),
        0 => format!("none of {} relays has a vote", grouped(lines)),
        voted => format!(
            "{} of {} relays have a vote, {} in all",
            grouped(voted),
            grouped(lines),
            weights.total()
        ),
    };
    let header = HeaderFields::new(document);
    let software = header.software.value().unwrap_or_else(|| "torflow".into());
    let age = document
        .timestamp()
        .value()
        .map_or_else(String::new, |time| {
            format!(", {}", age(now.seconds().saturating_sub(time.seconds())))
        });
    format!("{tor}: {votes}; measured by {}{age}.", printable(&software))
}

/// `3 h old`.
fn age(seconds: i64) -> String {
    match seconds {
        ..0 => "of the future".to_owned(),
        0..120 => format!("{seconds} s old"),
        120..7200 => format!("{} min old", seconds / 60),
        7200..172_800 => format!("{} h old", seconds / 3600),
        _ => format!("{} d old", seconds / 86_400),
    }
}

/// The weight of a relay and its reason.
pub(super) fn of_relay(line: RelayLineRef<'_>, weights: &Weights) -> String {
    let fields = RelayFields::new(line);
    let name = fields.nick.as_value().map_or("The relay", |nick| &**nick);
    let standing = line
        .fingerprint()
        .and_then(|relay| weights.standing(&relay));
    let answer = match standing {
        Some(standing) if line.is_voted() => has_weight(standing, &fields),
        _ => format!("has no vote{}", why_not(line, &fields)),
    };
    let failures = failures(&fields).map_or_else(String::new, |text| format!("; {text}"));
    format!("{} {answer}{failures}.", printable(name))
}

fn has_weight(standing: Standing, fields: &RelayFields<'_>) -> String {
    let why = ratio(fields).map_or_else(String::new, |ratio| {
        let direction = if ratio < 1.0 { "lowered" } else { "raised" };
        format!(", {direction} by a rate of {ratio:.2} times the mean")
    });
    format!(
        "has {}: place {} of {}, {:.3} % of all{why}",
        standing.weight,
        grouped(standing.place),
        grouped(standing.of),
        standing.share * 100.0
    )
}

/// The relay's rate as a multiple of the network's mean: as sbws says it, or
/// Torflow's controller, whose error is the ratio less one.
fn ratio(fields: &RelayFields<'_>) -> Option<f64> {
    let sbws = fields.r_strm.as_value().copied();
    sbws.or_else(|| Some(1.0 + fields.pid_error.as_value()?))
        .filter(|ratio| ratio.is_finite() && *ratio >= 0.0)
}

fn why_not(line: RelayLineRef<'_>, fields: &RelayFields<'_>) -> &'static str {
    let says = |flag: &bw_file::Field<'_, bool>| flag.as_value() == Some(&true);
    if line.bandwidth().is_none() {
        ": its line has no bandwidth that is a number"
    } else if line.fingerprint().is_none() {
        ": its line has no fingerprint"
    } else if says(&fields.unmeasured) {
        ": it was not measured"
    } else if says(&fields.under_min_report) {
        ": too few relays of the whole file are eligible"
    } else {
        ": its line has vote=0"
    }
}

/// The number of measurements that failed, if the file says so.
fn failures(fields: &RelayFields<'_>) -> Option<String> {
    let errors = [
        &fields.error_circ,
        &fields.error_destination,
        &fields.error_misc,
        &fields.error_second_relay,
        &fields.error_stream,
    ];
    let known: Vec<u64> = errors
        .iter()
        .filter_map(|count| count.as_value().copied())
        .collect();
    let failed = known
        .iter()
        .fold(0_u64, |sum, count| sum.saturating_add(*count));
    let succeeded = fields.success.as_value().copied();
    match (failed, succeeded) {
        _ if known.is_empty() => None,
        (0, _) => Some("nothing failed recently".to_owned()),
        (failed, Some(succeeded)) => Some(format!(
            "{failed} of {} measurements failed",
            failed.saturating_add(succeeded)
        )),
        (failed, None) => Some(format!("{failed} measurements failed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bw_file::{TorJudge, TorVersion};

    fn relay(line: &str) -> String {
        let more = format!("bw=1000 node_id=${}\n", "CD".repeat(20));
        let file = format!(
            "1700000000\n=====\n{line} node_id=${}\n{more}",
            "AB".repeat(20)
        );
        let document = Document::parse(file.as_bytes());
        of_relay(document.relays().next().unwrap(), &Weights::of(&document))
    }

    #[test]
    fn relays_in_a_sentence() {
        for (line, sentence) in [
            (
                "bw=250 nick=None r_strm=0.55 error_circ=0 success=3",
                "None has 250 kB/s: place 2 of 2, 20.000 % of all, lowered by a rate of 0.55 times \
                 the mean; nothing failed recently.",
            ),
            (
                "bw=3000 nick=a pid_error=0.5",
                "a has 3000 kB/s: place 1 of 2, 75.000 % of all, raised by a rate of 1.50 times the mean.",
            ),
            (
                "bw=1 unmeasured=1 vote=0 error_stream=2 success=0",
                "The relay has no vote: it was not measured; 2 of 2 measurements failed.",
            ),
            (
                "bw=7 under_min_report=1 vote=0",
                "The relay has no vote: too few relays of the whole file are eligible.",
            ),
            (
                "bw=7 vote=0 pid_error=inf",
                "The relay has no vote: its line has vote=0.",
            ),
        ] {
            assert_eq!(relay(line), sentence);
        }
    }

    #[test]
    fn files_in_a_sentence() {
        let sentence = |file: &str, now| {
            let now = UnixTime::new(now);
            let judgement = TorJudge::new(now)
                .version(TorVersion::CHECKED)
                .judge(file.as_bytes());
            of_file(&Document::parse(file.as_bytes()), &judgement, now)
        };
        let file = format!(
            "1700000000\nsoftware=sbws\n=====\nbw=7 node_id=${}\n",
            "AB".repeat(20)
        );
        assert_eq!(
            sentence(&file, 1_700_003_600),
            "tor takes it: 1 of 1 relays have a vote, 7 kB/s in all; measured by sbws, 60 min old."
        );
        assert_eq!(
            sentence("1700000000\n", 1_800_000_000),
            "tor refuses it (Bandwidth measurement file stale): it has no relays; measured by \
             torflow, 1157 d old."
        );
    }
}
