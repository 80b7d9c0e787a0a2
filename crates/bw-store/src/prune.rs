//! Removing what is old, while others read and write.

use bw_results::UnixMillis;
use rusqlite::params;

use crate::columns::{time, unsigned};
use crate::{Result, Store};

/// Rows that are removed in one transaction: some 50 ms, in which a scanner waits.
const AT_ONCE: i64 = 2000;

/// The records to be removed from a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Prune {
    /// The raw records (slices, timings, texts) of attempts that ended before.
    pub raw_before: UnixMillis,
    /// Everything of attempts that ended before, with their scans and networks.
    pub before: UnixMillis,
}

/// The records that were removed, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pruned {
    /// Raw records.
    pub raw: u64,
    /// Their size in the store, in bytes.
    pub raw_bytes: u64,
    /// Attempts, of which nothing is left.
    pub attempts: u64,
    /// Scans.
    pub scans: u64,
    /// Networks.
    pub snapshots: u64,
}

impl Prune {
    /// Removes raw records older than `raw_before`, and all that is older than `before`.
    pub const fn new(raw_before: UnixMillis, before: UnixMillis) -> Self {
        Self { raw_before, before }
    }
}

const RAW: &str = "SELECT outcome_record.id FROM outcome_record JOIN outcome USING (id)
    WHERE ended < max(?1, ?2)";
const ATTEMPTS: &str = "SELECT id FROM outcome WHERE ended < ?1";
/// Scans that nobody can go on with, and of which no attempt is left.
const SCANS: &str = "SELECT id FROM scan WHERE started < ?1
    AND (ended IS NOT NULL OR abandoned IS NOT NULL)
    AND NOT EXISTS (SELECT 1 FROM outcome WHERE outcome.scan = scan.id AND ended >= ?1)";
/// Networks that no scan was made in and no other is kept as the difference to.
const SNAPSHOTS: &str = "SELECT id FROM snapshot WHERE valid_after < ?1
    AND id NOT IN (SELECT snapshot FROM scan_snapshot)
    AND id NOT IN (SELECT base FROM snapshot WHERE base IS NOT NULL)
    AND valid_after < (SELECT max(valid_after) FROM snapshot)";

impl Store {
    /// Returns what [`prune`](Self::prune) would remove.
    ///
    /// # Errors
    /// If the store fails.
    pub fn would_prune(&self, prune: &Prune) -> Result<Pruned> {
        let (raw, before) = (time(prune.raw_before), time(prune.before));
        self.read(|connection| {
            let count = |sql: &str| -> rusqlite::Result<u64> {
                let sql = format!("SELECT count(*) FROM ({sql})");
                connection.query_row(&sql, params![before], |row| row.get(0).map(unsigned))
            };
            let (records, raw_bytes) = connection.query_row(
                "SELECT count(*), coalesce(sum(length(data)), 0)
                 FROM outcome_record JOIN outcome USING (id) WHERE ended < max(?1, ?2)",
                params![raw, before],
                |row| Ok((row.get(0).map(unsigned)?, row.get(1).map(unsigned)?)),
            )?;
            Ok(Pruned {
                raw: records,
                raw_bytes,
                attempts: count(ATTEMPTS)?,
                scans: count(SCANS)?,
                snapshots: count(SNAPSHOTS)?,
            })
        })
    }

    /// Removes what is old, some thousand rows at a time: others read and write in between.
    ///
    /// Aggregation needs attempts, not their raw records. The sums of each day stay for
    /// ever: see [`days`](Self::days). The space is used again, and
    /// given back to the disk as far as the store was made for that.
    ///
    /// # Errors
    /// [`Busy`](crate::Error::Busy) and other failures of the store. What was removed
    /// before stays removed.
    pub fn prune(&mut self, prune: &Prune) -> Result<Pruned> {
        let pruned = self.would_prune(prune)?;
        self.keep_days(prune.before)?;
        let (raw, before) = (time(prune.raw_before), time(prune.before));
        self.remove(
            &format!("DELETE FROM outcome_record WHERE id IN ({RAW} LIMIT {AT_ONCE})"),
            &[raw, before],
        )?;
        for table in ["supplement WHERE id", "outcome WHERE id"] {
            let sql = format!("DELETE FROM {table} IN ({ATTEMPTS} ORDER BY id LIMIT {AT_ONCE})");
            self.remove(&sql, &[before])?;
        }
        for table in [
            "target WHERE scan",
            "scan_snapshot WHERE scan",
            "scan WHERE id",
        ] {
            let sql = format!("DELETE FROM {table} IN ({SCANS})");
            self.remove_once(&sql, before)?;
        }
        self.remove_once(
            &format!("DELETE FROM snapshot WHERE id IN ({SNAPSHOTS})"),
            before,
        )?;
        self.write(|writer| {
            let mut statement = writer.sql.prepare("PRAGMA incremental_vacuum")?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
            Ok(())
        })?;
        Ok(pruned)
    }

