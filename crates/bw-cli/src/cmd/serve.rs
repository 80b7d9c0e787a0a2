//! `bwscan serve`: a destination of one's own.

use std::path::Path;

use anyhow::Context;
use bw_file::BytesPerSecond;
use bw_server::{Certificate, ContentKey, FileServer};
use tokio::net::TcpListener;

use crate::args::ServeArgs;
use crate::exit::{Exit, UsageError};
use crate::signals::cancel_on_signal;
use crate::text::print;

/// With less, no scan would end.
const LEAST_RATE: u64 = 10_000;

/// Serves until a signal comes.
pub(super) async fn run(args: &ServeArgs) -> anyhow::Result<Exit> {
    let cancel = cancel_on_signal()?;
    let certificate = match (
        &args.tls_cert,
        &args.tls_key,
        &args.self_signed,
        &args.write_ca,
    ) {
        (Some(chain), Some(key), _, _) => Some(Certificate::from_files(chain, key)?),
        (_, _, Some(name), Some(ca)) => Some(self_signed(name, ca)?),
        _ => None,
    };
    if args.size.as_u64() == 0 {
        return Err(UsageError("--size must not be 0".to_owned()).into());
    }
    let rate = args.rate.map(BytesPerSecond::value);
    if rate.is_some_and(|rate| rate < LEAST_RATE) {
        let text = format!("--rate must be at least {LEAST_RATE} bytes per second");
        return Err(UsageError(text).into());
    }
    let key = args
        .key_file
        .as_deref()
        .map(ContentKey::from_file)
        .transpose()?;
    let half = args.connections.div_ceil(2);
    let of_one = args.connections_per_client.unwrap_or(half);
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let scheme = if certificate.is_some() {
        "https"
    } else {
        "http"
    };
    print(format!(
        "serving {} on {scheme}://{}/",
        args.size.display().iec(),
        listener.local_addr()?
    ))?;
    FileServer::new(args.size.as_u64())
        .with_key(key)
        .with_rate(rate)
        .with_connections(args.connections, of_one)
        .serve(listener, certificate, cancel)
        .await;
    Ok(Exit::Success)
}

/// A certificate made now for `name`, which is written to `ca`.
pub(super) fn self_signed(name: &str, ca: &Path) -> anyhow::Result<Certificate> {
    let certificate = Certificate::self_signed(name)?;
    std::fs::write(ca, certificate.self_signed_pem().unwrap_or_default())
        .with_context(|| format!("{}: the certificate cannot be written", ca.display()))?;
    Ok(certificate)
}
