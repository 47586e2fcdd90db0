"""From a free-text licence to what may be done: one documented table (docs/reference-licences.md).

Collections write licences as URLs, with http or https, as "CC-BY", "CC BY 4.0", "Attribution (CC BY)" and worse.
A statement that the table knows makes the bytes open; anything else, and nothing at all, keeps them restricted.
The verbatim text is always kept. Non-commercial and no-derivatives licences allow showing the unchanged image,
so their bytes are open too; whoever reuses them is told the licence.

How a text is read: addresses at creativecommons.org are replaced by the name they stand for, the rest is cut into
words. Every word must be a part of a licence's name or a word that says nothing ("licensed under a"). One word more,
such as "not" or a person's name, and the text is for people: not recognised. A text that names a licence twice gets
the union of its conditions.

It leaves out: rights statements in prose ("please ask"), which people must read, and terms of datasets.
"""

import functools
import re
from dataclasses import dataclass
from typing import Final

from linkeddata.access import AccessClass

_CC: Final = "https://creativecommons.org/licenses/"
_PUBLIC: Final = "https://creativecommons.org/publicdomain/"
TABLE: Final[tuple[tuple[str, str, str, tuple[str, ...]], ...]] = (
    # label, canonical address without version, the only version there is, spellings (a test reads each of them).
    # A version that is not stated is not invented: "CC BY" stays "CC BY".
    ("CC0", _PUBLIC + "zero/", "1.0", ("CC0", "cc-0", "CC0_1_0", "Creative Commons Zero")),
    ("Public Domain Mark", _PUBLIC + "mark/", "1.0", ("PDM", "Public Domain", "Public Domain Mark 1.0")),
    ("CC BY-NC-ND", _CC + "by-nc-nd/", "", ("CC BY-NC-ND 4.0", "by-nc-nd", "Attribution-NonCommercial-NoDerivs")),
    ("CC BY-NC-SA", _CC + "by-nc-sa/", "", ("CC BY-NC-SA 3.0", "by-nc-sa", "Attribution-NonCommercial-ShareAlike")),
    ("CC BY-NC", _CC + "by-nc/", "", ("CC-BY-NC", "CC_BY_NC_4_0", "Attribution Non Commercial (CC-BY-NC) 4.0")),
    ("CC BY-ND", _CC + "by-nd/", "", ("CC BY-ND 4.0", "cc-by-nd", "Attribution-NoDerivatives 4.0 International")),
    ("CC BY-SA", _CC + "by-sa/", "", ("CC BY-SA 3.0", "cc-by-sa", "Attribution-ShareAlike 4.0 International")),
    ("CC BY", _CC + "by/", "", ("cc-by", "CC BY 4.0", "CC_BY_4_0", "Attribution 4.0 International (CC BY 4.0)")),
)
_CODES: Final[dict[frozenset[str], str]] = {
    frozenset({"0"}): "CC0",
    frozenset({"pd"}): "Public Domain Mark",
    frozenset({"by", "nc", "nd"}): "CC BY-NC-ND",
    frozenset({"by", "nc", "sa"}): "CC BY-NC-SA",
    frozenset({"by", "nc"}): "CC BY-NC",
    frozenset({"by", "nd"}): "CC BY-ND",
    frozenset({"by", "sa"}): "CC BY-SA",
    frozenset({"by"}): "CC BY",
}
_URL: Final = re.compile(
    r"(?<![\w./@:-])(?:https?://)?(?:www\.)?creativecommons\.org/"
    r"(?:licen[cs]es/(?P<code>[a-z-]{1,20})|publicdomain/(?P<domain>zero|mark))"
    r"(?:/(?P<version>[0-9]\.[0-9]))?(?:/(?P<port>[a-z]{2,4}))?"
    r"(?:/(?:legalcode|deed)(?:\.[a-z_-]{1,10})?)?/?(?:[?#][\w=.&-]*)?(?=[\s),;]|\Z)"
)
_URL_CODES: Final = {"zero": "cc 0", "mark": "cc pd", "publicdomain": "cc pd"}
_WORDS: Final = re.compile(r"[0-9]\.[0-9]|[0-9]|[^\W\d_]+|[^\w\s]|\w")
_MEANS: Final[dict[str, tuple[str, ...]]] = {
    "cc": ("cc",), "creativecommons": ("cc",), "by": ("by",), "attribution": ("by",),
    "nc": ("nc",), "noncommercial": ("nc",), "sa": ("sa",), "sharealike": ("sa",),
    "nd": ("nd",), "noderivs": ("nd",), "noderivatives": ("nd",), "noderivative": ("nd",),
    "zero": ("0",), "cczero": ("cc", "0"), "0": ("0",), "pd": ("pd",), "pdm": ("pd",), "publicdomain": ("pd",),
}  # fmt: skip
_COMPOUND: Final = re.compile(r"(cc)?(by)(nc)?(sa|nd)?\Z")
_JOINED: Final = (
    (re.compile(r"\bcreative[\s_-]+commons\b"), "cc"), (re.compile(r"\bnon[\s_-]+commercial\b"), "nc"),
    (re.compile(r"\bshare[\s_-]+alike\b"), "sa"), (re.compile(r"\bno[\s_-]+deriv(s|atives?)\b"), "nd"),
    (re.compile(r"\bpublic[\s_-]+domain\b"), "pd"), (re.compile(r"(?<=[a-z_ -])([1-4])[_-]([015])(?![0-9])"), r"\1.\2"),
)  # fmt: skip
_SAYS_NOTHING: Final = frozenset(
    "a an the this work image is are under licence license licensed licenced licences licenses international unported "
    "generic universal version v deed legalcode mark dedication ( ) - , ; : . / _".split()
)
_PORTS: Final = frozenset("at au br ca ch de es fr igo it jp nl nz pl pt se uk us za".split())
_VERSIONS: Final = frozenset({"1.0", "2.0", "2.1", "2.5", "3.0", "4.0"})
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


