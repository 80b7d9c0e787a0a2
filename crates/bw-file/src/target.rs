//! The readers of files.

use crate::version::{FormatVersion, TorVersion};

/// The readers of a file: the version of the format, and the oldest tor
/// that is to read it.
///
/// By default format 1.9.0 for every tor from 0.3.5.1.
///
/// | what | depends on |
/// |---|---|
/// | headers and terminator | the format: from 1.1.0 |
/// | `$` before fingerprints | left out, as sbws 1.9 and later do, if the format allows it (1.9.0) and the tor understands it (0.4.8.11) |
/// | order of keys | the format: Torflow's for 1.0.0, else by name; unless [set](Self::key_order) |
/// | `node_id` first | the tor: before 0.3.4.1 it must not be last |
/// | length of lines | the tor: at most 254 bytes to 0.2.6.2, 510 to 0.3.4 |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub(crate) version: FormatVersion,
    pub(crate) oldest_tor: TorVersion,
    key_order: Option<KeyOrder>,
}

/// The order of the keys in relay lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyOrder {
    /// By name, as sbws has them.
    ByName,
    /// Torflow's keys in Torflow's order, `node_id` and `bw` first; then the
    /// others by name.
    Torflow,
}

impl KeyOrder {
    /// The keys that come before all others.
    fn first_keys(self) -> &'static [&'static str] {
        match self {
            Self::ByName => &[],
            Self::Torflow => &[
                "node_id",
                "bw",
                "nick",
                "measured_at",
                "updated_at",
                "pid_error",
                "pid_error_sum",
                "pid_bw",
                "pid_delta",
                "circ_fail",
                "scanner",
            ],
        }
    }
}

impl Default for Target {
    fn default() -> Self {
        Self {
            version: FormatVersion::V1_9_0,
            oldest_tor: TorVersion::OLDEST_JUDGED,
            key_order: None,
        }
    }
}

impl Target {
    /// A target of this format version, for every tor from 0.3.5.1.
    ///
    /// ```
    /// use bw_file::{FileBuilder, FormatVersion, Target, UnixTime};
    ///
    /// let mut builder = FileBuilder::new(UnixTime::new(1_700_000_000));
    /// builder.target(Target::new(FormatVersion::V1_4_0)).software("bwscan");
    /// assert!(builder.build()?.starts_with(b"1700000000\nversion=1.4.0\nsoftware="));
    /// # Ok::<(), bw_file::Error>(())
    /// ```
    pub fn new(version: FormatVersion) -> Self {
        Self {
            version,
            ..Self::default()
        }
    }

    /// The oldest tor that is to read the file.
    ///
    /// ```
    /// use bw_file::{Fingerprint, KilobytesPerSecond, RelayBuilder, Target, TorVersion};
    ///
    /// let relay = RelayBuilder::new(Fingerprint::from_bytes([0; 20]), KilobytesPerSecond::new(5));
    /// let newest = Target::default().oldest_tor(TorVersion::release(0, 4, 8, 11));
    /// assert!(relay.build(&newest)?.as_bytes().starts_with(b"bw=5 node_id=0"));
    /// # Ok::<(), bw_file::Error>(())
    /// ```
    pub fn oldest_tor(mut self, version: TorVersion) -> Self {
        self.oldest_tor = version;
        self
    }

    /// The order of keys, whatever the version.
    ///
    /// ```
    /// use bw_file::{Fingerprint, KeyOrder, KilobytesPerSecond, RelayBuilder, Target};
    ///
    /// let relay = RelayBuilder::new(Fingerprint::from_bytes([0; 20]), KilobytesPerSecond::new(5));
    /// let target = Target::default().key_order(KeyOrder::Torflow);
    /// assert!(relay.build(&target)?.as_bytes().starts_with(b"node_id=$0"));
    /// # Ok::<(), bw_file::Error>(())
    /// ```
    pub fn key_order(mut self, order: KeyOrder) -> Self {
        self.key_order = Some(order);
        self
    }

    /// The format version to declare.
    pub fn version(&self) -> FormatVersion {
        self.version
    }

    /// Returns true if fingerprints get a `$` before them.
    pub fn writes_dollar(&self) -> bool {
        self.version < FormatVersion::V1_9_0 || !self.oldest_tor.takes_bare_fingerprints()
    }

    /// Returns true if the format has header lines and a terminator.
    pub(crate) fn has_header(&self) -> bool {
        self.version >= FormatVersion::V1_1_0
    }

    /// The keys that come before all others.
    pub(crate) fn first_keys(&self) -> &'static [&'static str] {
        let usual = if self.has_header() {
            KeyOrder::ByName
        } else {
            KeyOrder::Torflow
        };
        match self.key_order.unwrap_or(usual).first_keys() {
            [] if !self.oldest_tor.takes_trailing_node_id() => &["node_id"],
            keys => keys,
        }
    }
}
