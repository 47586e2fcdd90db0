"""``vasculum demo``: three made institutions, one registry, one federated job, on this machine.

It goes through the real commands; only the collections are drawn.
"""
