-- Schema 8. A log of changes of the search tables, by which columns in memory follow them.

-- Specimens whose numbers lie in this range (both ends included) changed. Only the newest entries are kept.
CREATE TABLE search_change (seq INTEGER PRIMARY KEY, low INTEGER NOT NULL, high INTEGER NOT NULL) STRICT;
