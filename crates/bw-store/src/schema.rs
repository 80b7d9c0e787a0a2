//! The database's schema, its version, and how older ones are brought up to date.

use std::path::Path;
use std::time::{Duration, Instant};

use bw_results::OutcomeId;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, params};

use crate::codec::OutcomeCodec;
use crate::columns::encode_helpers;
use crate::error::{Error, Result};
use crate::fault::Fault;

/// SQLite's `application_id` of a store: "bwsc".
const APPLICATION_ID: i32 = 0x6277_7363;

/// The time for which an operation waits until another process releases its lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(15);

/// The steps from version `n` (their index) to version `n + 1`.
/// Published entries never change; a new version is a new entry.
const MIGRATIONS: &[Migration] = &[
    Migration::new(include_str!("schema-1.sql")),
    Migration::new(include_str!("schema-2.sql")),
    Migration {
        sql: include_str!("schema-3.sql"),
        records: Some(bring_judgements_up_to_date),
    },
    Migration {
        sql: include_str!("schema-4.sql"),
        records: Some(copy_helpers),
    },
    Migration::new(include_str!("schema-5.sql")),
    Migration::new(include_str!("schema-6.sql")),
];

type Conversion = fn(&Connection) -> Result<(), Fault>;

/// One step from a version to the next.
#[derive(Clone, Copy)]
struct Migration {
    sql: &'static str,
    /// Changes the records that SQL cannot read; runs after `sql`.
    records: Option<Conversion>,
}

impl Migration {
    const fn new(sql: &'static str) -> Self {
        Self { sql, records: None }
    }
}

/// Makes measurements of the failures of kind `limited` and `disputed`, the
/// verdicts on which `schema-3.sql` has noted. One that was kept a second time,
/// as a measurement, is removed: that record has its slices.
fn bring_judgements_up_to_date(connection: &Connection) -> Result<(), Fault> {
    let mut codec = OutcomeCodec::new()?;
    let mut select = connection.prepare(
        "SELECT outcome.id, scanner, data FROM outcome JOIN outcome_record USING (id)
         JOIN scan ON scan.id = outcome.scan WHERE kind IN ('limited', 'disputed')",
    )?;
    let mut find = connection.prepare("SELECT 1 FROM outcome WHERE identity = ?1")?;
    let mut rows = select.query([])?;
    let mut changed = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, scanner): (i64, String) = (row.get(0)?, row.get(1)?);
        let data = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
        let outcome = codec.decode(data)?;
        let identity = OutcomeId::new(&scanner, &outcome);
        changed.push((id, identity, codec.encode(&outcome)?));
    }
    for (id, identity, data) in changed {
        if find.exists([identity.as_bytes()])? {
            connection.execute("DELETE FROM outcome_record WHERE id = ?1", [id])?;
            connection.execute("DELETE FROM outcome WHERE id = ?1", [id])?;
            continue;
        }
        connection.execute(
            "UPDATE outcome_record SET data = ?2 WHERE id = ?1",
            params![id, data],
        )?;
        connection.execute(
            "UPDATE outcome SET identity = ?2, stage = NULL, kind = NULL, blame = NULL,
                rates = x'' WHERE id = ?1",
            params![id, identity.as_bytes()],
        )?;
    }
    Ok(())
}

/// Copies the helpers from each record beside its outcome.
fn copy_helpers(connection: &Connection) -> Result<(), Fault> {
    let mut codec = OutcomeCodec::new()?;
    let mut select = connection.prepare("SELECT id, data FROM outcome_record")?;
    let mut update = connection.prepare("UPDATE outcome SET helpers = ?2 WHERE id = ?1")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let data = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
        let outcome = codec.decode(data)?;
        let helpers = encode_helpers(&outcome.attempt().helpers);
        update.execute(params![row.get::<_, i64>(0)?, helpers])?;
    }
    Ok(())
}

/// Opens the store at `path`, creating it if there is none, and brings its
/// schema up to date.
pub(crate) fn open(path: &Path) -> Result<Connection> {
    open_with(path, MIGRATIONS)
}

