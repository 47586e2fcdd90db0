"""Jobs over HTTP: OGC shapes, one 404 for all that is not yours, and no input that gives a 5xx."""

import json
import secrets
from pathlib import Path

import aiohttp
import pytest
from federation_world import Clock, SmallNode, free_port, make_node, make_spec, serving, signed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from federation.http_signatures import sign_request
from federation.identity import SigningKey
from federation.status import parse_status
from linkeddata.job import JobStep

R = SigningKey.from_seed(b"r" * 32)
OTHER = SigningKey.from_seed(b"o" * 32)
EXECUTE = "/processes/label-text/execution"


class Caller:
    """Signs and sends."""

    def __init__(self, node: SmallNode, session: aiohttp.ClientSession) -> None:
        self.node, self.session = node, session

    async def send(
        self, method: str, path: str, body: bytes = b"", *, key: SigningKey | None = R, headers=None, **signing
    ):
        url = signing.pop("signed_url", self.node.origin + path)
        lines = {} if key is None else sign_request(
            key, method=method, url=url, body=body, now=self.node.clock(), nonce=secrets.token_urlsafe(16), **signing
        )  # fmt: skip
        async with self.session.request(
            method, self.node.origin + path, data=body or None, headers={**lines, **(headers or {})}
        ) as response:
            raw = await response.read()
            document = json.loads(raw) if "json" in response.headers.get("Content-Type", "") else raw
            return response.status, document, dict(response.headers), lines

    async def submit(self, *, number: int = 1, key: SigningKey = R, response: str = "document", **changes):
        spec = make_spec(key, [self.node.origin], number=number, **changes)
        body = {"inputs": {"jobSpec": {"value": signed(spec, key).to_json()}}, "response": response}
        return await self.send("POST", EXECUTE, json.dumps(body).encode(), key=key)


@pytest.fixture
async def api(tmp_path: Path):
    node = make_node(tmp_path / "n", clock=Clock(), port=free_port())
    node.enrol(R)
    node.add_sheet("s1", lines=["Herbarium Martii"])
    async with serving(node), aiohttp.ClientSession() as session:
        yield Caller(node, session)


async def test_the_whole_way_in_ogc_shapes(api: Caller) -> None:
    status, document, _, _ = await api.send("GET", "/processes", key=None)
    assert [item["id"] for item in document["processes"]] == ["label-text", "barcode", "federated-job"]
    status, document, _, _ = await api.send("GET", "/processes/label-text", key=None)
    assert {"id", "version", "inputs", "outputs", "jobControlOptions"} <= set(document)
    status, document, headers, _ = await api.submit()
    assert status == 201
    assert headers["Location"] == f"{api.node.origin}/jobs/{document['jobID']}"
    assert {"jobID", "status", "type", "processID"} <= set(document)
    assert document["status"] in ("accepted", "running", "successful", "failed", "dismissed")
    assert parse_status(document).to_json(origin=api.node.origin) == document
    path = f"/jobs/{document['jobID']}"
    status, problem, headers, _ = await api.send("GET", f"{path}/results")
    assert (status, headers["Content-Type"].split(";")[0]) == (404, "application/problem+json")
    assert problem["type"].endswith("/result-not-ready")
    await api.node.work()
    status, document, _, _ = await api.send("GET", path)
    assert (status, document["status"], document["progress"]) == (200, "successful", 100)
    assert any(link["rel"].endswith("/results") for link in document["links"])
    status, document, headers, _ = await api.send("GET", f"{path}/results?limit=10")
    assert status == 200
    assert document["page"]["value"]["payloadType"].endswith("result-page+json")
    assert headers["Cache-Control"] == "no-store"
    status, document, _, _ = await api.send("GET", "/jobs?status=successful&processID=label-text")
    assert len(document["jobs"]) == 1
    status, document, _, _ = await api.send("GET", "/jobs?status=failed")
    assert document["jobs"] == []


async def test_raw_is_the_envelope_itself(api: Caller) -> None:
    _, document, _, _ = await api.submit(response="raw")
    await api.node.work()
    _, page, _, _ = await api.send("GET", f"/jobs/{document['jobID']}/results")
    assert "payloadType" in page


async def test_what_is_not_yours_is_answered_like_what_never_was(api: Caller) -> None:
    _, document, _, _ = await api.submit()
    mine, none = f"/jobs/{document['jobID']}", "/jobs/" + "0" * 32
    assert (await api.send("GET", f"{mine}/specification"))[1]["payloadType"].endswith("job-spec+json")
    for method, suffix in (("GET", ""), ("GET", "/results"), ("GET", "/specification"), ("DELETE", "")):
        for key in (OTHER, None):
            theirs = await api.send(method, mine + suffix, key=key)
            absent = await api.send(method, none + suffix, key=key)
            assert theirs[0] == absent[0] == 404
            assert theirs[1] == absent[1]
    _, document, _, _ = await api.send("GET", "/jobs", key=OTHER)
    assert document["jobs"] == []


async def test_a_bad_signature_says_nothing_about_what_exists(api: Caller) -> None:
    _, document, _, _ = await api.submit()
    answers = [
        await api.send("GET", path, signed_url="https://elsewhere.example.org" + path)
        for path in (f"/jobs/{document['jobID']}", "/jobs/" + "0" * 32)
    ]
    assert [answer[0] for answer in answers] == [401, 401]
    assert answers[0][1] == answers[1][1]


async def test_a_request_is_accepted_once(api: Caller) -> None:
    _, _, _, lines = await api.send("GET", "/jobs")
    status, document, _, _ = await api.send("GET", "/jobs", key=None, headers=lines)
    assert status == 401
    assert "before" in document["detail"]


