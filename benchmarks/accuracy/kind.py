"""Kinds of pictures, judged by a table made by eye (benchmarks/truth/kind.tsv): every answer is given by a model that was
trained without the picture's whole set. The shipped model has seen all of them, so its own answers say nothing.
"""

import numpy as np

from benchmarks.accuracy.world import Picture, Row, Section, World, by_sha, share
from linkeddata.outputs.kind import KINDS
from runners.pipelines.embed import vector_of
from runners.pipelines.kind import LIKELY
from runners.training.train_kind import Examples, fit, likely, made_examples


def section(world: World) -> Section:
    truth = by_sha(world.own_truth("kind"))
    results = world.results("embed")
    shown = [image for image in world.images if results[image.name].body is not None and image.sha256 in truth]
    all_of_them = Examples(
        vectors=np.stack([vector_of(str((results[image.name].body or {})["vector"])) for image in shown]),
        kinds=tuple(truth[image.sha256]["kind"] for image in shown),
        sets=tuple(truth[image.sha256]["set"] for image in shown),
    )
    made = made_examples()
    apart = np.zeros((len(shown), len(KINDS)), np.float32)
    for name in sorted(set(all_of_them.sets)):
        left_out = np.array([item == name for item in all_of_them.sets])
        apart[left_out] = scores(without(all_of_them, left_out), made, all_of_them.vectors[left_out])
    mixed = np.zeros_like(apart)
    for part in range(8):
        left_out = np.array([int(image.sha256[:8], 16) % 8 == part for image in shown])
        if left_out.any():
            mixed[left_out] = scores(without(all_of_them, left_out), made, all_of_them.vectors[left_out])
    found = Section(pipeline="kind")
    kinds = np.array([KINDS.index(kind) for kind in all_of_them.kinds])
    best = apart.argmax(axis=1)
    said, right = apart.max(axis=1) >= LIKELY, best == kinds
    answered, good = int(said.sum()), int((said & right).sum())
    found.rows += [
        Row(
            what="answers, the picture's set left out of training",
            reached=share(answered, len(shown)),
            must="50 %",
            is_met=answered >= 0.5 * len(shown),
        ),
        Row(what="right among them", reached=share(good, answered), must="95 %", is_met=good >= 0.95 * answered),
        Row(what="right if an answer were always given", reached=share(int(right.sum()), len(shown))),
    ]
    for number, kind in enumerate(KINDS):
        these = kinds == number
        if these.any():
            reached = f"{int((said & right & these).sum())} right, {int((said & ~right & these).sum())} wrong, {int((~said & these).sum())} unknown of {int(these.sum())}"
            found.rows.append(Row(what=f"  {kind}", reached=reached))
    mixed_said, mixed_right = mixed.max(axis=1) >= LIKELY, mixed.argmax(axis=1) == kinds
    found.rows += [
        Row(what="eight parts, sets mixed (kinder): answers", reached=share(int(mixed_said.sum()), len(shown))),
        Row(what="  right among them", reached=share(int((mixed_said & mixed_right).sum()), int(mixed_said.sum()))),
        Row(what="  right if an answer were always given", reached=share(int(mixed_right.sum()), len(shown))),
    ]
    found.notes.append("slide: none among the pictures; known from made ones only")
    for number, image in enumerate(shown):
        words = f"{all_of_them.kinds[number]}; said {KINDS[int(best[number])] if said[number] else 'unknown'} ({KINDS[int(best[number])]} {apart[number].max():.2f})"
        found.pictures.append(
            Picture(image=image, caption=words, is_good=bool(right[number]) if said[number] else None)
        )
    found.pictures.sort(key=lambda picture: (picture.is_good is not False, picture.is_good is True))
    return found


def without(examples: Examples, left_out: np.ndarray) -> Examples:
    kept = [number for number, out in enumerate(left_out) if not out]
    return Examples(
        vectors=examples.vectors[kept],
        kinds=tuple(examples.kinds[n] for n in kept),
        sets=tuple(examples.sets[n] for n in kept),
    )


def scores(real: Examples, made: Examples, vectors: np.ndarray) -> np.ndarray:
    weights = fit(real, made)
    return likely(np.concatenate([vectors, np.ones((len(vectors), 1), np.float32)], axis=1), weights)
