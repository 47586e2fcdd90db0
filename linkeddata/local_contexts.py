"""Local Contexts (localcontextshub.org): projects, labels and notices as a source states them, carried with the record.

Communities choose Labels (Traditional Knowledge, Biocultural), institutions choose Notices; both live in the project at
the hub. Darwin Core has no term for them (tdwg/dwc#808), so institutions write them in several places, which are read:

- columns of their own, whatever their namespace: ``localContextsProject`` (also ``..ProjectID``, ``..Projects``),
  ``localContextsLabel(s)``, ``localContextsNotice(s)``;
- the same names as members of ``dwc:dynamicProperties``, where it is JSON;
- the address of a project, and the names of labels and notices, in the terms about rights and access of the specimen
  and of its media.

Invariants:
- Nothing is minted: what the source does not state is not said, and a stated name is carried as it was written.
- A project is named by the id that the hub gave; other texts are no project.
- Of a sensitive record only ids, and labels and notices that the hub has, are carried: free text may tell a place.

It leaves out: asking the hub (texts and pictures of labels are its own), and deciding who may see a record by a label
(an institution says that with ``[[sources.NAME.rules]]``).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from linkeddata.errors import DocumentError
from linkeddata.json_strict import Json, parse_json

HUB: Final = "https://localcontextshub.org/projects/"
"""Followed by the id: the page of a project."""
LABELS: Final[Mapping[str, tuple[str, ...]]] = {
    "TK": (
        "Attribution", "Clan", "Family", "Outreach", "Multiple Communities", "Multiple Community", "Non-Verified",
        "Verified", "Non-Commercial", "Commercial", "Culturally Sensitive", "Community Voice", "Community Use Only",
        "Seasonal", "Women General", "Men General", "Men Restricted", "Women Restricted", "Secret / Sacred",
        "Secret Sacred", "Open to Collaboration", "Creative",
    ),
    "BC": (
        "Provenance", "Commercialization", "Non-Commercial", "Collaboration", "Open to Collaboration",
        "Consent Verified", "Consent Non-Verified", "Multiple Communities", "Multiple Community", "Research",
        "Research Use", "Clan", "Outreach",
    ),
}  # fmt: skip
NOTICES: Final = (
    "Traditional Knowledge Notice", "TK Notice", "Biocultural Notice", "BC Notice", "Attribution Incomplete Notice",
    "Attribution Incomplete", "Open to Collaborate Notice", "Open to Collaborate",
)  # fmt: skip
RIGHTS_TERMS: Final = (
    "dcterms:accessRights", "dcterms:rights", "http://purl.org/dc/elements/1.1/rights", "xmpRights:UsageTerms",
    "xmpRights:WebStatement", "dcterms:license", "ac:licenseStatement", "dwc:informationWithheld",
    "dwc:dynamicProperties",
)  # fmt: skip
"""Terms of specimens and media in which a project or a label is written beside other words."""
MAX_ITEMS: Final = 50
MAX_CHARS: Final = 200
_ID: Final = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_PROJECT: Final = re.compile(
    rf"(?i)(?<![\w.@-])(?:https?://)?(?:www\.)?localcontextshub\.org/(?:api/v[0-9]+/)?projects?/({_ID})(?![0-9a-f-])"
)
_BARE: Final = re.compile(rf"(?i){_ID}\Z")
_MAY_STATE: Final = re.compile(r"(?i)localcontexts|\b[tb][kc][ _-]|notice")
"""Most texts about rights state nothing of this: they are not read on."""
_SEPARATORS: Final = re.compile(r"\s*[|;,]\s*")
_COLUMNS: Final[Mapping[str, str]] = {
    "localcontextsproject": "projects", "localcontextsprojects": "projects", "localcontextsprojectid": "projects",
    "localcontextsprojectids": "projects", "localcontextslabel": "labels", "localcontextslabels": "labels",
    "localcontextsnotice": "notices", "localcontextsnotices": "notices",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalContexts:
    """What is stated about one record."""

    projects: tuple[str, ...] = ()
    """Ids at the hub, lower case."""
    labels: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything is stated."""
        return bool(self.projects or self.labels or self.notices)

    def to_json(self) -> dict[str, Json]:
        """For the document of the record."""
        document: dict[str, Json] = {"@type": "vasculum:LocalContexts"}
        if self.projects:
            document["vasculum:localContextsProject"] = [{"@id": HUB + project} for project in self.projects]
        if self.labels:
            document["vasculum:localContextsLabel"] = list(self.labels)
        if self.notices:
            document["vasculum:localContextsNotice"] = list(self.notices)
        return document


