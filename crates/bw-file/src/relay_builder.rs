//! Relay lines made from scratch.

use std::borrow::Cow;

use crate::error::{Error, ErrorKind};
use crate::identity::{Ed25519Identity, Fingerprint};
use crate::keys::{KeyInfo, for_relay_keys, value_type};
use crate::relay::{RelayLine, check_pair};
use crate::target::Target;
use crate::units::KilobytesPerSecond;
use crate::value::{FieldValue, is_finite, is_nickname};

/// Builds a relay line.
///
/// Values are checked when the line is [built](Self::build) or written, so
/// that calls can be chained.
///
/// ```
/// use bw_file::{BytesPerSecond, Fingerprint, KilobytesPerSecond, RelayBuilder, Target};
///
/// let fingerprint = Fingerprint::from_bytes([0xAB; 20]);
/// let mut relay = RelayBuilder::new(fingerprint, KilobytesPerSecond::new(760));
/// relay.nick("Example").bw_mean(BytesPerSecond::new(801_234));
/// assert_eq!(
///     relay.build(&Target::default())?.as_bytes(),
///     b"bw=760 bw_mean=801234 nick=Example node_id=$ABABABABABABABABABABABABABABABABABABABAB",
/// );
/// # Ok::<(), bw_file::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayBuilder {
    fingerprint: Fingerprint,
    bw: KilobytesPerSecond,
    identity: Option<Ed25519Identity>,
    pairs: Vec<(Cow<'static, str>, String)>,
}

