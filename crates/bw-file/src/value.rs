//! Values of keys: their types and what can be in their place.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::identity::{Ed25519Identity, Fingerprint};
use crate::keys::is_written_none;
use crate::number::{short_decimal, signed, unsigned, whole};
use crate::pair::token_length;
use crate::time::{DateTime, UnixTime};
use crate::units::{BytesPerSecond, KilobytesPerSecond};
use crate::version::FormatVersion;

/// The state of a key in a file.
///
/// The four states are told apart because they mean different things: sbws
/// writes `None` for [some keys](crate::KeyInfo::may_be_none) that it does not
/// know, and a value that is not of its key's type is somebody's mistake that a
/// reader should hear of. `None` is an ordinary value of text: a relay may have it for
/// a nickname.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "these are all the states there can be"
)]
pub enum Field<'a, T> {
    /// The key is not there.
    #[default]
    Absent,
    /// The key is there and says `None`, where writers do so for what they do not know.
    WrittenNone,
    /// The key is there, with a value that is not of its type.
    Invalid(Cow<'a, [u8]>),
    /// The key is there with this value.
    Value(T),
}

impl<'a, T> Field<'a, T> {
    /// The value, if there is one of the right type.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            _ => None,
        }
    }

    /// A reference to the value, if there is one of the right type.
    pub fn as_value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            _ => None,
        }
    }

    /// Returns true if the key is not there.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// Returns true if the key is there with a value that is not of its type.
    pub fn is_invalid(&self) -> bool {
        matches!(self, Self::Invalid(_))
    }

    /// Reads the value of `key`.
    #[inline]
    pub(crate) fn read(key: &str, raw: Option<&'a [u8]>) -> Self
    where
        T: FieldValue<'a>,
    {
        match raw {
            None => Self::Absent,
            Some(raw) => match T::parse_field(raw) {
                Some(value) => Self::Value(value),
                None => Self::without_value(key, raw),
            },
        }
    }

    /// Becomes the value of `key` at the start of `bytes`; gives what is left behind
    /// the token, without one space.
    // Written in place: to copy what has just been written in parts takes longer than
    // to read most values.
    #[inline]
    pub(crate) fn take_start(&mut self, key: &str, bytes: &'a [u8]) -> &'a [u8]
    where
        T: FieldValue<'a>,
    {
        if let Some((value, length)) = T::parse_start(bytes) {
            match &bytes[length..] {
                [] => {
                    *self = Self::Value(value);
                    return &[];
                }
                [b' ' | b'\t', rest @ ..] => {
                    *self = Self::Value(value);
                    return rest;
                }
                _ => {}
            }
        }
        self.take_token(key, bytes)
    }

    #[cold]
    fn take_token(&mut self, key: &str, bytes: &'a [u8]) -> &'a [u8]
    where
        T: FieldValue<'a>,
    {
        let (token, rest) = bytes.split_at(token_length(bytes));
        *self = Self::read(key, Some(token));
        rest.get(1..).unwrap_or_default()
    }

    #[cold]
    fn without_value(key: &str, raw: &'a [u8]) -> Self {
        if is_written_none(key, raw) {
            Self::WrittenNone
        } else {
            Self::Invalid(Cow::Borrowed(raw))
        }
    }
}

/// A type that the value of a key can have.
///
/// Sealed: the types are those of the format.
pub trait FieldValue<'a>: Sized + sealed::Sealed {
    /// The values that the type takes, for messages.
    const EXPECTED: &'static str;

    /// Reads a value's bytes; `None` if they are not of this type.
    fn parse_field(raw: &'a [u8]) -> Option<Self>;

    /// Reads a value at the start of some bytes, and says how many it has. That a
    /// token ends there is for the caller to see.
    #[doc(hidden)]
    #[inline]
    fn parse_start(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let length = token_length(bytes);
        Some((Self::parse_field(&bytes[..length])?, length))
    }

    /// Appends the value's spelling.
    fn write_field(&self, out: &mut String);

    /// Returns true if JSON can have the value: all but infinities and NaN.
    #[doc(hidden)]
    fn is_json(&self) -> bool {
        true
    }
}

mod sealed {
    pub trait Sealed {}
}

/// `True` or `False`: how Python spells the only such key,
/// `consensus_bandwidth_is_unmeasured`. The other booleans are `1` or `0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct PythonBool(bool);

/// A whole number of milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct Milliseconds(u64);

/// A whole number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct Seconds(u64);

/// A whole number of percents; more than 100 occurs in production.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct Percent(u64);

/// A country as ISO 3166-1 alpha-2 has it: two upper-case letters. `ZZ`
/// stands for unknown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CountryCode([u8; 2]);

macro_rules! wrapper {
    ($type:ident, $inner:ty, $unit:literal) => {
        impl $type {
            #[doc = concat!("Wraps ", $unit, ".")]
            pub const fn new(value: $inner) -> Self {
                Self(value)
            }

            #[doc = concat!("The value: ", $unit, ".")]
            pub const fn value(self) -> $inner {
                self.0
            }
        }
    };
}

wrapper!(PythonBool, bool, "a truth value");
wrapper!(Milliseconds, u64, "a number of milliseconds");
wrapper!(Seconds, u64, "a number of seconds");
wrapper!(Percent, u64, "a number of percents");

/// A text that is not a [`CountryCode`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a country as two upper-case letters expected (ZZ: unknown), found {0:?}")]
pub struct CountryCodeError(String);

/// ```
/// let country: bw_file::CountryCode = "DE".parse()?;
/// assert_eq!(country.to_string(), "DE");
/// assert!("de".parse::<bw_file::CountryCode>().is_err());
/// # Ok::<(), bw_file::CountryCodeError>(())
/// ```
impl FromStr for CountryCode {
    type Err = CountryCodeError;

    fn from_str(text: &str) -> Result<Self, CountryCodeError> {
        Self::parse(text.as_bytes())
            .ok_or_else(|| CountryCodeError(text.chars().take(64).collect()))
    }
}

impl CountryCode {
    /// Reads two upper-case letters.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let code: [u8; 2] = text.try_into().ok()?;
        code.iter()
            .all(u8::is_ascii_uppercase)
            .then_some(Self(code))
    }
}

impl fmt::Display for CountryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = self.0.map(char::from);
        write!(f, "{first}{second}")
    }
}

