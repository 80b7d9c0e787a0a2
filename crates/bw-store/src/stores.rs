//! Several stores, read as if they were one.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::Path;

use bw_file::Fingerprint;
use bw_results::{NetworkSnapshot, Outcome, OutcomeSummary, UnixMillis};

use crate::{Filter, Result, Store, Stored, Supplement, Supplemented};

/// Stores that are read together: an outcome that several of them have is
/// shown once, as the first of them has it.
#[derive(Debug)]
pub struct Stores(Vec<Store>);

impl Stores {
    /// Opens the stores at `paths` for reading only.
    ///
    /// # Errors
    /// Those of [`Store::open_read_only`].
    pub fn open_read_only(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<Self> {
        let stores = paths.into_iter().map(Store::open_read_only);
        stores.collect::<Result<_>>().map(Self)
    }

    /// The stores, in their order.
    pub fn iter(&self) -> std::slice::Iter<'_, Store> {
        self.0.iter()
    }

    /// [`Store::for_each_summary`] of all of them.
    ///
    /// # Errors
    /// If a store fails; `visit` has seen some outcomes then.
    pub fn for_each_summary<B>(
        &self,
        filter: &Filter,
        visit: impl FnMut(Stored<'_, OutcomeSummary>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>> {
        let mut visit = self.once(visit);
        self.in_turn(|store| store.for_each_summary(filter, &mut visit))
    }

    /// [`Store::for_each_outcome`] of all of them.
    ///
    /// # Errors
    /// If a store fails; `visit` has seen some outcomes then.
    pub fn for_each_outcome<B>(
        &self,
        filter: &Filter,
        visit: impl FnMut(Stored<'_, Outcome>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>> {
        let mut visit = self.once(visit);
        self.in_turn(|store| store.for_each_outcome(filter, &mut visit))
    }

    /// [`Store::for_each_supplement`] of all of them.
    ///
    /// # Errors
    /// If a store fails; `visit` has seen some outcomes then.
    pub fn for_each_supplement<S: Supplement, B>(
        &self,
        filter: &Filter,
        visit: impl FnMut(Stored<'_, (Fingerprint, Supplemented<S>)>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>> {
        let mut visit = self.once(visit);
        self.in_turn(|store| store.for_each_supplement(filter, &mut visit))
    }

    /// The newest consensus of all stores that was valid by `until`, or the
    /// first of several.
    ///
    /// # Errors
    /// If a store fails.
    pub fn latest_snapshot_by(&self, until: UnixMillis) -> Result<Option<NetworkSnapshot>> {
        let mut newest: Option<NetworkSnapshot> = None;
        for store in self {
            if let Some((_, network)) = store.latest_snapshot_by(until)?
                && newest
                    .as_ref()
                    .is_none_or(|newest| network.valid_after > newest.valid_after)
            {
                newest = Some(network);
            }
        }
        Ok(newest)
    }

    /// `visit`, which sees no outcome a second time.
    fn once<T, B>(
        &self,
        mut visit: impl FnMut(Stored<'_, T>) -> ControlFlow<B>,
    ) -> impl FnMut(Stored<'_, T>) -> ControlFlow<B> {
        // One store has each outcome once.
        let mut seen = (self.0.len() > 1).then(HashSet::new);
        move |stored| {
            let is_new = seen.as_mut().is_none_or(|seen| seen.insert(stored.id));
            if is_new {
                visit(stored)
            } else {
                ControlFlow::Continue(())
            }
        }
    }

    /// Reads one store after the other, until one breaks.
    fn in_turn<B>(
        &self,
        mut read: impl FnMut(&Store) -> Result<ControlFlow<B>>,
    ) -> Result<ControlFlow<B>> {
        for store in self {
            if let stop @ ControlFlow::Break(_) = read(store)? {
                return Ok(stop);
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl<'a> IntoIterator for &'a Stores {
    type Item = &'a Store;
    type IntoIter = std::slice::Iter<'a, Store>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::testing::{keep, measured, scan, snapshot};

    #[test]
    fn an_outcome_of_several_stores_is_seen_once() {
        let directory = TempDir::new().unwrap();
        let paths = ["one.db", "two.db"].map(|name| directory.path().join(name));
        for (hour, path) in (0..).zip(&paths) {
            let mut store = Store::open(path).unwrap();
            let network = store.put_snapshot(&snapshot(3, hour)).unwrap();
            store.begin_scan(&scan(1, 100), &[], network).unwrap();
            for number in [1, 2 + hour] {
                keep(&mut store, &scan(1, 100).id, &measured(number, 1_000)).unwrap();
            }
        }
        let stores = Stores::open_read_only(&paths).unwrap();
        let (mut ids, mut outcomes) = (Vec::new(), 0);
        let _ = stores
            .for_each_summary(&Filter::all(), |stored| {
                ids.push(stored.id);
                ControlFlow::<()>::Continue(())
            })
            .unwrap();
        let end = stores
            .for_each_outcome(&Filter::all(), |_| {
                outcomes += 1;
                match outcomes {
                    3 => ControlFlow::Break("enough"),
                    _ => ControlFlow::Continue(()),
                }
            })
            .unwrap();
        assert_eq!((ids.len(), outcomes), (3, 3));
        assert_eq!(end, ControlFlow::Break("enough"));
        let newest = stores
            .latest_snapshot_by(UnixMillis::new(u64::MAX))
            .unwrap();
        assert_eq!(newest, Some(snapshot(3, 1)));
    }
}
