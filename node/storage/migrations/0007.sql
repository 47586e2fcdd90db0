-- Schema 7. Units that take the results of other units.

ALTER TABLE unit ADD COLUMN waits INTEGER NOT NULL DEFAULT 0;   -- units it takes results of that have not ended: given out at 0
DROP INDEX unit_queue;
CREATE INDEX unit_queue ON unit (pipeline, environment, turn, serial) WHERE state = 'queued' AND waits = 0;

-- What a unit takes, in the order of its pipeline's needs; the units are about the same image, so they go together.
CREATE TABLE unit_need (
  work_key TEXT NOT NULL REFERENCES unit (work_key) ON DELETE CASCADE, position INTEGER NOT NULL,
  upstream TEXT NOT NULL REFERENCES unit (work_key) ON DELETE CASCADE,
  PRIMARY KEY (work_key, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX unit_need_upstream ON unit_need (upstream);
