"""How well vectors of crops bring objects of one kind together: the nearest region of another image.

A found object has the kind of the box drawn by eye (``truth/objects.tsv``) that it overlaps by half, whatever the
pipeline ``objects`` calls it; objects without such a box are left out. The embedding network was not trained here; where
the boxes lie on nine of the sheets comes from a network that had seen them. Kinds are uneven, so the share that guessing
gives is told beside.
"""

from collections import Counter, defaultdict

import numpy as np

from benchmarks.accuracy.world import Image, Picture, Row, Section, World, share
from linkeddata.outputs.embed_objects import EmbeddedObject, EmbeddedObjects
from linkeddata.outputs.shape import Region
from runners.pipelines.embed import vector_of
from runners.pipelines.objects import overlap

AT = 0.5


def section(world: World) -> Section:
    boxes: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in world.own_truth("objects"):
        boxes[row["sha256"]].append(row)
    results = world.results("embed-objects")
    things: list[tuple[Image, str, EmbeddedObject]] = []
    for image in world.images:
        output = results[image.name].output
        if isinstance(output, EmbeddedObjects):
            side = max(output.image.width, output.image.height) / 1000
            for item in output.objects:
                kind = kind_by_eye(item, boxes[image.sha256], side)
                if kind:
                    things.append((image, kind, item))
    vectors = np.stack([vector_of(item.vector) for _, _, item in things])
    kinds = np.array([kind for _, kind, _ in things])
    names = np.array([image.name for image, _, _ in things])
    sets = np.array([image.group for image, _, _ in things])
    scores = vectors @ vectors.T
    others = np.where(names[:, None] == names[None, :], -2, scores).argmax(axis=1)
    apart = np.where(sets[:, None] == sets[None, :], -2, scores).argmax(axis=1)
    near, far = int((kinds[others] == kinds).sum()), int((kinds[apart] == kinds).sum())
    counts = Counter(kinds.tolist())
    guessed = sum(count * count for count in counts.values()) / len(things)
    found = Section(pipeline="embed-objects")
    found.rows = [
        Row(what="the nearest object of another image is of the same kind", reached=share(near, len(things)),
            must="80 %", is_met=near >= 0.8 * len(things)),
        Row(what="the same, pictures of the own set left out", reached=share(far, len(things))),
        Row(what="the same by guessing as often as each kind occurs", reached=share(round(guessed), len(things))),
    ]  # fmt: skip
    for kind, count in counts.most_common():
        right = int((kinds[others] == kinds)[kinds == kind].sum())
        found.rows.append(Row(what=f"{kind}: nearest of another image", reached=share(right, count)))
    found.notes.append(world.timing("embed-objects"))
    for number, (image, kind, item) in enumerate(things):
        other = int(others[number])
        found.pictures.append(
            Picture(
                image=image,
                caption=f"{kind}; nearest: {kinds[other]} on {names[other]} {list(things[other][2].box)}, "
                f"{scores[number, other]:.3f}",
                regions=(Region(box=item.box, label=kind),), is_good=bool(kinds[other] == kind),
            )
        )  # fmt: skip
    return found


def kind_by_eye(item: EmbeddedObject, boxes: list[dict[str, str]], side: float) -> str:
    """The kind of the drawn box that overlaps most, empty when none does by half."""
    best = max(
        ((overlap(item.box, [round(float(row[key]) * side) for key in ("x", "y", "width", "height")]), row["class"])
         for row in boxes),
        default=(0.0, ""),
    )  # fmt: skip
    return best[1] if best[0] >= AT else ""
