"""A simulated power cut: an ext4 filesystem on a loop device that drops all that lies only in memory, journal included.

It models the loss of what was not synced. It does not model torn sectors, reordering, or a disk that lies.
A real cut ends the program too, this one does not: of the syncs that were under way while it happened some are said to
have succeeded and have not (7 of 20 on Linux 6.18; of 3,908 that had ended before, none was lost). So a promise is what
was said before the cut began.
"""

import fcntl
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

_SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN
_NOLOGFLUSH = struct.pack("I", 2)


class LoopDisk:
    """One filesystem in a file."""

    def __init__(self, image: Path, mount: Path, *, size_mb: int = 200) -> None:
        self.mount = mount
        self._image = image
        subprocess.run(["truncate", "-s", f"{size_mb}M", str(image)], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True, capture_output=True)
        mount.mkdir()
        self.plug_in()

    def plug_in(self) -> None:
        """Mounts it; what the journal of the filesystem holds is replayed."""
        subprocess.run(["mount", "-o", "loop", str(self._image), str(self.mount)], check=True, capture_output=True)

    def sync(self) -> None:
        """Everything that is there now is on disk."""
        subprocess.run(["sync", "-f", str(self.mount)], check=True)

    def cut(self) -> None:
        """The power fails. Who still writes gets EIO."""
        descriptor = os.open(self.mount, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, _NOLOGFLUSH)
        finally:
            os.close(descriptor)

    def unplug(self) -> None:
        """Unmounts it."""
        subprocess.run(["umount", str(self.mount)], check=True)

    def throw_away(self) -> None:
        """Unmounts it and removes its file."""
        self.unplug()
        self._image.unlink()


def skip_without_power_cuts(tmp_path: Path) -> None:
    """Leaves the test out, with the reason, where this machine permits none."""
    if os.geteuid() != 0:
        pytest.skip("did not run: needs root, to mount a loop filesystem")
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("did not run: needs mkfs.ext4")
    try:
        LoopDisk(tmp_path / "probe.img", tmp_path / "probe", size_mb=20).throw_away()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"did not run: no loop mounts here ({error.stderr.decode().strip()[:100]})")
