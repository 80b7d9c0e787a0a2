//! The most that a scan may take of everything.

use std::time::Duration;

use bw_file::BytesPerSecond;
use bw_results::{Direction, Position};

/// The most that a scan may take of everything, and how hard it tries.
///
/// The public network is other people's: the defaults are those of a polite
/// guest with a line of 100 Mbit/s.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// The most that all measurements together may take of the scanner's own link; 0 for no limit.
    /// Default 12.5 MB/s (100 Mbit/s).
    pub link: BytesPerSecond,
    /// The rate that each destination may be asked for; `None` if only the link limits.
    pub destination: Option<BytesPerSecond>,
    /// The most circuits at a time, which also bounds memory: each may hold a
    /// congestion window of cells. Default 100.
    pub circuits: usize,
    /// The most circuits begun in a second: hosters take many new connections
    /// for an attack. Default 20.
    pub circuits_per_second: u32,
    /// The most payload in 24 hours; `None` for no limit.
    pub bytes_per_day: Option<u64>,
    /// The most helpers of one measurement. Default 8.
    pub helpers: usize,
    /// The rate kept free for a target on its helpers, as a multiple of the expected one,
    /// until its rate is seen: what is expected is uncertain, and a token
    /// bucket lets more pass at first. Default 1.6.
    pub headroom: f64,
    /// The number of tries before a relay is given up; twice as many if a circuit
    /// through it was complete once. Default 3.
    pub attempts: u32,
    /// The failures in a row, of whatever relays, that make it doubtful that
    /// anything works; then fast relays are tried to find out. Default 10.
    pub doubt: u32,
    /// The time for which nothing may work before the scan ends, once something has
    /// worked. Default 10 min.
    pub outage: Duration,
    /// The time for which others may overtake a relay that does not fit. Default 2 s.
    pub patience: Duration,
    /// Where in the circuit relays are measured.
    pub placement: Placement,
    /// The direction of the payload.
    pub direction: Direction,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            link: BytesPerSecond::new(12_500_000),
            destination: None,
            circuits: 100,
            circuits_per_second: 20,
            bytes_per_day: None,
            helpers: 8,
            headroom: 1.6,
            attempts: 3,
            doubt: 10,
            outage: Duration::from_secs(600),
            patience: Duration::from_secs(2),
            placement: Placement::default(),
            direction: Direction::Download,
        }
    }
}

/// Where in the circuit relays are measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Placement {
    /// Exits as exits, all others as entries; an exit for which there is no
    /// entry as entry too.
    #[default]
    Natural,
    /// All as entries.
    Entry,
    /// Exits as exits; others cannot be measured.
    Exit,
    /// As [`Natural`](Self::Natural), and exits as entries too, in a second
    /// measurement.
    Both,
}

impl Placement {
    pub(super) const fn positions(self) -> &'static [Position] {
        match self {
            Self::Natural | Self::Both => &[Position::Exit, Position::Entry],
            Self::Entry => &[Position::Entry],
            Self::Exit => &[Position::Exit],
        }
    }

    /// The positions of a further measurement, after one in `position`.
    pub(super) fn then(self, position: Position) -> Option<&'static [Position]> {
        (self == Self::Both && position == Position::Exit).then_some(&[Position::Entry])
    }
}
