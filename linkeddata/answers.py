"""From a result to an answer: yes, no, or cannot tell, with the reason. Pure, and the same everywhere.

- With a text query: *yes* when the text matches; *no* only when the image could be read and does not match;
  otherwise *cannot tell*, because what was not read may be there.
- Without one: *yes* when the pipeline found what it looks for, *no* when it looked well and found nothing.
- Failed and withheld units are *cannot tell*.

What each contract says is with the contract (``linkeddata.outputs``).
"""

from linkeddata.job import Emit
from linkeddata.outputs import Output, UnitAnswer


def answer_of(output: Output, emit: Emit | None, *, step: str) -> UnitAnswer:
    """The answer of a finished unit of ``step`` to a job's question."""
    return output.answer(emit.match if emit is not None and emit.step == step else None)


def cannot_tell(reason: str) -> UnitAnswer:
    """The answer of a unit that failed or was withheld."""
    return UnitAnswer(answer="cannot tell", reason=reason)
