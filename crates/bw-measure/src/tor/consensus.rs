//! The plain consensus: all of its parameters, and the descriptors that it lists.
//!
//! arti keeps only the parameters that it knows itself, and `bwscanner_cc`,
//! which tells scanners what to measure, is not one of them. Its consensus lists
//! microdescriptors. So the plain one is fetched too, and verified with the same code and
//! the same keys.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bw_file::Fingerprint;
use tor_checkable::{ExternallySigned, SelfSigned, TimeBound};
use tor_circmgr::CircMgr;
use tor_dirclient::request::{AuthCertRequest, ConsensusRequest, Requestable};
use tor_llcrypto::pk::rsa::RsaIdentity;
use tor_netdir::NetDir;
use tor_netdoc::doc::authcert::AuthCert;
use tor_netdoc::doc::netstatus::{ConsensusFlavor, PlainConsensus};
use tor_netdoc::doc::routerdesc::RdDigest;
use tor_rtcompat::tokio::TokioRustlsRuntime;

use super::fingerprint;
use crate::error::chain;

/// The longest time for one document from a directory cache.
const PATIENCE: Duration = Duration::from_secs(60);

/// A consensus that more than half of the authorities signed.
#[derive(Debug, Default)]
pub(super) struct Consensus {
    /// The parameters, by name.
    pub(super) params: BTreeMap<String, i32>,
    /// The digest of each relay's descriptor.
    pub(super) descriptors: HashMap<Fingerprint, RdDigest>,
}

/// The number of directory caches that are asked when one fails.
const ATTEMPTS: u32 = 3;

/// Fetches the present consensus and verifies that it is signed by more than
/// half of `authorities`.
pub(super) async fn fetch(
    netdir: &Arc<NetDir>,
    circuits: &Arc<CircMgr<TokioRustlsRuntime>>,
    runtime: &TokioRustlsRuntime,
    authorities: &[RsaIdentity],
) -> Result<Consensus, String> {
    let mut last = String::new();
    for attempt in 1..=ATTEMPTS {
        match fetch_once(netdir, circuits, runtime, authorities).await {
            Ok(consensus) => return Ok(consensus),
            Err(error) => last = error,
        }
        tracing::info!("plain consensus, attempt {attempt} of {ATTEMPTS}: {last}");
    }
    Err(last)
}

async fn fetch_once(
    netdir: &Arc<NetDir>,
    circuits: &Arc<CircMgr<TokioRustlsRuntime>>,
    runtime: &TokioRustlsRuntime,
    authorities: &[RsaIdentity],
) -> Result<Consensus, String> {
    let now = SystemTime::now();
    let request = ConsensusRequest::new(ConsensusFlavor::Plain);
    let text = get(&request, netdir, circuits, runtime).await?;
    let (_, _, consensus) = PlainConsensus::parse(&text).map_err(|error| chain(&error))?;
    let consensus = consensus
        .if_valid_at(&now)
        .map_err(|error| chain(&error))?
        .set_n_authorities(authorities.len());

    let known: HashSet<&RsaIdentity> = authorities.iter().collect();
    let mut request = AuthCertRequest::new();
    for ids in consensus.signing_cert_ids() {
        if known.contains(&ids.id_fingerprint) {
            request.push(ids);
        }
    }
    let text = get(&request, netdir, circuits, runtime).await?;
    let certificates: Vec<AuthCert> = AuthCert::parse_multiple(&text)
        .map_err(|error| chain(&error))?
        .filter_map(|certificate| {
            certificate
                .ok()?
                .check_signature()
                .ok()?
                .if_valid_at(&now)
                .ok()
        })
        .filter(|certificate| known.contains(certificate.id_fingerprint()))
        .collect();
    let consensus = consensus
        .check_signature(&certificates)
        .map_err(|error| format!("the consensus is not signed by its authorities: {error}"))?;
    let params = consensus.params().iter();
    let relays = consensus.relays().iter();
    let listed = relays.filter_map(|r| Some((fingerprint(r.rsa_identity())?, *r.rd_digest())));
    Ok(Consensus {
        params: params.map(|(name, value)| (name.clone(), *value)).collect(),
        descriptors: listed.collect(),
    })
}

async fn get(
    request: &impl Requestable,
    netdir: &Arc<NetDir>,
    circuits: &Arc<CircMgr<TokioRustlsRuntime>>,
    runtime: &TokioRustlsRuntime,
) -> Result<String, String> {
    let response = tor_dirclient::get_resource(
        request,
        netdir.as_ref().into(),
        runtime,
        Arc::clone(circuits),
    );
    tokio::time::timeout(PATIENCE, response)
        .await
        .map_err(|_| format!("not complete within {} s", PATIENCE.as_secs()))?
        .map_err(|error| chain(&error))?
        .into_output_string()
        .map_err(|error| chain(&error))
}
