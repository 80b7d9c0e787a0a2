//! The time that a server takes for a page, with a hundred requests at once.
//!
//! `cargo run --release --example load -- ADDRESS [PATH [BURSTS]]`

#![expect(clippy::print_stdout, reason = "examples show what they do")]

use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::future::try_join_all;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Requests at once, each on a connection of its own.
const AT_ONCE: usize = 100;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().context("ADDRESS is a host and port")?;
    let path = arguments.next().unwrap_or_else(|| "/".to_owned());
    let bursts: usize = arguments.next().map_or(Ok(50), |text| text.parse())?;

    let mut clients = Vec::with_capacity(AT_ONCE);
    for _ in 0..AT_ONCE {
        let stream = TcpStream::connect(&address).await?;
        stream.set_nodelay(true)?;
        clients.push(BufReader::new(stream));
    }
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let mut times = Vec::with_capacity(AT_ONCE * bursts);
    let mut bytes = 0;
    for _ in 0..bursts {
        let asked = clients.iter_mut().map(|client| ask(client, &request));
        for (time, length) in try_join_all(asked).await? {
            times.push(time);
            bytes = length;
        }
    }
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{} requests for {bytes} bytes, {AT_ONCE} at once: median {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
        times.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    Ok(())
}

/// Asks once; returns the time until the whole answer was there, and its length.
async fn ask(
    client: &mut BufReader<TcpStream>,
    request: &str,
) -> anyhow::Result<(Duration, usize)> {
    let begin = Instant::now();
    client.get_mut().write_all(request.as_bytes()).await?;
    let mut length = None;
    let mut line = String::new();
    client.read_line(&mut line).await?;
    anyhow::ensure!(line.starts_with("HTTP/1.1 200"), "{line}");
    loop {
        line.clear();
        client.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse()?);
        }
    }
    let mut body = vec![0; length.context("the answer has no length")?];
    client.read_exact(&mut body).await?;
    Ok((begin.elapsed(), body.len()))
}
