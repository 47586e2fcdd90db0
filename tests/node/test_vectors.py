"""The file of vectors: what is added is there, whatever happens; what is wiped is gone; what is found is nearest."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from node.storage.vectors import (
    CHUNK_ROWS,
    HEAD_BYTES,
    VectorFile,
    VectorRow,
    VectorsDamaged,
    VectorsReplaced,
    rebuild,
)

DIMENSIONS = 100  # no multiple of 64: the signs are padded


def image(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def made(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, DIMENSIONS)).astype(np.float32)


def opened(path: Path) -> VectorFile:
    return VectorFile.open(path, dimensions=DIMENSIONS, pipeline="sha256:x")


def filled(path: Path, count: int) -> tuple[VectorFile, np.ndarray]:
    file, vectors = opened(path), made(count)
    assert file.add([VectorRow(image=image(n), vector=vectors[n]) for n in range(count)]) == count
    return file, vectors


def test_the_nearest_are_found_in_order(tmp_path: Path) -> None:
    file, vectors = filled(tmp_path / "a.vec", 300)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    question = made(1, seed=2)[0]
    expected = np.argsort(-(unit @ (question / np.linalg.norm(question))))[:7]
    found = file.search(question, 7)
    assert [item.row for item in found] == expected.tolist()
    assert [item.image for item in found] == [image(n) for n in expected]
    assert found[0].score == pytest.approx(float(unit[expected[0]] @ question / np.linalg.norm(question)), abs=1e-3)
    file.close()


def test_few_candidates_find_the_vector_itself(tmp_path: Path) -> None:
    file, vectors = filled(tmp_path / "a.vec", 3000)
    for number in (0, 1500, 2999):
        [found] = file.search(vectors[number], 1, candidates=20)
        assert (found.row, found.image) == (number, image(number))
        assert found.score == pytest.approx(1.0, abs=1e-3)


def test_only_rows_that_may_be_found_are(tmp_path: Path) -> None:
    file, vectors = filled(tmp_path / "a.vec", 200)
    allowed = [image(n) for n in range(0, 200, 7)]
    mask = file.mask_of(allowed)
    assert np.flatnonzero(mask).tolist() == list(range(0, 200, 7))
    found = file.search(vectors[3], 50, among=mask)
    assert {item.image for item in found} == set(allowed)
    assert file.search(vectors[3], 5, among=np.zeros(200, bool)) == []


def test_adding_again_changes_nothing_and_regions_are_rows_of_their_own(tmp_path: Path) -> None:
    file, vectors = filled(tmp_path / "a.vec", 5)
    assert file.add([VectorRow(image=image(2), vector=vectors[0])]) == 0
    assert file.add([VectorRow(image=image(2), vector=vectors[0], box=(1, 2, 30, 40))] * 2) == 1
    assert file.rows_of(image(2)) == [2, 5]
    assert {item.box for item in file.search(vectors[0], 2)} == {(0, 0, 0, 0), (1, 2, 30, 40)}
    assert file.wipe(image(2)) == 2
    assert file.rows_of(image(2)) == [] and file.live == 4


@pytest.mark.parametrize("bad", [np.zeros(DIMENSIONS), np.full(DIMENSIONS, np.nan), np.ones(3)])
def test_what_is_no_direction_is_refused_and_nothing_is_added(tmp_path: Path, bad: np.ndarray) -> None:
    file = opened(tmp_path / "a.vec")
    with pytest.raises(ValueError, match="vector"):
        file.add(
            [VectorRow(image=image(1), vector=made(1)[0]), VectorRow(image=image(2), vector=bad.astype(np.float32))]
        )
    assert file.rows == 0 and os.stat(file.path).st_size == HEAD_BYTES


def test_a_wiped_vector_is_gone_from_the_file_and_for_open_readers(tmp_path: Path) -> None:
    file, vectors = filled(tmp_path / "a.vec", 50)
    reader = VectorFile.open_to_read(file.path, dimensions=DIMENSIONS, pipeline="sha256:x")
    assert reader is not None and reader.search(vectors[9], 1)[0].image == image(9)
    stored = (vectors[9] / np.linalg.norm(vectors[9])).astype("<f2").tobytes()
    assert stored in file.path.read_bytes() and bytes.fromhex(image(9)) in file.path.read_bytes()
    assert file.wipe(image(9)) == 1
    data = file.path.read_bytes()
    assert stored not in data and bytes.fromhex(image(9)) not in data
    for one in (file, reader, opened(file.path)):
        assert image(9) not in {item.image for item in one.search(vectors[9], 50)}
        assert one.vector(9) is None
    assert opened(file.path).damaged == 0
    assert file.wipe(image(9)) == 0
    assert file.add([VectorRow(image=image(9), vector=vectors[9])]) == 1, "an image that comes back is taken again"


def test_a_torn_end_is_cut_at_every_length(tmp_path: Path) -> None:
    file, vectors = filled(tmp_path / "a.vec", 3)
    whole = file.path.read_bytes()
    file.close()
    record = (len(whole) - HEAD_BYTES) // 3
    for length in [*range(len(whole) - record + 1, len(whole), 17), len(whole) - 1]:
        file.path.write_bytes(whole[:length])
        again = opened(file.path)
        assert (again.rows, again.live, again.damaged) == (2, 2, 0)
        assert os.stat(file.path).st_size == HEAD_BYTES + 2 * record
        assert again.add([VectorRow(image=image(2), vector=vectors[2])]) == 1
        again.close()
        assert file.path.read_bytes() == whole


def test_a_reader_beside_a_half_written_row_sees_those_before_and_later_all(tmp_path: Path) -> None:
    file, vectors = filled(tmp_path / "a.vec", 4)
    whole = file.path.read_bytes()
    file.path.write_bytes(whole[:-30])  # not a new file: the inode stays
    reader = VectorFile.open_to_read(file.path, dimensions=DIMENSIONS, pipeline="sha256:x")
    assert reader is not None and reader.rows == 3
    file.path.write_bytes(whole)
    assert reader.refresh() == 4 and reader.damaged == 0
    assert reader.search(vectors[3], 1)[0].image == image(3)


def test_a_damaged_record_in_the_middle_is_dead_and_counted(tmp_path: Path) -> None:
    file, vectors = filled(tmp_path / "a.vec", 5)
    record = (os.stat(file.path).st_size - HEAD_BYTES) // 5
    data = bytearray(file.path.read_bytes())
    data[HEAD_BYTES + 2 * record + 90] ^= 1
    file.path.write_bytes(data)
    again = opened(file.path)
    assert (again.rows, again.live, again.damaged) == (5, 4, 1)
    assert image(2) not in {item.image for item in again.search(vectors[2], 5)}
    assert again.add([VectorRow(image=image(2), vector=vectors[2])]) == 1
    assert again.search(vectors[2], 1)[0].row == 5


def test_records_that_changed_places_are_not_taken(tmp_path: Path) -> None:
    file, _ = filled(tmp_path / "a.vec", 4)
    data = file.path.read_bytes()
    record = (len(data) - HEAD_BYTES) // 4
    one, two = (slice(HEAD_BYTES + n * record, HEAD_BYTES + (n + 1) * record) for n in (0, 1))
    file.path.write_bytes(data[:HEAD_BYTES] + data[two] + data[one] + data[two.stop :])
    assert opened(file.path).damaged == 2


def test_a_file_of_another_kind_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "a.vec"
    filled(path, 1)[0].close()
    with pytest.raises(VectorsDamaged, match="100 dimensions of sha256:x"):
        VectorFile.open(path, dimensions=99, pipeline="sha256:x")
    with pytest.raises(VectorsDamaged, match="of this pipeline"):
        VectorFile.open(path, dimensions=DIMENSIONS, pipeline="sha256:y")
    path.write_bytes(b"\0" * 9000)
    with pytest.raises(VectorsDamaged, match="reindex"):
        opened(path)
    assert VectorFile.open_to_read(tmp_path / "none.vec", dimensions=3, pipeline="p") is None


def test_a_rebuilt_file_takes_the_place_and_the_old_one_is_not_written_to(tmp_path: Path) -> None:
    file, vectors = filled(tmp_path / "a.vec", 6)
    rows = (VectorRow(image=image(n), vector=vectors[n]) for n in (1, 4))
    assert rebuild(file.path, rows, dimensions=DIMENSIONS, pipeline="sha256:x") == 2
    assert file.is_replaced()
    with pytest.raises(VectorsReplaced):
        file.add([VectorRow(image=image(9), vector=vectors[0])])
    with pytest.raises(VectorsReplaced):
        file.wipe(image(1))
    assert {key for key, _ in opened(file.path).live_keys()} == {image(1), image(4)}


def test_a_full_disk_adds_nothing_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, vectors = filled(tmp_path / "a.vec", 3)
    size = os.stat(file.path).st_size
    real = os.pwrite

    def half(descriptor: int, data: bytes, offset: int) -> int:
        if offset > size:
            raise OSError(28, "No space left on device")
        return real(descriptor, data[:70], offset)

    monkeypatch.setattr(os, "pwrite", half)
    with pytest.raises(OSError, match="No space"):
        file.add([VectorRow(image=image(7), vector=vectors[0])])
    monkeypatch.undo()
    assert os.stat(file.path).st_size == size
    assert file.add([VectorRow(image=image(7), vector=vectors[0])]) == 1
    assert opened(file.path).live == 4


def test_blocks_of_signs_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert CHUNK_ROWS % 16_384 == 0
    monkeypatch.setattr("node.storage.vectors.CHUNK_ROWS", 32)
    monkeypatch.setattr("node.storage.vectors.BLOCK_ROWS", 16)
    file, vectors = filled(tmp_path / "a.vec", 100)
    for number in (0, 15, 16, 31, 32, 63, 64, 99):
        assert file.search(vectors[number], 1)[0].row == number
        assert file.rows_of(image(number)) == [number]
    assert file.mask_of([image(99)]).nonzero()[0].tolist() == [99]
