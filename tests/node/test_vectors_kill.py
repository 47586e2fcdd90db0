"""SIGKILL while vectors are added and wiped: nothing acknowledged is lost; the twin that acknowledges early loses."""

import hashlib
import random
import shutil
import signal
from pathlib import Path

import kill_harness
import pytest

from node.storage.vectors import VectorFile

DIMENSIONS = 1280
CHILD = """
import hashlib, os, sys
from pathlib import Path
import numpy as np
from node.storage.vectors import VectorFile, VectorRow
path, is_sabotaged = Path(sys.argv[1]), sys.argv[2] == "sabotaged"
_pwrite = os.pwrite
def in_pieces(descriptor, data, offset):
    tick("pwrite")
    return _pwrite(descriptor, bytes(data[:1500]), offset)
os.pwrite = in_pieces
file = VectorFile.open(path, dimensions=1280, pipeline="sha256:x")
def image(number):
    return hashlib.sha256(str(number).encode()).hexdigest()
number = file.rows
while number < 100000:
    rows = [VectorRow(image=image(number + n), vector=np.random.default_rng(number + n).standard_normal(1280)) for n in range(3)]
    if is_sabotaged:
        print("ack", number, flush=True)
    file.add(rows)
    if not is_sabotaged:
        print("ack", number, flush=True)
    if number % 9 == 0:
        file.wipe(image(number + 1))
        print("ack", -1 - number, flush=True)
    number = file.rows
"""


def image(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def problems_after(path: Path, acks: list[str]) -> list[str]:
    """What was said and is not so."""
    file = VectorFile.open(path, dimensions=DIMENSIONS, pipeline="sha256:x")
    found: list[str] = []
    present = {key for key, _ in file.live_keys()}
    wiped = {-1 - int(ack) for ack in acks if int(ack) < 0}
    for number in (int(ack) for ack in acks if int(ack) >= 0):
        for shift in range(3):
            is_gone = shift == 1 and number % 9 == 0
            if is_gone and number in wiped and image(number + 1) in present:
                found.append(f"{number + 1} was wiped and is there")
            if not is_gone and image(number + shift) not in present:
                found.append(f"{number + shift} was added and is not there")
    if file.damaged:
        # A wipe that was cut off leaves one record that fits no checksum: as dead as it should be.
        allowed = 1 if len(wiped) < sum(int(ack) % 9 == 0 for ack in acks if int(ack) >= 0) else 0
        if file.damaged > allowed:
            found.append(f"{file.damaged} damaged records")
    file.close()
    return found


def kills(tmp_path: Path, count: int, how: str, seed: int) -> tuple[kill_harness.Kills, list[str]]:
    rng, counted = random.Random(seed), kill_harness.Kills()
    problems: list[str] = []
    for number in range(count):
        folder = tmp_path / f"{how}-{number}"
        folder.mkdir()
        path = folder / "a.vec"
        acks: list[str] = []
        for _ in range(2):  # the second child goes on where the first was killed
            child = kill_harness.start(CHILD, str(path), how, kill_at=rng.randrange(4, 120))
            said, status = kill_harness.finish(child)
            acks += said
            assert status == -signal.SIGKILL
            if how == "sound":
                counted.add(len(said), status, problems_after(path, acks))
            else:
                problems += problems_after(path, acks)
        shutil.rmtree(folder)
    return counted, problems


@pytest.mark.fault
def test_a_kill_loses_no_acknowledged_vector(tmp_path: Path) -> None:
    counted, _ = kills(tmp_path, 6, "sound", seed=6)
    assert counted.kills == 12 and counted.acknowledged > 40


@pytest.mark.soak
def test_many_kills_lose_no_acknowledged_vector(tmp_path: Path) -> None:
    counted, _ = kills(tmp_path, 60, "sound", seed=60)
    assert counted.kills == 120


@pytest.mark.fault
def test_the_twin_that_acknowledges_early_loses(tmp_path: Path) -> None:
    _, problems = kills(tmp_path, 4, "sabotaged", seed=4)
    assert any("is not there" in problem for problem in problems), "the kills prove nothing"
