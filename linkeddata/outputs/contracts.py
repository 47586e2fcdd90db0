"""The list of output contracts, and of the pipelines that come with this release: the one place that names them all."""

from collections.abc import Callable, Mapping
from typing import Final

from linkeddata.errors import DocumentError, OutputRefused
from linkeddata.json_strict import Json, as_object
from linkeddata.outputs import (
    barcode,
    chart,
    classes,
    duplicates,
    embed,
    embed_objects,
    kind,
    label_text,
    network_probe,
    objects,
    quality,
    scale,
    segment,
    traits,
)
from linkeddata.outputs.shape import ImageSize, Output, read_image

_PARSERS: Final[Mapping[str, Callable[[dict[str, Json], ImageSize], Output]]] = {
    "label-text/1": label_text.parse,
    "barcode/1": barcode.parse,
    "quality/1": quality.parse,
    "classes/1": classes.parse,
    "segment/1": segment.parse,
    "embed/1": embed.parse,
    "kind/1": kind.parse,
    "duplicates/1": duplicates.parse,
    "chart/1": chart.parse,
    "scale/1": scale.parse,
    "objects/1": objects.parse,
    "traits/1": traits.parse,
    "embed-objects/1": embed_objects.parse,
    "network-probe/1": network_probe.parse,
}
CONTRACTS: Final = tuple(_PARSERS)
"""Every output contract this version knows."""
STEPS: Final[Mapping[str, str]] = {
    "label-text": "label-text/1",
    "barcode": "barcode/1",
    "quality": "quality/1",
    "segment": "segment/1",
    "embed": "embed/1",
    "kind": "kind/1",
    "duplicates": "duplicates/1",
    "chart": "chart/1",
    "scale": "scale/1",
    "objects": "objects/1",
    "traits": "traits/1",
    "embed-objects": "embed-objects/1",
    "network-probe": "network-probe/1",
}
"""Name of a pipeline that comes with a node -> its output contract: what jobs, settings and commands call it."""
PREVIOUS_STEPS: Final[Mapping[str, str]] = {"quality@1.0.0": "quality/1"}
"""The same for earlier versions that still run, as ``name@version``."""
HIDDEN_STEPS: Final = frozenset({"network-probe"})
"""Not offered to people: they prove something about the node."""
NOT_RELEASED: Final[frozenset[str]] = frozenset({"embed/1", "embed-objects/1", "duplicates/1"})
"""Contracts whose results stay in the node: no job may ask for them, nothing of them is published."""
MATCHED: Final = ("label-text/1", "barcode/1", "classes/1", "kind/1", "objects/1")
"""Contracts whose results are compared with the text of a question; of several the first of these is meant."""


def parse_output(contract: str, body: Json) -> Output:
    """A worker's body as a typed output.

    Raises:
        OutputRefused: unknown contract, or the body breaks it.
    """
    parse = _PARSERS.get(contract)
    if parse is None:
        raise OutputRefused(f"there is no output contract {contract[:40]!r}")
    try:
        document = as_object(body, "the result")
        return parse(document, read_image(document))
    except OutputRefused:
        raise
    except DocumentError as error:
        raise OutputRefused(f"{contract}: {error}") from error
