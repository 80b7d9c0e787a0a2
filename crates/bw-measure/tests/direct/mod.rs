//! Measurements of a web server without relays: real sockets, no Tor.

use std::net::SocketAddr;
use std::time::Duration;

use bw_file::Fingerprint;
use bw_measure::{
    Assignment, ContentKey, Destination, Direct, HttpTransport, Lease, LevelHalf, Measurer, Tls,
    WallClock,
};
use bw_protocol::Nonce;
use bw_results::{Direction, Failure, Outcome, Position, TargetFacts, Transfer, UnixMillis};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Measures the server at `address`, with at most `bytes`, for 1 to 2 s; a
/// silence of half a second is a failure.
pub(crate) async fn measure(
    address: SocketAddr,
    direction: Direction,
    key: Option<ContentKey>,
    bytes: u64,
) -> Result<Transfer, Failure> {
    let destination = Destination::new(&format!("http://{address}/file")).unwrap();
    let mut transport = HttpTransport::new(Direct, Tls::with_public_roots().unwrap());
    transport.timeouts.response = Duration::from_secs(3);
    transport.key = key;
    let estimator =
        |_: &TargetFacts| LevelHalf::new(Duration::from_secs(1), Duration::from_secs(2));
    let clock = WallClock::starting_at(UnixMillis::new(1));
    let mut measurer = Measurer::new(transport, estimator, clock);
    measurer.options.max_bytes = bytes;
    // Silence is none of less than a second: machines that test are busy.
    measurer.options.stall = Duration::from_millis(1500);
    let relay = |byte| Fingerprint::from_bytes([byte; 20]);
    let target = TargetFacts::new(relay(1));
    let mut assignment = Assignment::new(target, Position::Entry, vec![relay(2)], destination);
    assignment.direction = direction;
    match measurer
        .measure(&assignment, &Lease::unlimited(), &mut (), &())
        .await
    {
        Outcome::Measured(mut measurement) => Ok(measurement.transfers.remove(0)),
        Outcome::Failed(failure) => Err(failure),
    }
}

/// The head of a request, which was read to its last byte and no further.
pub(crate) struct Head {
    pub(crate) text: String,
    pub(crate) nonce: Option<Nonce>,
}

/// Reads the head of a request.
pub(crate) async fn request(stream: &mut TcpStream) -> Head {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let text = String::from_utf8(head).unwrap();
    let nonce = text
        .lines()
        .find_map(|line| line.strip_prefix(Nonce::HEADER)?.strip_prefix(": "))
        .map(|nonce| nonce.parse().unwrap());
    Head { text, nonce }
}
