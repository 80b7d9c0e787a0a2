//! Dividing the relays over several scanners.

use std::num::NonZeroU32;

use bw_file::Fingerprint;
use sha2::{Digest, Sha256};

use crate::{Error, ErrorKind};

/// One part of the network out of several.
///
/// A relay's part depends on its fingerprint, the number of parts and a key
/// that the scanners share, and on nothing else: scanners that see the same
/// consensus divide it without overlap or gap, and a relay that comes or goes
/// moves no other relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    count: NonZeroU32,
    /// From 0.
    index: u32,
    key: Vec<u8>,
}

impl Default for Partition {
    /// The whole network.
    fn default() -> Self {
        Self {
            count: NonZeroU32::MIN,
            index: 0,
            key: Vec::new(),
        }
    }
}

impl Partition {
    /// Part `number` (from 1) of `count`, with the scanners' shared `key`
    /// (which may be empty).
    ///
    /// # Errors
    /// If `count` is 0 or `number` is not within 1 to `count`.
    pub fn new(number: u32, count: u32, key: &[u8]) -> Result<Self, Error> {
        match (NonZeroU32::new(count), number.checked_sub(1)) {
            (Some(count), Some(index)) if index < count.get() => Ok(Self {
                count,
                index,
                key: key.to_vec(),
            }),
            _ => Err(Error::new(
                ErrorKind::Configuration,
                format!("there is no partition {number} of {count}: give one of 1 to {count}"),
            )),
        }
    }

    /// Returns true if `relay` is in this part.
    pub fn contains(&self, relay: &Fingerprint) -> bool {
        let digest = Sha256::new()
            .chain_update(b"bwscan partition\0")
            .chain_update((self.key.len() as u64).to_be_bytes())
            .chain_update(&self.key)
            .chain_update(relay.as_bytes())
            .finalize();
        let mut head = [0; 8];
        head.copy_from_slice(&digest[..8]);
        u64::from_be_bytes(head) % u64::from(self.count.get()) == u64::from(self.index)
    }

    /// The number of this part, from 1.
    pub const fn number(&self) -> u32 {
        self.index + 1
    }

    /// The number of parts.
    pub const fn count(&self) -> u32 {
        self.count.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_relay_is_in_exactly_one_part(
            bytes: [u8; 20], count in 1u32..50, key: Vec<u8>,
        ) {
            let relay = Fingerprint::from_bytes(bytes);
            let parts = (1..=count)
                .filter(|&number| Partition::new(number, count, &key).unwrap().contains(&relay));
            prop_assert_eq!(parts.count(), 1);
        }
    }

    #[test]
    fn parts_are_of_about_equal_size_and_depend_on_the_key() {
        let relays: Vec<Fingerprint> = (0..8000u16)
            .map(|n| {
                let mut bytes = [0; 20];
                bytes[..2].copy_from_slice(&n.to_be_bytes());
                Fingerprint::from_bytes(bytes)
            })
            .collect();
        let part = |number, key: &[u8]| -> Vec<bool> {
            let partition = Partition::new(number, 4, key).unwrap();
            relays
                .iter()
                .map(|relay| partition.contains(relay))
                .collect()
        };
        let size = part(1, b"").iter().filter(|&&inside| inside).count();
        // 8000 draws with p = 1/4: mean 2000, standard deviation 38.7.
        assert!((1800..2200).contains(&size), "{size}");
        assert_ne!(part(1, b""), part(1, b"other"));
    }

    #[test]
    fn the_whole_is_everything_and_wrong_numbers_are_refused() {
        assert!(Partition::default().contains(&Fingerprint::from_bytes([7; 20])));
        for (number, count) in [(0, 3), (4, 3), (1, 0), (0, 0)] {
            let error = Partition::new(number, count, b"").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
        }
    }
}
