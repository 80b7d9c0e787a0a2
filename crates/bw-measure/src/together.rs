//! Measurements that begin together and count for the same time.

use bw_results::{Measurement, Outcome, TargetFacts};
use futures::future::join_all;

use crate::link::Lease;
use crate::{Assignment, Estimator, Measurer, Observer, Transport};

impl<T, F, E> Measurer<T, F>
where
    T: Transport,
    F: Fn(&TargetFacts) -> E + Send + Sync,
    E: Estimator,
{
    /// Makes these measurements at one time, of relays that may share a machine: their
    /// requests go out when the circuits of all are open, or could not be opened. What comes after the first of them
    /// ended is kept, but counts for none. So a machine cannot serve one after the other.
    /// Nothing bounds the scanner's link.
    pub async fn measure_together(
        &self,
        assignments: &[Assignment],
        observer: &impl Observer,
    ) -> Vec<Outcome> {
        let leases = Lease::together(assignments.len());
        let running = assignments.iter().zip(leases);
        let running = running.map(async |(assignment, lease)| {
            // The place on the link is given back with the end.
            let lease = lease;
            self.measure(assignment, &lease, &mut (), observer).await
        });
        let mut outcomes = join_all(running).await;
        let lengths = outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Measured(measured) => slices(measured),
            Outcome::Failed(_) => None,
        });
        if let Some(shortest) = lengths.min() {
            for outcome in &mut outcomes {
                if let Outcome::Measured(measured) = outcome {
                    end_at(measured, shortest);
                }
            }
        }
        outcomes
    }
}

/// The number of slices that count or come before those that do.
fn slices(measured: &Measurement) -> Option<usize> {
    let ends = measured.transfers.iter();
    ends.map(|one| one.slices.len().saturating_sub(one.cool_down))
        .min()
}

/// Lets no slice count after so many, and of these the later half, as another's
/// warm-up may have taken longer.
fn end_at(measured: &mut Measurement, slices: usize) {
    for transfer in &mut measured.transfers {
        transfer.cool_down = transfer.slices.len().saturating_sub(slices);
        transfer.warm_up = transfer.warm_up.min(slices / 2);
    }
}
