"""``quality/1``: measures by name (decimal texts), verdicts by name (``good``, ``poor``), reasons for what is poor."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from linkeddata.errors import OutputRefused
from linkeddata.json_strict import Json, get_object
from linkeddata.outputs.shape import ImageSize, Region, UnitAnswer, check_name, read_decimals, read_doubts, read_text

MAX_VERDICTS = 20
MAX_REASON_CHARS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """``quality/1``."""

    image: ImageSize
    measures: Mapping[str, str]
    verdicts: Mapping[str, str] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Verdict that is poor -> why, in a sentence; results of pipelines before 1.1.0 have none."""

    def answer(self, query: str | None) -> UnitAnswer:  # noqa: ARG002
        """*yes*: nothing is poor."""
        poor = [name for name, verdict in self.verdicts.items() if verdict == "poor"]
        said = [f"{name} ({self.reasons[name]})" if name in self.reasons else name for name in poor]
        reason = "poor: " + ", ".join(said) if poor else ""
        return UnitAnswer(answer="no" if poor else "yes", reason=reason, values={"measures": dict(self.measures)})

    def regions(self) -> tuple[Region, ...]:
        """None: it is about the whole image."""
        return ()

    def measured(self) -> Mapping[str, str]:
        """As measured."""
        return self.measures


def parse(document: dict[str, Json], image: ImageSize) -> Quality:
    """A worker's body.

    Raises:
        DocumentError: it breaks the contract.
    """
    verdicts = get_object(document, "verdicts")
    if len(verdicts) > MAX_VERDICTS or any(value not in ("good", "poor") for value in verdicts.values()):
        raise OutputRefused("verdicts are good or poor")
    reasons = get_object(document, "reasons") if "reasons" in document else {}
    if len(reasons) > MAX_VERDICTS or any(verdicts.get(name) != "poor" for name in reasons):
        raise OutputRefused("reasons are for verdicts that are poor")
    return Quality(
        image=image,
        measures=read_decimals(document),
        verdicts={check_name(key, "verdict"): str(value) for key, value in verdicts.items()},
        doubts=read_doubts(document),
        reasons={name: read_text(reasons, name, max_chars=MAX_REASON_CHARS) for name in reasons},
    )
