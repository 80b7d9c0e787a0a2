//! Network snapshots in the store: each once per consensus, compressed.

use std::time::Duration;

use bw_results::{NetworkSnapshot, ScanId, UnixMillis};
use rusqlite::{Connection, OptionalExtension, params};

use crate::codec::{compress_snapshot, decompress_snapshot};
use crate::columns::{read_time, signed, time, unsigned};
use crate::fault::Fault;
use crate::{Error, Result, Store};

/// The most time between a snapshot and the one to which it is stored as a difference.
const BASE_SPAN: Duration = Duration::from_secs(24 * 3600);

/// A snapshot's number in its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(i64);

impl SnapshotId {
    pub(crate) const fn row(self) -> i64 {
        self.0
    }
}

/// The facts of a snapshot that are known without unpacking it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotInfo {
    /// Its number in this store.
    pub id: SnapshotId,
    /// Start of the consensus's validity.
    pub valid_after: UnixMillis,
    /// Relays in the consensus.
    pub relays: u64,
    /// The number of them that have a descriptor here.
    pub descriptors: u64,
    /// Its size in the store, in bytes.
    pub stored_bytes: u64,
}

const INFO_COLUMNS: &str = "snapshot.id, valid_after, snapshot.relays, descriptors, length(data)";

impl Store {
    /// Keeps `snapshot`. A consensus is kept once; again only when more of its
    /// descriptors are known than before.
    ///
    /// The first of a day takes about 100 bytes a relay, the others of that
    /// day only their difference to it.
    ///
    /// # Errors
    /// If the store fails.
    pub fn put_snapshot(&mut self, snapshot: &NetworkSnapshot) -> Result<SnapshotId> {
        let described = snapshot
            .relays
            .iter()
            .filter(|relay| relay.descriptor.is_some());
        let descriptors = signed(described.count() as u64);
        let relays = signed(snapshot.relays.len() as u64);
        self.write(|writer| {
            let known = writer
                .sql
                .query_row(
                    "SELECT id FROM snapshot
                     WHERE valid_after = ?1 AND relays = ?2 AND descriptors >= ?3
                     ORDER BY descriptors DESC LIMIT 1",
                    params![time(snapshot.valid_after), relays, descriptors],
                    |row| row.get(0).map(SnapshotId),
                )
                .optional()?;
            if let Some(known) = known {
                return Ok(known);
            }
            let json = serde_json::to_vec(snapshot)?;
            let base = find_base(&writer.sql, snapshot.valid_after)?;
            let (base, data) = match base {
                Some(base) => {
                    let base_json = load(&writer.sql, base)?;
                    (Some(base.0), compress_snapshot(&json, Some(&base_json))?)
                }
                None => (None, compress_snapshot(&json, None)?),
            };
            writer.sql.execute(
                "INSERT INTO snapshot (valid_after, relays, descriptors, base, data)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                params![time(snapshot.valid_after), relays, descriptors, base, data],
            )?;
            Ok(SnapshotId(writer.sql.last_insert_rowid()))
        })
    }

    /// The snapshot with this number.
    ///
    /// # Errors
    /// [`UnknownSnapshot`](Error::UnknownSnapshot), or a failure of the store.
    pub fn snapshot(&self, id: SnapshotId) -> Result<NetworkSnapshot> {
        self.read(|connection| Ok(serde_json::from_slice(&load(connection, id)?)?))
    }

    /// The snapshot of the newest consensus, with the most descriptors.
    ///
    /// # Errors
    /// If the store fails.
    pub fn latest_snapshot(&self) -> Result<Option<(SnapshotId, NetworkSnapshot)>> {
        self.latest_snapshot_by(UnixMillis::new(u64::MAX))
    }

    /// The newest snapshot of those whose consensus was valid by `at`, with
    /// the most descriptors: a consensus of the future, which only a wrong clock
    /// can have brought here, is not the newest.
    ///
    /// # Errors
    /// If the store fails.
    pub fn latest_snapshot_by(
        &self,
        at: UnixMillis,
    ) -> Result<Option<(SnapshotId, NetworkSnapshot)>> {
        let id = self.read(|connection| {
            let sql = "SELECT id FROM snapshot WHERE valid_after <= ?1
                       ORDER BY valid_after DESC, descriptors DESC, id DESC LIMIT 1";
            let id = connection.query_row(sql, params![time(at)], |row| row.get(0).map(SnapshotId));
            Ok(id.optional()?)
        })?;
        id.map(|id| Ok((id, self.snapshot(id)?))).transpose()
    }

    /// All snapshots, oldest first.
    ///
    /// # Errors
    /// If the store fails.
    pub fn snapshots(&self) -> Result<Vec<SnapshotInfo>> {
        self.select_snapshots("ORDER BY valid_after, snapshot.id", [])
    }

    /// The snapshots that `scan` used, oldest first.
    ///
    /// # Errors
    /// If the store fails.
    pub fn snapshots_of(&self, scan: &ScanId) -> Result<Vec<SnapshotInfo>> {
        self.select_snapshots(
            "JOIN scan_snapshot ON scan_snapshot.snapshot = snapshot.id
             JOIN scan ON scan.id = scan_snapshot.scan
             WHERE scan.identity = ?1 ORDER BY valid_after, snapshot.id",
            params![scan.as_bytes()],
        )
    }

