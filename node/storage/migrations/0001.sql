-- Schema 1. Times are RFC 3339 UTC text with whole seconds; digests and content ids are lower-case hex unless a column says otherwise.
-- Access classes: 0 open, 1 restricted, 2 private (linkeddata.access.AccessClass).

-- Values a node keeps about itself: id_salt, epoch, descriptor_seq, public_url, ...
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

-- ---------------------------------------------------------------- what institutions send (private)
CREATE TABLE source (
  name TEXT PRIMARY KEY, kind TEXT NOT NULL, path TEXT NOT NULL, title TEXT NOT NULL DEFAULT '',
  archive_digest TEXT, last_ingest TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE source_row (
  source TEXT NOT NULL, key TEXT NOT NULL,
  digest TEXT NOT NULL,            -- of the row as received; decides "changed?"
  body BLOB NOT NULL,              -- canonical JSON of the row as received; never leaves the node
  iri TEXT NOT NULL,               -- the specimen record minted for this key
  state TEXT NOT NULL CHECK (state IN ('present', 'vanished', 'withdrawn')),
  first_seen TEXT NOT NULL, last_seen TEXT NOT NULL, run INTEGER,
  PRIMARY KEY (source, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX source_row_iri ON source_row (iri);

CREATE TABLE ingest_run (
  id INTEGER PRIMARY KEY, source TEXT NOT NULL, path TEXT NOT NULL, plan TEXT,
  started TEXT NOT NULL, finished TEXT, state TEXT NOT NULL CHECK (state IN ('running', 'done', 'stopped', 'failed')),
  counts TEXT NOT NULL DEFAULT '{}'
) STRICT;

CREATE TABLE ingest_plan (
  id TEXT PRIMARY KEY, source TEXT NOT NULL, path TEXT NOT NULL, created TEXT NOT NULL,
  summary TEXT NOT NULL, accepted TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE finding (
  id INTEGER PRIMARY KEY, source TEXT NOT NULL, key TEXT NOT NULL, code TEXT NOT NULL, message TEXT NOT NULL,
  run INTEGER, at TEXT NOT NULL
) STRICT;
CREATE INDEX finding_source ON finding (source, code);

-- ---------------------------------------------------------------- what the node says
CREATE TABLE record (
  iri TEXT PRIMARY KEY,
  id TEXT NOT NULL,                -- last path segment of the IRI
  kind TEXT NOT NULL CHECK (kind IN ('specimen', 'medium', 'annotation')),
  version INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('active', 'tombstone')),
  body BLOB NOT NULL,              -- canonical bytes (RFC 8785) of the public projection
  digest TEXT NOT NULL,            -- sha256 of body
  access INTEGER NOT NULL, sensitive INTEGER NOT NULL DEFAULT 0,
  source TEXT, created TEXT NOT NULL, modified TEXT NOT NULL,
  published INTEGER NOT NULL DEFAULT 0   -- 1 while the publication log says it exists
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX record_id ON record (kind, id);
CREATE INDEX record_modified ON record (kind, modified);

CREATE TABLE record_version (
  iri TEXT NOT NULL, version INTEGER NOT NULL, body BLOB NOT NULL, digest TEXT NOT NULL, salt TEXT NOT NULL, created TEXT NOT NULL,
  access INTEGER NOT NULL, sensitive INTEGER NOT NULL,
  PRIMARY KEY (iri, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE record_alias (alias TEXT NOT NULL, iri TEXT NOT NULL, PRIMARY KEY (alias, iri)) STRICT, WITHOUT ROWID;
CREATE INDEX record_alias_iri ON record_alias (iri);

-- One exposure; its bytes are those of its newest version.
CREATE TABLE medium (
  iri TEXT PRIMARY KEY, source TEXT NOT NULL, key TEXT NOT NULL,
  image TEXT,                      -- sha256 hex; NULL when the bytes are not here (see problem)
  format TEXT, width INTEGER, height INTEGER,   -- of the upright image, pixels
  size_bytes INTEGER, access INTEGER NOT NULL, sensitive INTEGER NOT NULL DEFAULT 0,
  version INTEGER NOT NULL, state TEXT NOT NULL DEFAULT 'active', locator TEXT NOT NULL DEFAULT '', problem TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX medium_image ON medium (image);
CREATE UNIQUE INDEX medium_key ON medium (source, key);

CREATE TABLE medium_version (
  iri TEXT NOT NULL, version INTEGER NOT NULL, image TEXT, width INTEGER, height INTEGER, created TEXT NOT NULL,
  PRIMARY KEY (iri, version)
) STRICT, WITHOUT ROWID;
CREATE INDEX medium_version_image ON medium_version (image);

CREATE TABLE medium_specimen (
  medium TEXT NOT NULL, specimen TEXT NOT NULL, ordinal INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (medium, specimen)
) STRICT, WITHOUT ROWID;
CREATE INDEX medium_specimen_specimen ON medium_specimen (specimen, ordinal);

-- The publication log: append-only, dense, public. No personal data, no locality: an IRI, a version, an operation, a time, a salted digest.
CREATE TABLE change (
  seq INTEGER PRIMARY KEY, iri TEXT NOT NULL, record_type TEXT NOT NULL, version INTEGER NOT NULL,
  op TEXT NOT NULL CHECK (op IN ('Create', 'Update', 'Delete')), at TEXT NOT NULL, digest TEXT NOT NULL
) STRICT;
CREATE INDEX change_iri ON change (iri, seq);

CREATE TABLE annotation (
  iri TEXT PRIMARY KEY, medium TEXT NOT NULL, image TEXT NOT NULL, output TEXT NOT NULL, pipeline TEXT NOT NULL,
  environment TEXT NOT NULL, work_key TEXT NOT NULL, job TEXT, state TEXT NOT NULL CHECK (state IN ('current', 'superseded', 'evidence replaced')),
  created TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX annotation_medium ON annotation (medium, output, state);

-- Search tables: derived from record and annotation, rebuilt by one command.
CREATE TABLE specimen_facet (
  iri TEXT PRIMARY KEY, access INTEGER NOT NULL,
  scientific_name TEXT, kingdom TEXT, phylum TEXT, class TEXT, "order" TEXT, family TEXT, genus TEXT,
  country TEXT, country_code TEXT, state_province TEXT, locality TEXT, year INTEGER,
  recorded_by TEXT, record_number TEXT, catalog_number TEXT, institution_code TEXT, collection_code TEXT,
  basis_of_record TEXT, type_status TEXT, license TEXT, occurrence_id TEXT, has_image INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX specimen_facet_kingdom ON specimen_facet (kingdom COLLATE NOCASE, family COLLATE NOCASE, year);
CREATE INDEX specimen_facet_family ON specimen_facet (family COLLATE NOCASE);
CREATE INDEX specimen_facet_name ON specimen_facet (scientific_name COLLATE NOCASE);
CREATE INDEX specimen_facet_genus ON specimen_facet (genus COLLATE NOCASE);
CREATE INDEX specimen_facet_catalog ON specimen_facet (catalog_number COLLATE NOCASE);
CREATE VIRTUAL TABLE specimen_text USING fts5 (iri UNINDEXED, body, tokenize = "unicode61 remove_diacritics 2");

-- ---------------------------------------------------------------- work
-- One unit of work: one pipeline over ordered inputs in one environment. Shared by jobs; a result is computed once.
CREATE TABLE unit (
  work_key TEXT PRIMARY KEY,
  output TEXT NOT NULL, pipeline TEXT NOT NULL, parameters TEXT NOT NULL, image TEXT NOT NULL, environment TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('queued', 'leased', 'done', 'failed', 'withheld', 'cancelled')),
  attempt INTEGER NOT NULL DEFAULT 0,      -- fencing token: a result of an older attempt is refused
  failures INTEGER NOT NULL DEFAULT 0,     -- attempts that ended the worker
  turn INTEGER NOT NULL DEFAULT 0,         -- place within its job: small jobs are not kept waiting by large ones
  serial INTEGER NOT NULL DEFAULT 0,       -- order of enqueueing
  lease_boot TEXT, lease_until TEXT, not_before TEXT,
  failure_kind TEXT, reason TEXT, body BLOB,
  created TEXT NOT NULL, finished TEXT, seconds REAL
) STRICT, WITHOUT ROWID;
CREATE INDEX unit_queue ON unit (pipeline, environment, turn, serial) WHERE state = 'queued';
CREATE INDEX unit_leased ON unit (lease_boot, lease_until) WHERE state = 'leased';
CREATE INDEX unit_image ON unit (image);

CREATE TABLE job (
  id TEXT PRIMARY KEY,             -- sha256 (32 hex) of requester key and specification id: nobody can take another's name
  spec_id TEXT NOT NULL, envelope BLOB NOT NULL, spec_digest TEXT NOT NULL,
  requester_kid TEXT NOT NULL, requester_name TEXT NOT NULL DEFAULT '', purpose TEXT NOT NULL DEFAULT '',
  process_id TEXT NOT NULL, response TEXT NOT NULL DEFAULT 'document',
  steps TEXT NOT NULL,             -- JSON: output, pipeline, environment, parameters, name of each step as it will run here
  status TEXT NOT NULL CHECK (status IN ('accepted', 'running', 'successful', 'failed', 'dismissed')),
  decision TEXT NOT NULL CHECK (decision IN ('accepted', 'held', 'refused')),
  approval TEXT NOT NULL CHECK (approval IN ('not needed', 'waiting', 'given', 'refused', 'expired')),
  reasons TEXT NOT NULL DEFAULT '[]', rule TEXT NOT NULL DEFAULT '', publish INTEGER NOT NULL DEFAULT 0,
  snapshot_digest TEXT NOT NULL, images INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,
  enqueued INTEGER NOT NULL DEFAULT 0,   -- 1 once every unit is in the journal
  message TEXT NOT NULL DEFAULT '', created TEXT NOT NULL, started TEXT, finished TEXT, updated TEXT NOT NULL,
  expires TEXT NOT NULL            -- a held job that nobody decided on ends then
) STRICT, WITHOUT ROWID;
CREATE INDEX job_requester ON job (requester_kid, created);
CREATE INDEX job_status ON job (status);

-- The snapshot of a job's selection, made before it was decided on: one row per step and image.
CREATE TABLE job_unit (
  job_id TEXT NOT NULL, ordinal INTEGER NOT NULL, step TEXT NOT NULL, work_key TEXT,
  specimen TEXT NOT NULL, medium TEXT NOT NULL, image TEXT NOT NULL,
  withheld TEXT,                   -- why it is not computed at all
  answer TEXT CHECK (answer IN ('yes', 'no', 'cannot tell')), reason TEXT,
  PRIMARY KEY (job_id, ordinal)
) STRICT, WITHOUT ROWID;
CREATE INDEX job_unit_work ON job_unit (work_key);

-- What persons decided about held jobs, bound to the snapshot they saw.
CREATE TABLE request_decision (
  id INTEGER PRIMARY KEY, job_id TEXT NOT NULL, decision TEXT NOT NULL, by TEXT NOT NULL, reason TEXT NOT NULL,
  snapshot_digest TEXT NOT NULL, at TEXT NOT NULL
) STRICT;

CREATE TABLE conformance (
  pipeline TEXT NOT NULL, environment TEXT NOT NULL, verdict TEXT NOT NULL, report BLOB NOT NULL, at TEXT NOT NULL,
  PRIMARY KEY (pipeline, environment)
) STRICT, WITHOUT ROWID;

-- ---------------------------------------------------------------- people and doors
CREATE TABLE researcher (
  kid TEXT PRIMARY KEY, public_key TEXT NOT NULL, name TEXT NOT NULL, state TEXT NOT NULL CHECK (state IN ('enrolled', 'revoked')),
  enrolled TEXT NOT NULL, revoked TEXT, note TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;
CREATE TABLE nonce (kid TEXT NOT NULL, nonce TEXT NOT NULL, expires INTEGER NOT NULL, PRIMARY KEY (kid, nonce)) STRICT, WITHOUT ROWID;
CREATE INDEX nonce_expires ON nonce (expires);
CREATE TABLE staff_token (digest TEXT PRIMARY KEY, created TEXT NOT NULL, expires TEXT NOT NULL, used TEXT) STRICT, WITHOUT ROWID;
CREATE TABLE staff_session (digest TEXT PRIMARY KEY, csrf TEXT NOT NULL, created TEXT NOT NULL, expires TEXT NOT NULL) STRICT, WITHOUT ROWID;
