//! The options of the commands that work on results.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bw_aggregate::{Method, Normalisation};
use bw_file::{CountryCode, KilobytesPerSecond};
use bw_results::UnixMillis;
use bw_sbws::Version;
use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use crate::args::{COMMON, LIMITS, NETWORK, OUTPUT, TorArgs};
use crate::relay_name::{RelayName, is_nickname};
use crate::values;

/// Headings of help that only `generate` has.
const SANITY: &str = "Sanity";
const SBWS: &str = "As sbws";

/// The stores that results are read from.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = COMMON)]
pub(crate) struct StoreArgs {
    /// Read results from this store; repeat for several stores, in which each
    /// measurement counts once [default: results.sqlite in the data directory].
    #[arg(long = "store", value_name = "FILE")]
    pub(crate) stores: Vec<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) stores: StoreArgs,
    /// Print JSON.
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
#[command(next_help_heading = COMMON)]
pub(crate) struct AggregateArgs {
    /// Combine this many of the latest completed scans of each partition.
    #[arg(short = 'n', short_alias = 'p', long = "scans", visible_alias = "previous",
          default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..),
          value_name = "N")]
    pub(crate) scans: u32,
    #[command(flatten)]
    pub(crate) stores: StoreArgs,
    /// Include scans of chosen relays (scan --relay, --relays, --only).
    #[arg(long)]
    pub(crate) partial: bool,
    /// Print in this format.
    #[arg(long, value_enum, default_value_t = Format::Table, help_heading = OUTPUT)]
    pub(crate) format: Format,
    /// Print JSON, the same as --format json.
    #[arg(long, conflicts_with = "format", help_heading = OUTPUT)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
    Csv,
}

/// The making of weights, which `generate` does and `explain` explains.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = COMMON)]
pub(crate) struct ScalingArgs {
    #[command(flatten)]
    pub(crate) stores: StoreArgs,
    /// Use the results of this many days.
    #[arg(long, default_value_t = 28, value_parser = clap::value_parser!(u32).range(1..=365),
          value_name = "DAYS")]
    pub(crate) days: u32,
    /// Use only measurements of these days that are not older than this.
    #[arg(long, value_parser = values::time, help_heading = LIMITS, hide_short_help = true,
          value_name = "TIME")]
    pub(crate) recent: Option<Duration>,
    /// Exclude relays whose measurements all fall within this interval.
    #[arg(long, value_parser = values::time, help_heading = LIMITS, hide_short_help = true,
          value_name = "TIME")]
    pub(crate) apart: Option<Duration>,
    /// Exclude relays with fewer measurements than this.
    #[arg(long, default_value_t = 1, help_heading = LIMITS, hide_short_help = true,
          value_name = "N")]
    pub(crate) min_measurements: u64,
    /// Compute weights with this formula.
    #[arg(long, value_enum, default_value_t = Scale::Torflow, value_name = "METHOD")]
    pub(crate) scale: Scale,
    /// Give no relay more than this share of the sum of weights [default: 5%; in
    /// a network of fewer than 200 relays, ten equal shares].
    #[arg(long, value_parser = values::share_above_0, help_heading = LIMITS, value_name = "SHARE")]
    pub(crate) max_share: Option<f64>,
    /// Let what a relay says of itself raise its weight by 1/(1 - SHARE) at most
    /// [default: capacity: 25%; torflow, torflow-pid: no bound].
    #[arg(long, value_parser = values::share, help_heading = LIMITS, value_name = "SHARE")]
    pub(crate) bound: Option<f64>,
    /// Move a weight by this share of the way to each new measurement, with
    /// --scale capacity [default: 30%].
    #[arg(long, value_parser = values::share_above_0, hide_short_help = true, value_name = "SHARE")]
    pub(crate) smoothing: Option<f64>,
    /// Make weights add up to those in the consensus, to so many kB/s, or to nothing
    /// special (none), with --scale capacity [default: consensus].
    #[arg(long, value_parser = parse_normalisation, hide_short_help = true,
          value_name = "SUM")]
    pub(crate) normalise: Option<Normalisation>,
    /// Round weights to this many significant digits [default: 2; torflow-pid and
    /// capacity: 3].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=9), help_heading = LIMITS,
          hide_short_help = true, value_name = "N")]
    pub(crate) round_digits: Option<u32>,
    /// Ask authorities not to vote with the file if a smaller share of the
    /// consensus's relays has a weight.
    #[arg(long, alias = "min-percent", default_value = "60%", value_parser = values::share,
          help_heading = LIMITS, hide_short_help = true, value_name = "SHARE")]
    pub(crate) min_share: f64,
    /// Make the median weight this number / 1000, with --scale sbws [default: 7500].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..), hide_short_help = true,
          value_name = "NUMBER")]
    pub(crate) scale_constant: Option<u64>,
    /// Make the mean weight this many kB/s, with --scale linear [default: 7500].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..), hide_short_help = true,
          value_name = "KB")]
    pub(crate) quota: Option<u64>,
    /// Override a bwauth parameter of the consensus (with --scale torflow-pid);
    /// repeat for several parameters.
    #[arg(long = "param", hide_short_help = true, value_name = "NAME=VALUE")]
    pub(crate) params: Vec<Param>,
    /// Compare the new file with this one, whose state --scale torflow-pid and
    /// capacity continue [default: latest.v3bw in the output directory].
    #[arg(long, value_name = "FILE")]
    pub(crate) previous: Option<PathBuf>,
    /// Take the facts of the network from this consensus, as tor caches it,
    /// instead of the newest snapshot in the stores.
    #[arg(long, help_heading = NETWORK, value_name = "FILE")]
    pub(crate) consensus: Option<PathBuf>,
    /// Read server descriptors, as tor caches them, from this file (with
    /// --consensus); repeat for several files.
    #[arg(long, requires = "consensus", help_heading = NETWORK, hide_short_help = true,
          value_name = "FILE")]
    pub(crate) descriptors: Vec<PathBuf>,
    /// Refuse a consensus that has been invalid for longer than this.
    #[arg(long, default_value = "1d", value_parser = values::time, help_heading = NETWORK,
          hide_short_help = true, value_name = "TIME")]
    pub(crate) max_facts_age: Duration,
    /// Work as of this time (UTC, 2026-11-20T12:30:00) instead of now.
    #[arg(long, value_parser = parse_time, hide_short_help = true, value_name = "TIME")]
    pub(crate) now: Option<UnixMillis>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scale {
    /// Use Torflow's ratios as sbws computes them.
    Torflow,
    /// Use Torflow's own algebra, with its controller.
    TorflowPid,
    /// Use sbws's own scaling.
    Sbws,
    /// Use the specification's linear scaling.
    Linear,
    /// Use the measured rates as they are.
    Raw,
    /// Estimate capacities, with a bound on what relays say of themselves.
    Capacity,
}