impl fmt::Debug for CountryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CountryCode({self})")
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for CountryCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for CountryCode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Returns true if the bytes can be a value: printable ASCII without space, at least
/// one (bandwidth-file-spec 2.1).
pub(crate) fn is_value(raw: &[u8]) -> bool {
    !raw.is_empty() && raw.iter().all(u8::is_ascii_graphic)
}

/// Returns true if the bytes can be a relay's nickname: 1 to 19 letters and digits
/// (dir-spec), `None` among them.
///
/// ```
/// assert!(bw_file::is_nickname(b"None"));
/// assert!(!bw_file::is_nickname(b"not one"));
/// ```
pub fn is_nickname(raw: &[u8]) -> bool {
    (1..=19).contains(&raw.len()) && raw.iter().all(u8::is_ascii_alphanumeric)
}

/// Returns true if the bytes are a number other than NaN and the infinities.
pub(crate) fn is_finite(raw: &[u8]) -> bool {
    f64::parse_field(raw).is_some_and(f64::is_finite)
}

/// Returns true if the bytes can be a key.
pub(crate) fn is_key(raw: &[u8]) -> bool {
    !raw.is_empty()
        && raw
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

macro_rules! field_value {
    // `length`: that of every value which begins with this byte, for types which
    // have such lengths.
    ($type:ty, $expected:literal, $parse:expr, $spell:expr $(, $length:expr)?) => {
        field_value!(@ $type, $expected, $spell,
            fn parse_field(raw: &'a [u8]) -> Option<Self> {
                let parse: fn(&'a [u8]) -> Option<Self> = $parse;
                parse(raw)
            }

            $(
                #[inline]
                fn parse_start(bytes: &'a [u8]) -> Option<(Self, usize)> {
                    let length = $length(*bytes.first()?);
                    Some((Self::parse_field(bytes.get(..length)?)?, length))
                }
            )?
        );
    };
    // The type of a number: how it is read, and what is made of it.
    ($type:ty, $expected:literal, $read:ident => $make:expr, $spell:expr) => {
        field_value!(@ $type, $expected, $spell,
            fn parse_field(raw: &'a [u8]) -> Option<Self> {
                whole(raw, Self::parse_start)
            }

            #[inline]
            fn parse_start(bytes: &'a [u8]) -> Option<(Self, usize)> {
                let (number, length) = $read(bytes)?;
                $make(number).map(|value| (value, length))
            }
        );
    };
    (@ $type:ty, $expected:literal, $spell:expr, $($parse:item)*) => {
        impl sealed::Sealed for $type {}

        impl<'a> FieldValue<'a> for $type {
            const EXPECTED: &'static str = $expected;

            $($parse)*

            fn write_field(&self, out: &mut String) {
                let spell: fn(&Self) -> &dyn fmt::Display = $spell;
                // Writing to a String cannot fail.
                let _ = fmt::Write::write_fmt(out, format_args!("{}", spell(self)));
            }
        }
    };
}

field_value!(u64, "a whole number", unsigned => Some, |v| v);
field_value!(i64, "a whole number", signed => Some, |v| v);
field_value!(
    KilobytesPerSecond,
    "a whole number of kilobytes per second",
    unsigned => |number| Some(Self::new(number)),
    |v| v.as_number()
);
field_value!(
    BytesPerSecond,
    "a whole number of bytes per second",
    unsigned => |number| Some(Self::new(number)),
    |v| v.as_number()
);
field_value!(
    Fingerprint,
    "40 hexadecimal digits, after an optional \"$\"",
    |raw| Self::parse(raw).ok(),
    |v| v,
    |first| if first == b'$' { 41 } else { 40 }
);
field_value!(
    Ed25519Identity,
    "43 characters of base64",
    |raw| Self::parse(raw).ok(),
    |v| v,
    |_| 43
);
field_value!(
    DateTime,
    "a date and time as YYYY-MM-DDTHH:MM:SS",
    |raw| Self::parse(raw).ok(),
    |v| v,
    |_| 19
);
field_value!(
    UnixTime,
    "a whole number of seconds since 1970",
    unsigned => |number: u64| number.try_into().ok().map(Self::new),
    |v| v
);
field_value!(
    FormatVersion,
    "three numbers with dots between",
    Self::parse,
    |v| v
);
field_value!(
    Milliseconds,
    "a whole number of milliseconds",
    unsigned => |number| Some(Self(number)),
    |v| &v.0
);
field_value!(
    Seconds,
    "a whole number of seconds",
    unsigned => |number| Some(Self(number)),
    |v| &v.0
);
field_value!(
    Percent,
    "a whole number of percents",
    unsigned => |number| Some(Self(number)),
    |v| &v.0
);
field_value!(
    bool,
    "0 or 1",
    |raw| match raw {
        b"0" => Some(false),
        b"1" => Some(true),
        _ => None,
    },
    |v| if *v { &1 } else { &0 },
    |_| 1
);
field_value!(
    PythonBool,
    "True or False",
    |raw| match raw {
        b"False" => Some(Self(false)),
        b"True" => Some(Self(true)),
        _ => None,
    },
    |v| if v.0 { &"True" } else { &"False" },
    |first| if first == b'T' { 4 } else { 5 }
);
field_value!(CountryCode, "two upper-case letters", Self::parse, |v| v);

impl sealed::Sealed for f64 {}

impl FieldValue<'_> for f64 {
    const EXPECTED: &'static str = "a decimal number";

    fn parse_field(raw: &[u8]) -> Option<Self> {
        whole(raw, short_decimal).or_else(|| std::str::from_utf8(raw).ok()?.parse().ok())
    }

    #[inline]
    fn parse_start(bytes: &[u8]) -> Option<(Self, usize)> {
        short_decimal(bytes)
    }

    fn write_field(&self, out: &mut String) {
        out.push_str(&self.to_string());
    }

    fn is_json(&self) -> bool {
        self.is_finite()
    }
}

impl sealed::Sealed for Vec<CountryCode> {}

impl FieldValue<'_> for Vec<CountryCode> {
    const EXPECTED: &'static str = "two upper-case letters each, with commas between";

    fn parse_field(raw: &[u8]) -> Option<Self> {
        raw.split(|&byte| byte == b',')
            .map(CountryCode::parse)
            .collect()
    }

    fn write_field(&self, out: &mut String) {
        for (index, code) in self.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            code.write_field(out);
        }
    }
}

