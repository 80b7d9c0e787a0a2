//! From weights to a bandwidth file.

use bw_file::{
    BytesPerSecond, CountryCode, DateTime, FileBuilder, Fingerprint, KilobytesPerSecond, Percent,
    PythonBool, RelayBuilder, Seconds, UnixTime,
};
use bw_results::UnixMillis;

use crate::error::Error;
use crate::error_class::ErrorClass;
use crate::reason::Reason;
use crate::rounding::round_half_even;
use crate::scale::{Answer, Method, NetworkFigures, Scaled, ScaledRelay};
use crate::torflow::{PidSteps, PidVote};

/// The facts that a file tells of its making. Everything that is not given is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileFacts {
    /// Name of the generator: `bwscan`.
    pub software: String,
    /// Version of the generator.
    pub software_version: String,
    /// When the file is made.
    pub file_created: Option<UnixMillis>,
    /// When the scanner was started.
    pub generator_started: Option<UnixMillis>,
    /// Nickname of the authority that will publish the file.
    pub dirauth_nickname: Option<String>,
    /// Where the scanner is.
    pub scanner_country: Option<CountryCode>,
    /// Where the web servers are.
    pub destinations_countries: Vec<CountryCode>,
    /// Version of tor, or of what speaks for it, that the scanner uses.
    pub tor_version: Option<String>,
    /// The number of consensuses that the scanner used in the time that is looked at.
    pub recent_consensus_count: Option<u64>,
}

impl FileFacts {
    /// A file made by this software.
    pub fn new(software: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            software: software.into(),
            software_version: version.into(),
            ..Self::default()
        }
    }
}

impl Scaled {
    /// The file: relays with a weight by ascending weight, then those without.
    ///
    /// Each relay of the snapshot has a line. One without a weight has
    /// `bw=1`, `unmeasured=1` and `vote=0`, and the counts that tell why. The
    /// file's time is that of the newest measurement of a relay of the
    /// snapshot, so that a scanner that measures nothing any more makes no
    /// file that looks fresh.
    ///
    /// # Errors
    /// [`NothingMeasured`](Error::NothingMeasured), or
    /// [`ImpossibleTime`](Error::ImpossibleTime) for times beyond the year 9999.
    pub fn to_bandwidth_file(&self, facts: &FileFacts) -> Result<FileBuilder, Error> {
        let measured = || self.relays.iter().map(|relay| &relay.aggregate);
        let earliest = measured().filter_map(|relay| relay.first_measured).min();
        let latest = measured().filter_map(|relay| relay.last_measured).max();
        let (Some(earliest), Some(latest)) = (earliest, latest) else {
            return Err(Error::NothingMeasured);
        };
        let mut file = FileBuilder::new(UnixTime::from(date_time(latest)?));
        file.earliest_bandwidth(date_time(earliest)?)
            .latest_bandwidth(date_time(latest)?)
            .software(&facts.software)
            .software_version(&facts.software_version);
        write_facts(&mut file, facts)?;
        write_figures(&mut file, &self.network);
        self.write_exclusions(&mut file);
        let (eligible, consensus) = (self.network.eligible, self.network.consensus_relays);
        if eligible > 0 && eligible * 2 >= consensus {
            let seconds = latest.since(earliest).as_secs_f64();
            let half = consensus as f64 / 2.0;
            let half_time = round_half_even(seconds * half / eligible as f64);
            file.time_to_report_half_network(Seconds::new(half_time));
        }

        let mut with_weight: Vec<_> = self
            .relays
            .iter()
            .filter(|relay| relay.answer.weight().is_some())
            .collect();
        with_weight.sort_by_key(|relay| relay.answer.weight());
        let without = self
            .relays
            .iter()
            .filter(|relay| relay.answer.weight().is_none());
        for relay in with_weight.into_iter().chain(without) {
            file.push_relay(relay_line(relay, self)?);
        }
        for (&relay, vote) in &self.kept_votes {
            // Of the others, the line has it.
            if self.relay(&relay).is_none() {
                file.push_relay(kept_line(relay, vote));
            }
        }
        Ok(file)
    }