    /// Repeats a statement, each time in a transaction of its own, until it changes nothing.
    fn remove(&mut self, sql: &str, times: &[i64]) -> Result<()> {
        loop {
            let changed = self.write(|writer| {
                let times = rusqlite::params_from_iter(times);
                Ok(writer.sql.prepare_cached(sql)?.execute(times)?)
            })?;
            if changed == 0 {
                return Ok(());
            }
        }
    }

    fn remove_once(&mut self, sql: &str, before: i64) -> Result<()> {
        self.write(|writer| {
            writer.sql.prepare_cached(sql)?.execute(params![before])?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use tempfile::TempDir;

    use super::*;
    use crate::Filter;
    use crate::testing::{keep, measured, scan, snapshot};

    /// A store with a scan of ten attempts in each of three days.
    fn store(directory: &TempDir) -> Store {
        let mut store = Store::open(directory.path().join("store.db")).unwrap();
        for day in 0..3_u8 {
            let at = u64::from(day) * 86_400_000 + 1000;
            let network = store.put_snapshot(&snapshot(3, at)).unwrap();
            let scan = scan(day + 1, at);
            store.begin_scan(&scan, &[], network).unwrap();
            for number in 0..10 {
                keep(&mut store, &scan.id, &measured(number, at + number)).unwrap();
            }
            store
                .finish_scan(&scan.id, UnixMillis::new(at + 5000))
                .unwrap();
        }
        store
    }

    fn counts(store: &Store) -> (usize, usize, usize, usize) {
        let (mut summaries, mut records) = (0, 0);
        let _ = store.for_each_summary(&Filter::all(), |_| {
            summaries += 1;
            ControlFlow::<()>::Continue(())
        });
        let _ = store.for_each_outcome(&Filter::all(), |_| {
            records += 1;
            ControlFlow::<()>::Continue(())
        });
        let (scans, snapshots) = (store.scans().unwrap(), store.snapshots().unwrap());
        (summaries, records, scans.len(), snapshots.len())
    }

    #[test]
    fn what_is_old_goes_and_nothing_else() {
        let directory = TempDir::new().unwrap();
        let mut store = store(&directory);
        let day = |day: u64| UnixMillis::new(day * 86_400_000);
        assert_eq!(counts(&store), (30, 30, 3, 3));

        let prune = Prune::new(day(2), day(1));
        let would = store.would_prune(&prune).unwrap();
        assert_eq!((would.raw, would.attempts, would.scans), (20, 10, 1));
        assert!(would.raw_bytes > 0);
        assert_eq!(counts(&store), (30, 30, 3, 3), "nothing was removed");

        assert_eq!(store.prune(&prune).unwrap(), would);
        // The network of the first day may be what others are the difference to.
        let (summaries, records, scans, _) = counts(&store);
        assert_eq!((summaries, records, scans), (20, 10, 2));
        let again = store.prune(&prune).unwrap();
        assert_eq!((again.raw, again.attempts, again.scans), (0, 0, 0));
        assert!(store.latest_snapshot().unwrap().is_some());
    }

    #[test]
    fn an_unfinished_scan_stays() {
        let directory = TempDir::new().unwrap();
        let mut store = store(&directory);
        let network = store.latest_snapshot().unwrap().unwrap().0;
        let open = scan(9, 500);
        store.begin_scan(&open, &[], network).unwrap();
        let end = UnixMillis::new(u64::from(u32::MAX) * 1000);
        store.prune(&Prune::new(end, end)).unwrap();
        let scans = store.scans().unwrap();
        assert_eq!(scans.len(), 1);
        assert_eq!(scans[0].scan.id, open.id);
        assert!(
            store.latest_snapshot().unwrap().is_some(),
            "the newest network stays"
        );
    }
}
