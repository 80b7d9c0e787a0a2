//! Bytes as text, none of them lost.

use std::borrow::Cow;

/// Bytes of a file as text, none of them lost: bytes outside UTF-8 as
/// `\xNN`, and a backslash as `\\`.
///
/// ```
/// assert_eq!(bw_file::escaped(b"sb\xffws"), r"sb\xffws");
/// ```
pub fn escaped(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        if !text.contains('\\') {
            return Cow::Borrowed(text);
        }
    }
    let mut text = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '\\' {
                text.push('\\');
            }
            text.push(character);
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    Cow::Owned(text)
}

/// The bytes that [`escaped`] made this text of; none if it did not.
#[cfg(feature = "serde")]
pub(crate) fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        rest = if let Some(after) = after.strip_prefix('\\') {
            bytes.push(b'\\');
            after
        } else {
            let digits = after.strip_prefix('x')?.get(..2)?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            &after[3..]
        };
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(bytes)
}

/// For fields that are serialized as [`escaped`] text.
#[cfg(feature = "serde")]
pub(crate) mod bytes {
    use std::borrow::Cow;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::escaped(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Cow<'static, [u8]>, D::Error> {
        let text = <Cow<'de, str>>::deserialize(deserializer)?;
        super::unescaped(&text).map(Cow::Owned).ok_or_else(|| {
            D::Error::custom(format!("an escape other than \\\\ and \\xNN: {text:?}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        assert_eq!(escaped(b"sb\xffws\\x"), r"sb\xffws\\x");
        assert_eq!(escaped("é".as_bytes()), "é");
        assert!(matches!(escaped(b"plain"), Cow::Borrowed("plain")));
    }

    #[cfg(feature = "serde")]
    mod with_serde {
        use super::*;
        use proptest::prelude::*;

        #[test]
        fn other_escapes_are_refused() {
            for text in [r"\", r"\n", r"\x", r"\x1", r"\xgg", r"\xé"] {
                assert_eq!(unescaped(text), None, "{text}");
            }
        }

        proptest! {
            #[test]
            fn no_byte_is_lost(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
                prop_assert_eq!(unescaped(&escaped(&bytes)), Some(bytes));
            }

            #[test]
            fn no_text_panics(text in r"[\\xé0-9a-f]{0,20}") {
                let _ = unescaped(&text);
            }
        }
    }
}
