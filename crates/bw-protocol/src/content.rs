//! Content that only the scanner and its server can make.

use std::fmt;

use aes::Aes128;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};

/// The number of bytes compared at a time.
const BLOCK: usize = 4096;

/// An endless stream of bytes that look random to all who do not know what it
/// was made of: AES-128 in counter mode.
pub struct Content {
    cipher: Box<Ctr128BE<Aes128>>,
}

impl Content {
    /// The response's header that tells that its body is such content, and its value.
    pub const HEADER: (&'static str, &'static str) = ("bwscan-content", "v1");

    /// The stream that belongs to `seed`.
    pub fn from_seed(seed: [u8; 32]) -> Self {
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

    /// Returns true if `data` is what comes next. After a difference the stream's
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
    use crate::{ContentKey, Nonce};
    use bw_results::Direction;
    use proptest::prelude::*;

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
    }

    #[test]
    fn the_content_is_the_same_in_every_version() {
        // HMAC-SHA-256 and AES-128-CTR of another implementation (OpenSSL).
        let content = ContentKey::new(b"0123456789abcdef")
            .unwrap()
            .content(&Nonce::from_bytes([7; 16]), Direction::Download);
        let expected = 0xfea5_e5aa_7dd2_2c21_2f3f_c66e_8b77_e17c_u128.to_be_bytes();
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
}
