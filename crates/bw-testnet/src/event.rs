//! Events while a network comes up.

use std::fmt;
use std::time::{Duration, SystemTime};

/// A step of [`Network::up`](crate::Network::up), for showing progress; its
/// text is one line for people.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Keys have been made for `done` of `total` nodes.
    Keys {
        /// Nodes with keys.
        done: usize,
        /// All nodes.
        total: usize,
    },
    /// All tor processes have been started.
    Started {
        /// All nodes.
        total: usize,
    },
    /// Every authority has the descriptors of `known` of `total` nodes.
    Described {
        /// Nodes that every authority knows.
        known: usize,
        /// All nodes.
        total: usize,
    },
    /// The authorities vote; the first consensus is due.
    Voting {
        /// When the consensus is due.
        due: SystemTime,
    },
    /// `listed` of `total` nodes are in the consensus of every authority, with
    /// the flags they should have.
    Listed {
        /// Nodes in the consensus.
        listed: usize,
        /// All nodes.
        total: usize,
    },
    /// `holding` of `total` nodes have that consensus themselves.
    Holding {
        /// Nodes with a consensus that lists all.
        holding: usize,
        /// All nodes.
        total: usize,
    },
    /// The network is ready.
    Ready {
        /// Since the call.
        elapsed: Duration,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys { done, total } => write!(f, "keys made: {done} of {total}"),
            Self::Started { total } => write!(f, "{total} tor processes started"),
            Self::Described { known, total } => {
                write!(f, "known to every authority: {known} of {total}")
            }
            Self::Voting { due } => {
                let due = humantime::format_rfc3339_seconds(*due);
                write!(f, "authorities vote; consensus due at {due}")
            }
            Self::Listed { listed, total } => {
                write!(f, "in the consensus with all flags: {listed} of {total}")
            }
            Self::Holding { holding, total } => {
                write!(f, "holding that consensus: {holding} of {total}")
            }
            Self::Ready { elapsed } => write!(f, "ready after {:.1} s", elapsed.as_secs_f64()),
        }
    }
}
