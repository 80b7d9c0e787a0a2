//! Numbers for monitoring, in the form of OpenMetrics.
//!
//! Names and units follow Prometheus's conventions. No relay is a label: there are
//! thousands, and what they are is in the store.

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use bw_measure::{Change, Completion, Event, Observer, RoundReport};
use bw_results::{Outcome, UnixMillis};
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::Notify;

type Number = Gauge<f64, AtomicU64>;

/// The work and the state of a service.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    records: Family<VerdictLabels, Counter>,
    failures: Family<FailureLabels, Counter>,
    settled: Family<ResultLabels, Counter>,
    payload: Counter,
    slices: Counter,
    throttled: Counter,
    running: Gauge,
    rounds: Counter,
    round_ended: Number,
    round_relays: Family<ResultLabels, Gauge>,
    destination_up: Family<DestinationLabels, Gauge>,
    directory_up: Gauge,
    works: Gauge,
    consensus: Number,
    consensus_relays: Gauge,
    file_written: Number,
    file_relays: Gauge,
    file_refusals: Counter,
    store_bytes: Gauge,
    free_bytes: Gauge,
    started: Number,
    /// The event that the service waits for.
    waits_for: Mutex<Option<String>>,
    /// Told when a round is complete.
    completed: Notify,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerdictLabels {
    verdict: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    stage: &'static str,
    kind: &'static str,
    blame: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Settled {
    #[allow(non_camel_case_types, reason = "the label's value")]
    measured,
    #[allow(non_camel_case_types, reason = "the label's value")]
    failed,
    #[allow(non_camel_case_types, reason = "the label's value")]
    left,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: Settled,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DestinationLabels {
    destination: String,
}

impl Metrics {
    /// All numbers at zero; `destinations` are up until one fails.
    pub(crate) fn new<'a>(destinations: impl IntoIterator<Item = &'a str>) -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("bwscan"),
            records: Family::default(),
            failures: Family::default(),
            settled: Family::default(),
            payload: Counter::default(),
            slices: Counter::default(),
            throttled: Counter::default(),
            running: Gauge::default(),
            rounds: Counter::default(),
            round_ended: Number::default(),
            round_relays: Family::default(),
            destination_up: Family::default(),
            directory_up: Gauge::default(),
            works: Gauge::default(),
            consensus: Number::default(),
            consensus_relays: Gauge::default(),
            file_written: Number::default(),
            file_relays: Gauge::default(),
            file_refusals: Counter::default(),
            store_bytes: Gauge::default(),
            free_bytes: Gauge::default(),
            started: Number::default(),
            waits_for: Mutex::new(Some("the Tor network".to_owned())),
            completed: Notify::new(),
        };
        metrics.register();
        metrics.works.set(1);
        metrics.started.set(seconds(SystemTime::now().into()));
        for destination in destinations {
            metrics.destination(destination).set(1);
        }
        metrics
    }

    fn register(&mut self) {
        self.register_service();
        self.register_records();
        self.register_rounds();
        self.register_network();
        self.register_file();
    }

    fn register_service(&mut self) {
        let registry = &mut self.registry;
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "Version of bwscan", Info::new(version));
        registry.register_with_unit(
            "start_time",
            "Time at which the service started",
            Unit::Seconds,
            self.started.clone(),
        );
    }

    fn register_records(&mut self) {
        let registry = &mut self.registry;
        registry.register("records", "Records made, by verdict", self.records.clone());
        registry.register(
            "failures",
            "Attempts that failed, by stage, kind and blame",
            self.failures.clone(),
        );
        registry.register("relays_settled", "Relays settled", self.settled.clone());
        registry.register_with_unit(
            "payload",
            "Payload moved through circuits",
            Unit::Bytes,
            self.payload.clone(),
        );
        registry.register("slices", "Slices of measurements", self.slices.clone());
        registry.register(
            "throttled_slices",
            "Slices that the scanner's own link throttled",
            self.throttled.clone(),
        );
        registry.register(
            "running_measurements",
            "Measurements under way",
            self.running.clone(),
        );
    }

    fn register_rounds(&mut self) {
        let registry = &mut self.registry;
        registry.register("rounds_completed", "Rounds completed", self.rounds.clone());
        registry.register_with_unit(
            "round_completed_timestamp",
            "Time of the last completed round",
            Unit::Seconds,
            self.round_ended.clone(),
        );
        registry.register(
            "round_relays",
            "Relays of the latest round when it ended or stopped",
            self.round_relays.clone(),
        );
    }

    fn register_network(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "destination_up",
            "1 unless a destination fails while another works",
            self.destination_up.clone(),
        );
        registry.register(
            "directory_up",
            "1 while the directory gives a consensus",
            self.directory_up.clone(),
        );
        registry.register(
            "measuring_works",
            "0 while nothing can be measured",
            self.works.clone(),
        );
        registry.register_with_unit(
            "consensus_valid_after_timestamp",
            "Time from which the consensus in use is valid",
            Unit::Seconds,
            self.consensus.clone(),
        );
        registry.register(
            "consensus_relays",
            "Relays of the consensus in use",
            self.consensus_relays.clone(),
        );
    }

    fn register_file(&mut self) {
        let registry = &mut self.registry;
        registry.register_with_unit(
            "file_written_timestamp",
            "Time of the bandwidth file in use",
            Unit::Seconds,
            self.file_written.clone(),
        );
        registry.register(
            "file_relays",
            "Relays with a weight in the bandwidth file in use",
            self.file_relays.clone(),
        );
        registry.register(
            "file_refusals",
            "Bandwidth files that were not published",
            self.file_refusals.clone(),
        );
        registry.register_with_unit(
            "store",
            "Size of the store of results",
            Unit::Bytes,
            self.store_bytes.clone(),
        );
        registry.register_with_unit(
            "disk_free",
            "Free space on the disk of the store",
            Unit::Bytes,
            self.free_bytes.clone(),
        );
    }

    /// Returns all numbers as OpenMetrics text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// Returns what the service waits for; `None` while it does its job.
    pub(crate) fn waits_for(&self) -> Option<String> {
        let waits = self.waits_for.lock();
        waits.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The service waits for `reason` to pass; `None` when it has.
    pub(crate) fn wait(&self, reason: Option<String>) {
        let waits = self.waits_for.lock();
        *waits.unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// Waits until a round is complete.
    pub(crate) async fn round_completed(&self) {
        self.completed.notified().await;
    }

    /// A bandwidth file with `relays` weights was published at `now`.
    pub(crate) fn published(&self, now: UnixMillis, relays: u64) {
        self.file_written.set(seconds(now));
        self.file_relays.set(signed(relays));
    }

    /// The last complete round ended at `time`.
    pub(crate) fn round_completed_at(&self, time: UnixMillis) {
        self.round_ended.set(seconds(time));
    }

    /// A bandwidth file was not published.
    pub(crate) fn refused(&self) {
        self.file_refusals.inc();
    }

    /// Looks at the size of the store and the disk that it is on.
    pub(crate) fn look_at_disk(&self, store: &Path) {
        if let Ok(bytes) = super::store_size(store) {
            self.store_bytes.set(signed(bytes));
        }
        if let Some(free) = store.parent().and_then(super::free_space) {
            self.free_bytes.set(signed(free));
        }
    }

    /// Returns in one line how the service is.
    pub(crate) fn status(&self) -> String {
        if let Some(reason) = self.waits_for() {
            return format!("waiting for {reason}");
        }
        let count = |result| {
            let labels = ResultLabels { result };
            self.settled.get_or_create(&labels).get()
        };
        format!(
            "{} measurements under way; {} relays measured, {} failed, {} rounds since the start",
            self.running.get(),
            count(Settled::measured),
            count(Settled::failed),
            self.rounds.get(),
        )
    }

    fn destination(&self, url: &str) -> Gauge {
        let labels = DestinationLabels {
            destination: url.to_owned(),
        };
        self.destination_up.get_or_create(&labels).clone()
    }

    fn ended(&self, completion: &Completion) {
        self.running.dec();
        let verdict = completion.verdict.as_str();
        self.records.get_or_create(&VerdictLabels { verdict }).inc();
        self.payload.inc_by(completion.outcome.bytes());
        let result = match &completion.outcome {
            Outcome::Measured(measurement) => {
                let slices = measurement.transfers.iter().flat_map(|one| &one.slices);
                for slice in slices {
                    self.slices.inc();
                    self.throttled.inc_by(slice.is_throttled().into());
                }
                Settled::measured
            }
            Outcome::Failed(failure) => {
                let labels = FailureLabels {
                    stage: failure.stage.as_str(),
                    kind: failure.kind.as_str(),
                    blame: failure.blame.as_str(),
                };
                self.failures.get_or_create(&labels).inc();
                Settled::failed
            }
        };
        if completion.settled {
            self.settled.get_or_create(&ResultLabels { result }).inc();
        }
    }

    fn round(&self, round: &RoundReport) {
        for (result, count) in [
            (Settled::measured, round.measured),
            (Settled::failed, round.failed),
            (Settled::left, round.left),
        ] {
            let gauge = self
                .round_relays
                .get_or_create(&ResultLabels { result })
                .clone();
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        if round.left == 0 {
            self.rounds.inc();
            self.round_completed_at(SystemTime::now().into());
            self.completed.notify_one();
        }
    }

    fn changed(&self, change: &Change) {
        match change {
            Change::DestinationDown(url) => drop(self.destination(url.as_str()).set(0)),
            Change::DestinationUp(url) => drop(self.destination(url.as_str()).set(1)),
            Change::NothingWorks { suspect, .. } => {
                self.works.set(0);
                self.wait(Some(format!("the {suspect} to work again")));
            }
            Change::WorksAgain => {
                self.works.set(1);
                self.wait(None);
            }
            Change::DirectoryLost(_) => drop(self.directory_up.set(0)),
            Change::DirectoryBack => drop(self.directory_up.set(1)),
            _ => {}
        }
    }
}

impl super::Watched for Metrics {
    fn text(&self) -> String {
        self.text()
    }

    fn waits_for(&self) -> Option<String> {
        self.waits_for()
    }
}

impl Observer for Metrics {
    fn observe(&self, event: &Event<'_>) {
        match *event {
            Event::Network(network) => {
                self.directory_up.set(1);
                self.consensus.set(seconds(network.valid_after));
                self.consensus_relays
                    .set(signed(network.relays.len() as u64));
                self.works.set(1);
                self.wait(None);
            }
            Event::Attempt(_) => drop(self.running.inc()),
            Event::Ended(completion) => self.ended(completion),
            Event::Control(_) => drop(self.running.dec()),
            Event::Changed(change) => self.changed(change),
            Event::Round(round) => self.round(round),
            Event::Waiting { reason, .. } => {
                // Whatever ran was dropped.
                self.running.set(0);
                self.wait(Some(format!("this to pass: {reason}")));
            }
            _ => {}
        }
    }
}

fn seconds(time: UnixMillis) -> f64 {
    time.value() as f64 / 1000.0
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_have_the_form_of_open_metrics() {
        let metrics = Metrics::new(["https://bw.example/1GiB"]);
        metrics.published(UnixMillis::from_secs(1_790_000_000), 7000);
        metrics.refused();
        let text = metrics.text();
        for line in [
            "# UNIT bwscan_payload_bytes bytes",
            "bwscan_payload_bytes_total 0",
            "bwscan_file_written_timestamp_seconds 1790000000.0",
            "bwscan_file_relays 7000",
            "bwscan_file_refusals_total 1",
            "bwscan_destination_up{destination=\"https://bw.example/1GiB\"} 1",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
        assert!(text.ends_with("# EOF\n"));
        assert_eq!(metrics.status(), "waiting for the Tor network");
    }

    /// The names of metrics in a text: `bwscan_` and what belongs to it.
    /// The names of metrics in a text; those of files have capitals or digits.
    fn names(text: &str) -> BTreeSet<&str> {
        text.split(|one: char| !one.is_ascii_alphanumeric() && one != '_')
            .filter(|word| word.starts_with("bwscan_") && *word != "bwscan_")
            .filter(|word| {
                word.bytes()
                    .all(|byte| byte == b'_' || byte.is_ascii_lowercase())
            })
            .collect()
    }

    #[test]
    fn what_is_watched_is_exported() {
        let metrics = Metrics::new(["https://bw.example/1GiB"]);
        let result = Settled::left;
        drop(metrics.settled.get_or_create(&ResultLabels { result }));
        let of_round = ResultLabels { result };
        drop(metrics.round_relays.get_or_create(&of_round));
        let verdict = VerdictLabels {
            verdict: "accepted",
        };
        drop(metrics.records.get_or_create(&verdict));
        let failure = FailureLabels {
            stage: "tls",
            kind: "timeout",
            blame: "path",
        };
        drop(metrics.failures.get_or_create(&failure));
        let text = metrics.text();
        let samples: String = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| format!("{line}\n"))
            .collect();
        let exported = names(&samples);
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for path in [
            "packaging/monitoring/alerts.yml",
            "packaging/monitoring/alerts_test.yml",
            "packaging/monitoring/dashboard.json",
            "docs/operations.md",
        ] {
            let Ok(text) = std::fs::read_to_string(root.join(path)) else {
                println!("SKIPPED: {path} is not there");
                continue;
            };
            let unknown: Vec<_> = names(&text).difference(&exported).copied().collect();
            assert_eq!(unknown, Vec::<&str>::new(), "{path}");
        }
    }
}
