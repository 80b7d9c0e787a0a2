//! The advertised port of a relay that has a line.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::Instant;

use super::pipe::{Way, pass_on};
use super::{Line, Lines};
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
/// How long to wait when the system has no more sockets.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes the connections of one relay, and makes one to it for each.
#[derive(Debug)]
pub(super) struct Front {
    listener: std::net::TcpListener,
    address: SocketAddrV4,
    /// Where tor listens.
    inner: SocketAddrV4,
    lines: Arc<Lines>,
}

impl Front {
    pub(super) fn listen(
        address: SocketAddrV4,
        inner: SocketAddrV4,
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
            let theirs = line_of(peer.ip());
            let ours = line_of((*self.address.ip()).into());
            let inner = self.inner;
            tokio::spawn(async move {
                // Whoever ends a connection with an error tells both ends by that.
                if let Err(error) = join(outer, peer.ip(), inner, theirs, ours).await {
                    tracing::debug!("{peer} to {inner}: {error}");
                }
            });
        }
    }
}

/// Passes on what the two ends say to each other.
async fn join(
    outer: TcpStream,
    peer: IpAddr,
    inner: SocketAddrV4,
    theirs: Option<Arc<Line>>,
    ours: Option<Arc<Line>>,
) -> io::Result<()> {
    let there = Way {
        from: theirs.clone(),
        to: ours.clone(),
    };
    let back = Way {
        from: ours,
        to: theirs,
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
    let opened = now + 2 * there.delay();
    let (outer_source, outer_sink) = outer.into_split();
    let (inner_source, inner_sink) = inside.into_split();
    tokio::try_join!(
        pass_on(outer_source, inner_sink, there, opened),
        pass_on(inner_source, outer_sink, back, now),
    )?;
    Ok(())
}