/// The Rust type that a setter takes, from the word in the table of keys.
macro_rules! setter_type {
    (text) => { &str };
    (countries) => { Vec<$crate::value::CountryCode> };
    ($type:ident) => { value_type!('static $type) };
}

macro_rules! spelled {
    (text, $value:expr) => {
        $value.to_owned()
    };
    ($type:ident, $value:expr) => {{
        let mut text = String::new();
        $value.write_field(&mut text);
        text
    }};
}

pub(crate) use setter_type;
pub(crate) use spelled;

macro_rules! relay_setters {
    (@setter bw $($rest:tt)*) => {};
    (@setter node_id $($rest:tt)*) => {};
    (@setter master_key_ed25519 $($rest:tt)*) => {};
    (@setter $name:ident $type:ident $meaning:literal) => {
        #[doc = $meaning]
        pub fn $name(&mut self, value: setter_type!($type)) -> &mut Self {
            self.put(stringify!($name), spelled!($type, value))
        }
    };
    ($($name:ident $type:ident $since:ident [$($removed:ident)?] $meaning:literal;)*) => {
        /// The keys of the formats 1.0.0 to 1.9.0.
        impl RelayBuilder {
            $(relay_setters! { @setter $name $type $meaning })*
        }
    };
}

for_relay_keys!(relay_setters);

impl RelayBuilder {
    /// A relay with the bandwidth to vote for.
    pub fn new(fingerprint: Fingerprint, bw: KilobytesPerSecond) -> Self {
        Self {
            fingerprint,
            bw,
            identity: None,
            pairs: Vec::new(),
        }
    }

    /// A relay that could not be measured: `bw=1`, `unmeasured=1`, `vote=0`.
    pub fn unmeasured_relay(fingerprint: Fingerprint) -> Self {
        let mut relay = Self::new(fingerprint, KilobytesPerSecond::new(1));
        relay.unmeasured(true).vote(false);
        relay
    }

    /// The relay's fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The bandwidth to vote for.
    pub fn bandwidth(&self) -> KilobytesPerSecond {
        self.bw
    }

    /// The relay's Ed25519 identity key.
    pub fn master_key_ed25519(&mut self, identity: Ed25519Identity) -> &mut Self {
        self.identity = Some(identity);
        self
    }

    /// Marks a relay of a file with too few eligible relays:
    /// `under_min_report=1`, `vote=0`, with its bandwidth as it is.
    pub fn not_enough_eligible(&mut self) -> &mut Self {
        self.under_min_report(true).vote(false)
    }

    /// Adds any other key. Values of known keys are checked against their
    /// type.
    pub fn key(&mut self, key: impl Into<Cow<'static, str>>, value: impl ToString) -> &mut Self {
        self.pairs.push((key.into(), value.to_string()));
        self
    }

    /// The same key set again replaces the first.
    fn put(&mut self, key: &'static str, value: String) -> &mut Self {
        match self.pairs.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value,
            None => self.pairs.push((Cow::Borrowed(key), value)),
        }
        self
    }

    /// The line for `target`.
    ///
    /// # Errors
    /// If the bandwidth is not in 1..=2147483647; if a key or value cannot be
    /// written or is not of the key's type; if a key comes twice; if
    /// `unmeasured=1` goes with another bandwidth than 1; if the line is longer
    /// than the target's oldest tor reads.
    pub fn build(&self, target: &Target) -> Result<RelayLine, Error> {
        let mut text = String::new();
        self.write_line(target, &mut text)?;
        RelayLine::new(text)
    }

    pub(crate) fn identity(&self) -> Option<Ed25519Identity> {
        self.identity
    }

    /// Appends the line without line feed.
    pub(crate) fn write_line(&self, target: &Target, out: &mut String) -> Result<(), Error> {
        self.checked_pairs(target)
            .and_then(|pairs| write_pairs(&pairs, target, out))
            .map_err(|error| error.of_relay(self.fingerprint))
    }

    /// All pairs in the target's order, each of them allowed.
    fn checked_pairs(&self, target: &Target) -> Result<Vec<(&str, Cow<'_, str>)>, Error> {
        if !(1..=2_147_483_647).contains(&self.bw.value()) {
            return Err(Error::new(ErrorKind::BandwidthOutOfRange {
                value: self.bw,
            }));
        }
        let dollar = if target.writes_dollar() { "$" } else { "" };
        let mut pairs: Vec<(&str, Cow<'_, str>)> = Vec::with_capacity(self.pairs.len() + 3);
        pairs.push(("bw", self.bw.value().to_string().into()));
        pairs.push(("node_id", format!("{dollar}{}", self.fingerprint).into()));
        if let Some(identity) = self.identity {
            pairs.push(("master_key_ed25519", identity.to_string().into()));
        }
        for (key, value) in &self.pairs {
            if matches!(&**key, "bw" | "node_id" | "master_key_ed25519") {
                return Err(Error::new(ErrorKind::ReservedKey {
                    key: key.clone().into_owned(),
                }));
            }
            check_pair(key, value)?;
            check_type(KeyInfo::relay(key.as_bytes()), key, value)?;
            if key == "unmeasured" && value == "1" && self.bw.value() != 1 {
                return Err(Error::new(ErrorKind::UnmeasuredBandwidth {
                    value: self.bw,
                }));
            }
            pairs.push((key, Cow::Borrowed(value)));
        }
        let first = target.first_keys();
        let place = |key: &str| first.iter().position(|&name| name == key);
        pairs.sort_unstable_by_key(|&(key, _)| (place(key).unwrap_or(first.len()), key));
        Ok(pairs)
    }
}

fn write_pairs(
    pairs: &[(&str, Cow<'_, str>)],
    target: &Target,
    out: &mut String,
) -> Result<(), Error> {
    let start = out.len();
    for (index, (key, value)) in pairs.iter().enumerate() {
        if index > 0 {
            if pairs[index - 1].0 == *key {
                return Err(Error::new(ErrorKind::DuplicateKey {
                    key: (*key).to_owned(),
                }));
            }
            out.push(' ');
        }
        out.push_str(key);
        out.push('=');
        out.push_str(value);
    }
    let bytes = out.len() - start;
    match target.oldest_tor.longest_line() {
        Some(maximum) if bytes > maximum => {
            Err(Error::new(ErrorKind::LineTooLong { bytes, maximum }))
        }
        _ => Ok(()),
    }
}

/// Checks that a value is of its key's type; unknown keys take any.
pub(crate) fn check_type(info: Option<&KeyInfo>, key: &str, value: &str) -> Result<(), Error> {
    let expected = match info {
        Some(info) if !info.accepts(value.as_bytes()) => info.expected,
        Some(info) if info.is_nickname() && !is_nickname(value.as_bytes()) => {
            "1 to 19 letters and digits"
        }
        // Files of Torflow have them, but nobody can compute with them.
        Some(info) if info.is_float() && !is_finite(value.as_bytes()) => "a finite decimal number",
        _ => return Ok(()),
    };
    Err(Error::new(ErrorKind::InvalidValue {
        key: key.to_owned(),
        value: value.to_owned(),
        expected,
    }))
}

/// The result of a chain of setters.
impl From<&mut RelayBuilder> for RelayBuilder {
    fn from(relay: &mut RelayBuilder) -> Self {
        relay.clone()
    }
}
