//! One relay's results, and the line that sbws makes of them.

use std::collections::HashSet;

use bw_aggregate::{Statistics, exact_mean, median_of_sorted, round_half_even};
use bw_file::{Ed25519Identity, Fingerprint};
use bw_results::NetworkSnapshot;

use super::{GenerateError, Options, Version, iso};
use crate::{Facts, Kind, Times};

/// A relay and its results, in the order in which they came.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) fingerprint: Fingerprint,
    results: Vec<Facts>,
}

/// Keys and values of a line.
type Keys = Vec<(&'static str, String)>;

/// The reason why a relay has no bandwidth.
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
    pub(super) keys: Keys,
    /// The bandwidths, or why there are none.
    pub(super) bandwidths: Result<Bandwidths, Exclusion>,
}

/// The figures of a relay that scaling needs.
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

    pub(super) fn add(&mut self, facts: Facts) {
        self.results.push(facts);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.results.is_empty()
    }

    pub(super) fn results(&self) -> &[Facts] {
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
        options: &Options,
        network: Option<&NetworkSnapshot>,
    ) -> Result<Line, GenerateError> {
        let mut keys = self.common_keys(options)?;
        let bandwidths = match self.chosen(options, &mut keys) {
            Err(exclusion) => Err(exclusion),
            Ok(chosen) => Chosen(chosen)
                .bandwidths(&self.fingerprint, options, network, &mut keys)
                .ok_or(Exclusion::NoObserved),
        };
        match bandwidths {
            Ok(_) => {}
            Err(Exclusion::NoObserved) if options.version < Version::V2_2_0 => keys.clear(),
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

    /// The results that count, or the reason why none does; the keys that tell how
    /// many do not.
    fn chosen(&self, options: &Options, keys: &mut Keys) -> Result<Vec<&Facts>, Exclusion> {
        let mut exclude = |key: &'static str, count: usize| {
            if count > 0 {
                keys.push((key, count.to_string()));
            }
        };
        let is_success = |facts: &&Facts| facts.kind == Kind::Success;
        let successes: Vec<&Facts> = self.results.iter().filter(is_success).collect();
        let errors = self.results.len() - successes.len();
        exclude("relay_recent_measurements_excluded_error_count", errors);
        if successes.is_empty() {
            return Err(Exclusion::Error);
        }
        let count = successes.len();
        if options
            .secs_away
            .is_some_and(|away| are_near(&successes, away))
        {
            exclude("relay_recent_measurements_excluded_near_count", count);
            return Err(Exclusion::Near);
        }
        let mut recent = successes;
        if let Some(seconds) = options.secs_recent {
            recent.retain(|facts| options.now - facts.time < seconds as f64);
        }
        let old = count - recent.len();
        exclude("relay_recent_measurements_excluded_old_count", old);
        if recent.is_empty() {
            return Err(Exclusion::Old);
        }
        if (recent.len() as u64) < options.min_num {
            exclude("relay_recent_measurements_excluded_few_count", recent.len());
            return Err(Exclusion::Few);
        }
        Ok(recent)
    }

    /// The keys that every line has, excluded or not.
    fn common_keys(&self, options: &Options) -> Result<Keys, GenerateError> {
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
            ("success", Kind::Success),
            ("error_circ", Kind::Circuit),
            ("error_misc", Kind::Misc),
            ("error_stream", Kind::Stream),
            ("error_second_relay", Kind::SecondRelay),
            ("error_destination", Kind::Destination),
        ] {
            let count = results.iter().filter(|facts| facts.kind == kind).count();
            keys.push((key, count.to_string()));
        }
        let listed = results.iter().map(|facts| facts.in_recent_consensus.len());
        keys.push((
            "relay_in_recent_consensus_count",
            listed.max().unwrap_or(0).to_string(),
        ));
        let mut distinct = |key, times: fn(&Facts) -> &Times| {
            let distinct: HashSet<u64> = results.iter().flat_map(|r| times(r).iter()).collect();
            keys.push((key, distinct.len().to_string()));
        };
        distinct("relay_recent_priority_list_count", |r| &r.priority_lists);
        distinct("relay_recent_measurement_attempt_count", |r| &r.attempts);
        if options.version >= Version::V1_9_0 {
            distinct("xoff_recv", |r| &r.xoff_received);
            distinct("xoff_sent", |r| &r.xoff_sent);
        }
        Ok(keys)
    }
}

/// The results of a relay that count, in the order in which they came.
struct Chosen<'r>(Vec<&'r Facts>);

/// The bandwidths of the last descriptor that is known.
struct Descriptor {
    average: Option<u64>,
    burst: Option<u64>,
    observed: Option<u64>,
}

