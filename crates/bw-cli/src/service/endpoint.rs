//! The web server for monitoring: `/metrics`, `/healthz` and `/readyz`.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::{TcpListener, UnixListener};
use tower::limit::ConcurrencyLimitLayer;
use tower_http::timeout::TimeoutLayer;

/// The state of a process that is watched.
pub(crate) trait Watched: Send + Sync + 'static {
    /// Its numbers, in the form of OpenMetrics.
    fn text(&self) -> String;

    /// The event that it waits for instead of doing its job; `None` if it does.
    fn waits_for(&self) -> Option<String>;
}

/// Requests that are answered at a time; a scrape takes milliseconds.
const CONCURRENT: usize = 16;
/// The longest time for an answer.
const LIMIT: Duration = Duration::from_secs(10);
/// OpenMetrics 1.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// An address to listen on: `127.0.0.1:9052` or `unix:/run/bwscan/metrics.sock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("give a path after unix:".to_owned()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| {
                "give an address with a port (127.0.0.1:9052), or unix:PATH".to_owned()
            }),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A socket that listens.
#[derive(Debug)]
pub(crate) enum Endpoint {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Endpoint {
    /// Listens on `address`. A socket file that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// If the address is in use or not ours.
    pub(crate) async fn bind(address: &Address) -> anyhow::Result<Self> {
        let context = || format!("--metrics {address}: cannot listen there");
        match address {
            Address::Tcp(socket) => {
                let listener = TcpListener::bind(socket).await;
                Ok(Self::Tcp(listener.with_context(context)?))
            }
            Address::Unix(path) => {
                if path.exists() && tokio::net::UnixStream::connect(path).await.is_err() {
                    std::fs::remove_file(path).with_context(context)?;
                }
                let listener = UnixListener::bind(path).with_context(context)?;
                Ok(Self::Unix(listener, path.clone()))
            }
        }
    }

    /// Returns the address in use.
    pub(crate) fn address(&self) -> String {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => format!("http://{address}/metrics"),
                Err(error) => error.to_string(),
            },
            Self::Unix(_, path) => format!("unix:{}", path.display()),
        }
    }

    /// Answers requests until `stop` is over.
    pub(crate) async fn serve(
        self,
        watched: Arc<impl Watched>,
        stop: impl Future<Output = ()> + Send + 'static,
    ) {
        let router = Router::new()
            .route("/metrics", get(scrape))
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(ready))
            .layer(TimeoutLayer::with_status_code(
                StatusCode::SERVICE_UNAVAILABLE,
                LIMIT,
            ))
            .layer(ConcurrencyLimitLayer::new(CONCURRENT))
            .with_state(watched as Arc<dyn Watched>);
        let served = match self {
            Self::Tcp(listener) => {
                let server = axum::serve(listener, router);
                server.with_graceful_shutdown(stop).await
            }
            Self::Unix(listener, path) => {
                let server = axum::serve(listener, router);
                let served = server.with_graceful_shutdown(stop).await;
                let _ = std::fs::remove_file(path);
                served
            }
        };
        if let Err(error) = served {
            tracing::error!("the metrics' server ended: {error}");
        }
    }
}

async fn scrape(State(watched): State<Arc<dyn Watched>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, OPEN_METRICS)], watched.text())
}

/// 200 while the service does its job, 503 with the reason while it waits.
async fn ready(State(watched): State<Arc<dyn Watched>>) -> impl IntoResponse {
    match watched.waits_for() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_written() {
        for text in [
            "127.0.0.1:9052",
            "[::1]:9052",
            "unix:/run/bwscan/metrics.sock",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for wrong in ["", "9052", "localhost:9052", "unix:"] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }
}
