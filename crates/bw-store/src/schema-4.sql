-- Who helped with each attempt, in the order of the path: fingerprints, 20
-- bytes each. They are in its record, too.
ALTER TABLE outcome ADD COLUMN helpers BLOB NOT NULL DEFAULT x''
    CHECK (length(helpers) % 20 = 0);
