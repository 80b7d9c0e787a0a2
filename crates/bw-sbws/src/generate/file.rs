//! The lines of all relays, scaled, and the header.

use bw_aggregate::{exact_mean, median_of_sorted, round_half_even, round_significant};
use bw_file::{CountryCode, Fingerprint};
use bw_results::NetworkSnapshot;

use super::relay::{Bandwidths, Exclusion, Line, Relay};
use super::{GenerateError, Options, Scaling, Version, iso};
use crate::State;

/// Percentage of the consensus's relays that must have a bandwidth.
const MIN_REPORT: u64 = 60;

/// The part of the header that the results do not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// `state.dat`.
    pub state: State,
    /// `scanner.country`.
    pub scanner_country: Option<CountryCode>,
    /// The countries of the destinations that are switched on, in the order of
    /// the configuration.
    pub destinations_countries: Vec<CountryCode>,
    /// `scanner.dirauth_nickname`, since 1.9.0.
    pub dirauth_nickname: Option<String>,
    /// The file's `software` and `software_version`, if it is not to say that
    /// sbws made it.
    pub software: Option<(String, String)>,
}

/// Makes the file.
pub(super) fn write(
    options: &Options,
    header: &Header,
    network: Option<&NetworkSnapshot>,
    relays: &[Relay],
) -> Result<Vec<u8>, GenerateError> {
    let mut file = File::new(options, header, relays)?;
    let mut scaled = Vec::new();
    let mut excluded = Vec::new();
    for relay in relays {
        let line = relay.line(options, network)?;
        match line.bandwidths {
            Ok(bandwidths) => scaled.push(Scaled {
                bw: 0,
                bandwidths,
                line,
            }),
            Err(_) => excluded.push(line),
        }
    }
    file.count_exclusions(&excluded);
    if scaled.is_empty() {
        file.progress(0, network)?;
        for line in &mut excluded {
            mark_under_minimum(line);
        }
    } else {
        match options.scaling {
            Scaling::Torflow { margin } => {
                let (mu, muf) = torflow(&mut scaled, margin, options.digits, network)?;
                if options.version >= Version::V1_9_0 {
                    file.key("mu", round_half_even(mu));
                    file.key("muf", round_half_even(muf));
                }
                if !file.progress(scaled.len() as u64, network)? {
                    for scaled in &mut scaled {
                        mark_under_minimum(&mut scaled.line);
                    }
                }
            }
            Scaling::Sbws { constant } => scale_sbws(&mut scaled, constant)?,
            Scaling::Raw => {
                for scaled in &mut scaled {
                    let kilobytes = scaled.bandwidths.median as f64 / 1000.0;
                    scaled.bw = round_half_even(kilobytes).max(1);
                }
            }
        }
        file.time_to_report_half_network(scaled.len() as u64);
    }
    scaled.sort_by_key(|scaled| scaled.bw);
    let scaled = scaled.into_iter().map(|scaled| (scaled.bw, scaled.line));
    let excluded = excluded.into_iter().map(|line| (1, line));
    Ok(file.finish(options, scaled.chain(excluded)))
}

/// A relay with a bandwidth, in kilobytes per second.
struct Scaled {
    bw: u64,
    bandwidths: Bandwidths,
    line: Line,
}

fn mark_under_minimum(line: &mut Line) {
    line.keys.retain(|(key, _)| *key != "vote");
    line.keys.push(("under_min_report", "1".to_owned()));
    line.keys.push(("vote", "0".to_owned()));
}

