"""The application: configuration, database, HTTP handlers, pages, command line, registry."""
