//! The options of `bwscan export` and `bwscan import`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::args::OUTPUT;

#[derive(Debug, Args)]
#[command(next_help_heading = OUTPUT)]
pub(crate) struct ExportArgs {
    /// Write to this file [default: standard output]; with --format sbws into
    /// this directory, such as the datadir of an sbws.
    #[arg(short, long, required_if_eq("format", "sbws"), value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// Write in this format.
    #[arg(long, value_enum, default_value_t = ExportFormat::Jsonl)]
    pub(crate) format: ExportFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// Write JSON Lines, for "bwscan import jsonl".
    Jsonl,
    /// Write result lines of sbws, one file a day.
    Sbws,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    #[command(subcommand)]
    pub(crate) source: ImportSource,
    /// Print what was added as JSON.
    #[arg(long, global = true, help_heading = OUTPUT)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImportSource {
    /// Add what "bwscan export" wrote.
    Jsonl {
        /// Read these files; - is standard input.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Add an sbws home, or its datadir: results, state, and tor's cached consensus
    /// and descriptors.
    Sbws {
        /// Read this directory.
        #[arg(value_name = "DIR")]
        home: PathBuf,
        /// Read the configuration of that sbws from this file [default: sbws.ini in
        /// DIR, or .sbws.ini beside it].
        #[arg(long, requires = "write_config", value_name = "FILE")]
        sbws_config: Option<PathBuf>,
        /// Write that configuration, as far as bwscan has options for it, to this new
        /// configuration file.
        #[arg(long, value_name = "FILE")]
        write_config: Option<PathBuf>,
    },
}
