//! Sums over the records of a store, taken one by one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bw_aggregate::{AggregateOptions, Aggregates, RelayAggregate, Use};
use bw_file::Fingerprint;
use bw_results::{Blame, Outcome, OutcomeSummary, ScanId, Slice, Stage, UnixMillis, Verdict};

use crate::attempt::Attempt;

/// Attempts shown on a relay's page at most: so a page stays below 60 kB. Half of
/// them may be failures.
pub(crate) const SHOWN: usize = 40;

/// Takes outcomes in any order; each must come once.
///
/// Of each relay the newest attempts are kept, of the others what they add up
/// to: memory grows with relays, and by 32 bytes for each outcome.
#[derive(Debug)]
pub struct Records {
    aggregates: Arc<Aggregates>,
    options: AggregateOptions,
    pub(crate) scanners: Vec<String>,
    pub(crate) destinations: Vec<(String, Destination)>,
    relays: HashMap<Fingerprint, Relay>,
    /// Failures by stage, blame and whether they are charged to relays.
    pub(crate) failures: BTreeMap<(Stage, Blame, bool), u64>,
    /// Verdicts by kind and reason.
    pub(crate) verdicts: BTreeMap<(&'static str, Option<&'static str>), u64>,
    /// Relays, and the times at which they were measured.
    pub(crate) times: Vec<Time>,
    scans: Vec<ScanId>,
    pub(crate) example: Option<Example>,
}

/// The use of a destination.
#[derive(Clone, Debug, Default)]
pub(crate) struct Destination {
    pub(crate) measured: u64,
    pub(crate) failed: u64,
    /// Failures that are laid to it.
    pub(crate) blamed: u64,
    pub(crate) bytes: u64,
    pub(crate) last: UnixMillis,
}

/// The newest attempts at a relay, and how many there were.
#[derive(Debug, Default)]
pub(crate) struct Relay {
    /// Newest last.
    pub(crate) measured: Vec<Attempt>,
    /// Newest last.
    pub(crate) failed: Vec<Attempt>,
    pub(crate) attempts: usize,
    /// Failures that are charged to it.
    pub(crate) charged: usize,
}

/// When an attempt was made, at whom, and what it took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time {
    /// The relay's place among the aggregates.
    pub(crate) relay: u32,
    pub(crate) started: UnixMillis,
    pub(crate) ended: UnixMillis,
    pub(crate) bytes: u64,
    scan: u16,
    pub(crate) measured: bool,
}

/// A transfer with all its slices.
#[derive(Clone, Debug)]
pub(crate) struct Example {
    pub(crate) relay: Fingerprint,
    pub(crate) ended: UnixMillis,
    pub(crate) rate: f64,
    pub(crate) slices: Vec<Slice>,
    /// The slices that count.
    pub(crate) counted: std::ops::Range<usize>,
}

impl Records {
    /// No outcomes yet, of relays that have these aggregates.
    pub fn new(aggregates: Arc<Aggregates>, options: AggregateOptions) -> Self {
        Self {
            relays: HashMap::with_capacity(aggregates.relays.len()),
            aggregates,
            options,
            scanners: Vec::new(),
            destinations: Vec::new(),
            failures: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            times: Vec::new(),
            scans: Vec::new(),
            example: None,
        }
    }

