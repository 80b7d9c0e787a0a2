//! One attempt at measuring one relay, from choosing a helper to a record.

use std::time::Duration;

use bw_file::Fingerprint;
use bw_results::{
    Attempt, Blame, Failure, FailureKind, Measurement, NetworkSnapshot, Outcome, Position,
    RelayFacts, Stage, TargetFacts, Timings, Transfer, UnixMillis,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};

use crate::transfer::download;
use crate::{
    Circuit, CircuitError, Circuits, Destination, Estimator, Event, HelperPolicy, Observer,
    StageTimeouts, Tls, TransferError, TransferOptions, TwoHops,
};

/// The wall clock, derived from tokio's clock, so that it can be paused.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    start: UnixMillis,
    instant: Instant,
}

impl WallClock {
    /// A clock that shows `now` now.
    pub fn starting_at(now: UnixMillis) -> Self {
        Self {
            start: now,
            instant: Instant::now(),
        }
    }

    /// The present time.
    pub fn now(&self) -> UnixMillis {
        self.start.after(self.instant.elapsed())
    }
}

/// What every attempt of a scan has in common.
#[derive(Debug)]
#[non_exhaustive]
pub struct Measurer<C, P, F> {
    /// Builds the circuits.
    pub circuits: C,
    /// Chooses the helpers.
    pub policy: P,
    /// Makes the estimator of each transfer.
    pub estimator: F,
    /// How web servers prove who they are.
    pub tls: Tls,
    /// How long each stage may take.
    pub timeouts: StageTimeouts,
    /// What each transfer asks for.
    pub transfer: TransferOptions,
    /// The time that records carry.
    pub clock: WallClock,
}

/// What is to be measured, and against what.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Assignment<'a> {
    /// The network in which it is done.
    pub snapshot: &'a NetworkSnapshot,
    /// The relay to measure.
    pub target: Fingerprint,
    /// The web server.
    pub destination: &'a Destination,
    /// Helpers of earlier attempts, to be avoided if others can help.
    pub avoid: &'a [Fingerprint],
}

impl<'a> Assignment<'a> {
    /// `target`, measured for the first time in this scan.
    pub const fn new(
        snapshot: &'a NetworkSnapshot,
        target: Fingerprint,
        destination: &'a Destination,
    ) -> Self {
        Self {
            snapshot,
            target,
            destination,
            avoid: &[],
        }
    }
}

/// A stage that failed, before it is known whom to tell.
struct Problem {
    stage: Stage,
    kind: FailureKind,
    blame: Blame,
    detail: String,
    bytes: u64,
}

