//! `key=value` pairs and the lines made of them.

use std::iter::FusedIterator;

use memchr::{memchr, memchr2, memmem};

/// A token of a line: a key and a value, or a bare word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Pair<'a> {
    /// Everything before the first `=`; the whole word if there is none.
    pub key: &'a [u8],
    /// Everything after the first `=`; `None` for a bare word.
    pub value: Option<&'a [u8]>,
    /// Offset of the key in its line.
    pub offset: usize,
}

impl<'a> Pair<'a> {
    fn split(token: &'a [u8], offset: usize) -> Self {
        match memchr(b'=', token) {
            Some(at) => Self {
                key: &token[..at],
                value: Some(&token[at + 1..]),
                offset,
            },
            None => Self {
                key: token,
                value: None,
                offset,
            },
        }
    }

    /// Offset of the value in its line; the end of the word if it has none.
    pub fn value_offset(&self) -> usize {
        self.offset + self.key.len() + usize::from(self.value.is_some())
    }

    /// Offset of the first byte after the token in its line.
    pub fn end(&self) -> usize {
        self.value_offset() + self.value.map_or(0, <[u8]>::len)
    }
}

/// The tokens of a relay line, in order: what runs of spaces and tabs
/// separate.
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Pairs<'a> {
    pub(crate) fn new(line: &'a [u8]) -> Self {
        Self { line, at: 0 }
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Pair<'a>;

    fn next(&mut self) -> Option<Pair<'a>> {
        let mut start = self.at;
        while let Some(b' ' | b'\t') = self.line.get(start) {
            start += 1;
        }
        let rest = &self.line[start..];
        if rest.is_empty() {
            self.at = start;
            return None;
        }
        let length = token_length(rest);
        self.at = start + length;
        Some(Pair::split(&rest[..length], start))
    }
}

impl FusedIterator for Pairs<'_> {}

/// The length of the token at the start of `bytes`.
#[inline]
pub(crate) fn token_length(bytes: &[u8]) -> usize {
    memchr2(b' ', b'\t', bytes).unwrap_or(bytes.len())
}

/// Returns true if `at` is where a token of `line` begins.
fn begins_token(line: &[u8], at: usize) -> bool {
    at == 0 || matches!(line[at - 1], b' ' | b'\t')
}

/// The token that begins at `at`.
fn token_at(line: &[u8], at: usize) -> &[u8] {
    let rest = &line[at..];
    &rest[..token_length(rest)]
}

/// Finds tokens by their key without visiting the others.
#[derive(Debug)]
pub(crate) struct KeyFinder {
    /// The key and the `=` after it.
    finder: memmem::Finder<'static>,
}

impl KeyFinder {
    /// A finder for `key`, to be given with its `=`.
    pub(crate) fn new(key_and_equals: &'static [u8]) -> Self {
        Self {
            finder: memmem::Finder::new(key_and_equals),
        }
    }

    /// Returns true if `line` begins with the key.
    pub(crate) fn is_first(&self, line: &[u8]) -> bool {
        line.starts_with(self.finder.needle())
    }

    /// Returns true if `line` has the key.
    pub(crate) fn is_in(&self, line: &[u8]) -> bool {
        self.is_first(line) || self.finder.find_iter(line).any(|at| begins_token(line, at))
    }

    /// The key's last value in `line`.
    pub(crate) fn last_value<'a>(&self, line: &'a [u8]) -> Option<&'a [u8]> {
        let at = self
            .finder
            .find_iter(line)
            .filter(|&at| begins_token(line, at))
            .last()?;
        Some(&token_at(line, at)[self.finder.needle().len()..])
    }
}

/// The last pair of `line` that has `key`: where a key is given twice, the
/// last one counts, as it does for every reader that was tried.
pub(crate) fn last_pair<'a>(line: &'a [u8], key: &[u8]) -> Option<Pair<'a>> {
    if key.is_empty() {
        return Pairs::new(line)
            .filter(|pair| pair.key.is_empty() && pair.value.is_some())
            .last();
    }
    if key.iter().any(|byte| matches!(byte, b' ' | b'\t' | b'=')) {
        return None;
    }
    memmem::find_iter(line, key)
        .filter(|&at| begins_token(line, at) && line.get(at + key.len()) == Some(&b'='))
        .last()
        .map(|at| Pair::split(token_at(line, at), at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tokens_and_their_places() {
        let line = b" \tbw=1  word nick=a=b =v k= ";
        let seen: Vec<_> = Pairs::new(line)
            .map(|p| (p.key, p.value, p.offset))
            .collect();
        type Token<'a> = (&'a [u8], Option<&'a [u8]>, usize);
        let expected: Vec<Token<'_>> = vec![
            (b"bw", Some(b"1"), 2),
            (b"word", None, 8),
            (b"nick", Some(b"a=b"), 13),
            (b"", Some(b"v"), 22),
            (b"k", Some(b""), 25),
        ];
        assert_eq!(seen, expected);
    }

    proptest! {
        #[test]
        fn finding_agrees_with_visiting(line in "[bw= \tx1]{0,40}") {
            let line = line.as_bytes();
            let visited = Pairs::new(line).filter(|p| p.key == b"bw").filter_map(|p| p.value).last();
            prop_assert_eq!(KeyFinder::new(b"bw=").last_value(line), visited);
            prop_assert_eq!(last_pair(line, b"bw").and_then(|p| p.value), visited);
            prop_assert_eq!(KeyFinder::new(b"bw=").is_in(line), visited.is_some());
        }

        #[test]
        fn tokens_cover_all_but_white_space(line in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut end = 0;
            for pair in Pairs::new(&line) {
                prop_assert!(line[end..pair.offset].iter().all(|b| matches!(b, b' ' | b'\t')));
                prop_assert!(pair.end() > pair.offset);
                end = pair.end();
            }
            prop_assert!(line[end..].iter().all(|b| matches!(b, b' ' | b'\t')));
        }
    }
}