/// Torflow's scaling; returns the means of the means and of the filtered means.
fn torflow(
    relays: &mut [Scaled],
    margin: f64,
    digits: u32,
    network: Option<&NetworkSnapshot>,
) -> Result<(f64, f64), GenerateError> {
    let mean_of = |value: fn(&Bandwidths) -> u64| {
        let values: Vec<f64> = relays.iter().map(|r| value(&r.bandwidths) as f64).collect();
        exact_mean(&values)
            .filter(|&mean| mean > 0.0)
            .ok_or(GenerateError::AllZero)
    };
    let mu = mean_of(|bandwidths| bandwidths.mean)?;
    let muf = mean_of(|bandwidths| bandwidths.filtered)?;
    // Summed in order, as sbws does: the last digits depend on it.
    let mut sum = 0.0;
    let mut values = Vec::with_capacity(relays.len());
    for relay in relays.iter_mut() {
        let bandwidths = &relay.bandwidths;
        let limits = [bandwidths.observed, bandwidths.burst, bandwidths.average];
        let advertised = limits.into_iter().flatten().min();
        let stream = bandwidths.mean as f64 / mu;
        let filtered = bandwidths.filtered as f64 / muf;
        // Without an observed bandwidth the median stays as it is.
        let value = match advertised.filter(|_| bandwidths.observed.is_some()) {
            Some(advertised) => {
                let value = stream.max(filtered) * advertised as f64;
                if counts(network, &relay.line.fingerprint) {
                    sum += value;
                }
                relay.line.keys.push(("r_strm", format!("{stream:.2}")));
                relay
                    .line
                    .keys
                    .push(("r_strm_filt", format!("{filtered:.2}")));
                value
            }
            None => bandwidths.median as f64,
        };
        values.push(value);
    }
    let limit = sum * margin;
    for (relay, value) in relays.iter_mut().zip(values) {
        relay.bw = round_significant(value.min(limit) / 1000.0, digits);
    }
    Ok((mu, muf))
}

/// Returns whether a relay's value is part of the sum: all are without a consensus.
fn counts(network: Option<&NetworkSnapshot>, fingerprint: &Fingerprint) -> bool {
    network.is_none_or(|network| network.relays.is_empty() || network.relay(fingerprint).is_some())
}

fn scale_sbws(relays: &mut [Scaled], constant: u64) -> Result<(), GenerateError> {
    let mut medians: Vec<f64> = relays.iter().map(|r| r.bandwidths.median as f64).collect();
    medians.sort_unstable_by(f64::total_cmp);
    let median = median_of_sorted(&medians).unwrap_or(1.0);
    for relay in relays {
        let Some(average) = relay.bandwidths.average else {
            return Err(GenerateError::NoAverage(relay.line.fingerprint));
        };
        let product = u128::from(relay.bandwidths.median) * u128::from(constant);
        let value = (average as f64).min(product as f64 / median);
        relay.bw = round_half_even(value / 1000.0).max(1);
    }
    Ok(())
}

/// The header, as it comes about.
struct File {
    timestamp: f64,
    latest: f64,
    earliest: f64,
    consensus: Option<u64>,
    keys: Vec<(&'static str, String)>,
}

impl File {
    fn new(options: &Options, header: &Header, relays: &[Relay]) -> Result<Self, GenerateError> {
        let times = || {
            relays
                .iter()
                .flat_map(Relay::results)
                .map(|facts| facts.time)
        };
        let results = times().count() as u64;
        if results == 0 {
            return Err(GenerateError::NoResults {
                days: options.days(),
            });
        }
        let latest = times().fold(f64::NEG_INFINITY, f64::max).round_ties_even();
        let earliest = times().fold(f64::INFINITY, f64::min).round_ties_even();
        let mut file = Self {
            timestamp: latest,
            latest,
            earliest,
            consensus: None,
            keys: Vec::new(),
        };
        let (software, version) = match &header.software {
            Some((software, version)) => (software.as_str(), version.as_str()),
            None => ("sbws", options.version.as_str()),
        };
        file.key("latest_bandwidth", iso(latest)?);
        file.key("earliest_bandwidth", iso(earliest)?);
        file.key("file_created", iso(options.now.floor())?);
        file.key("software", software);
        file.key("software_version", version);
        let countries: Vec<String> = header
            .destinations_countries
            .iter()
            .map(ToString::to_string)
            .collect();
        file.key("destinations_countries", countries.join(","));
        if let Some(country) = header.scanner_country {
            file.key("scanner_country", country);
        }
        if let Some(nickname) = &header.dirauth_nickname
            && options.version >= Version::V1_9_0
        {
            file.key("dirauth_nickname", nickname);
        }
        file.state(&header.state, results);
        Ok(file)
    }

