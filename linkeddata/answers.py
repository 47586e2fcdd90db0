"""From a result to an answer: yes, no, or cannot tell, with the reason. Pure, and the same everywhere.

- With a text query: *yes* when the text matches; *no* only when the image could be read and does not match;
  otherwise *cannot tell*, because what was not read may be there.
- Without one: *yes* when the pipeline found what it looks for, *no* when it looked well and found nothing.
- Failed and withheld units are *cannot tell*.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import assert_never

from linkeddata.job import Answer, Emit
from linkeddata.json_strict import Json
from linkeddata.matching import TextLine, match_lines, parse_match
from linkeddata.outputs import Barcodes, LabelText, NetworkProbe, Output, Quality


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitAnswer:
    """What one unit says to one question."""

    answer: Answer
    reason: str = ""
    matches: tuple[Mapping[str, Json], ...] = ()
    values: Mapping[str, Json] = field(default_factory=dict)


def answer_of(output: Output, emit: Emit | None, *, step: str) -> UnitAnswer:
    """The answer of a finished unit of ``step`` to a job's question."""
    query = emit.match if emit is not None and emit.step == step else None
    match output:
        case LabelText():
            return _text(output, query)
        case Barcodes():
            return _codes(output, query)
        case Quality():
            poor = [name for name, verdict in output.verdicts.items() if verdict == "poor"]
            reason = "poor: " + ", ".join(poor) if poor else ""
            return UnitAnswer(answer="no" if poor else "yes", reason=reason, values={"measures": dict(output.measures)})
        case NetworkProbe():
            opened = [name for name, became in output.attempts.items() if became == "opened"]
            return UnitAnswer(answer="yes" if opened else "no", values={"attempts": dict(output.attempts)})
        case _:
            assert_never(output)


def cannot_tell(reason: str) -> UnitAnswer:
    """The answer of a unit that failed or was withheld."""
    return UnitAnswer(answer="cannot tell", reason=reason)


def _text(output: LabelText, query: str | None) -> UnitAnswer:
    lines = [TextLine(text=line.text, score=float(line.score), box=line.box) for line in output.lines]
    if query is None:
        values: dict[str, Json] = {
            "lines": [
                {"text": line.text, "score": line.score, "box": list(line.box), "writing": line.writing}
                for line in output.lines
            ]
        }
        if output.lines:
            return UnitAnswer(answer="yes", values=values)
        return _nothing(output.readable, output.doubts)
    matches = match_lines(parse_match(query), lines)
    if matches:
        return UnitAnswer(
            answer="yes",
            matches=tuple(
                {
                    "text": match.text,
                    "score": f"{match.score:.3f}",
                    "distance": match.distance,
                    "box": list(match.box),
                }
                for match in matches[:20]
            ),
        )
    return _nothing(output.readable, output.doubts)


def _codes(output: Barcodes, query: str | None) -> UnitAnswer:
    values: dict[str, Json] = {
        "codes": [
            {"symbology": code.symbology, "payload": code.payload, "box": list(code.box), "reader": code.reader}
            for code in output.codes
        ]
    }
    if query is not None:
        lines = [TextLine(text=code.payload, score=1.0, box=code.box) for code in output.codes]
        matches = match_lines(parse_match(query), lines)
        if matches:
            found: tuple[Mapping[str, Json], ...] = tuple(
                {"text": match.text, "score": "1.000", "distance": match.distance, "box": list(match.box)}
                for match in matches
            )
            return UnitAnswer(answer="yes", matches=found, values=values)
    elif output.codes:
        return UnitAnswer(answer="yes", values=values)
    return _nothing(not output.doubts, output.doubts)


def _nothing(is_certain: bool, doubts: tuple[str, ...]) -> UnitAnswer:
    if is_certain:
        return UnitAnswer(answer="no")
    return cannot_tell(doubts[0] if doubts else "unreadable")
