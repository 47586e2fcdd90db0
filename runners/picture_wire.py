"""What both ends of a picture process know: the word at the start, the form of the answers."""

import struct
from typing import Final

HEAD: Final = struct.Struct(">II")
"""Bytes of the JSON object, bytes behind it."""
READY: Final = b"ready"
"""What a process says on its control socket once its walls stand."""
MAX_SAID_BYTES: Final = 65_536
MAX_ANSWER_BYTES: Final = 512 * 1024 * 1024
"""A lossless picture of 20 megapixels in noise has 60 MB."""
