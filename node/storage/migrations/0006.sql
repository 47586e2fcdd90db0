-- Schema 6. Variants of one exposure, results that carry over to new bytes of the same picture, images that wait for pipelines.

-- Bytes that came with a version of a medium: of the file that is processed, and of its other variants.
ALTER TABLE medium_version RENAME TO medium_version_5;
CREATE TABLE medium_version (
  iri TEXT NOT NULL, version INTEGER NOT NULL, image TEXT NOT NULL, width INTEGER, height INTEGER, created TEXT NOT NULL,
  PRIMARY KEY (iri, version, image)
) STRICT, WITHOUT ROWID;
INSERT INTO medium_version SELECT iri, version, image, width, height, created FROM medium_version_5 WHERE image IS NOT NULL;
DROP TABLE medium_version_5;
CREATE INDEX medium_version_image ON medium_version (image);

-- The other files of an exposure as they are now, beside the one that is processed, which is the row of medium itself.
CREATE TABLE medium_variant (
  source TEXT NOT NULL, key TEXT NOT NULL, medium TEXT NOT NULL,
  image TEXT,                      -- sha256 hex; NULL when the bytes are not here (see problem)
  format TEXT, width INTEGER, height INTEGER, size_bytes INTEGER, locator TEXT NOT NULL DEFAULT '', problem TEXT,
  PRIMARY KEY (source, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX medium_variant_medium ON medium_variant (medium);
CREATE INDEX medium_variant_image ON medium_variant (image);

-- What decodes to the picture, without embedded metadata: sha256 hex; '' when it cannot be told; NULL: nobody looked.
ALTER TABLE luggage ADD COLUMN picture TEXT;

-- What was computed from one file holds for another of the same picture: only embedded metadata differs.
CREATE TABLE carried_over (
  medium TEXT NOT NULL, image TEXT NOT NULL, from_image TEXT NOT NULL, picture TEXT NOT NULL, at TEXT NOT NULL,
  PRIMARY KEY (medium, image, from_image)
) STRICT, WITHOUT ROWID;
CREATE INDEX carried_over_image ON carried_over (image);

-- Images that wait for the node's own pipelines: who queues the work takes the row away.
CREATE TABLE pipeline_request (
  medium TEXT NOT NULL, image TEXT NOT NULL, reason TEXT NOT NULL, at TEXT NOT NULL, PRIMARY KEY (medium, image)
) STRICT, WITHOUT ROWID;
