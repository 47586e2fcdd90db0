"""Makes ``linkeddata/data/countries.json`` and ``country_codes.json`` from two packages of npm.

Run by hand, when the packages have news:
``npm pack world-atlas i18n-iso-countries``, unpack both, ``python tests/make_countries.py WORLD_ATLAS ISO_COUNTRIES``.
The files say what they are made from and under which licence; ``linkeddata/data/README.md`` says more.
"""

import json
import sys
from pathlib import Path

TARGET = Path(__file__).parent.parent / "linkeddata" / "data"
WITHOUT_ID = {"Somaliland": "SO", "Kosovo": "XK", "N. Cyprus": "CY", "Indian Ocean Ter.": "AU", "Siachen Glacier": ""}
"""Areas of Natural Earth that have no ISO number; the glacier is claimed by two and asked of none."""
LANGUAGES = ("en", "de", "fr", "es", "pt", "it", "nl", "da", "sv", "nb", "fi", "pl", "cs", "hu", "et", "ca")


def outlines(topology: dict, alpha2: dict[str, str]) -> dict:
    """Arcs in whole units of the grid, as they come; and the rings of every country as numbers of arcs."""
    areas: dict[str, list] = {}
    for item in topology["objects"]["countries"]["geometries"]:
        code = alpha2[item["id"]] if "id" in item else WITHOUT_ID[item["properties"]["name"]]
        polygons = [item["arcs"]] if item["type"] == "Polygon" else item["arcs"]
        if code:
            areas.setdefault(code, []).extend(ring for polygon in polygons for ring in polygon)
    return {
        "source": "Natural Earth 1:50m (public domain), as packed in world-atlas 2.0.2 (ISC)",
        "scale": topology["transform"]["scale"], "translate": topology["transform"]["translate"],
        "arcs": [[number for point in arc for number in point] for arc in topology["arcs"]],
        "areas": dict(sorted(areas.items())),
    }  # fmt: skip


def names(codes: list, folder: Path) -> dict:
    """ISO codes, and what countries are called in the languages of the collections."""
    known: dict[str, list[str]] = {}
    for language in LANGUAGES:
        for code, said in json.loads((folder / "langs" / f"{language}.json").read_text("utf-8"))["countries"].items():
            known.setdefault(code, []).extend([said] if isinstance(said, str) else said)
    return {
        "source": "i18n-iso-countries 7.14.0 (MIT, copyright Michael Wittig)",
        "alpha3": {row[0]: row[1] for row in codes},
        "names": {code: sorted(set(said)) for code, said in sorted(known.items())},
    }


def main() -> None:
    """Writes both files."""
    atlas, iso = Path(sys.argv[1]), Path(sys.argv[2])
    codes = json.loads((iso / "codes.json").read_text("utf-8"))
    topology = json.loads((atlas / "countries-50m.json").read_text("utf-8"))
    made = {
        "countries.json": outlines(topology, {row[2]: row[0] for row in codes}),
        "country_codes.json": names(codes, iso),
    }
    for name, document in made.items():
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        (TARGET / name).write_text(text.replace('],"', '],\n"') + "\n", "utf-8")


if __name__ == "__main__":
    main()
