//! The two identities of a relay.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64_NOPAD, HEXUPPER, HEXUPPER_PERMISSIVE};

/// The SHA-1 digest of a relay's RSA identity key: what `node_id` carries.
///
/// Compared as bytes; shown as 40 upper-case hexadecimal digits without `$`.
/// Parsing takes both cases and an optional leading `$` (format 1.9.0).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 20]);

/// A relay's Ed25519 identity key: what `master_key_ed25519` carries.
///
/// Shown as 43 characters of standard base64 without padding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ed25519Identity([u8; 32]);

/// A text that is not a relay identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} expected, found {found:?}")]
pub struct IdentityError {
    what: &'static str,
    found: String,
}

impl IdentityError {
    fn new(what: &'static str, found: &[u8]) -> Self {
        // Enough to recognise the value, whatever its length.
        let shown = &found[..found.len().min(64)];
        Self {
            what,
            found: String::from_utf8_lossy(shown).into_owned(),
        }
    }
}

impl Fingerprint {
    /// The fingerprint with these bytes.
    pub const fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// The bytes of the digest.
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    /// Reads 40 hexadecimal digits of either case, after an optional `$`.
    ///
    /// # Errors
    /// If `text` is anything else.
    pub fn parse(text: &[u8]) -> Result<Self, IdentityError> {
        let digits = text.strip_prefix(b"$").unwrap_or(text);
        let mut bytes = [0; 20];
        if digits.len() == 40 && HEXUPPER_PERMISSIVE.decode_mut(digits, &mut bytes).is_ok() {
            Ok(Self(bytes))
        } else {
            Err(IdentityError::new(
                "a fingerprint (40 hexadecimal digits)",
                text,
            ))
        }
    }
}

impl Ed25519Identity {
    /// The identity with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes of the key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 43 characters of base64 (alphabet with `+` and `/`, no padding).
    ///
    /// # Errors
    /// If `text` is anything else.
    pub fn parse(text: &[u8]) -> Result<Self, IdentityError> {
        let mut bytes = [0; 32];
        if text.len() == 43 && BASE64_NOPAD.decode_mut(text, &mut bytes).is_ok() {
            Ok(Self(bytes))
        } else {
            Err(IdentityError::new(
                "an Ed25519 key (43 characters of base64)",
                text,
            ))
        }
    }
}

macro_rules! textual {
    ($type:ty, $encoding:expr) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&$encoding.encode(&self.0))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($type))
            }
        }

        impl FromStr for $type {
            type Err = IdentityError;

            fn from_str(text: &str) -> Result<Self, IdentityError> {
                Self::parse(text.as_bytes())
            }
        }

        #[cfg(feature = "serde")]
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        #[cfg(feature = "serde")]
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

textual!(Fingerprint, HEXUPPER);
textual!(Ed25519Identity, BASE64_NOPAD);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_take_both_cases_and_a_dollar() {
        let upper = "68A483E05A2ABDCA6DA5A3EF8DB5177638A27F80";
        let parsed: Fingerprint = upper.parse().unwrap();
        assert_eq!(parsed.to_string(), upper);
        assert_eq!(format!("${}", upper.to_lowercase()).parse(), Ok(parsed));
        for bad in ["", "$", "$$68A4", &upper[1..], &format!("{upper}0")] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
        }
        assert!(format!("G{}", &upper[1..]).parse::<Fingerprint>().is_err());
    }

    #[test]
    fn ed25519_identities_are_43_characters() {
        let text = "YaqV4vbvPYKucElk297eVdNArDz9HtIwUoIeo0+cVIp"; // 33 bytes cut short
        assert!(format!("{text}xy").parse::<Ed25519Identity>().is_err());
        let key = Ed25519Identity::from_bytes([7; 32]);
        assert_eq!(key.to_string().parse(), Ok(key));
    }
}
