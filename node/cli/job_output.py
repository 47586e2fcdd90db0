"""A merged answer for people and programs: summary, table, JSON, NDJSON, CSV. Pure but for the printing at the end."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from federation.merge import MergedAnswer, MergedRow, NodeNote
from linkeddata.job import StepCounts, found_in
from linkeddata.json_strict import Json
from linkeddata.spreadsheet import inert

COLUMNS = (
    "node", "specimen", "medium", "image", "step", "answer", "reason", "text", "score", "pipeline", "environment",
    "conformance",
)  # fmt: skip

WIDE = 150
"""Columns that a table of rows needs to be readable."""


def found_text(row: MergedRow) -> tuple[str, str]:
    """What was found, as one text, and its score."""
    return found_in(row.row)


def flat(row: MergedRow) -> dict[str, str]:
    """A row with one text per column."""
    text, score = found_text(row)
    return {
        "node": row.node,
        "specimen": row.row.specimen,
        "medium": row.row.medium,
        "image": row.row.image,
        "step": row.row.step,
        "answer": row.row.answer,
        "reason": row.row.reason,
        "text": text,
        "score": score,
        "pipeline": row.row.pipeline,
        "environment": row.row.environment,
        "conformance": row.row.conformance,
    }


def choose(answer: MergedAnswer, *, answers: Iterable[str], step: str | None, with_failing: bool) -> list[MergedRow]:
    """Rows with these answers (none named: all), of this step."""
    wanted = set(answers)
    rows = [*answer.rows, *(answer.out_of_tolerance if with_failing else ())]
    return [row for row in rows if (not wanted or row.row.answer in wanted) and (step is None or row.row.step == step)]


def to_json(answer: MergedAnswer, rows: list[MergedRow]) -> str:
    """One JSON object: everything, with the chosen rows."""
    document = answer.to_json()
    document["rows"] = [row.to_json() for row in rows]
    return json.dumps(document, ensure_ascii=False)


def to_ndjson(rows: list[MergedRow]) -> Iterator[str]:
    """One JSON object per row."""
    for row in rows:
        document: dict[str, Json] = row.to_json()
        yield json.dumps(document, ensure_ascii=False)


def to_csv(rows: list[MergedRow]) -> str:
    """RFC 4180 with a header; a text that a spreadsheet would run as a formula gets an apostrophe before it."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: inert(value) for name, value in flat(row).items()})
    return stream.getvalue()


def print_table(console: Console, rows: list[MergedRow], names: Mapping[str, str]) -> None:
    """Rows for a terminal: a table where it is wide enough, else some lines for each row.

    Args:
        console: where to.
        rows: what to print.
        names: origin -> name of a node.
    """
    if console.width < WIDE:
        for row in rows:
            _print_lines(console, row, names)
        return
    table = Table(show_lines=False, expand=False)
    for name in ("node", "specimen", "image", "step", "answer", "found", "score", "pipeline", "environment"):
        is_free = name in ("node", "found")
        table.add_column(name, overflow="fold", no_wrap=not is_free)
    for row in rows:
        text, score = found_text(row)
        table.add_row(
            Text(names.get(row.node, row.node)),
            Text(row.row.specimen.rsplit("/", 1)[-1], style=f"link {row.row.specimen}"),
            Text(row.row.image.rsplit("/", 1)[-1][:12]),
            Text(row.row.step),
            Text(row.row.answer),
            Text((text or row.row.reason)[:160]),
            Text(score),
            Text(row.row.pipeline[:19]),
            Text(row.row.environment[:19]),
        )
    console.print(table)


def _print_lines(console: Console, row: MergedRow, names: Mapping[str, str]) -> None:
    text, score = found_text(row)
    found = " ".join(part for part in ((text or row.row.reason)[:160], score) if part)
    versions = f"pipeline {row.row.pipeline[:19]}  environment {row.row.environment[:19]}"
    for number, line in enumerate(
        (
            f"{row.row.answer:12} {row.row.step:13} {names.get(row.node, row.node)}  {found}",
            f"  {row.row.specimen}",
            f"  image {row.row.image.rsplit('/', 1)[-1][:12]}  {versions}",
        )
    ):
        console.print(line, style="bold" if number == 0 else "", markup=False, highlight=False, soft_wrap=True)


def print_summary(console: Console, answer: MergedAnswer) -> None:
    """Who answered what, with denominators, and everybody who did not."""
    table = Table(show_header=True, box=None)
    for name in ("node", "step", "yes", "no", "cannot tell", "pending", "of"):
        table.add_column(name, justify="left" if name in ("node", "step") else "right")
    names = names_of(answer)
    for origin, counts in answer.counts.items():
        for place, item in enumerate(counts):
            table.add_row(Text(names.get(origin, origin) if place == 0 else ""), Text(item.step), *_numbers(item))
    for place, item in enumerate(answer.totals):
        table.add_row("all nodes" if place == 0 else "", Text(item.step), *_numbers(item), style="bold")
    console.print(table)
    for item in answer.totals:
        for reason, number in sorted(item.reasons.items(), key=lambda pair: -pair[1])[:8]:
            console.print(f"  cannot tell, {item.step}: {number} x {reason}", markup=False, highlight=False)
    _print_no_value(console, answer)
    for label, notes in (
        ("still working", answer.working),
        ("held, waits for a person", answer.held),
        ("refused", answer.refused),
        ("failed", answer.failed),
        ("cancelled", answer.cancelled),
        ("answered coarser than asked", answer.coarser),
    ):
        for note in notes:
            console.print(_note(label, note), markup=False, highlight=False)
    for skipped in answer.not_asked:
        console.print(
            f"not asked: {skipped.name} {skipped.origin}: {skipped.rule} (summary {skipped.summary_age_s} s old)",
            markup=False, highlight=False,
        )  # fmt: skip
    for step, versions in answer.differing_versions.items():
        console.print(f"different versions of {step}:", markup=False, highlight=False)
        for digest, origins in versions.items():
            console.print(f"  {digest[:19]}..  {', '.join(origins)}", markup=False, highlight=False)
    if answer.out_of_tolerance:
        console.print(
            f"{len(answer.out_of_tolerance)} rows come from pipelines that did not conform where they ran; "
            "they are listed only with --with-failing",
            markup=False,
        )  # fmt: skip


def names_of(answer: MergedAnswer) -> dict[str, str]:
    """Origin -> the name that a node gives itself; names that several use get their origin beside them."""
    notes = [
        *answer.answered, *answer.working, *answer.held, *answer.refused, *answer.failed, *answer.cancelled,
    ]  # fmt: skip
    used = Counter(note.name for note in notes)
    return {note.origin: note.name if used[note.name] == 1 else f"{note.name} {note.origin}" for note in notes}


def _print_no_value(console: Console, answer: MergedAnswer) -> None:
    for origin, left in answer.no_value.items():
        for condition in left:
            console.print(f"  not asked about at {origin}: {condition.to_text()}", markup=False, highlight=False)


def _numbers(item: StepCounts) -> tuple[str, ...]:
    return tuple(str(number) for number in (item.yes, item.no, item.cannot_tell, item.pending, item.total))


def _note(label: str, note: NodeNote) -> str:
    rule = f" [rule: {note.rule}]" if note.rule else ""
    return f"{label}: {note.name} {note.origin}: {'; '.join(note.reasons) or 'no reason given'}{rule}"
