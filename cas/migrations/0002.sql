-- Looking after bytes for years: leaf tables, verification, quarantine, pins, tiers, remote bytes, withdrawal.

-- UnixFS (profile unixfs-v1-2025): the digests of the 1 MiB leaves of a file, 32 bytes each, in order.
-- Only for files larger than one leaf. Built in the background or at first need.
CREATE TABLE leaf_table (
  sha BLOB PRIMARY KEY, root BLOB NOT NULL, leaves BLOB NOT NULL, built TEXT NOT NULL) STRICT, WITHOUT ROWID;
-- Every block of these files that can be asked for by its own digest:
-- a leaf is bytes at offset of the file, a node (dag-pb) holds its few bytes here.
CREATE TABLE block (
  digest BLOB NOT NULL, sha BLOB NOT NULL, place INTEGER NOT NULL, size INTEGER NOT NULL, node BLOB,
  PRIMARY KEY (digest, sha, place)) STRICT, WITHOUT ROWID;
CREATE INDEX block_sha ON block (sha);

-- When each location was last read whole and found good; '' = never since it was indexed. Scrub takes the oldest first.
ALTER TABLE location ADD COLUMN checked TEXT NOT NULL DEFAULT '';
UPDATE location SET checked = (SELECT verified FROM blob WHERE blob.sha = location.sha);
CREATE INDEX location_checked ON location (checked);

-- Places where bytes were found damaged; the row is kept until the place is good again or is given up by a person.
CREATE TABLE quarantine (
  volume TEXT NOT NULL, path TEXT NOT NULL, sha BLOB NOT NULL, found TEXT NOT NULL, reason TEXT NOT NULL,
  kept_at TEXT NOT NULL, damage TEXT NOT NULL, PRIMARY KEY (volume, path)) STRICT, WITHOUT ROWID;

-- Files of a volume that are listed but not hashed yet (archival masters).
CREATE TABLE listed (
  volume TEXT NOT NULL, path TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ino INTEGER NOT NULL,
  dev INTEGER NOT NULL, variant TEXT NOT NULL, listed TEXT NOT NULL,
  PRIMARY KEY (volume, path)) STRICT, WITHOUT ROWID;

-- Pins keep bytes that no record names; gc remembers since when bytes are named by nobody.
CREATE TABLE pin (sha BLOB NOT NULL, name TEXT NOT NULL, made TEXT NOT NULL, PRIMARY KEY (sha, name))
  STRICT, WITHOUT ROWID;
CREATE TABLE unnamed (sha BLOB PRIMARY KEY, since TEXT NOT NULL) STRICT, WITHOUT ROWID;

-- Owned bytes in another tier than `active`: a folder or a bucket. The id stays, the key is where they lie there.
CREATE TABLE tier_location (
  sha BLOB NOT NULL, tier TEXT NOT NULL, key TEXT NOT NULL, size INTEGER NOT NULL, stored TEXT NOT NULL,
  checked TEXT NOT NULL DEFAULT '', PRIMARY KEY (sha, tier)) STRICT, WITHOUT ROWID;
CREATE TABLE restore (
  sha BLOB PRIMARY KEY, asked TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '') STRICT, WITHOUT ROWID;
-- The day on which bytes were last asked for; coarse on purpose (a write per day, not per request).
CREATE TABLE used (sha BLOB PRIMARY KEY, day TEXT NOT NULL) STRICT, WITHOUT ROWID;

-- Bytes that are kept only as a copy of what lies at an address; they may be dropped to make room and fetched again.
CREATE TABLE remote (
  url TEXT PRIMARY KEY, sha BLOB, size INTEGER, fetched TEXT NOT NULL DEFAULT '', etag TEXT NOT NULL DEFAULT '',
  state TEXT NOT NULL DEFAULT 'known', reason TEXT NOT NULL DEFAULT '') STRICT, WITHOUT ROWID;
CREATE INDEX remote_sha ON remote (sha);

-- Bytes that must never be here or be given out again. `mark` is a keyed hash of the id (the key is the fact
-- `withdrawal_key`), so that the table does not name what was withdrawn. `told` is 1 when everybody may know of it.
-- `state`: marked (being removed; `pending` says what is left to remove), closed (removed), clean (no remains in files).
CREATE TABLE withdrawn (
  mark BLOB PRIMARY KEY, at TEXT NOT NULL, reason TEXT NOT NULL, told INTEGER NOT NULL, state TEXT NOT NULL,
  pending TEXT NOT NULL DEFAULT '') STRICT, WITHOUT ROWID;
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
