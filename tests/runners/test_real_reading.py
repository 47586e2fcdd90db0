"""The reading pipelines on real specimen images: floors under what was measured, so that a change cannot worsen it unseen.

The pipelines were tuned on these images (there are no others), so the floors guard against steps back and promise
nothing for other collections. The figures themselves: ``make accuracy``.
"""

from ctypes.util import find_library
from pathlib import Path

import pytest

from benchmarks.accuracy_reading import COLLECTIONS, judge_blocks, judge_codes, read_all, table


def images_of(shared_data: Path, rows: list[dict[str, str]]) -> list[Path]:
    wanted = {row["file"] for row in rows}
    found = [path for name in COLLECTIONS for path in (shared_data / name / "images").iterdir() if path.name in wanted]
    assert len(found) == len(wanted)
    return found


@pytest.mark.real_data
@pytest.mark.timeout(1800)
async def test_codes_on_real_images(shared_data: Path) -> None:
    rows = table(shared_data / "truth" / "barcodes.tsv")
    bodies, _ = await read_all("barcode", images_of(shared_data, rows))
    judged = judge_codes(rows, bodies)
    # One Code 128 on the sheet with three is read by zbar only.
    assert judged["found"] >= (18 if find_library("zbar") else 17), judged["missed"]
    assert judged["further"] == []


@pytest.mark.real_data
@pytest.mark.timeout(1800)
async def test_text_on_real_labels(shared_data: Path) -> None:
    rows = table(shared_data / "truth" / "labels.tsv")
    bodies, _ = await read_all("label-text", images_of(shared_data, rows))
    blocks = judge_blocks(rows, bodies)
    assert blocks["printed"]["cer_strict"] <= 0.055
    assert blocks["printed"]["words_found"] >= 405
    assert blocks["turned"]["words_found"] >= 88
    assert sum(kind["words_missed_silently"] for kind in blocks.values()) <= 60
