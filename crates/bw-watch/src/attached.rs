//! Watching a scanner that runs elsewhere on this machine.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::UnixStream;

use crate::hub::Line;
use crate::shared::Shared;

/// The longest line that is read; a snapshot of a large scan has some 200 kB.
const LONGEST: u64 = 8 << 20;
/// The time between two tries to reach a scanner.
const RETRY: Duration = Duration::from_secs(1);
/// A scanner tells something each second; silence for so long means that it hangs.
const SILENCE: Duration = Duration::from_secs(15);

/// Follows the scanner whose socket is at `path` for ever, and keeps `shared` as its state is.
/// A scanner that ends is waited for.
pub async fn attach(path: &Path, shared: &Shared) -> std::convert::Infallible {
    loop {
        let reason = match UnixStream::connect(path).await {
            Ok(stream) => match follow(stream, shared).await {
                Ok(()) => "the scanner has ended".to_owned(),
                Err(error) => format!("the scanner cannot be followed: {error}"),
            },
            Err(_) => "no scanner runs".to_owned(),
        };
        shared.lock().lost.get_or_insert(reason);
        tokio::time::sleep(RETRY).await;
    }
}

/// Applies lines until the scanner ends.
async fn follow(stream: UnixStream, shared: &Shared) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut text = Vec::new();
    loop {
        text.clear();
        let mut limited = (&mut reader).take(LONGEST);
        let read = limited.read_until(b'\n', &mut text);
        if tokio::time::timeout(SILENCE, read).await?? == 0 {
            return Ok(());
        }
        if text.last() != Some(&b'\n') {
            let text = format!("a line ends early or has more than {LONGEST} bytes");
            return Err(std::io::Error::other(text));
        }
        // A newer scanner may tell more than is known here.
        let Ok(Line { time, event }) = serde_json::from_slice(&text) else {
            continue;
        };
        let mut inner = shared.lock();
        inner.lost = None;
        inner.state.apply(time, event);
    }
}