impl From<Scale> for Method {
    fn from(scale: Scale) -> Self {
        match scale {
            Scale::Torflow => Self::Torflow,
            Scale::TorflowPid => Self::TorflowPid,
            Scale::Sbws => Self::Sbws,
            Scale::Linear => Self::Linear,
            Scale::Raw => Self::Raw,
            Scale::Capacity => Self::Capacity,
        }
    }
}

/// `NAME=VALUE` of a consensus parameter.
#[derive(Clone, Debug)]
pub(crate) struct Param {
    pub(crate) name: String,
    pub(crate) value: i32,
}

impl FromStr for Param {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once('=')
            .ok_or("NAME=VALUE expected, for example bwauthkp=10000")?;
        let value = value
            .parse()
            .map_err(|_| format!("{value:?} is not a whole number"))?;
        // Names are checked here, where the option is named in the error.
        bw_aggregate::TorflowParams::default()
            .set(name, value)
            .map_err(|error| error.to_string())?;
        let name = name.to_owned();
        Ok(Self { name, value })
    }
}

fn parse_normalisation(text: &str) -> Result<Normalisation, &'static str> {
    match text {
        "consensus" => Ok(Normalisation::Consensus),
        "none" => Ok(Normalisation::None),
        _ => match text.parse() {
            Ok(total) if total > 0 => Ok(Normalisation::Total(KilobytesPerSecond::new(total))),
            _ => Err("consensus, none, or a sum in kB/s expected"),
        },
    }
}

fn parse_time(text: &str) -> Result<UnixMillis, String> {
    let time = crate::moment::parse(text)?;
    u64::try_from(time.seconds())
        .map(UnixMillis::from_secs)
        .map_err(|_| "a time before 1970".to_owned())
}

fn parse_country(text: &str) -> Result<CountryCode, &'static str> {
    CountryCode::parse(text.trim().as_bytes())
        .ok_or("two upper-case letters expected (ZZ: unknown)")
}

fn parse_nickname(text: &str) -> Result<String, &'static str> {
    is_nickname(text)
        .then(|| text.to_owned())
        .ok_or("1 to 19 letters and digits expected")
}

