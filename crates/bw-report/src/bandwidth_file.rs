//! A bandwidth file as the report needs it.

use bw_file::{Document, Fingerprint, UnixTime, VoteLines, Weights};
use bw_results::UnixMillis;

/// The first line of an authority's vote.
const VOTE: &[u8] = b"network-status-version ";

/// The part of a bandwidth file, or of a vote with one, that is shown.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BandwidthFile {
    /// Its name among people: a file's name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Its first line: the time of its newest measurement.
    pub timestamp: Option<UnixMillis>,
    /// When it was made, where it says so.
    pub created: Option<UnixMillis>,
    /// The generator, where it says so.
    pub software: Option<String>,
    /// Relay lines, voted with or not.
    pub lines: u64,
    /// The weights that authorities vote with.
    pub weights: Weights,
}

impl BandwidthFile {
    /// The file with this name and content; or what an authority's vote has of its file.
    pub fn new(name: impl Into<String>, content: &[u8]) -> Self {
        let vote = content.starts_with(VOTE).then(|| VoteLines::parse(content));
        let header = vote.as_ref().map(header_of);
        let document = Document::parse(header.as_deref().unwrap_or(content));
        let millis = |time: UnixTime| {
            u64::try_from(time.seconds())
                .ok()
                .map(UnixMillis::from_secs)
        };
        let text = |key| {
            let value: &[u8] = document.header(key)?;
            Some(String::from_utf8_lossy(value).into_owned())
        };
        let software = text(b"software").map(|software| match text(b"software_version") {
            Some(version) => format!("{software} {version}"),
            None => software,
        });
        Self {
            name: name.into(),
            size: content.len() as u64,
            timestamp: document.timestamp().value().and_then(millis),
            created: document.created().and_then(millis),
            software,
            lines: vote.as_ref().map_or_else(
                || document.relays().count() as u64,
                |vote| vote.measured.len() as u64,
            ),
            weights: vote.map_or_else(
                || Weights::of(&document),
                |vote| vote.measured.into_iter().collect(),
            ),
        }
    }

    /// When it was made, or else the time of its newest measurement.
    pub(crate) fn time(&self) -> Option<UnixMillis> {
        self.created.or(self.timestamp)
    }
}

/// The header of the file that an authority voted with, as a file has it: a vote has the time and
/// `key=value` in one line.
fn header_of(vote: &VoteLines) -> Vec<u8> {
    let line = String::from_utf8_lossy(vote.headers.as_deref().unwrap_or_default());
    let items = line.split(' ').skip(1);
    let lines = items.map(|item| item.strip_prefix("timestamp=").unwrap_or(item));
    let lines: Vec<&str> = lines.collect();
    (lines.join("\n") + "\n=====\n").into_bytes()
}

/// A relay's weight in two files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) relay: Fingerprint,
    pub(crate) before: u64,
    pub(crate) after: u64,
}

impl Change {
    pub(crate) fn difference(&self) -> i128 {
        i128::from(self.after) - i128::from(self.before)
    }
}

/// The changes from one file to the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    pub(crate) gained: u64,
    pub(crate) lost: u64,
    pub(crate) common: u64,
    /// Common relays whose weight moved by a factor of 1.5 or more.
    pub(crate) moved: u64,
    /// By rising difference.
    pub(crate) sorted: Vec<Change>,
}

impl Changes {
    pub(crate) fn between(before: &BandwidthFile, after: &BandwidthFile) -> Self {
        let mut changes = Self::default();
        for (relay, weight) in before.weights.iter() {
            match after.weights.get(&relay) {
                None => changes.lost += 1,
                Some(new) => {
                    let (old, new) = (weight.value(), new.value());
                    changes.common += 1;
                    let (low, high) = (old.min(new), old.max(new));
                    changes.moved += u64::from(high as f64 >= low as f64 * 1.5 && high > low);
                    changes.sorted.push(Change {
                        relay,
                        before: old,
                        after: new,
                    });
                }
            }
        }
        changes.gained = after.weights.relays() as u64 - changes.common;
        changes
            .sorted
            .retain(|change| change.before != change.after);
        changes
            .sorted
            .sort_by_key(|change| (change.difference(), change.relay));
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vote_has_the_weights_of_a_file() {
        let vote = b"network-status-version 3\nvote-status vote\n\
            bandwidth-file-headers timestamp=1700000000 version=1.4.0 software=sbws software_version=2.2.0\n\
            r nick AAAAAAAAAAAAAAAAAAAAAAAAAAA x\nw Bandwidth=3 Measured=7\n\
            r other AQEBAQEBAQEBAQEBAQEBAQEBAQE x\nw Bandwidth=3\n";
        let file = BandwidthFile::new("vote", vote);
        assert_eq!(
            (
                file.weights.relays(),
                file.weights.total().value(),
                file.lines
            ),
            (1, 7, 1)
        );
        assert_eq!(file.software.as_deref(), Some("sbws 2.2.0"));
        assert_eq!(file.time(), Some(UnixMillis::from_secs(1_700_000_000)));
    }
}
