"""The gallery: an HTML page per pipeline with the regions drawn over the images, and one with the table. No scripts.

The pictures are of real specimens, so the folder stays on this machine: it is not part of the repository.
"""

import html
from collections.abc import Sequence
from pathlib import Path

from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont, ImageOps

from benchmarks.accuracy.world import Picture, Section
from linkeddata.outputs import Region

SIDE_PX = 1000
COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#e377c2", "#8c564b")
STYLE = """body{font:16px/1.5 sans-serif;margin:2rem auto;max-width:80rem;padding:0 1rem}
table{border-collapse:collapse}td,th{border-bottom:1px solid #ccc;padding:.3rem .8rem;text-align:left;vertical-align:top}
.no{color:#a00;font-weight:bold}.yes{color:#060}figure{display:inline-block;margin:.5rem;vertical-align:top;max-width:24rem}
figure img{max-width:24rem;max-height:24rem;border:3px solid #bbb}figure.good img{border-color:#2a7}figure.bad img{border-color:#c33}
figcaption{font-size:.85rem;overflow-wrap:anywhere}"""


def write(folder: Path, sections: Sequence[Section]) -> Path:
    """Writes everything; returns the first page."""
    folder.mkdir(parents=True, exist_ok=True)
    for section in sections:
        (folder / section.pipeline).mkdir(exist_ok=True)
        figures = [figure(folder, section.pipeline, number, item) for number, item in enumerate(section.pictures)]
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in section.notes)
        body = f"<p><a href='index.html'>all pipelines</a></p>{rows([section])}<ul>{notes}</ul>{''.join(figures)}"
        (folder / f"{section.pipeline}.html").write_text(page(section.pipeline, body), encoding="utf-8")
    first = folder / "index.html"
    first.write_text(page("Accuracy", rows(sections)), encoding="utf-8")
    return first


def page(title: str, body: str) -> str:
    head = f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{html.escape(title)}</title><style>{STYLE}</style>"
    return f"{head}<h1>{html.escape(title)}</h1>{body}</html>"


def rows(sections: Sequence[Section]) -> str:
    lines = ["<table><tr><th>pipeline<th>what<th>reached<th>must<th></tr>"]
    for section in sections:
        for row in section.rows:
            verdict = {True: "<td class='yes'>met", False: "<td class='no'>missed", None: "<td>"}[row.is_met]
            name = html.escape(section.pipeline)
            lines.append(
                f"<tr><td><a href='{name}.html'>{name}</a><td>{html.escape(row.what)}<td>{html.escape(row.reached)}"
                f"<td>{html.escape(row.must)}{verdict}</tr>"
            )
    return "".join(lines) + "</table>"


def figure(folder: Path, name: str, number: int, picture: Picture) -> str:
    target = f"{name}/{number:03d}.jpg"
    draw(picture).save(folder / target, quality=82)
    kind = {True: "good", False: "bad", None: ""}[picture.is_good]
    return (
        f"<figure class='{kind}'><a href='{target}'><img src='{target}' loading='lazy' alt=''></a>"
        f"<figcaption>{html.escape(picture.image.name)}: {html.escape(picture.caption)}</figcaption></figure>"
    )


def draw(picture: Picture) -> Pillow.Image:
    """The upright image, at most 1,000 pixels, with its regions."""
    with Pillow.open(picture.image.path) as opened:
        upright = ImageOps.exif_transpose(opened).convert("RGB")
    return draw_regions(upright, picture.regions)


def draw_regions(upright: Pillow.Image, regions: Sequence[Region], *, side_px: int = SIDE_PX) -> Pillow.Image:
    """Regions over an image, with what they say; shrunk to ``side_px``."""
    scale = min(1.0, side_px / max(upright.size))
    small = upright.resize((max(1, round(upright.width * scale)), max(1, round(upright.height * scale))))
    pen, font = ImageDraw.Draw(small), ImageFont.load_default(12)
    labels = sorted({region.label for region in regions})
    for region in regions:
        colour = COLOURS[labels.index(region.label) % len(COLOURS)]
        x, y, w, h = (side * scale for side in region.box)
        pen.rectangle((x, y, x + max(1, w), y + max(1, h)), outline=colour, width=2)
        if region.polygon:
            corners = [tuple(float(part) * scale for part in corner.split(",")) for corner in region.polygon.split()]
            if len(corners) > 1:
                pen.line([*corners, corners[0]], fill=colour, width=2)
        said = " ".join(part for part in (region.label, region.text[:40], region.score) if part)
        if said and len(regions) <= 40:
            pen.text((x, max(0, y - 14)), said, fill=colour, font=font)
    return small
