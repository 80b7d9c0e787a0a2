//! Rounds: each relay once, then again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bw_file::{BytesPerSecond, Fingerprint};
use bw_results::{
    Blame, NetworkSnapshot, Outcome, Scan as Round, ScanId, ScanParameters, TargetFacts,
    UnixMillis, Verdict,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    Completion, Directory, Error, ErrorKind, Estimator, Event, HelperPolicy, Interrupted, Journal,
    Known, Observer, Plan, Records, RunId, Scan, ScanError, Selection, Target, Targets, Transport,
    WallClock,
};

/// The age beyond which a record does not count when relays are put in order.
const MEMORY: Duration = Duration::from_secs(28 * 24 * 3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The time until rounds are tried again after an error that may pass.
const RETRY: Duration = Duration::from_secs(60);

/// The rates of relays, in bytes per second.
type Rates = Vec<(Fingerprint, BytesPerSecond)>;

/// The common part of a scanner's rounds.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RoundOptions {
    /// The scanner's name.
    pub scanner: String,
    /// The relays that each round covers.
    pub selection: Selection,
    /// The parameters that must be equal for an interrupted round to be continued.
    pub parameters: ScanParameters,
    /// Time from the beginning of a round to the next one's; `None` for a single round.
    pub interval: Option<Duration>,
    /// True if an interrupted round is given up instead of continued.
    pub fresh: bool,
    /// The seed of all random choices; `None` for the system's randomness.
    pub seed: Option<u64>,
    /// The clock whose time rounds carry.
    pub clock: WallClock,
}

impl RoundOptions {
    /// A single round of `scanner` over all relays, by the system's clock.
    pub fn new(scanner: impl Into<String>, parameters: ScanParameters) -> Self {
        Self {
            scanner: scanner.into(),
            selection: Selection::default(),
            parameters,
            interval: None,
            fresh: false,
            seed: None,
            clock: WallClock::system(),
        }
    }
}

/// The rounds of one scanner: a single one or, with an interval, one after the other.
///
/// A round begins as soon as no relay of the one before waits any more. Whatever is done
/// is kept in a [`Journal`], so that the next process goes on where this one stopped.
#[derive(Debug)]
pub struct Rounds<J: Journal> {
    journal: J,
    options: RoundOptions,
    state: Mutex<State<J::Id>>,
}

/// The progress of a round; of one that was interrupted, what was done before is included.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoundReport {
    /// The round.
    pub scan: ScanId,
    /// Relays measured.
    pub measured: usize,
    /// Relays given up.
    pub failed: usize,
    /// Relays that are not settled.
    pub left: usize,
    /// Payload bytes.
    pub bytes: u64,
}

/// The sums of all rounds of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Relays measured.
    pub measured: usize,
    /// Relays given up.
    pub failed: usize,
    /// Payload bytes of all records.
    pub bytes: u64,
}

