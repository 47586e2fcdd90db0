"""``python -P -m runners.preview DESCRIPTOR LONGEST_SIDE_PX MAX_PIXELS``: a small JPEG on standard output.

Runs in a process of its own behind the same walls as a worker, because decoding is where hostile files bite.
The preview is upright RGB without any metadata of the original. Exit code 4 and a reason on
standard error when the image cannot be used.
"""

import io
import sys
from typing import Final

from PIL import Image

from runners.decode import Limits, decode_upright, open_descriptor
from runners.errors import ImageRefused
from runners.sandbox import die_with_parent, lock_down

MEMORY_BYTES: Final = 4 * 1024**3
"""A 400-megapixel image takes 1.2 GB as RGB and as much again while it is turned upright."""
QUALITY: Final = 82


def main() -> int:
    """Reads, shrinks, writes."""
    descriptor, side, max_pixels = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    die_with_parent()
    Image.init()
    lock_down(memory_bytes=MEMORY_BYTES)
    try:
        stream, size = open_descriptor(descriptor)
        with stream:
            pixels = decode_upright(stream, size, Limits(max_pixels=max_pixels))
        picture = Image.fromarray(pixels)
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    except (ImageRefused, MemoryError) as error:
        sys.stderr.write(str(error) or "not enough memory")
        return 4
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=QUALITY, optimize=True)
    sys.stdout.buffer.write(out.getvalue())
    return 0


if __name__ == "__main__":
    sys.exit(main())
