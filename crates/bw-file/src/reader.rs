//! Reading streams of any length, line by line.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use memchr::memchr;

use crate::document::{Document, Limits};
use crate::error::{Error, ErrorKind, Limit, Position, wide};
use crate::line::{Classifier, LineEnding, LineKind, split_ending};
use crate::relay::{RelayLine, RelayLineRef};
use crate::time::UnixTime;

const BUFFER_BYTES: usize = 64 * 1024;

/// Bytes of a header that are kept. Of the largest that are known, tor votes
/// with 0.8 KiB, and never with more than 1 KiB.
const HEADER_BYTES: usize = 64 * 1024;

/// Settings of a [`Reader`].
#[derive(Clone, Debug, Default)]
pub struct ReaderBuilder {
    limits: Limits,
    boundary: Boundary,
}

impl ReaderBuilder {
    /// The defaults: [`Limits::default`], several files after each other.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the most that is taken before an error.
    ///
    /// ```
    /// use bw_file::{Limits, ReaderBuilder};
    ///
    /// let mut limits = Limits::default();
    /// limits.line_bytes = 20;
    /// let file = b"1700000000\nbw=1 node_id=$0123456789012345678901234567890123456789\n";
    /// let mut reader = ReaderBuilder::new().limits(limits).from_reader(&file[..]);
    /// let error = reader.next_relay().unwrap_err();
    /// assert_eq!(error.position().unwrap().line, 2);
    /// ```
    pub fn limits(&mut self, limits: Limits) -> &mut Self {
        self.limits = limits;
        self
    }

    /// Where another file begins in the input, once the header of the file
    /// before has ended. By default at annotations and timestamps.
    ///
    /// ```
    /// use bw_file::{Boundary, ReaderBuilder};
    ///
    /// let two = b"1700000000\nbw=1 node_id=$0\n1700003600\nbw=2 node_id=$0\n";
    /// let mut builder = ReaderBuilder::new();
    /// assert_eq!(builder.from_reader(&two[..]).documents().count(), 2);
    /// builder.boundary(Boundary::None);
    /// assert_eq!(builder.from_reader(&two[..]).documents().count(), 1);
    /// ```
    pub fn boundary(&mut self, boundary: Boundary) -> &mut Self {
        self.boundary = boundary;
        self
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`ErrorKind::File`] if it cannot be opened.
    pub fn from_path(&self, path: impl AsRef<Path>) -> Result<Reader<File>, Error> {
        let path = path.as_ref();
        let file = File::open(path).map_err(|error| Error::file("cannot open", path, error))?;
        Ok(self.from_reader(file))
    }

    /// Reads from `source`, which need not be buffered.
    ///
    /// ```
    /// use bw_file::ReaderBuilder;
    ///
    /// let file = b"1700000000\nbw=1 node_id=$0123456789012345678901234567890123456789\n";
    /// let mut reader = ReaderBuilder::new().from_reader(&file[..]);
    /// assert_eq!(reader.relays().count(), 1);
    /// ```
    pub fn from_reader<R: Read>(&self, source: R) -> Reader<R> {
        Reader {
            source,
            builder: self.clone(),
            buffer: Vec::new(),
            start: 0,
            end: 0,
            at_eof: false,
            classifier: Classifier::default(),
            state: FileState::default(),
            header: Vec::new(),
            file: 0,
            next: Position::START,
            skipping: false,
        }
    }
}

/// Where another file begins in an input with several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Boundary {
    /// Nowhere: the whole input is one file.
    None,
    /// At a line with `@`, as CollecTor's files have them.
    Annotation,
    /// At a line with `@`, and at one of 9 to 12 digits alone. A file with
    /// such a line among its relays is taken apart.
    #[default]
    AnnotationOrTimestamp,
}

impl Boundary {
    /// Returns true if a line after a header is the first of another file.
    fn is_at(self, content: &[u8]) -> bool {
        let annotation = content.first() == Some(&b'@');
        match self {
            Self::None => false,
            Self::Annotation => annotation,
            Self::AnnotationOrTimestamp => {
                let digits = content.iter().all(u8::is_ascii_digit);
                annotation || (digits && (9..=12).contains(&content.len()))
            }
        }
    }
}

/// The progress within the current file.
#[derive(Clone, Copy, Debug, Default)]
struct FileState {
    bytes: u64,
    lines: u64,
}

