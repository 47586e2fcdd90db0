-- Schema 12. Pipelines that ran here, by digest: a name for each digest that results cite, also after a new version came.
CREATE TABLE pipeline (
  digest TEXT PRIMARY KEY, name TEXT NOT NULL, version TEXT NOT NULL, output TEXT NOT NULL,
  manifest BLOB,                   -- canonical JSON; NULL: it ran before manifests were kept
  first_seen TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX pipeline_name ON pipeline (name, output);
INSERT OR IGNORE INTO pipeline
SELECT json_extract(s.value, '$.pipeline'), json_extract(s.value, '$.name'), '', json_extract(s.value, '$.output'), NULL, j.created
FROM job j, json_each(j.steps) s ORDER BY j.created;
