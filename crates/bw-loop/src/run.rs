//! The loop: day after day.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, available_parallelism};

use bw_results::{Blame, Machines, NetworkSnapshot, OutcomeSummary, Verdict};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;

use crate::authority::{Authority, median, result};
use crate::probe::{accepted, shown};
use crate::setting::Setting;
use crate::world::World;

/// The bytes that a flood counts, over what was carried.
const FLOOD: f64 = 10.0;

/// Circuits of clients that are looked at each day.
const CIRCUITS: usize = 4_000;

/// The end of one day.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Day {
    /// From 0 on.
    pub day: u32,
    /// ½ Σ |share of the weights − share of the true capacities|, attackers left out.
    pub nwe: f64,
    /// ½ Σ |share of the weights − that of the day before|.
    pub swing: f64,
    /// The median of |weight over truth / its median − 1| of honest relays.
    pub error: f64,
    /// The median rate of clients' circuits, in bytes per second.
    pub median_rate: f64,
    /// The rate that 95 % of them exceed.
    pub slow_rate: f64,
    /// The attackers' share of the weights over that of the true capacities.
    pub gain: Option<f64>,
    /// The median of what newcomers have of their share.
    pub newcomers: Option<f64>,
}

/// The result of a run: means over its last quarter, unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Run {
    /// The method's name.
    pub method: &'static str,
    /// The attack's name.
    pub attack: String,
    /// The demand of clients, as a share of what all relays can carry.
    pub utilisation: f64,
    /// Network weight error of the honest relays.
    pub nwe: f64,
    /// Swing from day to day.
    pub swing: f64,
    /// The median error of honest relays.
    pub error: f64,
    /// The median rate of clients' circuits, in bytes per second.
    pub median_rate: f64,
    /// The rate that 95 % of them exceed.
    pub slow_rate: f64,
    /// The median rate that circuits would have if weights were the true capacities.
    pub ideal_median_rate: f64,
    /// The rate that 95 % of them would exceed.
    pub ideal_slow_rate: f64,
    /// The attackers' gain.
    pub gain: Option<f64>,
    /// Days until the median newcomer had 90 % of its share; none if it never had.
    pub newcomer_days: Option<u32>,
    /// Every day.
    pub days: Vec<Day>,
}

/// Runs the loop; tells after each day how many are over.
pub fn run(setting: &Setting, progress: impl Fn(u32)) -> Run {
    let mut world = World::new(setting, StdRng::seed_from_u64(setting.seed));
    let authority = || Authority::new(setting.scaling.clone());
    let mut authorities: Vec<Authority> = (0..setting.scanners).map(|_| authority()).collect();
    let mut shares = shares(&world, 0);
    let mut days = Vec::with_capacity(setting.days as usize);
    for day in 0..setting.days {
        let before = std::mem::take(&mut shares);
        advance(setting, &mut world, &mut authorities, day);
        shares = self::shares(&world, day);
        days.push(look(&mut world, day, &shares, &before));
        progress(day + 1);
    }
    let ideal = world.ideal_rates(setting.days, CIRCUITS);
    summary(setting, days, &ideal)
}

