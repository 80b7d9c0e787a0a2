//! From outcomes to one aggregate per relay.

mod usable;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use bw_file::{BytesPerSecond, Ed25519Identity, Fingerprint, KilobytesPerSecond};
use bw_results::{
    Blame, DescriptorFacts, FailureKind, NetworkSnapshot, OutcomeId, OutcomeSummary, RelayFlags,
    Stage, SummaryResult, UnixMillis, Verdict,
};
use serde::Serialize;

use self::usable::Usable;
use crate::machine::{MachineShare, Part, Parts, share_machines};
use crate::plausible::{Evidence, Peers, RateLimit};
use crate::proven::{Proven, Shown};
use crate::reason::{DescriptorField, Reason};
use crate::rounding::round_half_even;
use crate::statistics::{Statistics, sorted};

/// The last time that a bandwidth file can hold: 9999-12-31T23:59:59.
const LAST: UnixMillis = UnixMillis::from_secs(253_402_300_799);

/// The rules by which measurements count.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AggregateOptions {
    /// Measurements that ended before this are too old; none are by default.
    /// How far back outcomes are looked at is for the caller, who reads them
    /// (sbws: 28 days); this is sbws's `--secs-recent` on top of it.
    pub since: Option<UnixMillis>,
    /// Outcomes that ended after this are dated ahead of the clock and count
    /// for nothing; none are by default, but for those beyond the year 9999,
    /// of which no file can be made.
    pub until: Option<UnixMillis>,
    /// The least time between the first and the last of a relay's measurements, which must be
    /// more than this apart (sbws's `--secs-away`); by default they need not.
    pub min_separation: Option<Duration>,
    /// The least number of measurements of a relay (sbws's `--min-num`); 1 by default.
    pub min_measurements: u64,
}

impl Default for AggregateOptions {
    fn default() -> Self {
        Self {
            since: None,
            until: None,
            min_separation: None,
            min_measurements: 1,
        }
    }
}

impl AggregateOptions {
    /// Returns true if an outcome that ended at this time is dated ahead of the clock.
    pub fn is_ahead(&self, ended: UnixMillis) -> bool {
        ended > self.until.unwrap_or(LAST).min(LAST)
    }
}

/// Takes outcomes in any order and makes aggregates of them.
///
/// The order makes no difference to the result, to the last bit.
#[derive(Debug)]
pub struct Aggregator<'n> {
    options: AggregateOptions,
    network: &'n NetworkSnapshot,
    relays: HashMap<Fingerprint, Collected>,
    seen: HashSet<OutcomeId>,
}

/// The outcomes collected of one relay.
#[derive(Debug, Default)]
struct Collected {
    /// Accepted.
    measured: Vec<Measured>,
    /// Lower bounds, and who helped.
    bounds: Vec<(LowerBound, Vec<Fingerprint>)>,
    /// Lower bounds that the relay's own machine set, in joint measurements.
    parts: Vec<Part>,
    remeasured: u64,
    /// The number of failures that nobody charges to it, and whose fault the newest was.
    excused: u64,
    newest_excused: Option<(UnixMillis, Blame)>,
    /// Charged.
    failures: BTreeMap<(Stage, FailureKind), u64>,
    /// The newest, by what makes it unique enough.
    newest_failure: Option<(UnixMillis, Stage, FailureKind)>,
    newest_descriptor: Option<(UnixMillis, DescriptorKey)>,
    newest_outcome: Option<UnixMillis>,
    ahead: u64,
    /// The largest rate and burst that its descriptors declared.
    declared: u64,
    observed_sum: u128,
    observed_count: u64,
}

/// One accepted measurement.
#[derive(Debug)]
struct Measured {
    ended: UnixMillis,
    rates: Vec<f64>,
    helpers: Vec<Fingerprint>,
}

/// A descriptor's facts as something that has an order: published, observed,
/// burst, average.
type DescriptorKey = (UnixMillis, u64, u64, u64);

