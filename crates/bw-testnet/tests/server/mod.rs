//! A web server for downloads.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Serves on a free port, until the runtime ends; gives the URL.
pub(crate) async fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/file", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // A client that goes away in the middle is none of our business.
            tokio::spawn(async move { answer(stream).await.ok() });
        }
    });
    url
}

/// Answers one request for the bytes 0 to N, or 404.
async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let request = String::from_utf8_lossy(&request).to_lowercase();
    if !request.starts_with("get /file ") {
        let refusal = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
        return stream.write_all(refusal).await;
    }
    let last = request.split("range: bytes=0-").nth(1).unwrap();
    let length = last.lines().next().unwrap().parse::<usize>().unwrap() + 1;
    let head = format!("HTTP/1.1 206 Partial Content\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&vec![b'x'; length]).await?;
    stream.shutdown().await
}