impl Chosen<'_> {
    /// Their figures, which are added to `keys`; `None` without an observed
    /// bandwidth.
    fn bandwidths(
        &self,
        relay: &Fingerprint,
        options: &Options,
        network: Option<&NetworkSnapshot>,
        keys: &mut Keys,
    ) -> Option<Bandwidths> {
        let descriptor = self.descriptor(relay, options, network);
        descriptor.observed?;
        let (weight, unmeasured) = self.consensus(relay, options, network);
        let observed: Vec<f64> = self
            .0
            .iter()
            .filter_map(|facts| facts.observed)
            .map(|value| value as f64)
            .collect();
        let observed_mean = exact_mean(&observed).map(round_half_even);
        let (mean, filtered, median) = self.rates();
        if let Some(rtt) = self.round_trip() {
            keys.push(("rtt", rtt.to_string()));
        }
        // Python's spelling of what is not known.
        let or_none =
            |value: Option<u64>| value.map_or_else(|| "None".to_owned(), |v| v.to_string());
        let python_bool = |value| if value { "True" } else { "False" };
        keys.extend([
            ("bw_mean", mean.to_string()),
            ("bw_median", median.to_string()),
            ("desc_bw_avg", or_none(descriptor.average)),
            ("desc_bw_bur", or_none(descriptor.burst)),
            ("desc_bw_obs_last", or_none(descriptor.observed)),
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
            average: descriptor.average,
            burst: descriptor.burst,
            observed: descriptor
                .observed
                .filter(|&last| last > 0)
                .or(observed_mean),
        })
    }

    /// The last value that a result has.
    fn last<T>(&self, value: fn(&Facts) -> Option<T>) -> Option<T> {
        self.0.iter().rev().find_map(|facts| value(facts))
    }

    /// The descriptor in the last results or, since 2.2.0, in tor's cache.
    fn descriptor(
        &self,
        relay: &Fingerprint,
        options: &Options,
        network: Option<&NetworkSnapshot>,
    ) -> Descriptor {
        if options.version >= Version::V2_2_0
            && let Some(network) = network.filter(|network| has_descriptors(network))
        {
            let facts = network.descriptor(relay);
            return Descriptor {
                average: facts.map(|facts| facts.average.value()),
                burst: facts.map(|facts| facts.burst.value()),
                observed: facts.map(|facts| facts.observed.value()),
            };
        }
        Descriptor {
            average: self.last(|facts| facts.average),
            burst: self.last(|facts| facts.burst),
            observed: self.last(|facts| facts.observed),
        }
    }

    /// The weight in the consensus, and whether it calls the relay unmeasured: as in
    /// the last results or, since 1.9.0, as in the newest consensus.
    fn consensus(
        &self,
        relay: &Fingerprint,
        options: &Options,
        network: Option<&NetworkSnapshot>,
    ) -> (Option<u64>, Option<bool>) {
        match network.and_then(|network| network.relay(relay)) {
            Some(relay) if options.version >= Version::V1_9_0 => (
                Some(relay.consensus_weight.to_bytes().value()),
                Some(relay.unmeasured),
            ),
            _ => (
                self.last(|facts| facts.consensus_bandwidth),
                self.last(|facts| facts.unmeasured),
            ),
        }
    }

    /// Mean, filtered mean and median of the rates of all downloads.
    fn rates(&self) -> (u64, u64, u64) {
        let downloads = self.0.iter().flat_map(|facts| &facts.downloads);
        let rates = downloads
            .filter_map(super::super::line::Download::rate)
            .collect();
        // What sbws has where no download took any time.
        Statistics::new(rates).map_or((0, 0, 1), |rates| {
            let [mean, filtered, median] =
                [rates.mean, rates.filtered, rates.median].map(bw_file::BytesPerSecond::value);
            (mean, filtered, median)
        })
    }

    /// The median round-trip time in milliseconds, if it is not 0.
    fn round_trip(&self) -> Option<u64> {
        let rtts = self.0.iter().filter_map(|facts| facts.rtts.as_ref());
        let mut rtts: Vec<f64> = rtts
            .flatten()
            .map(|rtt| (rtt * 1000.0).round_ties_even())
            .collect();
        rtts.sort_unstable_by(f64::total_cmp);
        let median = median_of_sorted(&rtts).map(round_half_even);
        median.filter(|&rtt| rtt > 0)
    }
}

/// Returns whether tor had any server descriptor in its cache.
fn has_descriptors(network: &NetworkSnapshot) -> bool {
    !network.other_descriptors.is_empty()
        || network
            .relays
            .iter()
            .any(|relay| relay.descriptor.is_some())
}

/// Returns whether no two of several measurements are more than `away` seconds apart.
fn are_near(successes: &[&Facts], away: u64) -> bool {
    let times = || successes.iter().map(|facts| facts.time);
    let first = times().fold(f64::INFINITY, f64::min);
    let last = times().fold(f64::NEG_INFINITY, f64::max);
    successes.len() > 1 && last - first <= away as f64
}
