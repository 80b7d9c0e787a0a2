//! Remembering rounds from one process to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use bw_file::{BytesPerSecond, Fingerprint};
use bw_results::{
    Measurement, NetworkSnapshot, Outcome, Scan, ScanId, ScanParameters, UnixMillis, Verdict,
};

/// Keeps what [`Rounds`](crate::Rounds) do: in a real scanner on disk.
///
/// Calls for something from before may wait for the disk. All others are made while
/// measurements run, so they return at once.
pub trait Journal: Send + Sync {
    /// Names a record that was kept.
    type Id: Clone + Send + Sync;
    /// Tells why something cannot be kept or read.
    type Error: Error + Send + Sync + 'static;

    /// Returns what is known of relays that were measured since `since`.
    ///
    /// # Errors
    /// If it cannot be read.
    fn known(&self, since: UnixMillis) -> Result<BTreeMap<Fingerprint, Known>, Self::Error>;

    /// Returns how many bytes of payload were moved since `since`.
    ///
    /// # Errors
    /// If it cannot be read.
    fn spent(&self, since: UnixMillis) -> Result<u64, Self::Error>;

    /// Returns the newest round of `scanner` that was interrupted. Older ones are given up
    /// at `now`.
    ///
    /// # Errors
    /// If it cannot be read.
    fn interrupted(
        &self,
        scanner: &str,
        parameters: &ScanParameters,
        now: UnixMillis,
    ) -> Result<Option<Interrupted<Self::Id>>, Self::Error>;

    /// Begins a round over `relays`. If `abandon`, interrupted ones are given up.
    ///
    /// # Errors
    /// If it cannot be kept.
    fn begin(
        &self,
        scan: &Scan,
        relays: &[Fingerprint],
        network: &NetworkSnapshot,
        abandon: bool,
    ) -> Result<(), Self::Error>;

    /// Adds relays to a round.
    ///
    /// # Errors
    /// If it cannot be kept.
    fn join(&self, scan: ScanId, relays: &[Fingerprint]) -> Result<(), Self::Error>;

    /// Notes the network in which `rounds` go on.
    ///
    /// # Errors
    /// If it cannot be kept.
    fn network(&self, rounds: &[ScanId], network: &NetworkSnapshot) -> Result<(), Self::Error>;

    /// Keeps a record of the round `scan`, with its verdict, and whether its relay is settled.
    ///
    /// # Errors
    /// If it cannot be kept.
    fn record(
        &self,
        scan: ScanId,
        record: &Outcome,
        verdict: Verdict,
        settled: bool,
    ) -> Result<Self::Id, Self::Error>;

    /// Replaces the verdict of a record.
    ///
    /// # Errors
    /// If it cannot be kept.
    fn revise(&self, record: &Self::Id, verdict: Verdict) -> Result<(), Self::Error>;

    /// Ends a round of which every relay is settled.
    ///
    /// # Errors
    /// If it cannot be kept.
    fn finish(&self, scan: ScanId, at: UnixMillis) -> Result<(), Self::Error>;

    /// Waits until everything is kept.
    ///
    /// # Errors
    /// If something could not be kept.
    fn flush(&self) -> Result<(), Self::Error>;
}

/// A relay as earlier rounds know it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "journals make it")]
pub struct Known {
    /// End of the newest measurement that settled it.
    pub last_measured: Option<UnixMillis>,
    /// Its rate, or what it carries at least.
    pub rate: Option<BytesPerSecond>,
}

/// A round that was interrupted.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "journals make it")]
pub struct Interrupted<I> {
    /// The round.
    pub scan: ScanId,
    /// All relays that it covers.
    pub targets: BTreeSet<Fingerprint>,
    /// Those of them that are not settled, each with its records.
    pub pending: BTreeMap<Fingerprint, Vec<(I, Measurement, Verdict)>>,
    /// Relays that were measured.
    pub measured: usize,
    /// Relays that were given up.
    pub failed: usize,
    /// Payload bytes so far.
    pub bytes: u64,
}
