//! The command line, exactly as it is typed.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use bw_file::BytesPerSecond;
use bw_loop::Attack;
use bw_measure::{Placement, Window};
use bw_results::Direction;
use bytesize::ByteSize;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

pub(crate) use crate::cmd::{DoctorArgs, PruneArgs, RunArgs, StatusArgs};
use crate::relay_name::RelayName;
pub(crate) use crate::result_args::{
    AggregateArgs, ExplainArgs, ExportArgs, Format, GenerateArgs, ImportArgs, ListArgs, ReportArgs,
    Scale,
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
    /// Write all results as JSON Lines, or as sbws does.
    #[command(after_help = examples::EXPORT)]
    Export(ExportArgs),
    /// Add the results of other scanners.
    #[command(after_help = examples::IMPORT)]
    Import(ImportArgs),
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

/// Relays of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Only {
    /// Relays that the consensus calls unmeasured.
    Unmeasured,
}

/// Where in the circuit relays are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PositionArg {
    /// Measure exits as exits, all others as entries.
    Natural,
    /// Measure all as entries.
    Entry,
    /// Measure exits as exits, and no others.
    Exit,
    /// Measure exits as exits and as entries, all others as entries.
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

/// The direction of the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DirectionArg {
    /// Upload if the consensus has bwscanner_cc=2, download otherwise.
    Auto,
    /// Download from any web server that answers Range requests.
    Download,
    /// Upload to a "bwscan serve".
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

