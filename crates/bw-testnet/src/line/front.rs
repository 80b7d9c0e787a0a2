//! The advertised port of a relay that has a line.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::Instant;

use super::Lines;
use super::pipe::{Way, pass_on};
use crate::{Error, ErrorKind};

/// As on Ethernet, and not the 64 KiB of the loopback interface: tor (KIST) gives the
/// kernel as many segments as its congestion window has, ten at least.
const SEGMENT: u32 = 1448;
/// The kernel holds for us what a line carries in this time, so that what waits for a
/// narrow line waits in tor.
const BUFFERED: Duration = Duration::from_millis(40);
const SMALLEST_BUFFER: usize = 16 * 1024;
const LARGEST_BUFFER: usize = 256 * 1024;
/// Connections that wait to be taken.
const BACKLOG: i32 = 1024;
/// The pause when the system has no more sockets.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes the connections of one relay, and makes one to it for each.
#[derive(Debug)]
pub(super) struct Front {
    listener: std::net::TcpListener,
    address: SocketAddrV4,
    /// Where tor listens.
    inner: SocketAddrV4,
    /// One way.
    delay: Duration,
    lines: Arc<Lines>,
}

impl Front {
    /// Listens at `address` for connections to `inner` that `delay` is away.
    pub(super) fn listen(
        address: SocketAddrV4,
        inner: SocketAddrV4,
        delay: Duration,
        lines: Arc<Lines>,
    ) -> Result<Self, Error> {
        let listen = || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            // Both are handed down to the connections.
            socket.set_tcp_mss(SEGMENT)?;
            socket.set_recv_buffer_size(LARGEST_BUFFER)?;
            socket.bind(&SocketAddr::from(address).into())?;
            socket.listen(BACKLOG)?;
            io::Result::Ok(socket.into())
        };
        let listener = listen().map_err(|error| {
            Error::new(ErrorKind::Io, format!("listening on {address}")).with_source(error)
        })?;
        Ok(Self {
            listener,
            address,
            inner,
            delay,
            lines,
        })
    }

    pub(super) async fn serve(self) -> Result<(), Error> {
        let listener = TcpListener::from_std(self.listener).map_err(|error| {
            Error::new(ErrorKind::Io, format!("listening on {}", self.address)).with_source(error)
        })?;
        loop {
            let Ok((outer, peer)) = listener.accept().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let line_of = |address: IpAddr| match address {
                IpAddr::V4(address) => self.lines.get(&address).cloned(),
                IpAddr::V6(_) => None,
            };
            let way = Way {
                delay: self.delay,
                from: line_of(peer.ip()),
                to: line_of((*self.address.ip()).into()),
            };
            let inner = self.inner;
            tokio::spawn(async move {
                // Whoever ends a connection with an error tells both ends by that.
                if let Err(error) = join(outer, peer.ip(), inner, way).await {
                    tracing::debug!("{peer} to {inner}: {error}");
                }
            });
        }
    }
}