impl<'n> Aggregator<'n> {
    /// An aggregator for the relays of `network`.
    pub fn new(options: AggregateOptions, network: &'n NetworkSnapshot) -> Self {
        Self {
            options,
            network,
            relays: HashMap::with_capacity(network.relays.len()),
            seen: HashSet::new(),
        }
    }

    /// Adds an outcome: an [`Outcome`](bw_results::Outcome) or its summary.
    pub fn add(&mut self, outcome: impl Into<OutcomeSummary>) {
        let outcome = outcome.into();
        let relay = self.relays.entry(outcome.fingerprint).or_default();
        let ended = outcome.ended;
        if self.options.is_ahead(ended) {
            relay.ahead += 1;
            return;
        }
        relay.newest_outcome = relay.newest_outcome.max(Some(ended));
        if let Some(facts) = outcome.descriptor
            && outcome.verdict.is_measured()
        {
            relay.see_descriptor(ended, facts);
        }
        match (outcome.verdict, outcome.result) {
            (Verdict::Accepted, SummaryResult::Measured(rates)) => {
                let helpers = outcome.helpers;
                relay.measured.push(Measured {
                    ended,
                    rates,
                    helpers,
                });
            }
            (Verdict::LowerBound(by), SummaryResult::Measured(rates)) => {
                let bound = rates.into_iter().max_by(f64::total_cmp);
                if by == Blame::Target {
                    relay.parts.extend(bound.map(|rate| Part {
                        started: outcome.started,
                        ended,
                        rate,
                    }));
                }
                let bound = bound.map(|rate| LowerBound { rate, by, ended });
                relay
                    .bounds
                    .extend(bound.map(|bound| (bound, outcome.helpers)));
            }
            (Verdict::Charged, SummaryResult::Failed(stage, kind, _)) => {
                *relay.failures.entry((stage, kind)).or_default() += 1;
                let failure = Some((ended, stage, kind));
                relay.newest_failure = relay.newest_failure.max(failure);
            }
            (Verdict::Excused(by), _) => {
                relay.excused += 1;
                relay.newest_excused = relay.newest_excused.max(Some((ended, by)));
            }
            _ => relay.remeasured += 1,
        }
    }

    /// Adds an outcome that may come several times, from several stores: only
    /// the first counts.
    pub fn add_once(&mut self, id: OutcomeId, outcome: impl Into<OutcomeSummary>) {
        if self.seen.insert(id) {
            self.add(outcome);
        }
    }

    /// The aggregates of all relays of the network, and of those that were
    /// tried but are no longer in it.
    pub fn finish(mut self) -> Aggregates {
        let limits = self.limits();
        let limit = |relay: &Fingerprint| limits.get(relay).copied().unwrap_or_default();
        let mut relays = Vec::with_capacity(self.network.relays.len());
        let parts = self.parts(&limits);
        for facts in &self.network.relays {
            let collected = self.relays.remove(&facts.fingerprint).unwrap_or_default();
            let limit = limit(&facts.fingerprint);
            let mut relay =
                collected.aggregate(facts.fingerprint, &self.options, limit, self.network);
            relay.in_consensus = true;
            relay.nickname.clone_from(&facts.nickname);
            relay.ed25519 = facts.ed25519;
            relay.flags = facts.flags;
            relay.consensus_weight = Some(facts.consensus_weight);
            relay.unmeasured = Some(facts.unmeasured);
            relay.descriptor = facts.descriptor.or(relay.descriptor);
            if facts.flags.authority {
                relay.verdict = Err(Reason::Authority);
            } else if relay.verdict.is_ok() {
                relay.verdict = described(relay.descriptor);
            }
            relays.push(relay);
        }
        for (fingerprint, collected) in self.relays {
            let limit = limit(&fingerprint);
            let mut relay = collected.aggregate(fingerprint, &self.options, limit, self.network);
            relay.verdict = Err(Reason::NotInConsensus);
            relays.push(relay);
        }
        relays.sort_unstable_by_key(|relay| relay.fingerprint);
        share_machines(&mut relays, &parts, self.network);
        let weights = &self.network.bandwidth_weights;
        Aggregates {
            relays,
            guard_exit_damping: weights.get("Wgd").copied().unwrap_or(0),
        }
    }
}