#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = COMMON)]
pub(crate) struct GenerateArgs {
    /// Write the dated file and latest.v3bw into this directory [default: v3bw in
    /// the data directory].
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) scaling: ScalingArgs,
    #[command(flatten)]
    pub(crate) sanity: SanityArgs,
    /// Write the file exactly as sbws would, with its defects: sbws, sbws=1.5.2,
    /// sbws=1.9.0 or sbws=2.2.0.
    #[arg(long, help_heading = SBWS, value_name = "SOFTWARE", conflicts_with_all = [
        "days", "min_share", "quota", "params", "previous", "max_facts_age", "force",
        "min_weight_share", "max_total_change", "max_consensus_factor", "relay_change",
        "max_changed_share", "max_age",
    ])]
    pub(crate) compat: Option<Compat>,
    /// Read results, state and tor's files from this sbws home, as sbws does,
    /// instead of the store (with --compat).
    #[arg(long, requires = "compat", conflicts_with = "stores", help_heading = SBWS,
          hide_short_help = true, value_name = "DIR")]
    pub(crate) sbws_home: Option<PathBuf>,
    /// Use this many days of results (sbws's general.data_period; with --compat
    /// and another scaling than torflow).
    #[arg(long, default_value_t = 5, help_heading = SBWS, hide_short_help = true, value_name = "DAYS")]
    pub(crate) data_period: u32,
    /// Use only results of a relay's newest address (sbws's
    /// general.reset_bw_ipv4_changes; with --compat).
    #[arg(long, help_heading = SBWS, hide_short_help = true)]
    pub(crate) reset_ipv4_changes: bool,
    /// Name the country of the scanner in the header (two letters).
    #[arg(long, help_heading = OUTPUT, value_parser = parse_country, value_name = "CC")]
    pub(crate) scanner_country: Option<CountryCode>,
    /// Name the countries of the destinations in the header (two letters, with
    /// commas).
    #[arg(long, value_parser = parse_country, value_delimiter = ',', help_heading = OUTPUT,
          value_name = "CC")]
    pub(crate) destinations_countries: Vec<CountryCode>,
    /// Name the authority that reads the file in the header.
    #[arg(long, help_heading = OUTPUT, value_parser = parse_nickname, value_name = "NAME")]
    pub(crate) dirauth_nickname: Option<String>,
    /// Fetch the facts of the network from Tor first.
    #[arg(long, help_heading = NETWORK, conflicts_with_all = ["consensus", "sbws_home", "now"])]
    pub(crate) refresh: bool,
    #[command(flatten)]
    pub(crate) tor: TorArgs,
    /// Print what was written as JSON.
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) json: bool,
}

/// Conditions for publishing the file; otherwise the old one stays.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = SANITY)]
pub(crate) struct SanityArgs {
    /// Publish the file even if one of these conditions does not hold.
    #[arg(long)]
    pub(crate) force: bool,
    /// Require that relays with a weight have this share of the consensus's weight.
    #[arg(long, alias = "min-weight-percent", hide_short_help = true, default_value = "50%",
          value_parser = values::share, value_name = "SHARE")]
    pub(crate) min_weight_share: f64,
    /// Require that the sum of weights is at most this many times that of the file
    /// in use, or the reverse.
    #[arg(
        long,
        hide_short_help = true,
        default_value_t = 2.0,
        value_name = "FACTOR"
    )]
    pub(crate) max_total_change: f64,
    /// Require that the sum of weights is at most this many times that of the same
    /// relays in the consensus, or the reverse.
    #[arg(
        long,
        hide_short_help = true,
        default_value_t = 4.0,
        value_name = "FACTOR"
    )]
    pub(crate) max_consensus_factor: f64,
    /// Count a relay as changed from this factor on.
    #[arg(
        long,
        hide_short_help = true,
        default_value_t = 5.0,
        value_name = "FACTOR"
    )]
    pub(crate) relay_change: f64,
    /// Require that at most this share of the relays has changed.
    #[arg(long, alias = "max-changed-percent", hide_short_help = true, default_value = "20%",
          value_parser = values::share, value_name = "SHARE")]
    pub(crate) max_changed_share: f64,
    /// Require that the newest measurement is not older than this.
    #[arg(long, default_value = "36h", value_parser = values::time, hide_short_help = true,
          value_name = "TIME")]
    pub(crate) max_age: Duration,
}

/// The software whose files are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Compat(pub(crate) Version);

impl FromStr for Compat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let version = match text.split_once('=') {
            None if text == "sbws" => return Ok(Self(Version::default())),
            Some(("sbws", version)) => version,
            _ => return Err("only sbws is known".to_owned()),
        };
        Version::ALL
            .into_iter()
            .find(|known| known.as_str() == version)
            .map(Self)
            .ok_or_else(|| {
                let known = Version::ALL.map(Version::as_str).join(", ");
                format!("of sbws, the versions {known} are known; 2.2.0 is that of 2.0 and 2.1 too")
            })
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ExplainArgs {
    /// Explain this relay: its fingerprint or the first 8 digits or more, its
    /// nickname, Ed25519 key or address.
    #[arg(value_name = "RELAY")]
    pub(crate) relay: RelayName,
    #[command(flatten)]
    pub(crate) scaling: ScalingArgs,
    /// Print JSON.
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ReportArgs {
    /// Write the pages into this directory, over an earlier report if there is one.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Compare these bandwidth files, each with its own --file.
    #[arg(long = "file", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Show the history of the dated files in this directory [default: v3bw in the
    /// data directory].
    #[arg(long, value_name = "DIR")]
    pub(crate) v3bw: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) scaling: ScalingArgs,
    /// Print what was written as JSON.
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
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

#[derive(Debug, ClapArgs)]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_files_are_made() {
        let parse = |text: &str| text.parse::<Compat>().map(|compat| compat.0);
        assert_eq!(parse("sbws"), Ok(Version::V2_2_0));
        assert_eq!(parse("sbws=1.5.2"), Ok(Version::V1_5_2));
        assert!(parse("sbws=1.6.0").unwrap_err().contains("1.5.2, 1.9.0"));
        assert!(parse("onbasca").is_err());
        assert!("bwauthkp=x".parse::<Param>().is_err());
        assert!(
            "bwauthxy=1"
                .parse::<Param>()
                .unwrap_err()
                .contains("bwauthkp")
        );
    }
}
