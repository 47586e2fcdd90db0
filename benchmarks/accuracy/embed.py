"""How well the embedding brings pictures of one kind together: the nearest other picture, also from other sets only."""

import numpy as np

from benchmarks.accuracy.world import Picture, Row, Section, World, by_sha, share
from runners.pipelines.embed import vector_of


def section(world: World) -> Section:
    truth = by_sha(world.own_truth("kind"))
    results = world.results("embed")
    shown = [image for image in world.images if results[image.name].body is not None and image.sha256 in truth]
    vectors = np.stack([vector_of(str((results[image.name].body or {})["vector"])) for image in shown])
    kinds = np.array([truth[image.sha256]["kind"] for image in shown])
    sets = np.array([truth[image.sha256]["set"] for image in shown])
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -2)
    nearest = scores.argmax(axis=1)
    apart = np.where(sets[:, None] == sets[None, :], -2, scores).argmax(axis=1)
    near, far = int((kinds[nearest] == kinds).sum()), int((kinds[apart] == kinds).sum())
    found = Section(pipeline="embed")
    found.rows.append(
        Row(
            what="the nearest other picture is of the same kind",
            reached=share(near, len(shown)),
            must="85 %",
            is_met=near >= 0.85 * len(shown),
        )
    )
    found.rows.append(Row(what="the same, pictures of the own set left out", reached=share(far, len(shown))))
    found.notes.append(world.timing("embed"))
    for number, image in enumerate(shown):
        other = shown[int(nearest[number])]
        found.pictures.append(
            Picture(
                image=image,
                caption=f"{kinds[number]}; nearest: {other.name} ({kinds[int(nearest[number])]}, {scores[number].max():.3f})",
                is_good=bool(kinds[int(nearest[number])] == kinds[number]),
            )
        )
    return found
