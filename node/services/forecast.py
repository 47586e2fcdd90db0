"""What a setting will cost, in bytes and core-days, before it is turned on.

Owns: the defaults for what was never measured on this node, and the arithmetic. Pure: nothing is read or started.

Invariants:
- Every figure follows from the node's own counts (``node.services.holdings``); beside it stands how it was obtained:
  measured here, or a default with where it was measured.
- A setting that cannot keep what it promises is a warning that names a value that can.

It leaves out: printing (``node.cli.du``), prices, memory, the time a disk or a network needs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from node.config import Settings

MIB: Final = 1 << 20
DAY_S: Final = 86_400.0
CARE_SHARE: Final = 50 / 60
"""Share of the time in which a serving node reads in the background (``node.app``: 50 of every 60 seconds)."""
LEAF_ROW_BYTES: Final = 330
"""A leaf in the index with its share of everything around it: 328 measured with files of 5 MB."""
DEFAULT: Final = "default of docs/measurements.md"
"""Where the defaults below were measured, and how, stands there."""
HASH_BYTES_S: Final = 1_800_000_000.0
"""SHA-256 with the processor's own instructions; older processors reach a quarter of it."""
WRITE_S_PER_BYTE: Final = 1.2e-9
WRITE_S_PER_FILE: Final = 1.1e-3
"""Writing durably, beside hashing: 200 files of 10 MB took 3.5 CPU s, 5,000 of 200 KB 7.4 (``bench_store.py``)."""
PYRAMID_OF_JPEG: Final = 1.07
PYRAMID_BYTES_PER_PX: Final = 18.4e6 / 60e6
PYRAMID_S_PER_PX: Final = 0.5 / 60e6
"""A 60-megapixel JPEG as pyramid TIFF (512-px tiles, JPEG quality 85): 107 % of its bytes, 18.4 MB, 0.5 CPU s."""
FEWEST_MEASURED: Final = 5
"""So many results or previews make a measurement; fewer are chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Default:
    """What something costs where nothing was measured yet."""

    seconds_each: float
    seconds_per_mp: float
    bytes_each: float


PIPELINES: Final[Mapping[str, Default]] = {
    "label-text": Default(seconds_each=0.0, seconds_per_mp=1.2, bytes_each=1_000),
    "barcode": Default(seconds_each=0.0, seconds_per_mp=0.17, bytes_each=50),
    "quality": Default(seconds_each=0.0, seconds_per_mp=0.02, bytes_each=400),
    "segment": Default(seconds_each=0.3, seconds_per_mp=0.012, bytes_each=15_000),
    "objects": Default(seconds_each=0.38, seconds_per_mp=0.014, bytes_each=5_000),
    "traits": Default(seconds_each=0.0, seconds_per_mp=0.011, bytes_each=1_500),
    "chart": Default(seconds_each=0.0, seconds_per_mp=0.1, bytes_each=2_200),
    "scale": Default(seconds_each=0.0, seconds_per_mp=0.12, bytes_each=220),
    "embed": Default(seconds_each=0.002, seconds_per_mp=0.012, bytes_each=4_500),
    "kind": Default(seconds_each=0.0, seconds_per_mp=0.011, bytes_each=190),
    "embed-objects": Default(seconds_each=0.03, seconds_per_mp=0.011, bytes_each=30_000),
    "duplicates": Default(seconds_each=0.007, seconds_per_mp=0.013, bytes_each=1_020),
}
PREVIEW: Final = Default(seconds_each=0.2, seconds_per_mp=0.03, bytes_each=75_000)
"""The constant part is the process that decodes behind walls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A mean over results that this node has."""

    count: int
    seconds: float
    """Of the processor."""
    bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """What a node holds, as far as costs depend on it."""

    images: int
    """Different images of media that are active and whose bytes are here."""
    jpeg_bytes: int
    pixels: int
    other_pixels: int
    """Of images that are not JPEG."""
    unmeasured: int
    """Images whose size in pixels is not known."""
    blobs: int
    blob_bytes: int
    place_bytes: Mapping[str, int]
    """By volume (empty: own copies): what a scrub reads, so a file that lies twice counts twice."""
    owned: int
    large: int
    """Blobs of more than one leaf that have no leaf table."""
    large_bytes: int
    leaves: int
    listed: int
    listed_bytes: int
    database_bytes: int
    pipelines: Mapping[str, Measured]
    previews: Measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What one setting would cost."""

    setting: str
    what: str
    bytes: int
    """More on disk."""
    core_s: float
    """Processor seconds; of one round, where it is done again and again."""
    how: Sequence[str]
    """How the figures were obtained, in sentences."""
    warning: str = ""

    @property
    def core_days(self) -> float:
        """Days of one core."""
        return self.core_s / DAY_S


