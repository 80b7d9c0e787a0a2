//! The weights that files give to relays: one file's, and those of several.

use std::collections::BTreeMap;

use crate::compare::float;
use crate::document::Document;
use crate::identity::Fingerprint;
use crate::units::KilobytesPerSecond;

/// The weights of a file by relay. Of several lines of a relay, the last that tor
/// would use counts; lines without fingerprint or bandwidth do not.
///
/// ```
/// use bw_file::{Document, Weights};
///
/// let weights = Weights::of(&Document::parse(
///     b"1700000000\nbw=300 node_id=$0000000000000000000000000000000000000000\n\
///       bw=100 node_id=$ABABABABABABABABABABABABABABABABABABABAB\n",
/// ));
/// assert_eq!((weights.relays(), weights.total().value()), (2, 400));
/// let standing = weights.standing(&"AB".repeat(20).parse()?).ok_or("no vote")?;
/// assert_eq!((standing.place, standing.of), (2, 2));
/// assert_eq!(standing.share, 0.25);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weights {
    relays: BTreeMap<Fingerprint, KilobytesPerSecond>,
    /// From the smallest.
    sorted: Vec<KilobytesPerSecond>,
    total: KilobytesPerSecond,
}

/// Where a relay stands among those that a file votes for.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Standing {
    /// Its weight.
    pub weight: KilobytesPerSecond,
    /// Its place, from 1 for the largest weight; equal ones share a place.
    pub place: usize,
    /// The number of relays with a vote in the file.
    pub of: usize,
    /// Its part of all weights, 0 to 1; 0 if they are all zero.
    pub share: f64,
}

impl Weights {
    /// The weights of a file.
    pub fn of(document: &Document<'_>) -> Self {
        let voted = document
            .relays()
            .filter(super::relay::RelayLineRef::is_voted);
        voted
            .filter_map(|relay| Some((relay.fingerprint()?, relay.bandwidth()?)))
            .collect()
    }

    /// The number of relays.
    pub fn relays(&self) -> usize {
        self.relays.len()
    }

    /// A relay's weight.
    pub fn get(&self, relay: &Fingerprint) -> Option<KilobytesPerSecond> {
        self.relays.get(relay).copied()
    }

    /// The relays with their weights, by fingerprint.
    pub fn iter(&self) -> impl Iterator<Item = (Fingerprint, KilobytesPerSecond)> {
        self.relays.iter().map(|(relay, weight)| (*relay, *weight))
    }

    /// The sum of all weights.
    pub const fn total(&self) -> KilobytesPerSecond {
        self.total
    }

    /// The weight that half of the relays do not exceed, as tor takes it of
    /// votes: of two in the middle the lower.
    pub fn median(&self) -> Option<KilobytesPerSecond> {
        median(&self.sorted)
    }

    /// The largest weight.
    pub fn largest(&self) -> Option<KilobytesPerSecond> {
        self.sorted.last().copied()
    }

    /// Where a relay stands; `None` if the file does not vote for it.
    pub fn standing(&self, relay: &Fingerprint) -> Option<Standing> {
        let weight = self.get(relay)?;
        let total = self.total().value();
        Some(Standing {
            weight,
            place: 1 + self.sorted.len() - self.sorted.partition_point(|&other| other <= weight),
            of: self.sorted.len(),
            share: if total > 0 {
                float(weight.value()) / float(total)
            } else {
                0.0
            },
        })
    }

    /// Each relay that some of several files votes for, by fingerprint.
    ///
    /// ```
    /// # use bw_file::{Document, Weights};
    /// let file = |bw: u64| format!("1700000000\nbw={bw} node_id=${}\n", "AB".repeat(20));
    /// let weights = [100, 120, 900].map(|bw| Weights::of(&Document::parse(file(bw).as_bytes())));
    /// let relay = &Weights::across(&weights)[0];
    /// assert_eq!(relay.median.value(), 120);
    /// assert_eq!(relay.factors(), [Some(100.0 / 120.0), Some(1.0), Some(7.5)]);
    /// assert_eq!(relay.spread(), 7.5);
    /// ```
    pub fn across(files: &[Self]) -> Vec<RelayAcross> {
        let mut relays: Vec<Fingerprint> = files
            .iter()
            .flat_map(|file| file.relays.keys().copied())
            .collect();
        relays.sort_unstable();
        relays.dedup();
        let across = |relay: Fingerprint| {
            let weights: Vec<_> = files.iter().map(|file| file.get(&relay)).collect();
            let mut known: Vec<_> = weights.iter().copied().flatten().collect();
            known.sort_unstable();
            RelayAcross {
                relay,
                median: median(&known).unwrap_or_default(),
                weights,
            }
        };
        relays.into_iter().map(across).collect()
    }
}

