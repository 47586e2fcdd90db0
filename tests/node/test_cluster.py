"""Groups of what looks alike: mutual neighbours that hang together, the same every time; regions apart from images."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from conftest import ingest, jpeg, rows_of, write_archive
from test_similar import finish, values

from node.access import ANONYMOUS, STAFF
from node.folder import NodeFolder
from node.services.cluster import Neighbour, groups
from node.services.similar import Similarity
from node.storage.vectors import VectorFile, VectorRow

Make = Callable[..., NodeFolder]


def near(**others: dict[str, float]) -> dict[str, list[Neighbour]]:
    return {name: [Neighbour(name=key, score=score) for key, score in found.items()] for name, found in others.items()}


def test_both_must_be_near_and_near_enough() -> None:
    assert groups(near(a={"b": 0.9}, b={"a": 0.9}, c={"a": 0.9}), threshold=0.7) == [("a", "b")]
    assert groups(near(a={"b": 0.69}, b={"a": 0.69}), threshold=0.7) == []
    assert groups({}, threshold=0.7) == []


def test_what_hangs_together_is_one_group_and_the_largest_comes_first() -> None:
    chain = near(d={"e": 0.8}, e={"d": 0.8}, a={"b": 0.8}, b={"a": 0.8, "c": 0.8}, c={"b": 0.8}, x={})
    expected = [("a", "b", "c"), ("d", "e")]
    assert groups(chain, threshold=0.8) == expected
    assert groups(dict(reversed(chain.items())), threshold=0.8) == expected, "whatever the order"


def test_regions_are_grouped_apart_from_images_and_as_closed_as_these(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    rows = rows_of(3)
    rows[2]["licence"] = "all rights reserved"
    ingest(node, write_archive(tmp_path / "a", rows, images=jpeg))
    with node.database.reader() as conn:
        images = [row["image"] for row in conn.execute("SELECT image FROM medium ORDER BY locator")]
    similarity = Similarity(node.database, node.settings, "sha256:" + "p" * 64)
    finish(node, similarity.pipeline, {image: values(number) for number, image in enumerate(images)})
    similarity.follow()
    file = VectorFile.open(similarity.path, dimensions=1280, pipeline=similarity.pipeline)
    stamp = np.array(values(50), np.float32)
    file.add([VectorRow(image=image, vector=stamp, box=(5, 5, 20, 20)) for image in images])
    file.close()
    assert similarity.follow() == 0, "regions are no results of whole images, and stay"
    with node.database.reader() as conn:
        seen, media = similarity.neighbours(conn, STAFF, None, count=10, is_regions=True, progress=lambda _d, _t: None)
        [group] = groups(seen)
        assert len(group) == 3 and {tuple(media[name]["box"]) for name in group} == {(5, 5, 20, 20)}
        open_only, _ = similarity.neighbours(
            conn, ANONYMOUS, None, count=10, is_regions=True, progress=lambda _d, _t: None
        )
        assert len(open_only) == 2
        whole, _ = similarity.neighbours(conn, STAFF, None, count=10, is_regions=False, progress=lambda _d, _t: None)
        assert set(whole) == set(images) and groups(whole) == []
        found = similarity.ask(conn, STAFF, stamp, limit=10, is_regions=True)
        assert len(found) == 3 and found[0].box == (5, 5, 20, 20) and found[0].score > 0.99
    with node.database.transaction() as conn:
        conn.execute("DELETE FROM unit WHERE image = ?", (images[0],))
    similarity.follow()
    with node.database.reader() as conn:
        assert len(similarity.ask(conn, STAFF, stamp, limit=10, is_regions=True)) == 2, "a region goes with its image"
    similarity.close()