def forecast(held: Holdings, settings: Settings, *, hash_bytes_s: float | None, scrub_days: int) -> list[Forecast]:
    """The cost of every setting that makes a node work or write.

    Args:
        held: what the node holds.
        settings: of the node.
        hash_bytes_s: how fast one core hashes here; None when no image could be read.
        scrub_days: the round of the scrub, in days.
    """
    rate = hash_bytes_s or HASH_BYTES_S
    hashing = f"hashing {rate / 1e6:,.0f} MB/s of one core, " + (
        "measured here on a sample of the images" if hash_bytes_s else DEFAULT
    )
    return [
        _scrub(held, settings, rate, hashing, scrub_days),
        _leaf_tables(held, rate, hashing),
        _previews(held, settings),
        _pyramids(held),
        *(_pipeline(held, name) for name in settings.jobs.pipelines if name in PIPELINES or name in held.pipelines),
        _copied(
            "an archive tier", "the node's own copies moved there; the institution's files stay",
            held.owned, held.place_bytes.get("", 0), rate, hashing,
        ),
        _copied(
            "a copy of everything", "backup of every image and of the databases",
            held.blobs, held.blob_bytes + held.database_bytes, rate, hashing,
        ),
        Forecast(
            setting="vasculum hash", what="masters that are listed and not hashed yet", bytes=0,
            core_s=held.listed_bytes / rate,
            how=(f"{held.listed:,} listed files ({size(held.listed_bytes)}), read once where they lie", hashing),
        ),
    ]  # fmt: skip


def _scrub(held: Holdings, settings: Settings, rate: float, hashing: str, days: int) -> Forecast:
    total = sum(held.place_bytes.values())
    need = total / (days * DAY_S * CARE_SHARE * MIB)
    limit = settings.care.scrub_mib_s
    how = [
        f"{size(total)} read in {days} days; the core-days are of one round, {365 / days:,.3g} rounds a year",
        f"needs {need:,.3g} MiB/s while the node reads in the background (50 of 60 seconds);"
        + (f" scrub_mib_s = {limit}" if limit else " scrub_mib_s = 0: no limit"),
        hashing,
    ]
    warnings = []
    if limit and need > limit:
        takes = total / (limit * MIB * CARE_SHARE * DAY_S)
        warnings.append(
            f"scrub_mib_s = {limit} does not suffice: a round takes {takes:,.0f} days;"
            f" write at least {_up(need)} or scrub_days = {_up(takes)}"
        )
    for name, volume in sorted(settings.volumes.items()):
        held_there = held.place_bytes.get(name, 0)
        if volume.max_read_mib_s and held_there > volume.max_read_mib_s * MIB * CARE_SHARE * DAY_S * days:
            takes = held_there / (volume.max_read_mib_s * MIB * CARE_SHARE * DAY_S)
            warnings.append(
                f"volume {name}: max_read_mib_s = {volume.max_read_mib_s} is too slow for {size(held_there)} in {days}"
                f" days even when nobody else reads: a round takes {takes:,.0f} days"
            )
    return Forecast(
        setting=f"[care] scrub_days = {days}", what="every image read and compared with its hash", bytes=0,
        core_s=total / rate, how=how, warning="; ".join(warnings),
    )  # fmt: skip


