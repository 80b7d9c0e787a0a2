//! The command line, exactly as it is typed. The options of a command lie beside it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use crate::cmd::{
    AggregateArgs, ConfigCommand, DemoArgs, DoctorArgs, ExplainArgs, ExportArgs, GenerateArgs,
    ImportArgs, ListArgs, MigrateArgs, PruneArgs, ReportArgs, RunArgs, ScanArgs, ServeArgs,
    SimulateArgs, StatusArgs, TestnetCommand, WatchArgs, WebArgs,
};
use crate::{examples, values};

/// Headings of help.
pub(crate) const COMMON: &str = "Common";
pub(crate) const NETWORK: &str = "Network";
pub(crate) const LIMITS: &str = "Limits";
pub(crate) const OUTPUT: &str = "Output";
const GENERAL: &str = "General";

/// Measure relays of a Tor network, and write the bandwidth file of its authorities.
///
/// bwscan downloads through each relay, stores what it measured, and writes the
/// bandwidth file (v3bw) that directory authorities vote with.
#[derive(Debug, Parser)]
#[command(name = "bwscan", version, max_term_width = 100, after_help = examples::BWSCAN)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = GENERAL)]
pub(crate) struct Global {
    /// Keep results, bandwidth files and the Tor directory here [default: bwscan
    /// in the user's data directory].
    #[arg(long, global = true, env = "BWSCAN_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Read options from this file [default: bwscan/bwscan.toml in the user's
    /// configuration directory, if it exists].
    #[arg(
        long,
        global = true,
        env = "BWSCAN_CONFIG",
        hide_short_help = true,
        value_name = "FILE"
    )]
    pub(crate) config: Option<PathBuf>,
    /// Read no configuration file.
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) no_config: bool,
    /// Log more on standard error; repeat for more detail.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Log what these tracing directives select ("info", "bw_measure=debug,warn").
    #[arg(
        long,
        global = true,
        env = "BWSCAN_LOG",
        hide_short_help = true,
        value_name = "FILTER"
    )]
    pub(crate) log: Option<String>,
    /// Log in JSON.
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) log_json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure relays.
    #[command(after_help = examples::SCAN)]
    Scan(Box<ScanArgs>),
    /// Scan, write the bandwidth file each hour, and serve metrics, for years.
    #[command(after_help = examples::RUN)]
    Run(RunArgs),
    /// Watch a running scan on this terminal.
    #[command(after_help = examples::WATCH)]
    Watch(WatchArgs),
    /// Show how the scanner is: file, rounds, failures, disk.
    Status(StatusArgs),
    /// Remove records and bandwidth files that are old.
    Prune(PruneArgs),
    /// Check configuration, disk, clock, Tor and destinations.
    Doctor(DoctorArgs),
    /// List the scans in the store.
    List(ListArgs),
    /// Combine the latest completed scans, relay by relay.
    #[command(after_help = examples::AGGREGATE)]
    Aggregate(AggregateArgs),
    /// Write the bandwidth file.
    #[command(after_help = examples::GENERATE)]
    Generate(GenerateArgs),
    /// Show why a relay has its weight, or none.
    #[command(after_help = examples::EXPLAIN)]
    Explain(ExplainArgs),
    /// Write pages that show the network, each relay, and why it has its weight.
    #[command(after_help = examples::REPORT)]
    Report(ReportArgs),
    /// Serve these pages, their figures as JSON, and the running scan, over HTTP.
    #[command(after_help = examples::WEB)]
    Web(WebArgs),
    /// Write all results as JSON Lines, or as sbws does.
    #[command(after_help = examples::EXPORT)]
    Export(ExportArgs),
    /// Add the results of other scanners.
    #[command(after_help = examples::IMPORT)]
    Import(ImportArgs),
    /// Take over results and options of an sbws, and show the steps to switch.
    #[command(after_help = examples::MIGRATE)]
    MigrateFromSbws(MigrateArgs),
    /// Check, show, compare and convert bandwidth files.
    File(crate::file::FileArgs),
    /// Run a web server to measure against.
    #[command(after_help = examples::SERVE)]
    Serve(ServeArgs),
    /// Show the options that a command would run with.
    #[command(after_help = examples::CONFIG)]
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Run a private Tor network on this machine.
    #[command(after_help = examples::TESTNET)]
    Testnet {
        #[command(subcommand)]
        command: TestnetCommand,
    },
    /// Scan a private Tor network, write its file, and let its authorities vote.
    #[command(after_help = examples::DEMO)]
    Demo(DemoArgs),
    /// Simulate what weights, load and attacks do to a network, day by day.
    #[command(after_help = examples::SIMULATE)]
    Simulate(SimulateArgs),
    /// Print a completion script for a shell.
    Completions {
        /// Name the shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write all pages into a directory.
    #[command(after_help = examples::MAN)]
    Man {
        /// Write man1/ and man5/ into this directory.
        directory: Option<PathBuf>,
    },
}

