"""Training of the networks that ship with the runners: made pictures, networks, loops.

Nothing here is imported by a serving node. ``torch`` (extra ``train``) is imported inside functions of this package and
nowhere else; what comes out is ONNX under ``runners/models``.
"""
