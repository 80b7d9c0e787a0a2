//! Confirmations of an upload while it comes.

use std::time::Duration;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::{ContentKey, Nonce};

/// Bytes of a code that go into a line: 128 bits.
const CODE: usize = 16;
/// The word in the place of a count.
const WRONG: &str = "wrong";

/// The lines of a server's answer to an upload: how many bytes have come so
/// far and when, again and again, or that other bytes came than should.
///
/// A line is a count and a time, both in decimal and with a space between them, or
/// `wrong`. With a [`ContentKey`] a space and a code follow: the first 16 bytes, in
/// hexadecimal, of the HMAC-SHA-256 of what stands before, under a key for this upload alone.
/// The first line is written at once, before anything has come.
#[derive(Clone)]
pub struct Receipts {
    mac: Option<Hmac<Sha256>>,
}

/// The meaning of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Receipt {
    /// Bytes that have come, all of them right.
    #[non_exhaustive]
    Bytes {
        /// Their number.
        count: u64,
        /// The time after the head of the request at which the line was written, by the server's
        /// monotonic clock; in whole microseconds, rounded down.
        at: Duration,
    },
    /// Other bytes came than should.
    Wrong,
}

impl Receipt {
    /// `count` bytes have come, `at` after the head of the request.
    pub const fn bytes(count: u64, at: Duration) -> Self {
        Self::Bytes { count, at }
    }
}

impl Receipts {
    /// The response's header that tells that its body is of such lines, and its value.
    pub const HEADER: (&'static str, &'static str) = ("bwscan-receipts", "v2");
    /// The longest line, with its newline, in bytes.
    pub const LONGEST_LINE: usize = 20 + 1 + 20 + 1 + 2 * CODE + 1;

    /// Lines that the server signs if there is a key.
    pub fn new(key: Option<(&ContentKey, &Nonce)>) -> Self {
        let mac =
            key.and_then(|(key, nonce)| Hmac::new_from_slice(&key.derive("receipts", nonce)).ok());
        Self { mac }
    }

    /// The line that says it, with its newline.
    pub fn line(&self, receipt: Receipt) -> String {
        let said = match receipt {
            Receipt::Bytes { count, at } => {
                let micros = u64::try_from(at.as_micros()).unwrap_or(u64::MAX);
                format!("{count} {micros}")
            }
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

    /// The meaning of a line (without its newline); `None` if the server did not
    /// write it.
    pub fn read(&self, line: &[u8]) -> Option<Receipt> {
        let line = std::str::from_utf8(line).ok()?;
        let said = match &self.mac {
            None => line,
            Some(mac) => {
                let (said, code) = line.rsplit_once(' ')?;
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
        let (count, micros) = said.split_once(' ')?;
        let at = Duration::from_micros(number(micros)?);
        Some(Receipt::bytes(number(count)?, at))
    }
}

/// A number of nothing but digits.
fn number(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
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
        fn what_is_written_is_read(count: u64, micros: u64) {
            let bytes = Receipt::bytes(count, Duration::from_micros(micros));
            for receipts in [Receipts::new(None), signed(1, 1)] {
                for said in [bytes, Receipt::Wrong] {
                    let line = receipts.line(said);
                    prop_assert!(line.len() <= Receipts::LONGEST_LINE);
                    prop_assert_eq!(receipts.read(line.trim_end().as_bytes()), Some(said));
                }
            }
        }

        #[test]
        fn nobody_else_can_write_a_line(count: u64, other: u64, micros: u64, junk: Vec<u8>) {
            let receipts = signed(1, 1);
            let said = Receipt::bytes(count, Duration::from_micros(micros));
            for line in [
                Receipts::new(None).line(said),
                signed(2, 1).line(said),
                signed(1, 2).line(said),
            ] {
                prop_assert_eq!(receipts.read(line.trim_end().as_bytes()), None);
            }
            let line = receipts.line(said);
            let (_, code) = line.trim_end().rsplit_once(' ').unwrap();
            let moved = format!("{other} {micros} {code}");
            let expected = (other == count).then_some(said);
            prop_assert_eq!(receipts.read(moved.as_bytes()), expected);
            let later = format!("{count} {other} {code}");
            let expected = (other == micros).then_some(said);
            prop_assert_eq!(receipts.read(later.as_bytes()), expected);
            prop_assert_eq!(receipts.read(&junk), None);
        }
    }

    #[test]
    fn plain_lines_are_digits() {
        let receipts = Receipts::new(None);
        for bad in [
            "",
            "5",
            "5 ",
            " 5",
            "+5 1",
            "5 -1",
            " 5 1",
            "5 1 ",
            "5  1",
            "0x5 1",
            "18446744073709551616 1",
            "1 18446744073709551616",
            "wrongs",
        ] {
            assert_eq!(receipts.read(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(receipts.read(b"\xff"), None);
    }
}
