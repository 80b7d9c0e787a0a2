-- The sums of each day (UTC), which stay when the records go.
CREATE TABLE day (
    -- days since 1970, by the ends of attempts
    day INTEGER PRIMARY KEY,
    attempts INTEGER NOT NULL,
    accepted INTEGER NOT NULL,
    charged INTEGER NOT NULL,
    -- relays with an accepted rate
    relays INTEGER NOT NULL,
    bytes INTEGER NOT NULL
);
