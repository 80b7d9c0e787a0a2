//! A web server for destinations: ranges of a large file that exists nowhere.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bw_protocol::{Content, ContentKey, Nonce, RATE_HEADER, Receipts};
use bw_results::Direction;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use hyper::header::{
    ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue,
    RANGE, RETRY_AFTER,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::certificate::Certificate;
use crate::patient::Patient;
use crate::receive::{Reception, drain};
use crate::seats::{Seat, Seats};
use crate::send::{Source, send};
use crate::throttle::Throttle;

/// The size of the pieces in which content is made.
pub(crate) const CHUNK: usize = 64 << 10;
/// Random bytes that the file repeats, shifted: enough that no relay or exit
/// on the way could compress it.
const BLOCK: usize = 4 << 20;
/// The time for a client to shake hands, and then to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The same if it is only to be told that there is no place.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest head of a request, and what is read of a body at a time, in bytes.
const BUFFER: usize = 16 << 10;
/// The bytes of an answer that the system keeps beyond those on their way to the client.
/// With few of them it shows soon if the client takes nothing.
const UNSENT: u32 = 128 << 10;
/// When a client that was refused may come back, in seconds.
const RETRY_SECONDS: &str = "5";

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Serves one virtual file on every path, and confirms what is uploaded.
#[derive(Clone)]
pub struct FileServer {
    size: u64,
    block: Bytes,
    key: Option<ContentKey>,
    throttle: Throttle,
    connections: usize,
    /// The most connections of one client.
    connections_of_one: usize,
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
            connections: 1024,
            connections_of_one: usize::MAX,
        }
    }

    /// To those who send a nonce, content that `key` alone makes.
    pub fn with_key(mut self, key: Option<ContentKey>) -> Self {
        self.key = key;
        self
    }

    /// At most `rate` bytes of payload per second, both directions and all
    /// clients together.
    pub fn with_rate(mut self, rate: Option<u64>) -> Self {
        self.throttle = Throttle::new(rate);
        self
    }

    /// At most so many connections at a time, and so many of them of one client.
    pub fn with_connections(mut self, connections: usize, of_one: usize) -> Self {
        self.connections = connections;
        self.connections_of_one = of_one;
        self
    }

    /// Serves connections of `listener` until `cancel` is called.
    pub async fn serve(
        self,
        listener: TcpListener,
        tls: Option<Certificate>,
        cancel: CancellationToken,
    ) {
        let tls = tls.map(|tls| TlsAcceptor::from(tls.config()));
        let seats = Seats::new(self.connections, self.connections_of_one);
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
            let Some(seat) = seats.take(peer.ip()) else {
                continue;
            };
            tune(&stream);
            let (server, tls, cancel) = (self.clone(), tls.clone(), cancel.clone());
            tokio::spawn(async move {
                let work = server.client(stream, peer, &seat, tls);
                let work = seat.activity.gives_way.run_until_cancelled(work);
                if let Some(None) = cancel.run_until_cancelled(work).await {
                    tracing::info!("{peer}: closed, as nothing moved and others need the place");
                }
            });
        }
    }

    /// Serves one client.
    async fn client(
        self,
        stream: TcpStream,
        peer: SocketAddr,
        seat: &Seat,
        tls: Option<TlsAcceptor>,
    ) {
        let stream = Patient::new(stream, Arc::clone(&seat.activity));
        let Some(tls) = tls else {
            return self.connection(stream, peer, seat.is_served).await;
        };
        match tokio::time::timeout(head_timeout(seat.is_served), tls.accept(stream)).await {
            Ok(Ok(stream)) => self.connection(stream, peer, seat.is_served).await,
            Ok(Err(error)) => tracing::debug!("{peer}: TLS: {error}"),
            Err(_) => tracing::debug!("{peer}: TLS: too slow"),
        }
    }

    async fn connection<S>(self, stream: S, peer: SocketAddr, is_served: bool)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(move |request: Request<Incoming>| {
            let (method, uri) = (request.method().clone(), request.uri().clone());
            let response = if is_served {
                self.answer(request)
            } else {
                let mut response = refuse(StatusCode::SERVICE_UNAVAILABLE, request);
                set(&mut response, RETRY_AFTER, RETRY_SECONDS);
                response
            };
            tracing::info!("{peer} {method} {uri} {}", response.status().as_u16());
            async move { Ok::<_, Infallible>(response) }
        });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(head_timeout(is_served))
            .max_buf_size(BUFFER)
            .keep_alive(is_served)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            // Scanners hang up when they have seen enough.
            tracing::debug!("{peer}: {error}");
        }
    }

    /// The answer to one request: RFC 9110, sections 14 and 15.
    fn answer<B>(&self, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
    {
        let nonce = match request.headers().get(Nonce::HEADER) {
            None => None,
            Some(nonce) => match nonce.to_str().ok().and_then(|nonce| nonce.parse().ok()) {
                Some(nonce) => Some(nonce),
                None => return refuse(StatusCode::BAD_REQUEST, request),
            },
        };
        let secret = self.key.as_ref().zip(nonce.as_ref());
        let mut response = match *request.method() {
            Method::GET | Method::HEAD => self.file(&request, secret),
            Method::POST if request.body().size_hint().lower() > self.size => {
                return refuse(StatusCode::PAYLOAD_TOO_LARGE, request);
            }
            Method::POST => self.receive(request, secret),
            _ => {
                let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED, request);
                set(&mut response, ALLOW, "GET, HEAD, POST");
                return response;
            }
        };
        if let Some(rate) = self.throttle.rate() {
            set(&mut response, RATE_HEADER, &rate.to_string());
        }
        set(&mut response, CACHE_CONTROL, "no-store, no-transform");
        response
    }

    /// Confirms what comes, and only what should come if there is a secret.
    fn receive<B>(&self, request: Request<B>, secret: Option<(&ContentKey, &Nonce)>) -> Answer
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
    {
        let content = secret.map(|(key, nonce)| key.content(nonce, Direction::Upload));
        let reception = Reception::new(
            request.into_body(),
            self.size,
            content,
            Receipts::new(secret),
            self.throttle.clone(),
        );
        let mut response = Response::new(reception.into_body());
        set(&mut response, CONTENT_TYPE, "text/plain");
        set(&mut response, Receipts::HEADER.0, Receipts::HEADER.1);
        response
    }

    /// The file, or the part of it that is asked for.
    fn file<B>(&self, request: &Request<B>, secret: Option<(&ContentKey, &Nonce)>) -> Answer {
        let range = match request.headers().get(RANGE).map(|value| self.range(value)) {
            None | Some(Requested::Ignore) => None,
            Some(Requested::Range(first, last)) => Some((first, last)),
            Some(Requested::Unsatisfiable) => {
                let mut response = Response::new(Empty::new().boxed_unsync());
                *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
                let range = format!("bytes */{}", self.size);
                set(&mut response, CONTENT_RANGE, &range);
                return response;
            }
        };
        let (first, length) =
            range.map_or((0, self.size), |(first, last)| (first, last - first + 1));
        let body = if request.method() == Method::HEAD {
            Empty::new().boxed_unsync()
        } else {
            let content = secret.map(|(key, nonce)| key.content(nonce, Direction::Download));
            let source = match content {
                Some(mut content) => {
                    content.seek(first);
                    Source::Content(content)
                }
                None => Source::Block(self.block.clone(), first),
            };
            send(source, length, self.throttle.clone())
        };
        let mut response = Response::new(body);
        if let Some((first, last)) = range {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let value = format!("bytes {first}-{last}/{}", self.size);
            set(&mut response, CONTENT_RANGE, &value);
        }
        if secret.is_some() {
            set(&mut response, Content::HEADER.0, Content::HEADER.1);
        }
        set(&mut response, CONTENT_LENGTH, &length.to_string());
        set(&mut response, CONTENT_TYPE, "application/octet-stream");
        set(&mut response, ACCEPT_RANGES, "bytes");
        response
    }

    /// A `Range` header: one range of bytes; several, or another unit, are
    /// ignored, as the RFC allows.
    fn range(&self, value: &HeaderValue) -> Requested {
        let Some(spec) = value
            .to_str()
            .ok()
            .and_then(|text| text.strip_prefix("bytes="))
        else {
            return Requested::Ignore;
        };
        let Some((first, last)) = spec.trim().split_once('-') else {
            return Requested::Ignore;
        };
        let end = self.size.saturating_sub(1);
        let (first, last) = match (first.parse::<u64>(), last.parse::<u64>()) {
            (Ok(first), Ok(last)) if first <= last => (first, last.min(end)),
            (Ok(first), Err(_)) if last.is_empty() => (first, end),
            // The last so many bytes.
            (Err(_), Ok(count)) if first.is_empty() && count > 0 => {
                (self.size.saturating_sub(count), end)
            }
            (Err(_), Ok(0)) if first.is_empty() => return Requested::Unsatisfiable,
            _ => return Requested::Ignore,
        };
        if first < self.size {
            Requested::Range(first, last)
        } else {
            Requested::Unsatisfiable
        }
    }
}