/// Tells why rounds ended before their time.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RoundsError<E> {
    /// Nothing can be measured.
    #[error(transparent)]
    Scan(#[from] Error),
    /// The journal failed.
    #[error("results cannot be kept")]
    Journal(#[source] E),
    /// The selection covers no relay.
    #[error("none of the {relays} relays of the consensus is to be measured: see the selection")]
    NoRelays {
        /// Relays of the consensus.
        relays: usize,
    },
}

impl<E> From<ScanError<Self, Self>> for RoundsError<E> {
    fn from(error: ScanError<Self, Self>) -> Self {
        match error {
            ScanError::Scan(error) => Self::Scan(error),
            ScanError::Targets(error) | ScanError::Records(error) => error,
        }
    }
}

#[derive(Debug)]
struct State<I> {
    /// End of the newest measurement of each relay that settled it.
    last: BTreeMap<Fingerprint, UnixMillis>,
    /// Rounds that are not finished, the oldest first.
    open: Vec<Open>,
    /// True if the next round may continue an interrupted one.
    resumes: bool,
    /// True if the scan that runs has been given its first relays.
    given: bool,
    /// When the latest round began.
    begun: Option<Instant>,
    /// The records of the scan that runs whose verdicts may still change.
    records: HashMap<RunId, Record<I>>,
    /// Those of an earlier process that the scheduler does not know yet.
    recalled: HashMap<Fingerprint, Vec<I>>,
    totals: Totals,
    /// The report that an observer is given when the scan has begun.
    resumed: Option<RoundReport>,
    /// True if the latest try ended because nothing worked.
    doubtful: bool,
    /// Rounds that ended and that the observer was not told of.
    ended: Vec<RoundReport>,
    rng: StdRng,
}

/// A record that was kept.
#[derive(Debug)]
struct Record<I> {
    relay: Fingerprint,
    scan: ScanId,
    id: I,
}

/// A round that is not finished.
#[derive(Debug)]
struct Open {
    report: RoundReport,
    /// All relays of the round, and those of them that are not settled.
    targets: BTreeSet<Fingerprint>,
    pending: BTreeSet<Fingerprint>,
}

impl<J: Journal> Rounds<J> {
    /// Rounds that are kept in `journal`.
    pub fn new(journal: J, options: RoundOptions) -> Self {
        let state = State {
            last: BTreeMap::new(),
            open: Vec::new(),
            resumes: !options.fresh,
            given: false,
            begun: None,
            records: HashMap::new(),
            recalled: HashMap::new(),
            totals: Totals::default(),
            resumed: None,
            doubtful: false,
            ended: Vec::new(),
            rng: options
                .seed
                .map_or_else(|| StdRng::from_rng(&mut rand::rng()), StdRng::seed_from_u64),
        };
        Self {
            journal,
            options,
            state: Mutex::new(state),
        }
    }

    /// Measures in rounds: one, or with an interval until `cancel` is called.
    ///
    /// Each try begins with `connect`, which makes the scan. With an interval, what may pass
    /// is waited for: a network or a destination that cannot be reached.
    ///
    /// # Errors
    /// Those of [`Journal`] and of the selection, at once. Those of `connect` and of the
    /// scan, if there is no interval or if the configuration is wrong.
    pub async fn run<C, D, T, P, F, E, O>(
        &self,
        mut connect: impl FnMut() -> C,
        observer: &O,
        cancel: &CancellationToken,
    ) -> Result<(), RoundsError<J::Error>>
    where
        C: Future<Output = Result<Scan<D, T, P, F>, Error>>,
        D: Directory,
        T: Transport,
        P: HelperPolicy,
        F: Fn(&TargetFacts) -> E + Send + Sync,
        E: Estimator,
        O: Observer,
    {
        loop {
            let tried = async {
                let scan = connect().await?;
                self.scan(scan, observer, cancel).await
            };
            // A scan that is cancelled returns by itself, with everything kept.
            let tried = tried.await;
            self.lock().doubtful = tried.is_err();
            let wait = match tried {
                Ok(()) => {
                    let wait = self.next_in();
                    observer.observe(&Event::NextRound(wait));
                    wait
                }
                Err(RoundsError::Scan(reason)) if self.passes(&reason) => {
                    let retry = RETRY;
                    observer.observe(&Event::Waiting {
                        reason: &reason,
                        retry,
                    });
                    retry
                }
                Err(error) => return Err(error),
            };
            if cancel.is_cancelled() || self.options.interval.is_none() {
                return Ok(());
            }
            let _ = cancel.run_until_cancelled(sleep(wait)).await;
        }
    }

    /// Shows what a round would do now, and begins none. See [`Scan::plan`].
    ///
    /// # Errors
    /// Those of the journal, the directory and the selection.
    pub async fn plan<D, T, P, F, E, O>(
        &self,
        scan: Scan<D, T, P, F, O>,
        opening: Duration,
        transfer: Duration,
    ) -> Result<Plan, RoundsError<J::Error>>
    where
        D: Directory,
        T: Transport,
        P: HelperPolicy,
        F: Fn(&TargetFacts) -> E + Send + Sync,
        E: Estimator,
        O: Observer,
    {
        let (known, spent) = self.history()?;
        let scan = scan.known(known).spent(spent);
        let plan = scan.plan(&Planned(self), opening, transfer).await;
        plan.map_err(|error| match error {
            ScanError::Scan(error) => RoundsError::Scan(error),
            ScanError::Targets(error) => error,
            ScanError::Records(never) => match never {},
        })
    }

    /// Returns what all rounds together did so far.
    pub fn totals(&self) -> Totals {
        self.lock().totals
    }

    async fn scan<D, T, P, F, E, O>(
        &self,
        scan: Scan<D, T, P, F>,
        observer: &O,
        cancel: &CancellationToken,
    ) -> Result<(), RoundsError<J::Error>>
    where
        D: Directory,
        T: Transport,
        P: HelperPolicy,
        F: Fn(&TargetFacts) -> E + Send + Sync,
        E: Estimator,
        O: Observer,
    {
        {
            let mut state = self.lock();
            state.given = false;
            state.records.clear();
            state.recalled.clear();
        }
        let (known, spent) = self.history()?;
        let scan = scan.known(known).spent(spent).cancel(cancel.clone());
        let scan = scan.clock(self.options.clock);
        let scan = scan.seed(self.lock().rng.random());
        let scan = scan.doubtful(self.lock().doubtful);
        let told = |event: &Event<'_>| {
            self.tell(observer);
            observer.observe(event);
        };
        let scanned = scan.observer(&told).run(self, self).await;
        self.tell(observer);
        self.journal.flush().map_err(RoundsError::Journal)?;
        for round in &self.lock().open {
            observer.observe(&Event::Round(&round.report()));
        }
        scanned?;
        Ok(())
    }

    /// Reads what is known of relays, and the payload of the last day in bytes.
    fn history(&self) -> Result<(Rates, u64), RoundsError<J::Error>> {
        let now = self.options.clock.now();
        let known = self.journal.known(now.before(MEMORY));
        let known = known.map_err(RoundsError::Journal)?;
        let spent = self.journal.spent(now.before(DAY));
        let spent = spent.map_err(RoundsError::Journal)?;
        let last = |(relay, known): (&Fingerprint, &Known)| Some((*relay, known.last_measured?));
        self.lock().last = known.iter().filter_map(last).collect();
        let rates = known.into_iter();
        let rates = rates.filter_map(|(relay, known)| Some((relay, known.rate?)));
        Ok((rates.collect(), spent))
    }

    /// Tells what happened to rounds since this was last done.
    fn tell(&self, observer: &impl Observer) {
        let (resumed, ended) = {
            let mut state = self.lock();
            (state.resumed.take(), std::mem::take(&mut state.ended))
        };
        if let Some(report) = resumed {
            observer.observe(&Event::Resumed(&report));
        }
        for report in &ended {
            observer.observe(&Event::Round(report));
        }
    }

    /// Returns true if rounds wait for an error to pass.
    fn passes(&self, error: &Error) -> bool {
        let passing = matches!(error.kind(), ErrorKind::Destination | ErrorKind::Directory);
        self.options.interval.is_some() && passing
    }

    /// The time until the next round may begin.
    fn next_in(&self) -> Duration {
        let begun = self.lock().begun;
        let since = begun.map_or(Duration::MAX, |begun| begun.elapsed());
        let interval = self.options.interval.unwrap_or_default();
        interval.saturating_sub(since)
    }

    fn lock(&self) -> MutexGuard<'_, State<J::Id>> {
        // Whoever panicked has changed one field at most.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first relays of a scan: those that an interrupted round has left, or a new round.
    fn first(&self, network: &NetworkSnapshot) -> Result<Vec<Target>, RoundsError<J::Error>> {
        let now = self.options.clock.now();
        if self.lock().resumes {
            let (scanner, parameters) = (&self.options.scanner, &self.options.parameters);
            let interrupted = self.journal.interrupted(scanner, parameters, now);
            if let Some(round) = interrupted.map_err(RoundsError::Journal)? {
                let network = self.journal.network(&[round.scan], network);
                network.map_err(RoundsError::Journal)?;
                return Ok(self.resume(round));
            }
        }
        let relays = self.options.selection.of(network);
        if relays.is_empty() && self.options.interval.is_none() {
            let relays = network.relays.len();
            return Err(RoundsError::NoRelays { relays });
        }
        self.begin(relays, network)
    }

    /// Goes on with a round, and with what it measured of relays that it did not settle.
    fn resume(&self, round: Interrupted<J::Id>) -> Vec<Target> {
        let mut state = self.lock();
        let relays = round.pending.keys().copied().collect();
        // Other rounds of this process were given up when this one was found.
        state.open.clear();
        let mut targets = state.open(round.scan, relays);
        for (target, records) in targets.iter_mut().zip(round.pending.into_values()) {
            for (id, measurement, verdict) in records {
                target.records.push((measurement, verdict));
                state.recalled.entry(target.relay).or_default().push(id);
            }
        }
        if let Some(open) = state.open.last_mut() {
            open.targets = round.targets;
            let report = &mut open.report;
            (report.measured, report.failed) = (round.measured, round.failed);
            report.bytes = round.bytes;
            state.resumed = Some(open.report());
        }
        targets
    }

    /// Begins a round over `relays`.
    fn begin(
        &self,
        relays: Vec<Fingerprint>,
        network: &NetworkSnapshot,
    ) -> Result<Vec<Target>, RoundsError<J::Error>> {
        let mut state = self.lock();
        let id = ScanId::from_bytes(state.rng.random());
        let (scanner, now) = (self.options.scanner.clone(), self.options.clock.now());
        let round = Round::new(id, scanner, now, self.options.parameters.clone());
        // Rounds of ours that still run are not given up.
        let abandon = state.open.is_empty();
        let begun = self.journal.begin(&round, &relays, network, abandon);
        begun.map_err(RoundsError::Journal)?;
        Ok(state.open(id, relays))
    }

    /// Relays that joined the network since the latest round began.
    fn joined(&self, network: &NetworkSnapshot) -> Result<Vec<Target>, RoundsError<J::Error>> {
        let mut state = self.lock();
        let Some(round) = state.open.last_mut() else {
            return Ok(Vec::new());
        };
        let mut joined = self.options.selection.of(network);
        joined.retain(|relay| !round.targets.contains(relay));
        let scan = round.report.scan;
        if !joined.is_empty() {
            let kept = self.journal.join(scan, &joined);
            kept.map_err(RoundsError::Journal)?;
            round.targets.extend(&joined);
            round.pending.extend(&joined);
        }
        Ok(state.with_last(Some(scan), joined))
    }
}

