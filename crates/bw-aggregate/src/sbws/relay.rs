//! One relay's results, and the line that sbws makes of them.

use std::collections::HashSet;

use bw_file::{Ed25519Identity, Fingerprint};
use bw_results::{NetworkSnapshot, SbwsFacts, SbwsKind};

use super::{SbwsError, SbwsOptions, SbwsVersion, iso};
use crate::rounding::round_half_even;
use crate::statistics::{exact_mean, median_of_sorted};

/// A relay and its results, in the order in which they came.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) fingerprint: Fingerprint,
    results: Vec<SbwsFacts>,
}

/// Why a relay has no bandwidth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exclusion {
    Error,
    Near,
    Old,
    Few,
    NoObserved,
}

/// A line before it is scaled.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) fingerprint: Fingerprint,
    /// All keys but those that scaling adds, in any order.
    pub(super) keys: Vec<(&'static str, String)>,
    /// The bandwidths, or why there are none.
    pub(super) bandwidths: Result<Bandwidths, Exclusion>,
}

/// What scaling needs of a relay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bandwidths {
    pub(super) mean: u64,
    pub(super) filtered: u64,
    pub(super) median: u64,
    pub(super) average: Option<u64>,
    pub(super) burst: Option<u64>,
    /// The last or, if that is 0, the mean.
    pub(super) observed: Option<u64>,
}

impl Relay {
    pub(super) const fn new(fingerprint: Fingerprint) -> Self {
        Self {
            fingerprint,
            results: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, facts: SbwsFacts) {
        self.results.push(facts);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.results.is_empty()
    }

    pub(super) fn results(&self) -> &[SbwsFacts] {
        &self.results
    }

    /// Keeps only the results with the address of the newest one.
    pub(super) fn keep_last_address(&mut self) {
        // Of several equally new ones the last in order.
        let newest = self
            .results
            .iter()
            .max_by(|a, b| a.time.total_cmp(&b.time))
            .map(|facts| facts.address);
        self.results
            .retain(|facts| newest.is_none_or(|address| facts.address == address));
    }

    /// The line, as `generate` makes it before it scales.
    pub(super) fn line(
        &self,
        options: &SbwsOptions,
        network: Option<&NetworkSnapshot>,
    ) -> Result<Line, SbwsError> {
        let mut keys = self.common_keys(options)?;
        let successes: Vec<&SbwsFacts> = self
            .results
            .iter()
            .filter(|facts| facts.kind == SbwsKind::Success)
            .collect();
        let errors = self.results.len() - successes.len();
        let mut exclude = |key: &'static str, count: usize| {
            if count > 0 {
                keys.push((key, count.to_string()));
            }
        };
        exclude("relay_recent_measurements_excluded_error_count", errors);
        let near = options
            .secs_away
            .is_some_and(|away| are_near(&successes, away));
        let is_recent = |facts: &&SbwsFacts| match options.secs_recent {
            Some(seconds) => options.now - facts.time < seconds as f64,
            None => true,
        };
        let recent: Vec<&SbwsFacts> = successes.iter().copied().filter(is_recent).collect();
        let exclusion = if successes.is_empty() {
            Some(Exclusion::Error)
        } else if near {
            exclude(
                "relay_recent_measurements_excluded_near_count",
                successes.len(),
            );
            Some(Exclusion::Near)
        } else {
            let old = successes.len() - recent.len();
            exclude("relay_recent_measurements_excluded_old_count", old);
            if recent.is_empty() {
                Some(Exclusion::Old)
            } else if (recent.len() as u64) < options.min_num {
                exclude("relay_recent_measurements_excluded_few_count", recent.len());
                Some(Exclusion::Few)
            } else {
                None
            }
        };
        let bandwidths = match exclusion {
            Some(exclusion) => Err(exclusion),
            None => self
                .bandwidths(&recent, options, network, &mut keys)
                .ok_or(Exclusion::NoObserved),
        };
        match bandwidths {
            Ok(_) => {}
            Err(Exclusion::NoObserved) if options.version < SbwsVersion::V2_2_0 => keys.clear(),
            Err(_) => {
                keys.push(("unmeasured", "1".to_owned()));
                keys.push(("vote", "0".to_owned()));
            }
        }
        Ok(Line {
            fingerprint: self.fingerprint,
            keys,
            bandwidths,
        })
    }

