//! Two files side by side.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::document::{Document, timestamp_digits};
use crate::escape::escaped;
use crate::identity::{Ed25519Identity, Fingerprint};
use crate::line::LineKind;
use crate::relay::RelayLineRef;
use crate::units::KilobytesPerSecond;
use crate::value::is_nickname;

/// A relay in two files.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RelayChange {
    /// The relay: its fingerprint in the second file, or in the first if it
    /// was lost.
    pub relay: Fingerprint,
    /// Its fingerprint in the first file, where that is another one: the relay
    /// was recognised by its Ed25519 key.
    pub relay_before: Option<Fingerprint>,
    /// Its nickname in the second file, or in the first if it was lost; `None`
    /// if the line has none that is legal.
    pub nick: Option<String>,
    /// Its bandwidth in the first file; `None` if it has none there.
    pub before: Option<KilobytesPerSecond>,
    /// Its bandwidth in the second file; `None` if it has none there.
    pub after: Option<KilobytesPerSecond>,
    /// True if authorities are to use its line in the first file.
    pub voted_before: bool,
    /// True if authorities are to use its line in the second file.
    pub voted_after: bool,
    /// Other keys that differ, by name, if they were [compared](Diff::of_all_keys).
    pub keys: Vec<KeyChange>,
}

impl RelayChange {
    /// The second bandwidth as a multiple of the first; `None` without both,
    /// or if the first is zero.
    pub fn ratio(&self) -> Option<f64> {
        let (before, after) = (self.before?.value(), self.after?.value());
        (before > 0).then(|| float(after) / float(before))
    }

    /// The distance of the two bandwidths, as a factor of at least 1:
    /// infinite if a file has no vote for the relay, or a vote of zero where
    /// the other's is more.
    pub fn factor(&self) -> f64 {
        if self.voted_before != self.voted_after {
            return f64::INFINITY;
        }
        match (self.before, self.after) {
            (before, after) if before == after => 1.0,
            (Some(before), Some(after)) => {
                let (before, after) = (float(before.value()), float(after.value()));
                (before / after).max(after / before)
            }
            _ => f64::INFINITY,
        }
    }
}

/// A key, of the header or of a relay line, in two files.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct KeyChange {
    /// The key; `timestamp` for the first line of the file.
    pub key: String,
    /// Its value in the first file; bytes outside UTF-8 are `\xNN`, and a
    /// backslash is `\\`.
    pub before: Option<String>,
    /// Its value in the second file, spelt as in the first.
    pub after: Option<String>,
}

/// The differences of two files.
///
/// Relays are matched by fingerprint, and those that are left by Ed25519 key.
/// Where a relay or a key comes twice, the last counts. Lines without a
/// fingerprint are not compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Diff {
    /// Headers that differ, by key.
    pub headers: Vec<KeyChange>,
    /// Relays of the second file only, by fingerprint.
    pub gained: Vec<RelayChange>,
    /// Relays of the first file only, by fingerprint.
    pub lost: Vec<RelayChange>,
    /// Relays with a difference, by fingerprint.
    pub changed: Vec<RelayChange>,
}

impl Diff {
    /// Compares headers, and fingerprint, `bw` and `vote` of each relay: what
    /// authorities use. The other keys differ between almost any two files.
    pub fn between(before: &Document<'_>, after: &Document<'_>) -> Self {
        Self::compare(before, after, |_, _| Vec::new())
    }

    /// Compares headers and all keys of each relay.
    pub fn of_all_keys(before: &Document<'_>, after: &Document<'_>) -> Self {
        Self::compare(before, after, |old, new| {
            let (old, new) = (pairs(old), pairs(new));
            changes(&old, &new)
        })
    }

