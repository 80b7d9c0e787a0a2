//! One download through a SOCKS proxy.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode, Uri, header};
use tokio_socks::tcp::Socks5Stream;

use crate::http::exchange;
use crate::{Error, ErrorKind};

/// The file to download.
#[derive(Clone, Debug)]
pub(super) struct Target {
    url: Uri,
    host: String,
    port: u16,
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = |why: &str| {
            let text = format!("{text}: {why}; give one as http://127.0.0.1:8000/");
            Error::new(ErrorKind::Plan, text)
        };
        let url: Uri = text.parse().map_err(|_| refused("not a URL"))?;
        if url.scheme_str() != Some("http") {
            return Err(refused("the clients speak plain http only"));
        }
        let host = url.host().ok_or_else(|| refused("a URL without a host"))?;
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port_u16().unwrap_or(80),
            url,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

/// Downloads the first `size` bytes through the proxy at `socks`, on a circuit
/// that is shared with no other `name`; tells `received` of bytes as they come.
pub(super) async fn fetch(
    socks: SocketAddr,
    target: &Target,
    name: &str,
    size: u64,
    mut received: impl FnMut(u64),
) -> Result<(), Error> {
    let failed = |kind, why: &dyn fmt::Display| Error::new(kind, format!("{target}: {why}"));
    let address = (target.host.as_str(), target.port);
    let stream = Socks5Stream::connect_with_password(socks, address, name, "bw-testnet")
        .await
        .map_err(|error| failed(ErrorKind::Io, &error))?;
    let path = target.url.path_and_query();
    let request = Request::get(path.map_or("/", |path| path.as_str()))
        .header(header::HOST, format!("{}:{}", target.host, target.port))
        .header(header::RANGE, format!("bytes=0-{}", size.saturating_sub(1)))
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(ErrorKind::Plan, &error))?;
    exchange(stream, request, async |response| {
        let status = response.status();
        if status != StatusCode::PARTIAL_CONTENT && status != StatusCode::OK {
            return Err(failed(ErrorKind::Http, &format_args!("answered {status}")));
        }
        let mut body = response.into_body();
        let mut left = size;
        while left > 0 {
            let Some(frame) = body.frame().await else {
                let why = format_args!("the answer ended {left} bytes too early");
                return Err(failed(ErrorKind::Http, &why));
            };
            let frame = frame.map_err(|error| failed(ErrorKind::Io, &error))?;
            let length = frame.data_ref().map_or(0, Bytes::len) as u64;
            received(length.min(left));
            left = left.saturating_sub(length);
        }
        Ok(())
    })
    .await
    .unwrap_or_else(|error| Err(failed(ErrorKind::Io, &error)))
}