/// The time for a client to send a head, and before for a handshake.
const fn head_timeout(is_served: bool) -> Duration {
    if is_served {
        HEAD_TIMEOUT
    } else {
        REFUSAL_TIMEOUT
    }
}

/// Lets answers go out at once, and no more of them wait in the system than must.
fn tune(stream: &TcpStream) {
    // A connection that is already broken shows that later.
    let _ = stream.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT);
}

enum Requested {
    Range(u64, u64),
    Unsatisfiable,
    Ignore,
}

/// An answer without content; what the client still sends is taken for a
/// moment, as it may not see an answer to what was cut off.
fn refuse<B>(status: StatusCode, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    let mut response = Response::new(drain(request.into_body()));
    *response.status_mut() = status;
    response
}

fn set<B>(response: &mut Response<B>, name: impl hyper::header::IntoHeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bw_protocol::Receipt;
    use http_body_util::Full;

    fn ask(method: Method, range: Option<&str>) -> Answer {
        let mut request = Request::builder().method(method).uri("/anything");
        if let Some(range) = range {
            request = request.header(RANGE, range);
        }
        FileServer::new(10_000_000).answer(request.body(Empty::new()).unwrap())
    }

    fn header(response: &Answer, name: &str) -> String {
        let value = response.headers().get(name);
        value.map_or(String::new(), |value| value.to_str().unwrap().to_owned())
    }

    async fn body(response: Answer) -> Bytes {
        response.into_body().collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn ranges_are_parts_of_one_file() {
        let whole = body(ask(Method::GET, None)).await;
        assert_eq!(whole.len(), 10_000_000);
        for (range, content, expected) in [
            ("bytes=0-99", "bytes 0-99/10000000", 0..100),
            (
                "bytes=4194200-4194400",
                "bytes 4194200-4194400/10000000",
                4_194_200..4_194_401,
            ),
            (
                "bytes=9999990-",
                "bytes 9999990-9999999/10000000",
                9_999_990..10_000_000,
            ),
            (
                "bytes=-5",
                "bytes 9999995-9999999/10000000",
                9_999_995..10_000_000,
            ),
            (
                "bytes=9999999-99999999",
                "bytes 9999999-9999999/10000000",
                9_999_999..10_000_000,
            ),
        ] {
            let response = ask(Method::GET, Some(range));
            assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
            assert_eq!(header(&response, "content-range"), content);
            assert_eq!(
                header(&response, "content-length"),
                expected.len().to_string()
            );
            assert_eq!(body(response).await, whole.slice(expected), "{range}");
        }
    }

    #[tokio::test]
    async fn what_is_no_range_is_the_whole_file_or_refused() {
        for range in ["bytes=5-1", "bytes=a-b", "items=0-5", "bytes=0-1,3-4"] {
            assert_eq!(
                ask(Method::GET, Some(range)).status(),
                StatusCode::OK,
                "{range}"
            );
        }
        for range in ["bytes=10000000-", "bytes=-0"] {
            let response = ask(Method::GET, Some(range));
            assert_eq!(
                response.status(),
                StatusCode::RANGE_NOT_SATISFIABLE,
                "{range}"
            );
            assert_eq!(header(&response, "content-range"), "bytes */10000000");
        }
        assert_eq!(
            ask(Method::PUT, None).status(),
            StatusCode::METHOD_NOT_ALLOWED
        );
        let head = ask(Method::HEAD, Some("bytes=0-9"));
        assert_eq!(header(&head, "content-length"), "10");
        assert!(body(head).await.is_empty());
    }

    fn key(secret: u8) -> ContentKey {
        ContentKey::new(&[secret; 16]).unwrap()
    }

    fn nonce() -> Nonce {
        Nonce::from_bytes([7; 16])
    }

    fn content(direction: Direction, length: usize) -> Bytes {
        let mut bytes = vec![0; length];
        key(1).content(&nonce(), direction).fill(&mut bytes);
        bytes.into()
    }

    #[tokio::test]
    async fn any_range_is_of_the_content_of_key_and_nonce() {
        let whole = content(Direction::Download, 300_000);
        let server = FileServer::new(300_000).with_key(Some(key(1)));
        for (range, expected) in [
            ("bytes=0-", 0..300_000),
            ("bytes=65530-200001", 65_530..200_002),
        ] {
            let request = Request::get("/").header(RANGE, range);
            let request = request.header(Nonce::HEADER, nonce().to_string());
            let response = server.answer(request.body(Empty::new()).unwrap());
            assert_eq!(header(&response, Content::HEADER.0), Content::HEADER.1);
            assert_eq!(body(response).await, whole.slice(expected));
        }
        let without = Request::get("/").body(Empty::new()).unwrap();
        let response = server.answer(without);
        assert_eq!(header(&response, Content::HEADER.0), "");
        let bad = Request::get("/").header(Nonce::HEADER, "xyz");
        let response = server.answer(bad.body(Empty::new()).unwrap());
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    }

    /// Uploads `data`; returns the server's last count of bytes that were right.
    async fn upload(
        server: FileServer,
        data: Bytes,
        signed: Option<&ContentKey>,
    ) -> Result<u64, Receipt> {
        let mut request = Request::post("/");
        if signed.is_some() {
            request = request.header(Nonce::HEADER, nonce().to_string());
        }
        let response = server.answer(request.body(Full::new(data)).unwrap());
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(header(&response, Receipts::HEADER.0), Receipts::HEADER.1);
        let lines = body(response).await;
        let nonce = nonce();
        let receipts = Receipts::new(signed.map(|key| (key, &nonce)));
        let mut all = lines
            .strip_suffix(b"\n")
            .unwrap()
            .split(|&byte| byte == b'\n')
            .map(|line| receipts.read(line).unwrap());
        let first = all.next().unwrap();
        assert!(
            matches!(first, Receipt::Bytes { count: 0, .. }),
            "the first is written at once: {first:?}"
        );
        match all.next_back().unwrap() {
            Receipt::Bytes { count, .. } => Ok(count),
            other => Err(other),
        }
    }

    #[tokio::test]
    async fn what_is_right_of_an_upload_is_confirmed() {
        let plain = FileServer::new(1 << 20);
        let data = content(Direction::Upload, 300_000);
        let said = upload(plain.clone(), data.clone(), None).await;
        assert_eq!(said, Ok(300_000));
        let keyed = plain.clone().with_key(Some(key(1)));
        let said = upload(keyed.clone(), data.clone(), Some(&key(1))).await;
        assert_eq!(said, Ok(300_000));

        let mut wrong = data.to_vec();
        wrong[299_999] ^= 1;
        let said = upload(keyed.clone(), wrong.into(), Some(&key(1))).await;
        assert_eq!(said, Err(Receipt::Wrong));
        // What a download of the same nonce gives away is of no use.
        let download = content(Direction::Download, 1000);
        let said = upload(keyed, download, Some(&key(1))).await;
        assert_eq!(said, Err(Receipt::Wrong));

        let small = FileServer::new(1000);
        let request = Request::post("/").body(Full::new(data)).unwrap();
        let response = small.answer(request);
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_holds_for_both_directions_together_and_is_told() {
        let server = FileServer::new(50_000).with_rate(Some(20_000));
        let response = server.answer(Request::get("/").body(Empty::new()).unwrap());
        assert_eq!(header(&response, RATE_HEADER), "20000");
        let begin = tokio::time::Instant::now();
        let data = content(Direction::Upload, 50_000);
        let (down, up) = tokio::join!(body(response), upload(server, data, None));
        assert_eq!((down.len(), up), (50_000, Ok(50_000)));
        let time = begin.elapsed().as_secs_f64();
        // Paused time: exact, not a measurement of this machine.
        assert!((4.9..5.2).contains(&time), "{time} s");
    }

    #[tokio::test]
    async fn too_many_connections_are_told_to_come_back() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = FileServer::new(10).with_connections(1, 1);
        tokio::spawn(server.serve(listener, None, CancellationToken::new()));
        let ask = async |request: &str| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = vec![0; 4096];
            let length = stream.read(&mut answer).await.unwrap();
            answer.truncate(length);
            (stream, String::from_utf8_lossy(&answer).into_owned())
        };
        let (first, answer) = ask("GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        for request in [
            "GET / HTTP/1.1\r\nhost: h\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\n1234",
        ] {
            let (_, answer) = ask(request).await;
            assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
            assert!(answer.contains("retry-after: 5\r\n"), "{answer}");
        }
        drop(first);
        // Its place is free as soon as the server has seen that.
        loop {
            let (_, answer) = ask("GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
            if answer.starts_with("HTTP/1.1 200") {
                break;
            }
        }
    }

    #[tokio::test]
    async fn clients_that_do_not_read_give_way_and_no_head_is_endless() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = FileServer::new(1 << 30).with_connections(4, 4);
        tokio::spawn(server.serve(listener, None, CancellationToken::new()));
        let connect = async |request: &[u8]| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request).await.unwrap();
            stream
        };
        let get = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n";
        let mut silent = Vec::new();
        for _ in 0..4 {
            let mut stream = connect(get).await;
            // It is served, and then reads no more.
            assert_eq!(stream.read_u8().await.unwrap(), b'H');
            silent.push(stream);
        }
        // All places are taken, but not for long.
        let begin = tokio::time::Instant::now();
        loop {
            let mut answer = [0; 12];
            let mut stream = connect(get).await;
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
}
