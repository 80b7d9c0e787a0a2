-- Times are milliseconds since the Unix epoch, bandwidths bytes per second
-- unless the name says otherwise.

CREATE TABLE relay (
    id INTEGER PRIMARY KEY,
    fingerprint BLOB NOT NULL UNIQUE CHECK (length(fingerprint) = 20)
) STRICT;

CREATE TABLE snapshot (
    id INTEGER PRIMARY KEY,
    valid_after INTEGER NOT NULL,
    relays INTEGER NOT NULL,
    descriptors INTEGER NOT NULL,
    -- JSON, compressed; with the JSON of `base` as dictionary if there is one.
    base INTEGER REFERENCES snapshot (id),
    data BLOB NOT NULL
) STRICT;
CREATE INDEX snapshot_by_time ON snapshot (valid_after, descriptors);

CREATE TABLE scan (
    id INTEGER PRIMARY KEY,
    identity BLOB NOT NULL UNIQUE CHECK (length(identity) = 16),
    scanner TEXT NOT NULL,
    started INTEGER NOT NULL,
    ended INTEGER,
    abandoned INTEGER,
    parameters TEXT NOT NULL
) STRICT;

CREATE TABLE scan_snapshot (
    scan INTEGER NOT NULL REFERENCES scan (id),
    snapshot INTEGER NOT NULL REFERENCES snapshot (id),
    PRIMARY KEY (scan, snapshot)
) STRICT, WITHOUT ROWID;

CREATE TABLE target (
    scan INTEGER NOT NULL REFERENCES scan (id),
    relay INTEGER NOT NULL REFERENCES relay (id),
    -- 0 pending, 1 measured, 2 given up
    state INTEGER NOT NULL DEFAULT 0 CHECK (state IN (0, 1, 2)),
    PRIMARY KEY (scan, relay)
) STRICT, WITHOUT ROWID;

-- What aggregation needs of an outcome; all of it is in outcome_record.
CREATE TABLE outcome (
    id INTEGER PRIMARY KEY,
    identity BLOB NOT NULL UNIQUE CHECK (length(identity) = 16),
    scan INTEGER NOT NULL REFERENCES scan (id),
    relay INTEGER NOT NULL REFERENCES relay (id),
    started INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    position TEXT NOT NULL,
    -- NULL for a measurement
    stage TEXT,
    kind TEXT,
    blame TEXT,
    -- mean of its transfers; NULL for a failure
    rate REAL,
    -- the rate of each transfer, as 8-byte little-endian floats, unless there is just one
    rates BLOB,
    bytes INTEGER NOT NULL,
    consensus_weight_kb INTEGER,
    unmeasured INTEGER,
    descriptor_published INTEGER,
    descriptor_average INTEGER,
    descriptor_burst INTEGER,
    descriptor_observed INTEGER
) STRICT;
CREATE INDEX outcome_by_time ON outcome (ended);
CREATE INDEX outcome_by_relay ON outcome (relay, ended);
CREATE INDEX outcome_by_scan ON outcome (scan, ended, bytes);

CREATE TABLE outcome_record (
    id INTEGER PRIMARY KEY REFERENCES outcome (id),
    data BLOB NOT NULL
) STRICT;
