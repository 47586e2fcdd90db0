-- Schema 5. The search tables get a number per specimen, more of GBIF's parameters, and regions that machines marked.

-- How many records had no value for a condition of the job's selection, JSON, as counted when it was sent.
ALTER TABLE job ADD COLUMN no_value TEXT NOT NULL DEFAULT '[]';

-- Search tables: derived from record, medium and annotation; `vasculum reindex` builds them beside and swaps.
DROP TABLE specimen_facet;
DROP TABLE specimen_text;
CREATE TABLE specimen_facet (
  n INTEGER PRIMARY KEY,           -- what anybody may find is above 0, private specimens are below; order of pages
  iri TEXT NOT NULL UNIQUE, access INTEGER NOT NULL, source TEXT,
  scientific_name TEXT COLLATE NOCASE, canonical_name TEXT COLLATE NOCASE, name_authorship TEXT COLLATE NOCASE,
  taxon_rank TEXT COLLATE NOCASE, kingdom TEXT COLLATE NOCASE, phylum TEXT COLLATE NOCASE, class TEXT COLLATE NOCASE,
  "order" TEXT COLLATE NOCASE, family TEXT COLLATE NOCASE, genus TEXT COLLATE NOCASE,
  specific_epithet TEXT COLLATE NOCASE, infraspecific_epithet TEXT COLLATE NOCASE, type_status TEXT COLLATE NOCASE,
  identified_by TEXT COLLATE NOCASE, continent TEXT COLLATE NOCASE, country TEXT COLLATE NOCASE,
  country_code TEXT COLLATE NOCASE, country_or_code TEXT COLLATE NOCASE, state_province TEXT COLLATE NOCASE,
  county TEXT COLLATE NOCASE, locality TEXT COLLATE NOCASE, latitude REAL, longitude REAL, uncertainty REAL,
  elevation REAL, year INTEGER, month INTEGER, first_day TEXT, last_day TEXT, recorded_by TEXT COLLATE NOCASE,
  record_number TEXT COLLATE NOCASE, institution_code TEXT COLLATE NOCASE, collection_code TEXT COLLATE NOCASE,
  catalog_number TEXT COLLATE NOCASE, occurrence_id TEXT COLLATE NOCASE, basis_of_record TEXT COLLATE NOCASE,
  sex TEXT COLLATE NOCASE, life_stage TEXT COLLATE NOCASE, license TEXT COLLATE NOCASE,
  media_type TEXT COLLATE NOCASE, has_image INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX specimen_facet_kingdom ON specimen_facet (kingdom, family, country, year);
-- These three answer the commonest questions, with their counts and facets, without looking at a row.
CREATE INDEX specimen_facet_family
  ON specimen_facet (family, country, year, type_status, institution_code, latitude, longitude);
CREATE INDEX specimen_facet_genus ON specimen_facet (genus, country, year, type_status, institution_code, family);
CREATE INDEX specimen_facet_country ON specimen_facet (country, year, family, type_status, institution_code);
CREATE INDEX specimen_facet_name ON specimen_facet (scientific_name);
CREATE INDEX specimen_facet_canonical ON specimen_facet (canonical_name);
CREATE INDEX specimen_facet_country_or_code ON specimen_facet (country_or_code);
CREATE INDEX specimen_facet_state ON specimen_facet (state_province);
CREATE INDEX specimen_facet_year ON specimen_facet (year);
CREATE INDEX specimen_facet_day ON specimen_facet (first_day, last_day);
CREATE INDEX specimen_facet_place ON specimen_facet (latitude, longitude);
CREATE INDEX specimen_facet_recorded_by ON specimen_facet (recorded_by);
CREATE INDEX specimen_facet_catalog ON specimen_facet (catalog_number);
CREATE INDEX specimen_facet_occurrence ON specimen_facet (occurrence_id);
CREATE INDEX specimen_facet_institution ON specimen_facet (institution_code, collection_code);
CREATE INDEX specimen_facet_type ON specimen_facet (type_status);
CREATE VIRTUAL TABLE specimen_text USING fts5 (body, tokenize = "unicode61 remove_diacritics 2");

-- One region (or, without regions, one whole result) of a current annotation, by specimen.
CREATE TABLE annotation_mark (
  id INTEGER PRIMARY KEY, n INTEGER NOT NULL, annotation TEXT NOT NULL, class TEXT NOT NULL COLLATE NOCASE, score REAL,
  pipeline TEXT NOT NULL, pipeline_name TEXT NOT NULL COLLATE NOCASE, is_public INTEGER NOT NULL
) STRICT;
CREATE INDEX annotation_mark_n ON annotation_mark (n);
CREATE INDEX annotation_mark_class ON annotation_mark (class, score);
CREATE VIRTUAL TABLE annotation_text USING fts5 (body, tokenize = "unicode61 remove_diacritics 2");

-- While the tables are built anew: specimens that changed meanwhile.
CREATE TABLE search_dirty (iri TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('search_stale', 'schema 5') ON CONFLICT (key) DO UPDATE SET value = excluded.value;
