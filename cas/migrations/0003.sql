-- Remote bytes: when they were last used, who waits for them, what a failed fetch said, what an address held before.
ALTER TABLE remote ADD COLUMN modified TEXT NOT NULL DEFAULT '';
ALTER TABLE remote ADD COLUMN used TEXT NOT NULL DEFAULT '';
ALTER TABLE remote ADD COLUMN wanted TEXT NOT NULL DEFAULT '';
ALTER TABLE remote ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
ALTER TABLE remote ADD COLUMN not_before TEXT NOT NULL DEFAULT '';
CREATE INDEX remote_wanted ON remote (wanted) WHERE wanted <> '';

-- Bytes that an address held once and holds no more.
CREATE TABLE remote_former (sha BLOB NOT NULL, url TEXT NOT NULL, replaced TEXT NOT NULL, PRIMARY KEY (sha, url))
  STRICT, WITHOUT ROWID;
-- Copies whose row went to make room and whose file may still be there.
CREATE TABLE remote_dropping (sha BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
-- Until when a host is left alone: the pause after each fetch, or what it asked for.
CREATE TABLE remote_host (host TEXT PRIMARY KEY, not_before TEXT NOT NULL) STRICT, WITHOUT ROWID;
-- Addresses of withdrawn bytes, as keyed hashes: never asked again.
CREATE TABLE withdrawn_url (mark BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