/// Weights from elsewhere, such as `Measured=` of a vote
/// ([`VoteLines::measured`](crate::VoteLines)); of a relay's the last counts.
impl FromIterator<(Fingerprint, KilobytesPerSecond)> for Weights {
    fn from_iter<I: IntoIterator<Item = (Fingerprint, KilobytesPerSecond)>>(weights: I) -> Self {
        let relays: BTreeMap<_, _> = weights.into_iter().collect();
        let mut sorted: Vec<_> = relays.values().copied().collect();
        sorted.sort_unstable();
        Self {
            total: sorted.iter().sum(),
            relays,
            sorted,
        }
    }
}

fn median(sorted: &[KilobytesPerSecond]) -> Option<KilobytesPerSecond> {
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

/// A relay in several files.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RelayAcross {
    /// The relay.
    pub relay: Fingerprint,
    /// Its weight in each file; `None` where the file does not vote for it.
    pub weights: Vec<Option<KilobytesPerSecond>>,
    /// The median of these, of two in the middle the lower: what the
    /// consensus makes of as many votes.
    pub median: KilobytesPerSecond,
}

impl RelayAcross {
    /// Each file's weight as a multiple of the median; `None` without a
    /// weight, or if the median is zero.
    pub fn factors(&self) -> Vec<Option<f64>> {
        let median = self.median.value();
        let factor = |weight: KilobytesPerSecond| float(weight.value()) / float(median);
        self.weights
            .iter()
            .map(|weight| weight.filter(|_| median > 0).map(factor))
            .collect()
    }

    /// The distance of the farthest file from the median, as a factor of at least 1.
    pub fn spread(&self) -> f64 {
        self.factors()
            .into_iter()
            .flatten()
            .map(|factor| {
                if factor > 0.0 {
                    factor.max(1.0 / factor)
                } else {
                    f64::INFINITY
                }
            })
            .fold(1.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(relays: &[(u8, u64, &str)]) -> Weights {
        let mut text = "1700000000\n=====\n".to_owned();
        for (relay, bw, more) in relays {
            let relay = Fingerprint::from_bytes([*relay; 20]);
            text += &format!("bw={bw} node_id=${relay} {more}\n");
        }
        Weights::of(&Document::parse(text.as_bytes()))
    }

    #[test]
    fn a_relay_counts_once_by_its_last_vote() {
        let weights = weights(&[(1, 5, ""), (1, 7, ""), (1, 9, "vote=0"), (2, 1, "vote=0")]);
        assert_eq!(weights.relays(), 1);
        assert_eq!(weights.total().value(), 7);
        assert_eq!(weights.standing(&Fingerprint::from_bytes([2; 20])), None);
    }

    #[test]
    fn equal_relays_share_a_place() {
        let weights = weights(&[(1, 5, ""), (2, 9, ""), (3, 5, ""), (4, 1, "")]);
        let place = |byte| {
            weights
                .standing(&Fingerprint::from_bytes([byte; 20]))
                .unwrap()
                .place
        };
        assert_eq!([1, 2, 3, 4].map(place), [2, 1, 2, 4]);
        assert_eq!(weights.median().unwrap().value(), 5);
        assert_eq!(Weights::default().median(), None);
    }

    #[test]
    fn files_may_lack_relays() {
        let files = [weights(&[(1, 10, "")]), weights(&[(1, 30, ""), (2, 0, "")])];
        let across = Weights::across(&files);
        assert_eq!(across.len(), 2);
        assert_eq!((across[0].median.value(), across[0].spread()), (10, 3.0));
        assert_eq!(across[1].factors(), [None, None]);
        assert_eq!(across[1].spread(), 1.0);
    }
}
