"""The contract of tiers, run against the model itself, the folder and the store's own tree."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from contracts.tier_contract import FaultyTier, MemoryHooks, MemoryTier, Place, TierContract, data_of, stored, whole
from contracts.tier_places import FileHooks, StoreAsTier, folder_tier

from cas.errors import BlobNotFound, BlobRefused, TierFailed
from cas.ids import ContentId
from cas.tier import Tier, UnusableTier
from cas.tier_folder import FolderTier
from cas.tier_s3 import part_bytes


class TestMemory(TierContract):
    examples = 5

    @pytest.fixture
    def place(self) -> Place:
        tier = MemoryTier()
        return Place(tier, MemoryHooks(tier))


class TestFolder(TierContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        return Place(folder_tier(tmp_path / "t"), FileHooks(tmp_path / "t" / "blobs"))


class TestOwnTree(TierContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[Place]:
        tier = StoreAsTier(tmp_path / "s")
        yield Place(tier, FileHooks(tmp_path / "s" / "owned"))
        tier.store.close()


def test_twin_a_place_that_believes_what_it_is_given_breaks_the_contract() -> None:
    class Trusting(MemoryTier):
        def put(self, cid: ContentId, chunks: object, *, size: int) -> None:
            self.held["x"] = b"".join(chunks)  # type: ignore[call-overload]

    with pytest.raises((AssertionError, pytest.fail.Exception)):
        TestMemory().test_other_bytes_too_many_or_too_few_are_refused_and_nothing_is_left(
            Place(Trusting(), MemoryHooks(MemoryTier())), 5_000
        )
    with pytest.raises((AssertionError, KeyError, pytest.fail.Exception)):
        tier = Trusting()
        TestMemory().test_it_does_what_the_model_does(Place(tier, MemoryHooks(tier)))


def test_a_truncated_answer_is_never_taken_for_the_whole(tmp_path: Path) -> None:
    tier = folder_tier(tmp_path / "t")
    data = data_of(1, 50_000)
    cid = stored(tier, data)
    faulty = FaultyTier(tier, random.Random(3), rate=0.5)
    seen = set()
    for _ in range(60):
        try:
            assert whole(faulty, cid, len(data)) == data
            seen.add("good")
        except (TierFailed, BlobRefused) as error:
            seen.add(type(error).__name__)
    assert seen == {"good", "TierFailed"} or seen == {"good", "TierFailed", "BlobRefused"}


def test_an_empty_mount_point_is_a_problem_and_never_an_empty_tier(tmp_path: Path) -> None:
    tier = folder_tier(tmp_path / "t")
    cid = stored(tier, b"hello")
    (tmp_path / "t").rename(tmp_path / "elsewhere")
    (tmp_path / "t").mkdir()
    again = FolderTier(tmp_path / "t")
    for call in (
        lambda: again.stat(cid),
        lambda: list(again.read(cid)),
        lambda: again.delete(cid),
        lambda: list(again.list()),
        lambda: again.put(cid, [b"hello"], size=5),
    ):
        with pytest.raises(TierFailed, match="mounted"):
            call()
    assert list((tmp_path / "t").iterdir()) == [], "nothing was written below the mount point"


def test_only_an_empty_folder_becomes_a_tier(tmp_path: Path) -> None:
    with pytest.raises(TierFailed, match="make the folder first"):
        FolderTier(tmp_path / "missing").mark()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").write_bytes(b"x")
    with pytest.raises(TierFailed, match="not empty"):
        FolderTier(tmp_path / "photos").mark()
    tier = folder_tier(tmp_path / "t")
    tier.mark()
    assert stored(tier, b"x")


def test_a_disk_that_does_not_keep_what_it_is_given_is_found_out_at_once(tmp_path: Path) -> None:
    """The read-back: the bytes change between the write and the reading."""

    class Rotting(FolderTier):
        def _hash(self, cid: ContentId) -> ContentId:
            FileHooks(self.root / "blobs").flip(cid)
            return super()._hash(cid)

    (tmp_path / "t").mkdir()
    tier = Rotting(tmp_path / "t")
    tier.mark()
    with pytest.raises(TierFailed, match="read back"):
        stored(tier, b"some bytes")


def test_leftovers_of_killed_copies_are_swept(tmp_path: Path) -> None:
    tier = folder_tier(tmp_path / "t")
    (tmp_path / "t" / "staging" / "half").write_bytes(b"x")
    assert tier.sweep_staging() == 1
    assert tier.sweep_staging() == 0


def test_a_tier_without_credentials_says_so_whatever_is_asked() -> None:
    tier: Tier = UnusableTier("s3://b", "no credentials")
    cid = ContentId.of(b"")
    for call in (
        lambda: tier.stat(cid),
        lambda: list(tier.read(cid)),
        lambda: tier.delete(cid),
        lambda: list(tier.list()),
        lambda: tier.put(cid, [], size=0),
    ):
        with pytest.raises(TierFailed, match="no credentials"):
            call()


def test_parts_of_an_upload_stay_within_what_s3_allows() -> None:
    for size in (9 << 20, 80_000 << 20, 4 << 40):
        assert -(-size // part_bytes(size)) <= 10_000
    assert part_bytes(9 << 20) == 8 << 20


def test_not_found_is_no_failure_of_the_place() -> None:
    assert not issubclass(TierFailed, BlobNotFound)
