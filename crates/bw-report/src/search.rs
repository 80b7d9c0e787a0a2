//! The index of the search: one line a relay, some 90 bytes, loaded when
//! somebody begins to search.

use std::cmp::Reverse;

use crate::site::Site;

pub(crate) const PATH: &str = "search-index.js";

/// Characters of an Ed25519 key that are kept: 72 bits tell relays apart.
const KEY: usize = 12;

/// Digits that tell families apart.
const FAMILY: usize = 16;

/// A script that hands the index over as one string, as pages opened from a
/// disk cannot fetch. Fields are separated by tabs, relays by line ends; the largest
/// weight comes first, so that the search need not sort.
pub(crate) fn index(site: &Site) -> String {
    let mut lines = String::new();
    let mut relays: Vec<_> = site.facts.aggregates.relays.iter().collect();
    relays.sort_by_cached_key(|relay| Reverse(site.weight(&relay.fingerprint)));
    for relay in relays {
        let fingerprint = relay.fingerprint;
        let facts = site.network_facts(&fingerprint);
        let address = facts
            .and_then(|facts| facts.address)
            .map(|address| address.to_string());
        let country = facts
            .and_then(|facts| facts.country)
            .map(|country| country.to_string());
        let key = relay.ed25519.map(|key| key.to_string()).unwrap_or_default();
        let family = site.families.group(&fingerprint);
        let family = family.map(|first| first.to_string()[..FAMILY].to_owned());
        let fields = [
            fingerprint.to_string(),
            relay.nickname.replace(char::is_control, " "),
            address.unwrap_or_default(),
            key.chars().take(KEY).collect(),
            country.unwrap_or_default(),
            family.unwrap_or_default(),
        ];
        lines.push_str(&fields.join("\t"));
        lines.push('\n');
    }
    // A string of JSON is one of JavaScript.
    let text = serde_json::Value::from(lines.trim_end_matches('\n')).to_string();
    format!("bwscanIndex({text});\n")
}
