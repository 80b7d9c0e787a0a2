-- What a result line of sbws says beyond its outcome: SbwsFacts, as postcard
-- writes it, after a byte with the version of that form.
CREATE TABLE sbws_result (
    id INTEGER PRIMARY KEY REFERENCES outcome (id),
    data BLOB NOT NULL
) STRICT;

-- The newest state.dat that was imported: SbwsState as JSON.
CREATE TABLE sbws_state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    data TEXT NOT NULL
) STRICT;
