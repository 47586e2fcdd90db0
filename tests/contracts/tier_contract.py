"""What every place that holds blobs by id must do; one suite, inherited by the folder, the store's tree and the bucket.

``Hooks`` bypass the API: they change what lies there as a failing disk or a careless person would.
``FaultyTier`` wraps any of them and fails, shortens or truncates; ``MemoryTier`` is the oracle.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from cas.errors import BlobNotFound, BlobRefused, TierFailed
from cas.ids import ContentId
from cas.tier import Tier, checked, id_of, key_of

SIZES = (0, 1, 255, 70_000, (1 << 20) - 1, 1 << 20, (1 << 20) + 1)


class Hooks(Protocol):
    """The place without its API."""

    def flip(self, cid: ContentId) -> None:
        """Changes one byte of what lies there."""

    def shorten(self, cid: ContentId) -> None:
        """Takes its last byte away."""

    def lose(self, cid: ContentId) -> None:
        """Takes the whole away."""

    def stray(self, key: str, data: bytes) -> None:
        """Puts something there under any key."""

    def clear(self) -> None:
        """Takes everything away."""


@dataclass(frozen=True)
class Place:
    """One backend under test."""

    tier: Tier
    hooks: Hooks
    has_strays: bool = True
    """Whether anything but blobs can lie there."""


class MemoryTier:
    """The oracle: a dictionary that does what ``Tier`` says."""

    where = "memory"

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    def put(self, cid: ContentId, chunks: Iterable[bytes], *, size: int) -> None:
        self.held[key_of(cid)] = b"".join(checked(cid, chunks, size=size))

    def stat(self, cid: ContentId) -> int | None:
        found = self.held.get(key_of(cid))
        return None if found is None else len(found)

    def read(self, cid: ContentId, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        found = self.held.get(key_of(cid))
        if found is None:
            raise BlobNotFound(cid)
        part = found[offset:] if length is None else found[offset : offset + length]
        if part:
            yield part

    def delete(self, cid: ContentId) -> bool:
        return self.held.pop(key_of(cid), None) is not None

    def list(self) -> Iterator[tuple[str, int]]:
        yield from sorted((key, len(data)) for key, data in self.held.items())


class MemoryHooks:
    """Changes the dictionary."""

    def __init__(self, tier: MemoryTier) -> None:
        self._held = tier.held

    def flip(self, cid: ContentId) -> None:
        self._held[key_of(cid)] = flipped(self._held[key_of(cid)])

    def shorten(self, cid: ContentId) -> None:
        self._held[key_of(cid)] = self._held[key_of(cid)][:-1]

    def lose(self, cid: ContentId) -> None:
        del self._held[key_of(cid)]

    def stray(self, key: str, data: bytes) -> None:
        self._held[key] = data

    def clear(self) -> None:
        self._held.clear()


class FaultyTier:
    """Any tier, with faults: an error before or after the work, an answer in tiny pieces, one that breaks off.

    ``after`` says that the work was done and the answer was lost, as a network does.
    """

    def __init__(self, inner: Tier, rng: random.Random, *, rate: float) -> None:
        self._inner = inner
        self._rng = rng
        self.rate = rate
        self.failed = 0

    @property
    def where(self) -> str:
        return self._inner.where

    def _maybe(self) -> None:
        if self._rng.random() < self.rate:
            self.failed += 1
            raise TierFailed("the network is down")

    def put(self, cid: ContentId, chunks: Iterable[bytes], *, size: int) -> None:
        self._maybe()
        self._inner.put(cid, self._breaking(chunks), size=size)
        self._maybe()

    def _breaking(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._maybe()
            yield chunk

    def stat(self, cid: ContentId) -> int | None:
        self._maybe()
        return self._inner.stat(cid)

    def read(self, cid: ContentId, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        for chunk in self._inner.read(cid, offset=offset, length=length):
            half = len(chunk) // 2
            self._maybe()
            yield from (part for part in (chunk[:half], chunk[half:]) if part)  # short reads
            if self._rng.random() < self.rate:
                self.failed += 1
                return  # truncated, without an error: whoever does not hash believes it

    def delete(self, cid: ContentId) -> bool:
        self._maybe()
        was_there = self._inner.delete(cid)
        self._maybe()
        return was_there

    def list(self) -> Iterator[tuple[str, int]]:
        self._maybe()
        yield from self._inner.list()


def flipped(data: bytes) -> bytes:
    """The same bytes with one bit changed in the middle."""
    out = bytearray(data)
    out[len(out) // 2] ^= 1
    return bytes(out)


def data_of(number: int, size: int) -> bytes:
    """Bytes that differ by number."""
    return random.Random(number).randbytes(size)


def in_pieces(data: bytes, size: int = 1 << 16) -> Iterator[bytes]:
    """As a stream comes."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


