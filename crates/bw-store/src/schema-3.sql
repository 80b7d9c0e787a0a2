-- The verdict on each outcome, beside its record: kind and reason as Verdict
-- names them. The outcomes whose kind is limited or disputed, which is no kind
-- of failure any more, get theirs here and become measurements afterwards.
ALTER TABLE outcome ADD COLUMN verdict TEXT NOT NULL DEFAULT 'accepted';
ALTER TABLE outcome ADD COLUMN verdict_reason TEXT;

UPDATE outcome SET verdict = 'charged' WHERE stage IS NOT NULL;
UPDATE outcome SET verdict = 'remeasure', verdict_reason = 'throttled'
    WHERE stage IS NULL AND rate IS NULL;
UPDATE outcome SET verdict = 'remeasure', verdict_reason = CASE
        WHEN kind = 'disputed' THEN 'disputed'
        WHEN blame = 'scanner' THEN 'throttled'
        WHEN blame = 'destination' THEN 'destination_bound'
        ELSE 'helper_bound'
    END
    WHERE kind IN ('limited', 'disputed');

DROP INDEX outcome_by_scan;
CREATE INDEX outcome_by_scan ON outcome (scan, ended, bytes, verdict);
