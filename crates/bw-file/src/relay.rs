//! Relay lines, borrowed and owned.

use std::borrow::Cow;
use std::fmt;

use crate::error::{Error, ErrorKind};
use crate::identity::{Ed25519Identity, Fingerprint};
use crate::keys::{for_relay_keys, value_type};
use crate::line::FINDERS;
use crate::pair::{Pairs, last_pair};
use crate::units::KilobytesPerSecond;
use crate::value::{Field, is_key, is_value};

/// A relay line, borrowed from the file it is in, without its ending.
///
/// Nothing is copied and nothing is parsed until it is asked for. Where a key
/// is given twice, the last one counts.
///
/// ```
/// use bw_file::{Field, KilobytesPerSecond, RelayLineRef};
///
/// let line = RelayLineRef::new(b"bw=760 nick=Test desc_bw_avg=None error_circ=x");
/// assert_eq!(line.bandwidth(), Some(KilobytesPerSecond::new(760)));
/// assert_eq!(line.fingerprint(), None);
/// assert_eq!(line.desc_bw_avg(), Field::WrittenNone);
/// assert!(line.error_circ().is_invalid());
/// assert!(line.bw_mean().is_absent());
/// assert_eq!(line.get(b"nick"), Some(&b"Test"[..]));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RelayLineRef<'a> {
    content: &'a [u8],
}

/// A relay line of its own, without an ending, that can be edited.
///
/// Edits change only what they touch: order, spacing, unknown keys, and
/// duplicates stay.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct RelayLine {
    content: Vec<u8>,
}

impl<'a> RelayLineRef<'a> {
    /// The line with this text, given without line feed.
    pub fn new(content: &'a [u8]) -> Self {
        Self { content }
    }

    /// The line without its ending.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.content
    }

    /// All tokens in order, duplicates and bare words among them.
    pub fn pairs(&self) -> Pairs<'a> {
        Pairs::new(self.content)
    }

    /// The value of a key as it is written.
    pub fn get(&self, key: &[u8]) -> Option<&'a [u8]> {
        last_pair(self.content, key).and_then(|pair| pair.value)
    }

    /// The RSA fingerprint (`node_id`), if there is one and it is well-formed.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        Fingerprint::parse(FINDERS.node_id.last_value(self.content)?).ok()
    }

    /// The Ed25519 identity (`master_key_ed25519`), if there is one and it is
    /// well-formed.
    pub fn identity(&self) -> Option<Ed25519Identity> {
        Ed25519Identity::parse(FINDERS.master_key.last_value(self.content)?).ok()
    }

    /// The bandwidth to vote for (`bw`), if there is one and it is a number.
    pub fn bandwidth(&self) -> Option<KilobytesPerSecond> {
        crate::number::parse_unsigned(FINDERS.bw.last_value(self.content)?)
            .map(KilobytesPerSecond::new)
    }

    /// Returns true if authorities are to use the line, that is, without `vote=0`.
    pub fn is_voted(&self) -> bool {
        self.get(b"vote") != Some(b"0")
    }

    /// The line by itself.
    pub fn to_owned(&self) -> RelayLine {
        RelayLine {
            content: self.content.to_vec(),
        }
    }
}

macro_rules! accessors {
    // These three have methods of their own above.
    (@accessor bw $($rest:tt)*) => {};
    (@accessor node_id $($rest:tt)*) => {};
    (@accessor master_key_ed25519 $($rest:tt)*) => {};
    (@accessor $name:ident $type:ident $meaning:literal) => {
        #[doc = $meaning]
        pub fn $name(&self) -> Field<'a, value_type!('a $type)> {
            Field::read(stringify!($name), self.get(stringify!($name).as_bytes()))
        }
    };
    ($($name:ident $type:ident $since:ident [$($removed:ident)?] $meaning:literal;)*) => {
        /// The other keys of the formats 1.0.0 to 1.9.0, typed. For many keys of
        /// the same line, [`RelayFields`](crate::RelayFields) is faster.
        impl<'a> RelayLineRef<'a> {
            $(accessors! { @accessor $name $type $meaning })*
        }
    };
}