/// Reads bandwidth files from a stream, one line in memory, and the header of
/// the current file, of which the first 64 KiB.
///
/// ```
/// use bw_file::{HeaderFields, KilobytesPerSecond, Reader, UnixTime};
///
/// let input = b"1700000000\nversion=1.9.0\nsoftware=bwscan\n=====\n\
///     bw=1 node_id=$0123456789012345678901234567890123456789\n";
/// let mut reader = Reader::new(&input[..]);
/// assert_eq!(reader.timestamp()?, Some(UnixTime::new(1_700_000_000)));
/// let header = reader.header()?;
/// assert_eq!(HeaderFields::new(&header).software.value().as_deref(), Some("bwscan"));
///
/// let mut total = KilobytesPerSecond::default();
/// while let Some(relay) = reader.next_relay()? {
///     total += relay.bandwidth().unwrap_or_default();
/// }
/// assert_eq!(total.value(), 1);
/// # Ok::<(), bw_file::Error>(())
/// ```
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    builder: ReaderBuilder,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    at_eof: bool,
    classifier: Classifier,
    state: FileState,
    /// The current file's lines up to its first relay.
    header: Vec<u8>,
    file: u64,
    next: Position,
    /// Within a line that was too long.
    skipping: bool,
}

/// A line of a stream, borrowed from the reader.
#[derive(Clone, Copy, Debug)]
pub struct StreamLine<'a> {
    file: u64,
    position: Position,
    kind: LineKind,
    bytes: &'a [u8],
}

impl<'a> StreamLine<'a> {
    /// Number of the file in the stream, from 0.
    pub fn file(&self) -> u64 {
        self.file
    }

    /// Where the line begins in the stream.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The kind of the line.
    pub fn kind(&self) -> LineKind {
        self.kind
    }

    /// The whole line with its ending.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The line without its ending.
    pub fn content(&self) -> &'a [u8] {
        split_ending(self.bytes).0
    }

    /// The end of the line.
    pub fn ending(&self) -> LineEnding {
        split_ending(self.bytes).1
    }

    /// The line as a relay's, if it is one.
    pub fn relay(&self) -> Option<RelayLineRef<'a>> {
        (self.kind == LineKind::Relay).then(|| RelayLineRef::new(self.content()))
    }
}

impl Reader<File> {
    /// Reads the file at `path` with the defaults of [`ReaderBuilder`].
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("latest.v3bw");
    /// # std::fs::write(&path, "1700000000\nbw=1 node_id=$0123456789012345678901234567890123456789\n")?;
    /// let mut reader = bw_file::Reader::from_path(&path)?;
    /// let relay = reader.next_relay()?.unwrap();
    /// assert_eq!(relay.bandwidth().unwrap().value(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::File`] if it cannot be opened.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, Error> {
        ReaderBuilder::new().from_path(path)
    }
}

