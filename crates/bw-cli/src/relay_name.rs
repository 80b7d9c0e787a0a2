//! The names by which a relay can be given on the command line.

use std::net::IpAddr;
use std::str::FromStr;

use bw_file::{Ed25519Identity, Fingerprint};
use bw_results::RelayFacts;

use crate::exit::UsageError;

/// The first digits of a fingerprint suffice from this length on: among 10,000
/// relays, eight digits of two agree in one of a hundred networks.
const SHORT: usize = 8;
/// At most this many relays are listed when a name is not unique.
const LISTED: usize = 10;

/// A fingerprint or the beginning of one, a nickname, an Ed25519 identity or an
/// address; with or without a leading `$`.
#[derive(Clone, Debug)]
pub(crate) struct RelayName {
    text: String,
    fingerprint: Option<Fingerprint>,
    ed25519: Option<Ed25519Identity>,
    address: Option<IpAddr>,
}

impl FromStr for RelayName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('$').unwrap_or(text);
        let name = Self {
            text: text.to_owned(),
            fingerprint: text.parse().ok(),
            ed25519: text.parse().ok(),
            address: text.trim_matches(['[', ']']).parse().ok(),
        };
        let is_known = name.fingerprint.is_some()
            || name.ed25519.is_some()
            || name.address.is_some()
            || is_nickname(text)
            || is_beginning(text);
        is_known.then_some(name).ok_or_else(|| {
            format!(
                "expected a fingerprint (40 hexadecimal digits, or the first {SHORT} or more), \
                 a nickname, an Ed25519 key or an address"
            )
        })
    }
}

impl std::fmt::Display for RelayName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl RelayName {
    /// The whole fingerprint, if the name is one.
    pub(crate) fn fingerprint(&self) -> Option<Fingerprint> {
        self.fingerprint
    }

    /// The only one of `relays` that has this name; a whole fingerprint need not
    /// be among them.
    pub(crate) fn find(&self, relays: &[RelayFacts]) -> Result<Fingerprint, UsageError> {
        if let Some(fingerprint) = self.fingerprint {
            return Ok(fingerprint);
        }
        let found: Vec<_> = relays.iter().filter(|relay| self.is_of(relay)).collect();
        match found[..] {
            [relay] => Ok(relay.fingerprint),
            [] => Err(UsageError(format!(
                "no relay of the consensus has the fingerprint, nickname, Ed25519 key or \
                 address {self}"
            ))),
            _ => {
                let found = found
                    .iter()
                    .map(|relay| (relay.fingerprint, &*relay.nickname));
                Err(self.is_of_several(&found.collect::<Vec<_>>()))
            }
        }
    }

    /// The error if all these are called so.
    pub(crate) fn is_of_several(&self, found: &[(Fingerprint, &str)]) -> UsageError {
        let list: Vec<String> = found
            .iter()
            .take(LISTED)
            .map(|(fingerprint, nickname)| format!("{fingerprint} {nickname}"))
            .collect();
        let more = if found.len() > LISTED { ", …" } else { "" };
        UsageError(format!(
            "{} relays are called {self}; give the fingerprint: {}{more}",
            found.len(),
            list.join(", ")
        ))
    }

    /// The Ed25519 key, if the name is one.
    pub(crate) fn ed25519(&self) -> Option<Ed25519Identity> {
        self.ed25519
    }

    /// The address, if the name is one.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Returns true if this is a relay's nickname or the beginning of its fingerprint.
    pub(crate) fn is_short_for(&self, fingerprint: Fingerprint, nickname: &str) -> bool {
        let is_short = is_beginning(&self.text) && {
            let fingerprint = fingerprint.to_string();
            fingerprint.starts_with(&self.text.to_ascii_uppercase())
        };
        is_short || nickname.eq_ignore_ascii_case(&self.text)
    }

    fn is_of(&self, relay: &RelayFacts) -> bool {
        self.is_short_for(relay.fingerprint, &relay.nickname)
            || (self.ed25519.is_some() && relay.ed25519 == self.ed25519)
            || (self.address.is_some() && relay.address == self.address)
    }
}

/// Returns true if tor accepts this as a nickname.
pub(crate) fn is_nickname(text: &str) -> bool {
    (1..=19).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn is_beginning(text: &str) -> bool {
    (SHORT..40).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use bw_file::KilobytesPerSecond;

    use super::*;

    fn relay(byte: u8, nickname: &str) -> RelayFacts {
        let fingerprint = Fingerprint::from_bytes([byte; 20]);
        let mut relay = RelayFacts::new(fingerprint, nickname, KilobytesPerSecond::new(1));
        relay.ed25519 = Some(Ed25519Identity::from_bytes([byte; 32]));
        relay.address = Some(IpAddr::from([192, 0, 2, byte]));
        relay
    }

    #[test]
    fn every_name_finds_the_relay() {
        let relays = [relay(0xAB, "first"), relay(0xCD, "second")];
        let fingerprint = relays[1].fingerprint;
        let key = relays[1].ed25519.unwrap().to_string();
        for name in [
            &"CD".repeat(20),
            &format!("${}", "cd".repeat(20)),
            "cdcdcdcd",
            "$CDCDCDCDCD",
            "Second",
            &key,
            "192.0.2.205",
        ] {
            let found = name.parse::<RelayName>().unwrap().find(&relays);
            assert_eq!(found.unwrap(), fingerprint, "{name}");
        }
    }

    #[test]
    fn names_that_do_not_decide_are_refused() {
        let relays = [relay(1, "twin"), relay(2, "twin")];
        let find = |name: &str| name.parse::<RelayName>().unwrap().find(&relays);
        let text = find("twin").unwrap_err().to_string();
        assert!(text.contains(&"01".repeat(20)) && text.contains(&"02".repeat(20)));
        assert!(find("nobody").unwrap_err().to_string().contains("nobody"));
        assert_eq!(find(&"F".repeat(40)).unwrap().to_string(), "F".repeat(40));
        for name in ["", "two words", &"A".repeat(41), "é"] {
            assert!(name.parse::<RelayName>().is_err(), "{name}");
        }
    }
}
