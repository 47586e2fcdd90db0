"""What the institution's settings make of a row: its protection, and the access class of its media.

Pure. Everything in ``node.toml`` (and in this program) that decides what a record says goes into ``rules_digest``:
when it changes, the next ingest looks at every record again, changed row or not.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from linkeddata.access import AccessClass, parse_access_class, strictest
from linkeddata.canon import digest_text
from linkeddata.checks import CHECKS_VERSION
from linkeddata.licences import Licence
from linkeddata.sensitive import PlaceWords, generalise
from linkeddata.sensitive_taxa import SensitiveTaxa
from linkeddata.source import SourceRow
from node.config import Settings, SourceSettings

MAX_SUBJECT_CHARS: Final = 2000
"""Values longer than this are matched by their beginning: expressions of people meet data of strangers here."""


NO_PLACE: Final = PlaceWords(frozenset())


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """What may be said of a row."""

    fields: Mapping[str, str]
    """Already generalised when the taxon is sensitive."""
    is_sensitive: bool
    access: AccessClass
    """Of the specimen's record."""
    place: PlaceWords = NO_PLACE
    """What nothing else that is said about a sensitive row may repeat; nothing when the row is not sensitive."""


def protect(row: SourceRow, source: SourceSettings, taxa: SensitiveTaxa) -> Protection:
    """Applies the list of sensitive taxa and the access rules of the source, before anything is published."""
    rule = taxa.find(row.fields)
    fields = dict(row.fields) if rule is None else generalise(row.fields, rule.category, reason=rule.reason)
    is_private = source.access == "private" or _ruled(row, source) is AccessClass.PRIVATE
    return Protection(
        fields=fields,
        is_sensitive=rule is not None,
        access=AccessClass.PRIVATE if is_private else AccessClass.OPEN,
        place=PlaceWords.of(row.fields) if rule is not None else NO_PLACE,
    )


def medium_access(row: SourceRow, licence: Licence, source: SourceSettings, protection: Protection) -> AccessClass:
    """The class of a medium as this row has it: the strictest of licence or source, rules and protection."""
    otherwise = access_otherwise(row, licence, source, protection)
    return strictest([otherwise, AccessClass.RESTRICTED]) if protection.is_sensitive else otherwise


def access_otherwise(row: SourceRow, licence: Licence, source: SourceSettings, protection: Protection) -> AccessClass:
    """The class that it would have if its taxon were not sensitive."""
    classes = [parse_access_class(source.access) if source.access else licence.access, protection.access]
    ruled = _ruled(row, source)
    if ruled is not None:
        classes.append(ruled)
    return strictest(classes)


def rules_digest(settings: Settings, source: SourceSettings, *, version: str) -> str:
    """Names everything besides rows and bytes that decides what records say.

    Args:
        settings: of the node.
        source: of this source.
        version: of this program, whose documents may differ from an older one's.
    """
    return digest_text(
        {
            "version": version,
            "origin": settings.origin,
            "organisation": settings.node.organisation,
            "sensitive": [asdict(item) for item in settings.sensitive_rules],
            "licence": source.licence,
            "access": source.access,
            "rules": [asdict(item) for item in source.rules],
            "maxPixels": settings.images.max_pixels,
            "maxFileBytes": settings.images.max_file_bytes,
            "checks": CHECKS_VERSION,
            "originalsWithheldFor": settings.images.originals_withheld_for,
            **({"fetch": source.fetch} if source.fetch == "on-need" else {}),
            **({"variants": source.variants} if source.variants != "found" else {}),
        }
    )


def _ruled(row: SourceRow, source: SourceSettings) -> AccessClass | None:
    found = [
        parse_access_class(rule.access)
        for rule in source.rules
        if re.search(
            rule.match,
            row.fields.get(rule.field if ":" in rule.field else f"dwc:{rule.field}", "")[:MAX_SUBJECT_CHARS],
        )
    ]
    return strictest(found) if found else None


RULES_PREFIX: Final = "ingest_rules:"
"""In ``meta``: the digest under which everything of a source was published."""


def outdated_sources(published: Mapping[str, str | None], settings: Settings, *, version: str) -> list[str]:
    """Sources whose records still follow other settings than those of ``node.toml``; they need another ingest.

    Args:
        published: source -> the digest that its records follow; None when they are mixed (an ingest that stopped).
        settings: of the node, as they are now.
        version: of this program.
    """
    return [
        name
        for name, digest in published.items()
        if digest != rules_digest(settings, settings.sources.get(name, SourceSettings()), version=version)
    ]
