//! A web server for destinations: ranges of a large file that exists nowhere.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{
    ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue,
    RANGE,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// How much is made at a time.
const CHUNK: usize = 64 << 10;
/// Random bytes that the file repeats, shifted: enough that no relay or exit
/// on the way could compress it.
const BLOCK: usize = 4 << 20;
/// More connections than this wait.
const MAX_CONNECTIONS: usize = 1024;
/// How long a client may take to shake hands and to send a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves one virtual file on every path.
#[derive(Clone)]
pub(crate) struct FileServer {
    size: u64,
    block: Bytes,
}

impl FileServer {
    /// A file of `size` bytes.
    pub(crate) fn new(size: u64) -> Self {
        let mut block = vec![0; BLOCK];
        // Always the same content, so that several servers serve one file.
        rand::rngs::StdRng::seed_from_u64(0x62_77_73_63_61_6e).fill_bytes(&mut block);
        Self {
            size,
            block: block.into(),
        }
    }

    /// Serves connections of `listener` until `cancel` is called.
    pub(crate) async fn serve(
        self,
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        cancel: CancellationToken,
    ) {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                return;
            };
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
            let _ = stream.set_nodelay(true);
            let (server, tls, cancel) = (self.clone(), tls.clone(), cancel.clone());
            tokio::spawn(async move {
                let _slot = slot;
                let work = async {
                    match tls {
                        None => server.connection(stream, peer).await,
                        Some(tls) => {
                            match tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
                                Ok(Ok(stream)) => server.connection(stream, peer).await,
                                Ok(Err(error)) => tracing::debug!("{peer}: TLS: {error}"),
                                Err(_) => tracing::debug!("{peer}: TLS: too slow"),
                            }
                        }
                    }
                };
                cancel.run_until_cancelled(work).await;
            });
        }
    }

    async fn connection<S>(self, stream: S, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(move |request: Request<Incoming>| {
            let response = self.answer(&request);
            tracing::info!(
                "{peer} {} {} {}",
                request.method(),
                request.uri(),
                response.status().as_u16()
            );
            async move { Ok::<_, Infallible>(response) }
        });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            // Scanners hang up when they have seen enough.
            tracing::debug!("{peer}: {error}");
        }
    }

    /// The answer to one request: RFC 9110, sections 14 and 15.
    fn answer<B>(&self, request: &Request<B>) -> Response<BoxBody<Bytes, Infallible>> {
        let head = match *request.method() {
            Method::GET => false,
            Method::HEAD => true,
            _ => {
                let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
                response
                    .headers_mut()
                    .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                return response;
            }
        };
        let range = match request.headers().get(RANGE).map(|value| self.range(value)) {
            None | Some(Requested::Ignore) => None,
            Some(Requested::Range(first, last)) => Some((first, last)),
            Some(Requested::Unsatisfiable) => {
                let mut response = empty(StatusCode::RANGE_NOT_SATISFIABLE);
                set(
                    &mut response,
                    CONTENT_RANGE,
                    &format!("bytes */{}", self.size),
                );
                return response;
            }
        };
        let (first, length) =
            range.map_or((0, self.size), |(first, last)| (first, last - first + 1));
        let body = if head {
            Full::new(Bytes::new()).boxed()
        } else {
            Virtual {
                block: self.block.clone(),
                next: first,
                left: length,
            }
            .boxed()
        };
        let mut response = Response::new(body);
        if let Some((first, last)) = range {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let value = format!("bytes {first}-{last}/{}", self.size);
            set(&mut response, CONTENT_RANGE, &value);
        }
        set(&mut response, CONTENT_LENGTH, &length.to_string());
        set(&mut response, CONTENT_TYPE, "application/octet-stream");
        set(&mut response, ACCEPT_RANGES, "bytes");
        set(&mut response, CACHE_CONTROL, "no-store, no-transform");
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

enum Requested {
    Range(u64, u64),
    Unsatisfiable,
    Ignore,
}

fn empty(status: StatusCode) -> Response<BoxBody<Bytes, Infallible>> {
    let mut response = Response::new(Full::new(Bytes::new()).boxed());
    *response.status_mut() = status;
    response
}

fn set<B>(response: &mut Response<B>, name: hyper::header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// The bytes of a range, made as they are sent; no copy is made of them.
struct Virtual {
    block: Bytes,
    next: u64,
    left: u64,
}

impl Body for Virtual {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let period = self.block.len() as u64;
        // Less than the block's length, which is a usize.
        let start = (self.next % period) as usize;
        let room = (self.block.len() - start).min(CHUNK) as u64;
        let length = room.min(self.left);
        let data = self.block.slice(start..start + length as usize);
        self.next += length;
        self.left -= length;
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: Method, range: Option<&str>) -> Response<BoxBody<Bytes, Infallible>> {
        let mut request = Request::builder().method(method).uri("/anything");
        if let Some(range) = range {
            request = request.header(RANGE, range);
        }
        FileServer::new(10_000_000).answer(&request.body(()).unwrap())
    }

    fn header(response: &Response<BoxBody<Bytes, Infallible>>, name: &str) -> String {
        let value = response.headers().get(name);
        value.map_or(String::new(), |value| value.to_str().unwrap().to_owned())
    }

    async fn body(response: Response<BoxBody<Bytes, Infallible>>) -> Bytes {
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
            ask(Method::POST, None).status(),
            StatusCode::METHOD_NOT_ALLOWED
        );
        let head = ask(Method::HEAD, Some("bytes=0-9"));
        assert_eq!(header(&head, "content-length"), "10");
        assert!(body(head).await.is_empty());
    }
}
