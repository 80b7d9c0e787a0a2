//! The end of a scan: relays that may share a machine, all at one time.

use std::collections::VecDeque;
use std::sync::Arc;

use bw_file::Fingerprint;
use bw_results::{Blame, Machines, Outcome, TargetFacts, Verdict};
use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use super::{ScanError, Scanning, lock};
use crate::schedule::Batch;
use crate::{
    Assignment, Completion, Estimator, Event, HelperPolicy, Observer, Records, RunId, Targets,
    Transport,
};

/// The number of groups that may be found not to fit before those that do are measured.
const SEARCHES: usize = 8;

impl<T, F, E, P, A, R, O> Scanning<'_, T, F, P, A, R, O>
where
    T: Transport,
    F: Fn(&TargetFacts) -> E + Send + Sync,
    E: Estimator,
    P: HelperPolicy,
    A: Targets,
    R: Records,
    O: Observer,
{
    /// Measures those relays together that this scan measured one after the other and
    /// that may share a machine. What each carries then is a lower bound, set by its machine.
    pub(super) async fn machines(
        &self,
        cancel: &CancellationToken,
    ) -> Result<(), ScanError<A::Error, R::Error>> {
        let network = Arc::clone(&lock(&self.snapshot));
        let machines = Machines::of(&network);
        let measured = std::mem::take(&mut *lock(&self.measured));
        let groups = machines.groups().iter();
        let groups = groups.map(|group| group.iter().copied().filter(|it| measured.contains(it)));
        let mut waiting: VecDeque<Vec<Fingerprint>> = groups.map(Iterator::collect).collect();
        waiting.retain(|group| group.len() > 1);
        while !waiting.is_empty() && !cancel.is_cancelled() && self.is_open() {
            let (runs, assignments): (Vec<_>, Vec<_>) =
                self.batch(&mut waiting).into_iter().unzip();
            let measuring = assignments
                .iter()
                .map(|group: &Vec<_>| self.measurer.measure_together(group, self.observer));
            let outcomes = cancel.run_until_cancelled(join_all(measuring)).await;
            let outcomes = outcomes.unwrap_or_default().into_iter().flatten();
            for (run, outcome) in runs.into_iter().flatten().zip(outcomes) {
                self.keep_part(run, outcome)?;
            }
        }
        Ok(())
    }

    /// Returns true if measurements may begin now.
    fn is_open(&self) -> bool {
        let wall = self.measurer.clock.now();
        self.window
            .is_none_or(|window| window.opens_in(wall).is_none())
    }

    /// Takes groups that fit beside each other. One that does not fit alone is left out.
    fn batch(
        &self,
        waiting: &mut VecDeque<Vec<Fingerprint>>,
    ) -> Vec<(Vec<RunId>, Vec<Assignment>)> {
        let now = self.begin.elapsed();
        let (mut batch, mut planned, mut later) = (Batch::default(), Vec::new(), Vec::new());
        while later.len() < SEARCHES
            && let Some(group) = waiting.pop_front()
        {
            match lock(&self.scheduler).together(&group, &mut batch, now) {
                Some(measurements) => planned.push(measurements.into_iter().unzip()),
                None if batch.is_empty() => {}
                None => later.push(group),
            }
        }
        waiting.extend(later);
        planned
    }

    /// Keeps what a relay carried beside others. A failure is charged to nobody, and not kept.
    fn keep_part(&self, run: RunId, outcome: Outcome) -> Result<(), ScanError<A::Error, R::Error>> {
        lock(&self.report).bytes += outcome.bytes();
        if Verdict::default_of(&outcome) != Verdict::Accepted {
            return Ok(());
        }
        let completion = Completion {
            outcome,
            verdict: Verdict::LowerBound(Blame::Target),
            revised: Vec::new(),
            settled: false,
            is_control: false,
        };
        self.observer.observe(&Event::Ended(&completion));
        let kept = self.records.record(run, &completion);
        kept.map_err(ScanError::Records)
    }
}
