//! The figures of a report as JSON, as `openapi.json` describes them.

use bw_aggregate::{Answer, RelayAggregate};
use bw_file::Fingerprint;
use bw_report::Site;
use serde_json::{Value, json};

/// The description of what is under `/api/`.
pub(crate) const OPENAPI: &str = include_str!("openapi.json");

/// Relays in one answer, unless fewer are asked for.
const MOST: usize = 1000;
/// Characters of a search.
const SEARCH: usize = 100;

/// The relays that are asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RelaysQuery {
    search: String,
    family: Option<Fingerprint>,
    offset: usize,
    limit: usize,
}

impl RelaysQuery {
    /// Reads what comes after the `?`.
    pub(crate) fn parse(query: &str) -> Result<Self, String> {
        let mut parsed = Self {
            search: String::new(),
            family: None,
            offset: 0,
            limit: 100,
        };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let number = || {
                let number: Result<usize, _> = value.parse();
                number.map_err(|_| format!("{name}: give a number"))
            };
            match &*name {
                "search" if value.len() <= SEARCH => parsed.search = value.into_owned(),
                "search" => return Err(format!("search: give at most {SEARCH} bytes")),
                "family" => {
                    parsed.family =
                        Some(fingerprint(&value).map_err(|text| format!("family: {text}"))?);
                }
                "offset" => parsed.offset = number()?,
                "limit" => parsed.limit = number()?,
                _ => return Err("parameters are search, family, offset and limit".to_owned()),
            }
        }
        if parsed.limit > MOST {
            return Err(format!("limit: give at most {MOST}"));
        }
        Ok(parsed)
    }
}

pub(crate) fn status(site: &Site) -> Value {
    let facts = site.facts();
    let file = facts.files.last().map(|file| {
        json!({
            "name": file.name,
            "relays": file.weights.relays(),
            "total": file.weights.total(),
        })
    });
    json!({
        "made": facts.now,
        "software": facts.software,
        "consensus_valid_after": facts.network.valid_after,
        "network": facts.scaled.network,
        "scanners": facts.scanners,
        "file": file,
    })
}

pub(crate) fn rounds(site: &Site) -> Value {
    let rounds = site.facts().rounds.iter().map(|round| {
        json!({
            "scan": round.id,
            "scanner": round.scanner,
            "started": round.started,
            "ended": round.ended,
            "abandoned": round.abandoned,
            "targets": round.targets,
            "measured": round.measured,
            "failed": round.failed,
            "outcomes": round.outcomes,
            "bytes": round.bytes,
        })
    });
    json!({ "rounds": rounds.collect::<Vec<_>>() })
}

/// Reads the fingerprint of a relay.
pub(crate) fn fingerprint(text: &str) -> Result<Fingerprint, &'static str> {
    let fingerprint = text.parse();
    fingerprint.map_err(|_| "a fingerprint has 40 hexadecimal digits")
}

/// Relays that fit a query; by fingerprint.
pub(crate) fn relays(site: &Site, query: &RelaysQuery) -> Value {
    let facts = site.facts();
    let family = query.family.map(|member| site.family(&member));
    let lower = query.search.to_lowercase();
    let all = facts.aggregates.relays.iter();
    let found: Vec<_> = all
        .filter(|relay| {
            family
                .is_none_or(|family| family.is_some() && site.family(&relay.fingerprint) == family)
        })
        .filter(|relay| fits(site, relay, &query.search, &lower))
        .collect();
    let shown = found.iter().skip(query.offset).take(query.limit);
    let shown = shown.map(|relay| {
        let answer = facts
            .scaled
            .relay(&relay.fingerprint)
            .map(|relay| relay.answer);
        json!({
            "fingerprint": relay.fingerprint,
            "nickname": relay.nickname,
            "weight": answer.and_then(|answer| answer.weight()),
            "consensus_weight": relay.consensus_weight,
            "mean": relay.statistics.map(|statistics| statistics.mean),
            "measurements": relay.rates.len(),
            "last_measured": relay.last_measured,
        })
    });
    json!({
        "total": found.len(),
        "offset": query.offset,
        "relays": shown.collect::<Vec<_>>(),
    })
}

/// True if a relay has the search, given also in small letters, in its nickname, is in that country, or has a fingerprint, key
/// or address that begins with it.
fn fits(site: &Site, relay: &RelayAggregate, search: &str, lower: &str) -> bool {
    let known = site.facts().network.relay(&relay.fingerprint);
    let begins = |text: &dyn ToString| text.to_string().to_lowercase().starts_with(lower);
    relay.nickname.to_lowercase().contains(lower)
        || begins(&relay.fingerprint)
        // Letters of a key are small or large for a reason.
        || relay.ed25519.is_some_and(|key| key.to_string().starts_with(search))
        || known.and_then(|known| known.address).is_some_and(|address| begins(&address))
        || known.and_then(|known| known.country).is_some_and(|country| country.to_string().to_lowercase() == lower)
}

/// All that is known of a relay, as `bwscan explain --json` tells it.
pub(crate) fn relay(site: &Site, fingerprint: &Fingerprint) -> Option<Value> {
    let facts = site.facts();
    let aggregate = facts.aggregates.relay(fingerprint)?;
    let answer = facts.scaled.relay(fingerprint).map(|relay| relay.answer);
    let (steps, reason) = match answer {
        Some(Answer::Weight(steps)) => (Some(steps), None),
        Some(Answer::Excluded(reason)) => (None, Some(reason)),
        None => (None, aggregate.verdict.err()),
    };
    Some(json!({
        "relay": aggregate,
        "weight": answer.and_then(|answer| answer.weight()),
        "standing": facts.scaled.standing(fingerprint),
        "checks": aggregate.checks(facts.scaled.network.method),
        "steps": steps,
        "reason": reason,
        "reason_text": reason.map(|reason| reason.to_string()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_and_bounded() {
        let query = RelaysQuery::parse("search=Ab%20c&offset=5&limit=7").unwrap();
        let expected = RelaysQuery {
            search: "Ab c".to_owned(),
            family: None,
            offset: 5,
            limit: 7,
        };
        assert_eq!(query, expected);
        let long = format!("search={}", "x".repeat(101));
        for wrong in [
            "limit=1001",
            "limit=x",
            "offset=-1",
            "page=2",
            "family=x",
            &long,
        ] {
            assert!(RelaysQuery::parse(wrong).is_err(), "{wrong}");
        }
    }
}
