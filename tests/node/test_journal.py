"""Both journals keep the contract, and do the same under any course of events."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import NOW
from contracts.journal_contract import JournalContract, composed, unit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from linkeddata.pipeline import WorkUnit
from node.storage.db import Database
from node.storage.journal import SqliteJournal
from runners.journal import Journal, MemoryJournal, UnitStatus


class TestMemoryJournal(JournalContract):
    @pytest.fixture
    def journal(self) -> MemoryJournal:
        return MemoryJournal()

    async def status(self, journal: Journal, key: str) -> UnitStatus:
        assert isinstance(journal, MemoryJournal)
        found = journal.status(key)
        assert found is not None
        return found


class TestSqliteJournal(JournalContract):
    @pytest.fixture
    async def journal(self, tmp_path: Path) -> AsyncIterator[SqliteJournal]:
        database = Database.open(tmp_path / "n.sqlite")
        yield SqliteJournal(database)
        database.close()

    async def status(self, journal: Journal, key: str) -> UnitStatus:
        assert isinstance(journal, SqliteJournal)
        found = await journal.status(key)
        assert found is not None
        return found


STEP = st.tuples(
    st.sampled_from(
        [
            "enqueue",
            "lease",
            "complete",
            "permanent",
            "limit",
            "upstream",
            "transient",
            "withheld",
            "release",
            "reclaim",
            "wait",
        ]
    ),
    st.integers(0, 6),
    st.sampled_from(["b1", "b2"]),
)


UNITS = [unit(number) for number in range(5)]
UNITS += [composed(0, UNITS[0], UNITS[1])]
UNITS += [composed(0, UNITS[5], UNITS[0], output="barcode/1")]


def with_upstream(item: WorkUnit) -> list[WorkUnit]:
    """A unit behind those it takes the results of."""
    needed = [found for key in item.upstream for found in UNITS if found.key == key]
    return [*(each for found in needed for each in with_upstream(found)), item]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(STEP, max_size=25))
def test_the_durable_journal_does_what_the_model_does(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, str]]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "n.sqlite"

    async def course() -> None:
        database = Database.open(path)
        durable, model = SqliteJournal(database), MemoryJournal()
        now, held = NOW, {}
        for action, number, boot in steps:
            key = UNITS[number].key
            answers = []
            for journal in (durable, model):
                if action == "enqueue":
                    answers.append(
                        await journal.enqueue([(number, item) for item in with_upstream(UNITS[number])], now=now)
                    )
                elif action == "lease":
                    got = await journal.lease("p", "e", limit=2, now=now, lease_s=30, boot=boot)
                    states = {it.state for item in got for it in item.upstream.values()}
                    assert not states & {"queued", "leased"}, "given out before what it takes has ended"
                    held.update({item.unit.key: item.attempt for item in got})
                    answers.append(
                        [
                            (item.unit.key, item.attempt, {name: it.state for name, it in item.upstream.items()})
                            for item in got
                        ]
                    )
                elif action == "complete":
                    answers.append(await journal.complete(key, held.get(key, 1), b"{}", 0.0, now=now))
                elif action == "release":
                    answers.append(await journal.release(key, held.get(key, 1), now=now))
                elif action == "reclaim":
                    answers.append(await journal.reclaim(boot, now=now))
                elif action != "wait":
                    answers.append(await journal.fail(key, held.get(key, 1), action, "r", now=now))  # type: ignore[arg-type]
            if action == "wait":
                now += timedelta(seconds=20 * number)
            else:
                assert answers[0] == answers[1], (action, number)
        for each in UNITS:
            ours, theirs = await durable.status(each.key), model.status(each.key)
            assert (ours and (ours.state, ours.attempt, ours.body)) == (
                theirs and (theirs.state, theirs.attempt, theirs.body)
            )
        database.close()

    asyncio.run(course())