impl<I> State<I> {
    /// Counts a round as one that runs.
    fn open(&mut self, scan: ScanId, relays: Vec<Fingerprint>) -> Vec<Target> {
        self.resumes = true;
        self.begun = Some(Instant::now());
        let report = RoundReport {
            scan,
            measured: 0,
            failed: 0,
            left: 0,
            bytes: 0,
        };
        self.open.push(Open {
            report,
            targets: relays.iter().copied().collect(),
            pending: relays.iter().copied().collect(),
        });
        self.with_last(Some(scan), relays)
    }

    fn with_last(&self, scan: Option<ScanId>, relays: Vec<Fingerprint>) -> Vec<Target> {
        let target = |relay| {
            let mut target = Target::new(relay);
            target.last_measured = self.last.get(&relay).copied();
            target.scan = scan;
            target
        };
        relays.into_iter().map(target).collect()
    }

    /// A relay is settled. Its failures of this round may still turn out to be a
    /// destination's.
    fn settle(&mut self, index: usize, relay: Fingerprint, outcome: &Outcome) {
        let round = &mut self.open[index];
        let measured = matches!(outcome, Outcome::Measured(_));
        let scan = round.report.scan;
        self.records
            .retain(|_, one| one.relay != relay || (one.scan == scan && !measured));
        round.pending.remove(&relay);
        if measured {
            self.last.insert(relay, outcome.ended());
            round.report.measured += 1;
            self.totals.measured += 1;
        } else {
            round.report.failed += 1;
            self.totals.failed += 1;
        }
    }
}

