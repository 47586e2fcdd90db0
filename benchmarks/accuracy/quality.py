"""Quality: what the pipeline says against a table made by eye (benchmarks/truth/quality.tsv, SHA-256 of the image).

``text``: which way most lines of text run: level, quarter (turned by a quarter), none. ``border``: whether anything that
stands out, specimen, label, ruler or frame, is cut off by the border of the picture. ``focus``: sharp or soft, looked at
where the picture is richest, pixel by pixel. Empty where two people could differ; those are not counted.
Only one picture is soft and none is badly lit, so those verdicts are told by the made pictures of the tests.
"""

from benchmarks.accuracy.world import Picture, Row, Section, World, by_sha, share


def section(world: World) -> Section:
    truth = by_sha(world.own_truth("quality"))
    results = world.results("quality")
    found = Section(pipeline="quality")
    said = {image.sha256: body["verdicts"] for image in world.images if (body := results[image.name].body) is not None}
    runs = {"good": "level", "poor": "quarter"}
    with_text = [sha for sha in said if truth[sha]["text"] in ("level", "quarter")]
    answered = [sha for sha in with_text if "orientation" in said[sha]]
    right = [sha for sha in answered if runs[said[sha]["orientation"]] == truth[sha]["text"]]
    turned = [sha for sha in with_text if truth[sha]["text"] == "quarter"]
    found_turned = [sha for sha in turned if said[sha].get("orientation") == "poor"]
    found.rows += [
        Row(what="direction of text: answers where there is text", reached=share(len(answered), len(with_text))),
        Row(
            what="  right among them", reached=share(len(right), len(answered)), must="85 %",
            is_met=len(right) >= 0.85 * len(answered),
        ),
        Row(what="  turned by a quarter, found", reached=share(len(found_turned), len(turned))),
    ]  # fmt: skip
    cut = [sha for sha in said if truth[sha]["border"] == "cut"]
    whole = [sha for sha in said if truth[sha]["border"] == "whole"]
    found_cut = [sha for sha in cut if said[sha]["border"] == "poor"]
    false_cut = [sha for sha in whole if said[sha]["border"] == "poor"]
    found.rows += [
        Row(what="something cut off by the border, found", reached=share(len(found_cut), len(cut))),
        Row(
            what="  right among those told", reached=share(len(found_cut), len(found_cut) + len(false_cut)), must="85 %",
            is_met=len(found_cut) >= 0.85 * (len(found_cut) + len(false_cut)),
        ),
    ]  # fmt: skip
    sharp = [sha for sha in said if truth[sha]["focus"] == "sharp"]
    soft = [sha for sha in said if truth[sha]["focus"] == "soft"]
    blamed = sum(said[sha]["sharpness"] == "poor" for sha in sharp)
    found.rows += [
        Row(what="sharp pictures said to be blurred", reached=share(blamed, len(sharp)), must="0", is_met=not blamed),
        Row(
            what="soft ones said to be blurred",
            reached=share(sum(said[sha]["sharpness"] == "poor" for sha in soft), len(soft)),
        ),
    ]
    wrong = (set(answered) - set(right)) | set(false_cut)
    missed = (set(turned) - set(found_turned)) | (set(cut) - set(found_cut))
    for image in world.images:
        if image.sha256 in wrong | missed:
            verdicts = said[image.sha256]
            told = runs.get(verdicts.get("orientation", ""), "nothing"), verdicts["border"]
            row = truth[image.sha256]
            words = f"text {row['text'] or '?'}, said {told[0]}; border {row['border'] or '?'}, said {told[1]}"
            found.pictures.append(Picture(image=image, caption=words, is_good=False if image.sha256 in wrong else None))
    return found
