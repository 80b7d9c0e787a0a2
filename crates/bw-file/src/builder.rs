//! Files made from scratch.

use std::borrow::Cow;
use std::io;

use crate::error::{Error, ErrorKind};
use crate::keys::{KeyInfo, for_header_keys, value_type};
use crate::relay::check_pair;
use crate::relay_builder::{RelayBuilder, check_type, setter_type, spelled};
use crate::target::Target;
use crate::time::{DateTime, UnixTime};
use crate::value::FieldValue;
use crate::writer::Writer;

/// Builds a bandwidth file that tor takes and the specification allows, or
/// says why it cannot.
///
/// ```
/// use bw_file::{FileBuilder, Fingerprint, KilobytesPerSecond, RelayBuilder, UnixTime};
///
/// let fingerprint = Fingerprint::from_bytes([0xAB; 20]);
/// let file = FileBuilder::new(UnixTime::new(1_700_000_000))
///     .software("bwscan")
///     .number_consensus_relays(1)
///     .push_relay(RelayBuilder::new(fingerprint, KilobytesPerSecond::new(760)).nick("None"))
///     .build()?;
/// assert_eq!(
///     String::from_utf8(file).unwrap(),
///     "1700000000\nversion=1.9.0\nnumber_consensus_relays=1\nsoftware=bwscan\n=====\n\
///      bw=760 nick=None node_id=$ABABABABABABABABABABABABABABABABABABABAB\n",
/// );
/// # Ok::<(), bw_file::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct FileBuilder {
    timestamp: UnixTime,
    target: Target,
    headers: Vec<(Cow<'static, str>, String)>,
    relays: Vec<RelayBuilder>,
}

macro_rules! header_setters {
    (@setter version $($rest:tt)*) => {};
    (@setter $name:ident $type:ident $meaning:literal) => {
        #[doc = $meaning]
        pub fn $name(&mut self, value: setter_type!($type)) -> &mut Self {
            self.put(stringify!($name), spelled!($type, value))
        }
    };
    ($($name:ident $type:ident $since:ident [$($removed:ident)?] $meaning:literal;)*) => {
        /// The header keys of the formats 1.1.0 to 1.9.0.
        impl FileBuilder {
            $(header_setters! { @setter $name $type $meaning })*
        }
    };
}

for_header_keys!(header_setters);

impl FileBuilder {
    /// An empty file with the time of its latest measurement.
    pub fn new(timestamp: UnixTime) -> Self {
        Self {
            timestamp,
            target: Target::default(),
            headers: Vec::new(),
            relays: Vec::new(),
        }
    }

    /// The readers of the file: the format version to declare, and the spelling of
    /// fingerprints. See [`Target`] for examples.
    pub fn target(&mut self, target: Target) -> &mut Self {
        self.target = target;
        self
    }

    /// Adds any other header. Values of known keys are checked against their
    /// type.
    ///
    /// ```
    /// use bw_file::{FileBuilder, UnixTime};
    ///
    /// let mut builder = FileBuilder::new(UnixTime::new(1_700_000_000));
    /// builder.header("tor_version", "0.4.9.11");
    /// assert!(builder.build()?.ends_with(b"tor_version=0.4.9.11\n=====\n"));
    /// assert!(builder.header("mu", "many").build().is_err());
    /// # Ok::<(), bw_file::Error>(())
    /// ```
    pub fn header(&mut self, key: impl Into<Cow<'static, str>>, value: impl ToString) -> &mut Self {
        self.headers.push((key.into(), value.to_string()));
        self
    }

