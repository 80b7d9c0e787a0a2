//! `bwscan web`: the report and the running round, served over HTTP.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use bw_report::Site;
use bw_watch::{Shared, attach};
use bw_web::Web;
use clap::Args as ClapArgs;
use tokio::net::TcpListener;

use super::report::Sources;
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
    #[command(flatten)]
    pub(crate) sources: Sources,
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
    let Some(site) = stop.run_until_cancelled(read(&args.sources, data)).await else {
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
async fn read(sources: &Sources, data: &DataDir) -> anyhow::Result<Site> {
    let (sources, data) = (sources.clone(), data.clone());
    let read = tokio::task::spawn_blocking(move || {
        let mut site = sources.site(&data)?;
        site.add_live_page();
        Ok(site)
    });
    read.await.context("the store cannot be read")?
}

/// Publishes what is new, for ever.
async fn refreshing(args: &WebArgs, data: &DataDir, web: &Web) {
    let mut before = args.sources.state(data);
    let mut made = Instant::now();
    loop {
        tokio::time::sleep(args.refresh.max(SHORTEST)).await;
        let now = args.sources.state(data);
        if now == before && made.elapsed() < OLDEST {
            continue;
        }
        match read(&args.sources, data).await {
            Ok(site) => {
                let web = web.clone();
                let _ = tokio::task::spawn_blocking(move || web.publish(site)).await;
                (before, made) = (now, Instant::now());
            }
            Err(error) => warn(&format!("the old pages stay: {error:#}")),
        }
    }
}
