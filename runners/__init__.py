"""Doing work on this machine: pipelines, isolated worker processes, the engine and its journal. Knows no federation."""