    /// The number of relays that each rule left out.
    fn write_exclusions(&self, file: &mut FileBuilder) {
        let count = |rule: fn(&Reason) -> bool| {
            let excluded = self.relays.iter().filter(|relay| match &relay.answer {
                Answer::Excluded(reason) => rule(reason),
                Answer::Weight(_) => false,
            });
            excluded.count() as u64
        };
        let failed = self
            .relays
            .iter()
            .map(|relay| relay.aggregate.counts.failed);
        file.recent_measurement_failure_count(
            i64::try_from(failed.sum::<u64>()).unwrap_or(i64::MAX),
        )
        .recent_measurements_excluded_error_count(count(|reason| {
            matches!(
                reason,
                Reason::OnlyFailures { .. }
                    | Reason::NoRate
                    | Reason::ImpossibleDescriptor { .. }
                    | Reason::Implausible { .. }
            )
        }))
        .recent_measurements_excluded_few_count(count(|reason| {
            matches!(reason, Reason::TooFew { .. })
        }))
        .recent_measurements_excluded_near_count(count(|reason| {
            matches!(reason, Reason::TooClose { .. })
        }))
        .recent_measurements_excluded_old_count(count(|reason| {
            matches!(reason, Reason::TooOld { .. })
        }));
    }
}

fn write_facts(file: &mut FileBuilder, facts: &FileFacts) -> Result<(), Error> {
    if let Some(time) = facts.file_created {
        file.file_created(date_time(time)?);
    }
    if let Some(time) = facts.generator_started {
        file.generator_started(date_time(time)?);
    }
    if let Some(nickname) = &facts.dirauth_nickname {
        file.dirauth_nickname(nickname);
    }
    if let Some(country) = facts.scanner_country {
        file.scanner_country(country);
    }
    if !facts.destinations_countries.is_empty() {
        let mut countries = facts.destinations_countries.clone();
        countries.sort_unstable();
        countries.dedup();
        file.destinations_countries(countries);
    }
    if let Some(version) = &facts.tor_version {
        file.tor_version(version);
    }
    if let Some(count) = facts.recent_consensus_count {
        file.recent_consensus_count(count);
    }
    Ok(())
}

fn write_figures(file: &mut FileBuilder, network: &NetworkFigures) {
    let percent = |share: f64| Percent::new(round_half_even(100.0 * share));
    let consensus = network.consensus_relays.max(1);
    file.number_consensus_relays(network.consensus_relays)
        .number_eligible_relays(network.eligible)
        .percent_eligible_relays(percent(network.eligible as f64 / consensus as f64))
        .minimum_number_eligible_relays(network.minimum)
        .minimum_percent_eligible_relays(percent(network.min_share))
        .mu(bytes(network.mean))
        .muf(bytes(network.filtered_mean));
    if let Some(bound) = network.bound {
        file.capacity_bound(bound.share)
            .capacity_payload_share(bound.payload_share);
    }
    if network.method == Method::Capacity {
        file.capacity_normalisation(network.normalisation);
        let variation = network.bound.map_or(1.0, |bound| bound.variation);
        file.capacity_variation(variation);
    }
}

/// A relay without a weight, with the state of the controller that it had, and
/// the weight of then: it is not voted with.
fn kept_line(relay: Fingerprint, vote: &PidVote) -> RelayBuilder {
    let mut line = RelayBuilder::new(relay, vote.weight);
    line.vote(false);
    write_vote(&mut line, vote);
    line
}

