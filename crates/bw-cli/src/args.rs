//! The command line, exactly as it is typed.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use bw_file::Fingerprint;
use bw_measure::{Placement, Window};
use bw_results::Direction;
use bytesize::ByteSize;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

pub(crate) use crate::result_args::{
    AggregateArgs, ExplainArgs, ExportArgs, GenerateArgs, ImportArgs, ListArgs,
};

/// The bandwidth scanner for Tor-like networks.
///
/// Measures relays by downloading through them, and writes the bandwidth file
/// that a directory authority reads.
#[derive(Debug, Parser)]
#[command(name = "bwscan", version, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done; 1 done, but the result is not good enough or empty; \
    2 wrong usage or configuration; 3 the Tor network cannot be had; 4 no destination works; \
    5 a file cannot be read or written; 6 the new bandwidth file is not plausible, the old one \
    stays; 130 interrupted."
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, ClapArgs)]
pub(crate) struct Global {
    /// Where results, bandwidth files and Tor's directory are kept [default:
    /// bwscan in the user's data directory].
    #[arg(long, global = true, env = "BWSCAN_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Take what is not given here from this file [default: bwscan.toml in
    /// bwscan's part of the user's configuration directory, if it is there].
    #[arg(long, global = true, env = "BWSCAN_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Read no configuration file.
    #[arg(long, global = true)]
    pub(crate) no_config: bool,
    /// More diagnostics on standard error; twice and three times for more.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// What to log, as tracing directives ("info", "bw_measure=debug,warn").
    #[arg(long, global = true, env = "BWSCAN_LOG", value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// Log in JSON.
    #[arg(long, global = true)]
    pub(crate) log_json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure relays.
    Scan(Box<ScanArgs>),
    /// List the scans in the store.
    List(ListArgs),
    /// Combine the latest completed scans, relay by relay.
    Aggregate(AggregateArgs),
    /// Write the bandwidth file.
    Generate(GenerateArgs),
    /// Tell why a relay has its weight, or none.
    Explain(ExplainArgs),
    /// Write all results as JSON Lines, or as sbws does.
    Export(ExportArgs),
    /// Add the results of other scanners, each once.
    Import(ImportArgs),
    /// Check, show, compare and convert bandwidth files.
    File(crate::file::FileArgs),
    /// Run a web server to measure against.
    Serve(ServeArgs),
    /// Show what the configuration file does.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Run a private Tor network on this machine.
    Testnet {
        #[command(subcommand)]
        command: TestnetCommand,
    },
    /// Show the whole job on a private Tor network: scan, generate, vote.
    Demo(DemoArgs),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one per command into a directory.
    Man {
        /// Where to write them.
        directory: Option<PathBuf>,
    },
}

/// Relays of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Only {
    /// Those that the consensus calls unmeasured.
    Unmeasured,
}

/// Where in the circuit relays are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PositionArg {
    /// Exits as exits, all others as entries.
    Natural,
    /// All as entries.
    Entry,
    /// Exits as exits; others cannot be measured.
    Exit,
    /// Exits as exits and as entries, all others as entries.
    Both,
}

impl From<PositionArg> for Placement {
    fn from(position: PositionArg) -> Self {
        match position {
            PositionArg::Natural => Self::Natural,
            PositionArg::Entry => Self::Entry,
            PositionArg::Exit => Self::Exit,
            PositionArg::Both => Self::Both,
        }
    }
}

/// A number of things of which there must be one.
fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("not a number of at least 1".to_owned()),
        Ok(count) => Ok(count),
    }
}

/// More than nothing, at most everything.
fn parse_percent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(percent),
        _ => Err("not a number of percent above 0, at most 100".to_owned()),
    }
}

/// Which way the payload goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DirectionArg {
    /// Upload if the consensus has bwscanner_cc=2, else download.
    Auto,
    /// From the destination; any web server with Range requests does.
    Download,
    /// To the destination, which must be a "bwscan serve".
    Upload,
}

impl DirectionArg {
    /// The direction, unless the network decides.
    pub(crate) fn fixed(self) -> Option<Direction> {
        match self {
            Self::Auto => None,
            Self::Download => Some(Direction::Download),
            Self::Upload => Some(Direction::Upload),
        }
    }
}