async def test_forwarded_headers_change_nothing(api: Caller) -> None:
    path = "/jobs"
    status, _, _, _ = await api.send(
        "GET", path, signed_url="https://evil.example" + path,
        headers={"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "Host": "evil.example"},
    )  # fmt: skip
    assert status == 401


async def test_refusals_carry_rule_and_reasons(tmp_path: Path) -> None:
    node = make_node(tmp_path / "n", clock=Clock(), port=free_port(), preset="closed")
    async with serving(node), aiohttp.ClientSession() as session:
        status, document, _, _ = await Caller(node, session).submit()
    assert status == 403
    assert document["type"] == "/problems/refused-by-policy"
    assert document["rule"]
    assert document["reasons"]


async def test_unsigned_and_foreign_submissions_are_refused(api: Caller) -> None:
    spec = make_spec(R, [api.node.origin])
    body = json.dumps({"inputs": {"jobSpec": {"value": signed(spec, R).to_json()}}}).encode()
    assert (await api.send("POST", EXECUTE, body, key=None))[0] == 401
    assert (await api.send("POST", EXECUTE, body, key=OTHER))[0] == 403
    assert (await api.send("POST", "/processes/nothing/execution", body))[0] == 404
    assert (await api.send("POST", "/processes/barcode/execution", body))[0] == 400
    assert (await api.send("POST", "/processes/federated-job/execution", body))[0] == 201


def envelope_with(change) -> bytes:
    document = signed(make_spec(R, ["http://127.0.0.1:1"]), R).to_json()
    change(document)
    return json.dumps({"inputs": {"jobSpec": {"value": document}}}).encode()


BAD_BODIES = [
    b"", b"{", b"null", b"[]", b"1", b'"x"', b"\xff\xfe", b"{}" * 3, b'{"inputs": 1}', b'{"inputs": {}}',
    b'{"inputs": {"jobSpec": 1}}', b'{"inputs": {"jobSpec": {"href": "http://169.254.169.254/"}}}',
    b'{"inputs": {"jobSpec": {"value": {}}}}', b'{"inputs": {"jobSpec": {"value": []}}}',
    b'{"inputs": {"jobSpec": {"value": {"payloadType": 1, "payload": "x", "signatures": []}}}}',
    b"[" * 100_000, b'{"a":' * 5000, b'{"a": NaN}', b'{"a": 1e999}', b'{"a": ' + b"9" * 5000 + b"}",
    b'{"inputs": {}, "inputs": {}}', b'{"a": "\\ud800"}', b"x" * 262_145,
    b'{"inputs": {"jobSpec": {"value": {}}}, "response": "other"}',
    b'{"inputs": {}, "subscriber": {"successUri": "x"}}',
    envelope_with(lambda item: item.update(signatures=[])), envelope_with(lambda item: item.update(payload="!!!")),
    envelope_with(lambda item: item.update(payloadType="application/vnd.vasculum.node-descriptor+json")),
    envelope_with(lambda item: item["signatures"][0].update(sig="AAAA")),
    envelope_with(lambda item: item["signatures"][0].update(keyid=OTHER.kid)),
    envelope_with(lambda item: item["signatures"][0].update(keyid="ed25519:" + "A" * 43)),
    envelope_with(lambda item: item.update(signatures=item["signatures"] * 9)),
]  # fmt: skip


async def test_no_bad_body_gives_a_5xx(api: Caller) -> None:
    for body in BAD_BODIES:
        status, document, headers, _ = await api.send("POST", EXECUTE, body)
        assert 400 <= status < 500, (status, body[:80])
        assert headers["Content-Type"].startswith("application/problem+json"), body[:80]
        assert document["title"]


@pytest.mark.parametrize(
    "path",
    [
        "/jobs/%00", "/jobs/..%2f..%2fetc", "/jobs/" + "x" * 3000, "/jobs/%F0%9F%8C%BF", "/jobs/'--", "/processes/%00",
        "/processes?limit=0", "/processes?limit=99999999999999999999", "/processes?limit=x", "/jobs?limit=-1",
        "/jobs?limit=%C2%B2", "/jobs?status=sleeping", "/jobs/x/results?after=-1", "/jobs/x/results?after=9" + "9" * 30,
        "/jobs/x/results?limit=0", "/jobs/x/results?limit=%00",
    ],
)  # fmt: skip
async def test_no_bad_path_gives_a_5xx(api: Caller, path: str) -> None:
    status, _, _, _ = await api.send("GET", path, key=None)
    assert 400 <= status < 500


SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=20)
ANY_JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=ANY_JSON)
async def test_any_json_is_answered(api: Caller, document) -> None:
    value = {"inputs": {"jobSpec": {"value": document}}}
    status, _, _, _ = await api.send("POST", EXECUTE, json.dumps(value).encode())
    assert 400 <= status < 500


async def test_dismissing_twice_and_after_the_end_is_harmless(api: Caller) -> None:
    _, document, _, _ = await api.submit(steps=(JobStep(output="label-text/1"),))
    path = f"/jobs/{document['jobID']}"
    for _ in range(2):
        status, document, _, _ = await api.send("DELETE", path)
        assert (status, document["status"]) == (200, "dismissed")
    status, document, _, _ = await api.send("GET", f"{path}/results")
    assert status == 410
    status, document, _, _ = await api.send("GET", "/conformance", key=None)
    assert any(item.endswith("/dismiss") for item in document["conformsTo"])
