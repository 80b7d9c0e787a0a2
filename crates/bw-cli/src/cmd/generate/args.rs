//! The options of `bwscan generate`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bw_file::CountryCode;
use bw_sbws::Version;
use clap::Args;

use crate::args::{COMMON, NETWORK, OUTPUT, TorArgs};
use crate::cmd::ScalingArgs;
use crate::relay_name::is_nickname;
use crate::values;

/// Headings of help that only `generate` has.
const SANITY: &str = "Sanity";

const SBWS: &str = "As sbws";

#[derive(Clone, Debug, Args)]
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
#[derive(Clone, Debug, Args)]
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

fn parse_country(text: &str) -> Result<CountryCode, &'static str> {
    CountryCode::parse(text.trim().as_bytes())
        .ok_or("two upper-case letters expected (ZZ: unknown)")
}

fn parse_nickname(text: &str) -> Result<String, &'static str> {
    is_nickname(text)
        .then(|| text.to_owned())
        .ok_or("1 to 19 letters and digits expected")
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
    }
}