/// The way to the Tor network.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = NETWORK)]
pub(crate) struct TorArgs {
    /// Reach another network than the public one, by this arti configuration
    /// file (TOML); repeat for several files.
    #[arg(
        long,
        env = "BWSCAN_TOR_CONFIG",
        value_name = "FILE",
        value_delimiter = ' '
    )]
    pub(crate) tor_config: Vec<PathBuf>,
    /// Give up reaching the Tor network after this time.
    #[arg(long, default_value = "3m", value_parser = values::time,
          hide_short_help = true, value_name = "TIME")]
    pub(crate) bootstrap_timeout: Duration,
}

/// The stores that results are read from.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = COMMON)]
pub(crate) struct StoreArgs {
    /// Read results from this store; repeat for several stores, in which each
    /// measurement counts once [default: results.sqlite in the data directory].
    #[arg(long = "store", value_name = "FILE")]
    pub(crate) stores: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
    Csv,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    fn all(command: &clap::Command) -> Vec<&clap::Command> {
        let inner = command.get_subcommands().flat_map(all);
        std::iter::once(command).chain(inner).collect()
    }

    #[test]
    fn help_tells_what_to_do() {
        use clap::CommandFactory;
        let program = Args::command();
        for command in all(&program) {
            let arguments = command.get_arguments().filter_map(clap::Arg::get_help);
            for help in arguments.chain(command.get_about()) {
                let help = help.to_string();
                let first = help.split(' ').next().unwrap();
                let nouns = [
                    "What", "How", "Whether", "Which", "Where", "When", "Who", "Of", "The", "A",
                    "An", "If", "Files",
                ];
                assert!(!nouns.contains(&first), "{help}");
                let sentences = help.split(". ");
                let longest = sentences.map(|one| one.split(' ').count()).max();
                assert!(longest <= Some(25), "{help}");
            }
        }
    }

    /// Parses the commands of a text: lines of their own, in folders of their own.
    fn parse_commands<'a>(lines: impl IntoIterator<Item = &'a str>) -> usize {
        let commands = lines.into_iter().filter_map(|line| {
            let line = line
                .trim_start_matches("$ ")
                .trim_start_matches("sudo -u bwscan ");
            let end = line.find(['|', '#', '>']).unwrap_or(line.len());
            let line = line[..end].replace(['[', ']'], "");
            line.starts_with("bwscan ").then_some(line)
        });
        let parse = |line: String| {
            let parsed = Args::try_parse_from(line.split_whitespace());
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        };
        commands.map(parse).count()
    }

    #[test]
    fn examples_are_right() {
        use clap::CommandFactory;
        let program = Args::command();
        let help = |command: &&clap::Command| command.get_after_help().map(ToString::to_string);
        let texts: Vec<_> = all(&program).iter().filter_map(help).collect();
        let lines = texts.iter().flat_map(|text| text.lines());
        let indented = lines.filter_map(|line| line.strip_prefix("  "));
        assert!(parse_commands(indented) > 20);
    }

    #[test]
    fn commands_in_the_documents_are_right() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for (document, least) in [
            ("README.md", 5),
            ("docs/cli.md", 40),
            ("docs/operations.md", 4),
        ] {
            let text = std::fs::read_to_string(root.join(document)).unwrap();
            let text = text.replace("\\\n", "");
            let code = text.lines().filter(|line| line.starts_with("    "));
            let seen = parse_commands(code.map(str::trim_start));
            assert!(seen >= least, "{document}: {seen} commands");
        }
    }

    /// Debian's unit has `ProtectHome`.
    #[test]
    fn tor_can_read_the_file_of_the_readme() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let text = std::fs::read_to_string(root.join("README.md")).unwrap();
        let value_of = |name: &str| {
            let line = text
                .lines()
                .find(|line| line.trim_start().starts_with(name));
            let value = line.unwrap().trim_start()[name.len()..].trim();
            value.trim_matches('"').to_owned()
        };
        let home = value_of("data_dir = ");
        let file = value_of("V3BandwidthsFile ");
        assert_eq!(file, format!("{home}/v3bw/latest.v3bw"));
        assert!(
            !file.starts_with("/home/") && !file.starts_with("/root/"),
            "{file}"
        );
    }

    #[test]
    fn the_ancestors_spellings_work() {
        let parse = |line: &str| Args::try_parse_from(line.split(' '));
        for line in [
            "bwscan aggregate -n 5",
            "bwscan aggregate -p 5",
            "bwscan aggregate --previous 5",
        ] {
            match parse(line).unwrap().command {
                Command::Aggregate(args) => assert_eq!(args.scans, 5),
                other => panic!("{other:?}"),
            }
        }
        match parse("bwscan scan -p 3 -c 2").unwrap().command {
            Command::Scan(args) => assert_eq!((args.partitions, args.partition), (3, 2)),
            other => panic!("{other:?}"),
        }
        assert!(parse("bwscan scan --relay not+a+relay").is_err());
    }
}
