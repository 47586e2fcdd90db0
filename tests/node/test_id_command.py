"""``vasculum id``: every spelling leads to the same bytes, other texts to one line."""

import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from multiformats import CID

from cas.errors import ContentIdError
from cas.ids import ContentId, parse_content_id
from node.cli.errors import UserError
from node.cli.ids import _parse
from node.cli.main import run

IDS = st.binary(min_size=32, max_size=32).map(ContentId)


@settings(max_examples=60, deadline=None)
@given(IDS, st.sampled_from(["base58btc", "base16", "base32", "base64url", "base36", "base2"]))
def test_a_cid_in_any_base_leads_to_the_bytes(cid: ContentId, base: str) -> None:
    text = str(CID(base, 1, "raw", ("sha2-256", cid.digest)))
    if len(text) <= 200:
        assert _parse(text) == cid
        if base not in ("base32", "base16", "base58btc"):  # what requests take, is fewer
            with pytest.raises(ContentIdError):
                parse_content_id(text)
    else:
        with pytest.raises(UserError):
            _parse(text)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=80), st.text(alphabet="bzfuQm0123456789abcdef=", max_size=80)))
@example("QmWfVY9y3xjsixTgbd9AorQxH7VtMpzfx2HaWtsoUYecaX")
@example("bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi")
@example("bafkqaaa")
@example("z")
@example("\N{WATER BUFFALO}")
def test_any_other_text_is_one_line(text: str) -> None:
    try:
        _parse(text)
    except UserError as error:
        assert "\n" not in str(error)


def test_a_file_is_named_by_its_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sheet.jpg").write_bytes(b"hello world")
    assert run(["id", "--file", str(tmp_path / "sheet.jpg"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    for name in ("hash", "hex", "ni", "cid", "sri", "cid-base58btc"):
        assert _parse(said[name]) == ContentId.of(b"hello world")
    assert run(["id"]) == 2
    assert run(["id", "x" * 64]) == 2
