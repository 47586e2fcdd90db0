-- Schema 10. Narrow indexes: columns in memory make the facets of large collections, so no index has to hold them.
-- (A rebuilt table has the same indexes under names that end in _b.)
DROP INDEX IF EXISTS specimen_facet_kingdom;
DROP INDEX IF EXISTS specimen_facet_kingdom_b;
DROP INDEX IF EXISTS specimen_facet_family;
DROP INDEX IF EXISTS specimen_facet_family_b;
DROP INDEX IF EXISTS specimen_facet_genus;
DROP INDEX IF EXISTS specimen_facet_genus_b;
DROP INDEX IF EXISTS specimen_facet_country;
DROP INDEX IF EXISTS specimen_facet_country_b;
CREATE INDEX specimen_facet_kingdom ON specimen_facet (kingdom);
CREATE INDEX specimen_facet_family ON specimen_facet (family);
CREATE INDEX specimen_facet_genus ON specimen_facet (genus);
CREATE INDEX specimen_facet_country ON specimen_facet (country);
