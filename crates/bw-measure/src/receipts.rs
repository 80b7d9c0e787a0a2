//! What a server confirms of an upload while it comes.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::{ContentKey, Nonce};

/// Bytes of a code that go into a line: 128 bits.
const CODE: usize = 16;
/// What is said instead of a count.
const WRONG: &str = "wrong";

/// The lines of a server's answer to an upload: how many bytes have come so
/// far, again and again, or that other bytes came than should.
///
/// A line is the count in decimal, or `wrong`. With a [`ContentKey`] a space
/// and a code follow: the first 16 bytes, in hexadecimal, of the HMAC-SHA-256
/// of what stands before, under a key for this upload alone.
#[derive(Clone)]
pub struct Receipts {
    mac: Option<Hmac<Sha256>>,
}

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Receipt {
    /// So many bytes have come, all of them right.
    Bytes(u64),
    /// What came is not what should come.
    Wrong,
}

impl Receipts {
    /// The response's header that tells that its body is of such lines, and its value.
    pub const HEADER: (&'static str, &'static str) = ("bwscan-receipts", "v1");
    /// The longest line, with its newline, in bytes.
    pub const LONGEST_LINE: usize = 20 + 1 + 2 * CODE + 1;

    /// Lines that the server signs if there is a key.
    pub fn new(key: Option<(&ContentKey, &Nonce)>) -> Self {
        let mac =
            key.and_then(|(key, nonce)| Hmac::new_from_slice(&key.derive("receipts", nonce)).ok());
        Self { mac }
    }

    /// The line that says it, with its newline.
    pub fn line(&self, receipt: Receipt) -> String {
        let said = match receipt {
            Receipt::Bytes(count) => count.to_string(),
            Receipt::Wrong => WRONG.to_owned(),
        };
        match &self.mac {
            None => said + "\n",
            Some(mac) => {
                let code = mac.clone().chain_update(&said).finalize().into_bytes();
                let mut first = [0; CODE];
                first.copy_from_slice(&code[..CODE]);
                format!("{said} {:032x}\n", u128::from_be_bytes(first))
            }
        }
    }

    /// What a line (without its newline) says; `None` if the server did not
    /// write it.
    pub fn read(&self, line: &[u8]) -> Option<Receipt> {
        let line = std::str::from_utf8(line).ok()?;
        let said = match &self.mac {
            None => line,
            Some(mac) => {
                let (said, code) = line.split_once(' ')?;
                // As a nonce, a code is 32 hexadecimal digits.
                let code: Nonce = code.parse().ok()?;
                let mac = mac.clone().chain_update(said);
                mac.verify_truncated_left(code.as_bytes()).ok()?;
                said
            }
        };
        if said == WRONG {
            return Some(Receipt::Wrong);
        }
        let digits = said.bytes().all(|byte| byte.is_ascii_digit());
        said.parse().ok().filter(|_| digits).map(Receipt::Bytes)
    }
}

impl std::fmt::Debug for Receipts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receipts").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn signed(secret: u8, nonce: u8) -> Receipts {
        let key = ContentKey::new(&[secret; 16]).unwrap();
        Receipts::new(Some((&key, &Nonce::from_bytes([nonce; 16]))))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(count: u64) {
            for receipts in [Receipts::new(None), signed(1, 1)] {
                for said in [Receipt::Bytes(count), Receipt::Wrong] {
                    let line = receipts.line(said);
                    prop_assert!(line.len() <= Receipts::LONGEST_LINE);
                    prop_assert_eq!(receipts.read(line.trim_end().as_bytes()), Some(said));
                }
            }
        }

        #[test]
        fn nobody_else_can_write_a_line(count: u64, other: u64, junk: Vec<u8>) {
            let receipts = signed(1, 1);
            for line in [
                Receipts::new(None).line(Receipt::Bytes(count)),
                signed(2, 1).line(Receipt::Bytes(count)),
                signed(1, 2).line(Receipt::Bytes(count)),
            ] {
                prop_assert_eq!(receipts.read(line.trim_end().as_bytes()), None);
            }
            let line = receipts.line(Receipt::Bytes(count));
            let (_, code) = line.trim_end().split_once(' ').unwrap();
            let moved = format!("{other} {code}");
            let expected = (other == count).then_some(Receipt::Bytes(count));
            prop_assert_eq!(receipts.read(moved.as_bytes()), expected);
            prop_assert_eq!(receipts.read(&junk), None);
        }
    }

    #[test]
    fn plain_lines_are_digits() {
        let receipts = Receipts::new(None);
        for bad in [
            "",
            "+5",
            "-5",
            " 5",
            "5 ",
            "0x5",
            "18446744073709551616",
            "wrongs",
        ] {
            assert_eq!(receipts.read(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(receipts.read(b"\xff"), None);
    }
}
