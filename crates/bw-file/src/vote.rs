//! The lines of a vote about a file.

use std::collections::BTreeMap;

use data_encoding::BASE64_NOPAD;

use crate::digest::FileDigest;
use crate::identity::Fingerprint;
use crate::units::KilobytesPerSecond;

/// The parts of a vote that come from a bandwidth file (dir-spec 3.4.1).
///
/// ```
/// use bw_file::{TorJudge, UnixTime, VoteLines};
///
/// let file = b"1700000000\nsoftware=bwscan\n";
/// let expected = TorJudge::new(UnixTime::new(1_700_000_000)).judge(file).vote_lines();
/// let vote = VoteLines::parse(
///     b"network-status-version 3\n\
///       bandwidth-file-headers timestamp=1700000000 software=bwscan\n\
///       bandwidth-file-digest sha256=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n",
/// );
/// assert_eq!(vote.headers, expected.headers);
/// assert_ne!(vote.digest, expected.digest);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VoteLines {
    /// The line `bandwidth-file-headers`, without line feed. An underscore in
    /// its keys is usual, though dir-spec's grammar lacks it.
    pub headers: Option<Vec<u8>>,
    /// The digest in `bandwidth-file-digest`.
    pub digest: Option<FileDigest>,
    /// `Measured=` of each relay.
    pub measured: BTreeMap<Fingerprint, KilobytesPerSecond>,
}

/// A difference of a vote and a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VoteMismatch {
    /// `bandwidth-file-headers` differs.
    Headers,
    /// `bandwidth-file-digest` differs.
    Digest,
    /// `Measured=` of a relay of the vote differs.
    Measured {
        /// The relay.
        relay: Fingerprint,
        /// The weight in the vote.
        voted: KilobytesPerSecond,
        /// The weight in the file.
        expected: Option<KilobytesPerSecond>,
    },
}

impl VoteLines {
    /// Reads a vote's text, as served under `/tor/status-vote/`. Takes any
    /// input; what is not there stays empty.
    pub fn parse(vote: &[u8]) -> Self {
        let mut lines = Self::default();
        let mut relay = None;
        for line in vote.split(|&byte| byte == b'\n') {
            if line.starts_with(b"bandwidth-file-headers ") {
                lines.headers = Some(line.to_vec());
            } else if let Some(rest) = line.strip_prefix(b"bandwidth-file-digest ") {
                lines.digest = rest
                    .split(|&byte| byte == b' ')
                    .find_map(|digest| std::str::from_utf8(digest).ok()?.parse().ok());
            } else if let Some(rest) = line.strip_prefix(b"r ") {
                relay = identity(rest);
            } else if let Some(rest) = line.strip_prefix(b"w ") {
                let measured = rest.split(|&byte| byte == b' ').find_map(|token| {
                    let value = crate::number::parse_unsigned(token.strip_prefix(b"Measured=")?)?;
                    // As tor prints and reads it.
                    u32::try_from(value).ok()?;
                    Some(KilobytesPerSecond::new(value))
                });
                if let (Some(relay), Some(measured)) = (relay, measured) {
                    lines.measured.insert(relay, measured);
                }
            }
        }
        lines
    }

    /// The differences of a vote, `self`, from the lines that a file should have given it:
    /// `expected`, from [`TorJudgement::vote_lines`](crate::TorJudgement::vote_lines).
    ///
    /// Relays of the file that the vote does not measure are no difference,
    /// since an authority need not know them; nor are parts that the vote
    /// lacks altogether.
    pub fn mismatches(&self, expected: &Self) -> Vec<VoteMismatch> {
        let mut mismatches = Vec::new();
        if self.headers.is_some() && self.headers != expected.headers {
            mismatches.push(VoteMismatch::Headers);
        }
        if self.digest.is_some() && self.digest != expected.digest {
            mismatches.push(VoteMismatch::Digest);
        }
        for (&relay, &voted) in &self.measured {
            let expected = expected.measured.get(&relay).copied();
            if expected != Some(voted) {
                mismatches.push(VoteMismatch::Measured {
                    relay,
                    voted,
                    expected,
                });
            }
        }
        mismatches
    }
}

/// The fingerprint in the rest of an `r` line: nickname, then 27 characters of
/// base64.
fn identity(rest: &[u8]) -> Option<Fingerprint> {
    let encoded = rest.split(|&byte| byte == b' ').nth(1)?;
    let decoded = BASE64_NOPAD.decode(encoded).ok()?;
    Some(Fingerprint::from_bytes(decoded.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::UnixTime;
    use crate::tor::TorJudge;

    #[test]
    fn a_vote_is_checked_against_a_file() {
        let file = b"1700000000\nbw=7 node_id=0000000000000000000000000000000000000000\n";
        let expected = TorJudge::new(UnixTime::new(1_700_000_000))
            .judge(file)
            .vote_lines();
        let digest = FileDigest::of(file);
        let vote = format!(
            "bandwidth-file-headers timestamp=1700000000\nbandwidth-file-digest {digest}\n\
             r nick AAAAAAAAAAAAAAAAAAAAAAAAAAA x\nw Bandwidth=3 Measured=7\n"
        );
        let lines = VoteLines::parse(vote.as_bytes());
        assert_eq!(lines, expected);
        assert_eq!(lines.mismatches(&expected), []);
        let other = VoteLines::parse(
            vote.replace("=7", "=8")
                .replace("1700000000", "5")
                .as_bytes(),
        );
        assert_eq!(
            other.mismatches(&expected),
            [
                VoteMismatch::Headers,
                VoteMismatch::Measured {
                    relay: Fingerprint::from_bytes([0; 20]),
                    voted: KilobytesPerSecond::new(8),
                    expected: Some(KilobytesPerSecond::new(7))
                }
            ]
        );
    }
}
