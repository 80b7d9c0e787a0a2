//! `bwscan file digest`.

use std::path::PathBuf;

use anyhow::Context as _;
use bw_file::{TorJudge, UnixTime, VoteLines, VoteMismatch};
use clap::Args;
use serde::Serialize;

use super::Output;
use super::check::now;
use super::input::read_one;
use super::style::printable;

#[derive(Args, Debug)]
pub(super) struct DigestArgs {
    /// The file.
    path: PathBuf,
    /// A vote to check against the file.
    #[arg(long)]
    vote: Option<PathBuf>,
    /// The time to judge by, in Unix seconds; now by default.
    #[arg(long, value_name = "SECONDS")]
    now: Option<i64>,
}

#[derive(Serialize)]
struct Digested {
    headers: String,
    digest: Option<String>,
    mismatches: Vec<String>,
}

pub(super) fn run(args: &DigestArgs, output: &mut Output<'_>) -> anyhow::Result<bool> {
    let file = read_one(&args.path)?;
    let judge = TorJudge::new(UnixTime::new(args.now.unwrap_or_else(now)));
    let verdict = judge.judge_archived(&file);
    let mut mismatches = Vec::new();
    if let Some(path) = &args.vote {
        let vote =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        for mismatch in VoteLines::parse(&vote).mismatches(&verdict.vote_lines()) {
            mismatches.push(match mismatch {
                VoteMismatch::Headers => "bandwidth-file-headers differs".to_owned(),
                VoteMismatch::Digest => "bandwidth-file-digest differs".to_owned(),
                VoteMismatch::Measured {
                    relay,
                    voted,
                    expected,
                } => format!("{relay}: the vote has {voted}, the file {expected:?}"),
                other => format!("{other:?}"),
            });
        }
    }
    let well = mismatches.is_empty();
    let digested = Digested {
        headers: String::from_utf8_lossy(&verdict.headers_line()).into_owned(),
        digest: verdict.digest_line(),
        mismatches,
    };
    if output.json {
        output.json_line(&digested)?;
        return Ok(well);
    }
    writeln!(output.out, "{}", printable(&digested.headers))?;
    if let Some(digest) = &digested.digest {
        writeln!(output.out, "{digest}")?;
    }
    for mismatch in &digested.mismatches {
        writeln!(output.out, "{mismatch}")?;
    }
    Ok(well)
}
