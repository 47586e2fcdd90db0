"""Bytes by hash: put, stat, open a range. Knows nothing of collections, RDF, HTTP or jobs."""
