//! The proof that who asks has the key.

use hmac::Mac;

use crate::{ContentKey, Nonce};

/// Bytes of a proof: 128 bits.
const LENGTH: usize = 16;

/// A code that only those with the key can make for a nonce, sent along with it.
///
/// A server that is full knows by it whom to keep a place for, before it sends or takes a byte of
/// content. It says nothing of who sent it: whoever saw it can send it again, so a server
/// accepts each nonce once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof([u8; LENGTH]);

impl Proof {
    /// The request's header that carries it, as 32 hexadecimal digits.
    pub const HEADER: &'static str = "bwscan-proof";

    /// The proof for `nonce`.
    pub fn new(key: &ContentKey, nonce: &Nonce) -> Self {
        let derived = key.derive("proof", nonce);
        Self(std::array::from_fn(|index| derived[index]))
    }

    /// Returns true if `text` is the proof for `nonce`; the time that takes tells nothing of it.
    pub fn is(text: &str, key: &ContentKey, nonce: &Nonce) -> bool {
        // A proof has the form of a nonce.
        let Ok(told) = text.parse::<Nonce>() else {
            return false;
        };
        let code = key.code("proof", nonce);
        code.verify_truncated_left(told.as_bytes()).is_ok()
    }
}

impl std::fmt::Display for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Nonce::from_bytes(self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nobody_without_the_key_has_a_proof(nonce: [u8; 16], other: [u8; 16], junk in "\\PC*") {
            let key = |byte| ContentKey::new(&[byte; 16]).unwrap();
            let (nonce, other) = (Nonce::from_bytes(nonce), Nonce::from_bytes(other));
            let proof = Proof::new(&key(1), &nonce).to_string();
            prop_assert!(Proof::is(&proof, &key(1), &nonce));
            prop_assert!(!Proof::is(&proof, &key(2), &nonce));
            prop_assert_eq!(Proof::is(&proof, &key(1), &other), nonce == other);
            prop_assert!(!Proof::is(&junk, &key(1), &nonce));
            prop_assert!(!Proof::is(&proof[..31], &key(1), &nonce));
        }
    }
}