impl<R: Read> Reader<R> {
    /// Reads with the defaults of [`ReaderBuilder`].
    pub fn new(source: R) -> Self {
        ReaderBuilder::new().from_reader(source)
    }

    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// If reading fails, or a limit is exceeded. After a line that was too
    /// long, the next call goes on with the line after it.
    pub fn next_line(&mut self) -> Result<Option<StreamLine<'_>>, Error> {
        let Some(length) = self.fill_line()? else {
            return Ok(None);
        };
        let from = self.start;
        self.start += length;
        let position = self.next;
        self.next = Position::new(position.byte + wide(length), position.line + 1, 1);
        let (content, _) = split_ending(&self.buffer[from..from + length]);
        if self.classifier == Classifier::Body && self.builder.boundary.is_at(content) {
            self.classifier = Classifier::Start;
            self.state = FileState::default();
            self.header.clear();
            self.file += 1;
        }
        let in_header = self.classifier != Classifier::Body;
        let kind = self.classifier.classify(content);
        if in_header && kind != LineKind::Relay && self.header.len() + length <= HEADER_BYTES {
            let line = &self.buffer[from..from + length];
            self.header.extend_from_slice(line);
        }
        self.state.lines += 1;
        self.state.bytes += wide(length);
        let limits = self.builder.limits;
        Limits::check(limits.lines, self.state.lines, Limit::Lines, || position)?;
        Limits::check(
            limits.file_bytes,
            self.state.bytes,
            Limit::FileBytes,
            || position,
        )?;
        Ok(Some(StreamLine {
            file: self.file,
            position,
            kind,
            bytes: &self.buffer[from..from + length],
        }))
    }

    /// The next relay line, whatever is between; `None` at the end.
    ///
    /// # Errors
    /// As [`next_line`](Self::next_line).
    pub fn next_relay(&mut self) -> Result<Option<RelayLineRef<'_>>, Error> {
        loop {
            match self.next_line()? {
                None => return Ok(None),
                Some(line) if line.kind == LineKind::Relay => break,
                Some(_) => {}
            }
        }
        // Borrowed anew, since the borrow checker would keep the line of every
        // round of the loop.
        let from = self.line_before_start();
        Ok(Some(RelayLineRef::new(
            split_ending(&self.buffer[from..self.start]).0,
        )))
    }

    /// Reads the next relay line into `relay`, whose memory is used again; false at the
    /// end. Unlike that of [`next_relay`](Self::next_relay), the line outlives the next
    /// call.
    ///
    /// ```
    /// use bw_file::{KilobytesPerSecond, Reader, RelayLine};
    ///
    /// let file = b"1700000000\nbw=1 node_id=$0\nbw=7 node_id=$1\nbw=3 node_id=$2\n";
    /// let mut reader = Reader::new(&file[..]);
    /// let (mut relay, mut largest) = (RelayLine::default(), RelayLine::default());
    /// while reader.read_relay(&mut relay)? {
    ///     if relay.as_ref().bandwidth() > largest.as_ref().bandwidth() {
    ///         std::mem::swap(&mut relay, &mut largest);
    ///     }
    /// }
    /// assert_eq!(largest.as_bytes(), b"bw=7 node_id=$1");
    /// # Ok::<(), bw_file::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`next_line`](Self::next_line).
    pub fn read_relay(&mut self, relay: &mut RelayLine) -> Result<bool, Error> {
        let line = self.next_relay()?;
        relay.assign(line.map_or(&[], |line| line.as_bytes()));
        Ok(line.is_some())
    }

    /// The header of the file that the last line was of, or of the first file:
    /// a document without relays. Reads on to where the relays begin, if it
    /// has not come there.
    ///
    /// # Errors
    /// As [`next_line`](Self::next_line).
    pub fn header(&mut self) -> Result<Document<'_>, Error> {
        while self.classifier != Classifier::Body && !self.next_is_relay()? {
            if self.next_line()?.is_none() {
                break;
            }
        }
        Ok(Document::parse(&self.header))
    }

    /// The timestamp of the file that [`header`](Self::header) is of; `None` if
    /// it has none that is a number.
    ///
    /// # Errors
    /// As [`next_line`](Self::next_line).
    pub fn timestamp(&mut self) -> Result<Option<UnixTime>, Error> {
        Ok(self.header()?.timestamp().value())
    }

    /// The next file as a document; `None` at the end.
    ///
    /// # Errors
    /// As [`next_line`](Self::next_line).
    pub fn next_document(&mut self) -> Result<Option<Document<'static>>, Error> {
        let mut bytes = Vec::new();
        loop {
            if !bytes.is_empty() && self.next_begins_file()? {
                break;
            }
            match self.next_line()? {
                None => break,
                Some(line) => bytes.extend_from_slice(line.bytes),
            }
        }
        Ok((!bytes.is_empty()).then(|| Document::parse(&bytes).into_owned()))
    }

    /// The relay lines as an iterator, each copied; [`next_relay`](Self::next_relay)
    /// copies nothing. Goes on after a line that was too long, and ends after
    /// any other error.
    pub fn relays(&mut self) -> impl Iterator<Item = Result<RelayLine, Error>> {
        let goes_on = |error: &Error| {
            let too_long = Limit::LineBytes;
            matches!(error.kind(), ErrorKind::LimitExceeded { limit, .. } if *limit == too_long)
        };
        until_error(goes_on, || {
            Ok(self.next_relay()?.map(|relay| relay.to_owned()))
        })
    }

    /// The files as an iterator of documents, which ends after an error.
    pub fn documents(&mut self) -> impl Iterator<Item = Result<Document<'static>, Error>> {
        until_error(|_| false, || self.next_document())
    }

    /// Where the next line begins.
    pub fn position(&self) -> Position {
        self.next
    }

    /// Gives the source back. What was read ahead is lost.
    pub fn into_inner(self) -> R {
        self.source
    }

    fn next_begins_file(&mut self) -> Result<bool, Error> {
        if self.classifier != Classifier::Body {
            return Ok(false);
        }
        let Some(length) = self.fill_line()? else {
            return Ok(false);
        };
        let line = &self.buffer[self.start..self.start + length];
        Ok(self.builder.boundary.is_at(split_ending(line).0))
    }

    /// Returns true if a relay line comes next, which ends a header.
    fn next_is_relay(&mut self) -> Result<bool, Error> {
        let Some(length) = self.fill_line()? else {
            return Ok(false);
        };
        let line = &self.buffer[self.start..self.start + length];
        let mut classifier = self.classifier;
        Ok(classifier.classify(split_ending(line).0) == LineKind::Relay)
    }

    /// Start of the line that was returned last.
    fn line_before_start(&self) -> usize {
        let body = &self.buffer[..self.start.saturating_sub(1)];
        memchr::memrchr(b'\n', body).map_or(0, |at| at + 1)
    }

    /// Reads until a whole line is in the buffer at `start`, and says how
    /// long it is.
    fn fill_line(&mut self) -> Result<Option<usize>, Error> {
        let mut searched = 0;
        loop {
            let available = &self.buffer[self.start..self.end];
            if let Some(at) = memchr(b'\n', &available[searched..]) {
                let length = searched + at + 1;
                if self.skipping {
                    self.skipping = false;
                    self.pass(length, 1);
                    searched = 0;
                    continue;
                }
                return self.checked(length);
            }
            searched = available.len();
            if self.at_eof {
                return match searched {
                    0 => Ok(None),
                    _ if self.skipping => {
                        self.pass(searched, 0);
                        Ok(None)
                    }
                    length => self.checked(length),
                };
            }
            if self.skipping {
                self.pass(searched, 0);
                searched = 0;
            } else {
                // Enough of the line has come to see that it is too long.
                self.checked(searched)?;
            }
            self.read_more()?;
        }
    }

    fn checked(&mut self, length: usize) -> Result<Option<usize>, Error> {
        let maximum = self.builder.limits.line_bytes;
        let position = self.next;
        let result = Limits::check(maximum, wide(length), Limit::LineBytes, || position);
        if result.is_err() {
            let complete = self.buffer[self.start..self.start + length].last() == Some(&b'\n');
            self.skipping = !complete;
            self.pass(length, u64::from(complete));
        }
        result.map(|()| Some(length))
    }

    /// Passes over bytes that are not returned.
    fn pass(&mut self, length: usize, lines: u64) {
        self.start += length;
        self.next.byte += wide(length);
        self.next.line += lines;
    }

    fn read_more(&mut self) -> Result<(), Error> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            // No more than shows that a line is too long.
            let limit = usize::try_from(self.builder.limits.line_bytes).unwrap_or(usize::MAX);
            let length = (self.buffer.len() * 2)
                .max(BUFFER_BYTES)
                .min(limit.saturating_add(BUFFER_BYTES));
            self.buffer.reserve_exact(length - self.buffer.len());
            self.buffer.resize(length, 0);
        }
        loop {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.at_eof = true,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::new(ErrorKind::Io(error))),
            }
            return Ok(());
        }
    }
}

