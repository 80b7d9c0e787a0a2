//! The numbers of a web server, for monitoring.

use std::sync::{Arc, Mutex, PoisonError};

use bw_server::Statistics;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::service::Watched;

/// The work and the state of a web server.
#[derive(Debug)]
pub(super) struct ServerMetrics {
    registry: Registry,
    /// The reason why a new certificate is not in use.
    problem: Mutex<Option<String>>,
}

impl ServerMetrics {
    /// The numbers of `statistics`, read when they are asked for.
    pub(super) fn new(statistics: Arc<Statistics>) -> Self {
        let mut registry = Registry::with_prefix("bwscan_server");
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "Version of bwscan", Info::new(version));
        registry.register_collector(Box::new(Counters(statistics)));
        Self {
            registry,
            problem: Mutex::default(),
        }
    }

    /// Tells why a new certificate is not in use; or that it is, or that there is none.
    pub(super) fn set_problem(&self, problem: Option<String>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }
}

impl Watched for ServerMetrics {
    fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    fn waits_for(&self) -> Option<String> {
        let problem = self.problem.lock();
        problem.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Debug)]
struct Counters(Arc<Statistics>);

impl Collector for Counters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counts = self.0.counts();
        let open = ConstGauge::new(i64::try_from(counts.open()).unwrap_or(i64::MAX));
        let help = "Connections open now";
        let descriptor =
            encoder.encode_descriptor("open_connections", help, None, open.metric_type())?;
        open.encode(descriptor)?;
        let bytes = Some(&Unit::Bytes);
        for (name, help, unit, count) in [
            ("connections", "Connections accepted", None, counts.accepted),
            (
                "turned_away",
                "Connections closed unheard, as too many had not asked yet",
                None,
                counts.turned_away,
            ),
            (
                "refused",
                "Requests answered with 503",
                None,
                counts.refused,
            ),
            (
                "gave_way",
                "Connections closed for new ones",
                None,
                counts.gave_way,
            ),
            (
                "too_slow",
                "Clients given up as too slow",
                None,
                counts.too_slow,
            ),
            (
                "tls_failures",
                "TLS handshakes that failed",
                None,
                counts.tls_failures,
            ),
            (
                "proofs",
                "Requests that proved the key",
                None,
                counts.proofs,
            ),
            ("downloads", "Downloads begun", None, counts.downloads),
            ("uploads", "Uploads begun", None, counts.uploads),
            ("sent", "Payload of downloads", bytes, counts.sent),
            ("received", "Payload of uploads", bytes, counts.received),
        ] {
            let counter = ConstCounter::new(count);
            let descriptor = encoder.encode_descriptor(name, help, unit, counter.metric_type())?;
            counter.encode(descriptor)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        let metrics = ServerMetrics::new(Arc::default());
        let text = metrics.text();
        for line in [
            "bwscan_server_open_connections 0",
            "bwscan_server_connections_total 0",
            "bwscan_server_sent_bytes_total 0",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
        assert_eq!(metrics.waits_for(), None);
        metrics.set_problem(Some("a valid certificate".to_owned()));
        assert!(metrics.waits_for().is_some());
    }
}
