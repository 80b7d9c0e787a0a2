//! The health of the whole: is there anything that works?

use std::time::Duration;

use bw_results::{Blame, Failure, Stage};

use crate::RunId;

/// The number of fast relays that are tried to see whether anything works.
const CONTROLS: u32 = 3;
/// The time for which nothing is tried at first once nothing works; doubled each time.
const BACK_OFF: Duration = Duration::from_secs(5);
/// The longest time for which nothing is tried.
const LONGEST: Duration = Duration::from_secs(60);

/// The state of the whole, and what it allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Relays are measured.
    Normal,
    /// Fast relays are tried to see whether anything works.
    Probing,
    /// Nothing is tried until then.
    Pause(Duration),
    /// Nothing has worked for too long.
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Normal,
    /// So many fast relays are still to be tried.
    Probing(u32),
    Pause(Duration),
    Broken,
}

/// Tells relays that cannot be measured from a network or destinations that
/// do not work.
///
/// Many failures in a row, of whatever relays, make it doubtful that anything
/// works. Then a few of the fastest relays are tried; if none can be measured
/// either, nothing is tried for a while, and then they again.
#[derive(Debug)]
pub(super) struct Health {
    patience: u32,
    outage: Duration,
    /// Failures since anything was measured.
    run: u32,
    mode: Mode,
    back_off: Duration,
    since: Option<Duration>,
    /// The number of measurements.
    worked: u64,
    last: Option<Failure>,
    /// Failures since anything was measured that relays are charged with, and whether
    /// they came behind the circuit.
    charged: Vec<(RunId, bool)>,
    /// The one who is at fault that nothing works, while nothing does.
    suspect: Option<Blame>,
}

/// The charged failures that are remembered; some hundred can run when a server stops.
const REMEMBERED: usize = 1000;

/// Nothing works any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outage {
    /// The destination, or the scanner with its connection to the network.
    pub(super) suspect: Blame,
    /// Failures that relays were charged with and that were the suspect's.
    pub(super) excused: Vec<RunId>,
}

impl Health {
    /// Doubts after `patience` failures in a row; gives up after `outage`, and at
    /// once if nothing ever worked.
    pub(super) const fn new(patience: u32, outage: Duration) -> Self {
        Self {
            patience,
            outage,
            run: 0,
            mode: Mode::Normal,
            back_off: BACK_OFF,
            since: None,
            worked: 0,
            last: None,
            charged: Vec::new(),
            suspect: None,
        }
    }

    pub(super) fn state(&mut self, now: Duration) -> State {
        match self.mode {
            Mode::Normal => State::Normal,
            Mode::Probing(_) => State::Probing,
            Mode::Pause(until) if now < until => State::Pause(until),
            Mode::Pause(_) => {
                self.mode = Mode::Probing(CONTROLS);
                State::Probing
            }
            Mode::Broken => State::Broken,
        }
    }

    /// Something was measured. Returns whether nothing worked before.
    pub(super) fn worked(&mut self) -> bool {
        let was_out = self.suspect.is_some();
        *self = Self {
            worked: self.worked + 1,
            ..Self::new(self.patience, self.outage)
        };
        was_out
    }

    /// An attempt at a relay failed. Returns whose fault it is if nothing works.
    pub(super) fn failed(&mut self, run: RunId, failure: &Failure) -> Option<Blame> {
        self.run += 1;
        self.last = Some(failure.clone());
        if self.run >= self.patience {
            self.doubt();
        }
        let behind = failure.stage >= Stage::Begin;
        let suspect = self.suspect.filter(|&suspect| explains(suspect, behind));
        if suspect.is_none() && self.charged.len() < REMEMBERED {
            self.charged.push((run, behind));
        }
        suspect
    }

    /// It has to be found out whether anything works.
    pub(super) fn doubt(&mut self) {
        if self.mode == Mode::Normal {
            self.mode = Mode::Probing(CONTROLS);
        }
    }