    /// The keys that every line has, excluded or not.
    fn common_keys(&self, options: &SbwsOptions) -> Result<Vec<(&'static str, String)>, SbwsError> {
        let results = &self.results;
        let mut keys = Vec::with_capacity(32);
        if let Some(first) = results.first() {
            // Whatever the store was given: no other keys, no other lines.
            let letters = first
                .nickname
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric());
            let nickname = if letters { first.nickname.as_str() } else { "" };
            keys.push(("nick", nickname.to_owned()));
            let key: Option<&Ed25519Identity> = first.ed25519.as_ref();
            keys.extend(key.map(|key| ("master_key_ed25519", key.to_string())));
        }
        let newest = results.iter().map(|facts| facts.time);
        keys.push(("time", iso(newest.fold(0.0, f64::max))?));
        for (key, kind) in [
            ("success", SbwsKind::Success),
            ("error_circ", SbwsKind::Circuit),
            ("error_misc", SbwsKind::Misc),
            ("error_stream", SbwsKind::Stream),
            ("error_second_relay", SbwsKind::SecondRelay),
            ("error_destination", SbwsKind::Destination),
        ] {
            let count = results.iter().filter(|facts| facts.kind == kind).count();
            keys.push((key, count.to_string()));
        }
        let listed = results.iter().map(|facts| facts.in_recent_consensus.len());
        keys.push((
            "relay_in_recent_consensus_count",
            listed.max().unwrap_or(0).to_string(),
        ));
        let mut distinct = |key, times: fn(&SbwsFacts) -> &bw_results::SbwsTimes| {
            let distinct: HashSet<u64> = results.iter().flat_map(|r| times(r).iter()).collect();
            keys.push((key, distinct.len().to_string()));
        };
        distinct("relay_recent_priority_list_count", |r| &r.priority_lists);
        distinct("relay_recent_measurement_attempt_count", |r| &r.attempts);
        if options.version >= SbwsVersion::V1_9_0 {
            distinct("xoff_recv", |r| &r.xoff_received);
            distinct("xoff_sent", |r| &r.xoff_sent);
        }
        Ok(keys)
    }

    /// The statistics of the successes that are left; `None` without an
    /// observed bandwidth.
    fn bandwidths(
        &self,
        recent: &[&SbwsFacts],
        options: &SbwsOptions,
        network: Option<&NetworkSnapshot>,
        keys: &mut Vec<(&'static str, String)>,
    ) -> Option<Bandwidths> {
        let last =
            |value: fn(&SbwsFacts) -> Option<u64>| recent.iter().rev().find_map(|r| value(r));
        let mut average = last(|facts| facts.average);
        let mut burst = last(|facts| facts.burst);
        let mut observed_last = last(|facts| facts.observed);
        let in_consensus = network.and_then(|network| network.relay(&self.fingerprint));
        if options.version >= SbwsVersion::V2_2_0
            && let Some(network) = network.filter(|network| has_descriptors(network))
        {
            let facts = network.descriptor(&self.fingerprint);
            average = facts.map(|facts| facts.average.value());
            burst = facts.map(|facts| facts.burst.value());
            observed_last = facts.map(|facts| facts.observed.value());
        }
        observed_last?;
        let (weight, unmeasured) = match in_consensus {
            Some(relay) if options.version >= SbwsVersion::V1_9_0 => (
                Some(relay.consensus_weight.to_bytes().value()),
                Some(relay.unmeasured),
            ),
            _ => (
                last(|facts| facts.consensus_bandwidth),
                recent.iter().rev().find_map(|facts| facts.unmeasured),
            ),
        };
        let observed: Vec<f64> = recent
            .iter()
            .filter_map(|facts| facts.observed)
            .map(|value| value as f64)
            .collect();
        let observed_mean = exact_mean(&observed).map(round_half_even);

        let mut rates: Vec<f64> = recent
            .iter()
            .flat_map(|facts| &facts.downloads)
            .filter_map(|download| download.rate())
            .collect();
        rates.sort_unstable_by(f64::total_cmp);
        let mean = exact_mean(&rates).map_or(0, round_half_even);
        let from = rates.partition_point(|&rate| rate < mean as f64);
        let filtered = exact_mean(&rates[from..]).map_or(mean, round_half_even);
        let median = median_of_sorted(&rates).map_or(1, |median| round_half_even(median).max(1));

        let rtts = recent.iter().filter_map(|facts| facts.rtts.as_ref());
        let mut rtts: Vec<f64> = rtts
            .flatten()
            .map(|rtt| (rtt * 1000.0).round_ties_even())
            .collect();
        rtts.sort_unstable_by(f64::total_cmp);
        if let Some(rtt) = median_of_sorted(&rtts)
            .map(round_half_even)
            .filter(|&rtt| rtt > 0)
        {
            keys.push(("rtt", rtt.to_string()));
        }
        // Python's spelling of what is not known.
        let or_none =
            |value: Option<u64>| value.map_or_else(|| "None".to_owned(), |v| v.to_string());
        let python_bool = |value| if value { "True" } else { "False" };
        keys.extend([
            ("bw_mean", mean.to_string()),
            ("bw_median", median.to_string()),
            ("desc_bw_avg", or_none(average)),
            ("desc_bw_bur", or_none(burst)),
            ("desc_bw_obs_last", or_none(observed_last)),
            ("desc_bw_obs_mean", or_none(observed_mean)),
            ("consensus_bandwidth", or_none(weight)),
            (
                "consensus_bandwidth_is_unmeasured",
                unmeasured.map_or("None", python_bool).to_owned(),
            ),
        ]);
        Some(Bandwidths {
            mean,
            filtered,
            median,
            average,
            burst,
            observed: observed_last.filter(|&last| last > 0).or(observed_mean),
        })
    }
}

/// Whether tor had any server descriptor in its cache.
fn has_descriptors(network: &NetworkSnapshot) -> bool {
    !network.other_descriptors.is_empty()
        || network
            .relays
            .iter()
            .any(|relay| relay.descriptor.is_some())
}

/// Whether no two of several measurements are more than `away` seconds apart.
fn are_near(successes: &[&SbwsFacts], away: u64) -> bool {
    let times = || successes.iter().map(|facts| facts.time);
    let first = times().fold(f64::INFINITY, f64::min);
    let last = times().fold(f64::NEG_INFINITY, f64::max);
    successes.len() > 1 && last - first <= away as f64
}
