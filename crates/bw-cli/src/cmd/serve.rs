//! `bwscan serve`: a destination of one's own.

mod metrics;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bw_file::BytesPerSecond;
use bw_server::{Certificate, ConnectionLimits, ContentKey, FileServer};
use bytesize::ByteSize;
use clap::Args as ClapArgs;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{COMMON, LIMITS, OUTPUT};
use crate::exit::{Exit, UsageError};
use crate::service::{Address, Endpoint};
use crate::signals::Stop;
use crate::text::{print, warn};
use crate::values;

use self::metrics::ServerMetrics;

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
    /// Keep this many of the connections for scanners that prove the key [default: a
    /// quarter of --connections, with --key-file].
    #[arg(long, requires = "key_file", help_heading = LIMITS, value_name = "N")]
    pub(crate) reserve: Option<usize>,
    /// Serve /metrics, /healthz and /readyz at this address: 127.0.0.1:9053 or
    /// unix:/run/bwscan/server.sock.
    #[arg(long, help_heading = OUTPUT, value_name = "ADDRESS")]
    pub(crate) metrics: Option<Address>,
}

/// With fewer bytes per second, no scan would end.
const LEAST_RATE: u64 = 10_000;
/// The interval at which the certificate's files are looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Serves until a signal comes.
pub(super) async fn run(args: &ServeArgs) -> anyhow::Result<Exit> {
    let stop = Stop::on_signal_but_hang_up()?;
    let certificate = certificate(args)?;
    let server = server(args)?;
    let metrics = Arc::new(ServerMetrics::new(server.statistics()));
    let endpoint = match &args.metrics {
        Some(address) => Some(Endpoint::bind(address).await?),
        None => None,
    };
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let scheme = certificate.as_ref().map_or("http", |_| "https");
    let (size, address) = (args.size.display().iec(), listener.local_addr()?);
    print(format!("serving {size} on {scheme}://{address}/"))?;
    if let Some(endpoint) = endpoint {
        print(format!("metrics on {}", endpoint.address()))?;
        let stopped = stop.token().clone().cancelled_owned();
        tokio::spawn(endpoint.serve(Arc::clone(&metrics), stopped));
    }
    let serve = server.serve(listener, certificate.clone(), stop.token().clone());
    tokio::select! {
        () = serve => Ok(Exit::Success),
        result = renew(certificate, &metrics) => result.map(|()| Exit::Success),
    }
}

fn server(args: &ServeArgs) -> anyhow::Result<FileServer> {
    if args.size.as_u64() == 0 {
        return Err(UsageError("--size must not be 0".to_owned()).into());
    }
    if args.rate.is_some_and(|rate| rate.value() < LEAST_RATE) {
        let text = format!("--rate must be at least {LEAST_RATE} bytes per second");
        return Err(UsageError(text).into());
    }
    let mut limits = ConnectionLimits::new(args.connections);
    limits.of_one_client = args.connections_per_client.unwrap_or(limits.of_one_client);
    limits.reserved = args.reserve.unwrap_or(limits.reserved);
    if limits.reserved >= limits.all && args.reserve.is_some() {
        let text = "--reserve must be less than --connections";
        return Err(UsageError(text.to_owned()).into());
    }
    let key = args.key_file.as_deref().map(ContentKey::from_file);
    Ok(FileServer::new(args.size.as_u64())
        .with_key(key.transpose()?)
        .with_rate(args.rate)
        .with_limits(limits))
}

fn certificate(args: &ServeArgs) -> anyhow::Result<Option<Certificate>> {
    let files = args.tls_cert.as_ref().zip(args.tls_key.as_ref());
    let made = args.self_signed.as_ref().zip(args.write_ca.as_ref());
    Ok(match (files, made) {
        (Some((chain, key)), _) => Some(Certificate::from_files(chain, key)?),
        (None, Some((name, ca))) => Some(self_signed(name, ca)?),
        (None, None) => None,
    })
}

/// Reads the certificate again at SIGHUP, and when its files have changed. Never ends, but with an
/// error.
async fn renew(certificate: Option<Certificate>, metrics: &ServerMetrics) -> anyhow::Result<()> {
    let mut hang_up = signal(SignalKind::hangup())?;
    loop {
        let told = tokio::select! {
            _ = hang_up.recv() => true,
            () = tokio::time::sleep(LOOK_AGAIN) => false,
        };
        let Some(certificate) = &certificate else {
            continue;
        };
        let certificate = certificate.clone();
        // Files may be on a slow disk.
        let read = tokio::task::spawn_blocking(move || match told {
            true => certificate.reload().map(|()| true),
            false => certificate.reload_if_changed(),
        });
        match read.await? {
            Ok(true) => {
                warn("the certificate was read again");
                metrics.set_problem(None);
            }
            Ok(false) => {}
            Err(error) => {
                warn(&format!("{error}; the certificate in use stays"));
                metrics.set_problem(Some(format!("a certificate that can be used: {error}")));
            }
        }
    }
}

/// A certificate made now for `name`, which is written to `ca`.
pub(super) fn self_signed(name: &str, ca: &Path) -> anyhow::Result<Certificate> {
    let certificate = Certificate::self_signed(name)?;
    std::fs::write(ca, certificate.self_signed_pem().unwrap_or_default())
        .with_context(|| format!("{}: the certificate cannot be written", ca.display()))?;
    Ok(certificate)
}
