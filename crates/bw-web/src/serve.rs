//! Connections, and how many and how long.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutWriter;
use tokio_util::sync::CancellationToken;

/// Connections at a time; others wait in the kernel's queue.
const CONNECTIONS: usize = 512;
/// The longest time for the head of a request, and between two of them.
const HEAD: Duration = Duration::from_secs(15);
/// Bytes of a head at most.
const HEAD_BYTES: usize = 16 << 10;
/// The longest time in which a client takes nothing of an answer.
const STALLED: Duration = Duration::from_secs(30);
/// The longest life of a connection: one that watches begins again then.
const LIFE: Duration = Duration::from_secs(3600);

/// Answers on all connections until `stop` is called.
pub(crate) async fn serve(listener: TcpListener, router: Router, stop: &CancellationToken) {
    serve_at_most(CONNECTIONS, listener, router, stop).await;
}

/// Answers on so many connections at a time.
async fn serve_at_most(
    connections: usize,
    listener: TcpListener,
    router: Router,
    stop: &CancellationToken,
) {
    let seats = Arc::new(Semaphore::new(connections));
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
                let router = router.clone();
                connections.spawn(async move {
                    let _seat = seat;
                    answer(stream, router).await;
                });
            }
        }
    }
}

/// Answers on one connection until its client has gone, or is too slow.
async fn answer(stream: impl AsyncRead + AsyncWrite + Send + 'static, router: Router) {
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(STALLED));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(
            TokioIo::new(Box::pin(stream)),
            TowerToHyperService::new(router),
        );
    if let Ok(Err(error)) = tokio::time::timeout(LIFE, connection).await {
        tracing::debug!("a connection ended: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::routing::get;
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, duplex};
    use tokio::net::TcpStream;
    use tokio::time::Instant;

    use super::*;

    /// The time until the server ends a connection on which a client wrote this, and nothing else.
    async fn life_after(request: &str) -> Duration {
        let router = Router::new().route("/", get(async || vec![b'x'; 1 << 20]));
        let (mut client, server) = duplex(1024);
        let begin = Instant::now();
        client.write_all(request.as_bytes()).await.unwrap();
        answer(server, router).await;
        begin.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_ask_is_left() {
        for request in ["", "GET / HTTP/1.1\r\nhost: x\r\n"] {
            let life = life_after(request).await;
            assert!(
                life.abs_diff(HEAD) < Duration::from_millis(10),
                "{request:?}: {life:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_left() {
        let life = life_after("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(
            life.abs_diff(STALLED) < Duration::from_millis(10),
            "{life:?}"
        );
    }

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    /// The body of the next answer: a number that was set to four digits.
    async fn number(client: &mut BufReader<TcpStream>) -> usize {
        loop {
            let mut line = String::new();
            assert_ne!(client.read_line(&mut line).await.unwrap(), 0, "no answer");
            if line == "\r\n" {
                break;
            }
        }
        let mut body = [0; 4];
        client.read_exact(&mut body).await.unwrap();
        std::str::from_utf8(&body).unwrap().parse().unwrap()
    }

    #[tokio::test]
    async fn who_comes_when_all_seats_are_taken_waits_for_one() {
        let asked = Arc::new(AtomicUsize::new(0));
        let answer = async move || format!("{:04}", asked.fetch_add(1, Ordering::Relaxed));
        let router = Router::new().route("/", get(answer));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let ended = stop.clone();
        let server = tokio::spawn(async move { serve_at_most(3, listener, router, &ended).await });

        let connect = async || BufReader::new(TcpStream::connect(address).await.unwrap());
        let mut seated = [connect().await, connect().await, connect().await];
        let ask_each = async |clients: &mut [BufReader<TcpStream>]| {
            for client in clients {
                client.write_all(REQUEST).await.unwrap();
                number(client).await;
            }
        };
        ask_each(&mut seated).await;
        let mut waiting = connect().await;
        waiting.write_all(REQUEST).await.unwrap();
        for _ in 0..20 {
            ask_each(&mut seated).await;
        }
        let [first, ..] = seated;
        drop(first);
        assert_eq!(number(&mut waiting).await, 63, "all others came before");
        stop.cancel();
        server.await.unwrap();
    }
}
