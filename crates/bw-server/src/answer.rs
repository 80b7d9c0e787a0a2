//! The answers: ranges of the file, and receipts of what is uploaded.

use std::convert::Infallible;
use std::sync::Arc;

use bw_protocol::{Content, ContentKey, Nonce, Proof, RATE_HEADER, Receipts};
use bw_results::Direction;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Body;
use hyper::header::{
    ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    HeaderValue, RANGE, RETRY_AFTER,
};
use hyper::{Method, Request, Response, StatusCode};

use crate::FileServer;
use crate::receive::{Reception, drain};
use crate::send::{Source, send};

/// The number of seconds after which a client that was refused may come back.
const RETRY_SECONDS: &str = "5";

pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

impl FileServer {
    /// The nonce of a request that proves the key by it.
    pub(crate) fn proven<B>(&self, request: &Request<B>) -> Option<Nonce> {
        let (key, nonce) = (self.key.as_ref()?, nonce(request)?);
        let proof = request.headers().get(Proof::HEADER)?.to_str().ok()?;
        Proof::is(proof, key, &nonce).then_some(nonce)
    }

    /// The answer to one request: RFC 9110, sections 14 and 15.
    pub(crate) fn answer<B>(&self, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
    {
        let nonce = nonce(&request);
        if nonce.is_none() && request.headers().contains_key(Nonce::HEADER) {
            return refuse(StatusCode::BAD_REQUEST, request);
        }
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
            Arc::clone(&self.statistics),
        );
        self.statistics.uploads().add(1);
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
            self.statistics.downloads().add(1);
            send(
                source,
                length,
                self.throttle.clone(),
                Arc::clone(&self.statistics),
            )
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

/// The nonce of a request, if it has one that can be read.
fn nonce<B>(request: &Request<B>) -> Option<Nonce> {
    let nonce = request.headers().get(Nonce::HEADER)?;
    nonce.to_str().ok()?.parse().ok()
}

/// The answer to a request for which there is no place; the connection ends with it.
pub(crate) fn full<B>(request: Request<B>) -> Answer
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    let mut response = refuse(StatusCode::SERVICE_UNAVAILABLE, request);
    set(&mut response, RETRY_AFTER, RETRY_SECONDS);
    set(&mut response, CONNECTION, "close");
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use bw_file::BytesPerSecond;
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
        let server = FileServer::new(50_000).with_rate(Some(BytesPerSecond::new(20_000)));
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
    async fn a_proof_is_of_the_key_and_of_the_nonce() {
        let server = FileServer::new(1000).with_key(Some(key(1)));
        let request = |proof: Option<String>| {
            let mut request = Request::get("/").header(Nonce::HEADER, nonce().to_string());
            if let Some(proof) = proof {
                request = request.header(Proof::HEADER, proof);
            }
            request.body(()).unwrap()
        };
        let proof = |secret| Some(Proof::new(&key(secret), &nonce()).to_string());
        assert_eq!(server.proven(&request(proof(1))), Some(nonce()));
        assert_eq!(server.proven(&request(proof(2))), None);
        assert_eq!(server.proven(&request(None)), None);
        assert_eq!(FileServer::new(1000).proven(&request(proof(1))), None);
    }
}