def stored(tier: Tier, data: bytes) -> ContentId:
    """Puts these bytes; their id."""
    cid = ContentId.of(data)
    tier.put(cid, in_pieces(data), size=len(data))
    return cid


def whole(tier: Tier, cid: ContentId, size: int) -> bytes:
    """What lies there, if it is what the id says."""
    return b"".join(checked(cid, tier.read(cid), size=size))


class TierContract:
    """Subclasses provide ``place``, a fixture of a place with nothing in it."""

    examples = 25
    steps = 20

    @pytest.mark.parametrize("size", SIZES)
    def test_what_was_put_is_there_whole_under_its_id(self, place: Place, size: int) -> None:
        data = data_of(1, size)
        cid = stored(place.tier, data)
        assert place.tier.stat(cid) == size
        assert whole(place.tier, cid, size) == data
        assert list(place.tier.list()) == [(key_of(cid), size)]

    def test_parts_are_what_they_are_of_the_whole(self, place: Place) -> None:
        data = data_of(2, 300_000)
        cid = stored(place.tier, data)
        for offset, length in ((0, 1), (1, 299_999), (299_999, 1), (299_990, 100), (300_000, 5), (400_000, 5), (7, 0)):
            assert b"".join(place.tier.read(cid, offset=offset, length=length)) == data[offset : offset + length]
        assert b"".join(place.tier.read(cid, offset=200_000)) == data[200_000:]

    def test_the_same_again_changes_nothing_and_heals_what_was_damaged(self, place: Place) -> None:
        data = data_of(3, 5_000)
        cid = stored(place.tier, data)
        stored(place.tier, data)
        assert whole(place.tier, cid, 5_000) == data
        for damage in (place.hooks.flip, place.hooks.shorten, place.hooks.lose):
            damage(cid)
            stored(place.tier, data)
            assert whole(place.tier, cid, 5_000) == data, damage

    @pytest.mark.parametrize("size", [0, 5_000, 9 << 20])
    def test_other_bytes_too_many_or_too_few_are_refused_and_nothing_is_left(self, place: Place, size: int) -> None:
        good = data_of(4, size or 100)
        cid = ContentId.of(good)
        for bad in (flipped(good), good[:-1], good + b"x", b""):
            with pytest.raises(BlobRefused):
                place.tier.put(cid, in_pieces(bad), size=len(good))
        assert place.tier.stat(cid) is None
        assert list(place.tier.list()) == []

    def test_a_source_that_breaks_off_leaves_nothing(self, place: Place) -> None:
        data = data_of(5, 9 << 20)

        def breaking() -> Iterator[bytes]:
            yield data[: 8 << 20]
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            place.tier.put(ContentId.of(data), breaking(), size=len(data))
        assert list(place.tier.list()) == []

    def test_what_is_not_there_is_not_there_and_no_error_of_the_place(self, place: Place) -> None:
        cid = ContentId.of(b"nothing of this kind")
        assert place.tier.stat(cid) is None
        assert place.tier.delete(cid) is False
        with pytest.raises(BlobNotFound):
            list(place.tier.read(cid))

    def test_delete_says_whether_something_was_there(self, place: Place) -> None:
        cid, other = stored(place.tier, b"one"), stored(place.tier, b"two")
        assert place.tier.delete(cid) is True
        assert place.tier.delete(cid) is False
        assert place.tier.stat(cid) is None
        assert list(place.tier.list()) == [(key_of(other), 3)]

    def test_damage_is_what_hashing_finds_whatever_the_place_says(self, place: Place) -> None:
        data = data_of(6, 200_000)
        cid = stored(place.tier, data)
        for damage in (place.hooks.flip, place.hooks.shorten):
            damage(cid)
            with pytest.raises(BlobRefused):
                whole(place.tier, cid, len(data))
            stored(place.tier, data)
        place.hooks.lose(cid)
        with pytest.raises(BlobNotFound):
            whole(place.tier, cid, len(data))
        assert place.tier.stat(cid) is None

    def test_the_list_is_in_the_order_of_keys_and_names_strangers(self, place: Place) -> None:
        keys = [key_of(stored(place.tier, data_of(number, 20))) for number in range(30)]
        if place.has_strays:
            place.hooks.stray("zz/readme.txt", b"hello")
            keys.append("zz/readme.txt")
        found = [key for key, _ in place.tier.list()]
        assert found == sorted(keys)
        assert sum(id_of(key) is None for key in found) == place.has_strays

    def test_it_says_where_it_is(self, place: Place) -> None:
        assert place.tier.where

    def test_it_does_what_the_model_does(self, place: Place) -> None:
        """Every sequence of calls and of damage behind its back gives what the oracle gives."""
        run_model(place, examples=self.examples, steps=self.steps)

    def test_under_faults_nothing_is_ever_taken_for_something_else(self, place: Place) -> None:
        """Errors, short reads and answers that break off: what was acknowledged is there, what is read is right."""
        rng = random.Random(17)
        faulty = FaultyTier(place.tier, rng, rate=0.15)
        held: dict[ContentId, bytes] = {}
        unsure: set[ContentId] = set()
        for number in range(60):
            data = data_of(number % 12, 3_000)
            cid = ContentId.of(data)
            if rng.random() < 0.7:
                try:
                    stored(faulty, data)
                except TierFailed:
                    unsure.add(cid)
                else:
                    held[cid] = data
            else:
                try:
                    faulty.delete(cid)
                except TierFailed:
                    unsure.add(cid)
                else:
                    unsure.discard(cid)
                held.pop(cid, None)
            for known, wanted in held.items():
                with suppress(TierFailed, BlobRefused):
                    assert whole(faulty, known, len(wanted)) == wanted
        assert faulty.failed > 20
        faulty.rate = 0
        for known, wanted in held.items():
            assert whole(faulty, known, len(wanted)) == wanted
        allowed = {key_of(item) for item in (*held, *unsure)}
        assert {key for key, _ in place.tier.list()} <= allowed