def _leaf_tables(held: Holdings, rate: float, hashing: str) -> Forecast:
    counted = f"{held.large:,} files above 1 MiB without a table ({size(held.large_bytes)}, {held.leaves:,} leaves)"
    return Forecast(
        setting='[care] leaf_tables = "background"', what="parts of large files, for IPFS, ranges and repair",
        bytes=held.leaves * LEAF_ROW_BYTES, core_s=2 * held.large_bytes / rate,
        how=(
            counted, f"{LEAF_ROW_BYTES} bytes a leaf ({DEFAULT}); each byte is hashed twice",
            hashing,
        ),
    )  # fmt: skip


def _previews(held: Holdings, settings: Settings) -> Forecast:
    made = held.previews
    per_image, origin = PREVIEW.bytes_each, DEFAULT
    if made.count >= FEWEST_MEASURED:
        per_image, origin = made.bytes, f"measured here on {made.count:,} previews"
    return Forecast(
        setting=f"[images] preview_px = {settings.images.preview_px}",
        what="previews of all images, each made when it is first looked at",
        bytes=round(per_image * held.images), core_s=_default_s(PREVIEW, held),
        how=(
            f"{held.images:,} images, {size(per_image)} each ({origin}); {made.count:,} of them are there already",
            f"{_default_text(PREVIEW, held)} ({DEFAULT})",
        ),
    )  # fmt: skip


def _pyramids(held: Holdings) -> Forecast:
    how = [
        f"{size(held.jpeg_bytes)} of JPEG, {PYRAMID_OF_JPEG:.0%} of them (512-px tiles, JPEG quality 85; {DEFAULT})",
        f"{held.pixels / 1e6:,.0f} megapixels at 0.5 core-seconds per 60 ({DEFAULT})",
    ]
    if held.other_pixels:
        how.append(
            f"{held.other_pixels / 1e6:,.0f} megapixels that are no JPEG at {PYRAMID_BYTES_PER_PX:.2f} bytes each"
        )
    if held.unmeasured:
        how.append(f"{held.unmeasured:,} images of unknown size in pixels count by their bytes only")
    return Forecast(
        setting="pyramids", what="tiles of all images for deep zoom",
        bytes=round(held.jpeg_bytes * PYRAMID_OF_JPEG + held.other_pixels * PYRAMID_BYTES_PER_PX),
        core_s=held.pixels * PYRAMID_S_PER_PX, how=how,
    )  # fmt: skip


def _pipeline(held: Holdings, name: str) -> Forecast:
    done, default = held.pipelines.get(name, Measured(count=0, seconds=0.0, bytes=0.0)), PIPELINES.get(name)
    if default is None or done.count >= FEWEST_MEASURED:
        seconds, per_image = done.seconds * held.images, done.bytes
        how = f"{done.seconds:,.3g} core-seconds and"
        origin = f"measured here on {done.count:,} results"
    else:
        seconds, per_image = _default_s(default, held), default.bytes_each
        how, origin = f"{_default_text(default, held)},", DEFAULT
    return Forecast(
        setting=f"[jobs] pipelines: {name}", what="a job over all images", bytes=round(per_image * held.images),
        core_s=seconds,
        how=(
            f"{held.images:,} images, {how} {per_image:,.0f} bytes of result each ({origin})",
            f"{done.count:,} results are here; in the same environment they are not computed again",
        ),
    )  # fmt: skip


def _default_s(default: Default, held: Holdings) -> float:
    return default.seconds_each * held.images + default.seconds_per_mp * held.pixels / 1e6


def _default_text(default: Default, held: Holdings) -> str:
    each = f"{default.seconds_each:g} core-seconds each and " if default.seconds_each else ""
    return f"{each}{default.seconds_per_mp:g} core-seconds for each of {held.pixels / 1e6:,.1f} megapixels"


def _copied(setting: str, what: str, files: int, count: int, rate: float, hashing: str) -> Forecast:
    return Forecast(
        setting=setting, what=what, bytes=count,
        core_s=count / rate + count * WRITE_S_PER_BYTE + files * WRITE_S_PER_FILE,
        how=(
            f"{files:,} files, {size(count)}: read, hashed and written", hashing,
            f"writing: 1.2 core-seconds a GB and 1.1 ms a file ({DEFAULT})",
        ),
    )  # fmt: skip


def size(count: float) -> str:
    """Bytes in words: 12.3 GB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def _up(value: float) -> int:
    return math.ceil(value)