/// Passes on what the two ends say to each other.
async fn join(outer: TcpStream, peer: IpAddr, inner: SocketAddrV4, there: Way) -> io::Result<()> {
    let back = Way {
        delay: there.delay,
        from: there.to.clone(),
        to: there.from.clone(),
    };
    let buffer = there.carries(BUFFERED);
    let buffer = buffer.map_or(LARGEST_BUFFER, |size| {
        size.clamp(SMALLEST_BUFFER, LARGEST_BUFFER)
    });
    let socket = TcpSocket::new_v4()?;
    SockRef::from(&socket).set_tcp_mss(SEGMENT)?;
    SockRef::from(&socket).set_recv_buffer_size(buffer)?;
    // tor must see who speaks to it.
    socket.bind((peer, 0).into())?;
    let inside = socket.connect(inner.into()).await?;
    SockRef::from(&outer).set_recv_buffer_size(buffer)?;
    for stream in [&outer, &inside] {
        stream.set_nodelay(true)?;
        SockRef::from(stream).set_send_buffer_size(LARGEST_BUFFER)?;
    }
    let now = Instant::now();
    // The connection itself takes a round trip.
    let opened = now + 2 * there.delay;
    let (outer_source, outer_sink) = outer.into_split();
    let (inner_source, inner_sink) = inside.into_split();
    tokio::try_join!(
        pass_on(outer_source, inner_sink, there, opened),
        pass_on(inner_source, outer_sink, back, now),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use bw_file::BytesPerSecond;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::Line;
    use super::*;

    const MEGABYTE: u64 = 1_000_000;

    /// Sends a quarter of a megabyte to a relay, or takes it from there; gives the time until
    /// the first byte and until the last one.
    async fn carry(from: Ipv4Addr, lines: Lines, delay: Duration, upwards: bool) -> [Duration; 2] {
        let home = Ipv4Addr::new(127, 111, 7, 1);
        let free = std::net::TcpListener::bind((home, 0)).unwrap();
        let inner = TcpListener::bind((home, 0)).await.unwrap();
        let inside = SocketAddrV4::new(home, inner.local_addr().unwrap().port());
        let outside = SocketAddrV4::new(home, free.local_addr().unwrap().port());
        drop(free);
        let front = Front::listen(outside, inside, delay, Arc::new(lines)).unwrap();
        tokio::spawn(front.serve());
        let began = Instant::now();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let client = socket.connect(outside.into()).await.unwrap();
        let (relay, peer) = inner.accept().await.unwrap();
        assert_eq!(
            peer.ip(),
            IpAddr::V4(from),
            "the relay sees who speaks to it"
        );
        let (mut source, mut sink) = if upwards {
            (client, relay)
        } else {
            (relay, client)
        };
        let sending = tokio::spawn(async move {
            source
                .write_all(&vec![1; MEGABYTE as usize / 4])
                .await
                .unwrap();
        });
        sink.read_u8().await.unwrap();
        let first = began.elapsed();
        let mut rest = Vec::new();
        sink.read_to_end(&mut rest).await.unwrap();
        sending.await.unwrap();
        assert_eq!(rest.len() as u64, MEGABYTE / 4 - 1);
        [first, began.elapsed()]
    }

    fn line(rate: u64) -> Arc<Line> {
        Arc::new(Line::new(Some(BytesPerSecond::new(rate))))
    }

    #[tokio::test]
    async fn both_ends_pay_with_their_lines_and_wait_for_the_distance() {
        let (home, other) = (Ipv4Addr::new(127, 111, 7, 1), Ipv4Addr::new(127, 111, 7, 2));
        let delay = Duration::from_millis(30);
        for (from, rate, upwards) in [
            // A client has no line, the relay's is the limit.
            (Ipv4Addr::LOCALHOST, Some(MEGABYTE), true),
            (Ipv4Addr::LOCALHOST, Some(MEGABYTE), false),
            // Another relay's line is the narrower one.
            (other, Some(4 * MEGABYTE), true),
            (other, Some(4 * MEGABYTE), false),
            (other, None, false),
        ] {
            let mut lines = Lines::from([(other, line(MEGABYTE))]);
            lines.extend(rate.map(|rate| (home, line(rate))));
            let [first, last] = carry(from, lines, delay, upwards).await;
            // Of a connection's round trip, only the one who opens it sees all.
            let nearest = if upwards { 3 * delay } else { delay };
            assert!(first >= nearest, "{first:?}");
            let seconds = last.saturating_sub(first).as_secs_f64();
            assert!(
                (0.2..0.6).contains(&seconds),
                "{seconds} for a quarter of a second"
            );
        }
    }

    #[tokio::test]
    async fn a_distance_alone_does_not_limit() {
        let delay = Duration::from_millis(30);
        let [first, last] = carry(Ipv4Addr::LOCALHOST, Lines::new(), delay, false).await;
        assert!(first >= delay, "{first:?}");
        // 32, 64 and 128 KiB in the first round trips.
        assert!(last < Duration::from_millis(600), "{last:?}");
    }
}