    fn put(&mut self, key: &'static str, value: String) -> &mut Self {
        match self.headers.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value,
            None => self.headers.push((Cow::Borrowed(key), value)),
        }
        self
    }

    /// Adds a relay, or what a chain of setters made of one. Relays are written
    /// in the order in which they come.
    pub fn push_relay(&mut self, relay: impl Into<RelayBuilder>) -> &mut Self {
        self.relays.push(relay.into());
        self
    }

    /// The relays so far.
    pub fn relays(&self) -> &[RelayBuilder] {
        &self.relays
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// If the file would break the specification or tor would not use all of
    /// it: see [`ErrorKind`].
    pub fn build(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::with_capacity(1024 + self.relays.len() * 640);
        self.write_to(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes the file.
    ///
    /// # Errors
    /// As [`build`](Self::build), and if writing fails. What was written until
    /// then stays written: [build](Self::build) files that others read, and
    /// rename them into their place.
    pub fn write_to<W: io::Write>(&self, writer: W) -> Result<W, Error> {
        let mut writer = self.writer(writer)?;
        for relay in &self.relays {
            writer.write_relay(relay)?;
        }
        writer.finish()
    }

    /// Writes everything before the relays, and returns a writer for relays
    /// that need not be in memory together. Those of the builder are not
    /// written.
    ///
    /// ```
    /// use bw_file::{FileBuilder, Fingerprint, KilobytesPerSecond, RelayBuilder, UnixTime};
    ///
    /// let mut writer = FileBuilder::new(UnixTime::new(1_700_000_000)).writer(Vec::new())?;
    /// for number in 1..=3 {
    ///     let fingerprint = Fingerprint::from_bytes([number; 20]);
    ///     let bandwidth = KilobytesPerSecond::new(number.into());
    ///     writer.write_relay(&RelayBuilder::new(fingerprint, bandwidth))?;
    /// }
    /// assert!(writer.finish()?.ends_with(b"bw=3 node_id=$0303030303030303030303030303030303030303\n"));
    /// # Ok::<(), bw_file::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`write_to`](Self::write_to).
    pub fn writer<W: io::Write>(&self, writer: W) -> Result<Writer<W>, Error> {
        Writer::new(writer, self.target.clone(), &self.preamble()?)
    }

    /// The timestamp, the header, and the terminator.
    fn preamble(&self) -> Result<String, Error> {
        let mut timestamp = String::new();
        self.timestamp.write_field(&mut timestamp);
        if UnixTime::parse_field(timestamp.as_bytes()).is_none() {
            return Err(Error::new(ErrorKind::InvalidValue {
                key: "timestamp".to_owned(),
                value: timestamp,
                expected: UnixTime::EXPECTED,
            }));
        }
        let headers = self.checked_headers()?;
        let mut text = format!("{timestamp}\n");
        if !self.target.has_header() {
            return Ok(text);
        }
        let version = format!("version={}\n", self.target.version);
        let lines = headers
            .iter()
            .map(|(key, value)| format!("{key}={value}\n"));
        text.extend(std::iter::once(version).chain(lines));
        // As tor joins them: a space instead of each line feed but the last.
        let bytes = "timestamp=".len() + text.len() - 1;
        let entries = headers.len() + 2;
        if entries > 50 || bytes > 1024 {
            return Err(Error::new(ErrorKind::HeaderBudget { entries, bytes }));
        }
        text.push_str("=====\n");
        Ok(text)
    }

    /// The headers sorted by key, each of them allowed.
    fn checked_headers(&self) -> Result<Vec<&(Cow<'static, str>, String)>, Error> {
        let mut headers: Vec<_> = self.headers.iter().collect();
        headers.sort_by(|a, b| a.0.cmp(&b.0));
        for (index, (key, value)) in headers.iter().copied().enumerate() {
            if !self.target.has_header() {
                return Err(Error::new(ErrorKind::HeadersBeforeVersion110 {
                    key: key.clone().into_owned(),
                }));
            }
            let info = KeyInfo::header(key.as_bytes());
            let belongs_elsewhere = info.is_none() && KeyInfo::relay(key.as_bytes()).is_some();
            if key == "version" || key == "timestamp" || belongs_elsewhere {
                return Err(Error::new(ErrorKind::ReservedKey {
                    key: key.clone().into_owned(),
                }));
            }
            if index > 0 && headers[index - 1].0 == *key {
                return Err(Error::new(ErrorKind::DuplicateHeader {
                    key: key.clone().into_owned(),
                }));
            }
            check_pair(key, value)?;
            check_type(info, key, value)?;
            if key == "latest_bandwidth" {
                self.check_latest_bandwidth(value)?;
            }
        }
        Ok(headers)
    }

    fn check_latest_bandwidth(&self, value: &str) -> Result<(), Error> {
        match DateTime::parse_field(value.as_bytes()).map(UnixTime::from) {
            Some(latest) if latest != self.timestamp => {
                Err(Error::new(ErrorKind::LatestBandwidth {
                    latest_bandwidth: latest,
                    timestamp: self.timestamp,
                }))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Document;
    use crate::identity::{Ed25519Identity, Fingerprint};
    use crate::target::KeyOrder;
    use crate::units::KilobytesPerSecond;
    use crate::version::{FormatVersion, TorVersion};

    fn relay(byte: u8, bw: u64) -> RelayBuilder {
        RelayBuilder::new(
            Fingerprint::from_bytes([byte; 20]),
            KilobytesPerSecond::new(bw),
        )
    }

    fn refused(edit: impl FnOnce(&mut FileBuilder)) -> ErrorKind {
        let mut builder = FileBuilder::new(UnixTime::new(1_700_000_000));
        edit(&mut builder);
        builder.build().unwrap_err().into_kind()
    }

    #[test]
    fn an_error_names_its_relay() {
        let mut bad = relay(0xAB, 1);
        bad.nick("a-b");
        let error = bad.build(&Target::default()).unwrap_err();
        assert_eq!(error.relay(), Some(bad.fingerprint()));
        assert_eq!(
            error.to_string(),
            "relay ABABABABABABABABABABABABABABABABABABABAB: nick=\"a-b\": \
             expected 1 to 19 letters and digits"
        );
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "it is a table of cases")]
    fn bad_files_are_refused() {
        use ErrorKind as K;
        type Edit = fn(&mut FileBuilder);
        type Expected = fn(&K) -> bool;
        let cases: [(Edit, Expected); 20] = [
            (
                |b| {
                    let mut relay = relay(1, 1);
                    relay.pid_error(f64::NAN);
                    b.push_relay(relay);
                },
                |k| matches!(k, K::InvalidValue { .. }),
            ),
            (
                |b| {
                    let mut relay = relay(1, 1);
                    relay.key("r_strm", "-inf");
                    b.push_relay(relay);
                },
                |k| matches!(k, K::InvalidValue { .. }),
            ),
            (
                |b| {
                    b.dirauth_nickname("dirauth_nickname");
                },
                |k| matches!(k, K::InvalidValue { .. }),
            ),
            (
                |b| {
                    b.push_relay(relay(1, 0));
                },
                |k| matches!(k, K::BandwidthOutOfRange { .. }),
            ),
            (
                |b| {
                    b.push_relay(relay(1, 1 << 31));
                },
                |k| matches!(k, K::BandwidthOutOfRange { .. }),
            ),
            (
                |b| {
                    b.push_relay(relay(1, 1)).push_relay(relay(1, 2));
                },
                |k| matches!(k, K::DuplicateRelay),
            ),
            (
                |b| {
                    let key = Ed25519Identity::from_bytes([7; 32]);
                    for byte in 1..3 {
                        let mut relay = relay(byte, 1);
                        relay.master_key_ed25519(key);
                        b.push_relay(relay);
                    }
                },
                |k| matches!(k, K::DuplicateIdentity { .. }),
            ),
            (
                |b| {
                    let mut relay = relay(1, 1);
                    relay.key("x", 1).key("x", 1);
                    b.push_relay(relay);
                },
                |k| matches!(k, K::DuplicateKey { .. }),
            ),
            (
                |b| {
                    let mut relay = relay(1, 2);
                    relay.unmeasured(true);
                    b.push_relay(relay);
                },
                |k| matches!(k, K::UnmeasuredBandwidth { .. }),
            ),
            (
                |b| {
                    let mut relay = relay(1, 2);
                    relay.nick("a b");
                    b.push_relay(relay);
                },
                |k| matches!(k, K::InvalidValue { .. }),
            ),
            (
                |b| {
                    let mut relay = relay(1, 2);
                    relay.key("bw", "3");
                    b.push_relay(relay);
                },
                |k| matches!(k, K::ReservedKey { .. }),
            ),
            (
                |b| {
                    b.header("x", "").software("y");
                },
                |k| matches!(k, K::InvalidValue { .. }),
            ),
            (
                |b| {
                    b.header("x=", "1");
                },
                |k| matches!(k, K::InvalidKey { .. }),
            ),
            (
                |b| {
                    b.header("x", "1").header("x", "1");
                },
                |k| matches!(k, K::DuplicateHeader { .. }),
            ),
            (
                |b| {
                    b.header("node_id", "1");
                },
                |k| matches!(k, K::ReservedKey { .. }),
            ),
            (
                |b| {
                    b.header("mu", "1.5");
                },
                |k| matches!(k, K::InvalidValue { .. }),
            ),
            (
                |b| {
                    b.latest_bandwidth(DateTime::new(UnixTime::new(5)).unwrap());
                },
                |k| matches!(k, K::LatestBandwidth { .. }),
            ),
            (
                |b| {
                    b.header("x", "y".repeat(990));
                },
                |k| matches!(k, K::HeaderBudget { entries: 3, .. }),
            ),
            (
                |b| {
                    for n in 0..49 {
                        b.header(format!("k{n}"), n);
                    }
                },
                |k| matches!(k, K::HeaderBudget { entries: 51, .. }),
            ),
            (
                |b| {
                    b.target(Target::new(FormatVersion::V1_0_0)).software("x");
                },
                |k| matches!(k, K::HeadersBeforeVersion110 { .. }),
            ),
        ];
        for (number, (edit, expected)) in cases.into_iter().enumerate() {
            let kind = refused(edit);
            assert!(expected(&kind), "case {number}: {kind:?}");
        }
        let mut before_1970 = FileBuilder::new(UnixTime::new(-1));
        assert!(before_1970.software("x").build().is_err());
    }

    #[test]
    fn the_budget_is_exact() {
        // "timestamp=1700000000 version=1.9.0 x=" has 37 bytes.
        for (length, fits) in [(1024 - 37, true), (1025 - 37, false)] {
            let mut builder = FileBuilder::new(UnixTime::new(1_700_000_000));
            builder.header("x", "y".repeat(length));
            assert_eq!(builder.build().is_ok(), fits, "{length}");
        }
    }

    #[test]
    fn the_dollar_depends_on_the_reader() {
        let line = |target: &Target| {
            let line = relay(0xCD, 5).build(target).unwrap();
            String::from_utf8(line.as_bytes().to_vec()).unwrap()
        };
        let newest = Target::default().oldest_tor(TorVersion::release(0, 4, 8, 11));
        assert!(line(&Target::default()).contains("node_id=$CD"));
        assert!(line(&newest).contains("node_id=CD"));
        let older_format = Target::new(FormatVersion::V1_8_0).oldest_tor(TorVersion::CHECKED);
        assert!(line(&older_format).contains("node_id=$CD"));
        let ancient = Target::default().oldest_tor(TorVersion::release(0, 2, 9, 1));
        assert!(line(&ancient).starts_with("node_id=$CD"));
    }

    #[test]
    fn the_order_of_keys_depends_on_the_version() {
        let mut relay = relay(1, 5);
        relay
            .scanner("/s:0.8")
            .nick("a")
            .pid_bw(crate::BytesPerSecond::new(7))
            .key("aaa", "1");
        let keys = |target: &Target| {
            let line = relay.build(target).unwrap();
            let keys = line.as_ref().pairs().map(|pair| pair.key.to_vec());
            String::from_utf8(keys.collect::<Vec<_>>().join(&b' ')).unwrap()
        };
        let by_name = "aaa bw nick node_id pid_bw scanner";
        let torflow = "node_id bw nick pid_bw scanner aaa";
        let (oldest, newest) = (Target::new(FormatVersion::V1_0_0), Target::default());
        assert_eq!(
            (keys(&oldest), keys(&newest)),
            (torflow.into(), by_name.into())
        );
        assert_eq!(keys(&oldest.key_order(KeyOrder::ByName)), by_name);
        assert_eq!(keys(&newest.clone().key_order(KeyOrder::Torflow)), torflow);
        let ancient = newest.oldest_tor(TorVersion::release(0, 3, 3, 1));
        assert_eq!(keys(&ancient), "node_id aaa bw nick pid_bw scanner");
    }

    #[test]
    fn old_tors_read_short_lines() {
        let mut relay = relay(1, 5);
        let shortest = relay.build(&Target::default()).unwrap().as_bytes().len();
        relay.key("x", "y".repeat(510 - shortest - " x=".len()));
        let built = |relay: &RelayBuilder, oldest: &str| {
            relay.build(&Target::default().oldest_tor(oldest.parse().unwrap()))
        };
        assert!(built(&relay, "0.3.4.1").is_ok());
        relay.key("z", "1");
        assert!(built(&relay, "0.3.5.1").is_ok());
        let error = built(&relay, "0.3.4.1").unwrap_err();
        assert!(matches!(
            error.kind(),
            ErrorKind::LineTooLong {
                bytes: 514,
                maximum: 510,
                ..
            }
        ));
    }

    #[test]
    fn version_1_0_0_has_no_header() {
        let mut builder = FileBuilder::new(UnixTime::new(1_700_000_000));
        builder
            .target(Target::new(FormatVersion::V1_0_0))
            .push_relay(relay(1, 5));
        let bytes = builder.build().unwrap();
        let document = Document::parse(&bytes);
        assert_eq!(document.lines().len(), 2);
        assert_eq!(document.relays().count(), 1);
    }
}
