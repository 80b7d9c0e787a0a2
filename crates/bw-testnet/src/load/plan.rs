//! The plan of a load.

use std::ops::RangeInclusive;

use super::fetch::Target;
use crate::{Error, ErrorKind};

/// A client takes some 30 MB.
const MAX_CLIENTS: usize = 50;

/// The amount that clients shall download through a [`Network`](crate::Network), and
/// the source.
///
/// The same seed gives the same sizes and pauses; which relays are used is up to tor.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadPlan {
    pub(super) url: String,
    pub(super) clients: usize,
    pub(super) share: f64,
    pub(super) seed: u64,
    pub(super) sizes: RangeInclusive<u64>,
}

impl LoadPlan {
    /// Three clients that download parts of the file at `url` (`http://`, on a
    /// server that answers Range requests and that exits can reach), so that
    /// they take half of the network's capacity.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            clients: 3,
            share: 0.5,
            seed: 1,
            sizes: 50_000..=5_000_000,
        }
    }

    /// Sets the number of tor processes: 1 to 50, default 3. Each has up to eight
    /// downloads under way.
    pub fn clients(mut self, clients: usize) -> Self {
        self.clients = clients;
        self
    }

    /// Sets the share of all relays' capacities that the clients' traffic is to take: above 0,
    /// at most 1, default 0.5. Authorities do not count, and each byte counts on three relays.
    /// It is the most that they take, and the amount that they take on
    /// average if the network and this machine can carry it.
    pub fn share(mut self, share: f64) -> Self {
        self.share = share;
        self
    }

    /// Decides sizes and pauses; default 1.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The smallest and the largest download, in bytes; every order of
    /// magnitude between them is equally likely. Default 50 kB to 5 MB.
    pub fn sizes(mut self, sizes: RangeInclusive<u64>) -> Self {
        self.sizes = sizes;
        self
    }

    pub(super) fn check(&self) -> Result<Target, Error> {
        let check = |holds: bool, text: String| {
            holds
                .then_some(())
                .ok_or_else(|| Error::new(ErrorKind::Plan, text))
        };
        check(
            (1..=MAX_CLIENTS).contains(&self.clients),
            format!("{} clients: 1 to {MAX_CLIENTS} are possible", self.clients),
        )?;
        check(
            self.share > 0.0 && self.share <= 1.0,
            format!(
                "a share of {} of the capacity: it must be above 0 and at most 1",
                self.share
            ),
        )?;
        check(
            *self.sizes.start() > 0 && !self.sizes.is_empty(),
            format!("downloads of {:?} bytes: from 1, and not empty", self.sizes),
        )?;
        self.url.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        let plan = || LoadPlan::new("http://127.0.0.1:8000/file");
        assert_eq!(
            plan().check().unwrap().to_string(),
            "http://127.0.0.1:8000/file"
        );
        for (wrong, named) in [
            (plan().clients(0), "0 clients"),
            (plan().share(0.0), "share of 0 "),
            (plan().share(f64::NAN), "share of NaN"),
            (plan().share(1.5), "share of 1.5"),
            (plan().sizes(0..=1), "0..=1 bytes"),
            (LoadPlan::new("https://127.0.0.1/"), "https://127.0.0.1/"),
            (LoadPlan::new("no url"), "no url"),
        ] {
            let error = wrong.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Plan);
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}
