//! Writing relay lines one by one.

use std::collections::HashSet;
use std::io;

use crate::error::{Error, ErrorKind};
use crate::identity::{Ed25519Identity, Fingerprint};
use crate::relay_builder::RelayBuilder;
use crate::target::Target;

/// Writes relay lines after a header, one by one.
///
/// Made by [`FileBuilder::writer`](crate::FileBuilder::writer). Keeps the
/// identities written so far (52 bytes a relay and the overhead of a hash
/// set) to refuse duplicates, and nothing else.
#[derive(Debug)]
pub struct Writer<W> {
    inner: W,
    target: Target,
    line: String,
    fingerprints: HashSet<Fingerprint>,
    identities: HashSet<Ed25519Identity>,
}

impl<W: io::Write> Writer<W> {
    pub(crate) fn new(mut inner: W, target: Target, preamble: &str) -> Result<Self, Error> {
        inner.write_all(preamble.as_bytes())?;
        Ok(Self {
            inner,
            target,
            line: String::new(),
            fingerprints: HashSet::new(),
            identities: HashSet::new(),
        })
    }

    /// Writes a relay line, or nothing at all.
    ///
    /// # Errors
    /// If the relay came before, by either identity; if the line must not be
    /// written: see [`RelayBuilder::build`]; if writing fails.
    pub fn write_relay(&mut self, relay: &RelayBuilder) -> Result<(), Error> {
        let fingerprint = relay.fingerprint();
        self.line.clear();
        relay.write_line(&self.target, &mut self.line)?;
        if self.fingerprints.contains(&fingerprint) {
            return Err(Error::new(ErrorKind::DuplicateRelay).of_relay(fingerprint));
        }
        if let Some(identity) = relay.identity() {
            if !self.identities.insert(identity) {
                let error = Error::new(ErrorKind::DuplicateIdentity { identity });
                return Err(error.of_relay(fingerprint));
            }
        }
        self.fingerprints.insert(fingerprint);
        self.line.push('\n');
        self.inner.write_all(self.line.as_bytes())?;
        Ok(())
    }

    /// Flushes and gives the inner writer back.
    ///
    /// # Errors
    /// If flushing fails.
    pub fn finish(mut self) -> Result<W, Error> {
        self.inner.flush()?;
        Ok(self.inner)
    }
}
