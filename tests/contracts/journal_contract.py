"""What every journal must do; one class, inherited by the memory and the SQLite journal."""

from datetime import timedelta

from conftest import NOW

from linkeddata.pipeline import WorkUnit
from runners.journal import MAX_FAILURES, Journal, UnitStatus

LATER = NOW + timedelta(hours=1)


def unit(number: int, *, environment: str = "e", pipeline: str = "p") -> WorkUnit:
    return WorkUnit(output="quality/1", pipeline=pipeline, environment=environment, image=f"{number:064x}")


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
