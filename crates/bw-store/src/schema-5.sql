-- Both hold what the results of another program say beyond our records, in the
-- form of the crate that imports them; no longer named after the only one.
ALTER TABLE sbws_result RENAME TO supplement;
ALTER TABLE sbws_state RENAME TO imported_state;
