"""What a node says: typed documents, their JSON-LD, canonical bytes, envelopes and the publication log.

No I/O beyond reading archives.
"""
