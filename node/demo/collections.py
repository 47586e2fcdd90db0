"""Three made institutions as Darwin Core Archives, and the truth about them, kept elsewhere.

The question of the demo is which sheets carry a *Herbarium Martii* label. Some do; some carry names that only look
like it; some cannot be read at all. No record holds the words that are searched for.
"""

import io
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image, ImageFilter

from node.demo import drawing
from node.demo.drawing import LabelText

QUESTION: Final = '"Herbarium Martii"~1'
TERMS: Final = (
    "occurrenceID", "basisOfRecord", "institutionCode", "collectionCode", "catalogNumber", "scientificName", "kingdom",
    "family", "recordedBy", "eventDate", "country", "locality",
)  # fmt: skip
_PLANTS: Final = (
    ("Quercus robur L.", "Fagaceae"), ("Primula veris L.", "Primulaceae"), ("Salvia pratensis L.", "Lamiaceae"),
    ("Campanula patula L.", "Campanulaceae"), ("Geranium sanguineum L.", "Geraniaceae"),
    ("Trollius europaeus L.", "Ranunculaceae"),
    ("Cypripedium calceolus L.", "Orchidaceae"), ("Arnica montana L.", "Asteraceae"), ("Viola hirta L.", "Violaceae"),
)  # fmt: skip
_BEETLES: Final = (
    ("Carabus granulatus", "Carabidae"), ("Lucanus cervus", "Lucanidae"), ("Cetonia aurata", "Scarabaeidae"),
    ("Carabus auratus", "Carabidae"), ("Prionus coriarius", "Cerambycidae"), ("Oryctes nasicornis", "Scarabaeidae"),
)  # fmt: skip
_FISH: Final = (
    ("Perca fluviatilis", "Percidae"), ("Esox lucius", "Esocidae"), ("Rutilus rutilus", "Leuciscidae"),
    ("Salmo trutta", "Salmonidae"), ("Cyprinus carpio", "Cyprinidae"), ("Thymallus thymallus", "Salmonidae"),
)  # fmt: skip
_COLLECTORS: Final = ("A. Example", "M. Muster", "J. Doe", "B. Sample", "C. Vzor")
_PLACES: Final = ("Isar meadows", "Kaiserstuhl", "Lake shore", "Roadside near the mill", "Old quarry", "Oak forest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """One specimen to draw."""

    name: str
    family: str
    heading: str
    """What the label says on top."""
    truth: str
    """``yes``, ``no`` or ``unreadable``."""
    damage: str = ""
    """``blurred``, ``handwritten``, ``truncated`` or nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Institution:
    """One made institution."""

    folder: str
    name: str
    code: str
    licence: str
    """Of the media; empty: none is stated."""
    kingdom: str
    sheets: tuple[Sheet, ...]
    draw: Callable[[Sheet, str, str, random.Random], Image.Image]


def institutions() -> tuple[Institution, ...]:
    """The three of them."""
    plants = _sheets(
        _PLANTS,
        ("Herbarium Martii", "Hortus Botanicus", "HERBARIUM MARTII", "Herbarium Martius", "Flora Exsiccata",
         "Herbarium Martii", "Herbarium Martii", "Plantae Selectae", "Collection v. Martinez"),
        damaged={4: "handwritten", 7: "blurred", 6: ""},
    )  # fmt: skip
    beetles = _sheets(
        _BEETLES,
        ("Museum Entomologicum", "Herbarium Martii", "Collectio Coleoptera", "ex coll. Martens", "Herbarium Martii",
         "Museum Entomologicum"),
        damaged={5: "truncated"},
    )  # fmt: skip
    fish = _sheets(
        _FISH,
        ("Ichthyological Collection", "Museum of Fishes", "Herbarium Martii", "Ichthyological Collection",
         "Museum of Fishes", "Ichthyological Collection"),
        damaged={4: "blurred"},
    )  # fmt: skip
    return (
        Institution(
            folder="hortus", name="Hortus Exempli", code="HEX", licence="CC BY 4.0", kingdom="Plantae", sheets=plants,
            draw=_herbarium_sheet,
        ),
        Institution(
            folder="insects", name="Museum of Pins", code="MOP", licence="", kingdom="Animalia", sheets=beetles,
            draw=_pinned_insect,
        ),
        Institution(
            folder="fishes", name="Hall of Fishes", code="HOF", licence="CC0", kingdom="Animalia", sheets=fish,
            draw=_fish_tray,
        ),
    )  # fmt: skip


def write_collections(root: Path, truth_path: Path, *, seed: int) -> int:
    """Draws all images, writes one archive per institution below ``root`` and the truth to ``truth_path``.

    Returns:
        How many images there are.
    """
    truth: dict[str, dict[str, str]] = {}
    count = 0
    for institution in institutions():
        rng = random.Random(f"{seed}/{institution.folder}")  # noqa: S311 - pictures, not secrets
        folder = root / institution.folder
        (folder / "images").mkdir(parents=True, exist_ok=True)
        occurrences: list[Sequence[str]] = []
        media: list[Sequence[str]] = []
        for number, sheet in enumerate(institution.sheets, start=1):
            catalog = f"{institution.code} {100000 + 37 * number:06d}"
            occurrence_id = f"urn:catalog:{institution.code}:{institution.folder}:{catalog.replace(' ', '')}"
            collector, place = rng.choice(_COLLECTORS), rng.choice(_PLACES)
            year = str(rng.randint(1880, 1960))
            image = institution.draw(sheet, catalog, f"{place}, {year}, leg. {collector}", rng)
            name = f"images/{catalog.replace(' ', '_')}.jpg"
            (folder / name).write_bytes(_encode(image, sheet.damage))
            occurrences.append(
                (occurrence_id, "PreservedSpecimen", institution.code, institution.folder, catalog, sheet.name,
                 institution.kingdom, sheet.family, collector, year, "Germany", place)
            )  # fmt: skip
            media.append((occurrence_id, "StillImage", "image/jpeg", name, institution.licence, institution.name))
            truth[f"{institution.folder}/{name}"] = {
                "catalogNumber": catalog, "martii": sheet.truth, "barcode": catalog, "heading": sheet.heading,
                "damage": sheet.damage,
            }  # fmt: skip
            count += 1
        _write_archive(folder, institution, occurrences, media)
    truth_path.parent.mkdir(parents=True, exist_ok=True)
    truth_path.write_text(json.dumps(truth, indent=1, ensure_ascii=False), encoding="utf-8")
    return count


def _sheets(
    names: tuple[tuple[str, str], ...], headings: tuple[str, ...], *, damaged: dict[int, str]
) -> tuple[Sheet, ...]:
    made: list[Sheet] = []
    for number, ((name, family), heading) in enumerate(zip(names, headings, strict=True)):
        damage = damaged.get(number, "")
        truth = "yes" if heading.lower() == "herbarium martii" else "no"
        made.append(
            Sheet(name=name, family=family, heading=heading, truth="unreadable" if damage else truth, damage=damage)
        )
    return tuple(made)


def _label(sheet: Sheet, where: str, rng: random.Random, image: Image.Image, box: tuple[int, int, int, int]) -> None:
    if sheet.damage == "handwritten":
        drawing.draw_scrawl(image, box, rng)
        return
    place, year, collector = where.split(", ", 2)
    drawing.draw_label(
        image, box, LabelText(heading=sheet.heading, lines=(sheet.name, place, f"{year}   {collector}")), rng
    )
    if sheet.damage == "blurred":
        x, y, width, height = box
        spot = (x - 8, y - 8, x + width + 8, y + height + 8)
        image.paste(image.crop(spot).filter(ImageFilter.GaussianBlur(7)), spot[:2])


def _herbarium_sheet(sheet: Sheet, catalog: str, where: str, rng: random.Random) -> Image.Image:
    image = drawing.paper(1120, 1640, rng)
    drawing.draw_plant(image, (120, 170, 760, 1060), rng)
    drawing.draw_chart(image, 770, 60, 42)
    drawing.draw_ruler(image, 60, 1550, 120)
    drawing.draw_barcode(image, 60, 60, catalog, "Hortus Exempli")
    _label(sheet, where, rng, image, (600, 1310, 460, 230))
    return image


def _pinned_insect(sheet: Sheet, catalog: str, where: str, rng: random.Random) -> Image.Image:
    image = drawing.paper(1280, 960, rng, tone=(232, 230, 224))
    drawing.draw_beetle(image, 400, 430, 170, rng)
    drawing.draw_ruler(image, 60, 860, 60)
    drawing.draw_chart(image, 60, 60, 24)
    drawing.draw_barcode(image, 780, 60, catalog, "Museum of Pins")
    _label(sheet, where, rng, image, (740, 560, 470, 230))
    return image


def _fish_tray(sheet: Sheet, catalog: str, where: str, rng: random.Random) -> Image.Image:
    image = drawing.paper(1500, 1000, rng, tone=(214, 224, 228))
    drawing.draw_fish(image, (80, 150, 960, 380), rng)
    drawing.draw_ruler(image, 100, 890, 150)
    drawing.draw_chart(image, 1200, 70, 34)
    drawing.draw_barcode(image, 1090, 440, catalog, "Hall of Fishes")
    _label(sheet, where, rng, image, (940, 620, 480, 220))
    return image


def _encode(image: Image.Image, damage: str) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=88)
    data = out.getvalue()
    return data[: len(data) // 3] if damage == "truncated" else data


def _write_archive(
    folder: Path, institution: Institution, occurrences: list[Sequence[str]], media: list[Sequence[str]]
) -> None:
    _write_table(folder / "occurrence.txt", TERMS, occurrences)
    names = ("occurrenceID", "type", "format", "identifier", "license", "rightsHolder")
    _write_table(folder / "multimedia.txt", names, media)
    fields = "".join(
        f'    <field index="{index}" term="http://rs.tdwg.org/dwc/terms/{term}"/>\n' for index, term in enumerate(TERMS)
    )
    extra = "".join(
        f'    <field index="{index}" term="http://purl.org/dc/terms/{term}"/>\n'
        for index, term in enumerate(names)
        if index
    )
    form = 'encoding="UTF-8" fieldsTerminatedBy="\\t" linesTerminatedBy="\\n" fieldsEnclosedBy="" ignoreHeaderLines="1"'
    (folder / "meta.xml").write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<archive xmlns="http://rs.tdwg.org/dwc/text/" metadata="eml.xml">\n'
        f'  <core {form} rowType="http://rs.tdwg.org/dwc/terms/Occurrence">\n'
        f'    <files><location>occurrence.txt</location></files>\n    <id index="0"/>\n{fields}  </core>\n'
        f'  <extension {form} rowType="http://rs.gbif.org/terms/1.0/Multimedia">\n'
        f'    <files><location>multimedia.txt</location></files>\n    <coreid index="0"/>\n{extra}  </extension>\n'
        "</archive>\n",
        encoding="utf-8",
    )
    (folder / "eml.xml").write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n<eml:eml xmlns:eml="eml://ecoinformatics.org/eml-2.1.1">'
        f"<dataset><title>{institution.name}: a drawn collection</title></dataset></eml:eml>\n",
        encoding="utf-8",
    )


def _write_table(path: Path, header: Sequence[str], rows: list[Sequence[str]]) -> None:
    lines = ["\t".join(header), *("\t".join(row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
