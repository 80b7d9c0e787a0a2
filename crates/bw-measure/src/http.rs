//! Payload over circuits and HTTP/1.1: one circuit, one stream, one request,
//! verified.

mod download;
mod flow;
mod playout;
mod request;
mod upload;
mod waiting;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bw_results::{FailureKind, Stage, Timings};
use hyper::StatusCode;
use hyper::header::HeaderMap;
use tokio::time::{Instant, timeout};
use tokio_util::either::Either;

pub use self::flow::HttpFlow;
use self::request::Request;
use self::waiting::Watched;
use crate::error::chain;
use crate::{
    Circuit, Circuits, ContentKey, Fault, Order, PathError, StageTimeouts, Tls, Transport, TwoHops,
};

/// Downloads and uploads over HTTP/1.1 and HTTPS through circuits of its own.
///
/// Each flow has a circuit, a stream and a request for itself; nothing depends
/// on a server's keep-alive, and a redirect is not followed.
///
/// A download asks for a Range. The answer must be 206 with the range that was
/// asked for, or the part of it that the file has, and with just as many
/// bytes. An upload is a POST that the server answers at once, with
/// [`Receipts`](bw_protocol::Receipts); only what they confirm counts, at the pace of the server's
/// clock, and no more is sent than two seconds ahead of them.
///
/// With a key, the request carries a [`Nonce`](bw_protocol::Nonce), and nobody but the server can
/// send or confirm a single byte. A flow that takes nearly all of what the
/// server says that it gives ([`RATE_HEADER`](bw_protocol::RATE_HEADER)) fails: that is no relay's rate.
#[derive(Debug)]
#[non_exhaustive]
pub struct HttpTransport<C> {
    /// Builds the circuits.
    pub circuits: C,
    /// The proof that web servers give of who they are.
    pub tls: Tls,
    /// The longest time for each stage.
    pub timeouts: StageTimeouts,
    /// The secret that all destinations must share with us. Default: none.
    pub key: Option<ContentKey>,
    /// True if it was said that a server has a limit.
    warned: Arc<AtomicBool>,
}

impl<C: Circuits> HttpTransport<C> {
    /// A transport over `circuits` with default limits.
    pub fn new(circuits: C, tls: Tls) -> Self {
        Self {
            circuits,
            tls,
            timeouts: StageTimeouts::default(),
            key: None,
            warned: Arc::default(),
        }
    }
}

impl<C: Circuits> Transport for HttpTransport<C>
where
    C::Circuit: 'static,
{
    type Flow = HttpFlow<C::Circuit>;

    async fn open(
        &self,
        path: TwoHops,
        order: &Order<'_>,
        timings: &mut Timings,
    ) -> Result<Self::Flow, PathError> {
        let opening = Instant::now();
        let circuit = self.circuits.build(path, &self.timeouts, timings).await?;
        let destination = order.destination;
        let begin = Instant::now();
        let stream = circuit
            .connect(
                destination.host(),
                destination.port(),
                &self.timeouts.left(opening),
            )
            .await?;
        timings.begin = Some(begin.elapsed());
        let stream = Watched::new(stream);
        let waiting = stream.waiting();
        let stream = if destination.is_tls() {
            let begin = Instant::now();
            let limit = self.timeouts.left(opening).tls;
            let stream = timeout(limit, self.tls.connect(destination, stream))
                .await
                .map_err(|_| tls_timeout(limit))?
                .map_err(|error| tls_problem(&error))?;
            timings.tls = Some(begin.elapsed());
            Either::Right(stream)
        } else {
            Either::Left(stream)
        };
        let request = Request {
            destination: destination.clone(),
            direction: order.direction,
            bytes: order.bytes,
            key: self.key.clone(),
            patience: self.timeouts.response,
            warned: Arc::clone(&self.warned),
        };
        Ok(HttpFlow::new(stream, waiting, request, circuit))
    }
}

/// A stage, how it failed, and the cause in words.
type Problem = (Stage, FailureKind, String);

fn local(detail: impl Into<String>) -> PathError {
    PathError::new(Stage::Http, FailureKind::Local, Fault::Scanner, detail)
}

fn number(headers: &HeaderMap, name: impl hyper::header::AsHeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

fn wrong_status(status: StatusCode, expected: StatusCode) -> PathError {
    PathError::new(
        Stage::Http,
        FailureKind::Status,
        Fault::Destination,
        format!(
            "the server answered {status}, not {}{}",
            expected.as_u16(),
            advice(status)
        ),
    )
}

/// Advice to the operator about a wrong status.
fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => "; check the path of the destination",
        StatusCode::OK => "; it ignores Range requests",
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "; it does not let everyone in",
        status if status.is_redirection() => "; give the URL to which it redirects",
        StatusCode::METHOD_NOT_ALLOWED => "; uploads need \"bwscan serve\"",
        _ => "",
    }
}

fn tls_timeout(limit: Duration) -> PathError {
    PathError::new(
        Stage::Tls,
        FailureKind::Timeout,
        Fault::Destination,
        format!("no handshake within {} s", limit.as_secs_f64()),
    )
}

fn tls_problem(error: &std::io::Error) -> PathError {
    use std::io::ErrorKind;
    let kind = match error.kind() {
        // rustls reports alerts and bad certificates as invalid data. An exit
        // that poses as the server looks the same as a server with a wrong
        // certificate, so that the fault is anyone's on the way.
        ErrorKind::InvalidData => FailureKind::Protocol,
        _ => FailureKind::Closed,
    };
    let detail = certificate_problem(error).map_or_else(|| chain(error), ToOwned::to_owned);
    PathError::new(Stage::Tls, kind, Fault::Either, detail)
}

/// The usual problems with a certificate, and what to do about them.
fn certificate_problem(error: &std::io::Error) -> Option<&'static str> {
    use rustls::CertificateError as Problem;
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let rustls::Error::InvalidCertificate(problem) = error else {
        return None;
    };
    Some(match problem {
        Problem::UnknownIssuer => {
            "the certificate of the server is from an unknown issuer; give that one's with --ca-file"
        }
        Problem::Expired | Problem::ExpiredContext { .. } => {
            "the certificate of the server has expired; renew it, or check the clock here"
        }
        Problem::NotValidYet | Problem::NotValidYetContext { .. } => {
            "the certificate of the server is not valid yet; check the clock here"
        }
        Problem::NotValidForName | Problem::NotValidForNameContext { .. } => {
            "the certificate of the server is for another host name; check the destination"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_problems_come_with_advice() {
        use rustls::{CertificateError, Error};
        let problem = |error| {
            let error = Error::InvalidCertificate(error);
            tls_problem(&std::io::Error::new(std::io::ErrorKind::InvalidData, error)).detail
        };
        let text = problem(CertificateError::UnknownIssuer);
        assert!(
            text.contains("--ca-file") && !text.contains("UnknownIssuer"),
            "{text}"
        );
        assert!(problem(CertificateError::Expired).contains("clock"));
        assert!(problem(CertificateError::NotValidForName).contains("host name"));
        let text = wrong_status(StatusCode::NOT_FOUND, StatusCode::PARTIAL_CONTENT).detail;
        assert_eq!(
            text,
            "the server answered 404 Not Found, not 206; check the path of the destination"
        );
    }
}