for_relay_keys!(accessors);

impl RelayLine {
    /// A line with this text.
    ///
    /// # Errors
    /// If the text has a line feed.
    pub fn new(content: impl Into<Vec<u8>>) -> Result<Self, Error> {
        let content = content.into();
        if memchr::memchr(b'\n', &content).is_some() {
            return Err(Error::new(ErrorKind::InvalidValue {
                key: "relay line".to_owned(),
                value: String::from_utf8_lossy(&content).into_owned(),
                expected: "one line",
            }));
        }
        Ok(Self { content })
    }

    /// Takes another line's content, which has no line feed.
    pub(crate) fn assign(&mut self, content: &[u8]) {
        self.content.clear();
        self.content.extend_from_slice(content);
    }

    /// The line as a view that has the accessors.
    pub fn as_ref(&self) -> RelayLineRef<'_> {
        RelayLineRef::new(&self.content)
    }

    /// The line without its ending.
    pub fn as_bytes(&self) -> &[u8] {
        &self.content
    }

    /// Sets a key: replaces the value of its last occurrence, or appends the
    /// pair.
    ///
    /// # Errors
    /// If the key or the value cannot be written.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), Error> {
        self.content = with_key(&self.content, key, value)?;
        Ok(())
    }

    /// Inserts a pair so that it becomes the token with the number `place`
    /// from 0, or the last. Whether the line has the key already is not looked
    /// at.
    ///
    /// # Errors
    /// If the key or the value cannot be written.
    pub fn insert(&mut self, place: usize, key: &str, value: &str) -> Result<(), Error> {
        self.content = with_pair_at(&self.content, place, key, value)?;
        Ok(())
    }

    /// Removes all occurrences of a key, each with the white space before it,
    /// and says how many there were.
    pub fn remove(&mut self, key: &str) -> usize {
        match without_key(&self.content, key.as_bytes()) {
            (_, 0) => 0,
            (content, removed) => {
                self.content = content;
                removed
            }
        }
    }
}

/// `line` with `key` set to `value`.
pub(crate) fn with_key(line: &[u8], key: &str, value: &str) -> Result<Vec<u8>, Error> {
    check_pair(key, value)?;
    let Some(pair) = last_pair(line, key.as_bytes()) else {
        return with_pair_at(line, usize::MAX, key, value);
    };
    let (before, after) = (&line[..pair.value_offset()], &line[pair.end()..]);
    Ok([before, value.as_bytes(), after].concat())
}

/// `line` with a pair before the token with the number `place`, or at its end.
pub(crate) fn with_pair_at(
    line: &[u8],
    place: usize,
    key: &str,
    value: &str,
) -> Result<Vec<u8>, Error> {
    check_pair(key, value)?;
    let pair = format!("{key}={value}");
    let (before, after) = match Pairs::new(line).nth(place) {
        Some(token) => line.split_at(token.offset),
        None => (line, &b""[..]),
    };
    let is_apart = |byte: &u8| matches!(byte, b' ' | b'\t');
    let mut edited = before.to_vec();
    if !before.last().is_none_or(is_apart) {
        edited.push(b' ');
    }
    edited.extend_from_slice(pair.as_bytes());
    if !after.is_empty() {
        edited.push(b' ');
    }
    edited.extend_from_slice(after);
    Ok(edited)
}

/// `line` without `key`, and how often it was there.
pub(crate) fn without_key(line: &[u8], key: &[u8]) -> (Vec<u8>, usize) {
    let mut edited = Vec::with_capacity(line.len());
    let mut removed = 0;
    let mut kept_to = 0;
    let mut previous_end = 0;
    for pair in Pairs::new(line) {
        let (offset, end) = (pair.offset, pair.end());
        if pair.key == key && pair.value.is_some() {
            removed += 1;
            // The first token of a line goes with the white space after it.
            let (from, to) = if offset == kept_to {
                let after = line[end..]
                    .iter()
                    .take_while(|byte| matches!(byte, b' ' | b'\t'))
                    .count();
                (offset, end + after)
            } else {
                (previous_end, end)
            };
            edited.extend_from_slice(&line[kept_to..from]);
            kept_to = to;
        }
        previous_end = end;
    }
    edited.extend_from_slice(&line[kept_to..]);
    (edited, removed)
}

