-- Schema 9. Pictures of sensitive specimens with their labels blacked out.

-- The access class that a medium would have if its taxon were not sensitive; NULL: not known before the next ingest.
ALTER TABLE medium ADD COLUMN otherwise INTEGER;

CREATE TABLE redaction (
  image TEXT PRIMARY KEY,          -- sha256 hex of the original
  approved TEXT NOT NULL,          -- digest of what is covered on the picture that a person looked at
  action INTEGER NOT NULL,         -- the entry of staff_action
  width INTEGER NOT NULL, height INTEGER NOT NULL,
  derivative TEXT,                 -- sha256 hex of the picture that is given out; NULL: none is, at the moment
  bytes INTEGER, packet TEXT       -- its size; digest of the rights that are written in it
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX redaction_derivative ON redaction (derivative) WHERE derivative IS NOT NULL;
