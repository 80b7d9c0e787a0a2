//! Outcomes without their samples, and their identities.

use std::fmt;

use bw_file::{Fingerprint, KilobytesPerSecond};
use sha2::{Digest, Sha256};

use crate::{
    Blame, DescriptorFacts, FailureKind, Measurement, Outcome, Position, Stage, Transfer,
    UnixMillis, Verdict,
};

/// The identity of an outcome, the same in every store: the scanner, the attempt and
/// its result.
///
/// The first 16 bytes of the SHA-256 of the compact JSON array
/// `[scanner, fingerprint, position, started, ended, helpers, destination,
/// stage or null, kind or null, bytes]`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutcomeId([u8; 16]);

impl OutcomeId {
    /// The identity of what `scanner` found.
    pub fn new(scanner: &str, outcome: &Outcome) -> Self {
        let attempt = outcome.attempt();
        let (stage, kind, bytes) = match outcome {
            Outcome::Measured(measurement) => (None, None, measurement.bytes()),
            Outcome::Failed(failure) => (Some(failure.stage), Some(failure.kind), failure.bytes),
        };
        let preimage = (
            scanner,
            attempt.target.fingerprint,
            attempt.position,
            attempt.started,
            outcome.ended(),
            &attempt.helpers,
            &attempt.destination,
            stage,
            kind,
            bytes,
        );
        // Text, numbers and lists: nothing that JSON cannot hold.
        let preimage = serde_json::to_vec(&preimage).unwrap_or_default();
        let digest: [u8; 32] = Sha256::digest(preimage).into();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Self(id)
    }

    /// The identity with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for OutcomeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:032x}", u128::from_be_bytes(self.0)))
    }
}

impl fmt::Debug for OutcomeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutcomeId({self})")
    }
}

/// The part of an outcome that aggregation needs: all but the raw samples and the
/// destination.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct OutcomeSummary {
    /// The relay that was to be measured.
    pub fingerprint: Fingerprint,
    /// Its place in the circuit.
    pub position: Position,
    /// The beginning of the attempt.
    pub started: UnixMillis,
    /// Its end.
    pub ended: UnixMillis,
    /// Payload bytes that came, counted or not.
    pub bytes: u64,
    /// Consensus weight then.
    pub consensus_weight: Option<KilobytesPerSecond>,
    /// `true` if the consensus called it unmeasured then.
    pub unmeasured: Option<bool>,
    /// Rate, burst and observed bandwidth then.
    pub descriptor: Option<DescriptorFacts>,
    /// The other relays of its circuits, in the order of the path.
    pub helpers: Vec<Fingerprint>,
    /// The rates, or what failed.
    pub result: SummaryResult,
    /// The verdict on it.
    pub verdict: Verdict,
}

/// The result of an attempt.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "an attempt succeeds or fails; there is no third way"
)]
pub enum SummaryResult {
    /// The rate of each transfer that has one, in bytes per second.
    Measured(Vec<f64>),
    /// The stage that failed, the kind of failure, and the blame.
    Failed(Stage, FailureKind, Blame),
}

impl From<&Outcome> for OutcomeSummary {
    /// The summary with the [default verdict](Verdict::default_of).
    fn from(outcome: &Outcome) -> Self {
        Self::new(outcome, Verdict::default_of(outcome))
    }
}

impl OutcomeSummary {
    /// The summary of an attempt of which nothing else is known: no bytes, weight,
    /// descriptor or helpers.
    pub const fn of_attempt(
        fingerprint: Fingerprint,
        position: Position,
        started: UnixMillis,
        ended: UnixMillis,
        result: SummaryResult,
        verdict: Verdict,
    ) -> Self {
        Self {
            fingerprint,
            position,
            started,
            ended,
            bytes: 0,
            consensus_weight: None,
            unmeasured: None,
            descriptor: None,
            helpers: Vec::new(),
            result,
            verdict,
        }
    }

    /// The summary of `outcome`, on which this is the verdict.
    pub fn new(outcome: &Outcome, verdict: Verdict) -> Self {
        let attempt = outcome.attempt();
        let result = match outcome {
            Outcome::Measured(measurement) => SummaryResult::Measured(rates(measurement)),
            Outcome::Failed(failure) => {
                SummaryResult::Failed(failure.stage, failure.kind, failure.blame)
            }
        };
        Self {
            fingerprint: attempt.target.fingerprint,
            position: attempt.position,
            started: attempt.started,
            ended: outcome.ended(),
            bytes: outcome.bytes(),
            consensus_weight: attempt.target.consensus_weight,
            unmeasured: attempt.target.unmeasured,
            descriptor: attempt.target.descriptor,
            helpers: attempt.helpers.clone(),
            result,
            verdict,
        }
    }
}

fn rates(measurement: &Measurement) -> Vec<f64> {
    measurement
        .transfers
        .iter()
        .filter_map(Transfer::rate)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn identities_tell_outcomes_apart() {
        let outcome = testing::measured(1, 1_000);
        let id = OutcomeId::new("a", &outcome);
        assert_eq!(id, OutcomeId::new("a", &outcome));
        assert_ne!(id, OutcomeId::new("b", &outcome));
        assert_ne!(id, OutcomeId::new("a", &testing::measured(2, 1_000)));
        assert_ne!(id, OutcomeId::new("a", &testing::measured(1, 1_001)));
        assert_ne!(id, OutcomeId::new("a", &testing::failed(1, 1_000)));
    }

    #[test]
    fn the_identity_of_an_outcome_is_fixed() {
        // A change here makes every import add everything once more.
        let id = OutcomeId::new("scanner", &testing::measured(1, 1_000));
        assert_eq!(id.to_string(), "819c10f4990328e4e20a4207ee98415a");
    }
}
