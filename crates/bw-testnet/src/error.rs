//! Errors, with the party at fault.

use std::fmt;
use std::io;
use std::path::Path;

/// An error of this crate: a [kind](Error::kind) for code, a text for people.
///
/// The text says what was being done and what to do about it; where a tor
/// process is at fault it names the node and ends with the last lines of that
/// node's log.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    text: String,
    node: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The kind of an [`Error`].
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// An address and port that a node needs is taken.
    AddressBusy,
    /// The directory already holds a network, or other files.
    DirectoryBusy,
    /// An authority's directory port did not answer as it should.
    Http,
    /// A file or process operation of the operating system failed.
    Io,
    /// The directory holds no network.
    NoNetwork,
    /// A tor process ended, or did not start.
    NodeDied,
    /// A document of tor, or our own `network.json`, could not be read.
    Parse,
    /// The [`Plan`](crate::Plan) cannot be carried out as it is.
    Plan,
    /// Something did not happen in the time allowed for it.
    Timeout,
    /// `tor` or `tor-gencert` is not installed where it was looked for.
    TorMissing,
    /// The tor found cannot run a private network.
    TorUnusable,
    /// No node of the network has this nickname.
    UnknownNode,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            text: text.into(),
            node: None,
            source: None,
        }))
    }

    /// An I/O error, with what was being done to which path.
    pub(crate) fn io(doing: &str, path: &Path, source: io::Error) -> Self {
        Self::new(ErrorKind::Io, format!("{doing} {}", path.display())).with_source(source)
    }

    pub(crate) fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Names the node at fault and appends the end of its log.
    pub(crate) fn with_node(mut self, nickname: &str, log: &Path, tail: &str) -> Self {
        self.0.node = Some(nickname.to_owned());
        if tail.is_empty() {
            self.0.text += &format!("; its log {} is empty", log.display());
        } else {
            self.0.text += &format!("; the end of its log ({}):\n{tail}", log.display());
        }
        self
    }

    /// The kind of problem.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The nickname of the node at fault, if a single one is.
    pub fn node(&self) -> Option<&str> {
        self.0.node.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)?;
        match &self.0.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

// The source is part of the text, so that one line tells all; returning it
// here as well would make error reporters print it twice.
impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_the_source_and_the_log() {
        let missing = io::Error::new(io::ErrorKind::NotFound, "not there");
        let error = Error::io("reading", Path::new("/x/network.json"), missing);
        assert_eq!(error.kind(), ErrorKind::Io);
        assert_eq!(error.to_string(), "reading /x/network.json: not there");

        let error = Error::new(ErrorKind::NodeDied, "exit01 ended").with_node(
            "exit01",
            Path::new("/x/log"),
            "[err] last words",
        );
        assert_eq!(error.node(), Some("exit01"));
        assert!(error.to_string().ends_with("[err] last words"), "{error}");
    }
}