@functools.lru_cache(maxsize=1024)  # collections state few licences, and each for every record
def normalise_licence(verbatim: str | None) -> Licence:
    """The licence that a text names; unknown or empty texts give a restricted one."""
    text = (verbatim or "").strip()
    if not text:
        return Licence(verbatim="", uri=None, label="none stated", access=AccessClass.RESTRICTED)
    found = _read(text.lower()) if len(text) <= MAX_CHARS else None
    if found is None:
        return Licence(verbatim=text, uri=None, label="not recognised", access=AccessClass.RESTRICTED)
    name, stated = found
    label, base, only, _ = next(row for row in TABLE if row[0] == name)
    version = only or stated
    return Licence(
        verbatim=text,
        uri=f"{base}{version}/" if version else base,
        label=f"{label} {version}".strip(),
        access=AccessClass.OPEN,
    )


def _read(text: str) -> tuple[str, str] | None:
    """Label and version (may be empty) of a lower-case text; None when a word of it is not understood."""
    text = _URL.sub(_named, text)
    for pattern, name in _JOINED:
        text = pattern.sub(name, text)
    codes: list[str] = []
    versions: set[str] = set()
    for word in _WORDS.findall(text):
        compound = _COMPOUND.match(word)
        if word in _MEANS:
            codes.extend(_MEANS[word])
        elif compound is not None:
            codes.extend(part for part in compound.groups() if part)
        elif word in _VERSIONS or f"{word}.0" in _VERSIONS:
            versions.add(word if "." in word else f"{word}.0")
        elif not (word in _SAYS_NOTHING or (word in _PORTS and versions)):
            return None
    has_mark = "cc" in codes or bool(versions)
    conditions = frozenset(codes) - {"cc"}
    if "0" in conditions:  # "CC0 1.0 Public Domain Dedication"
        conditions -= {"pd"}
    label = _CODES.get(conditions)
    needs_mark = conditions in ({"by"}, {"0"})  # "by" and "0" alone are no licence
    if label is None or len(versions) > 1 or (needs_mark and not has_mark):
        return None
    if label in ("CC0", "Public Domain Mark") and versions - {"1.0"}:
        return None
    return label, next(iter(versions), "")


def _named(found: re.Match[str]) -> str:
    """The name that an address stands for, as text."""
    groups = found.groupdict(default="")
    code, version = groups["domain"] or groups["code"], groups["version"]
    return f" {_URL_CODES.get(code, 'cc ' + code)} {version} "
