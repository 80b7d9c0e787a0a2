//! An idea of when a download has shown enough.

use bw_measure::Estimator;
use bw_results::{Slice, StopReason};

/// The time of a download, in microseconds.
const LENGTH: u64 = 4_000_000;

/// Counts the second half of four seconds.
pub(crate) struct SecondHalf;

impl Estimator for SecondHalf {
    fn observe(&mut self, slices: &[Slice]) -> Option<StopReason> {
        let time: u64 = slices.iter().map(|slice| slice.micros).sum();
        (time >= LENGTH).then_some(StopReason::TimeLimit)
    }

    fn warm_up(&self, slices: &[Slice]) -> usize {
        slices.len() / 2
    }
}
