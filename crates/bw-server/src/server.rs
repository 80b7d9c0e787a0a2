//! A web server for destinations: ranges of a large file that exists nowhere.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bw_file::BytesPerSecond;
use bw_protocol::ContentKey;
use bytes::Bytes;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::answer::full;
use crate::patient::Patient;
use crate::places::{Place, Places};
use crate::throttle::Throttle;
use crate::{Certificate, Statistics};

/// The size of the pieces in which content is made, in bytes.
pub(crate) const CHUNK: usize = 64 << 10;
/// Random bytes that the file repeats, shifted: enough that no relay or exit
/// on the way could compress it.
const BLOCK: usize = 4 << 20;
/// The time for a client to shake hands, and then to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest head of a request, and what is read of a body at a time, in bytes.
const BUFFER: usize = 16 << 10;
/// The bytes of an answer that TLS keeps until the system takes them.
const TLS_BUFFER: usize = 64 << 10;
/// The bytes of an answer that the system keeps beyond those on their way to the client.
/// With few of them it shows soon if the client takes nothing.
const UNSENT: u32 = 128 << 10;

/// Serves one virtual file on every path, and confirms what is uploaded.
///
/// A client that takes or sends less than 500 bytes per second is given up after 30 s. When all
/// places are taken, a connection gives way to a new one that moved nothing for 5 s, or whose
/// request lasts for longer than two minutes.
#[derive(Clone)]
pub struct FileServer {
    pub(crate) size: u64,
    pub(crate) block: Bytes,
    pub(crate) key: Option<ContentKey>,
    pub(crate) throttle: Throttle,
    pub(crate) statistics: Arc<Statistics>,
    limits: ConnectionLimits,
}

/// Limits on the connections that are served at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionLimits {
    /// Connections in all. Default: 1024.
    pub all: usize,
    /// Those of one client, an IPv4 address or an IPv6 network of 64 bits. Those that proved the
    /// key do not count. Default: half of all.
    pub of_one_client: usize,
    /// Those kept for clients that prove the key, if the server has one. Default: a quarter of
    /// all.
    pub reserved: usize,
}

impl ConnectionLimits {
    /// Limits for `all` connections.
    pub const fn new(all: usize) -> Self {
        Self {
            all,
            of_one_client: all.div_ceil(2),
            reserved: all / 4,
        }
    }
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self::new(1024)
    }
}

impl FileServer {
    /// A file of `size` bytes, which is also the most that can be uploaded.
    pub fn new(size: u64) -> Self {
        let mut block = vec![0; BLOCK];
        // Always the same content, so that several servers serve one file.
        rand::rngs::StdRng::seed_from_u64(0x62_77_73_63_61_6e).fill_bytes(&mut block);
        Self {
            size,
            block: block.into(),
            key: None,
            throttle: Throttle::default(),
            statistics: Arc::default(),
            limits: ConnectionLimits::default(),
        }
    }

    /// Sends to those with a nonce content that `key` alone makes.
    #[must_use]
    pub fn with_key(mut self, key: Option<ContentKey>) -> Self {
        self.key = key;
        self
    }

    /// Moves at most `rate` bytes of payload per second, both directions and all
    /// clients together.
    #[must_use]
    pub fn with_rate(mut self, rate: Option<BytesPerSecond>) -> Self {
        self.throttle = Throttle::new(rate.map(BytesPerSecond::value));
        self
    }