/// How the Tor network is reached.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct TorArgs {
    /// An arti configuration file (TOML) for another network than the public
    /// one; may be given several times.
    #[arg(
        long,
        env = "BWSCAN_TOR_CONFIG",
        value_name = "FILE",
        value_delimiter = ' '
    )]
    pub(crate) tor_config: Vec<PathBuf>,
    /// How long reaching the Tor network may take.
    #[arg(long, default_value = "3m", value_parser = humantime::parse_duration,
          value_name = "TIME")]
    pub(crate) bootstrap_timeout: Duration,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ScanArgs {
    /// A file on a web server to download from, https://HOST/PATH; may be
    /// given several times.
    #[arg(
        short,
        long = "destination",
        visible_alias = "baseurl",
        env = "BWSCAN_DESTINATION",
        value_name = "URL",
        value_delimiter = ' '
    )]
    pub(crate) destinations: Vec<String>,
    /// Over how many scanners the relays are divided.
    #[arg(short, long, default_value_t = 1, value_name = "N")]
    pub(crate) partitions: u32,
    /// Which part this scanner measures, from 1 to N.
    #[arg(
        short = 'c',
        long,
        visible_alias = "current-partition",
        default_value_t = 1,
        value_name = "K"
    )]
    pub(crate) partition: u32,
    /// Text that the scanners of a partitioned network share; decides which
    /// relay is in which part.
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "TEXT"
    )]
    pub(crate) partition_key: String,
    /// Measure only this relay; may be given several times.
    #[arg(long, value_name = "FINGERPRINT")]
    pub(crate) relay: Vec<Fingerprint>,
    /// Measure only the relays whose fingerprints are in this file, one in each
    /// line; may be given several times.
    #[arg(long, value_name = "FILE")]
    pub(crate) relays: Vec<PathBuf>,
    /// Measure only relays of this kind.
    #[arg(long, value_enum, value_name = "KIND", conflicts_with_all = ["relay", "relays"])]
    pub(crate) only: Option<Only>,
    /// Only show what would be measured, how long it would take, and how many bytes.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Scan round after round instead of once.
    #[arg(long)]
    pub(crate) continuous: bool,
    /// With --continuous: how far apart rounds begin at least.
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration,
          value_name = "TIME")]
    pub(crate) interval: Duration,
    /// Begin a new scan even if one is unfinished.
    #[arg(long)]
    pub(crate) fresh: bool,
    /// The name of this scanner in the results.
    #[arg(
        long,
        default_value = "bwscan",
        env = "BWSCAN_SCANNER",
        value_name = "NAME"
    )]
    pub(crate) scanner: String,
    /// Trust only the certificates in this PEM file for https destinations
    /// [default: Mozilla's roots].
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// The secret that all destinations share with us ("bwscan serve --key-file"):
    /// what does not prove to be theirs is a failure.
    #[arg(long, env = "BWSCAN_DESTINATION_KEY_FILE", value_name = "FILE")]
    pub(crate) destination_key_file: Option<PathBuf>,
    /// Whether to download or to upload.
    #[arg(long, value_enum, default_value_t = DirectionArg::Auto, value_name = "WHICH")]
    pub(crate) direction: DirectionArg,
    #[command(flatten)]
    pub(crate) tor: TorArgs,
    /// How often a relay is tried before it is given up for this scan; twice as
    /// often if a circuit through it was complete once.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100),
          value_name = "N")]
    pub(crate) attempts: u32,
    /// What of this machine's link measurements may take, per second.
    #[arg(
        long,
        default_value = "12.5MB",
        env = "BWSCAN_LINK_RATE",
        value_name = "SIZE"
    )]
    pub(crate) link_rate: ByteSize,
    /// What each destination may be asked for, per second [default: no limit].
    #[arg(long, value_name = "SIZE")]
    pub(crate) destination_rate: Option<ByteSize>,
    /// The most circuits at a time.
    #[arg(long, default_value_t = 100, value_parser = parse_count, value_name = "N")]
    pub(crate) circuits: usize,
    /// The most circuits begun in a second.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..),
          value_name = "N")]
    pub(crate) circuits_per_second: u32,
    /// The most helpers of one measurement: a relay faster than any helper is
    /// measured through several.
    #[arg(long, default_value_t = 8, value_parser = parse_count, value_name = "N")]
    pub(crate) helpers: usize,
    /// Where in the circuit relays are measured.
    #[arg(long, value_enum, default_value_t = PositionArg::Natural, value_name = "WHERE")]
    pub(crate) position: PositionArg,
    /// The most bytes of payload in 24 hours [default: no limit].
    #[arg(long, value_name = "SIZE")]
    pub(crate) bytes_per_day: Option<ByteSize>,
    /// The time of day (UTC) in which measurements begin, such as 22:00-06:00.
    #[arg(long, value_name = "FROM-TO")]
    pub(crate) window: Option<Window>,
    /// How long nothing may work before the scan ends, once something has worked.
    #[arg(long, default_value = "10m", value_parser = humantime::parse_duration,
          value_name = "TIME")]
    pub(crate) outage: Duration,
    /// A download ends when its rate is known to this many percent, with 95 %
    /// confidence.
    #[arg(long, default_value_t = 5.0, value_parser = parse_percent, value_name = "PERCENT")]
    pub(crate) precision: f64,
    /// The shortest time that counts, after the beginning that is left out.
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration,
          value_name = "TIME")]
    pub(crate) min_time: Duration,
    /// The time that counts after which a download ends although its rate is known less well.
    #[arg(long, default_value = "1500ms", value_parser = humantime::parse_duration,
          value_name = "TIME")]
    pub(crate) sample_time: Duration,
    /// The longest download, with the beginning that is left out.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration,
          value_name = "TIME")]
    pub(crate) max_time: Duration,
    /// The most bytes of one download.
    #[arg(long, default_value = "1GiB", value_name = "SIZE")]
    pub(crate) max_size: ByteSize,
    /// The longest wait for each step before a download: channel, circuit,
    /// stream, TLS, response [default: 20 or 30 s, by step].
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    pub(crate) step_timeout: Option<Duration>,
    /// The longest silence within a download.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration,
          value_name = "TIME")]
    pub(crate) stall_timeout: Duration,
    /// Make the random choices of helpers and destinations repeatable.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,
    /// Print each outcome as a line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Print no progress.
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) quiet: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ServeArgs {
    /// The address and port to listen on.
    #[arg(short, long, default_value = "127.0.0.1:8000", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
    /// The size of the file that is served.
    #[arg(long, default_value = "1GiB", value_name = "SIZE")]
    pub(crate) size: ByteSize,
    /// Serve HTTPS with this certificate chain (PEM).
    #[arg(long, requires = "tls_key", value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM).
    #[arg(long, requires = "tls_cert", value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Serve HTTPS with a certificate made now for this host name or address;
    /// scanners trust it with --ca-file.
    #[arg(
        long,
        conflicts_with = "tls_cert",
        requires = "write_ca",
        value_name = "NAME"
    )]
    pub(crate) self_signed: Option<String>,
    /// Where to write that certificate.
    #[arg(long, requires = "self_signed", value_name = "FILE")]
    pub(crate) write_ca: Option<PathBuf>,
    /// A secret of at least 16 bytes that scanners share with --destination-key-file:
    /// proves to them that every byte comes from here, or came here.
    #[arg(long, env = "BWSCAN_KEY_FILE", value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// The most bytes per second, of all clients together; they are told so
    /// [default: no limit].
    #[arg(long, value_name = "SIZE")]
    pub(crate) rate: Option<ByteSize>,
    /// The most connections at a time; more are answered with 503.
    #[arg(long, default_value_t = 1024, value_parser = parse_count, value_name = "N")]
    pub(crate) connections: usize,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show the options that a command would run with, and where they come from.
    Show(ConfigShowArgs),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ConfigShowArgs {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// What would be typed after "bwscan", for example: scan --interval 2h
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND LINE"
    )]
    pub(crate) line: Vec<OsString>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TestnetCommand {
    /// Bring a network up; it runs until "testnet down".
    Up(TestnetUpArgs),
    /// Show how a network is doing.
    Status {
        #[command(flatten)]
        place: TestnetPlace,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Have clients download through a network, as a load for scanners.
    Load(TestnetLoadArgs),
    /// Stop a network's processes and remove its files.
    Down {
        #[command(flatten)]
        place: TestnetPlace,
    },
    /// Serve the delays and lines of a network's relays; "up" starts this.
    #[command(hide = true)]
    Lines {
        #[command(flatten)]
        place: TestnetPlace,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct TestnetPlace {
    /// Where the network lives [default: testnet in the data directory].
    #[arg(value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct TestnetUpArgs {
    #[command(flatten)]
    pub(crate) place: TestnetPlace,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// Also wait until all relays have tested their own bandwidth, about a minute
    /// after they have started, which would disturb measurements.
    #[arg(long)]
    pub(crate) settle: bool,
    /// Print the network's state as JSON when it is up.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct TestnetLoadArgs {
    #[command(flatten)]
    pub(crate) place: TestnetPlace,
    /// What they download: a large file, over plain http, on a server that
    /// answers Range requests ("bwscan serve").
    #[arg(short, long, value_name = "URL")]
    pub(crate) url: String,
    /// How much of the sum of all relays' capacities they take at most; a byte
    /// that a client receives crosses three relays and counts three times.
    #[arg(long, default_value_t = 0.5, value_name = "PART")]
    pub(crate) share: f64,
    /// Clients, each a tor process with up to eight downloads at a time.
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub(crate) clients: usize,
    /// Decides the sizes of the downloads and the pauses between them.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub(crate) seed: u64,
    /// How long [default: until a signal].
    #[arg(long = "for", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub(crate) time: Option<Duration>,
    /// Print JSON, one object per line.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What limits a private network's relays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LimitArg {
    /// BandwidthRate: all that tor sends and receives.
    Node,
    /// RelayBandwidthRate: what tor carries for others.
    Relay,
    /// The relay's line, of which tor knows nothing.
    Line,
    /// By relay or by line, as the seed decides.
    Mixed,
}

/// The observed bandwidth in a private network's first descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ObservedArg {
    /// The true capacity.
    True,
    /// What tor sees by itself, which is close to nothing.
    None,
}

/// One time, or the shortest and the longest.
fn parse_delays(text: &str) -> Result<RangeInclusive<Duration>, String> {
    let (low, high) = text.split_once("..").unwrap_or((text, text));
    let time =
        |part: &str| humantime::parse_duration(part).map_err(|error| format!("{part:?}: {error}"));
    Ok(time(low)?..=time(high)?)
}

/// What a private network is made of.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct NetworkArgs {
    /// Directory authorities; tor uses measured weights only with three.
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub(crate) authorities: usize,
    /// Relays that are no exits.
    #[arg(long, default_value_t = 8, value_name = "N")]
    pub(crate) relays: usize,
    /// Exits.
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub(crate) exits: usize,
    /// Decides the relays' capacities (and the errors of the prior).
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub(crate) seed: u64,
    /// The smallest capacity, per second.
    #[arg(long, default_value = "250kB", value_name = "SIZE")]
    pub(crate) min_rate: ByteSize,
    /// The largest capacity, per second.
    #[arg(long, default_value = "4MB", value_name = "SIZE")]
    pub(crate) max_rate: ByteSize,
    /// The relays' burst as a multiple of their rate.
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    pub(crate) burst: f64,
    /// How soon a relay whose token bucket is empty looks again. With tor's own
    /// 100ms an idle relay passes now more, now less than its rate; with 1ms it
    /// passes always the same.
    #[arg(long, default_value = "100ms", value_parser = humantime::parse_duration,
          value_name = "TIME")]
    pub(crate) refill_interval: Duration,
    /// What limits relays to their capacity.
    #[arg(long, value_enum, default_value_t = LimitArg::Node, value_name = "KIND")]
    pub(crate) limit_by: LimitArg,
    /// How long bytes take on connections to a relay, one way, such as 30ms; with
    /// A..B each relay gets a time between the two.
    #[arg(long, value_parser = parse_delays, value_name = "TIME[..TIME]")]
    pub(crate) delay: Option<RangeInclusive<Duration>>,
    /// What relays say at first of the traffic that they have seen.
    #[arg(long, value_enum, default_value_t = ObservedArg::True, value_name = "KIND")]
    pub(crate) observed: ObservedArg,
    /// Start with measured weights that are off by this much (standard
    /// deviation of the logarithm) instead of none.
    #[arg(long, value_name = "SIGMA")]
    pub(crate) prior: Option<f64>,
    /// The time from one consensus to the next.
    #[arg(long, default_value = "20s", value_parser = humantime::parse_duration,
          value_name = "TIME")]
    pub(crate) voting_interval: Duration,
    /// The tor program [default: found in PATH].
    #[arg(long, value_name = "FILE")]
    pub(crate) tor: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct DemoArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// Where to put the results; made anew.
    #[arg(short, long, default_value = "demo", value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Measure against an https server instead of plain http.
    #[arg(long)]
    pub(crate) https: bool,
    /// Print the report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
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
        assert!(parse("bwscan scan --relay 1234").is_err());
    }
}
