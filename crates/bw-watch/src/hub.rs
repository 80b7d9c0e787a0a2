//! Tells all who watch what happens in a scan.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bw_file::Fingerprint;
use bw_measure::{Event, Observer};
use bw_results::UnixMillis;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, broadcast};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::event::ScanEvent;
use crate::shared::Shared;

/// The most who watch at a time; each may lag behind by [`LINES`].
const WATCHERS: usize = 16;
/// Lines that wait for a slow reader; then it gets a snapshot in their place. With a hundred
/// measurements at a time some 900 lines come in a second.
const LINES: usize = 2048;
/// The least time between two lines on the bytes of a measurement.
const QUARTER: u64 = 250;
/// A reader that takes no line for so long is let go.
const PATIENCE: Duration = Duration::from_secs(10);

/// A line on the socket: an event and when it came.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    /// In milliseconds since the Unix epoch.
    pub(crate) time: u64,
    #[serde(flatten)]
    pub(crate) event: ScanEvent,
}

/// Adds events up, and tells all who watch.
///
/// It is an [`Observer`], and its [socket](Self::listen) gives all events as JSON lines, after
/// a snapshot of what was before. Clones are the same hub.
#[derive(Clone, Debug)]
pub struct Hub {
    shared: Shared,
    lines: broadcast::Sender<Arc<str>>,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    nicknames: HashMap<Fingerprint, String>,
    /// When the bytes of an attempt were last told.
    told: HashMap<Fingerprint, u64>,
}

/// A socket on which a [`Hub`] listens; it is removed when this is dropped.
#[derive(Debug)]
pub struct Listening {
    path: PathBuf,
    _stop: DropGuard,
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Hub {
    /// A hub to which nothing was told yet.
    pub fn new() -> Self {
        Self {
            shared: Shared::default(),
            lines: broadcast::Sender::new(LINES),
            known: Arc::default(),
        }
    }

    /// Says whose scan it is, and how many bytes per second its link may take (0 without a
    /// limit).
    pub fn introduce(&self, scanner: &str, link: u64) {
        let mut inner = self.shared.lock();
        scanner.clone_into(&mut inner.state.scanner);
        inner.state.link = link;
    }

    /// The state that the events add up to.
    pub fn state(&self) -> Shared {
        self.shared.clone()
    }

    /// Tells an event that is not the scan's own.
    pub fn say(&self, text: &str) {
        self.tell(ScanEvent::Said {
            text: text.to_owned(),
        });
    }

    /// Listens on a socket at `path` until the answer is dropped. A file that is there is
    /// replaced: the caller knows that no other scanner uses it. Only the user who runs this may
    /// connect.
    ///
    /// # Errors
    /// If the socket cannot be made.
    pub fn listen(&self, path: &Path) -> std::io::Result<Listening> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        let stop = CancellationToken::new();
        let listening = Listening {
            path: path.to_owned(),
            _stop: stop.clone().drop_guard(),
        };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        let hub = self.clone();
        tokio::spawn(async move {
            stop.run_until_cancelled(hub.serve(listener)).await;
        });
        Ok(listening)
    }

    async fn serve(self, listener: UnixListener) {
        let watchers = Arc::new(Semaphore::new(WATCHERS));
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        // Watchers end with this task.
        let mut tasks = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                _ = seconds.tick() => self.tell(ScanEvent::Tick),
                _ = tasks.join_next(), if !tasks.is_empty() => {}
                accepted = listener.accept() => {
                    let Ok((stream, _)) = accepted else {
                        // Out of descriptors, as a rule: some will be free again.
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        continue;
                    };
                    let Ok(permit) = Arc::clone(&watchers).try_acquire_owned() else {
                        continue;
                    };
                    let hub = self.clone();
                    tasks.spawn(async move {
                        let _permit = permit;
                        if let Err(error) = hub.write_to(stream).await {
                            tracing::debug!("a watcher went away: {error}");
                        }
                    });
                }
            }
        }
    }

    /// Writes a snapshot and then lines to one who watches.
    async fn write_to(&self, mut stream: UnixStream) -> std::io::Result<()> {
        let (snapshot, mut lines) = self.subscribe();
        write(&mut stream, &snapshot).await?;
        loop {
            match lines.recv().await {
                Ok(line) => write(&mut stream, &line).await?,
                Err(RecvError::Lagged(_)) => {
                    let (snapshot, again) = self.subscribe();
                    lines = again;
                    write(&mut stream, &snapshot).await?;
                }
                Err(RecvError::Closed) => return Ok(()),
            }
        }
    }

    /// A snapshot, and all lines after it.
    fn subscribe(&self) -> (Arc<str>, broadcast::Receiver<Arc<str>>) {
        // Lines are sent with the lock held: none is lost or counted twice.
        let inner = self.shared.lock();
        let state = Box::new(inner.state.clone());
        let snapshot = line(state.now, ScanEvent::Snapshot { state });
        (snapshot, self.lines.subscribe())
    }

    fn tell(&self, event: ScanEvent) {
        let now = UnixMillis::from(SystemTime::now()).value();
        let mut inner = self.shared.lock();
        if self.lines.receiver_count() > 0 && self.is_worth_a_line(now, &event) {
            let _ = self.lines.send(line(now, event.clone()));
        }
        inner.state.apply(now, event);
    }

    /// True if an event is told; the bytes of an attempt are four times a second.
    fn is_worth_a_line(&self, now: u64, event: &ScanEvent) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            ScanEvent::Progress { fingerprint, .. } => {
                let told = known.told.entry(*fingerprint).or_default();
                let is_due = now.saturating_sub(*told) >= QUARTER;
                if is_due {
                    *told = now;
                }
                return is_due;
            }
            ScanEvent::Started { .. } => known.told.clear(),
            _ => {}
        }
        true
    }

    /// Adds the names of helpers.
    fn name(&self, event: &mut ScanEvent) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let name = |relay: &Fingerprint| known.nicknames.get(relay).cloned().unwrap_or_default();
        match event {
            ScanEvent::Attempt(facts) => {
                facts.helper_names = facts.helpers.iter().map(name).collect();
            }
            ScanEvent::Estimate { helpers, .. } => {
                for helper in helpers {
                    helper.nickname = name(&helper.fingerprint);
                }
            }
            _ => {}
        }
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self::new()
    }
}

impl Observer for Hub {
    fn observe(&self, event: &Event<'_>) {
        if let Event::Network(network) = event {
            let relays = network.relays.iter();
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.nicknames = relays
                .map(|relay| (relay.fingerprint, relay.nickname.clone()))
                .collect();
        }
        if let Some(mut event) = ScanEvent::new(event) {
            self.name(&mut event);
            self.tell(event);
        }
    }
}

fn line(time: u64, event: ScanEvent) -> Arc<str> {
    let mut text = serde_json::to_string(&Line { time, event }).unwrap_or_default();
    text.push('\n');
    text.into()
}

async fn write(stream: &mut UnixStream, line: &str) -> std::io::Result<()> {
    tokio::time::timeout(PATIENCE, stream.write_all(line.as_bytes())).await?
}