    fn select_snapshots(
        &self,
        clause: &str,
        params: impl rusqlite::Params,
    ) -> Result<Vec<SnapshotInfo>> {
        self.read(|connection| {
            let sql = format!("SELECT {INFO_COLUMNS} FROM snapshot {clause}");
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(params, |row| {
                Ok(SnapshotInfo {
                    id: SnapshotId(row.get(0)?),
                    valid_after: read_time(row, 1)?,
                    relays: row.get(2).map(unsigned)?,
                    descriptors: row.get(3).map(unsigned)?,
                    stored_bytes: row.get(4).map(unsigned)?,
                })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }
}

/// A snapshot stored whole that is near enough in time to `valid_after`.
fn find_base(
    connection: &Connection,
    valid_after: UnixMillis,
) -> Result<Option<SnapshotId>, Fault> {
    let span = signed(u64::try_from(BASE_SPAN.as_millis()).unwrap_or(u64::MAX));
    let found = connection
        .query_row(
            "SELECT id FROM snapshot
             WHERE base IS NULL AND abs(valid_after - ?1) < ?2
             ORDER BY abs(valid_after - ?1), id DESC LIMIT 1",
            params![time(valid_after), span],
            |row| row.get(0).map(SnapshotId),
        )
        .optional()?;
    Ok(found)
}

/// The JSON of a snapshot.
fn load(connection: &Connection, id: SnapshotId) -> Result<Vec<u8>, Fault> {
    let (data, base) = load_row(connection, id.0)?;
    let base = match base {
        Some(base) => {
            let (data, _) = load_row(connection, base)?;
            Some(decompress_snapshot(&data, None)?)
        }
        None => None,
    };
    Ok(decompress_snapshot(&data, base.as_deref())?)
}

fn load_row(connection: &Connection, row: i64) -> Result<(Vec<u8>, Option<i64>), Fault> {
    let found = connection
        .query_row(
            "SELECT data, base FROM snapshot WHERE id = ?1",
            params![row],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    found.ok_or_else(|| Error::UnknownSnapshot { snapshot: row }.into())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::ErrorKind;
    use crate::testing::snapshot;

    fn new_store() -> (TempDir, Store) {
        let directory = TempDir::new().unwrap();
        let store = Store::open(directory.path().join("store.db")).unwrap();
        (directory, store)
    }

    #[test]
    fn snapshots_are_read_as_put_and_kept_once() {
        let (_directory, mut store) = new_store();
        assert_eq!(store.latest_snapshot().unwrap(), None);
        let hours = [5, 6, 30, 4];
        let ids: Vec<_> = hours
            .iter()
            .map(|&hour| store.put_snapshot(&snapshot(60, hour)).unwrap())
            .collect();
        for (&hour, &id) in hours.iter().zip(&ids) {
            assert_eq!(store.snapshot(id).unwrap(), snapshot(60, hour));
            assert_eq!(store.put_snapshot(&snapshot(60, hour)).unwrap(), id);
        }
        let listed: Vec<_> = store.snapshots().unwrap();
        assert_eq!(listed.len(), 4);
        assert!(listed.is_sorted_by_key(|info| info.valid_after));
        let latest = store.latest_snapshot().unwrap().unwrap();
        assert_eq!(latest, (ids[2], snapshot(60, 30)));
        let difference = listed.iter().find(|info| info.id == ids[1]).unwrap();
        let whole = listed.iter().find(|info| info.id == ids[0]).unwrap();
        assert!(
            difference.stored_bytes * 3 < whole.stored_bytes,
            "{listed:?}"
        );
    }

    #[test]
    fn more_descriptors_make_a_better_snapshot() {
        let (_directory, mut store) = new_store();
        let full = snapshot(20, 0);
        let mut partial = full.clone();
        for relay in &mut partial.relays[..10] {
            relay.descriptor = None;
        }
        let first = store.put_snapshot(&partial).unwrap();
        let second = store.put_snapshot(&full).unwrap();
        assert_ne!(first, second);
        assert_eq!(store.put_snapshot(&partial).unwrap(), second);
        assert_eq!(store.latest_snapshot().unwrap(), Some((second, full)));
    }

    #[test]
    fn a_consensus_of_the_future_is_not_the_newest_by_now() {
        let (_directory, mut store) = new_store();
        let now = snapshot(20, 0);
        let mut future = snapshot(20, 1);
        future.valid_after = UnixMillis::from_secs(4_070_908_800); // 2099
        store.put_snapshot(&future).unwrap();
        assert_eq!(store.latest_snapshot_by(now.valid_after).unwrap(), None);
        let id = store.put_snapshot(&now).unwrap();
        let found = store.latest_snapshot_by(now.valid_after).unwrap();
        assert_eq!(found, Some((id, now)));
        assert_eq!(store.latest_snapshot().unwrap().unwrap().1, future);
    }

    #[test]
    fn unknown_snapshots_are_errors() {
        let (_directory, store) = new_store();
        let error = store.snapshot(SnapshotId(7)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unknown);
    }
}
