//! One GET on an authority's directory port.

use std::net::SocketAddrV4;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
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
    let exchange = async {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(error.to_string()))?;
        let request = Request::get(path)
            .header(header::HOST, address.to_string())
            .header(header::ACCEPT_ENCODING, "identity")
            .body(Empty::<Bytes>::new())
            .map_err(|error| failed(error.to_string()))?;
        let answer = async {
            let response = sender
                .send_request(request)
                .await
                .map_err(|error| failed(error.to_string()))?;
            if response.status() != StatusCode::OK {
                return Err(failed(format!("answered {}", response.status())));
            }
            let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
            Ok(body.map_err(|error| failed(error.to_string()))?.to_bytes())
        };
        // The connection ends with the answer (tor speaks HTTP/1.0), or is
        // dropped with it.
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            _ = connection => answer.await,
        }
    };
    match tokio::time::timeout(PATIENCE, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err(failed(format!("no answer within {PATIENCE:?}"))),
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