    fn compare(
        before: &Document<'_>,
        after: &Document<'_>,
        keys: impl Fn(RelayLineRef<'_>, RelayLineRef<'_>) -> Vec<KeyChange>,
    ) -> Self {
        let mut diff = Self {
            headers: changes(&headers(before), &headers(after)),
            ..Self::default()
        };
        for joined in join(before, after) {
            let mut change = joined.change();
            match (joined.before, joined.after) {
                (Some(_), None) => diff.lost.push(change),
                (None, Some(_)) => diff.gained.push(change),
                (Some(old), Some(new)) => {
                    if old.as_bytes() != new.as_bytes() {
                        change.keys = keys(old, new);
                    }
                    if change.is_one() {
                        diff.changed.push(change);
                    }
                }
                (None, None) => {}
            }
        }
        diff
    }

    /// Returns true if nothing differs.
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty()
            && self.gained.is_empty()
            && self.lost.is_empty()
            && self.changed.is_empty()
    }
}

impl RelayChange {
    fn is_one(&self) -> bool {
        self.before != self.after
            || self.voted_before != self.voted_after
            || self.relay_before.is_some()
            || !self.keys.is_empty()
    }
}

/// A relay's lines in two documents.
struct Joined<'a> {
    relay: Fingerprint,
    relay_before: Option<Fingerprint>,
    before: Option<RelayLineRef<'a>>,
    after: Option<RelayLineRef<'a>>,
}

impl Joined<'_> {
    fn change(&self) -> RelayChange {
        let bandwidth = |side: Option<RelayLineRef<'_>>| side.and_then(|line| line.bandwidth());
        let voted = |side: Option<RelayLineRef<'_>>| side.is_some_and(|line| line.is_voted());
        RelayChange {
            relay: self.relay,
            relay_before: self.relay_before,
            nick: self.after.or(self.before).and_then(nick),
            before: bandwidth(self.before),
            after: bandwidth(self.after),
            voted_before: voted(self.before),
            voted_after: voted(self.after),
            keys: Vec::new(),
        }
    }
}

fn nick(line: RelayLineRef<'_>) -> Option<String> {
    let nick = line.nick().value()?;
    is_nickname(nick.as_bytes()).then(|| nick.into_owned())
}

/// All relays of two documents, by fingerprint.
fn join<'a>(before: &'a Document<'_>, after: &'a Document<'_>) -> Vec<Joined<'a>> {
    let mut relays: BTreeMap<Fingerprint, Joined<'a>> = BTreeMap::new();
    let joined = |relay| Joined {
        relay,
        relay_before: None,
        before: None,
        after: None,
    };
    for line in before.relays() {
        if let Some(relay) = line.fingerprint() {
            relays.entry(relay).or_insert_with(|| joined(relay)).before = Some(line);
        }
    }
    for line in after.relays() {
        if let Some(relay) = line.fingerprint() {
            relays.entry(relay).or_insert_with(|| joined(relay)).after = Some(line);
        }
    }
    join_by_identity(&mut relays);
    relays.into_values().collect()
}

/// Joins the relays that were lost with those that were gained, by Ed25519 key.
fn join_by_identity(relays: &mut BTreeMap<Fingerprint, Joined<'_>>) {
    let lost: HashMap<Ed25519Identity, Fingerprint> = relays
        .values()
        .filter(|joined| joined.after.is_none())
        .filter_map(|joined| Some((joined.before?.identity()?, joined.relay)))
        .collect();
    if lost.is_empty() {
        return;
    }
    let renamed: Vec<(Fingerprint, Fingerprint)> = relays
        .values()
        .filter(|joined| joined.before.is_none())
        .filter_map(|joined| Some((*lost.get(&joined.after?.identity()?)?, joined.relay)))
        .collect();
    for (old, new) in renamed {
        // Of several with the same key, the first takes the line.
        if let Some(line) = relays.remove(&old).and_then(|joined| joined.before) {
            if let Some(joined) = relays.get_mut(&new) {
                joined.before = Some(line);
                joined.relay_before = Some(old);
            }
        }
    }
}

