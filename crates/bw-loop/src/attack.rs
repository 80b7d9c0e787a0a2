//! What relays do that want more than their share.

use std::fmt;
use std::str::FromStr;

/// What the attackers do; all others are honest.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Attack {
    /// Nobody attacks.
    #[default]
    None,
    /// Their descriptors claim so many times their bandwidth.
    Lie(f64),
    /// They know the scanners, and serve them before their clients.
    Favour,
    /// Both: they serve scanners first, and claim so many times their bandwidth.
    LieAndFavour(f64),
    /// So many relays share one machine, and each claims it all; measured one after
    /// the other, each shows it all.
    Machine(u32),
    /// This share of the helpers lets half of what they could pass, when they
    /// help to measure others than the attackers.
    Helpers(f64),
    /// Nobody can fetch their descriptors.
    Withhold,
}

impl Attack {
    /// The names that [`FromStr`] takes.
    pub const NAMES: &str =
        "none, lie=FACTOR, favour, lie+favour=FACTOR, machine=RELAYS, helpers=SHARE, withhold";

    pub(crate) const fn factor_of_lie(self) -> f64 {
        match self {
            Self::Lie(factor) | Self::LieAndFavour(factor) => factor,
            _ => 1.0,
        }
    }

    pub(crate) const fn favours(self) -> bool {
        matches!(
            self,
            Self::Favour | Self::LieAndFavour(_) | Self::Machine(_)
        )
    }

    pub(crate) const fn hostile_helpers(self) -> f64 {
        match self {
            Self::Helpers(share) => share,
            _ => 0.0,
        }
    }
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Lie(factor) => write!(f, "lie={factor}"),
            Self::Favour => f.write_str("favour"),
            Self::LieAndFavour(factor) => write!(f, "lie+favour={factor}"),
            Self::Machine(relays) => write!(f, "machine={relays}"),
            Self::Helpers(share) => write!(f, "helpers={share}"),
            Self::Withhold => f.write_str("withhold"),
        }
    }
}

/// An attack that is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of {names}", names = Attack::NAMES)]
pub struct AttackError(String);

impl FromStr for Attack {
    type Err = AttackError;

    fn from_str(text: &str) -> Result<Self, AttackError> {
        let error = || AttackError(text.to_owned());
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let number = || {
            let number: f64 = value.parse().map_err(|_| error())?;
            (number.is_finite() && number > 0.0)
                .then_some(number)
                .ok_or_else(error)
        };
        match (name, value) {
            ("none", "") => Ok(Self::None),
            ("favour", "") => Ok(Self::Favour),
            ("withhold", "") => Ok(Self::Withhold),
            ("lie", _) => Ok(Self::Lie(number()?)),
            ("lie+favour", _) => Ok(Self::LieAndFavour(number()?)),
            ("helpers", _) => Ok(Self::Helpers(number()?.min(1.0))),
            ("machine", _) => match value.parse() {
                Ok(relays @ 2..=100) => Ok(Self::Machine(relays)),
                _ => Err(error()),
            },
            _ => Err(error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for text in [
            "none",
            "lie=1000000",
            "favour",
            "lie+favour=100",
            "machine=10",
            "helpers=0.2",
            "withhold",
        ] {
            assert_eq!(text.parse::<Attack>().unwrap().to_string(), text);
        }
        for text in ["", "lie", "lie=-1", "lie=x", "machine=1", "favour=2"] {
            assert!(text.parse::<Attack>().is_err(), "{text}");
        }
    }
}
