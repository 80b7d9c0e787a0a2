//! Stopping in good order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Tells that the process is to stop, and why.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    token: CancellationToken,
    terminate: Arc<AtomicBool>,
}

impl Stop {
    /// Stops at SIGINT, SIGTERM or SIGHUP. A second signal ends the process at once; nothing
    /// that was recorded is lost by that.
    pub(crate) fn on_signal() -> anyhow::Result<Self> {
        Self::on(true)
    }

    /// The same for those to whom SIGHUP says something else.
    pub(crate) fn on_signal_but_hang_up() -> anyhow::Result<Self> {
        Self::on(false)
    }

    fn on(hang_up_too: bool) -> anyhow::Result<Self> {
        let stop = Self {
            token: CancellationToken::new(),
            terminate: Arc::default(),
        };
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let told = stop.clone();
        tokio::spawn(async move {
            loop {
                let terminated = tokio::select! {
                    _ = interrupt.recv() => false,
                    _ = terminate.recv() => true,
                    _ = hang_up.recv(), if hang_up_too => false,
                };
                if told.token.is_cancelled() {
                    std::process::exit(crate::Exit::Interrupted.code().into());
                }
                told.terminate.store(terminated, Ordering::Relaxed);
                told.token.cancel();
            }
        });
        Ok(stop)
    }

    /// The token that is cancelled.
    pub(crate) const fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Returns true if SIGTERM stopped it, as a service manager sends it.
    pub(crate) fn by_terminate(&self) -> bool {
        self.terminate.load(Ordering::Relaxed)
    }
}

/// A token that a signal cancels, as [`Stop::on_signal`] tells.
pub(crate) fn cancel_on_signal() -> anyhow::Result<CancellationToken> {
    Ok(Stop::on_signal()?.token)
}