def run_model(place: Place, *, examples: int, steps: int) -> None:
    """The state machine over one place, which is emptied before each run."""

    class Machine(RuleBasedStateMachine):
        blobs = Bundle("blobs")

        @initialize()
        def begin(self) -> None:
            place.hooks.clear()
            self.model = MemoryTier()
            self.model_hooks = MemoryHooks(self.model)

        @rule(target=blobs, number=st.integers(0, 5), size=st.sampled_from((0, 1, 4_000, 70_000)))
        def make(self, number: int, size: int) -> bytes:
            return data_of(number, size)

        @rule(data=blobs)
        def put(self, data: bytes) -> None:
            for tier in (place.tier, self.model):
                stored(tier, data)

        @rule(data=blobs)
        def put_wrong(self, data: bytes) -> None:
            cid = ContentId.of(data + b"other")
            for tier in (place.tier, self.model):
                with pytest.raises(BlobRefused):
                    tier.put(cid, in_pieces(data), size=len(data))

        @rule(data=blobs)
        def delete(self, data: bytes) -> None:
            cid = ContentId.of(data)
            assert place.tier.delete(cid) == self.model.delete(cid)

        @rule(data=blobs, offset=st.integers(0, 80_000), length=st.none() | st.integers(0, 80_000))
        def read(self, data: bytes, offset: int, length: int | None) -> None:
            cid = ContentId.of(data)
            assert outcome(lambda: b"".join(place.tier.read(cid, offset=offset, length=length))) == outcome(
                lambda: b"".join(self.model.read(cid, offset=offset, length=length))
            )

        @rule(data=blobs)
        def verify(self, data: bytes) -> None:
            cid = ContentId.of(data)
            assert outcome(lambda: whole(place.tier, cid, len(data))) == outcome(
                lambda: whole(self.model, cid, len(data))
            )

        @rule(data=blobs, how=st.sampled_from(("flip", "shorten", "lose")))
        def damage(self, data: bytes, how: str) -> None:
            cid = ContentId.of(data)
            if self.model.stat(cid):
                for hooks in (place.hooks, self.model_hooks):
                    getattr(hooks, how)(cid)

        @invariant()
        def same_list(self) -> None:
            assert list(place.tier.list()) == list(self.model.list())
            for key, size in self.model.list():
                cid = id_of(key)
                assert cid is not None
                assert place.tier.stat(cid) == size

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=True, database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip


def outcome(work: Callable[[], bytes]) -> bytes | str:
    """What comes of it: bytes, or the kind of refusal."""
    try:
        return work()
    except (BlobNotFound, BlobRefused) as error:
        return type(error).__name__
