"""Writes ``tests/vectors/documents.json``: canonical forms, ids, keys and signatures that must never change.

Another implementation can check itself against the file. Run it only when a form is changed on purpose: every node
that is out there would then disagree with us about the same document.
"""

import json
import sys
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from conftest import NOW

from federation.identity import SigningKey
from linkeddata.canon import canonical_bytes, digest_text, document_id
from linkeddata.envelope import JOB_SPEC, pre_authentication_encoding, seal
from linkeddata.job import Emit, JobSpec, JobStep
from linkeddata.json_strict import Json
from linkeddata.pipeline import Environment, PipelineManifest, Weight, work_key
from linkeddata.selection import parse_where
from linkeddata.source import SourceMedia, SourceRow

FILE = Path(__file__).parent / "vectors" / "documents.json"
DOCUMENTS: dict[str, Json] = {
    "empty": {},
    "order of members": {"b": 2, "a": 1, "\u20ac": 3, "A": 4, "\U0001f600": 5, "\ufb33": 6},
    "escapes": {"text": 'quote " backslash \\ slash / tab \t null \u0000 del \u007f line \u2028'},
    "numbers": [0, -1, 2**53 - 1, -(2**53) + 1],
    "nested": {"a": [True, False, None, {"b": []}, "ä"]},
}


def made() -> dict[str, Json]:
    """The content of the file, from the code as it is."""
    key = SigningKey.from_seed(bytes(range(32)))
    spec = JobSpec(
        id="urn:uuid:00000000-0000-4000-8000-000000000001", issued=NOW, expires=NOW + timedelta(hours=1),
        requester_kid=key.kid, requester_name="Example", audience=("https://a.example", "https://b.example"),
        steps=(JobStep(output="label-text/1", parameters={"maxSide": 2000}), JobStep(output="barcode/1")),
        selection=parse_where("kingdom=Plantae year=1800,1850"), first=50, purpose="Which sheets?",
        emit=Emit(step="label-text/1", match='"Herbarium Martii"~1'),
    )  # fmt: skip
    manifest = PipelineManifest(
        output="label-text/1", name="example", version="1.0.0", title="Example", description="Reads.", runtime="onnx",
        weights=(Weight(name="w.onnx", id="hash://sha256/" + "ab" * 32, size_bytes=7),), libraries=("numpy==2.2.0",),
        parameters={"maxSide": 2000}, tolerance="0.1", implementation="sha256:" + "0" * 64,
    )  # fmt: skip
    environment = Environment(
        versions={"python": "3.11"}, execution_provider="CPU", precision="float32", device_class="cpu"
    )
    row = SourceRow(
        source="s", key="k", fields={"dwc:country": "Österreich", "dwc:catalogNumber": "W 1"},
        media=(SourceMedia(key="k/1", locator="images/1.jpg", licence="CC0"),),
    )  # fmt: skip
    envelope = seal(spec.to_json(), payload_type=JOB_SPEC, signers=[key])
    return {
        "canonical": [
            {"name": name, "document": value, "bytes": canonical_bytes(value).hex(), "id": str(document_id(value))}
            for name, value in DOCUMENTS.items()
        ],
        "preAuthenticationEncoding": pre_authentication_encoding("http://example.com/HelloWorld", b"hello world").hex(),
        "envelope": {"seed": bytes(range(32)).hex(), "publicKey": key.public_key_b64, "envelope": envelope.to_json()},
        "jobSpec": spec.to_json(),
        "pipelineDigest": {"manifest": manifest.to_json(), "digest": manifest.digest},
        "environmentDigest": {"environment": environment.to_json(), "digest": environment.digest},
        "workKey": work_key(manifest.digest, {"maxSide": 2000}, ("cd" * 32,), environment.digest),
        "rowDigest": {"row": row.to_json(), "digest": row.digest},
        "digestText": digest_text({"a": 1}),
    }


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(made(), ensure_ascii=True, indent=1, sort_keys=True) + "\n", "utf-8")
