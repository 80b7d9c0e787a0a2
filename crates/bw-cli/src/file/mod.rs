//! `bwscan file …`: bandwidth files, looked at from outside.
//!
//! Exit codes: 0, all is well; 1, the files were read and something is wrong
//! or different; 2, they could not be read (an error of [`run`]).

mod check;
mod compare;
mod convert;
mod diff;
mod digest;
mod history;
mod input;
mod relay_name;
mod show;
mod stats;
mod style;
mod verdict;

use std::io::Write;

use clap::{Args, Subcommand};

use style::ColorChoice;

use crate::exit::{UsageError, is_broken_pipe};

const EXIT_CODES: &str = "\
Exit codes:
  0  all is well: no errors, no differences, no outliers, the relay is there
  1  the files were read, and something is wrong, different or not there
  2  a file or an argument cannot be read";

/// Look at bandwidth files: plain, compressed, or archives of them.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct FileArgs {
    #[command(subcommand)]
    command: FileCommand,
    /// Write JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
    /// Colour the output.
    #[arg(long, global = true, value_enum, default_value_t)]
    color: ColorChoice,
}

#[derive(Subcommand, Debug)]
enum FileCommand {
    /// Judge files by the specification, as tor does, and for plausibility.
    Check(check::CheckArgs),
    /// Show the header and the relays, or one relay, after a verdict in one sentence.
    Show(show::ShowArgs),
    /// Show the differences of two files.
    Diff(diff::DiffArgs),
    /// Show one relay in several files, in order of time.
    History(history::HistoryArgs),
    /// Compare the weights of several files, relay by relay, with their median.
    Compare(compare::CompareArgs),
    /// Show the lines that a vote has for a file, or check a vote against it.
    Digest(digest::DigestArgs),
    /// Write the relays as CSV or JSON Lines.
    Convert(convert::ConvertArgs),
    /// Count relays and bandwidth, one line for each file.
    Stats(stats::StatsArgs),
}

/// The form and place of output.
struct Output<'a> {
    out: &'a mut dyn Write,
    json: bool,
    color: bool,
}

/// Runs a command, writing to `out`; true if all is well.
///
/// # Errors
/// If a file cannot be read or the output not be written.
pub(crate) fn run(args: FileArgs, out: &mut dyn Write) -> anyhow::Result<bool> {
    let mut output = Output {
        out,
        json: args.json,
        color: args.color.enabled(),
    };
    let result = match args.command {
        FileCommand::Check(args) => check::run(&args, &mut output),
        FileCommand::Show(args) => show::run(&args, &mut output),
        FileCommand::Diff(args) => diff::run(&args, &mut output),
        FileCommand::History(args) => history::run(&args, &mut output),
        FileCommand::Compare(args) => compare::run(&args, &mut output),
        FileCommand::Digest(args) => digest::run(&args, &mut output),
        FileCommand::Convert(args) => convert::run(&args, &mut output),
        FileCommand::Stats(args) => stats::run(&args, &mut output),
    };
    result.map_err(unreadable)
}

/// An error that ends the process with 2, the error of a closed pipe as it is.
fn unreadable(error: anyhow::Error) -> anyhow::Error {
    if is_broken_pipe(&error) {
        return error;
    }
    UsageError(crate::exit::text(&error)).into()
}

impl Output<'_> {
    /// Writes a value as one line of JSON.
    fn json_line(&mut self, value: &impl serde::Serialize) -> anyhow::Result<()> {
        // As an error of input and output, so that a closed pipe is known for one.
        serde_json::to_writer(&mut *self.out, value).map_err(std::io::Error::from)?;
        writeln!(self.out)?;
        Ok(())
    }
}
