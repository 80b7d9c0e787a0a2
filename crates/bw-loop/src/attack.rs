//! Attacks of relays that want more than their share.

use std::fmt;
use std::str::FromStr;

/// One thing that attackers do.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Policy {
    /// Their descriptors claim so many times their bandwidth.
    Lie(f64),
    /// They know the scanners, and serve them before their clients.
    Favour,
    /// So many relays share one machine, and each claims it all; measured one after
    /// the other, each shows it all.
    Machine(u32),
    /// This share of the helpers lets half of what they could pass, when they
    /// help to measure others than the attackers.
    Helpers(f64),
    /// Nobody can fetch their descriptors.
    Withhold,
    /// This share of their measurements counts ten times what was carried, as if bytes or receipts
    /// could be held back and let go at once.
    Flood(f64),
    /// They let measurements fail in the busy half of the day.
    Stall,
}

/// The deeds of the attackers; all others are honest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attack(Vec<Policy>);

impl Attack {
    /// The names that [`FromStr`] takes.
    pub const NAMES: &str = "none, lie=FACTOR, favour, machine=RELAYS, helpers=SHARE, withhold, \
        flood=SHARE, stall, or several with +";

    /// All of these at once; none of none.
    pub fn new(policies: impl IntoIterator<Item = Policy>) -> Self {
        Self(policies.into_iter().collect())
    }

    fn find<T>(&self, value: impl Fn(&Policy) -> Option<T>) -> Option<T> {
        self.0.iter().find_map(value)
    }

    /// The number of attacking relays, of which `single` do where they need no machine.
    pub(crate) fn attackers(&self, single: usize) -> usize {
        match self.machine() {
            Some(relays) => relays as usize,
            None if self.0.is_empty() => 0,
            None => single,
        }
    }

    pub(crate) fn factor_of_lie(&self) -> f64 {
        let factor = self.find(|policy| match policy {
            Policy::Lie(factor) => Some(*factor),
            _ => None,
        });
        factor.unwrap_or(1.0)
    }

    /// The number of relays that share a machine.
    pub(crate) fn machine(&self) -> Option<u32> {
        self.find(|policy| match policy {
            Policy::Machine(relays) => Some(*relays),
            _ => None,
        })
    }

    pub(crate) fn favours(&self) -> bool {
        let favours = |policy: &Policy| matches!(policy, Policy::Favour | Policy::Machine(_));
        self.0.iter().any(favours)
    }

    pub(crate) fn withholds(&self) -> bool {
        self.0.contains(&Policy::Withhold)
    }

    pub(crate) fn stalls(&self) -> bool {
        self.0.contains(&Policy::Stall)
    }

    pub(crate) fn hostile_helpers(&self) -> f64 {
        let share = self.find(|policy| match policy {
            Policy::Helpers(share) => Some(*share),
            _ => None,
        });
        share.unwrap_or(0.0)
    }

    pub(crate) fn floods(&self) -> f64 {
        let share = self.find(|policy| match policy {
            Policy::Flood(share) => Some(*share),
            _ => None,
        });
        share.unwrap_or(0.0)
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lie(factor) => write!(f, "lie={factor}"),
            Self::Favour => f.write_str("favour"),
            Self::Machine(relays) => write!(f, "machine={relays}"),
            Self::Helpers(share) => write!(f, "helpers={share}"),
            Self::Withhold => f.write_str("withhold"),
            Self::Flood(share) => write!(f, "flood={share}"),
            Self::Stall => f.write_str("stall"),
        }
    }
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (index, policy) in self.0.iter().enumerate() {
            let plus = if index > 0 { "+" } else { "" };
            write!(f, "{plus}{policy}")?;
        }
        Ok(())
    }
}

/// An attack that is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of {names}", names = Attack::NAMES)]
pub struct AttackError(String);

impl FromStr for Policy {
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
            ("favour", "") => Ok(Self::Favour),
            ("withhold", "") => Ok(Self::Withhold),
            ("stall", "") => Ok(Self::Stall),
            ("lie", _) => Ok(Self::Lie(number()?)),
            ("helpers", _) => Ok(Self::Helpers(number()?.min(1.0))),
            ("flood", _) => Ok(Self::Flood(number()?.min(1.0))),
            ("machine", _) => match value.parse() {
                Ok(relays @ 2..=100) => Ok(Self::Machine(relays)),
                _ => Err(error()),
            },
            _ => Err(error()),
        }
    }
}

impl FromStr for Attack {
    type Err = AttackError;

    fn from_str(text: &str) -> Result<Self, AttackError> {
        if text == "none" {
            return Ok(Self::default());
        }
        let policies: Vec<Policy> = text.split('+').map(str::parse).collect::<Result<_, _>>()?;
        let kinds = policies.iter().map(std::mem::discriminant);
        let mut kinds: Vec<_> = kinds.collect();
        while let Some(kind) = kinds.pop() {
            if kinds.contains(&kind) {
                return Err(AttackError(text.to_owned()));
            }
        }
        Ok(Self(policies))
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
            "lie=100+favour",
            "machine=10",
            "helpers=0.2",
            "withhold",
            "flood=0.2",
            "stall+lie=2+helpers=0.01",
        ] {
            assert_eq!(text.parse::<Attack>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "lie",
            "lie=-1",
            "lie=x",
            "machine=1",
            "favour=2",
            "lie=2+lie=3",
            "none+lie=2",
            "lie=2+",
        ] {
            assert!(text.parse::<Attack>().is_err(), "{text}");
        }
    }
}
