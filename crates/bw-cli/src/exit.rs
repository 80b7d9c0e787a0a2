//! Exit codes, and the report of an error.

use std::io::Write;
use std::process::ExitCode;

/// The exit codes of `bwscan`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// 0: everything was done.
    Success,
    /// 1: it ran, but what came out is not good enough (or there is nothing).
    NotGoodEnough,
    /// 2: the command line or a configuration cannot be used.
    Usage,
    /// 3: the Tor network or its directory cannot be had.
    Network,
    /// 4: no destination works.
    Destination,
    /// 5: the store of results, or another file, cannot be read or written.
    Store,
    /// 6: the new bandwidth file is not fit to be published; the old one stays.
    NotPublished,
    /// 130: stopped by SIGINT or SIGTERM; the scan can be continued.
    Interrupted,
}

impl Exit {
    /// The code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::NotGoodEnough => 1,
            Self::Usage => 2,
            Self::Network => 3,
            Self::Destination => 4,
            Self::Store => 5,
            Self::NotPublished => 6,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// An error of the command line itself: wrong values, options that do not fit.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);

/// The network's facts are missing or too old.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct FactsError(pub(crate) String);

/// Prints an error with its causes and gives the exit code that belongs to it.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if is_broken_pipe(error) {
        // Whoever read our output has seen enough.
        return Exit::Success.into();
    }
    if let Some(error) = error.downcast_ref::<clap::Error>() {
        // Not always one: help that was asked for, on standard output.
        let _ = error.print();
        return if error.use_stderr() {
            Exit::Usage.into()
        } else {
            Exit::Success.into()
        };
    }
    let text = text(error);
    let _ = writeln!(std::io::stderr(), "bwscan: {text}");
    classify(error).into()
}

/// An error with its causes, in one line.
pub(crate) fn text(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let part = cause.to_string();
        // Some libraries repeat their cause in their own text.
        if !text.contains(&part) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&part);
        }
    }
    text
}

/// Returns true if the reader of our output has gone away.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

fn classify(error: &anyhow::Error) -> Exit {
    for cause in error.chain() {
        if cause.is::<UsageError>()
            || cause.is::<bw_server::KeyError>()
            || cause.is::<bw_server::CertificateError>()
        {
            return Exit::Usage;
        }
        if cause.is::<FactsError>() {
            return Exit::Network;
        }
        if let Some(error) = cause.downcast_ref::<bw_sbws::GenerateError>() {
            return match error {
                bw_sbws::GenerateError::NoResults { .. } => Exit::NotGoodEnough,
                _ => Exit::Usage,
            };
        }
        if let Some(error) = cause.downcast_ref::<bw_measure::Error>() {
            return match error.kind() {
                bw_measure::ErrorKind::Configuration => Exit::Usage,
                bw_measure::ErrorKind::Directory => Exit::Network,
                bw_measure::ErrorKind::Destination => Exit::Destination,
                _ => Exit::Store,
            };
        }
        if let Some(error) = cause.downcast_ref::<bw_aggregate::Error>() {
            return match error.kind() {
                bw_aggregate::ErrorKind::NothingMeasured => Exit::NotGoodEnough,
                _ => Exit::Store,
            };
        }
        if cause.is::<bw_store::Error>() || cause.is::<bw_results::DocumentError>() {
            return Exit::Store;
        }
        if let Some(error) = cause.downcast_ref::<bw_testnet::Error>() {
            return match error.kind() {
                bw_testnet::ErrorKind::Plan => Exit::Usage,
                _ => Exit::Network,
            };
        }
    }
    Exit::Store
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_classified_through_their_context() {
        let cases = [
            (anyhow::Error::new(UsageError("no".to_owned())), Exit::Usage),
            (
                bw_measure::Error::new(bw_measure::ErrorKind::Directory, "no").into(),
                Exit::Network,
            ),
            (
                bw_measure::Error::new(bw_measure::ErrorKind::Destination, "no").into(),
                Exit::Destination,
            ),
            (std::io::Error::other("no").into(), Exit::Store),
        ];
        for (error, exit) in cases {
            assert_eq!(classify(&error.context("while testing")), exit);
        }
    }
}
