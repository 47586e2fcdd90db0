"""``vasculum export``: every form can be read again, and nothing is in it that a door would refuse."""

import csv
import io
import json
from pathlib import Path

import pytest
import rdflib
from click.testing import CliRunner
from web_world import READ_HIDDEN, READ_OPEN, SECRET_PLACE, SETTINGS, fill

from node.cli.export import export

RDF = {"turtle": "turtle", "ntriples": "nt", "nquads": "nquads", "rdfxml": "xml", "jsonld": "json-ld"}


@pytest.mark.parametrize("form", [*RDF, "ndjson", "csv"])
def test_only_what_is_public_is_exported_and_every_form_can_be_read_again(make_node, tmp_path: Path, form: str) -> None:
    node = make_node(settings=SETTINGS)
    found = fill(node, tmp_path / "archive")
    out = tmp_path / "out"
    result = CliRunner().invoke(export, [str(node.settings.folder), "--format", form, "--output", str(out)])
    assert result.exit_code == 0, result.output
    text = out.read_text("utf-8")
    for hidden in (SECRET_PLACE, READ_HIDDEN, "47.1234", "Privatia"):
        assert hidden not in text
    for kind in ("private", "shared-private"):
        assert found["specimens"][kind] not in text
        assert found["media"][kind] not in text
    assert found["specimens"]["open"] in text
    assert found["specimens"]["restricted"] in text
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        assert {row["iri"] for row in rows} == {
            iri for kind, iri in found["specimens"].items() if "private" not in kind
        }
    else:
        assert READ_OPEN in text
    if form == "ndjson":
        assert all(json.loads(line)["@context"]["dwc"] for line in text.splitlines())
    if form in RDF:
        graph = rdflib.Dataset() if form == "nquads" else rdflib.Graph()
        graph.parse(data=text, format=RDF[form])
        assert len(graph) > 100


def test_all_rdf_forms_say_the_same(make_node, tmp_path: Path) -> None:
    node = make_node(settings=SETTINGS)
    fill(node, tmp_path / "archive")
    sizes = set()
    for form, parser in RDF.items():
        output = CliRunner().invoke(export, [str(node.settings.folder), "--format", form]).output
        graph = rdflib.Dataset() if form == "nquads" else rdflib.Graph()
        graph.parse(data=output, format=parser)
        sizes.add(len(graph))
    assert len(sizes) == 1


def test_one_kind_only_and_a_folder_that_is_no_node(make_node, tmp_path: Path) -> None:
    node = make_node(settings=SETTINGS)
    fill(node, tmp_path / "archive")
    result = CliRunner().invoke(export, [str(node.settings.folder), "--type", "annotation"])
    assert [json.loads(line)["@type"] for line in result.output.splitlines()] == ["oa:Annotation"]
    (tmp_path / "empty").mkdir()
    result = CliRunner().invoke(export, [str(tmp_path / "empty")])
    assert result.exit_code == 2
    assert result.output.count("\n") == 1
