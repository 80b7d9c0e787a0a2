//! Stopping in good order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A request from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// SIGINT: somebody stops it.
    Interrupt,
    /// SIGTERM: a service manager ends it.
    Terminate,
    /// SIGHUP: the terminal is gone, or a service is to read its configuration again.
    HangUp,
}

/// The signals that this process is sent.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Catches them from now on.
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.interrupt.recv() => Request::Interrupt,
            _ = self.terminate.recv() => Request::Terminate,
            _ = self.hang_up.recv() => Request::HangUp,
        }
    }
}

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
        let mut signals = Signals::new()?;
        let told = stop.clone();
        tokio::spawn(async move {
            loop {
                let request = signals.next().await;
                if request == Request::HangUp && !hang_up_too {
                    continue;
                }
                let terminated = request == Request::Terminate;
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