    /// Serves at most so many connections at a time.
    #[must_use]
    pub fn with_limits(mut self, limits: ConnectionLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Returns the numbers on the work of this server and its clones.
    pub fn statistics(&self) -> Arc<Statistics> {
        Arc::clone(&self.statistics)
    }

    /// Serves connections of `listener` until `cancel` is called; over TLS if there is a
    /// certificate.
    pub async fn serve(
        self,
        listener: TcpListener,
        certificate: Option<Certificate>,
        cancel: CancellationToken,
    ) {
        let tls = certificate.map(|certificate| TlsAcceptor::from(certificate.config()));
        let places = Places::new(ConnectionLimits {
            reserved: self.key.as_ref().map_or(0, |_| self.limits.reserved),
            ..self.limits
        });
        loop {
            let accepted = tokio::select! {
                () = cancel.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!("a connection could not be accepted: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            self.statistics.accepted().add(1);
            let Some(place) = places.enter(peer.ip()) else {
                self.statistics.turned_away().add(1);
                continue;
            };
            tune(&stream);
            let (server, tls, cancel) = (self.clone(), tls.clone(), cancel.clone());
            tokio::spawn(async move {
                let (place, statistics) = (Arc::new(place), server.statistics());
                let work = server.client(stream, peer, Arc::clone(&place), tls);
                let work = place.activity.gives_way.run_until_cancelled(work);
                if let Some(None) = cancel.run_until_cancelled(work).await {
                    statistics.gave_way().add(1);
                    tracing::info!("{peer}: closed, as little moved and others need the place");
                }
                statistics.closed().add(1);
            });
        }
    }

    /// Serves one client.
    async fn client(
        self,
        stream: TcpStream,
        peer: SocketAddr,
        place: Arc<Place>,
        tls: Option<TlsAcceptor>,
    ) {
        let stream = Patient::new(stream, Arc::clone(&place.activity));
        let Some(tls) = tls else {
            return self.connection(stream, peer, place).await;
        };
        let accept = tls.accept_with(stream, |session| {
            session.set_buffer_limit(Some(TLS_BUFFER));
        });
        match tokio::time::timeout(HEAD_TIMEOUT, accept).await {
            Ok(Ok(stream)) => return self.connection(stream, peer, place).await,
            Ok(Err(error)) => tracing::debug!("{peer}: TLS: {error}"),
            Err(_) => tracing::debug!("{peer}: TLS: too slow"),
        }
        self.statistics.tls_failures().add(1);
    }

    async fn connection<S>(self, stream: S, peer: SocketAddr, place: Arc<Place>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let statistics = self.statistics();
        let service = service_fn(move |request: Request<Incoming>| {
            let (method, uri) = (request.method().clone(), request.uri().clone());
            let proven = self.proven(&request);
            self.statistics.proofs().add(u64::from(proven.is_some()));
            let response = if place.serve(proven) {
                self.answer(request)
            } else {
                self.statistics.refused().add(1);
                full(request)
            };
            tracing::info!("{peer} {method} {uri} {}", response.status().as_u16());
            async move { Ok::<_, Infallible>(response) }
        });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            // Scanners hang up when they have seen enough.
            statistics.too_slow().add(u64::from(is_timeout(&error)));
            tracing::debug!("{peer}: {error}");
        }
    }
}

/// Returns true if a client took or sent too little for too long.
fn is_timeout(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error);
    let source = source.and_then(|source| source.downcast_ref::<std::io::Error>());
    error.is_timeout() || source.is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut)
}

/// Lets answers go out at once, and no more of them wait in the system than must.
fn tune(stream: &TcpStream) {
    // A connection that is already broken shows that later.
    let _ = stream.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT);
}

#[cfg(test)]
mod tests {
    use super::*;
    use bw_protocol::{Nonce, Proof};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";

    /// The limits, and the connections of one client may be all.
    fn limits(all: usize, reserved: usize) -> ConnectionLimits {
        ConnectionLimits {
            all,
            of_one_client: all,
            reserved,
        }
    }

