//! All typed values of a relay line or of a header, read in one pass.

use std::borrow::Cow;

use memchr::memchr;

use crate::document::Document;
use crate::escape::escaped;
use crate::keys::{for_header_keys, for_relay_keys, value_type};
use crate::pair::Pairs;
use crate::relay::RelayLineRef;
use crate::value::Field;

/// A pair that the catalogue of keys does not have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct OtherPair<'a> {
    /// The key. In JSON, bytes outside UTF-8 are `\xNN`, and a backslash is `\\`.
    #[cfg_attr(feature = "serde", serde(with = "crate::escape::bytes"))]
    pub key: Cow<'a, [u8]>,
    /// The value, in JSON as the key.
    #[cfg_attr(feature = "serde", serde(with = "crate::escape::bytes"))]
    pub value: Cow<'a, [u8]>,
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
                    key: Cow::Borrowed(key),
                    value: Cow::Borrowed(value),
                });
            }

            /// Calls `visit` with the name and the spelling of every field
            /// that is there, in order of name, then of the other pairs. In
            /// values that are not of their key's type and in other pairs,
            /// bytes outside UTF-8 are `\xNN`, and a backslash is `\\`.
            pub fn for_each(&self, mut visit: impl FnMut(&str, &str)) {
                let mut text = String::new();
                $(
                    if spell(&self.$name, &mut text) {
                        visit(stringify!($name), &text);
                    }
                )*
                for pair in &self.other {
                    visit(&escaped(&pair.key), &escaped(&pair.value));
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
        Field::Invalid(raw) => text.push_str(&escaped(raw)),
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
            /// `{"invalid": "…"}`, in which bytes outside UTF-8 are `\xNN`, and a
            /// backslash is `\\`.
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

/// Takes in the pairs at the start of `$rest` that have these keys, in this
/// order; any of them may be missing.
macro_rules! take_in_order {
    ($fields:ident, $rest:ident: $($name:ident)*) => {
        $(
            if let Some(value) = $rest.strip_prefix(concat!(stringify!($name), "=").as_bytes()) {
                $rest = $fields.$name.take_start(stringify!($name), value);
            }
        )*
    };
}

macro_rules! take_sorted {
    ($($name:ident $type:ident $since:ident [$($removed:ident)?] $meaning:literal;)*) => {
        const LONGEST_KEY: usize = {
            let mut longest = 0;
            $(
                if stringify!($name).len() > longest {
                    longest = stringify!($name).len();
                }
            )*
            longest
        };

        /// Takes in what sbws has: keys sorted by name.
        fn take_sorted(&mut self, mut rest: &'a [u8]) -> &'a [u8] {
            take_in_order!(self, rest: $($name)*);
            rest
        }

        /// Takes in the value of `key` at the start of `bytes`, and gives the rest; `None`
        /// for a key that the catalogue does not have.
        #[inline]
        fn take_start(&mut self, key: &[u8], bytes: &'a [u8]) -> Option<&'a [u8]> {
            $(
                if key == stringify!($name).as_bytes() {
                    return Some(self.$name.take_start(stringify!($name), bytes));
                }
            )*
            None
        }
    };
}

impl<'a> RelayFields<'a> {
    /// Reads a relay line.
    // In the caller the value comes to be where it stays; else it is copied.
    #[inline]
    pub fn new(line: RelayLineRef<'a>) -> Self {
        let mut fields = Self::default();
        fields.take_line(line.as_bytes());
        fields
    }

    // Comparing with the key that is due takes half the time of finding tokens
    // and looking their keys up, which is for all other lines.
    #[inline(never)]
    fn take_line(&mut self, line: &'a [u8]) {
        let rest = if line.starts_with(b"node_id=") {
            self.take_torflows(line)
        } else {
            self.take_sorted(line)
        };
        self.take_in_any_order(rest);
    }

    fn take_in_any_order(&mut self, mut rest: &'a [u8]) {
        loop {
            while let [b' ' | b'\t', after @ ..] = rest {
                rest = after;
            }
            let key_and_equals = &rest[..rest.len().min(Self::LONGEST_KEY + 1)];
            let known = memchr(b'=', key_and_equals)
                .and_then(|equals| self.take_start(&rest[..equals], &rest[equals + 1..]));
            if let Some(after) = known {
                rest = after;
                continue;
            }
            let Some(pair) = Pairs::new(rest).next() else {
                return;
            };
            if let Some(value) = pair.value {
                self.take(pair.key, value);
            }
            rest = &rest[pair.end()..];
        }
    }

    /// Takes in what Torflow has, in its order.
    fn take_torflows(&mut self, mut rest: &'a [u8]) -> &'a [u8] {
        take_in_order!(self, rest: node_id bw nick measured_at updated_at pid_error
            pid_error_sum pid_bw pid_delta circ_fail scanner);
        rest
    }

    for_relay_keys!(take_sorted);
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
    use proptest::prelude::*;

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

    proptest! {
        /// Keys in the order that is expected or in any other, values of their type or of
        /// any other, spaces, duplicates.
        #[test]
        fn the_order_of_keys_does_not_matter(
            line in proptest::collection::vec(
                (one_of(KEYS), one_of(VALUES), "[ \t]{1,2}|")
                    .prop_map(|(key, value, end)| format!("{key}{value}{end}")),
                0..20,
            ),
            sort in any::<bool>(),
        ) {
            let mut line = line;
            if sort {
                line.sort();
            }
            let line = line.concat();
            let mut plain = RelayFields::default();
            for pair in Pairs::new(line.as_bytes()) {
                if let Some(value) = pair.value {
                    plain.take(pair.key, value);
                }
            }
            let fields = RelayFields::new(RelayLineRef::new(line.as_bytes()));
            prop_assert_eq!(fields, plain);
        }
    }

    const KEYS: &str = "bw= bw_mean= circ_fail= consensus_bandwidth_is_unmeasured= \
        desc_bw_avg= error_circ= master_key_ed25519= measured_at= nick= node_id= pid_bw= \
        pid_error= scanner= time= unknown= vote= bw =";

    const VALUES: &str = "0 1 12345678 00000000000000000001 18446744073709551616 1x - -1 0.5 .5 \
        5. . 1.2.3 -0.25 1e-05 0.1234567890123456 None True False Truely a=b \u{e9} a\u{1} \
        2023-11-14T22:13:20 2023-11-14T22:13:2 2023-11-14T22:13:20Z \
        $0123456789abcdefABCDEF0123456789ABCDEF01 0123456789abcdefABCDEF0123456789ABCDEF01 \
        0123456789abcdefABCDEF0123456789ABCDEF012 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA \
        AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB ";

    fn one_of(words: &'static str) -> impl Strategy<Value = &'static str> {
        proptest::sample::select(words.split(' ').collect::<Vec<_>>())
    }

    #[test]
    fn owning_changes_nothing() {
        let fields = RelayFields::new(RelayLineRef::new(b"nick=a bw=x scanner=/s:1 y=2"));
        assert_eq!(fields.clone().into_owned(), fields);
    }
}
