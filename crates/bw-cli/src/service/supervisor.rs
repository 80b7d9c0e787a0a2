//! Telling systemd how a service is.
//!
//! Without systemd (no `NOTIFY_SOCKET`) nothing is told.

use std::time::Duration;

use sd_notify::NotifyState;

/// The process that watches this one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Supervisor {
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// Finds it by the environment.
    pub(crate) fn from_environment() -> Self {
        Self {
            watchdog: sd_notify::watchdog_enabled(),
        }
    }

    /// Returns how often [`alive`](Self::alive) is to be called: twice as often as it must.
    pub(crate) fn interval(self) -> Duration {
        const LONGEST: Duration = Duration::from_secs(10);
        self.watchdog
            .map_or(LONGEST, |limit| (limit / 2).min(LONGEST))
    }

    /// The service does its job from now on.
    pub(crate) fn ready(self) {
        tell(&[NotifyState::Ready]);
    }

    /// The service still runs, and this is what it does.
    pub(crate) fn alive(self, status: &str) {
        tell(&[NotifyState::Watchdog, NotifyState::Status(status)]);
    }

    /// The configuration is being read again.
    pub(crate) fn reloading(self) {
        if let Ok(time) = NotifyState::monotonic_usec_now() {
            tell(&[NotifyState::Reloading, time]);
        }
    }

    /// The service ends.
    pub(crate) fn stopping(self) {
        tell(&[NotifyState::Stopping]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("systemd cannot be told: {error}");
    }
}
