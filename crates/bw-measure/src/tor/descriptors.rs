//! Full server descriptors: fetched from a directory cache, verified, and
//! reduced to what a scanner needs of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bw_file::{BytesPerSecond, Fingerprint};
use bw_results::DescriptorFacts;
use tor_checkable::TimeBound;
use tor_circmgr::CircMgr;
use tor_dirclient::request::RouterDescRequest;
use tor_netdir::NetDir;
use tor_netdoc::doc::routerdesc::{RouterDesc, RouterDescUnverified};
use tor_netdoc::parse2::{ParseInput, parse_netdoc_multiple_sophisticated};
use tor_rtcompat::tokio::TokioRustlsRuntime;

use super::fingerprint;
use crate::error::chain;

/// What is known of each relay from its newest valid descriptor.
pub(super) type Descriptors = HashMap<Fingerprint, DescriptorFacts>;

/// How often another directory cache is asked when one fails.
const ATTEMPTS: u32 = 5;

/// How long one cache may take to send all descriptors: some 30 MB.
const PATIENCE: Duration = Duration::from_secs(180);

/// Fetches the descriptors of all relays from some directory cache.
///
/// The consensus that arti uses names microdescriptors, not descriptors, so
/// that they are asked for all at once. Each is signed by its relay, so a
/// cache can withhold one or send an older one, but cannot invent any.
pub(super) async fn fetch(
    netdir: &Arc<NetDir>,
    circuits: &Arc<CircMgr<TokioRustlsRuntime>>,
    runtime: &TokioRustlsRuntime,
) -> Result<Descriptors, String> {
    let mut last = String::new();
    for attempt in 1..=ATTEMPTS {
        match fetch_once(netdir, circuits, runtime).await {
            Ok(descriptors) if descriptors.is_empty() => {
                last = "the cache sent no valid descriptor".to_owned();
            }
            Ok(descriptors) => return Ok(descriptors),
            Err(error) => last = error,
        }
        tracing::info!("server descriptors, attempt {attempt} of {ATTEMPTS}: {last}");
        tokio::time::sleep(Duration::from_secs(attempt.into())).await;
    }
    Err(last)
}

async fn fetch_once(
    netdir: &Arc<NetDir>,
    circuits: &Arc<CircMgr<TokioRustlsRuntime>>,
    runtime: &TokioRustlsRuntime,
) -> Result<Descriptors, String> {
    let request = RouterDescRequest::all();
    let response = tor_dirclient::get_resource(
        &request,
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
    tokio::task::spawn_blocking(move || parse(&text, SystemTime::now()))
        .await
        .map_err(|error| error.to_string())
}

/// Reads all descriptors in `text`; those that cannot be read, are not
/// signed by their relay, or are not valid at `now` are left out.
fn parse(text: &str, now: SystemTime) -> Descriptors {
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
    for (document, _, _) in documents {
        let facts = document
            .map_err(|error| chain(&error))
            .and_then(|document| document.verify().map_err(|error| chain(&error)))
            .and_then(|bound| bound.if_valid_at(&now).map_err(|error| chain(&error)))
            .map(|descriptor| facts(&descriptor));
        match facts {
            Ok(Some((relay, facts))) => {
                let newest = descriptors.entry(relay).or_insert(facts);
                if facts.published > newest.published {
                    *newest = facts;
                }
            }
            Ok(None) => refused += 1,
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
    fn what_is_no_descriptor_is_left_out() {
        for text in [
            "",
            "<html>",
            "router x\n",
            "router a 1.2.3.4 1 0 0\nbandwidth 1 2 3\n",
        ] {
            assert!(parse(text, SystemTime::now()).is_empty(), "{text}");
        }
    }
}
