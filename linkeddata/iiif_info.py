"""The document ``info.json`` of the IIIF Image API 3.0: what there is of a picture, and what can be asked for.

It says exactly the tiles that lie ready and the sizes that cost least, so that viewers ask for those.
"""

from typing import Final

from linkeddata.iiif_image import level_sizes
from linkeddata.json_strict import Json

CONTEXT: Final = "http://iiif.io/api/image/3/context.json"
PROFILE_LINK: Final = "http://iiif.io/api/image/3/level2.json"


def info_document(
    *, address: str, width: int, height: int, tile_px: int, max_area: int | None, rights: str = ""
) -> dict[str, Json]:
    """The document ``info.json``.

    Args:
        address: of the image service, without a slash at the end.
        width: of the picture as it is offered, pixels.
        height: the same.
        tile_px: side of the tiles of its pyramid.
        max_area: see ``resolve``; said where it makes a difference.
        rights: address of the licence, http form, or empty.
    """
    levels = level_sizes(width, height, tile_px)
    document: dict[str, Json] = {
        "@context": CONTEXT,
        "id": address,
        "type": "ImageService3",
        "protocol": "http://iiif.io/api/image",
        "profile": "level2",
        "width": width,
        "height": height,
    }
    if max_area is not None:
        document["maxArea"] = max_area
    document["sizes"] = [
        {"width": w, "height": h} for w, h in reversed(levels) if max_area is None or w * h <= max_area
    ]
    document["tiles"] = [
        {"width": tile_px, "height": tile_px, "scaleFactors": [1 << level for level in range(len(levels))]}
    ]
    if rights:
        document["rights"] = rights
    document["preferredFormats"] = ["jpg"]
    document["extraFormats"] = ["webp"]
    document["extraQualities"] = ["color", "gray", "bitonal"]
    document["extraFeatures"] = ["canonicalLinkHeader", "mirroring", "profileLinkHeader"]
    return document
