"""Scale: answers on the images of truth/rulers.tsv, how far they are off, and answers where there is no ruler.

Every image that is not in the table was looked at: none of the others has a ruler. Three have a strip of squared paper
(``phenopype``), one a colour strip with tick marks of its own, one has scale bars on squeezed pictures; no answer is the
right one there too.

The way was thought out with these images in view; its numbers were chosen on made rulers (``tests/made_rulers.py``).
"""

from benchmarks.accuracy.world import Picture, Row, Section, World, share
from linkeddata.outputs import Scale

MUST_ANSWER = 0.6
MUST_BE_RIGHT = 0.95
RIGHT = 0.01


def section(world: World) -> Section:
    results = world.results("scale")
    truth = {row["file"]: float(row["px_per_mm"]) for row in world.truth("rulers")}
    errors: dict[str, float] = {}
    false: list[str] = []
    made = Section(pipeline="scale")
    for image in world.images:
        output = results[image.name].output
        assert output is None or isinstance(output, Scale)
        wanted = truth.get(image.name)
        is_known = output is not None and output.is_known
        if is_known and output is not None and wanted is not None:
            errors[image.name] = float(output.px_per_mm) / wanted - 1
        elif is_known:
            false.append(image.name)
        if output is None or (wanted is None and not is_known):
            continue
        if not is_known:
            caption, is_good = f"not known ({output.doubts[0]}); the ruler says {wanted} px/mm", False
        elif wanted is None:
            caption, is_good = f"{output.px_per_mm} px/mm where there is no ruler", False
        else:
            off = errors[image.name]
            caption, is_good = f"{output.px_per_mm} px/mm, {off:+.2%} of {wanted} ({output.marks})", abs(off) <= RIGHT
        made.pictures.append(Picture(image=image, caption=caption, regions=output.regions(), is_good=is_good))
    right = sum(abs(off) <= RIGHT for off in errors.values())
    made.rows = [
        Row(what="rulers answered", reached=share(len(errors), len(truth)), must=">= 60 %, stretch 85 %",
            is_met=len(errors) >= MUST_ANSWER * len(truth)),
        Row(what="answers within 1 %", reached=share(right, len(errors)), must=">= 95 %",
            is_met=right >= MUST_BE_RIGHT * len(errors)),
        Row(what="answers where there is no ruler", reached=str(len(false)), must="0", is_met=not false),
        Row(what="largest error", reached=f"{max(map(abs, errors.values()), default=0):.2%}"),
    ]  # fmt: skip
    made.notes = [world.timing("scale"), *(f"missed: {name}" for name in truth if name not in errors)]
    return made
