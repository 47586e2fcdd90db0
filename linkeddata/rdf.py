"""Our documents as RDF, for exports, for checks and for people who want Turtle. Not on the path of a request.

PyLD turns JSON-LD into quads with a loader that refuses every address; rdflib writes them in other syntaxes.
Two independent readers (rdflib's own JSON-LD parser is the second) must see the same graph: a test holds them to it.
"""

import re
from collections.abc import Iterable
from typing import Any, Final, NoReturn

import rdflib
from pyld import jsonld

from linkeddata.context import PREFIXES
from linkeddata.errors import DocumentError
from linkeddata.json_strict import Json

FORMATS: Final[dict[str, str]] = {"turtle": "turtle", "ntriples": "nt", "nquads": "nt", "rdfxml": "pretty-xml"}
"""Our name -> rdflib's name. Everything is in the default graph, where N-Quads and N-Triples are the same."""

_NOT_XML: Final = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_quads(document: Json) -> str:
    """One document as N-Quads.

    Raises:
        DocumentError: it is no JSON-LD, or names a context that would have to be fetched.
    """
    try:
        return str(
            jsonld.to_rdf(document, {"format": "application/n-quads", "documentLoader": _refuse_remote, "base": ""})
        )
    except jsonld.JsonLdError as error:
        raise DocumentError(f"not usable JSON-LD: {_root_cause(error)}") from error


def to_graph(documents: Iterable[Json]) -> rdflib.Graph:
    """Documents as one rdflib graph, with our prefixes bound."""
    graph = rdflib.Graph()
    for prefix, namespace in PREFIXES.items():
        graph.bind(prefix, namespace, replace=True)
    for document in documents:
        # Each call of parse has its own blank nodes, so those of separate documents never meet.
        graph.parse(data=to_quads(document), format="nt")
    return graph


def serialise(documents: Iterable[Json], form: str) -> str:
    """Documents in one of ``FORMATS``.

    XML has no way to write control characters (XML 1.0, production 2): a sign stands in their place there.
    """
    text = str(to_graph(documents).serialize(format=FORMATS[form]))
    return _NOT_XML.sub("\ufffd", text) if form == "rdfxml" else text


def _refuse_remote(url: str, _options: dict[str, Any]) -> NoReturn:
    raise jsonld.JsonLdError(f"remote contexts are not fetched: {url[:200]}", "jsonld.LoadDocumentError")


def _root_cause(error: Exception) -> str:
    cause: BaseException = error
    while isinstance(getattr(cause, "cause", None), BaseException):
        cause = cause.cause  # type: ignore[attr-defined]
    return str(cause).splitlines()[0][:300]
