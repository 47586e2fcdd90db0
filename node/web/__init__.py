"""HTTP of a node: bytes, records, search, harvest, pages. Thin: every handler asks ``node.access`` and the storage."""
