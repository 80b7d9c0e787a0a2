//! One request over HTTP: a GET on an authority's directory port, or any other.

use std::net::SocketAddrV4;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::{Error, ErrorKind};

/// The largest answer that is read, in bytes: twice what `/tor/server/all` of
/// the public network takes.
const MAX_BODY: usize = 64 << 20;
/// An authority on loopback answers within milliseconds unless it is stopped.
const PATIENCE: Duration = Duration::from_secs(10);

/// Gets `path` from the directory server at `address`, uncompressed.
pub(crate) async fn get(address: SocketAddrV4, path: &str) -> Result<Bytes, Error> {
    let failed = |why: String| {
        let text = format!("http://{address}{path}: {why}");
        Error::new(ErrorKind::Http, text)
    };
    let got = async {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let request = Request::get(path)
            .header(header::HOST, address.to_string())
            .header(header::ACCEPT_ENCODING, "identity")
            .body(Empty::<Bytes>::new())
            .map_err(|error| failed(error.to_string()))?;
        exchange(stream, request, async |response| {
            if response.status() != StatusCode::OK {
                return Err(failed(format!("answered {}", response.status())));
            }
            let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
            Ok(body.map_err(|error| failed(error.to_string()))?.to_bytes())
        })
        .await
        .unwrap_or_else(|error| Err(failed(error.to_string())))
    };
    match tokio::time::timeout(PATIENCE, got).await {
        Ok(answer) => answer,
        Err(_) => Err(failed(format!("no answer within {PATIENCE:?}"))),
    }
}

/// Sends `request` on `stream` and gives the answer to `read`; the connection
/// ends with that.
pub(crate) async fn exchange<T>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Empty<Bytes>>,
    read: impl AsyncFnOnce(Response<Incoming>) -> T,
) -> Result<T, hyper::Error> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let answer = async { Ok(read(sender.send_request(request).await?).await) };
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        // It may end before all that came over it is read.
        _ = connection => answer.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn answering(answer: &'static [u8]) -> Result<Bytes, Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let std::net::SocketAddr::V4(address) = listener.local_addr().unwrap() else {
            unreachable!()
        };
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.unwrap();
            assert!(request[..length].starts_with(b"GET /tor/x HTTP/1.1\r\n"));
            stream.write_all(answer).await.unwrap();
        };
        tokio::join!(get(address, "/tor/x"), server).0
    }

    #[tokio::test]
    async fn answers_end_with_the_connection_or_the_length() {
        let tor = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nbody";
        assert_eq!(answering(tor).await.unwrap(), "body");
        let short = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        assert_eq!(answering(short).await.unwrap(), "ok");
    }

    #[tokio::test]
    async fn refusals_and_cut_answers_are_errors() {
        for (answer, named) in [
            (&b"HTTP/1.0 404 Not found\r\n\r\n"[..], "404"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", "/tor/x"),
            (b"", "/tor/x"),
        ] {
            let error = answering(answer).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Http);
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}
