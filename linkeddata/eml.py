"""The EML of an archive: only its title, and whether it can be read at all.

A missing or broken EML keeps no archive out; it is a finding. DTDs and entities are refused.
It leaves out: people, coverage, methods, and the dataset's licence (media carry their own; ``node.toml`` says the
rest).
"""

from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from linkeddata.dwca_meta import DwcaError, check_depth

MAX_EML_BYTES: Final = 8 * 1_048_576
"""Real ones have up to a few hundred kilobytes (species lists in the coverage)."""
MAX_EML_DEPTH: Final = 64
MAX_TITLE_CHARS: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Eml:
    """What was read."""

    title: str
    finding: str = ""
    """What is odd about the file; empty when nothing is."""


def read_eml(data: bytes) -> Eml:
    """The title of a dataset description; a problem becomes a finding, never an error."""
    stripped = data.lstrip(b" \t\r\n")
    finding = "begins with blanks before the XML declaration" if stripped != data else ""
    if len(data) > MAX_EML_BYTES:
        return Eml(title="", finding=f"is larger than {MAX_EML_BYTES} bytes and was not read")
    try:
        root = fromstring(stripped, forbid_dtd=True)
        check_depth(root, MAX_EML_DEPTH, "the EML")
    except DefusedXmlException:
        return Eml(title="", finding="has a DTD or entities and was not read")
    except (ParseError, ValueError, LookupError, RecursionError, DwcaError) as error:
        return Eml(title="", finding=f"is not well-formed: {error}")
    title = next((item.text for item in root.iter() if str(item.tag).rsplit("}", 1)[-1] == "title" and item.text), "")
    return Eml(title=" ".join(title.split())[:MAX_TITLE_CHARS], finding=finding)