impl<C, P, F, E> Measurer<C, P, F>
where
    C: Circuits,
    P: HelperPolicy,
    F: Fn(&RelayFacts) -> E + Send + Sync,
    E: Estimator,
{
    /// A measurer with default limits, whose records start at the time of `clock`.
    pub fn new(circuits: C, policy: P, estimator: F, tls: Tls, clock: WallClock) -> Self {
        Self {
            circuits,
            policy,
            estimator,
            tls,
            timeouts: StageTimeouts::default(),
            transfer: TransferOptions::default(),
            clock,
        }
    }

    /// Makes one attempt. Never fails as such: what goes wrong is the outcome.
    pub async fn measure(
        &self,
        assignment: &Assignment<'_>,
        rng: &mut (impl rand::Rng + Send),
        observer: &impl Observer,
    ) -> Outcome {
        let Some(target) = assignment.snapshot.relay(&assignment.target) else {
            return self.not_in_consensus(assignment.target);
        };
        let mut attempt = Attempt::new(target.into(), Position::Entry, self.clock.now());
        attempt.destination = assignment.destination.to_string();
        let choice = self.policy.choose(
            assignment.snapshot,
            target,
            assignment.destination.port(),
            assignment.avoid,
            rng,
        );
        let Some(choice) = choice else {
            let problem = Problem {
                stage: Stage::Path,
                kind: FailureKind::NoHelper,
                blame: Blame::Path,
                detail: format!(
                    "no relay can help: none is usable as exit to port {} (or as entry, for an exit)",
                    assignment.destination.port()
                ),
                bytes: 0,
            };
            return self.failed(attempt, Timings::default(), problem);
        };
        attempt.position = choice.position;
        attempt.helpers = vec![choice.helper];
        observer.observe(&Event::Attempt(&attempt));

        let mut timings = Timings::default();
        let result = self
            .attempt(
                assignment.destination,
                target,
                &attempt,
                &mut timings,
                observer,
            )
            .await;
        match result {
            Ok(transfer) => Outcome::Measured(Measurement::new(
                attempt,
                self.clock.now(),
                timings,
                vec![transfer],
            )),
            Err(problem) => self.failed(attempt, timings, problem),
        }
    }

    async fn attempt(
        &self,
        destination: &Destination,
        target: &RelayFacts,
        attempt: &Attempt,
        timings: &mut Timings,
        observer: &impl Observer,
    ) -> Result<Transfer, Problem> {
        let position = attempt.position;
        let circuit_problem = |error: CircuitError| Problem {
            stage: error.stage,
            kind: error.kind,
            blame: error.fault.blame(position),
            detail: error.detail,
            bytes: 0,
        };
        let helper = attempt
            .helpers
            .first()
            .copied()
            .unwrap_or(target.fingerprint);
        let path = TwoHops::new(target.fingerprint, position, helper);
        let circuit = self
            .circuits
            .build(path, &self.timeouts, timings)
            .await
            .map_err(circuit_problem)?;
        let begin = Instant::now();
        let stream = circuit
            .connect(destination.host(), destination.port(), &self.timeouts)
            .await
            .map_err(circuit_problem)?;
        timings.begin = Some(begin.elapsed());

        // The circuit lives until the transfer is over.
        if destination.is_tls() {
            let begin = Instant::now();
            let stream = timeout(self.timeouts.tls, self.tls.connect(destination, stream))
                .await
                .map_err(|_| tls_timeout(self.timeouts.tls))?
                .map_err(|error| tls_problem(&error))?;
            timings.tls = Some(begin.elapsed());
            self.transfer(stream, destination, target, attempt, timings, observer)
                .await
        } else {
            self.transfer(stream, destination, target, attempt, timings, observer)
                .await
        }
    }

    async fn transfer<S>(
        &self,
        stream: S,
        destination: &Destination,
        target: &RelayFacts,
        attempt: &Attempt,
        timings: &mut Timings,
        observer: &impl Observer,
    ) -> Result<Transfer, Problem>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut estimator = (self.estimator)(target);
        let mut progress = |bytes| observer.observe(&Event::Progress { attempt, bytes });
        download(
            stream,
            destination,
            &self.transfer,
            &self.timeouts,
            &mut estimator,
            &mut timings.response,
            &mut progress,
        )
        .await
        .map_err(transfer_problem)
    }

    /// The record of a relay that was to be measured but left the consensus.
    fn not_in_consensus(&self, target: Fingerprint) -> Outcome {
        let now = self.clock.now();
        let attempt = Attempt::new(TargetFacts::new(target), Position::Entry, now);
        let problem = Problem {
            stage: Stage::Path,
            kind: FailureKind::UnknownRelay,
            blame: Blame::Target,
            detail: "not in the consensus".to_owned(),
            bytes: 0,
        };
        self.failed(attempt, Timings::default(), problem)
    }

    fn failed(&self, attempt: Attempt, timings: Timings, problem: Problem) -> Outcome {
        let mut failure = Failure::new(
            attempt,
            self.clock.now(),
            problem.stage,
            problem.kind,
            problem.blame,
            problem.detail,
        );
        failure.timings = timings;
        failure.bytes = problem.bytes;
        Outcome::Failed(failure)
    }
}

fn tls_timeout(limit: Duration) -> Problem {
    Problem {
        stage: Stage::Tls,
        kind: FailureKind::Timeout,
        blame: Blame::Destination,
        detail: format!("no handshake within {} s", limit.as_secs_f64()),
        bytes: 0,
    }
}

fn tls_problem(error: &std::io::Error) -> Problem {
    use std::io::ErrorKind;
    let (kind, blame) = match error.kind() {
        // rustls reports alerts and bad certificates as invalid data. An exit
        // that poses as the server looks the same as a server with a wrong
        // certificate, so that the fault is anyone's on the way.
        ErrorKind::InvalidData => (FailureKind::Protocol, Blame::Path),
        _ => (FailureKind::Closed, Blame::Path),
    };
    Problem {
        stage: Stage::Tls,
        kind,
        blame,
        detail: crate::error::chain(error),
        bytes: 0,
    }
}

fn transfer_problem(error: TransferError) -> Problem {
    let blame = match error.kind {
        // A stream or circuit that is cut or dries up may be anyone's doing.
        FailureKind::Closed | FailureKind::Timeout | FailureKind::TooShort => Blame::Path,
        FailureKind::Local => Blame::Scanner,
        // What the server says, verified or not by TLS, is laid at its door.
        _ => Blame::Destination,
    };
    Problem {
        stage: error.stage,
        kind: error.kind,
        blame,
        detail: error.detail,
        bytes: error.bytes,
    }
}