    /// An attempt at one of the fast relays failed, or could not be made. Returns the
    /// outage, if it is known since now.
    pub(super) fn control_failed(
        &mut self,
        failure: Option<&Failure>,
        now: Duration,
    ) -> Option<Outage> {
        if let Some(failure) = failure {
            self.last = Some(failure.clone());
        }
        match self.mode {
            Mode::Probing(left) if left > 1 => self.mode = Mode::Probing(left - 1),
            Mode::Probing(_) => {
                let since = *self.since.get_or_insert(now);
                if self.worked == 0 || now.saturating_sub(since) >= self.outage {
                    self.mode = Mode::Broken;
                } else {
                    self.mode = Mode::Pause(now + self.back_off);
                    self.back_off = (self.back_off * 2).min(LONGEST);
                }
                return self.begin_outage();
            }
            _ => {}
        }
        None
    }

    fn begin_outage(&mut self) -> Option<Outage> {
        if self.suspect.is_some() {
            return None;
        }
        // If circuits stand, it is what is behind them.
        let behind = self
            .last
            .as_ref()
            .is_some_and(|one| one.stage >= Stage::Begin);
        let suspect = if behind {
            Blame::Destination
        } else {
            Blame::Scanner
        };
        self.suspect = Some(suspect);
        let charged = std::mem::take(&mut self.charged).into_iter();
        let excused = charged.filter(|&(_, behind)| explains(suspect, behind));
        Some(Outage {
            suspect,
            excused: excused.map(|(run, _)| run).collect(),
        })
    }

    /// The number of measurements so far.
    pub(super) const fn count(&self) -> u64 {
        self.worked
    }

    /// Returns true if the failures of a relay tell something of it, the first of which came
    /// after `count` measurements: not as long as it may be that nothing works.
    pub(super) const fn tells(&self, count: u64) -> bool {
        self.worked > count && self.run * 2 <= self.patience
    }

    pub(super) fn last_failure(&self) -> Option<&Failure> {
        self.last.as_ref()
    }
}

/// Returns true if `suspect` can be at fault for a failure that came `behind` the circuit or not.
fn explains(suspect: Blame, behind: bool) -> bool {
    suspect == Blame::Scanner || behind
}

#[cfg(test)]
mod tests {
    use super::*;
    use bw_results::{Attempt, FailureKind, Position, TargetFacts, UnixMillis};

    fn failure() -> Failure {
        let target = TargetFacts::new(bw_file::Fingerprint::from_bytes([1; 20]));
        let attempt = Attempt::new(target, Position::Entry, UnixMillis::new(1));
        let (stage, kind) = (Stage::Begin, FailureKind::Refused);
        Failure::new(attempt, UnixMillis::new(2), stage, kind, Blame::Path, "x")
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_outage_is_waited_out() {
        let mut health = Health::new(10, secs(60));
        health.worked();
        for run in 0..9 {
            assert_eq!(health.failed(RunId(run), &failure()), None);
        }
        assert_eq!(health.state(secs(1)), State::Normal);
        assert!(!health.tells(0));
        health.failed(RunId(9), &failure());
        let mut outage = None;
        for _ in 0..CONTROLS {
            assert_eq!(health.state(secs(1)), State::Probing);
            assert_eq!(outage, None);
            outage = health.control_failed(Some(&failure()), secs(1));
        }
        let expected = Outage {
            suspect: Blame::Destination,
            excused: (0..10).map(RunId).collect(),
        };
        assert_eq!(outage, Some(expected));
        let next = health.failed(RunId(10), &failure());
        assert_eq!(next, Some(Blame::Destination));
        assert_eq!(health.state(secs(1)), State::Pause(secs(6)));
        assert_eq!(health.state(secs(6)), State::Probing);
        assert!(health.worked(), "nothing did before");
        assert_eq!(health.state(secs(7)), State::Normal);
        assert!(health.tells(1) && !health.tells(2));
    }

    #[test]
    fn it_ends_when_it_lasts() {
        let mut health = Health::new(1, secs(60));
        health.worked();
        health.failed(RunId(1), &failure());
        let mut now = secs(0);
        while health.state(now) != State::Broken {
            now += secs(1);
            assert!(now < secs(200));
            if health.state(now) == State::Probing {
                health.control_failed(Some(&failure()), now);
            }
        }
        assert!(now >= secs(60), "{now:?}");
    }

    #[test]
    fn nothing_that_ever_worked_is_not_waited_for() {
        let mut health = Health::new(1, secs(60));
        health.failed(RunId(1), &failure());
        (0..CONTROLS).for_each(|_| drop(health.control_failed(None, secs(1))));
        assert_eq!(health.state(secs(1)), State::Broken);
        assert!(health.last_failure().is_some());
    }
}
