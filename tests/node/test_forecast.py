"""``vasculum du --forecast``: every figure follows from the node's own counts, recomputed here by hand."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import NOW, ROOT, ingest, jpeg, rows_of, write_archive

from cas.leaves import build_leaf_table
from linkeddata.outputs.contracts import HIDDEN_STEPS, STEPS
from node.app import CARE_SLICE_S, CARE_TICK_S
from node.cli.main import run
from node.config import parse_settings
from node.folder import NodeFolder
from node.services import forecast as module
from node.services.forecast import Forecast, Holdings, Measured, forecast
from node.services.holdings import count_holdings

Make = Callable[..., NodeFolder]
MIB = 1 << 20
NOTHING = Holdings(
    images=0, jpeg_bytes=0, pixels=0, other_pixels=0, unmeasured=0, blobs=0, blob_bytes=0, place_bytes={}, owned=0,
    large=0, large_bytes=0, leaves=0, listed=0, listed_bytes=0, database_bytes=0, pipelines={},
    previews=Measured(count=0, seconds=0.0, bytes=0.0),
)  # fmt: skip


def settings_of(**tables: Any) -> Any:
    return parse_settings({"node": {"name": "x", "public_url": "https://x.example"}, **tables}, Path("/nowhere"))


def by_name(costs: list[Forecast], start: str) -> Forecast:
    (found,) = [item for item in costs if item.setting.startswith(start)]
    return found


def test_the_counts_are_those_of_the_node(make_node: Make, tmp_path: Path) -> None:
    node = make_node(settings='[volumes.masters]\nroot = "../masters"\n')
    source = write_archive(tmp_path / "a", rows_of(4), images=lambda n: jpeg(n, size=(64 + n, 48)))
    (source / "images" / "copy.jpg").write_bytes((source / "images" / "0.jpg").read_bytes())
    ingest(node, source)
    held = count_holdings(node.database, node.blobs, node.settings)
    on_disk = [(source / "images" / f"{n}.jpg").stat().st_size for n in range(4)]
    assert (held.images, held.jpeg_bytes, held.pixels) == (4, sum(on_disk), (64 + 65 + 66 + 67) * 48)
    assert (held.other_pixels, held.unmeasured, held.owned, held.large, held.leaves) == (0, 0, 0, 0, 0)
    assert (held.blobs, held.blob_bytes, dict(held.place_bytes)) == (4, sum(on_disk), {"collection": sum(on_disk)})
    # A second record with the same image, own copies of 2.5 and of exactly 1 MiB, listed masters, results, previews.
    one, exact = node.blobs.put_bytes(bytes(5 * MIB // 2), now=NOW), node.blobs.put_bytes(b"x" * MIB, now=NOW)
    (tmp_path / "masters").mkdir()
    (tmp_path / "masters" / "m.tif").write_bytes(bytes(12_345))
    assert run(["volume", "scan", str(node.settings.folder), "masters", "--list-only"]) == 0
    with node.database.transaction() as conn:
        for number in range(6):
            state = "done" if number else "failed"
            conn.execute(
                """INSERT INTO unit (work_key, output, pipeline, parameters, image, environment, state, body, created,
                                     seconds) VALUES (?, 'quality/1', 'p', '{}', 'i', 'e', ?, ?, 't', ?)""",
                (f"k{number}", state, b"y" * (10 * number), float(number)),
            )
        conn.execute("UPDATE medium SET format = 'image/tiff' WHERE width = 64")
        conn.execute("UPDATE medium SET width = NULL WHERE width = 65")
    folder = node.settings.derived_path / "preview-1600" / "ab"
    folder.mkdir(parents=True)
    (folder / "1.jpg").write_bytes(bytes(100))
    (folder / "2.jpg").write_bytes(bytes(300))
    held = count_holdings(node.database, node.blobs, node.settings)
    assert (held.large, held.large_bytes, held.leaves) == (1, one.size, 3)
    assert held.place_bytes[""] == one.size + exact.size
    assert (held.owned, held.listed, held.listed_bytes) == (2, 1, 12_345)
    assert held.pipelines == {"quality": Measured(count=5, seconds=3.0, bytes=30.0)}
    assert (held.previews.count, held.previews.bytes) == (2, 200.0)
    assert (held.other_pixels, held.unmeasured, held.pixels) == (64 * 48, 1, (64 + 66 + 67) * 48)
    assert held.jpeg_bytes == sum(on_disk[1:])
    build_leaf_table(node.blobs, one.id, now=NOW + timedelta(days=1))
    assert count_holdings(node.database, node.blobs, node.settings).large == 0


def test_each_cost_by_hand() -> None:
    held = replace(
        NOTHING, images=1_000_000, jpeg_bytes=3 * 10**12, pixels=20 * 10**12, blobs=1_100_000, blob_bytes=4 * 10**12,
        place_bytes={"": 10**12, "scans": 3 * 10**12}, owned=100_000, large=900_000, large_bytes=27 * 10**11,
        leaves=3_000_000, listed=7, listed_bytes=36 * 10**12, database_bytes=10**10,
        pipelines={"barcode": Measured(count=5, seconds=0.5, bytes=80.0), "quality": Measured(count=4, seconds=9, bytes=9)},
        previews=Measured(count=12, seconds=0.0, bytes=200_000.0),
    )  # fmt: skip
    costs = forecast(held, settings_of(), hash_bytes_s=1e9, scrub_days=90)

    def figures(start: str) -> tuple[int, float]:
        cost = by_name(costs, start)
        return cost.bytes, round(cost.core_days, 3)

    assert figures("[care] scrub_days") == (0, round(4000 / 86_400, 3))
    assert figures("[care] leaf_tables") == (990_000_000, round(5400 / 86_400, 3))
    assert figures("[images] preview_px") == (200_000 * 10**6, round((0.2 + 20 * 0.03) * 10**6 / 86_400, 3))
    assert figures("pyramids") == (3_210_000_000_000, round(20e12 / 60e6 * 0.5 / 86_400, 3))
    assert figures("[jobs] pipelines: barcode") == (80 * 10**6, round(500_000 / 86_400, 3))
    assert figures("[jobs] pipelines: quality") == (400 * 10**6, round(0.02 * 20 * 10**6 / 86_400, 3))
    assert figures("[jobs] pipelines: label-text") == (10**9, round(1.2 * 20 * 10**6 / 86_400, 3))
    assert figures("an archive tier") == (10**12, round((1000 + 1200 + 110) / 86_400, 3))
    assert figures("a copy of everything") == (401 * 10**10, round((4010 + 4812 + 1210) / 86_400, 3))
    assert figures("vasculum hash") == (0, round(36_000 / 86_400, 3))
    said = {cost.setting: " ".join(cost.how) for cost in costs}
    assert "measured here on 5 results" in said["[jobs] pipelines: barcode"]
    assert "default of docs/measurements.md" in said["[jobs] pipelines: quality"], "four results are chance"
    assert "measured here on 12 previews" in said["[images] preview_px = 1600"]
    assert "1,000 MB/s of one core, measured here" in said["[care] scrub_days = 90"]
    assert not any(cost.warning for cost in costs)
    [scrub] = [
        item for item in forecast(held, settings_of(), hash_bytes_s=None, scrub_days=90) if "scrub" in item.setting
    ]
    assert "1,800 MB/s of one core, default" in " ".join(scrub.how)
    assert math.isclose(scrub.core_s, 4e12 / 1.8e9)


def test_other_formats_count_by_their_pixels() -> None:
    held = replace(NOTHING, images=2, pixels=60_000_000, other_pixels=60_000_000, unmeasured=1)
    cost = by_name(forecast(held, settings_of(), hash_bytes_s=1e9, scrub_days=90), "pyramids")
    assert (cost.bytes, cost.core_s) == (18_400_000, 0.5)
    assert "1 images of unknown size" in " ".join(cost.how)


def test_a_limit_that_does_not_suffice_is_said_with_one_that_does() -> None:
    held = replace(NOTHING, place_bytes={"": 0, "scans": 200 * 10**12})
    volumes = {"scans": {"root": "/s", "max_read_mib_s": 25}}

    def warning(days: int, rate: int) -> str:
        chosen = settings_of(care={"scrub_mib_s": rate}, volumes=volumes)
        return by_name(forecast(held, chosen, hash_bytes_s=1e9, scrub_days=days), "[care] scrub").warning

    need = 200e12 / (90 * 86_400 * 50 / 60 * MIB)  # 29.4 MiB a second
    said = warning(90, 20)
    assert f"write at least {math.ceil(need)} or scrub_days = 133" in said
    assert "volume scans: max_read_mib_s = 25 is too slow" in said
    assert "scrub_mib_s" not in warning(90, 30)
    assert "scrub_mib_s" not in warning(90, 0), "no limit is enough"
    assert warning(133, 20) == "", "what the warning proposes is enough"


def test_the_share_of_the_time_is_that_of_the_node() -> None:
    assert module.CARE_SHARE == CARE_SLICE_S / CARE_TICK_S


def test_every_pipeline_that_comes_with_a_node_has_a_default() -> None:
    assert set(module.PIPELINES) == set(STEPS) - HIDDEN_STEPS


def test_every_default_stands_in_the_documentation() -> None:
    text = (ROOT / "docs" / "measurements.md").read_text("utf-8")
    for name, default in module.PIPELINES.items():
        row = f"| `{name}` | {default.seconds_per_mp:g} core-seconds a megapixel; {default.bytes_each:,.0f} bytes |"
        assert row in text
    made = module.PREVIEW
    assert f"{made.seconds_each:g} core-seconds each and {made.seconds_per_mp:g} a megapixel" in text
    assert f"{made.bytes_each / 1000:.0f} kB" in text
    assert f"{module.HASH_BYTES_S / 1e6:,.0f} MB a second" in text
    assert (
        f"{module.WRITE_S_PER_BYTE * 1e9:g} core-seconds a GB and {module.WRITE_S_PER_FILE * 1e3:g} ms a file" in text
    )
    assert f"{module.LEAF_ROW_BYTES} bytes" in text
    assert f"{module.PYRAMID_OF_JPEG:.0%} of".replace("%", " %") in text


def test_the_command_says_what_how_and_in_json(
    make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = make_node(settings="[care]\nscrub_mib_s = 1\n")
    ingest(node, write_archive(tmp_path / "a", rows_of(2), images=jpeg))
    folder = str(node.settings.folder)
    with node.blobs.index.transaction() as conn:
        conn.execute("UPDATE location SET size = 1000000000000 WHERE path = 'images/0.jpg'")
    assert run(["du", folder, "--forecast", "--scrub-days", "10"]) == 0
    said = capsys.readouterr().out
    assert "2 images of 0.00614 megapixels" in said
    assert "[care] scrub_days = 10" in said
    assert "WARNING: scrub_mib_s = 1 does not suffice" in said
    assert "TB more on disk" in said
    assert run(["du", folder, "--forecast", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["holdings"]["images"] == 2
    names = [item["setting"].split(" ")[0] for item in found["forecasts"]]
    assert names == ["[care]", "[care]", "[images]", "pyramids", "[jobs]", "[jobs]", "[jobs]", "an", "a", "vasculum"]
    assert all(item["how"] for item in found["forecasts"])
    assert run(["du", folder, "--scrub-days", "10"]) == 2
    assert "belongs to --forecast" in capsys.readouterr().err