#[derive(Debug, ClapArgs)]
#[command(next_help_heading = COMMON)]
pub(crate) struct ScanArgs {
    /// Download from this file on a web server, https://HOST/PATH; repeat for
    /// several servers.
    #[arg(
        short,
        long = "destination",
        visible_alias = "baseurl",
        env = "BWSCAN_DESTINATION",
        value_name = "URL",
        value_delimiter = ' '
    )]
    pub(crate) destinations: Vec<String>,
    /// Scan round after round instead of once.
    #[arg(long)]
    pub(crate) continuous: bool,
    /// Begin rounds at least this far apart (with --continuous).
    #[arg(long, default_value = "1h", value_parser = values::time, value_name = "TIME")]
    pub(crate) interval: Duration,
    /// Measure only this relay; repeat for several relays.
    ///
    /// Accepts a fingerprint or its first 8 digits or more, a nickname, an Ed25519
    /// key, or an address. All but a whole fingerprint must be in the consensus.
    #[arg(long, value_name = "RELAY")]
    pub(crate) relay: Vec<RelayName>,
    /// Measure only the relays in this file, one in each line; repeat for
    /// several files.
    #[arg(long, value_name = "FILE")]
    pub(crate) relays: Vec<PathBuf>,
    /// Measure only relays of this kind.
    #[arg(long, value_enum, value_name = "KIND", conflicts_with_all = ["relay", "relays"])]
    pub(crate) only: Option<Only>,
    /// Show what would be measured, the time and the bytes it would take; measure nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Begin a new scan even if one is unfinished.
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Divide the relays among this many scanners.
    #[arg(
        short,
        long,
        default_value_t = 1,
        hide_short_help = true,
        value_name = "N"
    )]
    pub(crate) partitions: u32,
    /// Measure this part of the relays, from 1 to --partitions.
    #[arg(
        short = 'c',
        long,
        visible_alias = "current-partition",
        default_value_t = 1,
        hide_short_help = true,
        value_name = "K"
    )]
    pub(crate) partition: u32,
    /// Divide the relays by this text, the same for all scanners.
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        hide_short_help = true,
        value_name = "TEXT"
    )]
    pub(crate) partition_key: String,
    /// Name this scanner in the results.
    #[arg(
        long,
        default_value = "bwscan",
        env = "BWSCAN_SCANNER",
        hide_short_help = true,
        value_name = "NAME"
    )]
    pub(crate) scanner: String,
    /// Trust only the certificates in this PEM file for https destinations
    /// [default: Mozilla's roots].
    #[arg(long, help_heading = NETWORK, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Require proof that every byte is the destination's, by this shared secret.
    ///
    /// Give all destinations the same secret with "bwscan serve --key-file".
    #[arg(
        long,
        env = "BWSCAN_DESTINATION_KEY_FILE",
        help_heading = NETWORK,
        hide_short_help = true,
        value_name = "FILE"
    )]
    pub(crate) destination_key_file: Option<PathBuf>,
    /// Choose whether to download or to upload.
    #[arg(long, value_enum, default_value_t = DirectionArg::Auto, help_heading = NETWORK,
          hide_short_help = true, value_name = "WHICH")]
    pub(crate) direction: DirectionArg,
    /// Choose the position in the circuit at which relays are measured.
    #[arg(long, value_enum, default_value_t = PositionArg::Natural, help_heading = NETWORK,
          hide_short_help = true, value_name = "WHERE")]
    pub(crate) position: PositionArg,
    #[command(flatten)]
    pub(crate) tor: TorArgs,
    /// Use at most this much of the link, per second (12.5MB, 100Mbit).
    #[arg(
        long,
        default_value = "100Mbit",
        env = "BWSCAN_LINK_RATE",
        value_parser = values::rate,
        help_heading = LIMITS,
        value_name = "RATE"
    )]
    pub(crate) link_rate: BytesPerSecond,
    /// Ask each destination for at most this much, per second [default: no limit].
    #[arg(long, value_parser = values::rate, help_heading = LIMITS, hide_short_help = true,
          value_name = "RATE")]
    pub(crate) destination_rate: Option<BytesPerSecond>,
    /// Move at most this many bytes of payload in 24 hours [default: no limit].
    #[arg(long, value_parser = values::size, help_heading = LIMITS, value_name = "SIZE")]
    pub(crate) bytes_per_day: Option<ByteSize>,
    /// Begin measurements only in this time of day (UTC), such as 22:00-06:00.
    #[arg(long, help_heading = LIMITS, value_name = "FROM-TO")]
    pub(crate) window: Option<Window>,
    /// Build at most this many circuits at a time.
    #[arg(long, default_value_t = 100, value_parser = values::count, help_heading = LIMITS,
          hide_short_help = true, value_name = "N")]
    pub(crate) circuits: usize,
    /// Begin at most this many circuits in a second.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..),
          help_heading = LIMITS, hide_short_help = true, value_name = "N")]
    pub(crate) circuits_per_second: u32,
    /// Use at most this many helpers for one measurement.
    #[arg(long, default_value_t = 8, value_parser = values::count, help_heading = LIMITS,
          hide_short_help = true, value_name = "N")]
    pub(crate) helpers: usize,
    /// Try a relay this often before giving it up for this scan.
    ///
    /// A relay is tried twice as often if a circuit through it was complete once.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100),
          help_heading = LIMITS, hide_short_help = true, value_name = "N")]
    pub(crate) attempts: u32,
    /// End the scan when nothing has worked for this long, once something has. A continuous
    /// one waits for a minute and goes on.
    #[arg(long, default_value = "10m", value_parser = values::time, help_heading = LIMITS,
          hide_short_help = true, value_name = "TIME")]
    pub(crate) outage: Duration,
    /// End a download when its rate is known to this share of it, with 95 %
    /// confidence.
    #[arg(long, default_value = "5%", value_parser = values::share_above_0, help_heading = LIMITS,
          hide_short_help = true, value_name = "SHARE")]
    pub(crate) precision: f64,
    /// Count at least this much time of each download, after its warm-up.
    #[arg(long, default_value = "1s", value_parser = values::time, help_heading = LIMITS,
          hide_short_help = true, value_name = "TIME")]
    pub(crate) min_time: Duration,
    /// End a download once this much time counts, even if its rate is less certain.
    #[arg(long, default_value = "1500ms", value_parser = values::time, help_heading = LIMITS,
          hide_short_help = true, value_name = "TIME")]
    pub(crate) sample_time: Duration,
    /// End a download after this time, its warm-up included.
    #[arg(long, default_value = "10s", value_parser = values::time, help_heading = LIMITS,
          hide_short_help = true, value_name = "TIME")]
    pub(crate) max_time: Duration,
    /// End a download after this many bytes.
    #[arg(long, default_value = "1GiB", value_parser = values::size, help_heading = LIMITS,
          hide_short_help = true, value_name = "SIZE")]
    pub(crate) max_size: ByteSize,
    /// Wait at most this long for each step before a download: channel, circuit,
    /// stream, TLS, response [default: 20 or 30 s, by step].
    #[arg(long, value_parser = values::time, help_heading = LIMITS, hide_short_help = true,
          value_name = "TIME")]
    pub(crate) step_timeout: Option<Duration>,
    /// Give up a download after this long without a byte.
    #[arg(long, default_value = "10s", value_parser = values::time, help_heading = LIMITS,
          hide_short_help = true, value_name = "TIME")]
    pub(crate) stall_timeout: Duration,
    /// Repeat the random choices of helpers and destinations of this seed.
    #[arg(long, help_heading = LIMITS, hide_short_help = true, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,
    /// Print each outcome as a line of JSON.
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) json: bool,
    /// Print no progress.
    #[arg(short, long, help_heading = OUTPUT, conflicts_with = "json")]
    pub(crate) quiet: bool,
}

