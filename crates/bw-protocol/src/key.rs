//! The secret that scanner and server share.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use bw_results::Direction;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::{Content, Nonce};

/// A secret cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Anybody could guess it.
    #[error(
        "the secret has {length} bytes, at least {} are needed",
        ContentKey::MIN_LENGTH
    )]
    #[non_exhaustive]
    TooShort {
        /// The bytes that it has.
        length: usize,
    },
    /// No sensible secret is so long; another file was meant.
    #[error("the secret has more than {} bytes", ContentKey::MAX_LENGTH)]
    TooLong,
    /// The file cannot be read, or its secret cannot be used.
    #[error("key file {}: {source}", path.display())]
    #[non_exhaustive]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A secret that a scanner shares with its servers, so that nobody between
/// them can send or confirm in their place.
///
/// It must not be known to any relay. Content, and what is made of it, is
/// new with each [`Nonce`].
#[derive(Clone)]
pub struct ContentKey {
    mac: Hmac<Sha256>,
}

impl ContentKey {
    /// The least number of bytes of a secret.
    pub const MIN_LENGTH: usize = 16;
    /// The largest number of bytes of a secret.
    pub const MAX_LENGTH: usize = 4096;

    /// The key made of `secret`.
    ///
    /// # Errors
    /// [`KeyError`] if it has fewer than [`MIN_LENGTH`](Self::MIN_LENGTH) bytes, or more than
    /// [`MAX_LENGTH`](Self::MAX_LENGTH).
    pub fn new(secret: &[u8]) -> Result<Self, KeyError> {
        let length = secret.len();
        if length < Self::MIN_LENGTH {
            return Err(KeyError::TooShort { length });
        }
        if length > Self::MAX_LENGTH {
            return Err(KeyError::TooLong);
        }
        // HMAC takes keys of any length.
        let mac = Hmac::new_from_slice(secret).map_err(|_| KeyError::TooLong)?;
        Ok(Self { mac })
    }

    /// The key in the file at `path`: its bytes without white space at the end.
    ///
    /// # Errors
    /// [`KeyError::File`] if it cannot be read, or with what [`new`](Self::new) says.
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        let refuse = |source: Box<dyn std::error::Error + Send + Sync>| KeyError::File {
            path: path.to_owned(),
            source,
        };
        let mut secret = Vec::new();
        std::fs::File::open(path)
            // A newline at the end more, and one to see that it is too long.
            .and_then(|file| {
                file.take(Self::MAX_LENGTH as u64 + 2)
                    .read_to_end(&mut secret)
            })
            .map_err(|error| refuse(error.into()))?;
        Self::new(secret.trim_ascii_end()).map_err(|error| refuse(error.into()))
    }

    /// The content of a transfer in `direction`, made for `nonce`.
    ///
    /// The two directions differ: who asks for a download cannot upload it in
    /// the scanner's place.
    pub fn content(&self, nonce: &Nonce, direction: Direction) -> Content {
        let purpose = match direction {
            Direction::Upload => "upload",
            _ => "download",
        };
        Content::from_seed(self.derive(purpose, nonce))
    }

    /// 32 bytes for one purpose and one nonce.
    pub(crate) fn derive(&self, purpose: &str, nonce: &Nonce) -> [u8; 32] {
        self.code(purpose, nonce).finalize().into_bytes().into()
    }

    /// The code of one purpose and one nonce.
    pub(crate) fn code(&self, purpose: &str, nonce: &Nonce) -> Hmac<Sha256> {
        let mac = self.mac.clone();
        mac.chain_update(b"bwscan v1 ")
            .chain_update(purpose)
            .chain_update(b" ")
            .chain_update(nonce.as_bytes())
    }
}

impl fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentKey").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn secrets_are_read_without_the_newline_and_refused_by_name() {
        let write = |secret: &[u8]| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(secret).unwrap();
            file
        };
        let nonce = Nonce::from_bytes([0; 16]);
        let file = write(&[&[1; 16][..], b"\r\n"].concat());
        let read = ContentKey::from_file(file.path()).unwrap();
        assert_eq!(
            read.derive("", &nonce),
            ContentKey::new(&[1; 16]).unwrap().derive("", &nonce)
        );
        assert!(!format!("{read:?}").contains('1'));

        for (secret, why) in [
            (&b"fifteen bytes..\n"[..], "15 bytes, at least 16"),
            (&[b'x'; 5000], "more than 4096"),
        ] {
            let file = write(secret);
            let error = ContentKey::from_file(file.path()).unwrap_err().to_string();
            let name = file.path().display().to_string();
            assert!(error.contains(why) && error.contains(&name), "{error}");
        }
        let error = ContentKey::from_file(Path::new("/nonexistent/key")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/key"));
    }
}
