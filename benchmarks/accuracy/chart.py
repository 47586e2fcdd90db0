"""Charts of 24 patches on the images of truth/charts.tsv, and charts seen where there are none.

The way was thought out with these images in view.
"""

from benchmarks.accuracy.world import Picture, Row, Section, World, share
from linkeddata.outputs import Chart


def section(world: World) -> Section:
    results = world.results("chart")
    truth = {row["file"]: row["has_24_patch_chart"] == "yes" for row in world.truth("charts")}
    found: list[str] = []
    before: list[float] = []
    after: list[float] = []
    made = Section(pipeline="chart")
    for image in world.images:
        output = results[image.name].output
        assert output is None or isinstance(output, Chart)
        is_found = output is not None and output.box is not None
        if is_found and output is not None:
            found.append(image.name)
            before.append(float(output.before))
            after.append(float(output.after))
        if not (is_found or truth[image.name]):
            continue
        caption = f"difference {output.before} before, {output.after} after" if output and is_found else "missed"
        made.pictures.append(
            Picture(image=image, caption=caption, regions=output.regions() if output else (),
                    is_good=is_found == truth[image.name])
        )  # fmt: skip
    charts = [name for name, has in truth.items() if has]
    right = sum(name in found for name in charts)
    false = [name for name in found if not truth[name]]
    made.rows = [
        Row(what="charts found", reached=share(right, len(charts)), must="14 of 14", is_met=right == len(charts)),
        Row(what="false charts", reached=str(len(false)), must="0", is_met=not false),
    ]
    if found:
        mean = f"{sum(before) / len(found):.1f} before, {sum(after) / len(found):.1f} after"
        made.rows.append(Row(what="mean CIEDE2000 to the published values", reached=mean))
    made.notes = [world.timing("chart"), *(f"missed: {name}" for name in charts if name not in found)]
    return made
