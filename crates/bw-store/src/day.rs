//! The sums of each day, which stay for ever: some 20 bytes a day.

use bw_results::UnixMillis;
use rusqlite::{Row, params};

use crate::columns::{time, unsigned};
use crate::{Result, Store};

/// Milliseconds of a day.
const DAY: u64 = 86_400_000;

/// The sums of one day (UTC).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Day {
    /// Its beginning.
    pub begin: UnixMillis,
    /// Attempts that ended on it.
    pub attempts: u64,
    /// Attempts whose rate was accepted.
    pub accepted: u64,
    /// Failures that relays were charged with.
    pub charged: u64,
    /// Relays with an accepted rate.
    pub relays: u64,
    /// Payload.
    pub bytes: u64,
}

/// Imported records may claim any number of bytes, so that their sum is bounded.
const SUMS: &str = "SELECT ended / 86400000 AS day, count(*), sum(verdict = 'accepted'),
        sum(verdict = 'charged'),
        count(DISTINCT CASE WHEN verdict = 'accepted' THEN relay END),
        CAST(min(total(bytes), 9e18) AS INTEGER)
    FROM outcome";

impl Day {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let number = |index| row.get(index).map(unsigned);
        Ok(Self {
            begin: UnixMillis::new(number(0)?.saturating_mul(DAY)),
            attempts: number(1)?,
            accepted: number(2)?,
            charged: number(3)?,
            relays: number(4)?,
            bytes: number(5)?,
        })
    }
}

impl Store {
    /// The sums of all days on which something was done, the oldest first, those among
    /// them whose records were [pruned](Self::prune).
    ///
    /// # Errors
    /// If the store fails.
    pub fn days(&self) -> Result<Vec<Day>> {
        self.read(|connection| {
            let sql = format!(
                "SELECT * FROM day UNION ALL {SUMS}
                 WHERE ended / 86400000 > (SELECT coalesce(max(day), -1) FROM day)
                 GROUP BY 1 ORDER BY 1"
            );
            let mut statement = connection.prepare(&sql)?;
            let days = statement.query_map([], Day::read)?;
            Ok(days.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Keeps the sums of all days up to the one of `before`, whose records go. A day of
    /// which more was known stays as it is.
    pub(crate) fn keep_days(&mut self, before: UnixMillis) -> Result<()> {
        let end = UnixMillis::new((before.value() / DAY).saturating_add(1).saturating_mul(DAY));
        let days: Vec<Day> = self.read(|connection| {
            let mut statement =
                connection.prepare(&format!("{SUMS} WHERE ended < ?1 GROUP BY 1"))?;
            let days = statement.query_map([time(end)], Day::read)?;
            Ok(days.collect::<rusqlite::Result<_>>()?)
        })?;
        self.write(|writer| {
            let mut statement = writer.sql.prepare_cached(
                "INSERT INTO day VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (day) DO UPDATE
                 SET attempts = excluded.attempts, accepted = excluded.accepted,
                    charged = excluded.charged, relays = excluded.relays, bytes = excluded.bytes
                 WHERE excluded.attempts > attempts",
            )?;
            for day in &days {
                let number = day.begin.value() / DAY;
                let sums = [
                    day.attempts,
                    day.accepted,
                    day.charged,
                    day.relays,
                    day.bytes,
                ];
                let [attempts, accepted, charged, relays, bytes] =
                    sums.map(|sum| i64::try_from(sum).unwrap_or(i64::MAX));
                let number = i64::try_from(number).unwrap_or(i64::MAX);
                statement.execute(params![number, attempts, accepted, charged, relays, bytes])?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::Prune;
    use crate::testing::{failed, keep, measured, scan, snapshot};

    #[test]
    fn the_sums_of_a_day_outlive_its_records() {
        let directory = TempDir::new().unwrap();
        let mut store = Store::open(directory.path().join("store.db")).unwrap();
        let network = store.put_snapshot(&snapshot(3, 0)).unwrap();
        let scan = scan(1, 0);
        store.begin_scan(&scan, &[], network).unwrap();
        for day in 0..3 {
            for number in 0..4 {
                let at = day * DAY + number * 1000;
                keep(&mut store, &scan.id, &measured(number, at)).unwrap();
                keep(&mut store, &scan.id, &failed(number, at + 500)).unwrap();
            }
        }
        let days = store.days().unwrap();
        assert_eq!(days.len(), 3);
        assert_eq!(
            (days[1].begin, days[1].attempts, days[1].accepted),
            (UnixMillis::new(DAY), 8, 4)
        );
        assert!(days[1].relays > 0 && days[1].bytes > 0);
        // The second time in the middle of a day: what is left of it is not its sum.
        let noon = UnixMillis::new(DAY + 12_500);
        for before in [UnixMillis::new(DAY), noon, noon] {
            store.prune(&Prune::new(before, before)).unwrap();
            assert_eq!(store.days().unwrap(), days, "{before:?}");
        }
    }

    #[test]
    fn sums_of_what_others_claim_are_bounded() {
        let directory = TempDir::new().unwrap();
        let mut store = Store::open(directory.path().join("store.db")).unwrap();
        let network = store.put_snapshot(&snapshot(3, 0)).unwrap();
        let scan = scan(1, 0);
        store.begin_scan(&scan, &[], network).unwrap();
        for number in 0..2 {
            keep(&mut store, &scan.id, &measured(number, number)).unwrap();
        }
        let huge = format!("UPDATE outcome SET bytes = {}", i64::MAX);
        store.connection.execute(&huge, []).unwrap();
        assert_eq!(store.days().unwrap()[0].bytes, 9_000_000_000_000_000_000);
    }
}
