"""The form of the answers of picture processes, for both ends: two lengths, a JSON object, bytes."""

import struct
from typing import Final

HEAD: Final = struct.Struct(">II")
"""Bytes of the JSON object, bytes behind it."""
MAX_SAID_BYTES: Final = 65_536
MAX_ANSWER_BYTES: Final = 512 * 1024 * 1024
"""A lossless picture of 20 megapixels in noise has 60 MB."""
