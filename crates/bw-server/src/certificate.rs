//! The certificate of a server.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// A certificate chain and its private key, which can be replaced while a server uses them.
#[derive(Clone, Debug)]
pub struct Certificate {
    origin: Origin,
    current: Arc<Current>,
    config: Arc<ServerConfig>,
}

/// A certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A file cannot be read, or has not what it should have.
    #[error("{}: {detail}", path.display())]
    #[non_exhaustive]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        detail: String,
    },
    /// TLS refuses the pair, or none can be made for a name.
    #[error("{detail}")]
    #[non_exhaustive]
    Unusable {
        /// The cause.
        detail: String,
    },
}

#[derive(Clone, Debug)]
enum Origin {
    Files {
        chain: PathBuf,
        key: PathBuf,
        /// The state of the files when they were read last.
        seen: Arc<Mutex<Stamps>>,
    },
    Made {
        pem: Arc<str>,
    },
}

/// Modification time and length of the chain and of the key.
type Stamps = [Option<(SystemTime, u64)>; 2];

/// The pair that new connections get.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current))
    }
}

impl Certificate {
    /// The certificate chain and the private key in these files (PEM).
    ///
    /// # Errors
    /// [`CertificateError`] if a file cannot be read, or the key is not the certificate's.
    pub fn from_files(chain: &Path, key: &Path) -> Result<Self, CertificateError> {
        let seen = Arc::new(Mutex::new(stamps(chain, key)));
        let pair = read(chain, key)?;
        let (chain, key) = (chain.to_owned(), key.to_owned());
        Self::new(Origin::Files { chain, key, seen }, pair)
    }

    /// A certificate made now for `name`, a host name or an address; clients trust it by
    /// [`self_signed_pem`](Self::self_signed_pem).
    ///
    /// # Errors
    /// [`CertificateError`] if there can be no certificate for such a name.
    pub fn self_signed(name: &str) -> Result<Self, CertificateError> {
        let unusable = |detail: &dyn std::fmt::Display| CertificateError::Unusable {
            detail: format!("no certificate can be made for {name:?}: {detail}"),
        };
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()])
            .map_err(|error| unusable(&error))?;
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())
            .map_err(|error| unusable(&error))?;
        let pair = certified(vec![made.cert.der().clone()], key)?;
        let pem = made.cert.pem().into();
        Self::new(Origin::Made { pem }, pair)
    }

    fn new(origin: Origin, pair: CertifiedKey) -> Result<Self, CertificateError> {
        let current = Arc::new(Current(RwLock::new(Arc::new(pair))));
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Current>::clone(&current));
        Ok(Self {
            origin,
            current,
            config: Arc::new(config),
        })
    }

    /// The certificate in PEM, if it was made by [`self_signed`](Self::self_signed).
    pub fn self_signed_pem(&self) -> Option<&str> {
        match &self.origin {
            Origin::Made { pem } => Some(pem),
            Origin::Files { .. } => None,
        }
    }

    /// Reads the files again; connections that begin from now on get what they have. If they
    /// cannot be used, the pair that was in use stays. One that was made stays too.
    ///
    /// # Errors
    /// [`CertificateError`] as for [`from_files`](Self::from_files).
    pub fn reload(&self) -> Result<(), CertificateError> {
        if let Origin::Files { chain, key, seen } = &self.origin {
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = stamps(chain, key);
            let pair = Arc::new(read(chain, key)?);
            *self
                .current
                .0
                .write()
                .unwrap_or_else(PoisonError::into_inner) = pair;
        }
        Ok(())
    }

    /// Reads the files again if one of them has changed since they were read. Returns true if
    /// they were, and can be used.
    ///
    /// # Errors
    /// [`CertificateError`] as for [`from_files`](Self::from_files); once for each change.
    pub fn reload_if_changed(&self) -> Result<bool, CertificateError> {
        let Origin::Files { chain, key, seen } = &self.origin else {
            return Ok(false);
        };
        if *seen.lock().unwrap_or_else(PoisonError::into_inner) == stamps(chain, key) {
            return Ok(false);
        }
        self.reload().map(|()| true)
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

fn stamps(chain: &Path, key: &Path) -> Stamps {
    [chain, key].map(|path| {
        let file = std::fs::metadata(path).ok()?;
        Some((file.modified().ok()?, file.len()))
    })
}

fn read(chain: &Path, key: &Path) -> Result<CertifiedKey, CertificateError> {
    let refuse = |path: &Path, detail: String| CertificateError::File {
        path: path.to_owned(),
        detail,
    };
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| refuse(chain, error.to_string()))?;
    if certificates.is_empty() {
        return Err(refuse(chain, "no certificate in PEM form".to_owned()));
    }
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|error| refuse(key, error.to_string()))?;
    certified(certificates, private)
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, CertificateError> {
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| CertificateError::Unusable {
        detail: format!("certificate and key cannot be used: {error}"),
    })
}

fn unusable(error: &rustls::Error) -> CertificateError {
    CertificateError::Unusable {
        detail: error.to_string(),
    }
}

/// The same as bw-measure's, whatever else the process has installed.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a new pair for `name`; returns the certificate.
    fn write(name: &str, chain: &Path, key: &Path) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        std::fs::write(chain, made.cert.pem()).unwrap();
        std::fs::write(key, made.signing_key.serialize_pem()).unwrap();
        made.cert.der().clone()
    }

    fn used(certificate: &Certificate) -> CertificateDer<'static> {
        let current = certificate.current.0.read().unwrap();
        current.cert[0].clone()
    }

    #[test]
    fn files_are_read_again_and_what_cannot_be_used_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name| directory.path().join(name);
        let (chain, key) = (file("chain.pem"), file("key.pem"));
        let first = write("old.example", &chain, &key);
        let certificate = Certificate::from_files(&chain, &key).unwrap();
        assert_eq!(used(&certificate), first);

        let second = write("new.example", &chain, &key);
        certificate.reload().unwrap();
        assert_eq!(used(&certificate), second);
        assert_eq!(certificate.reload_if_changed().ok(), Some(false));

        // Half of it was replaced.
        write("third.example", &chain, &file("other.pem"));
        let error = certificate.reload().unwrap_err().to_string();
        assert!(error.contains("certificate and key"), "{error}");
        std::fs::write(&chain, "nothing").unwrap();
        let error = certificate.reload_if_changed().unwrap_err().to_string();
        assert!(error.contains("chain.pem"), "{error}");
        assert_eq!(
            certificate.reload_if_changed().ok(),
            Some(false),
            "told once"
        );
        assert_eq!(used(&certificate), second);
    }
}
