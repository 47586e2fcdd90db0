"""What rows say, computed from them and from the settings alone: all of publishing that needs no database.

Pure, and the same in whichever process it is computed (``node.services.prepare_process``).

A medium may show several specimens. What is said about it is computed from all rows of the archive that name it, so it
does not depend on which of them is published first: the strictest class, the stricter licence, every specimen.

It leaves out: what is known already, bytes, who writes it down (``node.services.publish_row`` row by row,
``node.services.publish_new`` many new ones at once).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any, Final, Protocol

from linkeddata.access import AccessClass, strictest
from linkeddata.checks import Checked, Checker
from linkeddata.dwca_media import merge_media
from linkeddata.json_strict import Json
from linkeddata.licences import Licence, normalise_licence
from linkeddata.local_contexts import LocalContexts, find_local_contexts
from linkeddata.presentation import parse_px_per_mm
from linkeddata.records import MediumFacts, VariantFacts, build_medium, build_specimen
from linkeddata.sensitive import PlaceWords
from linkeddata.sensitive_taxa import SensitiveRule, SensitiveTaxa
from linkeddata.source import SourceMedia, SourceRow
from node.config import AccessRule, Settings, SourceSettings
from node.services.ingest_rules import Protection, access_otherwise, medium_access, protect
from node.storage.new_records import Draft, draft
from node.storage.records import NewRecord, iri_of, mint
from node.storage.search_document import SearchDocument, read_document

NO_BYTES: Final = MediumFacts(content_id=None, width=None, height=None, format="", size_bytes=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRules:
    """What the settings of the node decide about the rows of one source."""

    origin: str
    organisation: str
    source: SourceSettings
    taxa: SensitiveTaxa

    @classmethod
    def of(cls, settings: Settings, source: SourceSettings, taxa: SensitiveTaxa) -> "RowRules":
        """From ``node.toml``."""
        return cls(origin=settings.origin, organisation=settings.node.organisation, source=source, taxa=taxa)

    def to_json(self) -> dict[str, Any]:
        """For another process of this program."""
        source = self.source
        return {
            "origin": self.origin, "organisation": self.organisation, "licence": source.licence,
            "access": source.access, "rules": [asdict(item) for item in source.rules],
            "sensitive": [asdict(item) for item in self.taxa.rules],
        }  # fmt: skip

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "RowRules":
        """What ``to_json`` wrote."""
        return cls(
            origin=document["origin"], organisation=document["organisation"],
            source=SourceSettings(
                licence=document["licence"], access=document["access"],
                rules=tuple(AccessRule(**item) for item in document["rules"]),
            ),
            taxa=SensitiveTaxa.of(
                SensitiveRule(**{**item, "synonyms": tuple(item["synonyms"])}) for item in document["sensitive"]
            ),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class MediumView:
    """What all rows of the archive say together about a medium."""

    medium: SourceMedia
    files: Mapping[str, SourceMedia]
    """By media key: of one exposure its variants, the processed one among them."""
    specimens: tuple[str, ...]
    """Keys of its rows."""
    access: AccessClass
    otherwise: AccessClass
    """What its class would be if no taxon on it were sensitive."""
    sensitive: bool
    rights_holder: str
    """Left out where it repeats the place of a sensitive specimen."""


class Rows(Protocol):
    """Where the rows of a source are looked up: an archive that is read, or what is known of it."""

    @property
    def source(self) -> str:
        """Its name."""

    def row(self, key: str) -> SourceRow | None:
        """The row with this key."""

    def specimens_of(self, media_key: str) -> list[str]:
        """Keys of the rows that name a medium."""


@dataclass(frozen=True, slots=True)
class OneRow:
    """A row whose media no other row names."""

    only: SourceRow

    @property
    def source(self) -> str:
        """Its name."""
        return self.only.source

    def row(self, key: str) -> SourceRow | None:
        """The row, under its key."""
        return self.only if key == self.only.key else None

    def specimens_of(self, media_key: str) -> list[str]:
        """Its key."""
        return [self.only.key] if any(item.key == media_key for item in self.only.media) else []


@dataclass(frozen=True, slots=True)
class RowSaid:
    """A row after its protection and the checks."""

    protection: Protection
    issues: tuple[tuple[str, str, bool], ...]
    """(flag, detail for staff, whether it stands in the public document)."""
    said: Checked
    """Of the fields that are published."""


@dataclass(frozen=True, slots=True)
class PreparedMedium:
    """A medium without bytes that nobody heard of before."""

    key: str
    locator: str
    draft: Draft
    otherwise: AccessClass
    """What its class would be if no taxon on it were sensitive."""


@dataclass(frozen=True, slots=True)
class PreparedRow:
    """A row that nobody heard of before, as it is published when its media are new, too, and its own alone."""

    key: str
    specimen: Draft
    media: tuple[PreparedMedium, ...]
    mids: int | None
    issues: tuple[tuple[str, str, bool], ...]
    search: SearchDocument


def look_at(row: SourceRow, rules: RowRules, checker: Checker, *, today: date) -> RowSaid:
    """Protects and checks a row."""
    protection = protect(row, rules.source, rules.taxa)
    checked = _check(row, row.fields, rules, checker, today)
    said = checked
    if protection.fields != row.fields:
        said = _check(row, protection.fields, rules, checker, today)
    public = set(said.codes)
    return RowSaid(protection, tuple((item.code, item.detail, item.code in public) for item in checked.issues), said)


def prepare_row(
    row: SourceRow,
    rules: RowRules,
    checker: Checker,
    *,
    today: date,
    salt: bytes,
    with_problem: Collection[str] = (),
) -> PreparedRow:
    """Everything about a new row that can be said ahead.

    Args:
        row: as received.
        rules: of its source.
        checker: the checks.
        today: dates after it are unlikely.
        salt: of the node, for ids.
        with_problem: keys of its media with which something is wrong.
    """
    said = look_at(row, rules, checker, today=today)
    iri = iri_of(rules.origin, "specimen", mint(salt, row.source, "specimen", row.key))
    media = []
    for item in row.media:
        view = view_medium(item.key, OneRow(row), rules)
        medium_iri = iri_of(rules.origin, "medium", mint(salt, row.source, "medium", item.key))
        locator = view.medium.locator
        document = medium_document(
            view, iri=medium_iri, specimens=[iri], facts=NO_BYTES, has_problem=item.key in with_problem, rules=rules
        )
        aliases = (locator,) if is_address(locator) else ()
        record = NewRecord(
            kind="medium", iri=medium_iri, body=document, access=view.access, sensitive=view.sensitive,
            source=row.source, aliases=aliases,
        )  # fmt: skip
        media.append(PreparedMedium(item.key, locator, draft(record), view.otherwise))
    shown = [item.draft.iri for item in media if item.draft.access is not AccessClass.PRIVATE]
    specimen = specimen_record(row, said, iri=iri, media=shown, rules=rules)
    return PreparedRow(
        row.key, draft(specimen), tuple(media), said.said.mids.level, said.issues, read_document(specimen.body)
    )


def specimen_record(
    row: SourceRow, said: RowSaid, *, iri: str, media: list[str], rules: RowRules, hides_media: bool = False
) -> NewRecord:
    """The record of a row.

    Args:
        row: as received.
        said: what ``look_at`` found.
        iri: of the record.
        media: IRIs of its media that are not private.
        rules: of its source.
        hides_media: others of its media are private, by another row: their names are not said either.
    """
    protection, fields = said.protection, said.protection.fields
    if hides_media and protection.access is not AccessClass.PRIVATE:
        fields = {term: value for term, value in fields.items() if term != "dwc:associatedMedia"}
    return NewRecord(
        kind="specimen",
        iri=iri,
        body=build_specimen(
            iri=iri, fields=fields, media=media, licence=_licence_of(protection, rules.source),
            access=protection.access, organisation=rules.organisation,
            local_contexts=find_local_contexts([row.fields], only_known=protection.is_sensitive),
            mids_level=said.said.mids.level, issues=said.said.codes, canonical_name=said.said.canonical_name,
        ),
        access=protection.access,
        sensitive=protection.is_sensitive,
        source=row.source,
        aliases=_aliases(row, protection),
    )  # fmt: skip


def medium_document(
    view: MediumView,
    *,
    iri: str,
    specimens: list[str],
    facts: MediumFacts,
    has_problem: bool,
    rules: RowRules,
    variants: Sequence[VariantFacts] = (),
) -> dict[str, Json]:
    """The document of a medium."""
    locator = view.medium.locator
    address = locator if is_address(locator) else ""
    return build_medium(
        iri=iri, origin=rules.origin, specimens=specimens, facts=facts, licence=_licence(view, rules.source),
        access=view.access, sensitive=view.sensitive, title=view.medium.title, rights_holder=view.rights_holder,
        identifier=address, source_address="" if has_problem else address,
        px_per_mm=_px_per_mm(view.medium), local_contexts=_local_contexts(view), variants=variants,
    )  # fmt: skip


def is_address(locator: str) -> bool:
    """Whether a medium lies at an address."""
    return locator[:8].lower().startswith(("http://", "https://"))


def view_medium(key: str, rows: Rows, rules: RowRules, *, others: Sequence[str] = ()) -> MediumView:
    """What all rows say together about a medium that at least one of them names.

    Args:
        key: of its file, the processed one of several.
        rows: of the source.
        rules: of the source.
        others: keys of its other files, which the same rows name; the strictest counts of what is said about any.
    """
    keys = {key, *others}
    media: list[SourceMedia] = []
    classes: list[AccessClass] = []
    otherwise: list[AccessClass] = []
    specimens: list[str] = []
    places: list[PlaceWords] = []
    for specimen in rows.specimens_of(key):
        row = rows.row(specimen)
        named = [item for item in row.media if item.key in keys] if row is not None else []
        if row is None or not named:
            continue  # only a repeated row, which does not count, names it
        protection = protect(row, rules.source, rules.taxa)
        media += named
        specimens.append(specimen)
        if protection.is_sensitive:
            places.append(protection.place)
        for item in named[:1] if not others else named:
            licence = normalise_licence(item.licence or rules.source.licence)
            classes.append(medium_access(row, licence, rules.source, protection))
            otherwise.append(access_otherwise(row, licence, rules.source, protection))
    files = {item.key: item for item in merge_media(media)}
    medium = files[key] if not others else _said_of_all(files[key], list(files.values()), rules.source)
    return MediumView(
        medium=medium, files=files, specimens=tuple(specimens), access=strictest(classes), sensitive=bool(places),
        otherwise=strictest(otherwise),
        rights_holder="" if any(place.are_in(medium.rights_holder) for place in places) else medium.rights_holder,
    )  # fmt: skip


def _said_of_all(one: SourceMedia, files: Sequence[SourceMedia], source: SourceSettings) -> SourceMedia:
    """One file of an exposure with what is said about any: the strictest licence, a title, who holds the rights."""
    licences = [item.licence or source.licence for item in files]
    return replace(
        one,
        licence=max(licences, key=lambda text: normalise_licence(text).access),
        title=one.title or next((item.title for item in files if item.title), ""),
        rights_holder=one.rights_holder or next((item.rights_holder for item in files if item.rights_holder), ""),
    )


def _local_contexts(view: MediumView) -> LocalContexts:
    return find_local_contexts(
        [{**view.medium.fields, "dcterms:license": view.medium.licence}], only_known=view.sensitive
    )


def _licence(view: MediumView, source: SourceSettings) -> Licence:
    """Of a sensitive medium only what the table of licences knows: people write about pictures in this field too."""
    licence = normalise_licence(view.medium.licence or source.licence)
    return replace(licence, verbatim="") if view.sensitive else licence


def _px_per_mm(medium: SourceMedia) -> str:
    """The resolution that the media row states; what no picture can have is not repeated.

    Not the dots per inch in the file: cameras write 72 or 300 there, whatever they photograph.
    """
    text = medium.fields.get("vasculum:pixelsPerMillimetre", "").strip()
    return text if parse_px_per_mm(text) is not None else ""


def _check(row: SourceRow, fields: Mapping[str, str], rules: RowRules, checker: Checker, today: date) -> Checked:
    return checker.check(
        fields, today=today, media=row.media, licence=rules.source.licence, organisation=rules.organisation
    )


def _aliases(row: SourceRow, protection: Protection) -> tuple[str, ...]:
    found = (row.key, row.fields.get("dwc:occurrenceID", ""), row.fields.get("dwc:catalogNumber", ""))
    return tuple(protection.place.only_without(dict.fromkeys(item for item in found if item)))


def _licence_of(protection: Protection, source: SourceSettings) -> Licence:
    licence = normalise_licence(protection.fields.get("dcterms:license") or source.licence)
    return replace(licence, verbatim="") if protection.is_sensitive else licence
