//! The parameters of the consensus, all of them.
//!
//! arti keeps only the parameters that it knows itself, and `bwscanner_cc`,
//! which tells scanners what to measure, is not one of them. So the consensus
//! is fetched once more, and verified with the same code and the same keys.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tor_checkable::{ExternallySigned, SelfSigned, TimeBound};
use tor_circmgr::CircMgr;
use tor_dirclient::request::{AuthCertRequest, ConsensusRequest, Requestable};
use tor_llcrypto::pk::rsa::RsaIdentity;
use tor_netdir::NetDir;
use tor_netdoc::doc::authcert::AuthCert;
use tor_netdoc::doc::netstatus::{ConsensusFlavor, MdConsensus};
use tor_rtcompat::tokio::TokioRustlsRuntime;

use crate::error::chain;

/// How long a directory cache may take for one document.
const PATIENCE: Duration = Duration::from_secs(60);

/// Fetches the present consensus, verifies that it is signed by more than
/// half of `authorities`, and returns its parameters.
pub(super) async fn fetch(
    netdir: &Arc<NetDir>,
    circuits: &Arc<CircMgr<TokioRustlsRuntime>>,
    runtime: &TokioRustlsRuntime,
    authorities: &[RsaIdentity],
) -> Result<BTreeMap<String, i32>, String> {
    let now = SystemTime::now();
    let request = ConsensusRequest::new(ConsensusFlavor::Microdesc);
    let text = get(&request, netdir, circuits, runtime).await?;
    let (_, _, consensus) = MdConsensus::parse(&text).map_err(|error| chain(&error))?;
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
    Ok(params.map(|(name, value)| (name.clone(), *value)).collect())
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
