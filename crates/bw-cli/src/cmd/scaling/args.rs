//! The options by which weights are made.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bw_aggregate::{Method, Normalisation};
use bw_file::KilobytesPerSecond;
use bw_results::UnixMillis;
use clap::{Args, ValueEnum};

use crate::args::{COMMON, LIMITS, NETWORK, StoreArgs};
use crate::values;

/// The making of weights, which `generate` does and `explain` explains.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = COMMON)]
pub(crate) struct ScalingArgs {
    #[command(flatten)]
    pub(crate) stores: StoreArgs,
    /// Use the results of this many days.
    #[arg(long, default_value_t = Self::default().days, value_parser = clap::value_parser!(u32).range(1..=365),
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
    #[arg(long, default_value_t = Self::default().min_measurements, help_heading = LIMITS,
          hide_short_help = true, value_name = "N")]
    pub(crate) min_measurements: u64,
    /// Compute weights with this formula [default: capacity; with --compat: torflow].
    #[arg(long, value_enum, value_name = "METHOD")]
    pub(crate) scale: Option<Scale>,
    /// Give no relay more than this share of the sum of weights [default: 5%; in
    /// a network of fewer than 200 relays, ten equal shares].
    #[arg(long, value_parser = values::share_above_0, help_heading = LIMITS, value_name = "SHARE")]
    pub(crate) max_share: Option<f64>,
    /// Let what a relay says of itself raise its weight by 1/(1 - SHARE) at most
    /// [default: capacity: 25%; torflow, torflow-pid: no bound].
    #[arg(long, value_parser = values::share, help_heading = LIMITS, value_name = "SHARE")]
    pub(crate) bound: Option<f64>,
    /// Move a weight by this share of the way to each new measurement, with
    /// --scale capacity [default: 15%].
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

impl Default for ScalingArgs {
    /// The values of a command line without any of these options.
    fn default() -> Self {
        Self {
            stores: StoreArgs { stores: Vec::new() },
            days: 28,
            recent: None,
            apart: None,
            min_measurements: 1,
            scale: None,
            max_share: None,
            bound: None,
            smoothing: None,
            normalise: None,
            round_digits: None,
            min_share: 0.6,
            scale_constant: None,
            quota: None,
            params: Vec::new(),
            previous: None,
            consensus: None,
            descriptors: Vec::new(),
            max_facts_age: Duration::from_secs(86_400),
            now: None,
        }
    }
}

impl ScalingArgs {
    /// The formula of bwscan's own files.
    pub(crate) fn method(&self) -> Scale {
        self.scale.unwrap_or(Scale::Capacity)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_command_line_is_the_default() {
        #[derive(Debug, clap::Parser)]
        struct Line {
            #[command(flatten)]
            scaling: ScalingArgs,
        }
        let line = <Line as clap::Parser>::parse_from(["bwscan"]);
        assert_eq!(
            format!("{:?}", line.scaling),
            format!("{:?}", ScalingArgs::default())
        );
    }

    #[test]
    fn parameters_are_known_by_name() {
        assert!("bwauthkp=x".parse::<Param>().is_err());
        let error = "bwauthxy=1".parse::<Param>().unwrap_err();
        assert!(error.contains("bwauthkp"), "{error}");
    }
}
