//! Relays that share a machine share what it showed.

use std::collections::HashMap;
use std::time::Duration;

use bw_file::Fingerprint;
use bw_results::{Machines, NetworkSnapshot, UnixMillis};
use serde::Serialize;

use crate::aggregate::RelayAggregate;
use crate::statistics::sorted;

/// The time before a machine's newest joint measurement in which others count, as for what a
/// relay has proven.
const WINDOW: Duration = Duration::from_secs(7 * 86_400);

/// Relays that carry this share of their sum together have lines of their own. It is
/// what clients may have taken meanwhile, 1 − [`Bound::SHARE`](crate::Bound::SHARE): so
/// relays on one machine get no more than 1.33 of it.
const APART: f64 = 0.75;

/// The part that counts of the rates that relays on one [machine](Machines) have proven one after
/// the other.
///
/// A joint measurement is a record of each member, all at the same time, with the verdict that the
/// target bounded it. If members carry three quarters of their sum together, they
/// have lines of their own, and all of it counts; if less, what they carried together. Members
/// that were never measured together count as much as the fastest of them: no
/// more is shown. In a network where nobody measures machines, all of it counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct MachineShare {
    /// The number of relays on the machine that have proven a rate.
    pub relays: u64,
    /// The sum of what each of them has proven, in bytes per second.
    pub alone: f64,
    /// The rate that they carried together, in bytes per second: the second best of two joint
    /// measurements or more.
    pub together: Option<f64>,
    /// The share of what each has proven that counts, up to 1.
    pub share: f64,
}

/// A relay's part in a joint measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Part {
    pub(crate) started: UnixMillis,
    pub(crate) ended: UnixMillis,
    pub(crate) rate: f64,
}

/// The parts of all relays in joint measurements.
pub(crate) type Parts = HashMap<Fingerprint, Vec<Part>>;

/// Gives each relay that shares a machine its share; `relays` are sorted by fingerprint.
pub(crate) fn share_machines(
    relays: &mut [RelayAggregate],
    parts: &Parts,
    network: &NetworkSnapshot,
) {
    for group in Machines::of(network).groups() {
        let place = |relay| relays.binary_search_by_key(relay, |one| one.fingerprint);
        let places = group.iter().filter_map(|relay| place(relay).ok());
        let proven = |place: &usize| relays[*place].proven.map(|proven| proven.rate);
        let members: Vec<(usize, f64)> = places.filter_map(|p| Some((p, proven(&p)?))).collect();
        if members.len() < 2 {
            continue;
        }
        // In the order of fingerprints: the same sum whatever the input's order.
        let alone: f64 = members.iter().map(|(_, rate)| rate).sum();
        let most = members.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
        let names = members.iter().map(|(place, _)| relays[*place].fingerprint);
        let together = carried(&names.collect::<Vec<_>>(), parts);
        let counts = match together {
            Some(together) if together >= APART * alone => alone,
            Some(together) => together.max(most),
            None if parts.is_empty() => alone,
            None => most,
        };
        let machine = MachineShare {
            relays: members.len() as u64,
            alone,
            together,
            share: if alone > 0.0 { counts / alone } else { 1.0 },
        };
        for (place, _) in members {
            relays[place].machine = Some(machine);
        }
    }
}

/// The second best sum of all members' rates at one time, or the only one.
fn carried(members: &[Fingerprint], parts: &Parts) -> Option<f64> {
    let of_member = |(index, relay)| {
        let parts = parts.get(relay).into_iter().flatten();
        parts.map(move |part: &Part| (part.started, part.ended, index, part.rate))
    };
    let all: Vec<_> = members.iter().enumerate().flat_map(of_member).collect();
    let newest = all.iter().map(|(_, ended, ..)| *ended).max()?;
    let mut all: Vec<_> = all
        .into_iter()
        .filter(|(_, ended, ..)| newest.since(*ended) <= WINDOW)
        .collect();
    all.sort_unstable_by(|one, other| {
        (one.0, one.1, one.2)
            .cmp(&(other.0, other.1, other.2))
            .then(one.3.total_cmp(&other.3))
    });
    let mut sums = Vec::new();
    let mut rest = &all[..];
    while let Some(&(_, first_end, ..)) = rest.first() {
        // All that have begun before any of them ended.
        let (mut count, mut end) = (0, first_end);
        while let Some(&(started, ended, ..)) = rest.get(count).filter(|one| one.0 <= end) {
            debug_assert!(started <= end);
            (count, end) = (count + 1, end.min(ended));
        }
        let (event, later) = rest.split_at(count.max(1));
        let mut rates = vec![None; members.len()];
        for &(.., index, rate) in event {
            rates[index] = Some(rate);
        }
        let rates: Option<Vec<f64>> = rates.into_iter().collect();
        sums.extend(rates.map(|rates| rates.into_iter().sum::<f64>()));
        rest = later;
    }
    let sums = sorted(sums);
    sums.iter()
        .rev()
        .nth(sums.len().min(2).checked_sub(1)?)
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> Fingerprint {
        Fingerprint::from_bytes([number; 20])
    }

    fn parts(parts: &[(u8, u64, f64)]) -> Parts {
        let mut all = Parts::new();
        for &(relay, second, rate) in parts {
            all.entry(id(relay)).or_default().push(Part {
                started: UnixMillis::from_secs(1_790_000_000 + second),
                ended: UnixMillis::from_secs(1_790_000_005 + second),
                rate,
            });
        }
        all
    }

    #[test]
    fn what_all_members_carried_at_one_time_is_what_they_carry_together() {
        let two = [id(1), id(2)];
        for (given, expected) in [
            (&[][..], None),
            (&[(1, 0, 5.0)], None),
            // One after the other.
            (&[(1, 0, 5.0), (2, 9, 5.0)], None),
            (&[(1, 0, 5.0), (2, 1, 4.0)], Some(9.0)),
            // The second best of several; one without a member is none.
            (
                &[
                    (1, 0, 5.0),
                    (2, 1, 4.0),
                    (2, 50, 90.0),
                    (1, 100, 6.0),
                    (2, 102, 5.0),
                ],
                Some(9.0),
            ),
            (
                &[
                    (1, 0, 1.0),
                    (2, 0, 1.0),
                    (1, 100, 2.0),
                    (2, 100, 2.0),
                    (1, 200, 3.0),
                    (2, 200, 3.0),
                ],
                Some(4.0),
            ),
            // What is older than a week is forgotten.
            (
                &[
                    (1, 0, 9.0),
                    (2, 0, 9.0),
                    (1, 700_000, 2.0),
                    (2, 700_000, 2.0),
                ],
                Some(4.0),
            ),
        ] {
            assert_eq!(carried(&two, &parts(given)), expected, "{given:?}");
            let mut turned = given.to_vec();
            turned.reverse();
            assert_eq!(carried(&two, &parts(&turned)), expected);
        }
    }
}
