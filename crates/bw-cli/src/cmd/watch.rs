//! `bwscan watch`: a running scan on the terminal.

use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::Context;
use bw_watch::{Shared, attach, show};
use clap::Args as ClapArgs;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use crate::exit::{Exit, UsageError};
use crate::logging::Hold;
use crate::paths::DataDir;
use crate::signals::Stop;
use crate::text::print;

/// Options of `bwscan watch`.
#[derive(Debug, ClapArgs)]
pub(crate) struct WatchArgs {
    /// Attach to the scanner with this socket [default: watch.sock in the data directory].
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Print each event as a line of JSON, and end with the scan.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Shows the scan that runs.
pub(super) async fn run(args: &WatchArgs, data: &DataDir) -> anyhow::Result<Exit> {
    let socket = args.socket.clone().unwrap_or_else(|| data.socket());
    let stop = Stop::on_signal()?;
    if args.json {
        let printed = print_events(&socket);
        let printed = stop.token().run_until_cancelled(printed).await;
        return printed.unwrap_or(Ok(Exit::Interrupted));
    }
    let shared = Shared::default();
    tokio::select! {
        shown = on_terminal(&shared, false, stop.token()) => shown?,
        never = attach(&socket, &shared) => match never {},
    }
    Ok(Exit::Success)
}

/// Shows `state` on the terminal until somebody leaves it or `cancel` is called.
pub(super) async fn on_terminal(
    state: &Shared,
    stops_scan: bool,
    cancel: &CancellationToken,
) -> anyhow::Result<()> {
    let _hold = Hold::new();
    match show(state, stops_scan, cancel).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            let text =
                format!("{error}; without one use \"bwscan watch --json\" or plain progress");
            Err(UsageError(text).into())
        }
        Err(error) => Err(error).context("the terminal cannot be used"),
    }
}

/// Prints what the scanner tells, as it comes.
async fn print_events(socket: &std::path::Path) -> anyhow::Result<Exit> {
    let stream = UnixStream::connect(socket).await.with_context(|| {
        format!(
            "{}: no scanner runs here; start \"bwscan scan\" or give --data-dir",
            socket.display()
        )
    })?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next_line().await? {
        print(line)?;
    }
    Ok(Exit::Success)
}