/// Tells whether a relay has a descriptor that authorities would take.
fn described(descriptor: Option<DescriptorFacts>) -> Result<(), Reason> {
    let facts = descriptor.ok_or(Reason::NoDescriptor)?;
    for (field, value) in [
        (DescriptorField::Rate, facts.average),
        (DescriptorField::Burst, facts.burst),
        (DescriptorField::Observed, facts.observed),
    ] {
        if value.value() > DescriptorField::MAX {
            return Err(Reason::ImpossibleDescriptor { field, value });
        }
    }
    Ok(())
}

impl Aggregator<'_> {
    /// The parts of all relays in joint measurements, as far as they are believed.
    fn parts(&mut self, limits: &HashMap<Fingerprint, RateLimit>) -> Parts {
        let relays = self.relays.iter_mut();
        let relays = relays.filter(|(_, collected)| !collected.parts.is_empty());
        let believed = |(relay, collected): (&Fingerprint, &mut Collected)| {
            let limit = limits.get(relay).copied().unwrap_or_default();
            let parts = std::mem::take(&mut collected.parts).into_iter();
            (
                *relay,
                parts.filter(|part| limit.allows(part.rate)).collect(),
            )
        };
        relays.map(believed).collect()
    }

    /// The highest rate that is believed of each relay that was measured.
    fn limits(&self) -> HashMap<Fingerprint, RateLimit> {
        let measured = self.relays.iter();
        let measured = measured.filter(|(_, collected)| !collected.measured.is_empty());
        let evidence: HashMap<Fingerprint, Evidence> = measured
            .map(|(&relay, collected)| {
                let facts = self.network.relay(&relay);
                (
                    relay,
                    collected.evidence(facts.and_then(|facts| facts.descriptor)),
                )
            })
            .collect();
        let candidates = self.network.relays.iter();
        let candidates = candidates.filter(|facts| !facts.flags.authority);
        let peers = Peers::of(candidates.filter_map(|facts| evidence.get(&facts.fingerprint)));
        let limits = evidence.iter();
        limits
            .map(|(&relay, evidence)| (relay, peers.limit(evidence)))
            .collect()
    }
}

impl Collected {
    /// The support for its rates, with its descriptor in the snapshot.
    fn evidence(&self, current: Option<DescriptorFacts>) -> Evidence {
        let current = current.or(self.newest_descriptor());
        let declared = BytesPerSecond::new(self.declared);
        let past = current.map(|facts| {
            let average = facts.average.max(declared);
            DescriptorFacts::new(facts.published, average, facts.burst, facts.observed)
        });
        let measured = self.measured.iter().map(|one| one.rates.as_slice());
        Evidence::new(past, measured)
    }

    fn newest_descriptor(&self) -> Option<DescriptorFacts> {
        self.newest_descriptor.map(|(_, key)| {
            let [observed, burst, average] = [key.1, key.2, key.3].map(BytesPerSecond::new);
            DescriptorFacts::new(key.0, average, burst, observed)
        })
    }

    fn see_descriptor(&mut self, at: UnixMillis, facts: DescriptorFacts) {
        let key = (
            facts.published,
            facts.observed.value(),
            facts.burst.value(),
            facts.average.value(),
        );
        self.newest_descriptor = self.newest_descriptor.max(Some((at, key)));
        let declared = facts.average.max(facts.burst).value();
        self.declared = self.declared.max(declared);
        self.observed_sum += u128::from(facts.observed.value());
        self.observed_count += 1;
    }

