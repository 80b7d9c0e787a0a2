//! `bwscan file check`.

use std::path::PathBuf;
use std::time::SystemTime;

use bw_file::{
    Boundary, Document, FormatVersion, LineKind, LintContext, Report, Severity, TorJudge,
    TorJudgement, TorVersion, UnixTime, lint, spec,
};
use clap::Args;
use serde::Serialize;

use super::Output;
use super::input::{Input, Reading, for_each_input};
use super::style::paint;
use crate::moment;

#[derive(Args, Debug)]
pub(super) struct CheckArgs {
    /// Check these files; - is standard input.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    time: TimeArgs,
    /// Require that the file is newer than this time, that of the file before.
    #[arg(long, value_parser = moment::parse, value_name = "TIME")]
    previous: Option<UnixTime>,
    /// Judge by this version of the format [default: the declared one].
    #[arg(long, value_name = "VERSION")]
    spec_version: Option<FormatVersion>,
    /// Judge as this tor does, 0.3.5.1 or newer [default: 0.4.9.11].
    #[arg(long, value_parser = parse_tor_version, value_name = "VERSION")]
    tor_version: Option<TorVersion>,
    /// Show notes too.
    #[arg(long)]
    notes: bool,
}

/// The time by which files are judged, and their origin.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct TimeArgs {
    /// Judge by this time, 2026-11-20T12:30:00 in UTC or Unix seconds [default: now;
    /// in archives the time at which each file was made].
    #[arg(long, value_parser = moment::parse, value_name = "TIME")]
    now: Option<UnixTime>,
    /// Judge files as archived: without @ lines, at the time at which they were made.
    ///
    /// Files in tar archives are always judged so. Tor refuses a file with @ lines.
    #[arg(long)]
    archived: bool,
}

impl TimeArgs {
    /// The way of reading: outside of archives, all bytes are one file, as for tor.
    pub(super) fn reading(self) -> Reading {
        let boundary = if self.archived {
            Boundary::Annotation
        } else {
            Boundary::None
        };
        Reading {
            boundary,
            anything: true,
        }
    }

    /// The time by which a file is judged.
    pub(super) fn of(self, input: &Input<'_>) -> UnixTime {
        let made = input.document.created().filter(|_| self.is_archived(input));
        self.now
            .or(made)
            .unwrap_or_else(|| SystemTime::now().into())
    }

    /// Tor's judgement of a file.
    pub(super) fn judge(self, input: &Input<'_>, version: TorVersion) -> TorJudgement {
        let judge = TorJudge::new(self.of(input)).version(version);
        let bytes = input.document.to_bytes();
        if self.is_archived(input) {
            judge.judge_archived(&bytes)
        } else {
            judge.judge(&bytes)
        }
    }

    fn is_archived(self, input: &Input<'_>) -> bool {
        self.archived || input.archived
    }
}

/// A version that [`TorJudge`] models.
fn parse_tor_version(text: &str) -> Result<TorVersion, String> {
    let version: TorVersion = text
        .parse()
        .map_err(|error: bw_file::VersionError| error.to_string())?;
    if version.longest_line().is_some() {
        let oldest = TorVersion::OLDEST_JUDGED;
        return Err(format!(
            "tor before {oldest} cuts lines into pieces, which is not modelled"
        ));
    }
    Ok(version)
}

#[derive(Serialize)]
struct Checked<'a> {
    file: &'a str,
    timestamp: Option<UnixTime>,
    spec: &'a Report,
    tor: &'a Report,
    lint: &'a Report,
    judgement: &'a TorJudgement,
}

pub(super) fn run(args: &CheckArgs, output: &mut Output<'_>) -> anyhow::Result<bool> {
    let version = args.tor_version.clone().unwrap_or(TorVersion::CHECKED);
    let mut well = true;
    for_each_input(&args.paths, args.time.reading(), |input| {
        let document = input.document;
        let mut context = LintContext::at(args.time.of(input));
        context.previous = args.previous;
        let verdict = args.time.judge(input, version.clone());
        let reports = Reports {
            spec: spec(document, args.spec_version),
            tor: verdict.report(document),
            lint: lint(document, context),
        };
        well &= reports.are_well();
        if output.json {
            return output.json_line(&Checked {
                file: input.name,
                timestamp: document.timestamp().value(),
                spec: &reports.spec,
                tor: &reports.tor,
                lint: &reports.lint,
                judgement: &verdict,
            });
        }
        reports.show(input, args.notes, output)?;
        show_verdict(&verdict, input, output)
    })?;
    Ok(well)
}

/// The findings of the three judgements.
struct Reports {
    spec: Report,
    tor: Report,
    lint: Report,
}

impl Reports {
    fn named(&self) -> [(&'static str, &Report); 3] {
        [
            ("spec", &self.spec),
            ("tor", &self.tor),
            ("lint", &self.lint),
        ]
    }

    fn are_well(&self) -> bool {
        let is_well = |(_, report): (_, &Report)| report.is_clean_of(Severity::Error);
        self.named().into_iter().all(is_well)
    }

    fn show(&self, input: &Input<'_>, notes: bool, output: &mut Output<'_>) -> anyhow::Result<()> {
        let name = input.name;
        for (judgement, report) in self.named() {
            writeln!(
                output.out,
                "{name}: {judgement}: {} errors, {} warnings, {} notes",
                report.count(Severity::Error),
                report.count(Severity::Warning),
                report.count(Severity::Note)
            )?;
            let mut hidden = false;
            for line in report.display(input.document).to_string().lines() {
                // The lines below a diagnostic belong to it.
                if !line.starts_with(' ') {
                    hidden = !notes && line.contains(": note[");
                }
                if !hidden {
                    writeln!(output.out, "{}", paint(line, output.color))?;
                }
            }
        }
        Ok(())
    }
}

fn show_verdict(
    verdict: &TorJudgement,
    input: &Input<'_>,
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    let name = input.name;
    if verdict.refused() && begins_with_annotation(input.document) {
        writeln!(
            output.out,
            "{name}: the @ lines are the archive's: --archived judges the file without them"
        )?;
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
}

fn begins_with_annotation(document: &Document<'_>) -> bool {
    let first = document.lines().first();
    first.is_some_and(|line| line.kind() == LineKind::Annotation)
}