    #[tokio::test]
    async fn too_many_connections_are_told_to_come_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = FileServer::new(10).with_limits(limits(1, 0));
        tokio::spawn(server.serve(listener, None, CancellationToken::new()));
        let ask = async |request: &str| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = vec![0; 4096];
            let length = stream.read(&mut answer).await.unwrap();
            answer.truncate(length);
            (stream, String::from_utf8_lossy(&answer).into_owned())
        };
        let (first, answer) = ask(GET).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        for request in [
            GET,
            "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\n1234",
        ] {
            let (_, answer) = ask(request).await;
            assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
            assert!(answer.contains("retry-after: 5\r\n"), "{answer}");
        }
        drop(first);
        // Its place is free as soon as the server has seen that.
        loop {
            let (_, answer) = ask(GET).await;
            if answer.starts_with("HTTP/1.1 200") {
                break;
            }
        }
    }

    #[tokio::test]
    async fn clients_that_do_not_read_give_way_and_no_head_is_endless() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = FileServer::new(1 << 30).with_limits(limits(4, 0));
        tokio::spawn(server.serve(listener, None, CancellationToken::new()));
        let connect = async |request: &[u8]| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request).await.unwrap();
            stream
        };
        let mut silent = Vec::new();
        for _ in 0..4 {
            let mut stream = connect(GET.as_bytes()).await;
            // It is served, and then reads no more.
            assert_eq!(stream.read_u8().await.unwrap(), b'H');
            silent.push(stream);
        }
        // All places are taken, but not for long.
        let begin = tokio::time::Instant::now();
        loop {
            let mut answer = [0; 12];
            let mut stream = connect(GET.as_bytes()).await;
            stream.read_exact(&mut answer).await.unwrap();
            if &answer == b"HTTP/1.1 200" {
                break;
            }
            assert_eq!(&answer, b"HTTP/1.1 503");
            assert!(begin.elapsed() < Duration::from_secs(20), "nobody gave way");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        drop(silent);

        let mut stream = connect(b"GET / HTTP/1.1\r\n").await;
        let endless = async {
            let mut sent = 0_u64;
            while stream
                .write_all(b"x: yyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n")
                .await
                .is_ok()
            {
                sent += 32;
                tokio::task::yield_now().await;
            }
            sent
        };
        let sent = tokio::time::timeout(Duration::from_secs(20), endless).await;
        // What the system takes of it is not ours.
        assert!(sent.unwrap() < 16 << 20);
    }

    #[tokio::test]
    async fn a_full_server_has_a_place_for_who_proves_the_key() {
        let key = ContentKey::new(&[1; 16]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = FileServer::new(10)
            .with_key(Some(key.clone()))
            .with_limits(limits(4, 1));
        let statistics = server.statistics();
        tokio::spawn(server.serve(listener, None, CancellationToken::new()));
        let ask = async |request: String| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await.unwrap();
            (stream, String::from_utf8_lossy(&answer).into_owned())
        };
        let mut crowd = Vec::new();
        for _ in 0..3 {
            let (stream, answer) = ask(GET.to_owned()).await;
            assert_eq!(answer, "HTTP/1.1 200");
            crowd.push(stream);
        }
        assert_eq!(ask(GET.to_owned()).await.1, "HTTP/1.1 503");
        let nonce = Nonce::from_bytes([7; 16]);
        let keyed = |key: &ContentKey| {
            let (name, proof) = (Proof::HEADER, Proof::new(key, &nonce));
            format!(
                "GET / HTTP/1.1\r\nhost: h\r\n{}: {nonce}\r\n{name}: {proof}\r\n\r\n",
                Nonce::HEADER
            )
        };
        let other = ContentKey::new(&[2; 16]).unwrap();
        assert_eq!(ask(keyed(&other)).await.1, "HTTP/1.1 503");
        let (first, answer) = ask(keyed(&key)).await;
        assert_eq!(answer, "HTTP/1.1 200");
        drop(first);
        assert_eq!(ask(keyed(&key)).await.1, "HTTP/1.1 503", "used before");
        let counts = statistics.counts();
        assert_eq!((counts.accepted, counts.refused), (7, 3));
        assert_eq!((counts.downloads, counts.proofs), (4, 2));
    }
}
