//! `bwscan file digest`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use bw_file::{TorJudgement, TorVersion, UnixTime, VoteLines, VoteMismatch, escaped};
use clap::Args;
use serde::Serialize;

use super::Output;
use super::check::TimeArgs;
use super::input::{Input, for_each_input};
use crate::text::printable;

#[derive(Args, Debug)]
pub(super) struct DigestArgs {
    /// Read this file, or an archive, which gives a line for each file in it.
    path: PathBuf,
    /// Check this vote against the file.
    #[arg(long, value_name = "FILE")]
    vote: Option<PathBuf>,
    #[command(flatten)]
    time: TimeArgs,
}

#[derive(Serialize)]
struct Digested<'a> {
    file: &'a str,
    timestamp: Option<UnixTime>,
    headers: String,
    digest: Option<String>,
    mismatches: Vec<String>,
}

pub(super) fn run(args: &DigestArgs, output: &mut Output<'_>) -> anyhow::Result<bool> {
    let vote = match &args.vote {
        Some(path) => Some(read_vote(path)?),
        None => None,
    };
    let (mut well, mut files) = (true, 0_u64);
    for_each_input(
        std::slice::from_ref(&args.path),
        args.time.reading(),
        |input| {
            files += 1;
            if vote.is_some() && files > 1 {
                bail!("a vote is checked against one file: unpack the one that is meant");
            }
            let verdict = args.time.judge(input, TorVersion::CHECKED);
            let mismatches = vote
                .as_ref()
                .map_or_else(Vec::new, |vote| mismatches(vote, &verdict));
            well &= mismatches.is_empty();
            let digested = Digested {
                file: input.name,
                timestamp: input.document.timestamp().value(),
                headers: escaped(&verdict.headers_line()).into_owned(),
                digest: verdict.digest_line(),
                mismatches,
            };
            if output.json {
                output.json_line(&digested)
            } else {
                digested.show(input, files == 1, output)
            }
        },
    )?;
    Ok(well)
}

fn read_vote(path: &Path) -> anyhow::Result<VoteLines> {
    let vote = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(VoteLines::parse(&vote))
}

fn mismatches(vote: &VoteLines, verdict: &TorJudgement) -> Vec<String> {
    let found = vote.mismatches(&verdict.vote_lines());
    let told = found.into_iter().map(|mismatch| match mismatch {
        VoteMismatch::Headers => "bandwidth-file-headers differs".to_owned(),
        VoteMismatch::Digest => "bandwidth-file-digest differs".to_owned(),
        VoteMismatch::Measured {
            relay,
            voted,
            expected,
        } => {
            let expected = expected.map_or_else(|| "none".to_owned(), |bw| bw.to_string());
            format!("{relay}: the vote has {voted}, the file {expected}")
        }
        other => format!("{other:?}"),
    });
    told.collect()
}

impl Digested<'_> {
    /// The lines of a vote; of one file among others a row, the first with a
    /// head.
    fn show(&self, input: &Input<'_>, first: bool, output: &mut Output<'_>) -> anyhow::Result<()> {
        let digest = self.digest.as_deref().unwrap_or_default();
        if input.alone {
            writeln!(output.out, "{}", printable(&self.headers))?;
            writeln!(output.out, "{digest}")?;
        } else {
            if first {
                writeln!(output.out, "{:50}  timestamp   file", "digest")?;
            }
            let digest = digest.rsplit(' ').next().unwrap_or_default();
            let timestamp = self
                .timestamp
                .map_or_else(|| "-".to_owned(), |t| t.to_string());
            writeln!(output.out, "{digest:50}  {timestamp:10}  {}", self.file)?;
        }
        for mismatch in &self.mismatches {
            writeln!(output.out, "{mismatch}")?;
        }
        Ok(())
    }
}
