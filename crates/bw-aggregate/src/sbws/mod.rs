//! Bandwidth files as sbws itself makes them, byte for byte, its defects
//! included: for operators who move over, and as a check of everything else.

mod file;
mod relay;

use std::collections::HashMap;

use bw_file::{DateTime, Fingerprint, UnixTime};
use bw_results::{NetworkSnapshot, SbwsFacts};

pub use file::SbwsHeader;
use relay::Relay;

/// Seconds in a day.
const DAY: f64 = 86_400.0;

/// Days of results that Torflow's scaling looks at.
const TORFLOW_DAYS: u32 = 28;

/// The sbws whose files are made. By their changelog, 2.0 and 2.1 make those of
/// 2.2.0; those of 1.6 to 1.8 lack some of the keys of 1.9.0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SbwsVersion {
    /// 1.5.2, of Debian 12.
    V1_5_2,
    /// 1.9.0: ratios, XOFF counts and network means; weights from the consensus.
    V1_9_0,
    /// 2.2.0: bandwidths from tor's cached descriptors.
    #[default]
    V2_2_0,
}

impl SbwsVersion {
    /// All of them, oldest first.
    pub const ALL: [Self; 3] = [Self::V1_5_2, Self::V1_9_0, Self::V2_2_0];

    /// `1.5.2`
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1_5_2 => "1.5.2",
            Self::V1_9_0 => "1.9.0",
            Self::V2_2_0 => "2.2.0",
        }
    }
}

/// How sbws makes bandwidths of measurements.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum SbwsScaling {
    /// Torflow's, which is the default; no relay gets more than `margin` of the
    /// sum (`--torflow-bw-margin`, 0.05).
    Torflow {
        /// A share, 0 to 1.
        margin: f64,
    },
    /// Its own (`--scale-sbws`): the median becomes `constant` (`--scale-constant`,
    /// 7500) in the median.
    Sbws {
        /// At least 1.
        constant: u64,
    },
    /// The median of what was measured (`--raw`).
    Raw,
}

/// The options of `sbws generate`, and those of its configuration that matter.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SbwsOptions {
    /// Whose files.
    pub version: SbwsVersion,
    /// The time of the run, in Unix seconds.
    pub now: f64,
    /// How.
    pub scaling: SbwsScaling,
    /// `--round-digs`: significant digits; 2.
    pub digits: u32,
    /// `--secs-recent`.
    pub secs_recent: Option<u64>,
    /// `--secs-away`.
    pub secs_away: Option<u64>,
    /// `--min-num`; 1.
    pub min_num: u64,
    /// `general.data_period`, in days: how far back scalings other than
    /// Torflow's look; 5.
    pub data_period: u32,
    /// `general.reset_bw_ipv4_changes`.
    pub reset_ipv4: bool,
}

impl SbwsOptions {
    /// The defaults of this version, run at `now` (in Unix seconds).
    pub const fn new(version: SbwsVersion, now: f64) -> Self {
        Self {
            version,
            now,
            scaling: SbwsScaling::Torflow { margin: 0.05 },
            digits: 2,
            secs_recent: None,
            secs_away: None,
            min_num: 1,
            data_period: 5,
            reset_ipv4: false,
        }
    }

    /// How many days of results are used.
    pub fn days(&self) -> u32 {
        match (self.secs_recent, self.scaling) {
            (Some(seconds), _) if seconds > 0 => {
                u32::try_from(seconds.div_ceil(86_400)).unwrap_or(u32::MAX)
            }
            (_, SbwsScaling::Torflow { .. }) => TORFLOW_DAYS,
            _ => self.data_period,
        }
    }

    /// The oldest file that is read: midnight of two days before the days that
    /// are used, in Unix seconds. Results between it and those days are not
    /// used, but seen: the order of lines depends on them.
    pub fn first_day(&self) -> u64 {
        let first = self.now - DAY * (f64::from(self.days()) + 2.0);
        (first / DAY).floor() as u64 * 86_400
    }
}

