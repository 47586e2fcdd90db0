"""Talking to other nodes: identity, signed documents and requests, policy, registry, the client of federated jobs."""
