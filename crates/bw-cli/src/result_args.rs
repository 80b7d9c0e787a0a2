//! The options of the commands that work on results.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bw_aggregate::{Method, SbwsVersion};
use bw_file::{CountryCode, DateTime};
use bw_results::UnixMillis;
use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use crate::args::TorArgs;

/// Where results are read from.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct StoreArgs {
    /// A store of results; may be given several times, each measurement
    /// counts once [default: results.sqlite in the data directory].
    #[arg(long = "store", value_name = "FILE")]
    pub(crate) stores: Vec<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) stores: StoreArgs,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct AggregateArgs {
    /// How many of the latest completed scans to combine, of each partition.
    #[arg(short = 'n', short_alias = 'p', long = "scans", visible_alias = "previous",
          default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..),
          value_name = "N")]
    pub(crate) scans: u32,
    #[command(flatten)]
    pub(crate) stores: StoreArgs,
    /// Take scans of chosen relays (scan --relay, --relays, --only) too.
    #[arg(long)]
    pub(crate) partial: bool,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// The same as --format json.
    #[arg(long, conflicts_with = "format")]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
    Csv,
}

/// How weights are made: what `generate` does and `explain` explains.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct ScalingArgs {
    #[command(flatten)]
    pub(crate) stores: StoreArgs,
    /// How many days of results count.
    #[arg(long, default_value_t = 28, value_parser = clap::value_parser!(u32).range(1..=365),
          value_name = "DAYS")]
    pub(crate) days: u32,
    /// Of these, only measurements not older than this count.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    pub(crate) recent: Option<Duration>,
    /// Of two or more measurements of a relay, two must be more than this apart.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    pub(crate) apart: Option<Duration>,
    /// How many measurements a relay must have.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) min_measurements: u64,
    /// The formula.
    #[arg(long, value_enum, default_value_t = Scale::Torflow, value_name = "METHOD")]
    pub(crate) scale: Scale,
    /// No relay gets more than this share of the whole [default: 0.05; in a
    /// network of fewer than 200 relays, ten equal shares].
    #[arg(long, value_name = "SHARE")]
    pub(crate) max_share: Option<f64>,
    /// How many significant digits weights have [default: 2; torflow-pid: 3].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=9), value_name = "N")]
    pub(crate) round_digits: Option<u32>,
    /// The share of the consensus's relays, in percent, below which the file
    /// asks authorities not to vote with it.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(0..=100),
          value_name = "PERCENT")]
    pub(crate) min_percent: u32,
    /// With --scale sbws: the median weight times 1000 [default: 7500].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..), value_name = "NUMBER")]
    pub(crate) scale_constant: Option<u64>,
    /// With --scale linear: the mean weight [default: 7500].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..), value_name = "KB")]
    pub(crate) quota: Option<u64>,
    /// With --scale torflow-pid: a bwauth parameter that overrides the
    /// consensus's; may be given several times.
    #[arg(long = "param", value_name = "NAME=VALUE")]
    pub(crate) params: Vec<Param>,
    /// The file in use, with which --scale torflow-pid goes on and the new
    /// one is compared [default: latest.v3bw in the output directory].
    #[arg(long, value_name = "FILE")]
    pub(crate) previous: Option<PathBuf>,
    /// Take the network's facts from this consensus, as tor caches it,
    /// instead of the store's newest snapshot.
    #[arg(long, value_name = "FILE")]
    pub(crate) consensus: Option<PathBuf>,
    /// With --consensus: server descriptors, as tor caches them; may be given
    /// several times.
    #[arg(long, requires = "consensus", value_name = "FILE")]
    pub(crate) descriptors: Vec<PathBuf>,
    /// How long after the end of its validity a consensus is still used.
    #[arg(long, default_value = "1d", value_parser = humantime::parse_duration,
          value_name = "TIME")]
    pub(crate) max_facts_age: Duration,
    /// Work as of this time (UTC, 2026-11-20T12:30:00) instead of now.
    #[arg(long, value_parser = parse_time, value_name = "TIME")]
    pub(crate) now: Option<UnixMillis>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scale {
    /// Torflow's ratios as sbws has them.
    Torflow,
    /// Torflow's own, with its controller.
    TorflowPid,
    /// sbws's own.
    Sbws,
    /// The specification's.
    Linear,
    /// What was measured.
    Raw,
}

