//! Content that only the scanner and its server can make.

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use aes::Aes128;
use bw_results::Direction;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::{Error, ErrorKind};

/// How much is compared at a time.
const BLOCK: usize = 4096;
/// No sensible secret is longer; a larger file was not meant.
const LONGEST_SECRET: usize = 4096;

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

    /// The key made of `secret`.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if it has fewer than
    /// [`MIN_LENGTH`](Self::MIN_LENGTH) bytes or more than 4096.
    pub fn new(secret: &[u8]) -> Result<Self, Error> {
        let length = secret.len();
        let refuse = |why: String| Error::new(ErrorKind::Configuration, why);
        if length < Self::MIN_LENGTH {
            let least = Self::MIN_LENGTH;
            return Err(refuse(format!(
                "the secret has {length} bytes, at least {least} are needed"
            )));
        }
        if length > LONGEST_SECRET {
            return Err(refuse(format!(
                "the secret has more than {LONGEST_SECRET} bytes"
            )));
        }
        let mac = Hmac::new_from_slice(secret).map_err(|error| refuse(error.to_string()))?;
        Ok(Self { mac })
    }

    /// The key in the file at `path`: its bytes without white space at the end.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if it cannot be read, or as [`new`](Self::new).
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let context = || format!("key file {}", path.display());
        let mut secret = Vec::new();
        std::fs::File::open(path)
            // A newline at the end more, and one to see that it is too long.
            .and_then(|file| {
                file.take(LONGEST_SECRET as u64 + 2)
                    .read_to_end(&mut secret)
            })
            .map_err(|error| Error::new(ErrorKind::Configuration, context()).with_source(error))?;
        Self::new(secret.trim_ascii_end()).map_err(|error| {
            Error::new(ErrorKind::Configuration, format!("{}: {error}", context()))
        })
    }

    /// What is transferred in `direction` in answer to `nonce`.
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
        let mut mac = self.mac.clone();
        mac.update(b"bwscan v1 ");
        mac.update(purpose.as_bytes());
        mac.update(b" ");
        mac.update(&nonce.0);
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentKey").finish_non_exhaustive()
    }
}

/// What makes each transfer's content another: 16 bytes that the scanner
/// draws, written as 32 hexadecimal digits in the header [`Nonce::HEADER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nonce([u8; 16]);

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
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u128::from_str_radix(text, 16)
            .ok()
            .filter(|_| digits)
            .map(|value| Self(value.to_be_bytes()))
            .ok_or_else(|| {
                let text = "a nonce has 32 hexadecimal digits";
                Error::new(ErrorKind::Configuration, text)
            })
    }
}

/// An endless stream of bytes that look random to all who do not know what it
/// was made of: AES-128 in counter mode.
pub struct Content {
    cipher: Box<Ctr128BE<Aes128>>,
}

impl Content {
    /// The response's header that tells that its body is such content, and its value.
    pub const HEADER: (&'static str, &'static str) = ("bwscan-content", "v1");

    /// The stream that belongs to `seed`.
    pub(crate) fn from_seed(seed: [u8; 32]) -> Self {
        let (key, start) = seed.split_at(16);
        let part = |half: &[u8]| std::array::from_fn::<u8, 16, _>(|index| half[index]);
        Self {
            cipher: Box::new(Ctr128BE::new(&part(key).into(), &part(start).into())),
        }
    }

    /// Goes on with the byte at `offset`.
    pub fn seek(&mut self, offset: u64) {
        self.cipher.seek(offset);
    }

    /// Writes the next bytes over `buffer`.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        self.cipher.write_keystream(buffer);
    }

    /// Whether `data` is what comes next. After a difference the stream's
    /// place is not defined.
    pub fn matches(&mut self, data: &[u8]) -> bool {
        let mut block = [0; BLOCK];
        data.chunks(BLOCK).all(|part| {
            let expected = &mut block[..part.len()];
            self.fill(expected);
            expected == part
        })
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn key(byte: u8) -> ContentKey {
        ContentKey::new(&[byte; 16]).unwrap()
    }

    fn bytes(mut content: Content, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        content.seek(offset);
        content.fill(&mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn any_split_of_a_range_gives_the_same_bytes(
            start in prop_oneof![0_u64..10_000, Just((1 << 40) - 7)],
            pieces in proptest::collection::vec(0_usize..5000, 1..8),
            nonce: [u8; 16],
        ) {
            let content = || key(1).content(&Nonce::from_bytes(nonce), Direction::Download);
            let whole = bytes(content(), start, pieces.iter().sum());
            let (mut offset, mut streamed) = (0, content());
            streamed.seek(start);
            for length in pieces {
                let piece = &whole[offset..offset + length];
                prop_assert_eq!(&bytes(content(), start + offset as u64, length), piece);
                prop_assert!(streamed.matches(piece));
                offset += length;
            }
        }

        #[test]
        fn one_wrong_bit_anywhere_is_seen(at in 0_usize..20_000, bit in 0_u8..8) {
            let content = || key(1).content(&Nonce::from_bytes([0; 16]), Direction::Upload);
            let mut wrong = bytes(content(), 0, 20_000);
            wrong[at] ^= 1 << bit;
            prop_assert!(!content().matches(&wrong));
        }

        #[test]
        fn nonces_are_text_and_back(bytes: [u8; 16], text in "\\PC*") {
            let nonce = Nonce::from_bytes(bytes);
            prop_assert_eq!(nonce.to_string().parse::<Nonce>().unwrap(), nonce);
            if let Ok(nonce) = text.parse::<Nonce>() {
                prop_assert_eq!(nonce.to_string(), text.to_ascii_lowercase());
            }
        }
    }

    #[test]
    fn the_content_is_the_same_in_every_version() {
        // HMAC-SHA-256 and AES-128-CTR of another implementation (OpenSSL).
        let content = ContentKey::new(b"0123456789abcdef")
            .unwrap()
            .content(&Nonce::from_bytes([7; 16]), Direction::Download);
        let expected = 0xfea5e5aa7dd22c212f3fc66e8b77e17c_u128.to_be_bytes();
        assert_eq!(bytes(content, 16, 16), expected);
    }

    #[test]
    fn another_key_nonce_or_direction_is_other_content() {
        let nonce = Nonce::from_bytes([0; 16]);
        let all = [
            key(1).content(&nonce, Direction::Download),
            key(2).content(&nonce, Direction::Download),
            key(1).content(&Nonce::from_bytes([1; 16]), Direction::Download),
            key(1).content(&nonce, Direction::Upload),
        ]
        .map(|content| bytes(content, 0, 32));
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

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
        assert_eq!(read.derive("", &nonce), key(1).derive("", &nonce));
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