    /// The aggregate as far as the outcomes tell.
    fn aggregate(
        self,
        fingerprint: Fingerprint,
        options: &AggregateOptions,
        limit: RateLimit,
        network: &NetworkSnapshot,
    ) -> RelayAggregate {
        let usable = Usable::new(&self, options, limit);
        let shown = usable.shown();
        let mut times: Vec<UnixMillis> = shown.iter().map(|one| one.ended).collect();
        times.sort_unstable();
        RelayAggregate {
            fingerprint,
            in_consensus: false,
            nickname: String::new(),
            ed25519: None,
            flags: RelayFlags::default(),
            consensus_weight: None,
            unmeasured: None,
            first_measured: usable.times().min(),
            last_measured: usable.times().max(),
            last_outcome: self.newest_outcome,
            observed_mean: self.observed_mean(),
            descriptor: self.newest_descriptor(),
            rate_limit: limit,
            counts: usable.counts(),
            statistics: Statistics::of_sorted(&usable.rates),
            lower_bound: usable.lower_bound,
            proven: Proven::of(&shown, network),
            machine: None,
            times,
            verdict: usable.verdict(),
            rates: usable.rates,
        }
    }

    fn observed_mean(&self) -> Option<BytesPerSecond> {
        let mean = self.observed_sum as f64 / self.observed_count as f64;
        (self.observed_count > 0).then(|| BytesPerSecond::new(round_half_even(mean)))
    }
}

impl Measured {
    /// The middle one of its rates that can be believed, the lower of two.
    fn shown(&self, limit: RateLimit) -> Option<Shown> {
        let rates = self
            .rates
            .iter()
            .copied()
            .filter(|&rate| limit.allows(rate));
        let rates = sorted(rates.collect());
        let rate = *rates.get(rates.len().saturating_sub(1) / 2)?;
        Some(Shown {
            ended: self.ended,
            rate,
            is_lower_bound: false,
            helpers: self.helpers.clone(),
        })
    }
}

/// A rate that a relay carries at least, because something else bounded it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LowerBound {
    /// The rate, in bytes per second.
    pub rate: f64,
    /// The party that bounded it.
    pub by: Blame,
    /// End of the measurement.
    pub ended: UnixMillis,
}

impl LowerBound {
    /// The key that makes one the higher of two, whatever the order in which they come.
    const fn order(&self) -> (f64, UnixMillis, Blame) {
        (self.rate, self.ended, self.by)
    }
}

/// The aggregates of all relays, sorted by fingerprint.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Aggregates {
    /// One for each relay of the snapshot, and one for each other relay that
    /// was tried.
    pub relays: Vec<RelayAggregate>,
    /// The consensus's `Wgd`, in 10000ths; 0 if it is not known.
    pub guard_exit_damping: i32,
}

impl Aggregates {
    /// The aggregate of this relay, if it is in the snapshot or was tried.
    pub fn relay(&self, fingerprint: &Fingerprint) -> Option<&RelayAggregate> {
        let index = self
            .relays
            .binary_search_by_key(fingerprint, |relay| relay.fingerprint)
            .ok()?;
        self.relays.get(index)
    }

    /// Those of the snapshot's relays.
    pub fn in_consensus(&self) -> impl Iterator<Item = &RelayAggregate> {
        self.relays.iter().filter(|relay| relay.in_consensus)
    }
}