/// Runs several loops side by side, one per processor, and returns what they came
/// to in the order of the settings; tells whenever a day of any of them is over.
pub fn run_all(settings: &[Setting], progress: impl Fn() + Sync) -> Vec<Run> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut found = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(setting) = settings.get(index) else {
                return found;
            };
            found.push((index, run(setting, |_| progress())));
        }
    };
    let workers = available_parallelism().map_or(1, NonZero::get);
    let mut found: Vec<(usize, Run)> = thread::scope(|threads| {
        let workers: Vec<_> = (0..workers.min(settings.len()))
            .map(|_| threads.spawn(work))
            .collect();
        let results = workers.into_iter().map(|worker| match worker.join() {
            Ok(found) => found,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        results.flatten().collect()
    });
    found.sort_unstable_by_key(|(index, _)| *index);
    found.into_iter().map(|(_, run)| run).collect()
}

/// One day: clients, measurements, votes, and the next consensus.
fn advance(setting: &Setting, world: &mut World, authorities: &mut [Authority], day: u32) {
    world.route(day);
    let network = world.snapshot(day);
    let present: Vec<usize> = world.present(day).map(|(index, _)| index).collect();
    let mut most = vec![0.0_f64; world.nodes.len()];
    let machines = Machines::of(&network);
    for authority in &mut *authorities {
        let (mut results, mut rates) = (Vec::new(), Vec::new());
        for (place, &index) in present.iter().enumerate() {
            let relay = network.relays[place].fingerprint;
            let part = world.rng.random_range(0.0..1.0);
            if world.fails(index, part) {
                continue;
            }
            let available = world.available(index, part);
            let hostile = hostile(setting, world, index);
            let mut rate = accepted(available, hostile, authority.last(&relay), &mut world.rng);
            most[index] = most[index].max(rate);
            rates.push((relay, rate));
            if world.nodes[index].attacks && world.rng.random_bool(setting.attack.floods()) {
                rate *= FLOOD;
            }
            let at = (day, part);
            results.push(record(world, &network, place, at, rate, Verdict::Accepted));
        }
        if setting.together {
            results.extend(together(
                setting,
                world,
                (&network, &machines),
                &present,
                day,
            ));
        }
        authority.add(results, rates);
    }
    world.observe(day, &most);
    let votes = authorities
        .iter_mut()
        .map(|authority| authority.vote(&network));
    let consensus = median(&votes.collect::<Vec<_>>());
    let mut weights = vec![None; world.nodes.len()];
    for (&index, weight) in present.iter().zip(consensus) {
        weights[index] = weight;
    }
    world.publish(&weights);
}

/// The share of helpers that slow a relay: they spare the attackers.
fn hostile(setting: &Setting, world: &World, index: usize) -> f64 {
    if world.nodes[index].attacks {
        return 0.0;
    }
    setting.attack.hostile_helpers()
}

/// The record of the relay at this place of the network, through some helper.
fn record(
    world: &mut World,
    network: &NetworkSnapshot,
    place: usize,
    (day, part): (u32, f64),
    rate: f64,
    verdict: Verdict,
) -> OutcomeSummary {
    let helper = world.rng.random_range(0..network.relays.len());
    let helper = network.relays[helper].fingerprint;
    let time = world.time(day, part);
    result(&network.relays[place], helper, time, rate, verdict)
}

/// Records of joint measurements: all relays that may share a machine at one time.
fn together(
    setting: &Setting,
    world: &mut World,
    (network, machines): (&NetworkSnapshot, &Machines),
    present: &[usize],
    day: u32,
) -> Vec<OutcomeSummary> {
    let mut results = Vec::new();
    for group in machines.groups() {
        let at = (day, world.rng.random_range(0.0..1.0));
        for relay in group {
            let place = |facts: &bw_results::RelayFacts| facts.fingerprint.cmp(relay);
            let Ok(place) = network.relays.binary_search_by(place) else {
                continue;
            };
            let index = present[place];
            let available = world.part(index, at.1);
            let rate = shown(available, hostile(setting, world, index), &mut world.rng);
            let verdict = Verdict::LowerBound(Blame::Target);
            results.push(record(world, network, place, at, rate, verdict));
        }
    }
    results
}

/// Each relay's share of the weights; 0 of those that are not there.
fn shares(world: &World, day: u32) -> Vec<f64> {
    let mut shares = vec![0.0; world.nodes.len()];
    for (index, node) in world.present(day) {
        shares[index] = node.facts.consensus_weight.value() as f64;
    }
    let sum: f64 = shares.iter().sum();
    for share in &mut shares {
        *share /= sum.max(1.0);
    }
    shares
}

fn look(world: &mut World, day: u32, shares: &[f64], before: &[f64]) -> Day {
    let rates = world.client_rates(day, CIRCUITS);
    let (mut honest, mut capacity, mut all, mut attackers) = (0.0, 0.0, 0.0, (0.0, 0.0));
    for (index, node) in world.present(day) {
        all += node.capacity;
        if node.attacks {
            attackers = (attackers.0 + shares[index], attackers.1 + node.capacity);
        } else {
            (honest, capacity) = (honest + shares[index], capacity + node.capacity);
        }
    }
    let (mut nwe, mut ratios, mut newcomers) = (0.0, Vec::new(), Vec::new());
    for (index, node) in world.present(day) {
        if node.attacks {
            continue;
        }
        nwe += (shares[index] / honest - node.capacity / capacity).abs() / 2.0;
        ratios.push(shares[index] / honest / (node.capacity / capacity));
        if node.is_new {
            newcomers.push(shares[index] / (node.capacity / all));
        }
    }
    let swing = shares
        .iter()
        .zip(before)
        .map(|(now, then)| (now - then).abs());
    let middle = middle(&mut ratios).unwrap_or(1.0);
    let mut errors = ratios
        .iter()
        .map(|ratio| (ratio / middle - 1.0).abs())
        .collect::<Vec<_>>();
    Day {
        day,
        nwe,
        swing: swing.sum::<f64>() / 2.0,
        error: self::middle(&mut errors).unwrap_or(0.0),
        median_rate: quantile(&rates, 0.5),
        slow_rate: quantile(&rates, 0.05),
        gain: (attackers.1 > 0.0).then(|| attackers.0 / (attackers.1 / all)),
        newcomers: self::middle(&mut newcomers),
    }
}

/// The value that this share of the values, which are ascending, are below.
fn quantile(ascending: &[f64], share: f64) -> f64 {
    let index = (share * ascending.len() as f64) as usize;
    ascending.get(index).copied().unwrap_or(0.0)
}

/// The median, the upper one of two.
fn middle(values: &mut [f64]) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn summary(setting: &Setting, days: Vec<Day>, ideal: &[f64]) -> Run {
    let settled = days.iter().filter(|day| day.day >= setting.settled());
    let settled: Vec<&Day> = settled.collect();
    let mean = |value: fn(&Day) -> f64| {
        settled.iter().map(|day| value(day)).sum::<f64>() / settled.len().max(1) as f64
    };
    let joined = setting.newcomers_join();
    let arrived = days
        .iter()
        .find(|day| day.newcomers.is_some_and(|share| share >= 0.9));
    let gains: Option<Vec<f64>> = settled.iter().map(|day| day.gain).collect();
    Run {
        method: setting.scaling.method.as_str(),
        attack: setting.attack.to_string(),
        utilisation: setting.utilisation,
        nwe: mean(|day| day.nwe),
        swing: mean(|day| day.swing),
        error: mean(|day| day.error),
        median_rate: mean(|day| day.median_rate),
        slow_rate: mean(|day| day.slow_rate),
        ideal_median_rate: quantile(ideal, 0.5),
        ideal_slow_rate: quantile(ideal, 0.05),
        gain: gains.map(|gains| gains.iter().sum::<f64>() / gains.len().max(1) as f64),
        newcomer_days: arrived.map(|day| day.day + 1 - joined),
        days,
    }
}

#[cfg(test)]
mod tests {
    use bw_aggregate::Method;

    use super::*;
    use crate::{Attack, Policy};

    fn setting(method: Method) -> Setting {
        let mut setting = Setting::new(method, 200);
        setting.days = 16;
        setting
    }

    #[test]
    fn the_same_seed_gives_the_same_run() {
        let setting = setting(Method::Capacity);
        assert_eq!(run(&setting, |_| ()), run(&setting, |_| ()));
    }

    #[test]
    fn runs_come_in_the_order_of_their_settings() {
        let settings = [Method::Capacity, Method::Raw, Method::Torflow].map(|method| {
            let mut short = setting(method);
            short.days = 3;
            short
        });
        let days = AtomicUsize::new(0);
        let runs = run_all(&settings, || {
            days.fetch_add(1, Ordering::Relaxed);
        });
        let names: Vec<_> = runs.iter().map(|run| run.method).collect();
        assert_eq!(names, ["capacity", "raw", "torflow"]);
        assert_eq!((days.into_inner(), runs[2].days.len()), (9, 3));
    }

    #[test]
    fn weights_are_capacities_where_nobody_uses_the_network() {
        let mut idle = setting(Method::Capacity);
        idle.utilisation = 0.0;
        let found = run(&idle, |_| ());
        assert!(found.nwe < 0.03 && found.swing < 0.01, "{found:?}");
    }

    #[test]
    fn a_lie_pays_with_torflow_and_not_with_a_bound() {
        let gain = |method| {
            let mut lying = setting(method);
            lying.attack = Attack::new([Policy::Lie(100.0)]);
            run(&lying, |_| ()).gain.unwrap()
        };
        assert!(gain(Method::Torflow) > 2.0);
        assert!(gain(Method::Capacity) < 1.4);
    }

    #[test]
    fn relays_on_one_machine_share_what_it_carries() {
        let gain = |together| {
            let mut crowded = setting(Method::Capacity);
            crowded.attack = Attack::new([Policy::Machine(5)]);
            crowded.together = together;
            run(&crowded, |_| ()).gain.unwrap()
        };
        let (measured, not) = (gain(true), gain(false));
        assert!(measured < 1.5 && not > 5.0, "{measured} {not}");
    }

    #[test]
    fn newcomers_come_to_their_share() {
        let found = run(&setting(Method::Capacity), |_| ());
        assert!(
            found.newcomer_days.is_some_and(|days| days <= 8),
            "{found:?}"
        );
    }
}
