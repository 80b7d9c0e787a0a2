//! Full server descriptors: fetched from directory caches, verified, matched with
//! the consensus, and reduced to what a scanner needs of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bw_file::{BytesPerSecond, Fingerprint};
use bw_results::DescriptorFacts;
use sha2::Digest as _;
use tor_checkable::TimeBound;
use tor_circmgr::CircMgr;
use tor_dirclient::request::RouterDescRequest;
use tor_llcrypto::d::Sha1;
use tor_netdir::NetDir;
use tor_netdoc::doc::routerdesc::{RdDigest, RouterDesc, RouterDescUnverified};
use tor_netdoc::parse2::{ParseInput, parse_netdoc_multiple_sophisticated};
use tor_rtcompat::tokio::TokioRustlsRuntime;

use super::fingerprint;
use crate::error::chain;

/// The facts of each relay from the descriptor that a consensus listed.
pub(super) type Descriptors = HashMap<Fingerprint, DescriptorFacts>;

/// The number of directory caches that are asked when one fails.
const ATTEMPTS: u32 = 5;

/// The longest time for all descriptors from one cache: some 30 MB.
const PATIENCE: Duration = Duration::from_secs(180);

/// The number of descriptors that are asked for by digest at once, as tor does: with more, the request
/// is too long for some caches.
const AT_ONCE: usize = 96;

/// With more requests than this, all descriptors are asked for at once.
const REQUESTS: usize = 10;

/// The digest of each relay's descriptor, as the consensus lists it.
pub(super) type Listed = HashMap<Fingerprint, RdDigest>;

/// Fetches the descriptors that are listed: all at once from some directory cache, then those
/// that are missing, by digest, from others.
///
/// A cache can withhold a descriptor. It cannot send another one than the authorities saw.
pub(super) async fn fetch(
    netdir: &Arc<NetDir>,
    circuits: &Arc<CircMgr<TokioRustlsRuntime>>,
    runtime: &TokioRustlsRuntime,
    listed: &Listed,
) -> Result<Descriptors, String> {
    let mut found = Descriptors::new();
    let mut last = "the consensus lists none".to_owned();
    for attempt in 1..=ATTEMPTS {
        let before = found.len();
        for request in requests(&found, listed) {
            match fetch_once(netdir, circuits, runtime, &request, listed).await {
                Ok(descriptors) => found.extend(descriptors),
                Err(error) => last = error,
            }
        }
        if found.len() == before && before > 0 {
            break; // What nobody has is not waited for.
        }
        if found.len() == before {
            "the cache sent no valid descriptor of those in the consensus".clone_into(&mut last);
        }
        tracing::info!(
            "server descriptors, attempt {attempt} of {ATTEMPTS}: {} of {}; {last}",
            found.len(),
            listed.len()
        );
        if found.len() == listed.len() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(attempt.into())).await;
    }
    if found.is_empty() {
        Err(last)
    } else {
        Ok(found)
    }
}

/// The requests for what is missing.
fn requests(found: &Descriptors, listed: &Listed) -> Vec<RouterDescRequest> {
    let missing = listed
        .iter()
        .filter(|(relay, _)| !found.contains_key(*relay));
    let missing: Vec<RdDigest> = missing.map(|(_, digest)| *digest).collect();
    if missing.len() > AT_ONCE * REQUESTS || found.is_empty() {
        return vec![RouterDescRequest::all()];
    }
    let chunks = missing.chunks(AT_ONCE);
    chunks
        .map(|chunk| chunk.iter().copied().collect())
        .collect()
}

async fn fetch_once(
    netdir: &Arc<NetDir>,
    circuits: &Arc<CircMgr<TokioRustlsRuntime>>,
    runtime: &TokioRustlsRuntime,
    request: &RouterDescRequest,
    listed: &Listed,
) -> Result<Descriptors, String> {
    let response = tor_dirclient::get_resource(
        request,
        netdir.as_ref().into(),
        runtime,
        Arc::clone(circuits),
    );
    let response = tokio::time::timeout(PATIENCE, response)
        .await
        .map_err(|_| format!("not complete within {} s", PATIENCE.as_secs()))?
        .map_err(|error| chain(&error))?;
    let text = response
        .into_output_string()
        .map_err(|error| chain(&error))?;
    // 0.4 ms of verification each: seconds for the public network.
    let listed = listed.clone();
    tokio::task::spawn_blocking(move || parse(&text, SystemTime::now(), &listed))
        .await
        .map_err(|error| error.to_string())
}

