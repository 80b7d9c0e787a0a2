//! A web server with faults on demand, in front of one that works.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The behaviour of the server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mode {
    Works,
    /// Nobody listens, and connections are cut.
    Dead,
    /// Connections are taken, and nothing comes over them any more.
    Stalls,
    /// New connections get this answer.
    Lies(&'static str),
}

/// Wrong answers to a request for a range of a large file.
pub(crate) const LIES: [&str; 3] = [
    "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
    // Less than was asked for.
    "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-3/4\r\nContent-Length: 4\r\n\r\nfour",
    // The connection ends before its own length.
    "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1073741823/1073741824\r\n\
     Content-Length: 1073741824\r\n\r\nfour",
];

/// A server that forwards to another, or does not.
pub(crate) struct FaultyServer {
    pub(crate) url: String,
    mode: watch::Sender<Mode>,
}

impl FaultyServer {
    /// Starts one on a free port in front of the server at `url`; it runs
    /// until the runtime ends.
    pub(crate) async fn start(url: &str) -> Self {
        let behind = url.trim_start_matches("http://").trim_end_matches('/');
        let behind: SocketAddr = behind.parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, told) = watch::channel(Mode::Works);
        tokio::spawn(listen(listener, behind, told));
        Self {
            url: format!("http://{address}/"),
            mode,
        }
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn listen(first: TcpListener, behind: SocketAddr, mut mode: watch::Receiver<Mode>) {
    let address = first.local_addr().unwrap();
    let mut listener = first;
    loop {
        let each = mode.clone();
        let dead = tokio::select! {
            () = accept(listener, behind, each) => return,
            told = mode.wait_for(|mode| *mode == Mode::Dead) => told.is_ok(),
        };
        if !dead || mode.wait_for(|mode| *mode != Mode::Dead).await.is_err() {
            return;
        }
        listener = TcpListener::bind(address).await.unwrap();
    }
}

async fn accept(listener: TcpListener, behind: SocketAddr, mode: watch::Receiver<Mode>) {
    while let Ok((stream, _)) = listener.accept().await {
        let mode = mode.clone();
        // What breaks here is what the scanner is to notice.
        tokio::spawn(async move { serve(stream, behind, mode).await.ok() });
    }
}

async fn serve(
    mut client: TcpStream,
    behind: SocketAddr,
    mut mode: watch::Receiver<Mode>,
) -> std::io::Result<()> {
    let now = *mode.borrow_and_update();
    if let Mode::Lies(lie) = now {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") && client.read_buf(&mut request).await? > 0 {}
        client.write_all(lie.as_bytes()).await?;
        return client.shutdown().await;
    }
    let mut server = TcpStream::connect(behind).await?;
    let forward = copy_bidirectional(&mut client, &mut server);
    tokio::pin!(forward);
    loop {
        let now = *mode.borrow_and_update();
        let changed = mode.changed();
        match now {
            Mode::Dead => return Ok(()),
            Mode::Stalls => {
                if changed.await.is_err() {
                    return Ok(());
                }
            }
            Mode::Works | Mode::Lies(_) => tokio::select! {
                ended = &mut forward => return ended.map(|_| ()),
                changed = changed => if changed.is_err() {
                    return Ok(());
                },
            },
        }
    }
}
