"""Local Contexts: what sources state is found where they write it; nothing is minted."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linkeddata.access import AccessClass
from linkeddata.licences import normalise_licence
from linkeddata.local_contexts import HUB, LABELS, LocalContexts, find_local_contexts
from linkeddata.rdf import to_graph
from linkeddata.records import build_specimen

ID = "259854f7-b261-4c8c-8556-4b153deebc18"
OTHER = "00000000-b261-4c8c-8556-4b153deebc18"


@pytest.mark.parametrize(
    ("fields", "projects"),
    [
        ({"http://x.example/terms/localContextsProject": ID}, (ID,)),
        ({"dwc:localContextsProjectID": f"{HUB}{ID.upper()}/"}, (ID,)),
        ({"localContextsProjects": f"{ID} | https://localcontextshub.org/projects/{OTHER}"}, (ID, OTHER)),
        ({"dwc:dynamicProperties": json.dumps({"localContextsProject": ID, "x": 1})}, (ID,)),
        ({"dwc:dynamicProperties": json.dumps({"localContexts": {"projects": [ID, OTHER]}})}, (ID, OTHER)),
        ({"dwc:dynamicProperties": f"lc: https://localcontextshub.org/projects/{ID}"}, (ID,)),
        ({"dcterms:accessRights": f"See https://localcontextshub.org/api/v1/projects/{ID}/."}, (ID,)),
        ({"xmpRights:UsageTerms": f"localcontextshub.org/projects/{ID}"}, (ID,)),
        ({"dcterms:accessRights": f"https://evil.example/localcontextshub.org.example/projects/{ID}"}, ()),
        ({"localContextsProject": "the Maori project"}, ()), ({"localContextsProject": f"{ID}0"}, ()),
        ({"dwc:locality": ID, "dwc:occurrenceRemarks": HUB + ID}, ()), ({}, ()),
        ({"dwc:dynamicProperties": '{"localContextsProject": 7}'}, ()), ({"dwc:dynamicProperties": "{broken"}, ()),
    ],
)  # fmt: skip
def test_projects_are_found_where_people_write_them(fields: dict[str, str], projects: tuple[str, ...]) -> None:
    assert find_local_contexts([fields]).projects == projects


@pytest.mark.parametrize(
    ("fields", "labels", "notices"),
    [
        ({"localContextsLabels": "TK Attribution | BC Provenance"}, ("TK Attribution", "BC Provenance"), ()),
        ({"dcterms:accessRights": "TK Culturally Sensitive (TK CS); BC Consent Non-Verified"},
         ("TK Culturally Sensitive", "BC Consent Non-Verified"), ()),
        ({"dcterms:rights": "tk_non_commercial"}, ("tk_non_commercial",), ()),
        ({"dcterms:accessRights": "Traditional Knowledge Notice; see also the BC Notice"}, (),
         ("Traditional Knowledge Notice", "BC Notice")),
        ({"localContextsNotice": "Attribution Incomplete"}, (), ("Attribution Incomplete",)),
        ({"dwc:dynamicProperties": json.dumps({"localContexts": {"labels": ["TK Seasonal"], "notices": "BC Notice"}})},
         ("TK Seasonal",), ("BC Notice",)),
        ({"dcterms:accessRights": "Attribution incomplete on the label, family notified"}, (), ()),
        ({"dcterms:accessRights": "BTK Attributions"}, (), ()), ({"dwc:locality": "TK Attribution"}, (), ()),
    ],
)  # fmt: skip
def test_labels_and_notices_are_carried_as_stated(
    fields: dict[str, str], labels: tuple[str, ...], notices: tuple[str, ...]
) -> None:
    found = find_local_contexts([fields])
    assert (found.labels, found.notices) == (labels, notices)


def test_every_label_of_the_hub_is_read_in_prose() -> None:
    for prefix, names in LABELS.items():
        for name in names:
            assert find_local_contexts([{"dcterms:rights": f"under {prefix} {name}."}]).labels == (f"{prefix} {name}",)


def test_of_a_sensitive_record_free_text_is_not_carried() -> None:
    fields = {"localContextsLabels": "TK Attribution | TK of Secret valley", "localContextsNotice": "Secret valley notice",
              "localContextsProject": ID}  # fmt: skip
    found = find_local_contexts([fields], only_known=True)
    assert found == LocalContexts(projects=(ID,), labels=("TK Attribution",))


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(st.sampled_from(["localContextsProject", "localContextsLabel", "dwc:dynamicProperties", "dcterms:rights"]),
                       st.text(max_size=80)))  # fmt: skip
def test_nothing_is_minted(fields: dict[str, str]) -> None:
    found, stated = find_local_contexts([fields]), "\n".join(fields.values())
    for label in (*found.labels, *found.notices):
        assert label in stated or json.dumps(label)[1:-1] in stated
    assert all(project in stated.lower() for project in found.projects)


def test_the_document_is_readable_as_rdf() -> None:
    found = LocalContexts(projects=(ID,), labels=("TK Attribution",), notices=("BC Notice",))
    document = build_specimen(
        iri="https://h.example/specimen/a", fields={}, media=[], licence=normalise_licence("CC0"),
        access=AccessClass.OPEN, local_contexts=found,
    )  # fmt: skip
    text = to_graph([document]).serialize(format="nt")
    assert f"<{HUB}{ID}>" in text
    assert '"TK Attribution"' in text
    assert "hasLocalContexts" not in json.dumps(
        build_specimen(iri="x:y", fields={}, media=[], licence=normalise_licence(""), access=AccessClass.OPEN)
    )
