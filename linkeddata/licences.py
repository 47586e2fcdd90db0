"""From a free-text licence to what may be done: one documented table (docs/reference-licences.md).

Collections write licences as URLs, with http or https, as "CC-BY", "CC BY 4.0", "Attribution (CC BY)" and worse.
A statement that the table knows makes the bytes open; anything else, and nothing at all, keeps them restricted.
The verbatim text is always kept. Non-commercial and no-derivatives licences allow showing the unchanged image,
so their bytes are open too; whoever reuses them is told the licence.

It leaves out: rights statements in prose ("please ask"), which people must read, and terms of datasets.
"""

import re
from dataclasses import dataclass
from typing import Final

from linkeddata.access import AccessClass

_CC: Final = "https://creativecommons.org/licenses/"
TABLE: Final[tuple[tuple[str, str, str, str], ...]] = (
    # label, canonical address without version, the only version there is, pattern on the squeezed text.
    # A version that is not stated is not invented: "CC BY" stays "CC BY".
    ("CC0", "https://creativecommons.org/publicdomain/zero/", "1.0", r"(cc)?(zero|0)|publicdomainzero|cczero|cc0"),
    ("Public Domain Mark", "https://creativecommons.org/publicdomain/mark/", "1.0", r"pdm|publicdomain(mark)?|pd"),
    ("CC BY-NC-ND", _CC + "by-nc-nd/", "", r"(cc)?bync?nd|(cc)?byndnc|attributionnoncommercialnoderiv(ative)?s"),
    ("CC BY-NC-SA", _CC + "by-nc-sa/", "", r"(cc)?byncsa|attributionnoncommercialsharealike"),
    ("CC BY-NC", _CC + "by-nc/", "", r"(cc)?bync|attributionnoncommercial"),
    ("CC BY-ND", _CC + "by-nd/", "", r"(cc)?bynd|attributionnoderiv(ative)?s"),
    ("CC BY-SA", _CC + "by-sa/", "", r"(cc)?bysa|attributionsharealike"),
    ("CC BY", _CC + "by/", "", r"(cc)?by|attribution"),
)
_URL = re.compile(
    r"https?://(?:www\.)?creativecommons\.org/"
    r"(?:licen[cs]es/(?P<code>[a-z-]+)|publicdomain/(?P<domain>zero|mark))"
    r"(?:/(?P<version>\d\.\d))?(?:/(?P<port>[a-z]{2,3}))?(?:/?(?:legalcode|deed)(?:\.[a-zA-Z_-]+)?)?/?\Z"
)
_VERSION = re.compile(r"\b([1-4]\.0|2\.5)\b")
_NOISE = re.compile(
    r"creative\s*commons|licen[cs]ed?|international|unported|generic|universal|under|the|\(|\)|version|v(?=\d)"
)
MAX_CHARS: Final = 500
"""Longer texts are prose about rights, not the name of a licence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """What a licence statement means here."""

    verbatim: str
    uri: str | None
    label: str
    access: AccessClass

    @property
    def is_known(self) -> bool:
        """Whether the table knows it."""
        return self.uri is not None


def normalise_licence(verbatim: str | None) -> Licence:
    """The licence that a text names; unknown or empty texts give a restricted one."""
    text = (verbatim or "").strip()
    if not text:
        return Licence(verbatim="", uri=None, label="none stated", access=AccessClass.RESTRICTED)
    unknown = Licence(verbatim=text, uri=None, label="not recognised", access=AccessClass.RESTRICTED)
    if len(text) > MAX_CHARS:
        return unknown
    lowered = text.lower()
    url = _URL.match(lowered)
    if url is not None:
        code = {"zero": "cc0", "mark": "pdm"}.get(url["domain"] or "", url["code"] or "")
        return _known(text, code.replace("-", ""), url["version"]) or unknown
    version = _VERSION.search(lowered)
    squeezed = re.sub(r"[^a-z0-9]", "", _NOISE.sub(" ", _VERSION.sub(" ", lowered)))
    return _known(text, squeezed, version[1] if version else None) or _doubled(text, squeezed, version) or unknown


def _known(verbatim: str, squeezed: str, version: str | None) -> Licence | None:
    for label, base, default, pattern in TABLE:
        if re.fullmatch(pattern, squeezed):
            number = (version or "") if label.startswith("CC BY") else default
            uri = f"{base}{number}/" if number else base
            return Licence(verbatim=verbatim, uri=uri, label=f"{label} {number}".strip(), access=AccessClass.OPEN)
    return None


def _doubled(verbatim: str, squeezed: str, version: re.Match[str] | None) -> Licence | None:
    """Forms such as "Attribution 4.0 (CC BY 4.0)" name the licence twice."""
    long, mark, short = squeezed.rpartition("cc")
    if not mark or not long:
        return None
    first = _known(verbatim, long, version[1] if version else None)
    second = _known(verbatim, "cc" + short, version[1] if version else None)
    return second if first is not None and second is not None and first.uri == second.uri else None