/// An iterator that ends after an error, unless it `goes_on` after it.
fn until_error<T>(
    goes_on: impl Fn(&Error) -> bool,
    mut next: impl FnMut() -> Result<Option<T>, Error>,
) -> impl Iterator<Item = Result<T, Error>> {
    let mut ended = false;
    std::iter::from_fn(move || {
        let item = if ended { None } else { next().transpose() };
        ended = matches!(&item, Some(Err(error)) if !goes_on(error));
        item
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A source that gives a few bytes at a time.
    struct Dribble<'a>(&'a [u8], usize);

    impl Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    #[test]
    fn several_files() {
        let files = b"@type bandwidth-file 1.0\n1700000000\nbw=1 node_id=x\n\
            1700000001\nversion=1.1.0\n=====\nbw=2 node_id=y\n@type x\n1700000002\n";
        let mut reader = Reader::new(&files[..]);
        let mut sizes = Vec::new();
        while let Some(document) = reader.next_document().unwrap() {
            sizes.push((document.lines().len(), document.relays().count()));
        }
        assert_eq!(sizes, [(3, 1), (4, 1), (2, 0)]);
        let mut reader = Reader::new(&files[..]);
        let mut seen = Vec::new();
        while let Some(relay) = reader.next_relay().unwrap() {
            seen.push(relay.bandwidth().unwrap().value());
        }
        assert_eq!(seen, [1, 2]);
    }

    #[test]
    fn the_header_is_that_of_the_last_line() {
        let files = b"@type bandwidth-file 1.0\n1700000000\nbw=1 node_id=x\n\
            1700000001\nversion=1.1.0\n=====\nbw=2 node_id=y\n";
        let mut reader = Reader::new(&files[..]);
        let mut seen = Vec::new();
        loop {
            let timestamp = reader.timestamp().unwrap().unwrap().seconds();
            seen.push((timestamp, reader.header().unwrap().lines().len()));
            if reader.next_relay().unwrap().is_none() {
                break;
            }
        }
        let (first, second) = ((1_700_000_000, 2), (1_700_000_001, 3));
        assert_eq!(seen, [first, first, second]);
        assert_eq!(Reader::new(&b""[..]).timestamp().unwrap(), None);
        assert_eq!(Reader::new(&b"x\n"[..]).timestamp().unwrap(), None);
    }

    #[test]
    fn a_header_without_end_is_kept_in_part() {
        let long = "k=v\n".repeat(100_000);
        let input = format!("1700000000\n{long}=====\nbw=1 node_id=x\n");
        let mut reader = Reader::new(input.as_bytes());
        assert!(reader.header().unwrap().lines().len() < HEADER_BYTES / 4);
        assert!(reader.header.capacity() <= 2 * HEADER_BYTES);
        assert!(reader.next_relay().unwrap().is_some());
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_in_bounded_memory() {
        let long = io::repeat(b'x').take(10_000_000);
        let input = (&b"1\n"[..]).chain(long).chain(&b"\nbw=1 node_id=x\n"[..]);
        let mut reader = Reader::new(input);
        assert!(reader.next_line().unwrap().is_some());
        let error = reader.next_line().unwrap_err();
        assert_eq!(error.position(), Some(Position::new(2, 2, 1)));
        let line = reader.next_line().unwrap().unwrap();
        assert_eq!(line.position, Position::new(10_000_003, 3, 1));
        assert!(reader.next_line().unwrap().is_none());
        assert!(reader.buffer.capacity() <= (1 << 20) + BUFFER_BYTES);
    }

    #[test]
    fn where_files_begin() {
        let input = "@a\n1700000000\n=====\n1700000001\n=====\n@b\n1700000002\n";
        for (boundary, files) in [
            (Boundary::None, 1),
            (Boundary::Annotation, 2),
            (Boundary::AnnotationOrTimestamp, 3),
        ] {
            let mut builder = ReaderBuilder::new();
            let mut reader = builder.boundary(boundary).from_reader(input.as_bytes());
            assert_eq!(reader.documents().count(), files, "{boundary:?}");
        }
    }

    #[test]
    fn iterators_end_after_errors_that_would_repeat() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let start = "1\nbw=1 node_id=x\n".as_bytes();
        let mut reader = Reader::new(start.chain(Broken));
        let seen: Vec<_> = reader.relays().map(|relay| relay.is_ok()).collect();
        assert_eq!(seen, [true, false]);
        assert_eq!(Reader::new(Broken).documents().count(), 1);

        let long = format!("1\nbw=1 node_id=x\n{}\nbw=2 node_id=y\n", "x".repeat(40));
        let limits = Limits {
            line_bytes: 20,
            ..Limits::default()
        };
        let mut reader = ReaderBuilder::new()
            .limits(limits)
            .from_reader(long.as_bytes());
        let seen: Vec<_> = reader.relays().map(|relay| relay.is_ok()).collect();
        assert_eq!(seen, [true, false, true]);
        let two = "@a\n1\n=====\n".repeat(2);
        let documents: Vec<_> = Reader::new(two.as_bytes()).documents().collect();
        assert_eq!(documents.len(), 2);
        assert!(documents.iter().all(Result::is_ok));
    }

    proptest! {
        #[test]
        fn streams_and_documents_agree(
            bytes in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..200),
                "[@1=bwnode_id \n\r]{0,200}".prop_map(String::into_bytes),
            ],
            step in 1_usize..9,
        ) {
            let mut builder = ReaderBuilder::new();
            builder.boundary(Boundary::None);
            let mut reader = builder.from_reader(Dribble(&bytes, step));
            let document = Document::parse(&bytes);
            for line in document.lines() {
                let streamed = reader.next_line().unwrap().unwrap();
                prop_assert_eq!(streamed.kind, line.kind());
                prop_assert_eq!(streamed.bytes, line.as_bytes());
            }
            prop_assert!(reader.next_line().unwrap().is_none());
        }
    }
}
