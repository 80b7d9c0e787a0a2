//! Why a relay has no weight.

use std::fmt;

use bw_file::BytesPerSecond;
use bw_results::{Blame, FailureKind, Stage};
use serde::Serialize;

use crate::plausible::LimitBasis;

/// Why a relay has no weight in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// Its outcomes are dated ahead of the clock, so that none of them counts.
    AheadOfClock {
        /// Their number.
        outcomes: u64,
    },
    /// It is a directory authority: authorities carry no traffic for clients,
    /// so none of them is given a weight.
    Authority,
    /// Its observed bandwidth is not known: neither the snapshot nor any
    /// measurement has a server descriptor of it.
    NoDescriptor,
    /// It was measured, but is not in the consensus any more.
    NotInConsensus,
    /// It was not tried in the time that is looked at.
    NotTried,
    /// Every attempt failed.
    OnlyFailures {
        /// Their number.
        failures: u64,
        /// Where the newest failed.
        stage: Stage,
        /// The failure then.
        kind: FailureKind,
    },
    /// Every attempt failed, through no fault of its own.
    Excused {
        /// Their number.
        failures: u64,
        /// The party at fault for the newest.
        by: Blame,
    },
    /// Its descriptor has a number that tor takes from no relay.
    ImpossibleDescriptor {
        /// The one that is meant.
        field: DescriptorField,
        /// The number.
        value: BytesPerSecond,
    },
    /// All its rates are beyond what can be believed of it.
    Implausible {
        /// The highest rate that would be believed.
        limit: BytesPerSecond,
        /// The evidence for that.
        basis: LimitBasis,
    },
    /// Its measurements hold no rate.
    NoRate,
    /// All its measurements were made within too short a time.
    TooClose {
        /// Their number.
        measurements: u64,
    },
    /// Too few measurements are left.
    TooFew {
        /// Their number.
        measurements: u64,
        /// The least number.
        needed: u64,
    },
    /// All its measurements are too old.
    TooOld {
        /// Their number.
        measurements: u64,
    },
}

impl Reason {
    /// The stable name used in records and statistics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::AheadOfClock { .. } => "ahead_of_clock",
            Self::Authority => "authority",
            Self::NoDescriptor => "no_descriptor",
            Self::NotInConsensus => "not_in_consensus",
            Self::NotTried => "not_tried",
            Self::OnlyFailures { .. } => "only_failures",
            Self::Excused { .. } => "excused",
            Self::ImpossibleDescriptor { .. } => "impossible_descriptor",
            Self::Implausible { .. } => "implausible",
            Self::NoRate => "no_rate",
            Self::TooClose { .. } => "too_close",
            Self::TooFew { .. } => "too_few",
            Self::TooOld { .. } => "too_old",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AheadOfClock { outcomes } => {
                write!(
                    f,
                    "all {outcomes} outcomes of it are dated ahead of the clock"
                )
            }
            Self::Authority => f.write_str("a directory authority, which is given no weight"),
            Self::NoDescriptor => f.write_str("no server descriptor of it is known"),
            Self::NotInConsensus => f.write_str("no longer in the consensus"),
            Self::NotTried => f.write_str("not tried yet"),
            Self::OnlyFailures {
                failures,
                stage,
                kind,
            } => write!(
                f,
                "{failures} of {failures} attempts failed, the newest at {stage} ({kind})"
            ),
            Self::Excused { failures, by } => write!(
                f,
                "{failures} attempts failed, none through its own fault, the newest through the {by}'s"
            ),
            Self::ImpossibleDescriptor { field, value } => write!(
                f,
                "its descriptor has {value} as {}, and authorities refuse more than {}",
                field.as_str(),
                DescriptorField::MAX
            ),
            Self::Implausible { limit, basis } => write!(
                f,
                "all its rates are beyond {} B/s, the most that is believed by {}",
                limit.value(),
                basis.as_str()
            ),
            Self::NoRate => f.write_str("no measurement of it holds a usable rate"),
            Self::TooClose { measurements } => write!(
                f,
                "its {measurements} measurements are too close to each other"
            ),
            Self::TooFew {
                measurements,
                needed,
            } => write!(f, "{measurements} measurements of the {needed} needed"),
            Self::TooOld { measurements } => {
                write!(f, "its {measurements} measurements are too old")
            }
        }
    }
}

/// One of the three numbers of a descriptor's `bandwidth` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DescriptorField {
    /// `bandwidth-avg`
    Rate,
    /// `bandwidth-burst`
    Burst,
    /// `bandwidth-observed`
    Observed,
}

impl DescriptorField {
    /// The largest number that tor parses in a `bandwidth` line, in bytes per
    /// second (`INT_MAX`; tor 0.4.8, routerparse.c).
    pub const MAX: u64 = 2_147_483_647;

    /// Its name in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Burst => "burst",
            Self::Observed => "observed bandwidth",
        }
    }
}
