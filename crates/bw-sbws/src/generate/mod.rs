//! Bandwidth files as sbws itself makes them, byte for byte, its defects
//! included: for operators who move over, and as a check of everything else.

mod file;
mod relay;

use std::collections::HashMap;
use std::ops::ControlFlow;

use bw_file::{DateTime, Fingerprint, UnixTime};
use bw_results::{NetworkSnapshot, UnixMillis};
use bw_store::{Filter, Stores};

pub use file::Header;
use relay::Relay;

use crate::{Facts, Home, Result, for_each_facts};

/// Seconds in a day.
const DAY: f64 = 86_400.0;

/// Days of results that Torflow's scaling looks at.
const TORFLOW_DAYS: u32 = 28;

/// The version of sbws whose files are made. By their changelog, 2.0 and 2.1 make those of
/// 2.2.0; those of 1.6 to 1.8 lack some of the keys of 1.9.0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Version {
    /// 1.5.2, of Debian 12.
    V1_5_2,
    /// 1.9.0: ratios, XOFF counts and network means; weights from the consensus.
    V1_9_0,
    /// 2.2.0: bandwidths from tor's cached descriptors.
    #[default]
    V2_2_0,
}

impl Version {
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

/// The way from measurements to bandwidths.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Scaling {
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
pub struct Options {
    /// The version of sbws.
    pub version: Version,
    /// The time of the run, in Unix seconds.
    pub now: f64,
    /// The scaling.
    pub scaling: Scaling,
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

impl Options {
    /// The defaults of this version, run at `now` (in Unix seconds).
    pub const fn new(version: Version, now: f64) -> Self {
        Self {
            version,
            now,
            scaling: Scaling::Torflow { margin: 0.05 },
            digits: 2,
            secs_recent: None,
            secs_away: None,
            min_num: 1,
            data_period: 5,
            reset_ipv4: false,
        }
    }

    /// The number of days of results that are used.
    pub fn days(&self) -> u32 {
        match (self.secs_recent, self.scaling) {
            (Some(seconds), _) if seconds > 0 => {
                u32::try_from(seconds.div_ceil(86_400)).unwrap_or(u32::MAX)
            }
            (_, Scaling::Torflow { .. }) => TORFLOW_DAYS,
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

    /// The end of the last file that is read: midnight after now, in Unix seconds.
    pub fn end_of_day(&self) -> u64 {
        ((self.now / DAY).floor() as u64).saturating_add(1) * 86_400
    }

    /// Returns whether sbws reads a file of results whose name begins with this date
    /// (`2026-11-20`): not from before the first day, nor from tomorrow.
    pub fn reads(&self, date: &str) -> bool {
        let day = |seconds: f64| iso(seconds.floor()).unwrap_or_default();
        let (first, now) = (day(self.first_day() as f64), day(self.now));
        *date >= first[..10.min(first.len())] && *date <= now[..10.min(now.len())]
    }
}

/// The reason why sbws would make no file either: it ends with an exception.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// There is no result in the days that are looked at.
    #[error("no results of the last {days} days: nothing to write")]
    NoResults {
        /// The number of days.
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
pub struct Generator {
    options: Options,
    relays: Vec<Relay>,
    index: HashMap<Fingerprint, usize>,
}

impl Generator {
    /// A generator without results yet.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            relays: Vec::new(),
            index: HashMap::new(),
        }
    }

    /// The options.
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// Adds a result of a relay. Those that are too old only decide the order;
    /// one of a time that no file can hold is left out.
    pub fn add(&mut self, fingerprint: Fingerprint, facts: Facts) {
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

    /// Adds the results of a home as sbws reads them: not those in gzipped files, nor
    /// those of days that [`Options::reads`] does not read.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn read_home(&mut self, home: &Home) -> Result<()> {
        for file in home.files()? {
            if file.is_gzipped() || !self.options.reads(&file.date) {
                continue;
            }
            file.for_each_result(|_, result| {
                if let Ok(result) = result {
                    self.add(result.fingerprint, result.facts);
                }
            })?;
        }
        Ok(())
    }

    /// Adds the results of stores, each once, of the days that sbws looks at.
    ///
    /// # Errors
    /// If a store fails.
    pub fn read_stores(&mut self, stores: &Stores) -> Result<()> {
        // sbws does not look at files of tomorrow, in which later results are.
        let filter = Filter::all()
            .since(UnixMillis::from_secs(self.options.first_day()))
            .until(UnixMillis::from_secs(self.options.end_of_day()));
        let _ = for_each_facts(stores, &filter, |relay, facts| {
            self.add(relay, facts);
            ControlFlow::<()>::Continue(())
        })?;
        Ok(())
    }

    /// The file, with `network` as tor's cached files show it.
    ///
    /// # Errors
    /// If sbws itself would end with an exception or write nothing.
    pub fn finish(
        self,
        header: &Header,
        network: Option<&NetworkSnapshot>,
    ) -> Result<Vec<u8>, GenerateError> {
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
fn iso(seconds: f64) -> Result<String, GenerateError> {
    /// The seconds of 10,000 years.
    const LIMIT: f64 = 3.2e11;
    let rounded = seconds.round_ties_even();
    (0.0..LIMIT)
        .contains(&rounded)
        .then(|| DateTime::new(UnixTime::new(rounded as i64)))
        .flatten()
        .map(|time| time.to_string())
        .ok_or_else(|| GenerateError::ImpossibleTime(seconds.to_string()))
}
