//! Two files side by side.

use std::collections::BTreeMap;

use crate::document::Document;
use crate::identity::Fingerprint;
use crate::relay::RelayLineRef;
use crate::units::KilobytesPerSecond;

/// What a relay has in two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RelayChange {
    /// The relay.
    pub relay: Fingerprint,
    /// Its bandwidth in the first file; `None` if it has none there.
    pub before: Option<KilobytesPerSecond>,
    /// Its bandwidth in the second file; `None` if it has none there.
    pub after: Option<KilobytesPerSecond>,
    /// Whether authorities are to use its line in the first file.
    pub voted_before: bool,
    /// Whether authorities are to use its line in the second file.
    pub voted_after: bool,
}

/// What a header says in two files.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct HeaderChange {
    /// Its key, `timestamp` for the first line.
    pub key: String,
    /// Its value in the first file, bytes outside UTF-8 replaced.
    pub before: Option<String>,
    /// Its value in the second file, bytes outside UTF-8 replaced.
    pub after: Option<String>,
}

/// How two files differ.
///
/// Relays are matched by fingerprint; where a relay comes twice, its last
/// line counts. Lines without a fingerprint are not compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Diff {
    /// Headers that differ, by key.
    pub headers: Vec<HeaderChange>,
    /// Relays of the second file only, by fingerprint.
    pub gained: Vec<RelayChange>,
    /// Relays of the first file only, by fingerprint.
    pub lost: Vec<RelayChange>,
    /// Relays whose bandwidth or `vote` differs, by fingerprint.
    pub changed: Vec<RelayChange>,
}

impl Diff {
    /// Compares two documents.
    pub fn between(before: &Document<'_>, after: &Document<'_>) -> Self {
        let mut diff = Self {
            headers: header_changes(before, after),
            ..Self::default()
        };
        for change in join(before, after) {
            match (change.before_there, change.after_there) {
                (true, false) => diff.lost.push(change.relay),
                (false, true) => diff.gained.push(change.relay),
                _ if change.relay.before != change.relay.after
                    || change.relay.voted_before != change.relay.voted_after =>
                {
                    diff.changed.push(change.relay);
                }
                _ => {}
            }
        }
        diff
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty()
            && self.gained.is_empty()
            && self.lost.is_empty()
            && self.changed.is_empty()
    }
}

struct Joined {
    relay: RelayChange,
    before_there: bool,
    after_there: bool,
}

/// All relays of two documents, by fingerprint.
fn join(before: &Document<'_>, after: &Document<'_>) -> Vec<Joined> {
    type Side<'a> = Option<RelayLineRef<'a>>;
    let mut relays: BTreeMap<Fingerprint, (Side<'_>, Side<'_>)> = BTreeMap::new();
    for line in before.relays() {
        if let Some(fingerprint) = line.fingerprint() {
            relays.entry(fingerprint).or_default().0 = Some(line);
        }
    }
    for line in after.relays() {
        if let Some(fingerprint) = line.fingerprint() {
            relays.entry(fingerprint).or_default().1 = Some(line);
        }
    }
    let bandwidth = |side: Side<'_>| side.and_then(|line| line.bandwidth());
    let voted = |side: Side<'_>| side.is_some_and(|line| line.is_voted());
    relays
        .into_iter()
        .map(|(relay, (old, new))| Joined {
            relay: RelayChange {
                relay,
                before: bandwidth(old),
                after: bandwidth(new),
                voted_before: voted(old),
                voted_after: voted(new),
            },
            before_there: old.is_some(),
            after_there: new.is_some(),
        })
        .collect()
}

fn header_changes(before: &Document<'_>, after: &Document<'_>) -> Vec<HeaderChange> {
    let headers = |document: &Document<'_>| -> BTreeMap<String, String> {
        let timestamp = document
            .timestamp()
            .value()
            .map(|time| ("timestamp".to_owned(), time.to_string()));
        document
            .headers()
            .map(|header| {
                (
                    String::from_utf8_lossy(header.key()).into_owned(),
                    String::from_utf8_lossy(header.value()).into_owned(),
                )
            })
            .chain(timestamp)
            .collect()
    };
    let (mut old, new) = (headers(before), headers(after));
    let mut changes = Vec::new();
    for (key, after) in new {
        let before = old.remove(&key);
        if before.as_ref() != Some(&after) {
            changes.push(HeaderChange {
                key,
                before,
                after: Some(after),
            });
        }
    }
    changes.extend(old.into_iter().map(|(key, before)| HeaderChange {
        key,
        before: Some(before),
        after: None,
    }));
    changes.sort_by(|a, b| a.key.cmp(&b.key));
    changes
}

/// How two files differ as measurements of a network: voted lines only.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct NetworkComparison {
    /// Relays that both files vote for.
    pub common: usize,
    /// Sum of the bandwidths that the first file votes for.
    pub total_before: KilobytesPerSecond,
    /// Sum of the bandwidths that the second file votes for.
    pub total_after: KilobytesPerSecond,
    /// Spearman's rank correlation over the common relays, −1 to 1; `None`
    /// with fewer than two relays, or if all of a file's are equal.
    pub rank_correlation: Option<f64>,
    /// Half the sum of the differences of the relays' shares of their file's
    /// total, 0 (equal) to 1; a relay that a file lacks has no share in it.
    /// `None` if a total is zero.
    pub total_variation: Option<f64>,
}

