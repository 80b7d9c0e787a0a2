//! TLS to the web servers.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{Destination, Error, ErrorKind};

/// The proof that web servers give of who they are.
///
/// Certificates are always verified: an exit that could pose as the server
/// could invent any bandwidth.
#[derive(Clone)]
pub struct Tls {
    connector: TlsConnector,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// Trusts Mozilla's roots, as compiled in, and nothing of this machine.
    ///
    /// # Errors
    /// If the TLS library refuses its own defaults.
    pub fn with_public_roots() -> Result<Self, Error> {
        Self::with_roots(RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        })
    }

    /// Trusts the certificates of the PEM file at `path`, and no others.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if the file cannot be read or holds no
    /// usable certificate.
    pub fn with_ca_file(path: &Path) -> Result<Self, Error> {
        let refuse = |why: String| {
            let text = format!("CA file {}: {why}", path.display());
            Error::new(ErrorKind::Configuration, text)
        };
        let mut roots = RootCertStore::empty();
        let certificates =
            CertificateDer::pem_file_iter(path).map_err(|error| refuse(error.to_string()))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
            roots
                .add(certificate)
                .map_err(|error| refuse(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(refuse("it holds no certificate in PEM form".to_owned()));
        }
        Self::with_roots(roots)
    }

    fn with_roots(roots: RootCertStore) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::new(ErrorKind::Configuration, error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
        })
    }

    /// Shakes hands with `destination` over `stream`.
    pub(crate) async fn connect<S>(
        &self,
        destination: &Destination,
        stream: S,
    ) -> std::io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(destination.server_name().to_owned())
            .map_err(std::io::Error::other)?;
        self.connector.connect(name, stream).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn public_roots_are_usable() {
        assert!(Tls::with_public_roots().is_ok());
    }

    #[test]
    fn ca_files_are_refused_by_name() {
        let missing = Path::new("/nonexistent/ca.pem");
        let text = Tls::with_ca_file(missing).unwrap_err().to_string();
        assert!(text.contains("/nonexistent/ca.pem"), "{text}");

        let mut empty = tempfile::NamedTempFile::new().unwrap();
        writeln!(empty, "not a certificate").unwrap();
        let text = Tls::with_ca_file(empty.path()).unwrap_err().to_string();
        assert!(text.contains("no certificate"), "{text}");
    }
}
