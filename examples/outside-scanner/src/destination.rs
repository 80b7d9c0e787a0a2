//! A web server to measure against, as small as one can be.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// The size of the file, in bytes.
const SIZE: u64 = 1 << 30;
/// The longest head of a request, in bytes.
const HEAD: u64 = 16 << 10;

/// Serves one file of zeros under every path, in ranges that begin at its first byte.
pub(crate) async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        // A client that hangs up has seen enough.
        tokio::spawn(async move { answer(stream).await.ok() });
    }
}

async fn answer(stream: TcpStream) -> io::Result<()> {
    use tokio::io::AsyncReadExt;
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader.take(HEAD)).lines();
    let mut last = SIZE - 1;
    while let Some(line) = lines.next_line().await? {
        if line.is_empty() {
            break;
        }
        let lower = line.to_ascii_lowercase();
        let range = lower.strip_prefix("range: bytes=0-");
        last = range.and_then(|end| end.parse().ok()).unwrap_or(last);
    }
    let last = last.min(SIZE - 1);
    let mut left = last + 1;
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 0-{last}/{SIZE}\r\n\
         content-length: {left}\r\nconnection: close\r\n\r\n"
    );
    writer.write_all(head.as_bytes()).await?;
    let zeros = [0; 16 << 10];
    while left > 0 {
        let piece = left.min(zeros.len() as u64);
        writer.write_all(&zeros[..piece as usize]).await?;
        left -= piece;
    }
    writer.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn a_range_is_as_long_as_it_says() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: h\r\nRange: bytes=0-99999\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n");
        assert_eq!(answer.len() - head.unwrap() - 4, 100_000);
    }
}