/// The pairs of a relay line but for those that [`RelayChange`] has anyway.
fn pairs(line: RelayLineRef<'_>) -> BTreeMap<&[u8], &[u8]> {
    line.pairs()
        .filter_map(|pair| Some((pair.key, pair.value?)))
        .filter(|(key, _)| !matches!(*key, b"bw" | b"node_id" | b"vote"))
        .collect()
}

fn headers<'a>(document: &'a Document<'_>) -> BTreeMap<&'a [u8], &'a [u8]> {
    let timestamp = document.lines().iter();
    let timestamp = timestamp.filter(|line| line.kind() == LineKind::Timestamp);
    document
        .headers()
        .map(|header| (header.key(), header.value()))
        .chain(timestamp.map(|line| (&b"timestamp"[..], timestamp_digits(line.content()))))
        .collect()
}

fn changes(old: &BTreeMap<&[u8], &[u8]>, new: &BTreeMap<&[u8], &[u8]>) -> Vec<KeyChange> {
    let text = |bytes: &[u8]| escaped(bytes).into_owned();
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    keys.into_iter()
        .map(|key| (key, old.get(key), new.get(key)))
        .filter(|(_, before, after)| before != after)
        .map(|(key, before, after)| KeyChange {
            key: text(key),
            before: before.map(|value| text(value)),
            after: after.map(|value| text(value)),
        })
        .collect()
}

/// The differences of two files as measurements of a network: voted lines only.
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
                let relay = joined.change();
                (
                    relay
                        .before
                        .filter(|_| relay.voted_before)
                        .map(KilobytesPerSecond::value),
                    relay
                        .after
                        .filter(|_| relay.voted_after)
                        .map(KilobytesPerSecond::value),
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
pub(crate) fn float(value: u64) -> f64 {
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
    fn a_relay_with_another_fingerprint_is_known_by_its_other_key() {
        let key = format!(
            "master_key_ed25519={}",
            Ed25519Identity::from_bytes([9; 32])
        );
        let line = |byte: u8, rest: &str| {
            format!("node_id=${} {rest}\n", Fingerprint::from_bytes([byte; 20]))
        };
        let before = format!("1\n{}{}", line(1, &format!("bw=5 {key}")), line(2, "bw=7"));
        let after = format!("1\n{}{}", line(3, &format!("bw=10 {key}")), line(2, "bw=7"));
        let (before, after) = (
            Document::parse(before.as_bytes()),
            Document::parse(after.as_bytes()),
        );
        let diff = Diff::between(&before, &after);
        assert!(diff.gained.is_empty() && diff.lost.is_empty());
        assert_eq!(diff.changed.len(), 1);
        let change = &diff.changed[0];
        assert_eq!(change.relay, Fingerprint::from_bytes([3; 20]));
        assert_eq!(change.relay_before, Some(Fingerprint::from_bytes([1; 20])));
        assert_eq!((change.ratio(), change.factor()), (Some(2.0), 2.0));
        assert_eq!(change.nick.as_deref(), None);
        assert_eq!(NetworkComparison::between(&before, &after).common, 2);
    }

    #[test]
    fn other_keys_are_compared_on_request() {
        let relay = Fingerprint::from_bytes([1; 20]);
        let file = |rest: &str| format!("1\n=====\nbw=5 node_id=${relay} {rest}\n");
        let (before, after) = (file("nick=a rtt=7 k=v"), file("k=v  nick=b time=x"));
        let (before, after) = (
            Document::parse(before.as_bytes()),
            Document::parse(after.as_bytes()),
        );
        assert!(Diff::between(&before, &after).is_empty());
        let diff = Diff::of_all_keys(&before, &after);
        let keys: Vec<_> = diff.changed[0]
            .keys
            .iter()
            .map(|key| key.key.as_str())
            .collect();
        assert_eq!(keys, ["nick", "rtt", "time"]);
        assert!(Diff::of_all_keys(&after, &after).is_empty());
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
