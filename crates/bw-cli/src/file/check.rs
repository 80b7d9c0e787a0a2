//! `bwscan file check`.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use bw_file::{
    Boundary, FormatVersion, LintContext, Report, Severity, TorJudge, TorJudgement, TorVersion,
    UnixTime, lint, spec,
};
use clap::Args;
use serde::Serialize;

use super::Output;
use super::input::for_each_document;
use super::style::paint;

#[derive(Args, Debug)]
pub(super) struct CheckArgs {
    /// Files to check; `-` for standard input.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// The time to judge by, in Unix seconds; now by default.
    #[arg(long, value_name = "SECONDS")]
    now: Option<i64>,
    /// The timestamp of the file before, in Unix seconds, which this one must
    /// be newer than.
    #[arg(long, value_name = "SECONDS")]
    previous: Option<i64>,
    /// The version of the format to judge by; the declared one by default.
    #[arg(long, value_name = "VERSION")]
    spec_version: Option<FormatVersion>,
    /// The tor to judge as.
    #[arg(long, value_name = "VERSION")]
    tor_version: Option<TorVersion>,
    /// Shows notes too.
    #[arg(long)]
    notes: bool,
}

#[derive(Serialize)]
struct Checked<'a> {
    file: &'a str,
    spec: &'a Report,
    tor: &'a Report,
    lint: &'a Report,
    judgement: &'a TorJudgement,
}

/// The time now, in Unix seconds.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

pub(super) fn run(args: &CheckArgs, output: &mut Output<'_>) -> anyhow::Result<bool> {
    let now = UnixTime::new(args.now.unwrap_or_else(now));
    let judge = TorJudge::new(now).version(args.tor_version.clone().unwrap_or(TorVersion::CHECKED));
    let mut context = LintContext::at(now);
    context.previous = args.previous.map(UnixTime::new);
    let mut well = true;
    for path in &args.paths {
        // A timestamp among the relays is a fault of the file, not another file.
        for_each_document(path, Boundary::Annotation, |name, document| {
            let verdict = judge.judge_archived(&document.to_bytes());
            let spec = spec(document, args.spec_version);
            let tor = verdict.report(document);
            let lint = lint(document, context);
            let reports = [("spec", &spec), ("tor", &tor), ("lint", &lint)];
            well &= reports
                .iter()
                .all(|(_, report)| report.is_clean_of(Severity::Error));
            if output.json {
                return output.json_line(&Checked {
                    file: name,
                    spec: &spec,
                    tor: &tor,
                    lint: &lint,
                    judgement: &verdict,
                });
            }
            for (judgement, report) in reports {
                writeln!(
                    output.out,
                    "{name}: {judgement}: {} errors, {} warnings, {} notes",
                    report.count(Severity::Error),
                    report.count(Severity::Warning),
                    report.count(Severity::Note)
                )?;
                let mut hidden = false;
                for line in report.display(document).to_string().lines() {
                    // The lines below a diagnostic belong to it.
                    if !line.starts_with(' ') {
                        hidden = !args.notes && line.contains(": note[");
                    }
                    if !hidden {
                        writeln!(output.out, "{}", paint(line, output.color))?;
                    }
                }
            }
            writeln!(
                output.out,
                "{name}: tor uses {} lines, skips {} for vote=0{}",
                verdict.used().len(),
                verdict.skipped(),
                if verdict.casts_vote() {
                    ""
                } else {
                    ", and casts no vote"
                }
            )?;
            Ok(())
        })?;
    }
    Ok(well)
}
