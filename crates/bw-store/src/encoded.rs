//! Outcomes in the form in which the store keeps them.

use std::io;

use bw_results::{Outcome, OutcomeId, OutcomeSummary, UnixMillis, Verdict};

use crate::Supplement;
use crate::codec::OutcomeCodec;

/// Makes [`Encoded`] outcomes, on any thread: that takes more time than writing them.
pub struct Encoder(OutcomeCodec);

/// An outcome with its verdict, ready to be written with [`Import::add`](crate::Import::add).
#[derive(Debug)]
pub struct Encoded {
    pub(crate) id: OutcomeId,
    pub(crate) summary: OutcomeSummary,
    pub(crate) record: Vec<u8>,
    /// The bytes of its [`Supplement`].
    pub(crate) supplement: Option<Vec<u8>>,
}

impl Encoder {
    /// An encoder.
    ///
    /// # Errors
    /// If the compression cannot be set up.
    pub fn new() -> io::Result<Self> {
        OutcomeCodec::new().map(Self)
    }

    /// Encodes an outcome of `scanner` with the verdict on it and, where another program
    /// made it, the supplement.
    ///
    /// # Errors
    /// If compressing or the supplement fails.
    pub fn encode(
        &mut self,
        scanner: &str,
        outcome: &Outcome,
        verdict: Verdict,
        supplement: Option<&impl Supplement>,
    ) -> io::Result<Encoded> {
        Encoded::new(&mut self.0, scanner, outcome, verdict, supplement)
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl Encoded {
    pub(crate) fn new(
        codec: &mut OutcomeCodec,
        scanner: &str,
        outcome: &Outcome,
        verdict: Verdict,
        supplement: Option<&impl Supplement>,
    ) -> io::Result<Self> {
        let supplement = supplement.map(Supplement::to_bytes).transpose()?.flatten();
        Ok(Self {
            id: OutcomeId::new(scanner, outcome),
            summary: OutcomeSummary::new(outcome, verdict),
            record: codec.encode(outcome)?,
            supplement,
        })
    }

    /// The end of the attempt.
    pub const fn ended(&self) -> UnixMillis {
        self.summary.ended
    }
}
