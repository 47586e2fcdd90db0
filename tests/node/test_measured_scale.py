"""A scale that the node measured feeds the scale bar of the page and the manifest, unless the institution states one."""

import re
from pathlib import Path
from typing import Any

import pytest
from conftest import NOW
from web_world import SETTINGS, World, serving

from cas.ids import ContentId
from linkeddata.annotation import build_annotation
from linkeddata.licences import AccessClass
from linkeddata.outputs import UnitAnswer, parse_output
from node.storage import annotations, records
from node.web.overlays import Overlay, scale_of

BODY = {
    "image": {"width": 64, "height": 48}, "px_per_mm": "4.2500", "unit": "mm", "marks": "1 mm", "score": "0.95",
    "rulers": 1, "box": [2, 30, 50, 8], "doubts": [],
}  # fmt: skip


def publish_scale(world: World) -> None:
    iri = f"{world.node.settings.origin}/annotation/{'m' * 16}"
    image = ContentId.from_hex(world.images["open"])
    document = build_annotation(
        iri=iri, medium=world.media["open"], image=image, output=parse_output("scale/1", BODY), contract="scale/1",
        pipeline="sha256:" + "0" * 64, pipeline_name="scale", environment="sha256:" + "1" * 64, conformance="pass",
        job="urn:uuid:x", answer=UnitAnswer(answer="yes"),
    )  # fmt: skip
    with world.node.database.transaction() as conn:
        records.publish(
            conn, records.NewRecord(kind="annotation", iri=iri, body=document, access=AccessClass.OPEN), now=NOW
        )
        row = annotations.AnnotationRow(
            iri=iri, medium=world.media["open"], image=image.hex, output="scale/1", pipeline="p", environment="e",
            work_key="scale", job=None,
        )  # fmt: skip
        annotations.add(conn, row, now=NOW)


async def shown(world: World) -> tuple[Any, str | None]:
    """Physical service of the manifest, and what the viewer of the page is told."""
    identifier = world.specimens["open"].rpartition("/")[2]
    manifest = await (await world.client.get(f"/iiif/presentation/3/specimen/{identifier}/manifest")).json()
    page = await (await world.client.get(f"/specimen/{identifier}", headers={"Accept": "text/html"})).text()
    found = re.search(r'data-px-per-mm="([^"]*)"', page)
    services = [item for item in manifest["items"][0].get("service", []) if "physicalScale" in item]
    return (services[0] if services else None), found and found[1]


async def test_a_measured_scale_is_used_until_it_is_about_other_bytes(make_node: Any, tmp_path: Path) -> None:
    async with serving(make_node(settings=SETTINGS), tmp_path / "archive") as world:
        assert await shown(world) == (None, None)
        publish_scale(world)
        service, told = await shown(world)
        assert abs(1 / service["physicalScale"] - 4.25) < 1e-9
        assert service["physicalUnits"] == "mm"
        assert told == "4.2500"
        with world.node.database.transaction() as conn:
            conn.execute("UPDATE annotation SET state = 'evidence replaced' WHERE output = 'scale/1'")
        assert await shown(world) == (None, None)


@pytest.mark.parametrize(
    ("stated", "state", "measured", "expected"),
    [("11.8", "current", "4.25", "11.8"), ("", "current", "4.25", "4.25"), ("", "superseded", "4.25", ""),
     ("", "not published", "4.25", "4.25"), ("", "current", "", ""), ("", "current", "many", "")],
)  # fmt: skip
def test_what_is_stated_comes_first(stated: str, state: str, measured: str, expected: str) -> None:
    overlay = Overlay(
        contract="scale/1", pipeline="p", environment="e", job="", iri=None, path="", state=state, regions=(), doubts=(),
        px_per_mm=measured,
    )  # fmt: skip
    assert scale_of(stated, [overlay]) == expected
