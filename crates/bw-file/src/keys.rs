//! The catalogue of keys: every key of formats 1.0.0 to 1.9.0, and those of
//! Torflow, flashflow and bwscan.
//!
//! One table per kind of line. The typed views, the builders, and the
//! diagnostics are all made from it.

use crate::value::FieldValue;
use crate::version::FormatVersion;

/// Where a key may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyScope {
    /// A header line of its own.
    Header,
    /// One of the pairs of a relay line.
    Relay,
}

/// A key of the specification.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct KeyInfo {
    /// The key as it is written.
    pub name: &'static str,
    /// Where it may stand.
    pub scope: KeyScope,
    /// The version of the format that brought it.
    pub since: FormatVersion,
    /// The version that took it away again.
    pub removed: Option<FormatVersion>,
    /// The values that it takes, in words.
    pub expected: &'static str,
    /// Its meaning, with the unit.
    pub meaning: &'static str,
    pub(crate) accepts: fn(&[u8]) -> bool,
}

impl KeyInfo {
    /// Returns true if `value` is of this key's type.
    pub fn accepts(&self, value: &[u8]) -> bool {
        (self.accepts)(value)
    }

    /// Returns true if writers spell an unknown value `None`, as sbws does in the
    /// bandwidths of descriptors and consensus. `None` as the value of any
    /// other key is what it says, or a mistake.
    pub fn may_be_none(&self) -> bool {
        self.scope == KeyScope::Relay && WRITTEN_NONE.contains(&self.name)
    }

    /// Returns true if the values are nicknames, of which `accepts` takes any text.
    pub(crate) fn is_nickname(&self) -> bool {
        matches!(self.name, "nick" | "dirauth_nickname")
    }

    /// Returns true if the values are decimal numbers.
    pub(crate) fn is_float(&self) -> bool {
        self.expected == <f64 as FieldValue<'_>>::EXPECTED
    }

    /// Looks up a key of header lines.
    pub fn header(key: &[u8]) -> Option<&'static Self> {
        lookup(HEADER_KEYS, key)
    }

    /// Looks up a key of relay lines.
    pub fn relay(key: &[u8]) -> Option<&'static Self> {
        lookup(RELAY_KEYS, key)
    }
}