    fn key(&mut self, key: &'static str, value: impl ToString) {
        self.keys.push((key, value.to_string()));
    }

    fn state(&mut self, state: &State, results: u64) {
        if let Some(started) = state.started() {
            self.key("generator_started", started);
        }
        if let Some(version) = &state.tor_version {
            self.key("tor_version", version);
        }
        for (key, count) in [
            ("recent_consensus_count", state.recent_consensus_count),
            (
                "recent_priority_list_count",
                state.recent_priority_list_count,
            ),
            (
                "recent_priority_relay_count",
                state.recent_priority_relay_count,
            ),
            (
                "recent_measurement_attempt_count",
                state.recent_measurement_attempt_count,
            ),
        ] {
            if let Some(count) = count {
                self.key(key, count);
            }
        }
        if let Some(attempts) = state.recent_measurement_attempt_count {
            let failures = i128::from(attempts) - i128::from(results);
            self.key("recent_measurement_failure_count", failures);
        }
    }

    fn count_exclusions(&mut self, excluded: &[Line]) {
        for (key, exclusion) in [
            ("recent_measurements_excluded_error_count", Exclusion::Error),
            ("recent_measurements_excluded_near_count", Exclusion::Near),
            ("recent_measurements_excluded_old_count", Exclusion::Old),
            ("recent_measurements_excluded_few_count", Exclusion::Few),
        ] {
            let count = excluded
                .iter()
                .filter(|line| line.bandwidths.as_ref().err() == Some(&exclusion));
            self.key(key, count.count());
        }
    }

    /// Tells how much of the network is measured, and returns whether it is enough.
    /// Without a consensus it is not.
    fn progress(
        &mut self,
        eligible: u64,
        network: Option<&NetworkSnapshot>,
    ) -> Result<bool, GenerateError> {
        let Some(network) = network else {
            return Ok(false);
        };
        let consensus = network.relays.len() as u64;
        if consensus == 0 {
            return Err(GenerateError::EmptyConsensus);
        }
        self.consensus = Some(consensus);
        let minimum = round_half_even((consensus * MIN_REPORT) as f64 / 100.0);
        let percent = round_half_even((eligible * 100) as f64 / consensus as f64);
        self.key("number_consensus_relays", consensus);
        self.key("number_eligible_relays", eligible);
        self.key("minimum_number_eligible_relays", minimum);
        self.key("minimum_percent_eligible_relays", MIN_REPORT);
        self.key("percent_eligible_relays", percent);
        Ok(eligible >= minimum)
    }

    fn time_to_report_half_network(&mut self, eligible: u64) {
        let Some(consensus) = self.consensus else {
            return;
        };
        let half = consensus as f64 / 2.0;
        if eligible as f64 >= half {
            let seconds = (self.latest - self.earliest) * half / eligible as f64;
            self.key("time_to_report_half_network", round_half_even(seconds));
        }
    }

    fn finish(mut self, options: &Options, lines: impl Iterator<Item = (u64, Line)>) -> Vec<u8> {
        let (format, dollar) = match options.version {
            Version::V1_5_2 => ("1.5.0", "$"),
            _ => ("1.9.0", ""),
        };
        let mut text = format!("{}\nversion={format}\n", self.timestamp);
        self.keys.sort_unstable();
        for (key, value) in &self.keys {
            text.push_str(&format!("{key}={value}\n"));
        }
        text.push_str("=====\n");
        for (bw, mut line) in lines {
            if options.version < Version::V1_9_0 {
                line.keys.retain(|(key, _)| !key.starts_with("r_strm"));
            }
            line.keys.push(("bw", bw.to_string()));
            line.keys
                .push(("node_id", format!("{dollar}{}", line.fingerprint)));
            line.keys.sort_unstable();
            for (index, (key, value)) in line.keys.iter().enumerate() {
                let space = if index > 0 { " " } else { "" };
                text.push_str(&format!("{space}{key}={value}"));
            }
            text.push('\n');
        }
        text.into_bytes()
    }
}
