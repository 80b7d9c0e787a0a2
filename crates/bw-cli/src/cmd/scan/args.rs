//! The options of `bwscan scan`.

use std::path::PathBuf;
use std::time::Duration;

use bw_file::BytesPerSecond;
use bw_measure::{Placement, Window};
use bw_results::Direction;
use bytesize::ByteSize;
use clap::{Args, ValueEnum};

use crate::args::{COMMON, LIMITS, NETWORK, OUTPUT, TorArgs};
use crate::relay_name::RelayName;
use crate::values;

#[derive(Debug, Args)]
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
    /// Show the scan on the whole terminal, as "bwscan watch" does.
    #[arg(long, help_heading = OUTPUT, conflicts_with_all = ["json", "quiet", "dry_run"])]
    pub(crate) watch: bool,
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
