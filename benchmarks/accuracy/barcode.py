"""Barcodes: a code of truth/barcodes.tsv is found when its payload is read in its image.

The table does not claim to be complete, so every further code was looked at: ``truth/barcodes_judged.tsv`` says of each,
by image id, whether it is there. One that is neither in the table nor judged is counted as false.

**In-sample**: the scales of the pipeline were chosen on these same images.
"""

from benchmarks.accuracy.world import Picture, Row, Section, World, share


def section(world: World) -> Section:
    results = world.results("barcode")
    read = {(name, code["payload"]) for name, result in results.items() if result.body for code in result.body["codes"]}
    wanted = {(row["file"], row["payload"]) for row in world.truth("barcodes")}
    judged = {(row["sha256"], row["payload"]): row["verdict"] for row in world.own_truth("barcodes_judged")}
    images = {image.name: image for image in world.images}
    further = sorted(read - wanted)
    verdicts = {item: judged.get((images[item[0]].sha256, item[1]), "not judged") for item in further}
    false = [item for item in further if verdicts[item] != "true"]
    made = Section(pipeline="barcode")
    made.rows = [
        Row(what="known codes read", reached=share(len(wanted & read), len(wanted)), must="told, stretch 20"),
        Row(what="false codes", reached=str(len(false)), must="0", is_met=not false),
    ]
    made.notes = [
        world.timing("barcode"),
        *(f"further code {payload} in {name}: {verdicts[name, payload]}" for name, payload in further),
        *(f"missed: {payload} in {name}" for name, payload in sorted(wanted - read)),
    ]
    missed = {name for name, _ in wanted - read}
    for name in sorted({name for name, _ in wanted | read}):
        output = results[name].output
        codes = sorted(payload for file, payload in wanted - read if file == name)
        caption = "missed: " + ", ".join(codes) if codes else "all read"
        regions = output.regions() if output is not None else ()
        made.pictures.append(Picture(image=images[name], caption=caption, regions=regions, is_good=name not in missed))
    return made