impl Open {
    fn report(&self) -> RoundReport {
        RoundReport {
            left: self.pending.len(),
            ..self.report.clone()
        }
    }
}

impl<J: Journal> Targets for Rounds<J> {
    type Error = RoundsError<J::Error>;

    fn more(
        &self,
        network: &NetworkSnapshot,
        waiting: usize,
    ) -> Result<Vec<Target>, RoundsError<J::Error>> {
        if !std::mem::replace(&mut self.lock().given, true) {
            return self.first(network);
        }
        let joined = self.joined(network)?;
        let due = self.options.interval.is_some() && waiting == 0 && self.next_in().is_zero();
        if !joined.is_empty() || !due {
            return Ok(joined);
        }
        self.begin(self.options.selection.of(network), network)
    }

    fn recalled(&self, relay: Fingerprint, runs: &[RunId]) {
        let mut state = self.lock();
        let ids = state.recalled.remove(&relay).unwrap_or_default();
        let Some(scan) = state.open.last().map(|round| round.report.scan) else {
            return;
        };
        for (&run, id) in runs.iter().zip(ids) {
            state.records.insert(run, Record { relay, scan, id });
        }
    }
}

impl<J: Journal> Records for Rounds<J> {
    type Error = RoundsError<J::Error>;

    fn network(&self, network: &NetworkSnapshot) -> Result<(), RoundsError<J::Error>> {
        let open = &self.lock().open;
        let rounds: Vec<ScanId> = open.iter().map(|round| round.report.scan).collect();
        if rounds.is_empty() {
            return Ok(()); // It is kept with the round that begins.
        }
        let noted = self.journal.network(&rounds, network);
        noted.map_err(RoundsError::Journal)
    }