fn lookup(keys: &'static [KeyInfo], key: &[u8]) -> Option<&'static KeyInfo> {
    // Both tables are sorted by name.
    keys.binary_search_by(|info| info.name.as_bytes().cmp(key))
        .ok()
        .map(|index| &keys[index])
}

/// The Rust type of a key's value, from the word in the table.
macro_rules! value_type {
    ($a:lifetime bw) => { $crate::units::KilobytesPerSecond };
    ($a:lifetime bytes) => { $crate::units::BytesPerSecond };
    ($a:lifetime count) => { u64 };
    ($a:lifetime countries) => { Vec<$crate::value::CountryCode> };
    ($a:lifetime country) => { $crate::value::CountryCode };
    ($a:lifetime datetime) => { $crate::time::DateTime };
    ($a:lifetime ed25519) => { $crate::identity::Ed25519Identity };
    ($a:lifetime fingerprint) => { $crate::identity::Fingerprint };
    ($a:lifetime flag) => { bool };
    ($a:lifetime float) => { f64 };
    ($a:lifetime milliseconds) => { $crate::value::Milliseconds };
    ($a:lifetime percent) => { $crate::value::Percent };
    ($a:lifetime python_flag) => { $crate::value::PythonBool };
    ($a:lifetime seconds) => { $crate::value::Seconds };
    ($a:lifetime signed) => { i64 };
    ($a:lifetime text) => { std::borrow::Cow<$a, str> };
    ($a:lifetime unix) => { $crate::time::UnixTime };
    ($a:lifetime version) => { $crate::version::FormatVersion };
}
pub(crate) use value_type;

/// Calls a macro with the keys of header lines, sorted by name:
/// `name type since [removed] meaning`.
macro_rules! for_header_keys {
    ($callback:ident) => {
        $callback! {
            capacity_bound float V1_0_0 [] "bwscan: how far what relays say of themselves may raise weights: r of 1/(1 - r).";
            capacity_normalisation float V1_0_0 [] "bwscan: factor from estimates of capacity to weights.";
            capacity_payload_share float V1_0_0 [] "bwscan: share of relays' bandwidth that measurements show as payload.";
            capacity_variation float V1_0_0 [] "bwscan: how much relays' rates vary: what a quarter of the measurements reached over what three quarters did.";
            destinations_countries countries V1_2_0 [] "Countries of the web servers that were downloaded from.";
            dirauth_nickname text V1_8_0 [] "Nickname of the authority that will publish the file.";
            earliest_bandwidth datetime V1_1_0 [] "When the first of the measurements used was made.";
            file_created datetime V1_1_0 [] "When the file was written.";
            generator_started datetime V1_1_0 [] "When the generator was started.";
            latest_bandwidth datetime V1_1_0 [] "When the last of the measurements used was made: the file's timestamp.";
            minimum_number_eligible_relays count V1_2_0 [] "Relays that must be eligible for the file to have votes.";
            minimum_percent_eligible_relays percent V1_2_0 [] "The same as a percentage of the consensus.";
            mu bytes V1_7_0 [] "Mean of all relays' mean bandwidths, in bytes per second.";
            muf bytes V1_7_0 [] "Mean of all relays' filtered bandwidths, in bytes per second.";
            number_consensus_relays count V1_2_0 [] "Relays in the consensus.";
            number_eligible_relays count V1_2_0 [] "Relays with enough measurements to be voted for.";
            percent_eligible_relays percent V1_2_0 [] "Eligible relays as a percentage of those in the consensus.";
            recent_consensus_count count V1_4_0 [] "Consensuses seen in the last days (5 by default).";
            recent_measurement_attempt_count count V1_4_0 [V1_5_0] "Measurements attempted in the last days.";
            recent_measurement_failure_count signed V1_4_0 [] "Measurements that failed in the last days; sbws can compute a negative one.";
            recent_measurements_excluded_error_count count V1_4_0 [] "Relays without any successful measurement.";
            recent_measurements_excluded_few_count count V1_4_0 [] "Relays with too few successful measurements.";
            recent_measurements_excluded_near_count count V1_4_0 [] "Relays whose measurements are too close to each other.";
            recent_measurements_excluded_old_count count V1_4_0 [] "Relays whose measurements are all too old.";
            recent_priority_list_count count V1_4_0 [] "Times that relays were put in the order to be measured.";
            recent_priority_relay_count count V1_4_0 [] "Relays that were put in the order to be measured, summed.";
            scanner_country country V1_2_0 [] "Country of the scanner.";
            software text V1_1_0 [] "Name of the generator; absent means torflow.";
            software_version text V1_1_0 [] "Version of the generator.";
            time_to_report_half_network seconds V1_4_0 [] "Seconds it would take to measure half of the network.";
            tor_version text V1_4_0 [] "Version of the scanner's tor.";
            version version V1_1_0 [] "Version of the format; the second line of the file.";
        }
    };
}
pub(crate) use for_header_keys;

/// Calls a macro with the keys of relay lines, sorted by name.
macro_rules! for_relay_keys {
    ($callback:ident) => {
        $callback! {
            bw bw V1_0_0 [] "The bandwidth to vote for, in kilobytes (1000 bytes) per second.";
            bw_mean bytes V1_2_0 [] "Mean of the measured bandwidths, in bytes per second.";
            bw_median bytes V1_2_0 [] "Median of the measured bandwidths, in bytes per second.";
            capacity bytes V1_0_0 [] "bwscan: the smoothed estimate of the relay's capacity, in bytes of payload per second.";
            capacity_at unix V1_0_0 [] "bwscan: the newest measurement in that estimate, in Unix seconds.";
            capacity_machine_share float V1_0_0 [] "bwscan: the share of that rate which counts, as other relays share the machine, 0 to 1.";
            capacity_proven bytes V1_0_0 [] "bwscan: the rate that the relay's measurements prove, in bytes of payload per second.";
            circ_fail float V1_0_0 [] "Torflow: share of circuits that failed, 0 to 1.";
            consensus_bandwidth bytes V1_2_0 [] "Weight in the consensus times 1000, in bytes per second.";
            consensus_bandwidth_is_unmeasured python_flag V1_2_0 [] "Whether the consensus says Unmeasured=1.";
            desc_bw_avg bytes V1_2_0 [] "Rate in the descriptor, in bytes per second.";
            desc_bw_bur bytes V1_2_0 [] "Burst in the descriptor, in bytes per second.";
            desc_bw_obs_last bytes V1_2_0 [] "Last observed bandwidth in the descriptor, in bytes per second.";
            desc_bw_obs_mean bytes V1_2_0 [] "Mean of the observed bandwidths in descriptors, in bytes per second.";
            error_circ count V1_1_0 [] "Measurements that failed while building a circuit.";
            error_destination count V1_4_0 [] "Measurements that failed for want of a web server.";
            error_misc count V1_1_0 [] "Measurements that failed for other reasons.";
            error_second_relay count V1_4_0 [] "Measurements that failed for want of a second relay.";
            error_stream count V1_1_0 [] "Measurements that failed at the stream.";
            master_key_ed25519 ed25519 V1_1_0 [] "The relay's Ed25519 identity key.";
            measured_at unix V1_0_0 [] "Torflow, flashflow: when the relay was measured, in Unix seconds.";
            nick text V1_0_0 [] "The relay's nickname.";
            node_id fingerprint V1_0_0 [] "The relay's RSA fingerprint.";
            pid_bw bytes V1_0_0 [] "Torflow: the controller's value, in bytes per second.";
            pid_delta float V1_0_0 [] "Torflow: the controller's differential term.";
            pid_error float V1_0_0 [] "Torflow: the controller's proportional term.";
            pid_error_sum float V1_0_0 [] "Torflow: the controller's integral term.";
            r_strm float V1_7_0 [] "Ratio of the relay's mean bandwidth to the network's.";
            r_strm_filt float V1_7_0 [] "Ratio of the relay's filtered bandwidth to the network's.";
            relay_in_recent_consensus_count count V1_4_0 [] "Recent consensuses that had the relay.";
            relay_recent_measurement_attempt_count count V1_4_0 [] "Times the relay was to be measured.";
            relay_recent_measurement_failure_count count V1_4_0 [] "Times that measuring the relay failed.";
            relay_recent_measurements_excluded_error_count count V1_4_0 [] "Measurements of the relay left out as failed.";
            relay_recent_measurements_excluded_few_count count V1_4_0 [] "Measurements of the relay left out as too few.";
            relay_recent_measurements_excluded_near_count count V1_4_0 [] "Measurements of the relay left out as too close to each other.";
            relay_recent_measurements_excluded_old_count count V1_4_0 [] "Measurements of the relay left out as too old.";
            relay_recent_priority_list_count count V1_4_0 [] "Times the relay was put in the order to be measured.";
            rtt milliseconds V1_1_0 [] "Round-trip time through the relay, in milliseconds.";
            scanner text V1_0_0 [] "Torflow: the scanner's file that the value is from.";
            success count V1_1_0 [] "Measurements that succeeded.";
            time datetime V1_1_0 [] "When the last of the measurements was made.";
            under_min_report flag V1_4_0 [] "1: too few relays are eligible in the whole file.";
            unmeasured flag V1_4_0 [] "1: the relay was not successfully measured.";
            updated_at unix V1_0_0 [] "Torflow: when the controller's value last changed, in Unix seconds.";
            vote flag V1_4_0 [] "0: authorities are to ignore the line.";
            xoff_recv count V1_6_0 [] "XOFF cells received while measuring.";
            xoff_sent count V1_6_0 [] "XOFF cells sent while measuring.";
        }
    };
}
pub(crate) use for_relay_keys;

macro_rules! removed {
    () => {
        None
    };
    ($version:ident) => {
        Some(FormatVersion::$version)
    };
}

macro_rules! catalogue {
    ($scope:ident; $($name:ident $type:ident $since:ident [$($removed:ident)?] $meaning:literal;)*) => {
        &[$(KeyInfo {
            name: stringify!($name),
            scope: KeyScope::$scope,
            since: FormatVersion::$since,
            removed: removed!($($removed)?),
            expected: <value_type!('static $type) as FieldValue<'static>>::EXPECTED,
            meaning: $meaning,
            accepts: |raw| <value_type!('_ $type) as FieldValue<'_>>::parse_field(raw).is_some(),
        }),*]
    };
}

macro_rules! header_catalogue {
    ($($keys:tt)*) => { catalogue! { Header; $($keys)* } };
}

macro_rules! relay_catalogue {
    ($($keys:tt)*) => { catalogue! { Relay; $($keys)* } };
}

/// The keys of header lines, sorted by name (bandwidth-file-spec 2.2).
pub const HEADER_KEYS: &[KeyInfo] = for_header_keys!(header_catalogue);

/// The keys of relay lines, sorted by name (bandwidth-file-spec 2.4).
pub const RELAY_KEYS: &[KeyInfo] = for_relay_keys!(relay_catalogue);

/// Relay keys for which sbws, in all versions to 2.2.0, writes Python's `None`
/// if it does not know the value.
const WRITTEN_NONE: &[&str] = &[
    "consensus_bandwidth",
    "consensus_bandwidth_is_unmeasured",
    "desc_bw_avg",
    "desc_bw_bur",
    "desc_bw_obs_last",
    "desc_bw_obs_mean",
];

/// Returns true if `value` is a `None` that stands for no value of `key`.
pub(crate) fn is_written_none(key: &str, value: &[u8]) -> bool {
    value == b"None" && WRITTEN_NONE.contains(&key)
}

/// Spellings that the specification once had, by mistake, for keys that are
/// called otherwise.
pub(crate) const MISSPELT_KEYS: &[(&str, &str)] = &[
    ("desc_avg_bw", "desc_bw_avg"),
    ("desc_bw_average", "desc_bw_avg"),
    ("desc_obs_bw_last", "desc_bw_obs_last"),
    ("desc_obs_bw_mean", "desc_bw_obs_mean"),
    (
        "relay_recent_consensus_count",
        "relay_in_recent_consensus_count",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_without_duplicates() {
        for keys in [HEADER_KEYS, RELAY_KEYS] {
            assert!(keys.windows(2).all(|pair| pair[0].name < pair[1].name));
            for key in keys {
                assert!(lookup(keys, key.name.as_bytes()).is_some());
            }
        }
        assert_eq!((HEADER_KEYS.len(), RELAY_KEYS.len()), (32, 47));
        assert!(KeyInfo::header(b"bw").is_none());
        let none = RELAY_KEYS.iter().filter(|key| key.may_be_none());
        assert_eq!(none.count(), WRITTEN_NONE.len());
        assert!(HEADER_KEYS.iter().all(|key| !key.may_be_none()));
    }
}