    /// Adds what `scanner` found in `scan`, with the verdict on it.
    pub fn add(&mut self, scanner: &str, scan: ScanId, outcome: &Outcome, verdict: Verdict) {
        let target = &outcome.attempt().target.fingerprint;
        let aggregates = Arc::clone(&self.aggregates);
        let relays = &aggregates.relays;
        let index = relays.binary_search_by_key(target, |relay| relay.fingerprint);
        let Some((index, aggregate)) = index.ok().and_then(|at| Some((at, relays.get(at)?))) else {
            return;
        };
        if self.options.is_ahead(outcome.ended()) {
            return;
        }
        let kind = (verdict.as_str(), verdict.reason());
        *self.verdicts.entry(kind).or_default() += 1;
        if let Outcome::Failed(failure) = outcome {
            let key = (failure.stage, failure.blame, verdict.is_charged());
            *self.failures.entry(key).or_default() += 1;
        }
        self.note_time(scan, index, outcome, verdict);
        self.note_example(outcome, verdict);
        let r#use = use_of(aggregate, outcome, verdict, &self.options);
        let scanner = place(&mut self.scanners, scanner);
        let destination = self.note_destination(outcome);
        let attempt = Attempt::new(scanner, destination, outcome, verdict, r#use);
        self.relays.entry(*target).or_default().add(attempt);
    }

    fn note_time(&mut self, scan: ScanId, relay: usize, outcome: &Outcome, verdict: Verdict) {
        let known = self.scans.iter().rposition(|known| *known == scan);
        let scan_index = known.unwrap_or_else(|| {
            self.scans.push(scan);
            self.scans.len() - 1
        });
        self.times.push(Time {
            relay: u32::try_from(relay).unwrap_or(u32::MAX),
            started: outcome.attempt().started,
            ended: outcome.ended(),
            bytes: outcome.bytes(),
            scan: u16::try_from(scan_index).unwrap_or(u16::MAX),
            measured: verdict.is_measured(),
        });
    }

    /// Keeps the fastest accepted transfer: the more slices say something, the better.
    fn note_example(&mut self, outcome: &Outcome, verdict: Verdict) {
        let (Outcome::Measured(measurement), Verdict::Accepted) = (outcome, verdict) else {
            return;
        };
        for transfer in &measurement.transfers {
            let Some(rate) = transfer.rate() else {
                continue;
            };
            let best = self.example.as_ref();
            if best.is_none_or(|best| rate > best.rate) && transfer.slices.len() > 5 {
                let end = transfer.slices.len().saturating_sub(transfer.cool_down);
                self.example = Some(Example {
                    relay: measurement.attempt.target.fingerprint,
                    ended: measurement.ended,
                    rate,
                    slices: transfer.slices.clone(),
                    counted: transfer.warm_up..end,
                });
            }
        }
    }

    fn note_destination(&mut self, outcome: &Outcome) -> u16 {
        let name = &outcome.attempt().destination;
        let known = self
            .destinations
            .iter()
            .position(|(known, _)| known == name);
        let index = known.unwrap_or_else(|| {
            self.destinations
                .push((name.clone(), Destination::default()));
            self.destinations.len() - 1
        });
        if let Some((_, destination)) = self.destinations.get_mut(index) {
            destination.bytes = destination.bytes.saturating_add(outcome.bytes());
            destination.last = destination.last.max(outcome.ended());
            match outcome {
                Outcome::Measured(_) => destination.measured += 1,
                Outcome::Failed(failure) => {
                    destination.failed += 1;
                    destination.blamed += u64::from(failure.blame == Blame::Destination);
                }
            }
        }
        u16::try_from(index).unwrap_or(u16::MAX)
    }

    /// The attempts at this relay.
    pub(crate) fn relay(&self, relay: &Fingerprint) -> Option<&Relay> {
        self.relays.get(relay)
    }

    /// All relays with attempts.
    pub(crate) fn relays(&self) -> impl Iterator<Item = (&Fingerprint, &Relay)> {
        self.relays.iter()
    }

    /// When the attempts of a scan were made.
    pub(crate) fn times_of(&self, scan: &ScanId) -> Vec<Time> {
        let index = self.scans.iter().position(|known| known == scan);
        let index = index.and_then(|index| u16::try_from(index).ok());
        let times = self.times.iter().filter(|time| Some(time.scan) == index);
        times.copied().collect()
    }

    /// The name of a scanner or destination; nothing beyond 65,535 of them.
    pub(crate) fn scanner(&self, index: u16) -> &str {
        self.scanners
            .get(usize::from(index))
            .map_or("", String::as_str)
    }

    pub(crate) fn destination(&self, index: u16) -> &str {
        self.destinations
            .get(usize::from(index))
            .map_or("", |(name, _)| name)
    }
}

impl Relay {
    fn add(&mut self, attempt: Attempt) {
        self.attempts += 1;
        self.charged += usize::from(attempt.r#use == Use::Failed);
        let (list, most) = match attempt.result {
            Ok(_) => (&mut self.measured, SHOWN),
            Err(_) => (&mut self.failed, SHOWN / 2),
        };
        let place = list.partition_point(|other| other.ended <= attempt.ended);
        if list.len() < most {
            list.insert(place, attempt);
        } else if place > 0 {
            list[..place].rotate_left(1);
            list[place - 1] = attempt;
        }
    }
}

/// The use of an outcome.
fn use_of(
    aggregate: &RelayAggregate,
    outcome: &Outcome,
    verdict: Verdict,
    options: &AggregateOptions,
) -> Use {
    aggregate.use_of(&OutcomeSummary::new(outcome, verdict), options)
}

/// The place of a name in a list, to which it is added if it is new.
fn place(names: &mut Vec<String>, name: &str) -> u16 {
    let known = names.iter().position(|known| known == name);
    let index = known.unwrap_or_else(|| {
        names.push(name.to_owned());
        names.len() - 1
    });
    u16::try_from(index).unwrap_or(u16::MAX)
}
