-- Schema 3: statements about images that people decide on, what staff did, runs that were retracted, values for the collection system.

-- Every statement that a person may decide on, public or not. The public record is made from it and can be made again.
CREATE TABLE review (
  iri TEXT PRIMARY KEY,
  maker TEXT NOT NULL CHECK (maker IN ('machine', 'person')),
  medium TEXT NOT NULL, image TEXT NOT NULL, output TEXT NOT NULL, pipeline TEXT NOT NULL, environment TEXT NOT NULL,
  work_key TEXT NOT NULL, job TEXT,
  document BLOB NOT NULL,          -- JSON, without version and times
  score INTEGER,                   -- thousandths: the lowest of its regions; NULL when none has a score
  class TEXT NOT NULL DEFAULT '',  -- the class of all its regions; 'mixed'; '' when it has none
  asked INTEGER NOT NULL,          -- 1: its job asked for public annotations and the policy agreed
  state TEXT NOT NULL CHECK (state IN ('pending', 'accepted', 'rejected')),
  by TEXT, at TEXT, reason TEXT NOT NULL DEFAULT '',
  action INTEGER,                  -- the entry of staff_action that decided
  supersedes TEXT, superseded_by TEXT,
  retraction INTEGER,              -- the run was taken back
  created TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX review_state ON review (state, iri);
CREATE INDEX review_pipeline ON review (pipeline, state, iri);
CREATE INDEX review_medium ON review (medium, output);
CREATE INDEX review_image ON review (image);
CREATE INDEX review_job ON review (job);

CREATE TABLE review_finding (
  iri TEXT NOT NULL, code TEXT NOT NULL, message TEXT NOT NULL, blocks INTEGER NOT NULL,  -- 1: it is never public
  PRIMARY KEY (iri, code, message)
) STRICT, WITHOUT ROWID;

-- What persons of the institution decided. Append-only.
CREATE TABLE staff_action (
  id INTEGER PRIMARY KEY, at TEXT NOT NULL, by TEXT NOT NULL, action TEXT NOT NULL, subject TEXT NOT NULL, detail TEXT NOT NULL
) STRICT;
CREATE INDEX staff_action_subject ON staff_action (subject, id);

-- Random samples that estimate how often the statements under a rule are right.
CREATE TABLE review_sample (
  id INTEGER PRIMARY KEY, rule TEXT NOT NULL, seed INTEGER NOT NULL, size INTEGER NOT NULL, population INTEGER NOT NULL,
  by TEXT NOT NULL, at TEXT NOT NULL
) STRICT;
CREATE TABLE review_sample_item (
  sample INTEGER NOT NULL, ordinal INTEGER NOT NULL, iri TEXT NOT NULL, verdict TEXT CHECK (verdict IN ('right', 'wrong')),
  PRIMARY KEY (sample, ordinal)
) STRICT, WITHOUT ROWID;
CREATE INDEX review_sample_item_iri ON review_sample_item (iri);

-- A run that was taken back: its plan first, then item by item, so that whoever finds it half done can finish it.
CREATE TABLE retraction (
  id INTEGER PRIMARY KEY, pipeline TEXT NOT NULL, job TEXT, selection TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL,
  by TEXT NOT NULL, at TEXT NOT NULL, state TEXT NOT NULL CHECK (state IN ('retracting', 'retracted', 'undoing', 'undone')),
  finished TEXT
) STRICT;
CREATE TABLE retraction_annotation (
  retraction INTEGER NOT NULL, iri TEXT NOT NULL, was_public INTEGER NOT NULL, done INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (retraction, iri)
) STRICT, WITHOUT ROWID;
CREATE INDEX retraction_annotation_iri ON retraction_annotation (iri);
CREATE TABLE retraction_row (
  retraction INTEGER NOT NULL, job_id TEXT NOT NULL, ordinal INTEGER NOT NULL, work_key TEXT NOT NULL,
  answer TEXT NOT NULL, reason TEXT, done INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (retraction, job_id, ordinal)
) STRICT, WITHOUT ROWID;
CREATE INDEX retraction_row_work ON retraction_row (work_key);

-- A value that an accepted statement proposes for a field of the institution's own row.
CREATE TABLE correction (
  iri TEXT NOT NULL, specimen TEXT NOT NULL, field TEXT NOT NULL,
  old TEXT NOT NULL, new TEXT NOT NULL,
  seq INTEGER NOT NULL,            -- number in the publication log from which on it is exported
  state TEXT NOT NULL CHECK (state IN ('open', 'incorporated', 'contradicted', 'withdrawn')),
  seen TEXT, at TEXT NOT NULL,     -- the value of the ingest that decided, and when
  PRIMARY KEY (iri, specimen, field)
) STRICT, WITHOUT ROWID;
CREATE INDEX correction_seq ON correction (seq);
CREATE INDEX correction_specimen ON correction (specimen);

-- Who a staff session belongs to: the name under which its token was made.
ALTER TABLE staff_token ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE staff_session ADD COLUMN name TEXT NOT NULL DEFAULT '';

-- Annotations that were published before wait for a decision like new ones.
INSERT INTO review (iri, maker, medium, image, output, pipeline, environment, work_key, job, document, score, class, asked, state, created)
SELECT a.iri, 'machine', a.medium, a.image, a.output, a.pipeline, a.environment, a.work_key, a.job,
       CAST(json_remove(CAST(r.body AS TEXT), '$."ods:version"', '$."dcterms:created"', '$."dcterms:modified"') AS BLOB),
       (SELECT CAST(round(min(CAST(json_extract(x.value, '$."vasculum:score"') AS REAL)) * 1000) AS INTEGER)
        FROM json_each(CAST(r.body AS TEXT), '$."vasculum:hasRegion"') x),
       (SELECT CASE count(DISTINCT coalesce(json_extract(x.value, '$."vasculum:writing"'), json_extract(x.value, '$."vasculum:symbology"'), ''))
               WHEN 0 THEN ''
               WHEN 1 THEN min(coalesce(json_extract(x.value, '$."vasculum:writing"'), json_extract(x.value, '$."vasculum:symbology"'), ''))
               ELSE 'mixed' END
        FROM json_each(CAST(r.body AS TEXT), '$."vasculum:hasRegion"') x),
       1, 'pending', a.created
FROM annotation a JOIN record r ON r.iri = a.iri WHERE r.state = 'active';