    fn record(&self, run: RunId, completion: &Completion) -> Result<(), RoundsError<J::Error>> {
        let (outcome, settled) = (&completion.outcome, completion.settled);
        let relay = outcome.attempt().target.fingerprint;
        let mut state = self.lock();
        let of = |round: &Open| Some(round.report.scan) == outcome.attempt().scan;
        let Some(index) = state.open.iter().position(of) else {
            // Every target that the scheduler is given is of a round. Machines come after it.
            if let (Some(scan), Verdict::LowerBound(Blame::Target)) =
                (outcome.attempt().scan, completion.verdict)
            {
                let kept = self
                    .journal
                    .record(scan, outcome, completion.verdict, false);
                kept.map_err(RoundsError::Journal)?;
                state.totals.bytes += outcome.bytes();
            }
            return Ok(());
        };
        let scan = state.open[index].report.scan;
        let id = self
            .journal
            .record(scan, outcome, completion.verdict, settled)
            .map_err(RoundsError::Journal)?;
        state.open[index].report.bytes += outcome.bytes();
        state.totals.bytes += outcome.bytes();
        state.records.insert(run, Record { relay, scan, id });
        if !settled {
            return Ok(());
        }
        state.settle(index, relay, outcome);
        if state.open[index].pending.is_empty() {
            let round = state.open.remove(index);
            state.ended.push(round.report());
            let finished = self.journal.finish(scan, self.options.clock.now());
            finished.map_err(RoundsError::Journal)?;
        }
        Ok(())
    }

    fn revise(&self, run: RunId, verdict: Verdict) -> Result<(), RoundsError<J::Error>> {
        let state = self.lock();
        let Some(record) = state.records.get(&run) else {
            return Ok(()); // Of a relay that was measured, whose verdicts are final.
        };
        self.journal
            .revise(&record.id, verdict)
            .map_err(RoundsError::Journal)
    }
}

/// The relays of a round that nobody begins.
struct Planned<'a, J: Journal>(&'a Rounds<J>);

impl<J: Journal> Targets for Planned<'_, J> {
    type Error = RoundsError<J::Error>;

    fn more(
        &self,
        network: &NetworkSnapshot,
        _: usize,
    ) -> Result<Vec<Target>, RoundsError<J::Error>> {
        let relays = self.0.options.selection.of(network);
        if relays.is_empty() {
            let relays = network.relays.len();
            return Err(RoundsError::NoRelays { relays });
        }
        Ok(self.0.lock().with_last(None, relays))
    }
}