impl From<Scale> for Method {
    fn from(scale: Scale) -> Self {
        match scale {
            Scale::Torflow => Self::Torflow,
            Scale::TorflowPid => Self::TorflowPid,
            Scale::Sbws => Self::Sbws,
            Scale::Linear => Self::Linear,
            Scale::Raw => Self::Raw,
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

fn parse_time(text: &str) -> Result<UnixMillis, String> {
    let time = DateTime::parse(text.as_bytes()).map_err(|error| error.to_string())?;
    u64::try_from(time.seconds())
        .map(UnixMillis::from_secs)
        .map_err(|_| "a time before 1970".to_owned())
}

fn parse_country(text: &str) -> Result<CountryCode, &'static str> {
    CountryCode::parse(text.trim().as_bytes())
        .ok_or("two upper-case letters expected (ZZ: unknown)")
}

fn parse_nickname(text: &str) -> Result<String, &'static str> {
    let is_nickname =
        (1..=19).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_nickname
        .then(|| text.to_owned())
        .ok_or("1 to 19 letters and digits expected")
}

#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct GenerateArgs {
    /// Where to write the dated file and latest.v3bw [default: v3bw in the
    /// data directory].
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) scaling: ScalingArgs,
    #[command(flatten)]
    pub(crate) sanity: SanityArgs,
    /// Write the file exactly as sbws would, its defects included: sbws,
    /// sbws=1.5.2, sbws=1.9.0 or sbws=2.2.0.
    #[arg(long, value_name = "SOFTWARE")]
    pub(crate) compat: Option<Compat>,
    /// With --compat: read results, state and tor's files from this sbws home,
    /// as sbws does, instead of the store.
    #[arg(long, requires = "compat", value_name = "DIR")]
    pub(crate) sbws_home: Option<PathBuf>,
    /// With --compat and another scaling than torflow: days of results (sbws's
    /// general.data_period).
    #[arg(long, default_value_t = 5, value_name = "DAYS")]
    pub(crate) data_period: u32,
    /// With --compat: of a relay that moved, only results of its newest address
    /// count (sbws's general.reset_bw_ipv4_changes).
    #[arg(long)]
    pub(crate) reset_ipv4_changes: bool,
    /// The scanner's country (two letters), for the header.
    #[arg(long, value_parser = parse_country, value_name = "CC")]
    pub(crate) scanner_country: Option<CountryCode>,
    /// The destinations' countries (two letters, with commas), for the header.
    #[arg(long, value_parser = parse_country, value_delimiter = ',', value_name = "CC")]
    pub(crate) destinations_countries: Vec<CountryCode>,
    /// The nickname of the authority that reads the file, for the header.
    #[arg(long, value_parser = parse_nickname, value_name = "NAME")]
    pub(crate) dirauth_nickname: Option<String>,
    /// Fetch a consensus and descriptors from the Tor network first (see
    /// --tor-config), and take the network's facts from them.
    #[arg(long, conflicts_with_all = ["consensus", "sbws_home", "now"])]
    pub(crate) refresh: bool,
    #[command(flatten)]
    pub(crate) tor: TorArgs,
    /// Print what was written as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What the file must keep to, lest the old one stays.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Sanity")]
pub(crate) struct SanityArgs {
    /// Publish the file whatever is wrong with it.
    #[arg(long)]
    pub(crate) force: bool,
    /// The least share of the consensus's weight, in percent, that relays with
    /// a weight must have.
    #[arg(long, default_value_t = 50.0, value_name = "PERCENT")]
    pub(crate) min_weight_percent: f64,
    /// How many times the sum of weights may be that of the file in use, or
    /// the reverse.
    #[arg(long, default_value_t = 2.0, value_name = "FACTOR")]
    pub(crate) max_total_change: f64,
    /// How many times the sum of weights may be that of the same relays in
    /// the consensus, or the reverse.
    #[arg(long, default_value_t = 4.0, value_name = "FACTOR")]
    pub(crate) max_consensus_factor: f64,
    /// From which factor on a relay's weight has changed.
    #[arg(long, default_value_t = 5.0, value_name = "FACTOR")]
    pub(crate) relay_change: f64,
    /// How many relays, in percent, may have changed.
    #[arg(long, default_value_t = 20.0, value_name = "PERCENT")]
    pub(crate) max_changed_percent: f64,
    /// How old the newest measurement may be.
    #[arg(long, default_value = "36h", value_parser = humantime::parse_duration,
          value_name = "TIME")]
    pub(crate) max_age: Duration,
}

/// Whose files are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Compat(pub(crate) SbwsVersion);

impl FromStr for Compat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let version = match text.split_once('=') {
            None if text == "sbws" => return Ok(Self(SbwsVersion::default())),
            Some(("sbws", version)) => version,
            _ => return Err("only sbws is known".to_owned()),
        };
        SbwsVersion::ALL
            .into_iter()
            .find(|known| known.as_str() == version)
            .map(Self)
            .ok_or_else(|| {
                let known = SbwsVersion::ALL.map(SbwsVersion::as_str).join(", ");
                format!("of sbws, the versions {known} are known; 2.2.0 is that of 2.0 and 2.1 too")
            })
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ExplainArgs {
    /// The relay: fingerprint, nickname or address.
    #[arg(value_name = "RELAY")]
    pub(crate) relay: String,
    #[command(flatten)]
    pub(crate) scaling: ScalingArgs,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ExportArgs {
    /// Where to write them: a file [default: standard output]; with
    /// --format sbws a directory, such as the datadir of an sbws.
    #[arg(short, long, required_if_eq("format", "sbws"), value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// As what.
    #[arg(long, value_enum, default_value_t = ExportFormat::Jsonl)]
    pub(crate) format: ExportFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// JSON Lines, for "bwscan import jsonl"
    Jsonl,
    /// Result lines of sbws, one file a day
    Sbws,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ImportArgs {
    #[command(subcommand)]
    pub(crate) source: ImportSource,
    /// Print what was done as JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImportSource {
    /// What "bwscan export" wrote.
    Jsonl {
        /// The files; - is standard input.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// An sbws home, or its datadir: results, tor's cached consensus and
    /// descriptors, state and configuration.
    Sbws {
        /// The directory.
        #[arg(value_name = "DIR")]
        home: PathBuf,
        /// The configuration of that sbws [default: sbws.ini in DIR, or
        /// .sbws.ini beside it].
        #[arg(long, requires = "write_config", value_name = "FILE")]
        sbws_config: Option<PathBuf>,
        /// Write what of that configuration bwscan has options for to this new
        /// file, a configuration file of bwscan.
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
        assert_eq!(parse("sbws"), Ok(SbwsVersion::V2_2_0));
        assert_eq!(parse("sbws=1.5.2"), Ok(SbwsVersion::V1_5_2));
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