/// Reads all descriptors in `text`; those that cannot be read, are not
/// signed by their relay, are not valid at `now`, or are not `listed` are left out.
fn parse(text: &str, now: SystemTime, listed: &Listed) -> Descriptors {
    let text = normalise(text);
    let input = ParseInput::new(&text, "server descriptors");
    let mut descriptors = Descriptors::new();
    let mut refused = 0_usize;
    let documents = match parse_netdoc_multiple_sophisticated::<RouterDescUnverified>(&input) {
        Ok(documents) => documents,
        Err(error) => {
            tracing::warn!("server descriptors: {error}");
            return descriptors;
        }
    };
    for (document, start, end) in documents {
        let digest = text.get(start..end).and_then(digest);
        let facts = document
            .map_err(|error| chain(&error))
            .and_then(|document| document.verify().map_err(|error| chain(&error)))
            .and_then(|bound| bound.if_valid_at(&now).map_err(|error| chain(&error)))
            .map(|descriptor| facts(&descriptor));
        match facts {
            Ok(Some((relay, facts)))
                if listed.get(&relay) == digest.as_ref() && digest.is_some() =>
            {
                descriptors.insert(relay, facts);
            }
            Ok(_) => refused += 1,
            Err(error) => {
                tracing::debug!("server descriptor refused: {error}");
                refused += 1;
            }
        }
    }
    tracing::debug!(
        "{} server descriptors, {refused} refused",
        descriptors.len()
    );
    descriptors
}

/// The SHA-1 of a descriptor up to and including the line `router-signature` (dir-spec).
fn digest(descriptor: &str) -> Option<RdDigest> {
    const SIGNATURE: &str = "\nrouter-signature\n";
    let end = descriptor.find(SIGNATURE)? + SIGNATURE.len();
    Some(Sha1::digest(descriptor.get(..end)?).into())
}

/// Takes out what real descriptors contain and the parser does not take:
/// annotations and blank lines.
fn normalise(text: &str) -> String {
    let mut normal = String::with_capacity(text.len());
    for line in text.lines() {
        if !line.trim().is_empty() && !line.starts_with('@') {
            normal.push_str(line);
            normal.push('\n');
        }
    }
    normal
}

fn facts(descriptor: &RouterDesc) -> Option<(Fingerprint, DescriptorFacts)> {
    let relay = fingerprint(&descriptor.signing_key.to_rsa_identity())?;
    let bandwidth = &descriptor.bandwidth;
    let facts = DescriptorFacts::new(
        descriptor.published.0.into(),
        BytesPerSecond::new(bandwidth.average),
        BytesPerSecond::new(bandwidth.burst),
        BytesPerSecond::new(bandwidth.observed),
    );
    Some((relay, facts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_and_blank_lines_go() {
        let text = "@type server-descriptor 1.0\nrouter x\n\nbandwidth 1 2 3\n \n";
        assert_eq!(normalise(text), "router x\nbandwidth 1 2 3\n");
    }

    #[test]
    fn what_is_missing_is_asked_for_by_digest() {
        let relay = |number: u16| {
            let mut bytes = [0; 20];
            bytes[..2].copy_from_slice(&number.to_be_bytes());
            bytes
        };
        let listed: Listed = (0..2_000)
            .map(|number| (Fingerprint::from_bytes(relay(number)), relay(number)))
            .collect();
        let facts = DescriptorFacts::new(
            Default::default(),
            BytesPerSecond::new(1),
            BytesPerSecond::new(1),
            BytesPerSecond::new(1),
        );
        let found = |count: u16| {
            let relays = (0..count).map(|number| Fingerprint::from_bytes(relay(number)));
            relays.map(|relay| (relay, facts)).collect::<Descriptors>()
        };
        for (count, expected) in [(0, 1), (3, 1), (1_900, 2), (2_000, 0)] {
            assert_eq!(requests(&found(count), &listed).len(), expected, "{count}");
        }
    }

    #[test]
    fn the_digest_ends_before_the_signature() {
        let text = "router x\nbandwidth 1 2 3\nrouter-signature\n";
        let signed = format!("{text}-----BEGIN SIGNATURE-----\n");
        assert_eq!(digest(&signed), digest(text));
        // sha1sum
        let expected = "82a625ae08bd148ebb7c220917a907a154ff0a51";
        let found: String = digest(text)
            .unwrap()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(found, expected);
        assert_eq!(digest("router x\n"), None);
    }

    #[test]
    fn what_is_no_descriptor_is_left_out() {
        for text in [
            "",
            "<html>",
            "router x\n",
            "router a 1.2.3.4 1 0 0\nbandwidth 1 2 3\n",
        ] {
            let listed = Listed::new();
            assert!(parse(text, SystemTime::now(), &listed).is_empty(), "{text}");
        }
    }
}
