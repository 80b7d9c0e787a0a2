//! Adding many records at once.

use std::path::Path;

use bw_results::{Scan, ScanId};

use crate::fault::Fault;
use crate::transaction::Transaction;
use crate::{Encoded, Error, Result, Store};

/// SQLite's own size of its cache, in KiB.
const CACHE: i64 = 2_000;

/// The cache while many records are added, in KiB: their identities are spread
/// over all of their index.
const IMPORT_CACHE: i64 = 32_000;

/// A transaction that adds records. Nobody else writes to the store while it
/// lasts, so that its maker has everything at hand before.
pub struct Import<'s> {
    pub(crate) transaction: Transaction<'s>,
    path: &'s Path,
}

impl Store {
    /// Runs `action` in one transaction, committed if it succeeds.
    ///
    /// # Errors
    /// The error of `action`, or a failure of the store.
    pub fn import<T, E: From<Error>>(
        &mut self,
        action: impl FnOnce(&mut Import<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let path = self.path().to_owned();
        let transaction = self.begin().map_err(|fault| fault.at(&path))?;
        let mut import = Import {
            transaction,
            path: &path,
        };
        let value = action(&mut import)?;
        let committed = import.transaction.commit();
        committed.map_err(|fault| fault.at(&path))?;
        Ok(value)
    }

    /// Runs `action` with a cache for the identities of millions of records.
    ///
    /// # Errors
    /// The error of `action`, or a failure of the store.
    pub fn in_bulk<T, E: From<Error>>(
        &mut self,
        action: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        self.set_cache(IMPORT_CACHE)?;
        let done = action(self);
        self.set_cache(CACHE)?;
        done
    }

    /// Sets the number of KiB of the database that are kept in memory.
    fn set_cache(&self, size: i64) -> Result<()> {
        self.read(|connection| Ok(connection.pragma_update(None, "cache_size", -size)?))
    }
}

impl Import<'_> {
    /// Adds a scan; `false` if the store has it already, which then stays as it is.
    ///
    /// # Errors
    /// A failure of the store.
    pub fn add_scan(&mut self, scan: &Scan) -> Result<bool> {
        match self.transaction.insert_scan(scan) {
            Ok(()) => Ok(true),
            Err(Fault::Store(Error::ScanExists { .. })) => Ok(false),
            Err(fault) => Err(fault.at(self.path)),
        }
    }

    /// Adds an outcome to a scan; `false` if the store has it already. A known
    /// one gets the supplement that it lacks, and stays as it is otherwise.
    ///
    /// # Errors
    /// [`UnknownScan`](Error::UnknownScan), or a failure of the store.
    pub fn add(&mut self, scan: &ScanId, outcome: &Encoded) -> Result<bool> {
        let row = self.transaction.scan_row(scan);
        row.and_then(|row| self.transaction.insert_encoded(row, outcome))
            .map_err(|fault| fault.at(self.path))
    }
}

impl std::fmt::Debug for Import<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Import").finish_non_exhaustive()
    }
}
