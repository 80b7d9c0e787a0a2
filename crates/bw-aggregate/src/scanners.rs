//! Several scanners: what each contributed, and whether one disagrees with the others.

use std::collections::{BTreeMap, HashMap};

use bw_file::Fingerprint;
use bw_results::{OutcomeSummary, SummaryResult, UnixMillis, Verdict};
use serde::Serialize;

use crate::plausible::RateLimit;
use crate::statistics::median_of_sorted;

/// The least number of relays for a comparison.
const MIN_RELAYS: usize = 10;

/// From which factor on a shift is called disagreement. Authorities' totals lie
/// within a quarter to a half of each other.
const SHIFT: f64 = 1.5;

/// The least number of standard errors between a shift and none.
const SIGNIFICANT: f64 = 3.0;

/// Collects outcomes by scanner.
#[derive(Debug, Default)]
pub struct Scanners(BTreeMap<String, Collected>);

#[derive(Debug, Default)]
struct Collected {
    measured: u64,
    failed: u64,
    first: Option<UnixMillis>,
    last: Option<UnixMillis>,
    /// Sum and number of the rates of each relay.
    rates: HashMap<Fingerprint, (f64, u64)>,
    /// The newest observed bandwidth of each relay.
    observed: HashMap<Fingerprint, (UnixMillis, u64)>,
}

/// A scanner's contribution, and how it compares.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ScannerStatistics {
    /// The scanner's name.
    pub scanner: String,
    /// Accepted measurements.
    pub measured: u64,
    /// Failures that are charged to relays.
    pub failed: u64,
    /// Relays with a rate.
    pub relays: u64,
    /// End of its first outcome.
    pub first: Option<UnixMillis>,
    /// End of its last outcome.
    pub last: Option<UnixMillis>,
    /// The comparison with the other scanners, if there is enough to compare.
    pub comparison: Option<Comparison>,
}

/// A scanner's rates beside those of all others.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Comparison {
    /// The relays or rates that were compared.
    pub basis: Basis,
    /// The number of relays of this scanner.
    pub relays: u64,
    /// The factor by which its rates are higher (more than 1) or lower: the
    /// median over relays.
    pub factor: f64,
    /// True if that is more than chance and more than a factor of 1.5.
    pub disagrees: bool,
}

/// The basis on which two scanners' rates are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Basis {
    /// Relays that both measured.
    SharedRelays,
    /// Rates over the relays' observed bandwidths: the scanners share too few
    /// relays, as those of different partitions.
    ObservedBandwidth,
}

impl Scanners {
    /// Adds an outcome of `scanner`.
    pub fn add(&mut self, scanner: &str, outcome: &OutcomeSummary) {
        if !self.0.contains_key(scanner) {
            self.0.insert(scanner.to_owned(), Collected::default());
        }
        let Some(collected) = self.0.get_mut(scanner) else {
            return;
        };
        let ended = outcome.ended;
        collected.first = Some(collected.first.map_or(ended, |first| first.min(ended)));
        collected.last = collected.last.max(Some(ended));
        let rates = match (outcome.verdict, &outcome.result) {
            (Verdict::Accepted, SummaryResult::Measured(rates)) => rates,
            (verdict, _) => {
                collected.failed += u64::from(verdict.is_charged());
                return;
            }
        };
        collected.measured += 1;
        let limit = RateLimit::default();
        for rate in rates.iter().filter(|&&rate| limit.allows(rate)) {
            let (sum, count) = collected.rates.entry(outcome.fingerprint).or_default();
            *sum += rate;
            *count += 1;
        }
        if let Some(facts) = outcome.descriptor {
            let known = collected.observed.entry(outcome.fingerprint).or_default();
            *known = (*known).max((ended, facts.observed.value()));
        }
    }

    /// The statistics of each scanner, by name.
    pub fn finish(&self) -> Vec<ScannerStatistics> {
        self.0
            .iter()
            .map(|(name, collected)| ScannerStatistics {
                scanner: name.clone(),
                measured: collected.measured,
                failed: collected.failed,
                relays: collected.rates.len() as u64,
                first: collected.first,
                last: collected.last,
                comparison: self.compare(name, collected),
            })
            .collect()
    }

    fn compare(&self, name: &str, collected: &Collected) -> Option<Comparison> {
        let others = || {
            let others = self.0.iter().filter(|(other, _)| *other != name);
            others.map(|(_, collected)| collected)
        };
        let mut shared: Vec<f64> = collected
            .rates
            .iter()
            .filter_map(|(fingerprint, &(sum, count))| {
                let theirs = others().filter_map(|other| other.rates.get(fingerprint));
                let (their_sum, their_count) =
                    theirs.fold((0.0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
                let ratio = (sum / count as f64)
                    / (their_sum / f64::from(u32::try_from(their_count).ok()?));
                (their_count > 0).then(|| ratio.ln())
            })
            .collect();
        if shared.len() >= MIN_RELAYS {
            let (median, error) = median_and_error(&mut shared)?;
            return Some(comparison(Basis::SharedRelays, shared.len(), median, error));
        }
        let mut ours = collected.over_observed();
        let mut theirs: Vec<f64> = others().flat_map(Collected::over_observed).collect();
        if ours.len() < MIN_RELAYS || theirs.len() < MIN_RELAYS {
            return None;
        }
        let (our_median, our_error) = median_and_error(&mut ours)?;
        let (their_median, their_error) = median_and_error(&mut theirs)?;
        let error = our_error.hypot(their_error);
        Some(comparison(
            Basis::ObservedBandwidth,
            ours.len(),
            our_median - their_median,
            error,
        ))
    }
}

impl Collected {
    /// The logarithm of each relay's rate over its observed bandwidth.
    fn over_observed(&self) -> Vec<f64> {
        let relays = self.rates.iter();
        relays
            .filter_map(|(fingerprint, &(sum, count))| {
                let &(_, observed) = self.observed.get(fingerprint)?;
                (observed > 0).then(|| (sum / count as f64 / observed as f64).ln())
            })
            .collect()
    }
}

/// The median, and its standard error from the median deviation: one wild
/// relay moves neither.
fn median_and_error(values: &mut [f64]) -> Option<(f64, f64)> {
    values.sort_unstable_by(f64::total_cmp);
    let median = median_of_sorted(values)?;
    let mut deviations: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
    deviations.sort_unstable_by(f64::total_cmp);
    // Of normal values, 1.4826 median deviations are a standard deviation, and
    // a median has 1.2533 times the error of a mean.
    let deviation = 1.4826 * median_of_sorted(&deviations)?;
    Some((median, 1.2533 * deviation / (values.len() as f64).sqrt()))
}

fn comparison(basis: Basis, relays: usize, shift: f64, error: f64) -> Comparison {
    Comparison {
        basis,
        relays: relays as u64,
        factor: shift.exp(),
        disagrees: shift.abs() > SHIFT.ln() && shift.abs() > SIGNIFICANT * error,
    }
}
