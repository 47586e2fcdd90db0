"""Use cases of the node: ingest and jobs.

They know the storage and the packages below, not HTTP or the command line.
"""
