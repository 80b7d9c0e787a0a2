//! The plain figures of a few scans, as bwscanner's `aggregate` gives them.

use bw_file::{BytesPerSecond, Fingerprint, KilobytesPerSecond};
use serde::Serialize;

use crate::aggregate::Aggregates;
use crate::statistics::{at_least, exact_mean};

/// The figures of one relay over the outcomes that were aggregated.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ScanRow {
    /// RSA identity.
    pub fingerprint: Fingerprint,
    /// Nickname.
    pub nickname: String,
    /// Mean of the measured rates, rounded down.
    pub mean: BytesPerSecond,
    /// Mean of those that are not below the mean, rounded down.
    pub filtered: BytesPerSecond,
    /// Accepted measurements.
    pub measurements: u64,
    /// Failures of all kinds that are charged to it.
    pub failures: u64,
    /// Share of attempts that failed while the circuit was built, 0 to 1.
    pub circuit_failure_rate: f64,
    /// The configured rate (`bandwidth-avg`) in its descriptor.
    pub descriptor_bandwidth: Option<BytesPerSecond>,
    /// Weight in the consensus.
    pub consensus_bandwidth: Option<KilobytesPerSecond>,
}

/// One row for each relay of the snapshot that has a rate, sorted by
/// fingerprint.
///
/// As bwscanner's `aggregate`, with these differences: a rate is counted for
/// the relay under measurement, not for its helper too; the share of failures
/// is that of the relay's own circuits, whatever their number (bwscanner gives
/// 0 unless the network has more than five relays).
pub fn scan_rows(aggregates: &Aggregates) -> Vec<ScanRow> {
    aggregates
        .in_consensus()
        .filter_map(|relay| {
            let mean_rate = exact_mean(&relay.rates)?.floor();
            let filtered = exact_mean(at_least(&relay.rates, mean_rate))?.floor();
            Some(ScanRow {
                fingerprint: relay.fingerprint,
                nickname: relay.nickname.clone(),
                mean: BytesPerSecond::new(mean_rate as u64),
                filtered: BytesPerSecond::new(filtered as u64),
                measurements: relay.counts.measured,
                failures: relay.counts.failed,
                circuit_failure_rate: relay.counts.circuit_failure_rate(),
                descriptor_bandwidth: relay.descriptor.map(|facts| facts.average),
                consensus_bandwidth: relay.consensus_weight,
            })
        })
        .filter(|row| row.filtered.value() > 0)
        .collect()
}
