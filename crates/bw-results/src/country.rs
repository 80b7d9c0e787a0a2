//! The country in which a relay seems to be.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A country's two-letter code (ISO 3166-1 alpha-2), as in tor's GeoIP files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Country([u8; 2]);

/// A text that is not two letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a country's code is two letters")]
#[non_exhaustive]
pub struct CountryError;

impl FromStr for Country {
    type Err = CountryError;

    /// Takes two letters of either case; "??", which tor's GeoIP files have for
    /// unknown countries, is no country.
    fn from_str(text: &str) -> Result<Self, CountryError> {
        match *text.as_bytes() {
            [a, b] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() => {
                Ok(Self([a.to_ascii_uppercase(), b.to_ascii_uppercase()]))
            }
            _ => Err(CountryError),
        }
    }
}

impl TryFrom<String> for Country {
    type Error = CountryError;

    fn try_from(text: String) -> Result<Self, CountryError> {
        text.parse()
    }
}

impl From<Country> for String {
    fn from(country: Country) -> Self {
        country.to_string()
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([a, b]) = *self;
        write!(f, "{}{}", char::from(a), char::from(b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_letters_and_nothing_else() {
        let country: Country = "se".parse().unwrap();
        assert_eq!(country.to_string(), "SE");
        assert_eq!(serde_json::to_string(&country).unwrap(), r#""SE""#);
        assert_eq!(serde_json::from_str::<Country>(r#""SE""#).unwrap(), country);
        for wrong in ["", "S", "SWE", "??", "1A", "é"] {
            assert_eq!(wrong.parse::<Country>(), Err(CountryError), "{wrong}");
        }
    }
}
