//! The keeper of a network's lines: a thread of this process, or a process of its own.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{fronts, serve};
use crate::manifest::Manifest;
use crate::process::ProcessState;
use crate::{Error, ErrorKind};

/// The name of the process among the network's processes, which no relay can have.
pub(crate) const NAME: &str = "relay-lines";
/// The interval at which such a process looks for its network.
const GLANCE: Duration = Duration::from_secs(1);

/// A command that calls [`serve_lines`] with its last argument, the directory of
/// the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineCommand {
    program: OsString,
    arguments: Vec<OsString>,
}

impl LineCommand {
    /// A program with its first arguments.
    pub fn new(
        program: impl Into<OsString>,
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Self {
        Self {
            program: program.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
        }
    }

    /// Starts the process; its standard error goes to `log`.
    pub(crate) fn start(&self, directory: &Path, log: &Path) -> Result<Child, Error> {
        use std::os::unix::process::CommandExt as _;
        let log = std::fs::File::create(log).map_err(|error| Error::io("writing", log, error))?;
        Command::new(&self.program)
            .args(&self.arguments)
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C in a terminal goes to a whole group.
            .process_group(0)
            .spawn()
            .map_err(|error| Error::io("starting", Path::new(&self.program), error))
    }
}

/// Serves the lines of the network in `directory`, for as long as the network exists: until
/// its directory is gone, or its owner if it has one.
///
/// For the process that [`PlanBuilder::line_command`](crate::PlanBuilder::line_command) names.
///
/// # Errors
/// [`ErrorKind::NoNetwork`] if there is none in the directory, [`ErrorKind::Io`] if
/// the relays' advertised ports cannot be listened on.
pub async fn serve_lines(directory: impl AsRef<Path>) -> Result<(), Error> {
    let directory = directory.as_ref();
    let fronts = fronts(&Manifest::read(directory)?)?;
    tokio::select! {
        served = serve(fronts) => served,
        () = end_of(directory) => Ok(()),
    }
}

async fn end_of(directory: &Path) {
    let exists = || {
        let manifest = Manifest::read(directory).ok()?;
        let gone = manifest.owner?.state() == ProcessState::Gone;
        Some(!gone)
    };
    // A detached network has no owner.
    while Manifest::exists(directory) && exists() != Some(false) {
        tokio::time::sleep(GLANCE).await;
    }
}

/// A thread that serves lines until this is dropped.
#[derive(Debug)]
pub(crate) struct Keeper {
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Serves the lines from now on, with a runtime of its own, so that the caller's may be
    /// busy, and go.
    pub(crate) fn start(manifest: &Manifest) -> Result<Self, Error> {
        let fronts = fronts(manifest)?;
        let failed =
            |error| Error::new(ErrorKind::Io, "starting a thread for lines").with_source(error);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let (end, ended) = oneshot::channel();
        let work = move || {
            let served = runtime.block_on(async {
                tokio::select! {
                    served = serve(fronts) => served,
                    _ = ended => Ok(()),
                }
            });
            if let Err(error) = served {
                tracing::error!("{error}");
            }
        };
        let thread = std::thread::Builder::new()
            .name(NAME.to_owned())
            .spawn(work)
            .map_err(failed)?;
        Ok(Self {
            end: Some(end),
            thread: Some(thread),
        })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
