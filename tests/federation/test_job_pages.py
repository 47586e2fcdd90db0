"""The pages of jobs as staff see them: what was asked, how far it is, what came out; and nobody else sees them."""

from pathlib import Path

from aiohttp.test_utils import TestClient, TestServer
from federation_world import Clock, make_node, make_spec, page_app, signed

from cas.ids import ContentId
from federation.identity import SigningKey

RESEARCHER = SigningKey.from_seed(b"r" * 32)


async def test_staff_follow_a_job_from_the_question_to_the_rows(tmp_path: Path) -> None:
    clock = Clock()
    node = make_node(tmp_path, clock=clock, name="Hortus")
    node.enrol(RESEARCHER)
    node.add_sheet("B-100", lines=["HERBARIUM MARTII"])
    node.add_sheet("B-101", lines=["<script>alert(1)</script>"])
    node.add_sheet("B-102", lines=["whatever"])
    spec = make_spec(RESEARCHER, [node.origin], match="Martii~1", purpose="a <b>flora</b>")
    status = (await node.jobs.submit(signed(spec, RESEARCHER).to_json(), sender_kid=RESEARCHER.kid)).status
    await node.jobs.poll()
    async with TestClient(TestServer(page_app(node, is_staff=True))) as client:
        listed = await (await client.get("/staff/jobs")).text()
        assert "R. Researcher" in listed
        assert f"/staff/jobs/{status.job_id}" in listed
        running = await (await client.get(f"/staff/jobs/{status.job_id}")).text()
        assert "0 of 3 units" in running
        assert 'data-finished="no"' in running
        assert "a &lt;b&gt;flora&lt;/b&gt;" in running
        assert "Martii~1" in running
        broken = ContentId.of(f"{node.origin} B-102".encode()).hex
        assert await node.work(fail=[broken]) == 3
        await node.jobs.poll()
        done = await (await client.get(f"/staff/jobs/{status.job_id}")).text()
    assert "3 of 3 units" in done
    assert "<p>running</p>" in running
    assert "<p>finished</p>" in done
    assert 'data-finished="yes"' in done
    rows = done.partition("<h2>Results</h2>")[2]
    for number in ("B-100", "B-101", "B-102"):
        assert number in rows, "people know a specimen by its number"
    assert "HERBARIUM MARTII" in rows
    assert "truncated file" in rows
    assert "cannot tell" in rows
    assert "1 × truncated file" in done
    assert "<script>alert" not in done


async def test_nobody_else_sees_them(tmp_path: Path) -> None:
    node = make_node(tmp_path, clock=Clock())
    node.enrol(RESEARCHER)
    node.add_sheet("B-100", lines=["HERBARIUM MARTII"])
    spec = make_spec(RESEARCHER, [node.origin])
    status = (await node.jobs.submit(signed(spec, RESEARCHER).to_json(), sender_kid=RESEARCHER.kid)).status
    async with TestClient(TestServer(page_app(node, is_staff=False))) as client:
        for path in ("/staff/jobs", f"/staff/jobs/{status.job_id}"):
            answer = await client.get(path)
            assert answer.status == 403
            assert "Researcher" not in await answer.text()