impl NetworkComparison {
    /// Compares two documents.
    pub fn between(before: &Document<'_>, after: &Document<'_>) -> Self {
        let pairs: Vec<(Option<u64>, Option<u64>)> = join(before, after)
            .into_iter()
            .map(|joined| {
                let relay = joined.relay;
                (
                    relay
                        .before
                        .filter(|_| relay.voted_before)
                        .map(|bw| bw.value()),
                    relay
                        .after
                        .filter(|_| relay.voted_after)
                        .map(|bw| bw.value()),
                )
            })
            .collect();
        let sum = |values: &mut dyn Iterator<Item = Option<u64>>| {
            values.flatten().fold(0, u64::saturating_add)
        };
        let total_before = sum(&mut pairs.iter().map(|pair| pair.0));
        let total_after = sum(&mut pairs.iter().map(|pair| pair.1));
        let common: Vec<(u64, u64)> = pairs
            .iter()
            .filter_map(|&(old, new)| Some((old?, new?)))
            .collect();
        let share = |value: Option<u64>, total: u64| float(value.unwrap_or(0)) / float(total);
        let total_variation = (total_before > 0 && total_after > 0).then(|| {
            pairs
                .iter()
                .map(|&(old, new)| (share(old, total_before) - share(new, total_after)).abs())
                .sum::<f64>()
                / 2.0
        });
        Self {
            common: common.len(),
            total_before: KilobytesPerSecond::new(total_before),
            total_after: KilobytesPerSecond::new(total_after),
            rank_correlation: rank_correlation(&common),
            total_variation,
        }
    }
}

#[expect(
    clippy::as_conversions,
    reason = "the nearest float is what statistics want"
)]
fn float(value: u64) -> f64 {
    value as f64
}

fn rank_correlation(pairs: &[(u64, u64)]) -> Option<f64> {
    let left = ranks(&pairs.iter().map(|pair| pair.0).collect::<Vec<_>>());
    let right = ranks(&pairs.iter().map(|pair| pair.1).collect::<Vec<_>>());
    let mean = float(crate::error::wide(pairs.len()).saturating_add(1)) / 2.0;
    let (mut product, mut left_square, mut right_square) = (0.0, 0.0, 0.0);
    for (l, r) in left.iter().zip(&right) {
        product += (l - mean) * (r - mean);
        left_square += (l - mean).powi(2);
        right_square += (r - mean).powi(2);
    }
    (left_square > 0.0 && right_square > 0.0).then(|| product / (left_square * right_square).sqrt())
}

/// The rank of each value, from 1; equal ones share the mean of their ranks.
fn ranks(values: &[u64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by_key(|&index| values[index]);
    let mut ranks = vec![0.0; values.len()];
    let mut done = 0;
    for group in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let first = crate::error::wide(done);
        let last = first + crate::error::wide(group.len());
        for &index in group {
            ranks[index] = float(first + 1 + last) / 2.0;
        }
        done += group.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(relays: &[(u8, u64)]) -> String {
        let mut text = "1700000000\nsoftware=x\n=====\n".to_owned();
        for (relay, bw) in relays {
            text += &format!(
                "bw={bw} node_id=${}\n",
                Fingerprint::from_bytes([*relay; 20])
            );
        }
        text
    }

    #[test]
    fn gained_lost_and_changed() {
        let (a, b) = (
            file(&[(1, 10), (2, 20), (3, 30)]),
            file(&[(2, 25), (3, 30), (4, 1)]),
        );
        let b = b.replace("software=x", "mu=5");
        let diff = Diff::between(
            &Document::parse(a.as_bytes()),
            &Document::parse(b.as_bytes()),
        );
        let first = |list: &[RelayChange]| {
            assert_eq!(list.len(), 1);
            list[0].relay.as_bytes()[0]
        };
        assert_eq!(
            (first(&diff.gained), first(&diff.lost), first(&diff.changed)),
            (4, 1, 2)
        );
        let keys: Vec<_> = diff.headers.iter().map(|h| h.key.as_str()).collect();
        assert_eq!(keys, ["mu", "software"]);
        assert!(
            Diff::between(
                &Document::parse(a.as_bytes()),
                &Document::parse(a.as_bytes())
            )
            .is_empty()
        );
    }

    #[test]
    fn networks() {
        let compare = |a: &[(u8, u64)], b: &[(u8, u64)]| {
            NetworkComparison::between(
                &Document::parse(file(a).as_bytes()),
                &Document::parse(file(b).as_bytes()),
            )
        };
        let same = compare(&[(1, 10), (2, 20)], &[(1, 100), (2, 200)]);
        assert_eq!(
            (same.rank_correlation, same.total_variation),
            (Some(1.0), Some(0.0))
        );
        let apart = compare(&[(1, 10)], &[(2, 10)]);
        assert_eq!((apart.common, apart.total_variation), (0, Some(1.0)));
        let turned = compare(&[(1, 1), (2, 2), (3, 3)], &[(1, 3), (2, 2), (3, 1)]);
        assert_eq!(turned.rank_correlation, Some(-1.0));
        assert_eq!(ranks(&[5, 1, 5, 9]), [2.5, 1.0, 2.5, 4.0]);
    }
}
