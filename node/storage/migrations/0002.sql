-- Schema 2. What the checks say about every record.

-- One flag of one specimen record; `vasculum findings` and the search parameter `issue` read it.
CREATE TABLE record_issue (
  iri TEXT NOT NULL, code TEXT NOT NULL,
  detail TEXT NOT NULL,            -- values as received; for staff only
  is_public INTEGER NOT NULL,      -- 1 when the flag also stands in the public document
  PRIMARY KEY (iri, code)
) STRICT, WITHOUT ROWID;
CREATE INDEX record_issue_code ON record_issue (code, iri);

ALTER TABLE source_row ADD COLUMN mids INTEGER;   -- MIDS level of the record as published; NULL: none, or not computed yet
CREATE INDEX source_row_mids ON source_row (source, state, mids);