impl sealed::Sealed for Cow<'_, str> {}

impl<'a> FieldValue<'a> for Cow<'a, str> {
    const EXPECTED: &'static str = "printable ASCII without spaces";

    fn parse_field(raw: &'a [u8]) -> Option<Self> {
        whole(raw, Self::parse_start)
    }

    #[inline]
    fn parse_start(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let printable = bytes.iter().take_while(|byte| byte.is_ascii_graphic());
        let length = printable.count();
        let text = std::str::from_utf8(&bytes[..length]).ok()?;
        (length > 0).then_some((Cow::Borrowed(text), length))
    }

    fn write_field(&self, out: &mut String) {
        out.push_str(self);
    }
}

#[cfg(feature = "serde")]
mod with_serde {
    use super::{Cow, Field, FieldValue};
    use crate::escape::{escaped, unescaped};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// `null` for `None`, `{"invalid": "text"}` for what is not of the type
    /// (bytes outside UTF-8 escaped) or not a number of JSON's, else the
    /// value. Absent fields are left out by the structs that hold them.
    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Form<T> {
        Invalid { invalid: String },
        Value(T),
    }

    impl<'a, T: Serialize + FieldValue<'a>> Serialize for Field<'a, T> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let invalid = match self {
                Self::Absent | Self::WrittenNone => return serializer.serialize_none(),
                Self::Value(value) if value.is_json() => return value.serialize(serializer),
                Self::Value(value) => {
                    let mut text = String::new();
                    value.write_field(&mut text);
                    text
                }
                Self::Invalid(raw) => escaped(raw).into_owned(),
            };
            Form::<()>::Invalid { invalid }.serialize(serializer)
        }
    }

    impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<'_, T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Ok(match Option::<Form<T>>::deserialize(deserializer)? {
                None => Self::WrittenNone,
                Some(Form::Invalid { invalid }) => {
                    let raw = unescaped(&invalid);
                    Self::Invalid(Cow::Owned(raw.unwrap_or_else(|| invalid.into_bytes())))
                }
                Some(Form::Value(value)) => Self::Value(value),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_states() {
        let read = |raw| Field::<u64>::read("desc_bw_avg", raw);
        assert_eq!(read(None), Field::Absent);
        assert_eq!(read(Some(b"None")), Field::WrittenNone);
        assert_eq!(read(Some(b"7")), Field::Value(7));
        for bad in [&b"-1"[..], b"", b"1.0", b"+1", b"18446744073709551616"] {
            assert!(read(Some(bad)).is_invalid(), "{bad:?}");
        }
        assert!(Field::<u64>::read("success", Some(b"None")).is_invalid());
    }

    #[test]
    fn torflow_floats() {
        for (text, value) in [
            ("-0.25", -0.25),
            ("4.88593489094", 4.885_934_890_94),
            ("1e-05", 1e-5),
        ] {
            assert_eq!(f64::parse_field(text.as_bytes()), Some(value));
        }
        assert_eq!(f64::parse_field(b"inf"), Some(f64::INFINITY));
        assert!(f64::parse_field(b"nan").is_some_and(f64::is_nan));
        assert_eq!(f64::parse_field(b"0x10"), None);
    }

    proptest::proptest! {
        #[test]
        fn numbers_are_read_as_the_standard_library_does(text in "0{0,3}[0-9]{0,21}") {
            let (ours, theirs) = (u64::parse_field(text.as_bytes()), text.parse::<u64>().ok());
            proptest::prop_assert_eq!(ours, theirs);
        }

        #[test]
        fn decimals_are_read_as_the_standard_library_does(text in "-?[0-9]{0,17}\\.?[0-9]{0,17}") {
            let (ours, theirs) = (f64::parse_field(text.as_bytes()), text.parse::<f64>().ok());
            proptest::prop_assert_eq!(ours.map(f64::to_bits), theirs.map(f64::to_bits));
        }
    }

    #[test]
    fn countries() {
        let list = <Vec<CountryCode>>::parse_field(b"ZZ,DE").unwrap();
        let mut text = String::new();
        list.write_field(&mut text);
        assert_eq!(text, "ZZ,DE");
        for bad in [&b"00,DE"[..], b"us", b"", b"DE,"] {
            assert_eq!(<Vec<CountryCode>>::parse_field(bad), None);
        }
    }
}