def find_local_contexts(rows: Iterable[Mapping[str, str]], *, only_known: bool = False) -> LocalContexts:
    """What rows (a specimen's, or those of a medium) state together, each once, in the order of first mention.

    Args:
        rows: term -> text as received.
        only_known: of a sensitive record: no free text.
    """
    found: dict[str, list[str]] = {"projects": [], "labels": [], "notices": []}
    for fields in rows:
        for term, text in fields.items():
            if "contexts" not in term.lower():
                continue
            kind = _COLUMNS.get(re.split(r"[/#:]", term)[-1].lower().replace("_", ""))
            if kind is not None and text:
                _add(found, kind, _SEPARATORS.split(text))
        for name, values in _members(fields.get("dwc:dynamicProperties", "")):
            _add(found, name, values)
        for term in RIGHTS_TERMS:
            if fields.get(term) and _MAY_STATE.search(fields[term]):
                _read_prose(found, fields[term])
    labels, notices = found["labels"], found["notices"]
    if only_known and (labels or notices):
        known = {_plain(f"{prefix} {name}") for prefix, names in LABELS.items() for name in names}
        labels = [item for item in labels if _plain(item) in known]
        known = {_plain(name) for name in NOTICES}
        notices = [item for item in notices if _plain(item) in known]
    return LocalContexts(projects=_once(found["projects"]), labels=_once(labels), notices=_once(notices))


def _add(found: dict[str, list[str]], kind: str, values: Iterable[str]) -> None:
    for value in values:
        text = value.strip()
        if kind == "projects":
            named = _PROJECT.search(text)
            project = named[1] if named else text if _BARE.match(text) else ""
            found[kind] += [project.lower()] if project else []
        elif text and len(text) <= MAX_CHARS and text.isprintable():
            found[kind].append(text)


def _members(text: str) -> Iterable[tuple[str, list[str]]]:
    """Members of a JSON object that are named like the columns, on its top or below ``localContexts``."""
    if not text.lstrip().startswith("{") or "context" not in text.lower():
        return
    try:
        document = parse_json(text)
    except DocumentError:
        return
    inner = document.get("localContexts") if isinstance(document, dict) else None
    short = {"project": "projects", "projects": "projects", "label": "labels", "labels": "labels", "notice": "notices",
             "notices": "notices"}  # fmt: skip
    for members, names in ((document, _COLUMNS), (inner, short)):
        for name, value in members.items() if isinstance(members, dict) else ():
            kind = names.get(name.lower().replace("_", ""))
            if kind is not None:
                texts = value if isinstance(value, list) else [value]
                yield kind, [item for item in texts if isinstance(item, str)]


def _read_prose(found: dict[str, list[str]], text: str) -> None:
    found["projects"] += [item.lower() for item in _PROJECT.findall(text)]
    for prefix, names in LABELS.items():
        for name in sorted(names, key=len, reverse=True):
            pattern = re.escape(name).replace(r"\ ", r"[ _-]+").replace(r"\-", r"[ _-]?")
            stated = re.search(rf"(?i)\b{prefix}[ _-]+{pattern}\b", text)
            if stated and not any(stated[0].lower() in item.lower() for item in found["labels"]):
                found["labels"].append(stated[0])
    for notice in NOTICES:
        stated = re.search(rf"(?i)\b{re.escape(notice)}\b", text) if notice.endswith("Notice") else None
        if stated and not any(stated[0].lower() in item.lower() for item in found["notices"]):
            found["notices"].append(stated[0])


def _once(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))[:MAX_ITEMS]


def _plain(text: str) -> str:
    return re.sub(r"[^a-z]+", " ", text.lower()).strip()
