//! The digest of a file as votes carry it.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64_NOPAD;
use sha2::{Digest, Sha256};

use crate::line::RawLines;

/// SHA-256 of a bandwidth file.
///
/// Shown as votes have it: `sha256=` and 43 characters of base64 without
/// padding (dir-spec, `bandwidth-file-digest`).
///
/// ```
/// let digest = bw_file::FileDigest::of(b"");
/// assert_eq!(digest.to_string(), "sha256=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU");
/// assert_eq!(digest.to_string().parse(), Ok(digest));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileDigest([u8; 32]);

/// A text that is not a [`FileDigest`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"sha256=\" and 43 characters of base64 expected, found {0:?}")]
pub struct DigestError(String);

impl FileDigest {
    /// The digest of all bytes: what CollecTor puts into file names, and what
    /// tor votes for every file without NUL bytes.
    pub fn of(file: &[u8]) -> Self {
        Self(Sha256::digest(file).into())
    }

    /// The digest that tor votes: each line counts up to its first NUL only,
    /// line feed and all.
    pub fn as_tor_computes(file: &[u8]) -> Self {
        if memchr::memchr(0, file).is_none() {
            return Self::of(file);
        }
        let mut hash = Sha256::new();
        for line in RawLines::new(file) {
            hash.update(up_to_nul(line));
        }
        Self(hash.finalize().into())
    }

    /// The bytes of the digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The part of a line that a C string keeps.
pub(crate) fn up_to_nul(line: &[u8]) -> &[u8] {
    &line[..memchr::memchr(0, line).unwrap_or(line.len())]
}

impl fmt::Display for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256={}", BASE64_NOPAD.encode(&self.0))
    }
}

impl fmt::Debug for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileDigest({self})")
    }
}

impl FromStr for FileDigest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let mut bytes = [0; 32];
        match text.strip_prefix("sha256=") {
            Some(encoded)
                if encoded.len() == 43
                    && BASE64_NOPAD
                        .decode_mut(encoded.as_bytes(), &mut bytes)
                        .is_ok() =>
            {
                Ok(Self(bytes))
            }
            _ => Err(DigestError(text.chars().take(64).collect())),
        }
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for FileDigest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for FileDigest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nul_hides_the_rest_of_its_line() {
        assert_eq!(
            FileDigest::as_tor_computes(b"1\na\0b\nc\n"),
            FileDigest::of(b"1\nac\n")
        );
        assert_eq!(FileDigest::as_tor_computes(b"1\n"), FileDigest::of(b"1\n"));
    }

    #[test]
    fn other_texts_are_refused() {
        let text = FileDigest::of(b"x").to_string();
        for bad in [
            "",
            "sha256=",
            &text[1..],
            &format!("{text}="),
            &text[..text.len() - 1],
        ] {
            assert!(bad.parse::<FileDigest>().is_err(), "{bad}");
        }
    }
}
