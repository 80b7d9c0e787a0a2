//! `bwscan serve`: a destination of one's own.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use bw_file::BytesPerSecond;
use bw_measure::ContentKey;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::args::ServeArgs;
use crate::exit::{Exit, UsageError};
use crate::server::FileServer;
use crate::signals::cancel_on_signal;
use crate::text::print;

/// With less, no scan would end.
const LEAST_RATE: u64 = 10_000;

/// Serves until a signal comes.
pub(super) async fn run(args: &ServeArgs) -> anyhow::Result<Exit> {
    let cancel = cancel_on_signal()?;
    let tls = match (
        &args.tls_cert,
        &args.tls_key,
        &args.self_signed,
        &args.write_ca,
    ) {
        (Some(chain), Some(key), _, _) => Some(from_files(chain, key)?),
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
    let scheme = if tls.is_some() { "https" } else { "http" };
    print(format!(
        "serving {} on {scheme}://{}/",
        args.size.display().iec(),
        listener.local_addr()?
    ))?;
    FileServer::new(args.size.as_u64())
        .with_key(key)
        .with_rate(rate)
        .with_connections(args.connections, of_one)
        .serve(listener, tls, cancel)
        .await;
    Ok(Exit::Success)
}

/// TLS with the operator's certificate.
fn from_files(chain: &Path, key: &Path) -> anyhow::Result<TlsAcceptor> {
    let unusable = |path: &Path, what: &str| UsageError(format!("{}: {what}", path.display()));
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(chain, &error.to_string()))?;
    if certificates.is_empty() {
        return Err(unusable(chain, "no certificate in PEM form").into());
    }
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error.to_string()))?;
    acceptor(certificates, private)
}

/// TLS with a certificate made now for `name`, which is written to `ca`.
pub(super) fn self_signed(name: &str, ca: &Path) -> anyhow::Result<TlsAcceptor> {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()])
        .with_context(|| format!("no certificate can be made for {name:?}"))?;
    std::fs::write(ca, made.cert.pem())
        .with_context(|| format!("{}: the certificate cannot be written", ca.display()))?;
    let private = PrivateKeyDer::try_from(made.signing_key.serialize_der())
        .map_err(|error| anyhow::anyhow!("the key that was made is unusable: {error}"))?;
    acceptor(vec![made.cert.der().clone()], private)
}

fn acceptor(
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> anyhow::Result<TlsAcceptor> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(|error| UsageError(format!("certificate and key cannot be used: {error}")))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
