"""The node's SQLite database: one file, one writer at any moment, functions that take a connection."""
