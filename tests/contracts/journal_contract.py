"""What every journal must do; one class, inherited by the memory and the SQLite journal."""

from datetime import timedelta

import pytest
from conftest import NOW

from linkeddata.pipeline import WorkUnit
from runners.journal import MAX_FAILURES, Journal, UnitStatus

LATER = NOW + timedelta(hours=1)


def unit(number: int, *, environment: str = "e", pipeline: str = "p") -> WorkUnit:
    return WorkUnit(output="quality/1", pipeline=pipeline, environment=environment, image=f"{number:064x}")


def composed(number: int, *upstream: WorkUnit, output: str = "label-text/1") -> WorkUnit:
    """A unit over an image that takes the results of others."""
    return WorkUnit(
        output=output, pipeline="p", environment="e", image=f"{number:064x}",
        upstream=tuple(item.key for item in upstream),
    )  # fmt: skip


class JournalContract:
    """Subclasses provide ``journal`` (a fixture) and ``status``."""

    async def status(self, journal: Journal, key: str) -> UnitStatus:
        raise AssertionError

    async def lease(self, journal: Journal, limit: int = 10, *, boot: str = "b", now=NOW, lease_s: float = 60):  # type: ignore[no-untyped-def]
        return await journal.lease("p", "e", limit=limit, now=now, lease_s=lease_s, boot=boot)

    async def test_a_unit_is_queued_once_and_leased_once(self, journal: Journal) -> None:
        assert await journal.enqueue([(0, unit(1)), (1, unit(2))], now=NOW) == 2
        assert await journal.enqueue([(0, unit(1))], now=NOW) == 0
        assert len(await self.lease(journal)) == 2
        assert await self.lease(journal) == []
        assert await journal.enqueue([(0, unit(1))], now=NOW) == 0

    async def test_only_the_pipeline_and_environment_asked_for_are_given_out(self, journal: Journal) -> None:
        await journal.enqueue([(0, unit(1)), (0, unit(2, environment="other")), (0, unit(3, pipeline="q"))], now=NOW)
        assert [item.unit.key for item in await self.lease(journal)] == [unit(1).key]

    async def test_a_result_is_final_and_reused(self, journal: Journal) -> None:
        await journal.enqueue([(0, unit(1))], now=NOW)
        [item] = await self.lease(journal)
        assert await journal.complete(item.unit.key, item.attempt, b"{}", 0.1, now=NOW)
        assert not await journal.complete(item.unit.key, item.attempt, b"other", 0.1, now=NOW)
        assert await journal.enqueue([(0, unit(1))], now=LATER) == 0
        found = await self.status(journal, unit(1).key)
        assert (found.state, found.body) == ("done", b"{}")

    async def test_an_older_attempt_is_refused(self, journal: Journal) -> None:
        await journal.enqueue([(0, unit(1))], now=NOW)
        [first] = await self.lease(journal, lease_s=1)
        assert await journal.reclaim("b", now=LATER) == 1
        [second] = await self.lease(journal, now=LATER)
        assert second.attempt > first.attempt
        assert not await journal.complete(first.unit.key, first.attempt, b"old", 0.1, now=LATER)
        assert not await journal.fail(first.unit.key, first.attempt, "permanent", "old", now=LATER)
        assert not await journal.release(first.unit.key, first.attempt, now=LATER)
        assert await journal.complete(second.unit.key, second.attempt, b"new", 0.1, now=LATER)

    async def test_what_another_boot_held_comes_back_at_once(self, journal: Journal) -> None:
        await journal.enqueue([(0, unit(1)), (1, unit(2))], now=NOW)
        await self.lease(journal, 1, boot="dead")
        assert await journal.reclaim("alive", now=NOW) == 1
        assert len(await self.lease(journal, boot="alive")) == 2
        assert await journal.reclaim("alive", now=NOW) == 0

    async def test_transient_failures_are_tried_again_later_and_not_for_ever(self, journal: Journal) -> None:
        await journal.enqueue([(0, unit(1))], now=NOW)
        now = NOW
        for number in range(MAX_FAILURES):
            [item] = await self.lease(journal, now=now)
            assert await journal.fail(item.unit.key, item.attempt, "transient", "worker ended", now=now)
            if number < MAX_FAILURES - 1:
                assert await self.lease(journal, now=now) == []
            now += timedelta(minutes=5)
        found = await self.status(journal, unit(1).key)
        assert (found.state, found.failure_kind) == ("failed", "transient")
        assert "3 times" in found.reason
        assert await self.lease(journal, now=now) == []

    async def test_a_unit_that_waits_for_its_image_counts_no_failure_however_often(self, journal: Journal) -> None:
        await journal.enqueue([(0, unit(1))], now=NOW)
        now = NOW
        for _ in range(3 * MAX_FAILURES):
            [item] = await self.lease(journal, now=now)
            assert await journal.fail(item.unit.key, item.attempt, "waiting", "on its way", now=now)
            assert await self.lease(journal, now=now) == [], "not asked for again at once"
            now += timedelta(minutes=1)
        found = await self.status(journal, unit(1).key)
        assert (found.state, found.failures, found.reason) == ("queued", 0, "on its way")
        [item] = await self.lease(journal, now=now)
        assert await journal.complete(item.unit.key, item.attempt, b"{}", 0.1, now=now)
        assert (await self.status(journal, unit(1).key)).state == "done"

    async def test_a_transient_failure_is_no_result_but_a_refusal_is(self, journal: Journal) -> None:
        await journal.enqueue([(0, unit(1)), (1, unit(2)), (2, unit(3))], now=NOW)
        first, second, third = await self.lease(journal)
        await journal.fail(first.unit.key, first.attempt, "permanent", "truncated", now=NOW)
        await journal.fail(second.unit.key, second.attempt, "withheld", "private now", now=NOW)
        now = NOW
        for _ in range(MAX_FAILURES):
            await journal.fail(third.unit.key, third.attempt, "transient", "hung", now=now)
            now += timedelta(minutes=5)
            got = await self.lease(journal, now=now)
            third = got[0] if got else third
        assert await journal.enqueue([(0, unit(1)), (1, unit(2)), (2, unit(3))], now=now) == 2
        assert {item.unit.key for item in await self.lease(journal, now=now)} == {unit(2).key, unit(3).key}

    async def test_what_a_limit_of_the_node_refused_is_asked_again_by_the_next_job_and_not_before(
        self, journal: Journal
    ) -> None:
        """The limit is the institution's to change, and is no part of the work key."""
        await journal.enqueue([(0, unit(1))], now=NOW)
        [item] = await self.lease(journal)
        assert await journal.fail(item.unit.key, item.attempt, "limit", "450 megapixels", now=NOW)
        found = await self.status(journal, unit(1).key)
        assert (found.state, found.failures, found.reason) == ("failed", 0, "450 megapixels")
        assert await self.lease(journal, now=LATER) == []
        assert await journal.enqueue([(0, unit(1))], now=LATER) == 1
        [again] = await self.lease(journal, now=LATER)
        assert again.attempt > item.attempt

    async def test_a_released_unit_was_not_begun_and_counts_no_failure(self, journal: Journal) -> None:
        await journal.enqueue([(0, unit(1))], now=NOW)
        for _ in range(2 * MAX_FAILURES):
            [item] = await self.lease(journal)
            assert await journal.release(item.unit.key, item.attempt, now=NOW)
        assert (await self.status(journal, unit(1).key)).failures == 0

    async def test_a_small_job_is_not_kept_waiting_by_a_large_one(self, journal: Journal) -> None:
        await journal.enqueue([(turn, unit(turn)) for turn in range(50)], now=NOW)
        await self.lease(journal, 5)
        await journal.enqueue([(turn, unit(1000 + turn)) for turn in range(2)], now=NOW)
        keys = [item.unit.key for item in await self.lease(journal, 4)]
        assert set(keys[:2]) == {unit(1000).key, unit(1001).key}

    async def test_an_earlier_turn_moves_a_queued_unit_forward_and_a_later_one_changes_nothing(
        self, journal: Journal
    ) -> None:
        await journal.enqueue([(1_000_000, unit(1)), (5, unit(2))], now=NOW)
        assert await journal.enqueue([(2_000_000, unit(2)), (1, unit(1))], now=NOW) == 0
        [item] = await self.lease(journal, 1)
        assert item.unit.key == unit(1).key

    # ------------------------------------------------------------------ units that take the results of others
    async def test_a_composed_unit_waits_until_all_that_it_takes_have_ended(self, journal: Journal) -> None:
        one, two = unit(1), unit(1, pipeline="q")
        both = composed(1, one, two)
        assert await journal.enqueue([(1, one), (1, two), (0, both)], now=NOW) == 3
        [first] = await self.lease(journal)
        assert first.unit.key == one.key
        assert first.upstream == {}
        assert await journal.complete(one.key, first.attempt, b"{}", 0.1, now=NOW)
        assert await self.lease(journal) == [], "the other one has not ended"
        [second] = await journal.lease("q", "e", limit=9, now=NOW, lease_s=60, boot="b")
        assert await journal.complete(two.key, second.attempt, b"{}", 0.1, now=NOW)
        [third] = await self.lease(journal)
        assert (third.unit, third.unit.upstream) == (both, (one.key, two.key))

    async def test_it_gets_what_came_of_each_by_contract(self, journal: Journal) -> None:
        good, bad = unit(1), WorkUnit(output="barcode/1", pipeline="q", environment="e", image=f"{1:064x}")
        both = composed(1, good, bad)
        await journal.enqueue([(0, good), (1, bad), (2, both)], now=NOW)
        [first] = await self.lease(journal)
        [second] = await journal.lease("q", "e", limit=9, now=NOW, lease_s=60, boot="b")
        await journal.complete(first.unit.key, first.attempt, b'{"a":1}', 0.1, now=NOW)
        await journal.fail(second.unit.key, second.attempt, "permanent", "truncated", now=NOW)
        [item] = await self.lease(journal)
        assert {name: (status.state, status.body) for name, status in item.upstream.items()} == {
            "quality/1": ("done", b'{"a":1}'), "barcode/1": ("failed", None),
        }  # fmt: skip
        assert (item.upstream["barcode/1"].failure_kind, item.upstream["barcode/1"].reason) == (
            "permanent",
            "truncated",
        )

    async def test_what_is_tried_again_has_not_ended(self, journal: Journal) -> None:
        await journal.enqueue([(0, unit(1)), (1, composed(1, unit(1)))], now=NOW)
        [item] = await self.lease(journal)
        await journal.fail(item.unit.key, item.attempt, "transient", "hung", now=NOW)
        assert await self.lease(journal) == []
        [item] = await self.lease(journal, now=LATER)
        assert item.unit.key == unit(1).key
        await journal.release(item.unit.key, item.attempt, now=LATER)
        assert [found.unit.key for found in await self.lease(journal, now=LATER)] == [unit(1).key]
        assert await journal.reclaim("another", now=LATER) == 1
        assert [found.unit.key for found in await self.lease(journal, now=LATER)] == [unit(1).key]

    async def test_what_is_there_already_is_not_waited_for(self, journal: Journal) -> None:
        await journal.enqueue([(0, unit(1))], now=NOW)
        [item] = await self.lease(journal)
        await journal.complete(item.unit.key, item.attempt, b"{}", 0.1, now=NOW)
        assert await journal.enqueue([(0, unit(1)), (0, composed(1, unit(1)))], now=NOW) == 1
        [found] = await self.lease(journal)
        assert found.upstream["quality/1"].body == b"{}"

    async def test_a_result_that_did_not_come_to_be_is_asked_for_again_with_the_unit_that_takes_it(
        self, journal: Journal
    ) -> None:
        both = [(0, unit(1)), (1, composed(1, unit(1)))]
        await journal.enqueue(both, now=NOW)
        [item] = await self.lease(journal)
        await journal.fail(item.unit.key, item.attempt, "limit", "450 megapixels", now=NOW)
        [item] = await self.lease(journal)
        await journal.fail(item.unit.key, item.attempt, "upstream", "quality/1: 450 megapixels", now=NOW)
        found = await self.status(journal, item.unit.key)
        assert (found.state, found.failures) == ("failed", 0)
        assert await self.lease(journal, now=LATER) == [], "not by itself"
        assert await journal.enqueue(both, now=LATER) == 2
        assert [item.unit.key for item in await self.lease(journal, now=LATER)] == [unit(1).key]

    async def test_a_unit_whose_input_is_computed_again_meanwhile_waits_for_it(self, journal: Journal) -> None:
        await journal.enqueue([(0, unit(1)), (1, composed(1, unit(1)))], now=NOW)
        [item] = await self.lease(journal)
        await journal.fail(item.unit.key, item.attempt, "limit", "450 megapixels", now=NOW)
        [late] = await self.lease(journal)
        assert await journal.enqueue([(0, unit(1))], now=NOW) == 1
        assert await journal.fail(late.unit.key, late.attempt, "upstream", "quality/1: 450 megapixels", now=NOW)
        assert (await self.status(journal, late.unit.key)).state == "queued"
        [again] = await self.lease(journal, now=LATER)
        assert again.unit.key == unit(1).key
        await journal.complete(again.unit.key, again.attempt, b"{}", 0.1, now=LATER)
        assert [found.unit.key for found in await self.lease(journal, now=LATER)] == [late.unit.key]

    async def test_a_deterministic_refusal_of_a_composed_unit_is_a_result_too(self, journal: Journal) -> None:
        await journal.enqueue([(0, unit(1)), (1, composed(1, unit(1)))], now=NOW)
        for reason in ("truncated", "quality/1: truncated"):
            [item] = await self.lease(journal)
            await journal.fail(item.unit.key, item.attempt, "permanent", reason, now=NOW)
        assert await journal.enqueue([(0, unit(1)), (1, composed(1, unit(1)))], now=LATER) == 0

    async def test_nothing_is_queued_that_takes_what_nobody_queued(self, journal: Journal) -> None:
        with pytest.raises(ValueError, match="is not in the journal"):
            await journal.enqueue([(0, composed(1, unit(1)))], now=NOW)

    async def test_a_chain_of_three_is_given_out_link_by_link(self, journal: Journal) -> None:
        middle = composed(1, unit(1))
        last = composed(1, middle, unit(1), output="barcode/1")
        await journal.enqueue([(0, unit(1)), (0, middle), (0, last)], now=NOW)
        for expected in (unit(1), middle, last):
            [item] = await self.lease(journal)
            assert item.unit == expected
            await journal.complete(item.unit.key, item.attempt, b"{}", 0.1, now=NOW)


def test_the_key_of_a_composed_unit_covers_what_it_takes_and_where_that_ran() -> None:
    keys = {
        unit(1).key,
        composed(1).key,
        composed(1, unit(1)).key,
        composed(1, unit(1, environment="other")).key,
        composed(1, unit(1, pipeline="q")).key,
        composed(1, unit(1), unit(1, pipeline="q")).key,
        composed(1, unit(1, pipeline="q"), unit(1)).key,
    }
    assert len(keys) == 7
