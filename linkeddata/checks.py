"""All checks of one record, and what it says about itself after them: flags, level, name without authorship.

Invariants:
- Pure but for caches: the same fields on the same day give the same result, and no input raises.
- What is published comes from the fields that are published: flags of a sensitive record are computed on what was
  generalised, so they tell no more than it does.

Example:
    >>> Checker().check({"dwc:eventDate": "1901-02-30"}, today=date(2026, 11, 24)).issues[0].code
    'BASIS_OF_RECORD_INVALID'
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from linkeddata.countries import Countries
from linkeddata.issue_dates import check_dates, read_date
from linkeddata.issue_places import check_places
from linkeddata.issue_taxa import check_taxa, code_of
from linkeddata.issues import Issue, issue
from linkeddata.licences import normalise_licence
from linkeddata.mids import Mids, MidsResult
from linkeddata.names import NameParser
from linkeddata.source import SourceMedia

CHECKS_VERSION: Final = 1
"""Changes when a check, a map or an outline does: every record is then looked at again at the next ingest."""
_NOT_IN_ADDRESSES: Final = re.compile(r"[\s<>\"{}|\\^`]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What the checks say."""

    issues: tuple[Issue, ...]
    """Sorted, one of each code."""
    mids: MidsResult
    canonical_name: str
    """The scientific name without authorship; empty when it could not be read as one."""

    @property
    def codes(self) -> tuple[str, ...]:
        """The flags alone."""
        return tuple(item.code for item in self.issues)


class Checker:
    """The checks with what they need: outlines, names, maps."""

    def __init__(self) -> None:
        self._countries = Countries()
        self._names = NameParser()
        self._mids = Mids()

    def check(
        self,
        fields: Mapping[str, str],
        *,
        today: date,
        media: Sequence[SourceMedia] = (),
        licence: str = "",
        organisation: str = "",
    ) -> Checked:
        """Looks at one record.

        Args:
            fields: term -> value.
            today: dates after it are unlikely.
            media: its images.
            licence: of the source, where the record has none of its own.
            organisation: the node's, which answers for records that name no institution.
        """
        stated = fields.get("dcterms:license", "") or licence
        found: dict[str, Issue] = {}
        for item in self._all(fields, today, media, stated):
            found.setdefault(item.code, item)
        said = {**fields}
        if stated:
            said["dcterms:license"] = stated
        if organisation:
            said.setdefault("dwc:institutionID", organisation)
        name = fields.get("dwc:scientificName", "")
        return Checked(
            issues=tuple(sorted(found.values())), mids=self._mids.level(said, has_media=bool(media)),
            canonical_name=self._names.parse(name, code_of(fields)).canonical if name else "",
        )  # fmt: skip

    def _all(
        self, fields: Mapping[str, str], today: date, media: Sequence[SourceMedia], licence: str
    ) -> Iterator[Issue]:
        yield from check_dates(fields, today)
        yield from check_places(fields, self._countries)
        yield from check_taxa(fields, self._names)
        if not licence:
            yield issue("LICENSE_MISSING", "dcterms:license empty")
        elif not normalise_licence(licence).is_known:
            yield issue("LICENSE_NOT_RECOGNISED", f"license {licence}")
        yield from _check_media(media)


def _check_media(media: Sequence[SourceMedia]) -> Iterator[Issue]:
    """Issues of images; no detail repeats what a media row says, which goes when its image is withdrawn."""
    for number, medium in enumerate(media, start=1):
        which = f"image {number} of {len(media)}"
        if not medium.format:
            yield issue("MEDIA_FORMAT_MISSING", which)
        if "://" in medium.locator and _NOT_IN_ADDRESSES.search(medium.locator):
            yield issue("MULTIMEDIA_URI_INVALID", which)
        if medium.licence and not normalise_licence(medium.licence).is_known:
            yield issue("LICENSE_NOT_RECOGNISED", which)
        created = medium.fields.get("dcterms:created", "")
        if created and read_date(created) is None:
            yield issue("MULTIMEDIA_DATE_INVALID", which)
