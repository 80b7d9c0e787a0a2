//! The time that records carry.

use std::time::SystemTime;

use bw_results::UnixMillis;
use tokio::time::Instant;

/// A wall clock: the system's, or one that follows tokio's time and can be paused with it.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    /// `None` for the system's clock.
    anchor: Option<(UnixMillis, Instant)>,
}

impl WallClock {
    /// The system's clock, read anew each time: it may be adjusted, and the machine suspended.
    pub const fn system() -> Self {
        Self { anchor: None }
    }

    /// A clock that shows `now` now and goes on as tokio's time does.
    pub fn starting_at(now: UnixMillis) -> Self {
        Self {
            anchor: Some((now, Instant::now())),
        }
    }

    /// The present time.
    pub fn now(&self) -> UnixMillis {
        match self.anchor {
            Some((start, instant)) => start.after(instant.elapsed()),
            None => SystemTime::now().into(),
        }
    }
}
