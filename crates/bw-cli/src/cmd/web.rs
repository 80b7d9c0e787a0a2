//! `bwscan web`: the report and the running round, served over HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use bw_report::Site;
use bw_watch::{Shared, attach};
use bw_web::Web;
use clap::Args as ClapArgs;
use tokio::net::TcpListener;

use super::publication::directory;
use super::report::Sources;
use super::scaling::ScalingArgs;
use crate::exit::Exit;
use crate::paths::DataDir;
use crate::signals::cancel_on_signal;
use crate::text::{print, warn};
use crate::values;

/// Options of `bwscan web`.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct WebArgs {
    /// Listen on this address and port. Only this machine reaches the default; put a proxy
    /// with TLS before anything else.
    #[arg(short, long, default_value = "127.0.0.1:9053", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
    /// Read the store again this often, if it has changed.
    #[arg(long, default_value = "1m", value_parser = values::time, value_name = "TIME")]
    pub(crate) refresh: Duration,
    /// Compare these bandwidth files, each with its own --file.
    #[arg(long = "file", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Show the history of the dated files in this directory [default: v3bw in the
    /// data directory].
    #[arg(long, value_name = "DIR")]
    pub(crate) v3bw: Option<PathBuf>,
    /// Compare rates with the true capacities in this file, as "bwscan testnet up" writes it.
    #[arg(long, hide_short_help = true, value_name = "FILE")]
    pub(crate) truth: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) scaling: ScalingArgs,
}

/// Pages tell ages: they are made again after this time in any case.
const OLDEST: Duration = Duration::from_secs(600);
/// The shortest time between two readings, so that they do not take all of a processor.
const SHORTEST: Duration = Duration::from_secs(5);

/// Serves until it is told to end.
pub(super) async fn run(args: &WebArgs, data: &DataDir) -> anyhow::Result<Exit> {
    let stop = cancel_on_signal()?;
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("--listen {}: cannot listen there", args.listen))?;
    let Some(site) = stop.run_until_cancelled(read(args, data)).await else {
        return Ok(Exit::Interrupted);
    };
    let live = Shared::default();
    let web = Web::new(site?, live.clone());
    print(format!("http://{}/", listener.local_addr()?))?;
    let socket = data.socket();
    tokio::select! {
        () = web.serve(listener, &stop) => {}
        () = refreshing(args, data, &web) => {}
        never = attach(&socket, &live) => match never {},
    }
    Ok(Exit::Success)
}

/// Reads store and files, on a thread of its own: a month takes seconds.
async fn read(args: &WebArgs, data: &DataDir) -> anyhow::Result<Site> {
    let (args, data) = (args.clone(), data.clone());
    let read = tokio::task::spawn_blocking(move || {
        let sources = Sources {
            scaling: &args.scaling,
            v3bw: args.v3bw.as_deref(),
            compared: &args.files,
            truth: args.truth.as_deref(),
        };
        let mut site = sources.site(&data)?;
        site.add_live_page();
        Ok(site)
    });
    read.await.context("the store cannot be read")?
}

/// Publishes what is new, for ever.
async fn refreshing(args: &WebArgs, data: &DataDir, web: &Web) {
    let mut before = sources_state(args, data);
    let mut made = Instant::now();
    loop {
        tokio::time::sleep(args.refresh.max(SHORTEST)).await;
        let now = sources_state(args, data);
        if now == before && made.elapsed() < OLDEST {
            continue;
        }
        match read(args, data).await {
            Ok(site) => {
                web.publish(site);
                (before, made) = (now, Instant::now());
            }
            Err(error) => warn(&format!("the old pages stay: {error:#}")),
        }
    }
}

/// When stores and files changed last.
fn sources_state(args: &WebArgs, data: &DataDir) -> Vec<Option<(u64, SystemTime)>> {
    let stores = &args.scaling.stores.stores;
    let stores = if stores.is_empty() {
        vec![data.store()]
    } else {
        stores.clone()
    };
    let logs: Vec<PathBuf> = stores
        .iter()
        .map(|store| {
            let mut path = store.clone().into_os_string();
            path.push("-wal");
            path.into()
        })
        .collect();
    let files = [directory(args.v3bw.as_deref(), data)];
    let paths = stores.iter().chain(&logs).chain(&args.files).chain(&files);
    paths
        .map(|path| {
            let facts = std::fs::metadata(path).ok()?;
            Some((facts.len(), facts.modified().ok()?))
        })
        .collect()
}
