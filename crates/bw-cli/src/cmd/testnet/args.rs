//! The options of `bwscan testnet`.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use bw_file::BytesPerSecond;
use clap::{Args, Subcommand, ValueEnum};

use crate::args::{NETWORK, OUTPUT};
use crate::values;

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

#[derive(Debug, Args)]
pub(crate) struct TestnetPlace {
    /// Keep the network in this directory [default: testnet in the data directory].
    #[arg(value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
}

#[derive(Debug, Args)]
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

#[derive(Debug, Args)]
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

/// The parts of a private network.
#[derive(Clone, Debug, Args)]
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
    /// State observed bandwidths that are off by this much (standard deviation of the
    /// logarithm).
    #[arg(long, conflicts_with = "observed", value_name = "SIGMA")]
    pub(crate) observed_error: Option<f64>,
    /// Let one relay claim to have observed this many times what it carries.
    #[arg(long, value_name = "FACTOR")]
    pub(crate) liar: Option<f64>,
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

#[cfg(test)]
mod tests {
    use super::*;

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