/// Checks that `key=value` can be written.
pub(crate) fn check_pair(key: &str, value: &str) -> Result<(), Error> {
    if !is_key(key.as_bytes()) {
        return Err(Error::new(ErrorKind::InvalidKey {
            key: key.to_owned(),
        }));
    }
    if !is_value(value.as_bytes()) {
        return Err(Error::new(ErrorKind::InvalidValue {
            key: key.to_owned(),
            value: value.to_owned(),
            expected: "printable ASCII without spaces, at least one character",
        }));
    }
    Ok(())
}

impl<'a> From<RelayLineRef<'a>> for Cow<'a, [u8]> {
    fn from(line: RelayLineRef<'a>) -> Self {
        Cow::Borrowed(line.content)
    }
}

impl fmt::Debug for RelayLineRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "RelayLineRef({:?})",
            self.content.escape_ascii().to_string()
        )
    }
}

impl fmt::Debug for RelayLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "RelayLine({:?})",
            self.content.escape_ascii().to_string()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(text: &str, edit: impl FnOnce(&mut RelayLine)) -> String {
        let mut line = RelayLine::new(text).unwrap();
        edit(&mut line);
        String::from_utf8(line.content).unwrap()
    }

    #[test]
    fn setting_touches_one_value() {
        let set = |text, key, value| edited(text, |line| line.set(key, value).unwrap());
        assert_eq!(set("bw=1\t x  nick=a", "nick", "b"), "bw=1\t x  nick=b");
        assert_eq!(set("bw=1 bw=2 ", "bw", "300"), "bw=1 bw=300 ");
        assert_eq!(set("xbw=1", "bw", "2"), "xbw=1 bw=2");
        assert_eq!(set("", "bw", "2"), "bw=2");
    }

    #[test]
    fn inserting_keeps_the_spacing() {
        let insert = |text, place| edited(text, |line| line.insert(place, "k", "v").unwrap());
        assert_eq!(insert("a=1\t b=2  word", 0), "k=v a=1\t b=2  word");
        assert_eq!(insert("a=1\t b=2  word", 1), "a=1\t k=v b=2  word");
        assert_eq!(insert("a=1\t b=2  word", 2), "a=1\t b=2  k=v word");
        assert_eq!(insert("a=1\t b=2  word", 3), "a=1\t b=2  word k=v");
        assert_eq!(insert(" a=1", 0), " k=v a=1");
        assert_eq!(insert("a=1 ", 9), "a=1 k=v");
        assert_eq!(insert("", 0), "k=v");
    }

    #[test]
    fn removing_takes_the_space_before() {
        let remove = |text, key| edited(text, |line| assert!(line.remove(key) > 0));
        assert_eq!(remove("bw=1 nick=a vote=0", "nick"), "bw=1 vote=0");
        assert_eq!(remove("bw=1 nick=a", "bw"), "nick=a");
        assert_eq!(remove("bw=1 nick=a bw=2 ", "bw"), "nick=a ");
        assert_eq!(remove("bw=1 bw=2", "bw"), "");
        assert_eq!(remove("bw=1 bw=2  nick=a", "bw"), "nick=a");
        assert_eq!(remove(" bw=1", "bw"), "");
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let mut line = RelayLine::new("bw=1").unwrap();
        for (key, value) in [
            ("", "1"),
            ("a b", "1"),
            ("a", ""),
            ("a", "x y"),
            ("a", "x\ny"),
            ("a", "é"),
        ] {
            assert!(line.set(key, value).is_err(), "{key}={value}");
        }
        assert!(RelayLine::new("a\nb").is_err());
        assert_eq!(line.as_bytes(), b"bw=1");
    }
}
