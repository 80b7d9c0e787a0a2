//! Data of another program that goes beyond a record.

use std::io;

use bw_results::Outcome;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The part of another scanner's result that goes beyond a record.
///
/// The store keeps it beside the record, in bytes of the supplement's own
/// making. JSON Lines show it as it serialises. One store has supplements of
/// one type.
pub trait Supplement: Serialize + DeserializeOwned {
    /// The bytes that the store keeps; `None` if there is nothing to keep.
    ///
    /// # Errors
    /// If it cannot be written as bytes.
    fn to_bytes(&self) -> io::Result<Option<Vec<u8>>>;

    /// Reads what [`to_bytes`](Self::to_bytes) made, in this version or an older one;
    /// `None` if that says nothing.
    ///
    /// # Errors
    /// If these bytes are something else.
    fn from_bytes(bytes: &[u8]) -> io::Result<Option<Self>>;
}

/// The supplement of those who have no use for one: nothing is kept or written,
/// and whatever is read is passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoSupplement;

impl Supplement for NoSupplement {
    fn to_bytes(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn from_bytes(_: &[u8]) -> io::Result<Option<Self>> {
        Ok(None)
    }
}

impl Serialize for NoSupplement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for NoSupplement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// The supplement of an outcome or, where there is none, the outcome itself.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third thing to tell")]
pub enum Supplemented<S> {
    /// The data of another program.
    Supplement(S),
    /// The outcome, of which nothing else is known.
    Outcome(Box<Outcome>),
}