/// The outcomes and the directory's facts of one relay, put together.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RelayAggregate {
    /// RSA identity.
    pub fingerprint: Fingerprint,
    /// True if the snapshot has it.
    pub in_consensus: bool,
    /// Nickname in the snapshot.
    pub nickname: String,
    /// Ed25519 identity in the snapshot.
    pub ed25519: Option<Ed25519Identity>,
    /// Flags in the snapshot.
    pub flags: RelayFlags,
    /// Weight in the snapshot.
    pub consensus_weight: Option<KilobytesPerSecond>,
    /// True if the snapshot calls it unmeasured.
    pub unmeasured: Option<bool>,
    /// Rate, burst and observed bandwidth: those of the snapshot or, where it
    /// has none, of the newest measurement that knew them.
    pub descriptor: Option<DescriptorFacts>,
    /// Mean of the observed bandwidths at its measurements.
    pub observed_mean: Option<BytesPerSecond>,
    /// The result of the attempts.
    pub counts: Counts,
    /// End of the first measurement that counts.
    pub first_measured: Option<UnixMillis>,
    /// End of the last measurement that counts.
    pub last_measured: Option<UnixMillis>,
    /// End of the last outcome of any kind.
    pub last_outcome: Option<UnixMillis>,
    /// The highest rate that is believed of it.
    pub rate_limit: RateLimit,
    /// The rates that count, ascending, in bytes per second.
    pub rates: Vec<f64>,
    /// Their statistics; `None` if there are none.
    pub statistics: Option<Statistics>,
    /// The highest lower bound that is not too old.
    pub lower_bound: Option<LowerBound>,
    /// The rate that its measurements prove together.
    pub proven: Option<Proven>,
    /// The part that counts of that, if others share its machine.
    pub machine: Option<MachineShare>,
    /// The ends of the measurements that prove it, ascending.
    #[serde(skip)]
    pub times: Vec<UnixMillis>,
    /// Ok if it can be given a weight, or the reason why not.
    pub verdict: Result<(), Reason>,
}

impl RelayAggregate {
    /// Returns whether all that is known of its rate is a lower bound: it can
    /// be given a weight, but its rate is no part of the network's means.
    pub const fn is_censored(&self) -> bool {
        self.can_be_weighed() && self.statistics.is_none()
    }

    /// Returns whether it can be given a weight by a method that asks for no
    /// descriptor.
    pub const fn can_be_weighed(&self) -> bool {
        matches!(self.verdict, Ok(()) | Err(Reason::NoDescriptor))
    }
}

/// The result of the attempts at one relay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Counts {
    /// Accepted measurements, used or not.
    pub measured: u64,
    /// Measurements that are lower bounds.
    pub lower_bounds: u64,
    /// Measurements that give no rate, so that the relay was measured again.
    pub remeasured: u64,
    /// Failures that are charged to the relay.
    pub failed: u64,
    /// Failures that are somebody else's fault.
    pub excused: u64,
    /// Failures by stage and kind, in the order of stages.
    pub failures: Vec<((Stage, FailureKind), u64)>,
    /// Outcomes, of any kind, left out because they are dated ahead of the
    /// clock; no other count has them.
    pub ahead: u64,
    /// Measurements left out because all of them are too close to each other.
    pub too_close: u64,
    /// Measurements left out because they are too old.
    pub too_old: u64,
    /// Measurements left out because they are too few.
    pub too_few: u64,
    /// Rates left out because they cannot be believed.
    pub implausible_rates: u64,
}

impl Counts {
    /// Attempts that tell something of the relay: all but the excused ones.
    pub const fn attempts(&self) -> u64 {
        self.measured + self.lower_bounds + self.remeasured + self.failed
    }

    /// Failures while building the circuit.
    pub fn circuit_failures(&self) -> u64 {
        self.failures_where(|stage, kind| {
            kind != FailureKind::Local
                && matches!(stage, Stage::Channel | Stage::Create | Stage::Extend)
        })
    }

    /// Share of attempts that failed while the circuit was built, 0 to 1.
    pub fn circuit_failure_rate(&self) -> f64 {
        match self.attempts() {
            0 => 0.0,
            attempts => self.circuit_failures() as f64 / attempts as f64,
        }
    }

    /// Failures that `select` selects.
    pub fn failures_where(&self, select: impl Fn(Stage, FailureKind) -> bool) -> u64 {
        let selected = self
            .failures
            .iter()
            .filter(|&&((stage, kind), _)| select(stage, kind));
        selected.map(|(_, count)| count).sum()
    }
}
