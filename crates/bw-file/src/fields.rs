//! All typed values of a relay line or of a header, read in one pass.

use std::borrow::Cow;

use crate::document::Document;
use crate::keys::{for_header_keys, for_relay_keys, value_type};
use crate::relay::RelayLineRef;
use crate::value::Field;

/// A pair that the catalogue of keys does not have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct OtherPair<'a> {
    /// The key, bytes outside UTF-8 replaced.
    pub key: Cow<'a, str>,
    /// The value, bytes outside UTF-8 replaced.
    pub value: Cow<'a, str>,
}

macro_rules! fields {
    ($(#[$meta:meta])* $struct:ident; $($name:ident $type:ident $since:ident [$($removed:ident)?] $meaning:literal;)*) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(default))]
        #[non_exhaustive]
        pub struct $struct<'a> {
            $(
                #[doc = $meaning]
                #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Field::is_absent"))]
                pub $name: Field<'a, value_type!('a $type)>,
            )*
            /// Pairs with other keys, in order.
            #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Vec::is_empty"))]
            pub other: Vec<OtherPair<'a>>,
        }

        impl<'a> $struct<'a> {
            /// Takes a pair in; where a key comes twice, the last one counts.
            pub(crate) fn take(&mut self, key: &'a [u8], value: &'a [u8]) {
                $(
                    if key == stringify!($name).as_bytes() {
                        self.$name = Field::read(stringify!($name), Some(value));
                        return;
                    }
                )*
                self.other.push(OtherPair {
                    key: String::from_utf8_lossy(key),
                    value: String::from_utf8_lossy(value),
                });
            }

            /// Calls `visit` with the name and the spelling of every field
            /// that is there, in order of name, then of the other pairs.
            pub fn for_each(&self, mut visit: impl FnMut(&str, &str)) {
                let mut text = String::new();
                $(
                    if spell(&self.$name, &mut text) {
                        visit(stringify!($name), &text);
                    }
                )*
                for pair in &self.other {
                    visit(&pair.key, &pair.value);
                }
            }

            /// The same without borrowing from the file.
            pub fn into_owned(self) -> $struct<'static> {
                $struct {
                    $($name: own_field!($type, self.$name),)*
                    other: self
                        .other
                        .into_iter()
                        .map(|pair| OtherPair {
                            key: Cow::Owned(pair.key.into_owned()),
                            value: Cow::Owned(pair.value.into_owned()),
                        })
                        .collect(),
                }
            }
        }
    };
}

macro_rules! own_field {
    (text, $field:expr) => {
        own($field, |text| Cow::Owned(text.into_owned()))
    };
    ($type:ident, $field:expr) => {
        own($field, |value| value)
    };
}

fn own<T, U>(field: Field<'_, T>, own_value: impl FnOnce(T) -> U) -> Field<'static, U> {
    match field {
        Field::Absent => Field::Absent,
        Field::WrittenNone => Field::WrittenNone,
        Field::Invalid(raw) => Field::Invalid(Cow::Owned(raw.into_owned())),
        Field::Value(value) => Field::Value(own_value(value)),
    }
}

/// Spells a field; false if it is absent.
fn spell<'a, T: crate::value::FieldValue<'a>>(field: &Field<'_, T>, text: &mut String) -> bool {
    text.clear();
    match field {
        Field::Absent => return false,
        Field::WrittenNone => text.push_str("None"),
        Field::Invalid(raw) => text.push_str(&String::from_utf8_lossy(raw)),
        Field::Value(value) => value.write_field(text),
    }
    true
}

macro_rules! relay_fields {
    ($($keys:tt)*) => {
        fields! {
            /// Everything a relay line says, typed.
            ///
            /// Bare words are not kept. As JSON (feature `serde`): an object
            /// with the keys of the file; absent keys are left out, a written
            /// `None` is `null`, and a value that is not of its key's type is
            /// `{"invalid": "…"}`.
            RelayFields; $($keys)*
        }
    };
}

macro_rules! header_fields {
    ($($keys:tt)*) => {
        fields! {
            /// Everything the header lines say, typed, without the timestamp.
            ///
            /// As JSON (feature `serde`): as for [`RelayFields`].
            HeaderFields; $($keys)*
        }
    };
}

for_relay_keys!(relay_fields);
for_header_keys!(header_fields);

impl<'a> RelayFields<'a> {
    /// Reads a relay line.
    pub fn new(line: RelayLineRef<'a>) -> Self {
        let mut fields = Self::default();
        for pair in line.pairs() {
            if let Some(value) = pair.value {
                fields.take(pair.key, value);
            }
        }
        fields
    }
}

impl<'a> HeaderFields<'a> {
    /// Reads the header of a document.
    pub fn new(document: &'a Document<'_>) -> Self {
        let mut fields = Self::default();
        for header in document.headers() {
            fields.take(header.key(), header.value());
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::KilobytesPerSecond;

    #[test]
    fn one_pass_sees_what_the_accessors_see() {
        let line = RelayLineRef::new(
            b"bw=1 bw=7 nick=a unknown=x word desc_bw_avg=None rtt=-1 r_strm=0.50",
        );
        let fields = RelayFields::new(line);
        assert_eq!(fields.bw, Field::Value(KilobytesPerSecond::new(7)));
        assert_eq!(fields.desc_bw_avg, Field::WrittenNone);
        assert_eq!(fields.rtt, line.rtt());
        assert_eq!(fields.r_strm, Field::Value(0.5));
        assert_eq!(fields.other.len(), 1);
        let mut seen = Vec::new();
        fields.for_each(|key, value| seen.push(format!("{key}={value}")));
        assert_eq!(
            seen.join(" "),
            "bw=7 desc_bw_avg=None nick=a r_strm=0.5 rtt=-1 unknown=x"
        );
    }

    #[test]
    fn owning_changes_nothing() {
        let fields = RelayFields::new(RelayLineRef::new(b"nick=a bw=x scanner=/s:1 y=2"));
        assert_eq!(fields.clone().into_owned(), fields);
    }
}
