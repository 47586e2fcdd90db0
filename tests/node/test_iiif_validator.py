"""The public IIIF validator (iiif-validator-ng, Apache-2.0), its checks for version 3.0 up to level 2 and what we say beyond.

One exception: ``size_noup`` wants 400 for ``!w,h`` larger than the region, where section 4.2 of the specification says
that the answer is as large as possible but not larger than the region; viewers rely on that for small pictures.
"""

import asyncio
import importlib.resources
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer
from conftest import NOW, ingest, rows_of, write_archive
from iiif_validator.tests.size_noup import SizeNoUpTest
from iiif_validator.tests.test import ComplianceLevel, IIIFVersion, ServerFeatures, TargetServer, get_tests
from PIL import Image

from cas.ids import ContentId
from node.app import build_application
from node.folder import NodeFolder
from runners.catalogue import Catalogue

OPTIONAL_OFFERED = {
    "rot_mirror", "rot_mirror_180", "quality_bitonal", "quality_grey", "format_webp", "http_linkheader_canonical",
    "http_linkheader_profile", "http_caching",
}  # fmt: skip


@pytest.fixture
async def target(make_node: Callable[..., NodeFolder], tmp_path: Path) -> AsyncIterator[TargetServer]:
    data = (importlib.resources.files("iiif_validator") / "validation_image.png").read_bytes()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    node = make_node(origin=f"http://127.0.0.1:{port}")
    ingest(node, write_archive(tmp_path / "a", rows_of(1), images=lambda number: data))
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestServer(app, port=port):
        yield TargetServer(f"http://127.0.0.1:{port}/iiif/3", ContentId.of(data).hex, IIIFVersion.V3)


def module_of(check: type) -> str:
    return check.__module__.rpartition(".")[2]


def is_applicable(check: type) -> bool:
    level = check.compliance_level  # type: ignore[attr-defined]
    if isinstance(level, dict):
        level = level[IIIFVersion.V3]
    return level <= ComplianceLevel.LEVEL_2 or module_of(check) in OPTIONAL_OFFERED


async def test_every_check_of_level_2_passes(target: TargetServer) -> None:
    checks = [check for check in get_tests(IIIFVersion.V3) if is_applicable(check)]
    assert len(checks) >= 35

    def run() -> list[str]:
        features: ServerFeatures = target.feature_set()
        assert features.compliance_level is ComplianceLevel.LEVEL_2
        failures = []
        for check in checks:
            found = check.run(target)
            for item in found if isinstance(found, list) else [found]:
                if not item.success:
                    failures.append(f"{module_of(check)}: {item}")
        return failures

    failures = await asyncio.to_thread(run)
    expected = [item for item in failures if item.startswith("size_noup") and "'!2000,3000'" in item]
    assert failures == expected
    assert len(expected) == 1, "the one exception"
    assert SizeNoUpTest in checks


async def test_the_picture_of_the_validator_is_served_without_loss(target: TargetServer) -> None:
    import io

    import aiohttp
    import numpy as np

    original = importlib.resources.files("iiif_validator") / "validation_image.png"
    async with aiohttp.ClientSession() as session:
        answer = await session.get(f"{target.base_url}/{target.validation_id}/full/max/0/default.png")
        served = np.asarray(Image.open(io.BytesIO(await answer.read())).convert("RGB"))
    assert (served == np.asarray(Image.open(io.BytesIO(original.read_bytes())).convert("RGB"))).all()
