//! `bwscan serve`: a destination of one's own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use bw_file::BytesPerSecond;
use bw_server::{Certificate, ContentKey, FileServer};
use bytesize::ByteSize;
use clap::Args as ClapArgs;
use tokio::net::TcpListener;

use crate::args::{COMMON, LIMITS};
use crate::exit::{Exit, UsageError};
use crate::signals::cancel_on_signal;
use crate::text::print;
use crate::values;

#[derive(Debug, ClapArgs)]
#[command(next_help_heading = COMMON)]
pub(crate) struct ServeArgs {
    /// Listen on this address and port.
    #[arg(short, long, default_value = "127.0.0.1:8000", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
    /// Serve a file of this size.
    #[arg(long, default_value = "1GiB", value_parser = values::size, value_name = "SIZE")]
    pub(crate) size: ByteSize,
    /// Serve HTTPS with this certificate chain (PEM).
    #[arg(long, requires = "tls_key", value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Use this private key of the certificate (PEM).
    #[arg(long, requires = "tls_cert", value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Serve HTTPS with a new certificate for this host name or address.
    ///
    /// Scanners trust it with --ca-file.
    #[arg(
        long,
        conflicts_with = "tls_cert",
        requires = "write_ca",
        value_name = "NAME"
    )]
    pub(crate) self_signed: Option<String>,
    /// Write that certificate to this file.
    #[arg(long, requires = "self_signed", value_name = "FILE")]
    pub(crate) write_ca: Option<PathBuf>,
    /// Prove to scanners that every byte comes from here, by this shared secret.
    ///
    /// The secret has at least 16 bytes. Scanners take it with
    /// --destination-key-file.
    #[arg(long, env = "BWSCAN_KEY_FILE", value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Send and receive at most this much per second, all clients together; tell
    /// them so [default: no limit].
    #[arg(long, value_parser = values::rate, help_heading = LIMITS, value_name = "RATE")]
    pub(crate) rate: Option<BytesPerSecond>,
    /// Answer 503 to connections beyond this number.
    #[arg(long, default_value_t = 1024, value_parser = values::count, help_heading = LIMITS,
          value_name = "N")]
    pub(crate) connections: usize,
    /// Answer 503 to connections of one client beyond this number [default: half of
    /// --connections]. A client is an IPv4 address or an IPv6 network of 64 bits.
    #[arg(long, value_parser = values::count, help_heading = LIMITS, value_name = "N")]
    pub(crate) connections_per_client: Option<usize>,
}

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