fn relay_line(relay: &ScaledRelay, scaled: &Scaled) -> Result<RelayBuilder, Error> {
    let ScaledRelay { aggregate, answer } = relay;
    let network = &scaled.network;
    let mut line = match answer {
        Answer::Weight(explanation) => {
            let mut line = RelayBuilder::new(aggregate.fingerprint, explanation.weight);
            // A lower bound is no ratio that was measured.
            let measured = explanation.lower_bound.is_none();
            if measured && matches!(network.method, Method::Torflow | Method::TorflowPid) {
                line.key("r_strm", format!("{:.2}", explanation.stream_ratio))
                    .key("r_strm_filt", format!("{:.2}", explanation.filtered_ratio));
            }
            if let Some(steps) = &explanation.pid {
                write_controller(&mut line, steps);
            } else if let Some(vote) = scaled.kept_votes.get(&aggregate.fingerprint) {
                write_vote(&mut line, vote);
            }
            if let Some(steps) = &explanation.capacity {
                let at = i64::try_from(steps.measured_at).unwrap_or(i64::MAX);
                line.capacity(bytes(steps.smoothed))
                    .capacity_at(UnixTime::new(at))
                    .capacity_proven(bytes(steps.proven.rate));
                if let Some(machine) = steps.machine {
                    line.capacity_machine_share(machine.share);
                }
            }
            if network.under_minimum {
                line.not_enough_eligible();
            }
            line
        }
        Answer::Excluded(_) => match scaled.kept_votes.get(&aggregate.fingerprint) {
            Some(vote) => kept_line(aggregate.fingerprint, vote),
            None => RelayBuilder::unmeasured_relay(aggregate.fingerprint),
        },
    };
    // What a relay calls itself never stops the file of the others.
    if bw_file::is_nickname(aggregate.nickname.as_bytes()) {
        line.nick(&aggregate.nickname);
    }
    if let Some(identity) = aggregate.ed25519 {
        line.master_key_ed25519(identity);
    }
    if let Some(statistics) = aggregate.statistics {
        line.bw_mean(statistics.mean).bw_median(statistics.median);
    }
    if let Some(descriptor) = aggregate.descriptor {
        line.desc_bw_avg(descriptor.average)
            .desc_bw_bur(descriptor.burst)
            .desc_bw_obs_last(descriptor.observed);
    }
    if let Some(observed) = aggregate.observed_mean {
        line.desc_bw_obs_mean(observed);
    }
    if let Some(weight) = aggregate.consensus_weight {
        line.consensus_bandwidth(KilobytesPerSecond::to_bytes(weight));
    }
    if let Some(unmeasured) = aggregate.unmeasured {
        line.consensus_bandwidth_is_unmeasured(PythonBool::new(unmeasured));
    }
    if let Some(time) = aggregate.last_outcome {
        line.time(date_time(time)?);
    }
    write_counts(&mut line, relay);
    Ok(line)
}

/// The controller's state under Torflow's names, from which the next file goes on.
fn write_controller(line: &mut RelayBuilder, steps: &PidSteps) {
    write_vote(line, &steps.vote);
    line.circ_fail(steps.circuit_failure_rate);
}

fn write_vote(line: &mut RelayBuilder, vote: &PidVote) {
    let time = |seconds| UnixTime::new(i64::try_from(seconds).unwrap_or(i64::MAX));
    line.measured_at(time(vote.measured_at))
        .updated_at(time(vote.updated_at))
        .pid_error(vote.pid_error)
        .pid_error_sum(vote.pid_error_sum)
        .pid_bw(bytes(vote.pid_bw))
        .pid_delta(vote.pid_delta);
}

/// The counts of attempts: failures by class, and what was left out.
fn write_counts(line: &mut RelayBuilder, relay: &ScaledRelay) {
    let counts = &relay.aggregate.counts;
    let class = |wanted| counts.failures_where(|stage, kind| ErrorClass::of(stage, kind) == wanted);
    line.success(counts.measured)
        .error_circ(class(ErrorClass::Circuit))
        .error_destination(class(ErrorClass::Destination))
        .error_misc(class(ErrorClass::Misc))
        .error_second_relay(class(ErrorClass::SecondRelay))
        .error_stream(class(ErrorClass::Stream))
        .relay_recent_measurement_attempt_count(counts.attempts());
    if counts.failed > 0 {
        line.relay_recent_measurements_excluded_error_count(counts.failed);
    }
    if counts.too_close > 0 {
        line.relay_recent_measurements_excluded_near_count(counts.too_close);
    }
    if counts.too_old > 0 {
        line.relay_recent_measurements_excluded_old_count(counts.too_old);
    }
    if counts.too_few > 0 {
        line.relay_recent_measurements_excluded_few_count(counts.too_few);
    }
}

fn bytes(value: f64) -> BytesPerSecond {
    BytesPerSecond::new(round_half_even(value))
}

fn date_time(time: UnixMillis) -> Result<DateTime, Error> {
    let seconds = time.as_secs();
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| DateTime::new(UnixTime::new(seconds)))
        .ok_or(Error::ImpossibleTime { seconds })
}
