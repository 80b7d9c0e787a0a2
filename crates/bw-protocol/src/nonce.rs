//! The number that makes each transfer's content another.

use std::fmt;
use std::str::FromStr;

/// 16 bytes that the scanner draws for one transfer, written as 32 hexadecimal digits in the
/// header [`Nonce::HEADER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nonce([u8; 16]);

/// A text is no nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a nonce has 32 hexadecimal digits")]
#[non_exhaustive]
pub struct NonceError;

impl Nonce {
    /// The request's header that carries it.
    pub const HEADER: &'static str = "bwscan-nonce";

    /// The nonce with these bytes; they must be unpredictable and used once.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl FromStr for Nonce {
    type Err = NonceError;

    fn from_str(text: &str) -> Result<Self, NonceError> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u128::from_str_radix(text, 16)
            .ok()
            .filter(|_| digits)
            .map(|value| Self(value.to_be_bytes()))
            .ok_or(NonceError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nonces_are_text_and_back(bytes: [u8; 16], text in "\\PC*") {
            let nonce = Nonce::from_bytes(bytes);
            prop_assert_eq!(nonce.to_string().parse::<Nonce>().unwrap(), nonce);
            if let Ok(nonce) = text.parse::<Nonce>() {
                prop_assert_eq!(nonce.to_string(), text.to_ascii_lowercase());
            }
        }
    }
}
