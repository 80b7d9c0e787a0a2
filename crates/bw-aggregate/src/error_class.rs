//! The classes under which a bandwidth file counts failures.

use bw_results::{FailureKind, Stage};

/// The key of a relay line that counts failures of this class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorClass {
    /// `error_circ`: the circuit could not be built.
    Circuit,
    /// `error_destination`: no web server was usable.
    Destination,
    /// `error_misc`: anything else.
    Misc,
    /// `error_second_relay`: no relay could help.
    SecondRelay,
    /// `error_stream`: the stream, the request or the transfer failed.
    Stream,
}

impl ErrorClass {
    /// The class of a failure of this kind at `stage`.
    pub const fn of(stage: Stage, kind: FailureKind) -> Self {
        match (stage, kind) {
            (_, FailureKind::NoHelper) => Self::SecondRelay,
            (_, FailureKind::NoDestination) => Self::Destination,
            (_, FailureKind::Local | FailureKind::UnknownRelay) => Self::Misc,
            (Stage::Channel | Stage::Create | Stage::Extend, _) => Self::Circuit,
            (Stage::Begin | Stage::Tls | Stage::Http | Stage::Transfer | Stage::Content, _) => {
                Self::Stream
            }
            _ => Self::Misc,
        }
    }
}
