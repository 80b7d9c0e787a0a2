//! The two identities of a relay.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64_NOPAD, HEXUPPER};

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
        match digits.try_into().ok().and_then(decode_hex) {
            Some(bytes) => Ok(Self(bytes)),
            None => Err(IdentityError::new(
                "a fingerprint (40 hexadecimal digits)",
                text,
            )),
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
        match text.try_into().ok().and_then(decode_base64) {
            Some(bytes) => Ok(Self(bytes)),
            None => Err(IdentityError::new(
                "an Ed25519 key (43 characters of base64)",
                text,
            )),
        }
    }
}

/// Marks in the tables below what is no digit.
const NONE: u8 = 0xff;

/// The values of the characters of `alphabet`.
const fn values(alphabet: &[u8], mut values: [u8; 256]) -> [u8; 256] {
    let mut value: u8 = 0;
    #[expect(clippy::as_conversions, reason = "From is not const")]
    while value as usize != alphabet.len() {
        values[alphabet[value as usize] as usize] = value;
        value += 1;
    }
    values
}

const HEX: [u8; 256] = values(
    b"0123456789abcdef",
    values(b"0123456789ABCDEF", [NONE; 256]),
);
const BASE64: [u8; 256] = values(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    [NONE; 256],
);

// Every relay has both identities, and nothing else in its line takes as long to
// read. A decoder for any length takes three times as long as these two.

fn decode_hex(digits: &[u8; 40]) -> Option<[u8; 20]> {
    let (mut bytes, mut seen) = ([0; 20], 0);
    for (byte, digits) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = [digits[0], digits[1]].map(|digit| HEX[usize::from(digit)]);
        seen |= high | low;
        *byte = high << 4 | low;
    }
    (seen < 16).then_some(bytes)
}

fn decode_base64(text: &[u8; 43]) -> Option<[u8; 32]> {
    let (mut bytes, mut seen) = ([0; 33], 0);
    let mut quads = [b'A'; 44];
    quads[..43].copy_from_slice(text);
    for (bytes, digits) in bytes.chunks_exact_mut(3).zip(quads.chunks_exact(4)) {
        let [a, b, c, d] =
            [digits[0], digits[1], digits[2], digits[3]].map(|digit| BASE64[usize::from(digit)]);
        seen |= a | b | c | d;
        bytes[0] = a << 2 | b >> 4;
        bytes[1] = b << 4 | c >> 2;
        bytes[2] = c << 6 | d;
    }
    let [bytes @ .., rest] = bytes;
    (seen < 64 && rest == 0).then_some(bytes)
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

    proptest::proptest! {
        #[test]
        fn decoding_agrees_with_data_encoding(
            hex in "[0-9A-Fa-f]{40}|[0-9A-Fa-fGg/:@`]{40}",
            base64 in "[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]|[A-Za-z0-9+/_=-]{43}",
        ) {
            let theirs = data_encoding::HEXUPPER_PERMISSIVE.decode(hex.as_bytes()).ok();
            let ours = hex.parse::<Fingerprint>().ok();
            proptest::prop_assert_eq!(ours.map(|ours| ours.0.to_vec()), theirs);
            let theirs = BASE64_NOPAD.decode(base64.as_bytes()).ok();
            let ours = base64.parse::<Ed25519Identity>().ok();
            proptest::prop_assert_eq!(ours.map(|ours| ours.0.to_vec()), theirs);
        }
    }

    #[test]
    fn ed25519_identities_are_43_characters() {
        let text = "YaqV4vbvPYKucElk297eVdNArDz9HtIwUoIeo0+cVIp"; // 33 bytes cut short
        assert!(format!("{text}xy").parse::<Ed25519Identity>().is_err());
        let key = Ed25519Identity::from_bytes([7; 32]);
        assert_eq!(key.to_string().parse(), Ok(key));
    }
}