impl SbwsOptions {
    /// The end of the last file that is read: midnight after now, in Unix seconds.
    pub fn end_of_day(&self) -> u64 {
        ((self.now / DAY).floor() as u64).saturating_add(1) * 86_400
    }

    /// Whether sbws reads a file of results whose name begins with this date
    /// (`2026-11-20`): not from before the first day, nor from tomorrow.
    pub fn reads(&self, date: &str) -> bool {
        let day = |seconds: f64| iso(seconds.floor()).unwrap_or_default();
        let (first, now) = (day(self.first_day() as f64), day(self.now));
        *date >= first[..10.min(first.len())] && *date <= now[..10.min(now.len())]
    }
}

/// A file that sbws would not make either: it ends with an exception.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SbwsError {
    /// There is no result in the days that are looked at.
    #[error("no results of the last {days} days: nothing to write")]
    NoResults {
        /// How many days.
        days: u32,
    },
    /// All rates are zero, by which sbws divides.
    #[error("every measured bandwidth is 0, by which sbws would divide")]
    AllZero,
    /// `--scale-sbws` needs every relay's average bandwidth.
    #[error("{0} has no average bandwidth, without which --scale-sbws fails; use another scaling")]
    NoAverage(Fingerprint),
    /// The consensus has no relays.
    #[error("the consensus has no relays")]
    EmptyConsensus,
    /// A time that no file can hold.
    #[error("the time {0} (in Unix seconds) cannot be written to a bandwidth file")]
    ImpossibleTime(String),
}

/// Takes results in the order in which sbws reads them, and makes its file.
///
/// The order matters, as it does to sbws: "last" is the last that came.
#[derive(Debug)]
pub struct SbwsGenerator {
    options: SbwsOptions,
    relays: Vec<Relay>,
    index: HashMap<Fingerprint, usize>,
}

impl SbwsGenerator {
    /// A generator without results yet.
    pub fn new(options: SbwsOptions) -> Self {
        Self {
            options,
            relays: Vec::new(),
            index: HashMap::new(),
        }
    }

    /// The options.
    pub const fn options(&self) -> &SbwsOptions {
        &self.options
    }

    /// Adds a result of a relay. Those that are too old only decide the order;
    /// one of a time that no file can hold is left out.
    pub fn add(&mut self, fingerprint: Fingerprint, facts: SbwsFacts) {
        if iso(facts.time).is_err() {
            return;
        }
        let index = *self.index.entry(fingerprint).or_insert_with(|| {
            self.relays.push(Relay::new(fingerprint));
            self.relays.len() - 1
        });
        let oldest = self.options.now - f64::from(self.options.days()) * DAY;
        if facts.time >= oldest {
            self.relays[index].add(facts);
        }
    }

    /// The file, with `network` as tor's cached files show it.
    ///
    /// # Errors
    /// Where sbws itself would end with an exception or write nothing.
    pub fn finish(
        self,
        header: &SbwsHeader,
        network: Option<&NetworkSnapshot>,
    ) -> Result<Vec<u8>, SbwsError> {
        let Self {
            options,
            mut relays,
            ..
        } = self;
        if options.reset_ipv4 {
            for relay in &mut relays {
                relay.keep_last_address();
            }
        }
        relays.retain(|relay| !relay.is_empty());
        file::write(&options, header, network, &relays)
    }
}

/// A time as sbws writes it: rounded to the second.
fn iso(seconds: f64) -> Result<String, SbwsError> {
    /// The seconds of 10,000 years.
    const LIMIT: f64 = 3.2e11;
    let rounded = seconds.round_ties_even();
    (0.0..LIMIT)
        .contains(&rounded)
        .then(|| DateTime::new(UnixTime::new(rounded as i64)))
        .flatten()
        .map(|time| time.to_string())
        .ok_or_else(|| SbwsError::ImpossibleTime(seconds.to_string()))
}
