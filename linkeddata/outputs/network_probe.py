"""``network-probe/1``: what became of each attempt to open a socket from inside a worker."""

from collections.abc import Mapping
from dataclasses import dataclass

from linkeddata.errors import OutputRefused
from linkeddata.json_strict import Json, get_object
from linkeddata.outputs.shape import ImageSize, Region, UnitAnswer, check_name, read_doubts, read_text

MAX_ATTEMPTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkProbe:
    """``network-probe/1``."""

    image: ImageSize
    attempts: Mapping[str, str]
    doubts: tuple[str, ...]

    def answer(self, query: str | None) -> UnitAnswer:  # noqa: ARG002
        """*yes*: a socket could be opened."""
        opened = [name for name, became in self.attempts.items() if became == "opened"]
        return UnitAnswer(answer="yes" if opened else "no", values={"attempts": dict(self.attempts)})

    def regions(self) -> tuple[Region, ...]:
        """None."""
        return ()

    def measured(self) -> Mapping[str, str]:
        """None."""
        return {}


def parse(document: dict[str, Json], image: ImageSize) -> NetworkProbe:
    """A worker's body.

    Raises:
        DocumentError: it breaks the contract.
    """
    attempts = get_object(document, "attempts")
    if len(attempts) > MAX_ATTEMPTS:
        raise OutputRefused(f"at most {MAX_ATTEMPTS} attempts")
    checked = {check_name(key, "attempt"): read_text(attempts, key, max_chars=100) for key in sorted(attempts)}
    return NetworkProbe(image=image, attempts=checked, doubts=read_doubts(document))