#[derive(Debug, ClapArgs)]
#[command(next_help_heading = COMMON)]
pub(crate) struct ServeArgs {
    /// Listen on this address and port.
    #[arg(short, long, default_value = "127.0.0.1:8000", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
    /// Serve a file of this size.
    #[arg(long, default_value = "1GiB", value_parser = values::size, value_name = "SIZE")]
    pub(crate) size: ByteSize,
    /// Serve HTTPS with this certificate chain (PEM).
    #[arg(long, requires = "tls_key", value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Use this private key of the certificate (PEM).
    #[arg(long, requires = "tls_cert", value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Serve HTTPS with a new certificate for this host name or address.
    ///
    /// Scanners trust it with --ca-file.
    #[arg(
        long,
        conflicts_with = "tls_cert",
        requires = "write_ca",
        value_name = "NAME"
    )]
    pub(crate) self_signed: Option<String>,
    /// Write that certificate to this file.
    #[arg(long, requires = "self_signed", value_name = "FILE")]
    pub(crate) write_ca: Option<PathBuf>,
    /// Prove to scanners that every byte comes from here, by this shared secret.
    ///
    /// The secret has at least 16 bytes. Scanners take it with
    /// --destination-key-file.
    #[arg(long, env = "BWSCAN_KEY_FILE", value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Send and receive at most this much per second, all clients together; tell
    /// them so [default: no limit].
    #[arg(long, value_parser = values::rate, help_heading = LIMITS, value_name = "RATE")]
    pub(crate) rate: Option<BytesPerSecond>,
    /// Answer 503 to connections beyond this number.
    #[arg(long, default_value_t = 1024, value_parser = values::count, help_heading = LIMITS,
          value_name = "N")]
    pub(crate) connections: usize,
    /// Answer 503 to connections of one client beyond this number [default: half of
    /// --connections]. A client is an IPv4 address or an IPv6 network of 64 bits.
    #[arg(long, value_parser = values::count, help_heading = LIMITS, value_name = "N")]
    pub(crate) connections_per_client: Option<usize>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show the options that a command would run with, and where each comes from.
    Show(ConfigShowArgs),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ConfigShowArgs {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Give what would be typed after "bwscan", for example: scan --interval 2h
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND LINE"
    )]
    pub(crate) line: Vec<OsString>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TestnetCommand {
    /// Start a network; it runs until "testnet down".
    Up(TestnetUpArgs),
    /// Show the state of a network.
    Status {
        #[command(flatten)]
        place: TestnetPlace,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Load a network with clients that download through it.
    Load(TestnetLoadArgs),
    /// Stop the processes of a network and remove its files.
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
    /// Keep the network in this directory [default: testnet in the data directory].
    #[arg(value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct TestnetUpArgs {
    #[command(flatten)]
    pub(crate) place: TestnetPlace,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// Wait until all relays have tested their own bandwidth, about a minute.
    ///
    /// These tests would disturb measurements.
    #[arg(long)]
    pub(crate) settle: bool,
    /// Print the network's state as JSON when it is up.
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct TestnetLoadArgs {
    #[command(flatten)]
    pub(crate) place: TestnetPlace,
    /// Download this file over plain http, from a server that answers Range
    /// requests ("bwscan serve").
    #[arg(short, long, value_name = "URL")]
    pub(crate) url: String,
    /// Take at most this share of the sum of all relays' capacities.
    ///
    /// A byte that a client receives crosses three relays and counts three times.
    #[arg(long, default_value = "50%", value_parser = values::share_above_0, value_name = "SHARE")]
    pub(crate) share: f64,
    /// Run this many clients, each a tor with up to eight downloads at a time.
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub(crate) clients: usize,
    /// Draw the sizes of downloads and the pauses between them from this seed.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub(crate) seed: u64,
    /// Stop after this time [default: at a signal].
    #[arg(long = "for", value_parser = values::time, value_name = "TIME")]
    pub(crate) time: Option<Duration>,
    /// Print JSON, one object per line.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The limits of a private network's relays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LimitArg {
    /// Limit all that tor sends and receives (BandwidthRate).
    Node,
    /// Limit what tor carries for others (RelayBandwidthRate).
    Relay,
    /// Limit the relay's line, of which tor knows nothing.
    Line,
    /// Limit by relay or by line, as the seed decides.
    Mixed,
}

/// The observed bandwidth in a private network's first descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ObservedArg {
    /// State the true capacity.
    True,
    /// State what tor sees by itself, which is close to nothing.
    None,
}

/// One time, or the shortest and the longest.
fn parse_delays(text: &str) -> Result<RangeInclusive<Duration>, String> {
    let (low, high) = text.split_once("..").unwrap_or((text, text));
    Ok(values::time(low)?..=values::time(high)?)
}

/// The parts of a private network.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = NETWORK)]
pub(crate) struct NetworkArgs {
    /// Start this many directory authorities; tor uses measured weights only with
    /// three or more.
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub(crate) authorities: usize,
    /// Start this many relays that are no exits.
    #[arg(long, default_value_t = 8, value_name = "N")]
    pub(crate) relays: usize,
    /// Start this many exits.
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub(crate) exits: usize,
    /// Draw the capacities, and the errors of --prior, from this seed.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub(crate) seed: u64,
    /// Give relays at least this capacity, per second.
    #[arg(long, default_value = "250kB", value_parser = values::rate, value_name = "RATE")]
    pub(crate) min_rate: BytesPerSecond,
    /// Give relays at most this capacity, per second.
    #[arg(long, default_value = "4MB", value_parser = values::rate, value_name = "RATE")]
    pub(crate) max_rate: BytesPerSecond,
    /// Set the burst of relays to this multiple of their rate.
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    pub(crate) burst: f64,
    /// Refill the token buckets of relays at this interval.
    ///
    /// With tor's own 100ms the rate of an idle relay varies; with 1ms it is steady.
    #[arg(long, default_value = "100ms", value_parser = values::time, value_name = "TIME")]
    pub(crate) refill_interval: Duration,
    /// Limit relays to their capacity in this way.
    #[arg(long, value_enum, default_value_t = LimitArg::Node, value_name = "KIND")]
    pub(crate) limit_by: LimitArg,
    /// Delay bytes on connections to a relay by this time, one way, such as 30ms;
    /// A..B draws a time for each relay.
    #[arg(long, value_parser = parse_delays, value_name = "TIME[..TIME]")]
    pub(crate) delay: Option<RangeInclusive<Duration>>,
    /// State this observed bandwidth in the first descriptors.
    #[arg(long, value_enum, default_value_t = ObservedArg::True, value_name = "KIND")]
    pub(crate) observed: ObservedArg,
    /// Start with measured weights that are off by this much (standard deviation
    /// of the logarithm) instead of none.
    #[arg(long, value_name = "SIGMA")]
    pub(crate) prior: Option<f64>,
    /// Make a consensus at this interval, a divisor of 30 minutes.
    #[arg(long, default_value = "20s", value_parser = values::time,
          value_name = "TIME")]
    pub(crate) voting_interval: Duration,
    /// Run this tor program [default: found in PATH].
    #[arg(long, value_name = "FILE")]
    pub(crate) tor: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct DemoArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// Put the results in this directory, which is made anew.
    #[arg(short, long, default_value = "demo", value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Measure against an https server instead of a plain http one.
    #[arg(long)]
    pub(crate) https: bool,
    /// Compute weights with this formula.
    #[arg(long, value_enum, default_value_t = Scale::Torflow, value_name = "METHOD")]
    pub(crate) scale: Scale,
    /// Print the report as JSON.
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
#[command(next_help_heading = COMMON)]
pub(crate) struct SimulateArgs {
    /// Compute weights with these formulas, each in a run of its own; with commas.
    #[arg(long = "scale", value_enum, value_delimiter = ',',
          default_values_t = [Scale::Torflow, Scale::TorflowPid, Scale::Capacity],
          value_name = "METHOD")]
    pub(crate) methods: Vec<Scale>,
    /// Simulate this many relays.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(20..=20_000),
          value_name = "N")]
    pub(crate) relays: u32,
    /// Let clients want this share of all relays' capacity; with commas for
    /// several runs.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "0.5",
        value_name = "SHARE"
    )]
    pub(crate) utilisation: Vec<f64>,
    /// Simulate this many days.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(8..=1000),
          value_name = "DAYS")]
    pub(crate) days: u32,
    /// Use this many authorities with a scanner each.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=9),
          value_name = "N")]
    pub(crate) scanners: u32,
    /// Let relays attack: none, lie=FACTOR, favour, lie+favour=FACTOR,
    /// machine=RELAYS, helpers=SHARE, withhold; with commas for several runs.
    #[arg(
        long = "attack",
        value_delimiter = ',',
        default_value = "none",
        value_name = "ATTACK"
    )]
    pub(crate) attacks: Vec<Attack>,
    /// Let what a relay says of itself raise its weight by 1/(1 - SHARE) at most
    /// [default: capacity: 0.25; torflow, torflow-pid: no bound].
    #[arg(long, value_name = "SHARE")]
    pub(crate) bound: Option<f64>,
    /// Make everything random from this seed.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) seed: u64,
    /// Draw the days as SVG files into this directory.
    #[arg(long, help_heading = OUTPUT, value_name = "DIR")]
    pub(crate) plot: Option<PathBuf>,
    /// Print in this format; csv has a line for each day.
    #[arg(long, value_enum, default_value_t = Format::Table, help_heading = OUTPUT)]
    pub(crate) format: Format,
    /// Print JSON, the same as --format json.
    #[arg(long, conflicts_with = "format", help_heading = OUTPUT)]
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

    #[test]
    fn examples_are_right() {
        use clap::CommandFactory;
        let program = Args::command();
        let mut seen = 0;
        for command in all(&program) {
            let help = command.get_after_help().map(ToString::to_string);
            let help = help.unwrap_or_default();
            for line in help.lines().filter(|line| line.starts_with("  bwscan ")) {
                let line = line.split(" | ").next().unwrap();
                let parsed = Args::try_parse_from(line.split_whitespace());
                assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
                seen += 1;
            }
        }
        assert!(seen > 20);
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

    #[test]
    fn a_distance_is_a_time_or_two() {
        let millis = Duration::from_millis;
        assert_eq!(parse_delays("30ms"), Ok(millis(30)..=millis(30)));
        assert_eq!(parse_delays("10ms..1s"), Ok(millis(10)..=millis(1000)));
        for wrong in ["", "30", "10ms..", "10ms...60ms"] {
            assert!(parse_delays(wrong).is_err(), "{wrong}");
        }
    }
}