/// Opens the store at `path` for reading only.
pub(crate) fn open_read_only(path: &Path) -> Result<Connection> {
    if let Err(error) = path.metadata()
        && error.kind() == std::io::ErrorKind::NotFound
    {
        let path = path.to_owned();
        return Err(Error::Missing { path });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(path, flags).map_err(|error| Error::sqlite(path, error))?;
    let state = configure(&connection)
        .and_then(|()| State::read(&connection))
        .map_err(|error| Error::sqlite(path, error))?;
    let known = version_of(MIGRATIONS);
    match state.version(path, known)? {
        0 => Err(Error::Missing {
            path: path.to_owned(),
        }),
        found if found < known => Err(Error::Older {
            path: path.to_owned(),
            found,
            known,
        }),
        _ => Ok(connection),
    }
}

/// Has the database keep a write-ahead log. SQLite does not wait for others
/// here, whatever its busy timeout, if they change the same at once.
fn write_ahead(connection: &Connection) -> rusqlite::Result<()> {
    let begin = Instant::now();
    loop {
        match connection.pragma_update(None, "journal_mode", "wal") {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && begin.elapsed() < BUSY_TIMEOUT =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            done => return done,
        }
    }
}

fn open_with(path: &Path, migrations: &[Migration]) -> Result<Connection> {
    let sqlite = |error| Error::sqlite(path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(sqlite)?;
    configure(&connection).map_err(sqlite)?;
    let known = version_of(migrations);
    // Look before touching anything: the file may be somebody else's.
    let found = State::read(&connection)
        .map_err(sqlite)?
        .version(path, known)?;
    if found == 0 {
        // Space that pruning frees can be given back; only a new database can have that.
        connection
            .pragma_update(None, "auto_vacuum", "incremental")
            .map_err(sqlite)?;
    }
    write_ahead(&connection).map_err(sqlite)?;
    // Killing the process loses nothing that was committed, since the pages
    // are with the operating system by then. A power cut may lose the commits
    // since the last checkpoint, never older ones nor consistency: the relays
    // concerned are then measured again. Waiting for the disk at every
    // outcome instead (FULL) would disturb the measurements that run meanwhile.
    connection
        .pragma_update(None, "synchronous", "normal")
        .map_err(sqlite)?;
    if found < known {
        migrate(&mut connection, path, migrations)?;
    }
    Ok(connection)
}

/// Sets what every connection has.
fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Applies what is missing, all of it or nothing.
fn migrate(connection: &mut Connection, path: &Path, migrations: &[Migration]) -> Result<()> {
    let sqlite = |error| Error::sqlite(path, error);
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(sqlite)?;
    // Another process may have been faster.
    let known = version_of(migrations);
    let found = State::read(&transaction)
        .map_err(sqlite)?
        .version(path, known)?;
    let missing = migrations
        .iter()
        .zip(1..)
        .skip_while(|(_, to)| *to <= found);
    for (migration, to) in missing {
        let to: u32 = to;
        transaction.execute_batch(migration.sql).map_err(sqlite)?;
        if let Some(records) = migration.records {
            records(&transaction).map_err(|fault| fault.at(path))?;
        }
        transaction
            .pragma_update(None, "application_id", APPLICATION_ID)
            .map_err(sqlite)?;
        transaction
            .pragma_update(None, "user_version", to)
            .map_err(sqlite)?;
    }
    transaction.commit().map_err(sqlite)
}

fn version_of(migrations: &[Migration]) -> u32 {
    u32::try_from(migrations.len()).unwrap_or(u32::MAX)
}

/// The facts that tell whether a database is a store, and of which version.
struct State {
    application_id: i32,
    user_version: i64,
    objects: i64,
}

impl State {
    fn read(connection: &Connection) -> rusqlite::Result<Self> {
        // One statement, so that all three are of one moment.
        connection.query_row(
            "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema)
             FROM pragma_application_id, pragma_user_version",
            [],
            |row| {
                Ok(Self {
                    application_id: row.get(0)?,
                    user_version: row.get(1)?,
                    objects: row.get(2)?,
                })
            },
        )
    }

    /// The version of the store: 0 for an empty database.
    fn version(&self, path: &Path, known: u32) -> Result<u32> {
        let empty = self.objects == 0 && self.application_id == 0 && self.user_version == 0;
        if empty {
            return Ok(0);
        }
        if self.application_id != APPLICATION_ID {
            return Err(Error::NotAStore {
                path: path.to_owned(),
                detail: format!(
                    "a database of another program, application id {}",
                    self.application_id
                ),
            });
        }
        match u32::try_from(self.user_version) {
            Ok(0) | Err(_) => Err(Error::damaged(
                path,
                format!("impossible format {}", self.user_version),
            )),
            Ok(found) if found > known => Err(Error::Newer {
                path: path.to_owned(),
                found,
                known,
            }),
            Ok(found) => Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use tempfile::TempDir;

    use super::*;
    use crate::testing::{failed, fingerprint, keep, measured, scan, snapshot};
    use crate::{ErrorKind, Filter, NoSupplement, Store};
    use bw_results::{Blame, FailureKind, Outcome, Remeasure, Stage, Verdict};

    /// A version that could come next.
    const NEXT: Migration =
        Migration::new("ALTER TABLE scan ADD COLUMN note TEXT; UPDATE scan SET note = 'old';");

    /// A store at `path` with one record.
    fn filled(path: &Path) -> Store {
        let mut store = Store::open(path).unwrap();
        let network = store.put_snapshot(&snapshot(3, 0)).unwrap();
        let scan = scan(1, 0);
        store.begin_scan(&scan, &[], network).unwrap();
        keep(&mut store, &scan.id, &measured(1, 1)).unwrap();
        store
    }

    #[test]
    fn older_stores_are_converted_and_keep_their_contents() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("store.db");
        let store = filled(&path);
        drop(store);

        let next: Vec<_> = MIGRATIONS.iter().copied().chain([NEXT]).collect();
        let connection = open_with(&path, &next).unwrap();
        let note: String = connection
            .query_row("SELECT note FROM scan", [], |row| row.get(0))
            .unwrap();
        assert_eq!(note, "old");
        drop(connection);
        // For the software of today, that is a store from the future.
        for error in [
            Store::open(&path).unwrap_err(),
            Store::open_read_only(&path).unwrap_err(),
        ] {
            assert!(
                matches!(
                    error,
                    Error::Newer { found, known, .. } if found == known + 1
                ),
                "{error}"
            );
            assert!(error.to_string().contains("store.db"), "{error}");
        }
    }

    /// Inserts an outcome as software of format 2 did: its columns as of that
    /// time, and its record with the kinds of failure that it knew.
    fn insert_of_format_2(connection: &Connection, outcome: &Outcome, kind: Option<&str>) {
        let mut json = serde_json::to_string(outcome).unwrap();
        let (mut stage, mut blame, mut rate) = (None, None, None);
        match outcome {
            Outcome::Measured(measurement) => rate = measurement.rates().next(),
            Outcome::Failed(failure) => {
                (stage, blame) = (Some(failure.stage), Some(failure.blame));
                let now = format!("{:?}", failure.kind.as_str());
                json = json.replace(&now, &format!("{:?}", kind.unwrap()));
            }
        }
        // Identities of that time were made with the kind of that time.
        let mut identity = *OutcomeId::new("test", outcome).as_bytes();
        identity[0] ^= u8::from(kind.is_some_and(|kind| kind != "timeout"));
        let codec = OutcomeCodec::new().unwrap().encode_json(json.as_bytes());
        let relay = connection
            .query_row(
                "INSERT INTO relay (fingerprint) VALUES (?1)
                 ON CONFLICT DO UPDATE SET fingerprint = ?1 RETURNING id",
                [outcome.attempt().target.fingerprint.as_bytes()],
                |row| row.get::<_, i64>(0),
            )
            .unwrap();
        connection
            .execute(
                "INSERT INTO outcome (identity, scan, relay, started, ended, position, stage,
                    kind, blame, rate, bytes) VALUES (?1, 1, ?2, ?3, ?4, 'entry', ?5, ?6, ?7, ?8, ?9)",
                params![
                    identity,
                    relay,
                    outcome.attempt().started.value() as i64,
                    outcome.ended().value() as i64,
                    stage.map(Stage::as_str),
                    kind,
                    blame.map(Blame::as_str),
                    rate,
                    outcome.bytes() as i64,
                ],
            )
            .unwrap();
        connection
            .execute(
                "INSERT INTO outcome_record (id, data) VALUES (last_insert_rowid(), ?1)",
                [codec.unwrap()],
            )
            .unwrap();
    }

    #[test]
    #[expect(
        clippy::too_many_lines,
        reason = "it is a store of an old format, row by row"
    )]
    fn judgements_in_a_store_of_format_2_become_verdicts() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("store.db");
        let old = open_with(&path, &MIGRATIONS[..2]).unwrap();
        old.execute(
            "INSERT INTO scan (identity, scanner, started, parameters) VALUES (?1, 'test', 1, ?2)",
            params![
                scan(1, 1).id.as_bytes(),
                serde_json::to_string(&scan(1, 1).parameters).unwrap()
            ],
        )
        .unwrap();
        let unbelieved = |number, started, blame, bytes| {
            let Outcome::Failed(mut failure) = failed(number, started) else {
                unreachable!()
            };
            (failure.stage, failure.kind) = (Stage::Transfer, FailureKind::TooShort);
            (failure.blame, failure.bytes) = (blame, bytes);
            Outcome::Failed(failure)
        };
        insert_of_format_2(&old, &measured(1, 1_000), None);
        insert_of_format_2(&old, &failed(2, 2_000), Some("timeout"));
        let limited = unbelieved(3, 3_000, Blame::Scanner, 30_000);
        insert_of_format_2(&old, &limited, Some("limited"));
        let disputed = unbelieved(3, 4_000, Blame::Helper, 40_000);
        insert_of_format_2(&old, &disputed, Some("disputed"));
        // Kept as a failure first, and as a measurement when it was chosen.
        let chosen = measured(3, 5_000);
        let mut twice = unbelieved(3, 5_000, Blame::Helper, chosen.bytes());
        if let Outcome::Failed(failure) = &mut twice {
            failure.ended = chosen.ended();
        }
        insert_of_format_2(&old, &twice, Some("disputed"));
        insert_of_format_2(&old, &chosen, None);
        drop(old);

        let error = Store::open_read_only(&path).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Older {
                    found: 2,
                    known: 6,
                    ..
                }
            ),
            "{error}"
        );
        let mut store = Store::open(&path).unwrap();
        let mut records = Vec::new();
        for relay in 1..=3 {
            records.extend(
                store
                    .records_of(&scan(1, 1).id, &fingerprint(relay))
                    .unwrap(),
            );
        }
        let verdicts: Vec<_> = records.iter().map(|record| record.verdict).collect();
        assert_eq!(
            verdicts,
            [
                Verdict::Accepted,
                Verdict::Charged,
                Verdict::Remeasure(Remeasure::Throttled),
                Verdict::Remeasure(Remeasure::Disputed),
                Verdict::Accepted,
            ]
        );
        let bytes: Vec<_> = records
            .iter()
            .map(|record| record.outcome.bytes())
            .collect();
        assert_eq!(
            bytes[2..],
            [30_000, 40_000, chosen.bytes()],
            "none lost, none doubled"
        );
        assert_eq!(records[4].outcome, chosen, "with its slices");
        for record in &records {
            assert_eq!(record.id, OutcomeId::new("test", &record.outcome));
        }
        let mut summaries = Vec::new();
        let _ = store.for_each_summary(&Filter::all(), |stored| {
            summaries.push(stored.value);
            ControlFlow::<()>::Continue(())
        });
        assert_eq!(summaries.len(), 5);
        assert_eq!(
            summaries[2].verdict,
            Verdict::Remeasure(Remeasure::Throttled)
        );
        assert_eq!(
            summaries[2].result,
            bw_results::SummaryResult::Measured(Vec::new())
        );
        assert_eq!(summaries[0].helpers, measured(1, 1_000).attempt().helpers);
        assert_eq!(summaries[0].helpers.len(), 1, "copied from its record");
        // Lines that were exported before the conversion are known.
        let mut line = serde_json::to_value(&limited).unwrap();
        line["failed"]["kind"] = "limited".into();
        let line = serde_json::json!({"outcome": {"scan": scan(1, 1).id, "outcome": line}});
        let report = store
            .import_jsonl::<NoSupplement>(
                line.to_string().as_bytes(),
                bw_results::UnixMillis::new(u64::MAX),
            )
            .unwrap();
        assert_eq!((report.added, report.known), (0, 1), "{report:?}");
    }

    #[test]
    fn a_conversion_that_fails_changes_nothing() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("store.db");
        drop(Store::open(&path).unwrap());
        let broken = Migration::new("CREATE TABLE extra (x); SELECT nonsense;");
        let next: Vec<_> = MIGRATIONS.iter().copied().chain([broken]).collect();
        assert!(open_with(&path, &next).is_err());
        let store = Store::open(&path).unwrap();
        let extra = store
            .connection
            .query_row("SELECT count(*) FROM extra", [], |_| Ok(()));
        assert!(extra.is_err());
    }

    #[test]
    fn many_openers_of_a_new_store_agree() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("store.db");
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || Store::open(path).map(drop))
            })
            .collect();
        for thread in threads {
            thread.join().unwrap().unwrap();
        }
    }

    #[test]
    fn what_is_not_a_store_is_left_alone() {
        let directory = TempDir::new().unwrap();
        let text = directory.path().join("notes.txt");
        let contents = "Not a database, although longer than the header of one.\n".repeat(40);
        std::fs::write(&text, &contents).unwrap();
        let other = directory.path().join("other.db");
        Connection::open(&other)
            .unwrap()
            .execute_batch("CREATE TABLE theirs (x)")
            .unwrap();
        let before = std::fs::read(&other).unwrap();
        for path in [&text, &other] {
            for error in [
                Store::open(path).unwrap_err(),
                Store::open_read_only(path).unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::NotAStore, "{error}");
            }
        }
        assert_eq!(std::fs::read_to_string(&text).unwrap(), contents);
        assert_eq!(std::fs::read(&other).unwrap(), before);
    }

    #[test]
    fn places_where_no_store_can_be() {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "x").unwrap();
        // Permissions do not stop root, so these are places where nobody can write.
        for path in [
            file.join("store.db"),
            directory.path().join("no/such/directory/store.db"),
            directory.path().to_owned(),
            "/proc/store.db".into(),
        ] {
            let error = Store::open(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unusable, "{error}");
            assert!(error.to_string().contains(path.to_str().unwrap()));
        }
        let missing = directory.path().join("store.db");
        let error = Store::open_read_only(&missing).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Missing, "{error}");
        assert!(!missing.exists(), "reading makes no store");
    }

    #[test]
    fn a_damaged_store_is_an_error() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("store.db");
        let store = filled(&path);
        let network = store.latest_snapshot().unwrap().unwrap().0;
        for damage in [
            "UPDATE outcome SET verdict = 'sideways'",
            "UPDATE outcome_record SET data = x'01aabbcc'",
            "UPDATE snapshot SET data = x'28b52ffd00'",
        ] {
            store.connection.execute_batch(damage).unwrap();
        }
        let ignore = |_| ControlFlow::<()>::Continue(());
        let all = Filter::all();
        for error in [
            store.for_each_summary(&all, |s| ignore(s.id)).unwrap_err(),
            store.for_each_outcome(&all, |s| ignore(s.id)).unwrap_err(),
            store.snapshot(network).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
        }
    }
}
