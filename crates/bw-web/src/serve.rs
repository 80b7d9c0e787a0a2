//! Connections, and how many and how long.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Connections at a time; others wait in the kernel's queue.
const CONNECTIONS: usize = 512;
/// The longest time for the head of a request, and between two of them.
const HEAD: Duration = Duration::from_secs(15);
/// Bytes of a head at most.
const HEAD_BYTES: usize = 16 << 10;
/// The longest life of a connection: one that watches begins again then.
const LIFE: Duration = Duration::from_secs(3600);

/// Answers on all connections until `stop` is called.
pub(crate) async fn serve(listener: TcpListener, router: Router, stop: &CancellationToken) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = async {
            let seat = Arc::clone(&seats).acquire_owned().await;
            (seat, listener.accept().await)
        };
        tokio::select! {
            () = stop.cancelled() => return,
            _ = connections.join_next(), if !connections.is_empty() => {}
            (seat, accepted) = accepted => {
                let Ok((stream, _)) = accepted else {
                    // Out of descriptors, as a rule: some will be free again.
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                };
                let _ = stream.set_nodelay(true);
                let service = TowerToHyperService::new(router.clone());
                connections.spawn(async move {
                    let _seat = seat;
                    let connection = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(HEAD)
                        .max_buf_size(HEAD_BYTES)
                        .serve_connection(TokioIo::new(stream), service);
                    if let Ok(Err(error)) = tokio::time::timeout(LIFE, connection).await {
                        tracing::debug!("a connection ended: {error}");
                    }
                });
            }
        }
    }
}
