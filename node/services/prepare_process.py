"""Rows prepared beside the writer: ``python -P -m node.services.prepare_process``, and the frames both sides exchange.

The first frame tells the rules of the source; after it, every frame of rows is answered by one frame, in their order.
Both sides are this program; a frame is a head in JSON and bytes that the head measures.

Invariants:
- Pure work only: the process opens no file and no database, and ends with its parent or with the end of its input.
- Frames are read by a thread of their own, so that whoever sends the next rows never waits for an answer to be taken.

It leaves out: what rows say (``node.services.prepare_row``), starting the process (``node.services.prepare_ahead``).
"""

import json
import queue
import struct
import sys
import threading
from collections.abc import Iterable, Sequence
from datetime import date
from typing import IO, Any, Final

from linkeddata.access import AccessClass
from linkeddata.checks import Checker
from linkeddata.source import SourceRow, row_of
from node.services.prepare_row import PreparedMedium, PreparedRow, RowRules, prepare_row
from node.storage.new_records import Draft
from node.storage.search_document import SearchDocument
from runners.sandbox import die_with_parent

_SIZES: Final = struct.Struct(">IQ")
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":"))


def write_frame(stream: IO[bytes], head: Any, parts: Iterable[bytes] = ()) -> None:
    """One frame; the head says how long each part is."""
    text, body = _ENCODER.encode(head).encode("utf-8", "surrogatepass"), b"".join(parts)
    stream.write(_SIZES.pack(len(text), len(body)) + text)
    stream.write(body)
    stream.flush()


def read_frame(stream: IO[bytes]) -> tuple[Any, bytes] | None:
    """The next frame; None at the end, also in the middle of one."""
    sizes = stream.read(_SIZES.size)
    if len(sizes) < _SIZES.size:
        return None
    head_size, body_size = _SIZES.unpack(sizes)
    head, body = stream.read(head_size), stream.read(body_size)
    if len(head) < head_size or len(body) < body_size:
        return None
    return json.loads(head.decode("utf-8", "surrogatepass")), body


def send_rules(stream: IO[bytes], rules: RowRules, salt: bytes) -> None:
    """The first frame."""
    write_frame(stream, {**rules.to_json(), "salt": salt.hex()})


def send_rows(stream: IO[bytes], rows: Sequence[tuple[SourceRow, Sequence[str]]], today: date) -> None:
    """Rows to be prepared, each with the keys of its media that have a problem."""
    bodies = [row.canonical for row, _ in rows]
    head = [today.isoformat(), [len(item) for item in bodies], [list(problems) for _, problems in rows]]
    write_frame(stream, head, bodies)


def receive_prepared(stream: IO[bytes]) -> list[PreparedRow] | None:
    """The answer to the oldest rows; None when there will be none."""
    frame = read_frame(stream)
    if frame is None:
        return None
    head, body = frame
    found: list[PreparedRow] = []
    at = 0
    for key, specimen, media, mids, issues, columns, words in head:
        made, at = _draft(specimen, body, at)
        shown = []
        for media_key, locator, otherwise, packed in media:
            medium, at = _draft(packed, body, at)
            shown.append(PreparedMedium(media_key, locator, medium, AccessClass(otherwise)))
        said = tuple((code, detail, is_public) for code, detail, is_public in issues)
        found.append(PreparedRow(key, made, tuple(shown), mids, said, SearchDocument(columns, words)))
    return found


def _send_prepared(stream: IO[bytes], rows: Iterable[PreparedRow]) -> None:
    head, bodies = [], []
    for row in rows:
        media = [(item.key, item.locator, int(item.otherwise), _packed(item.draft)) for item in row.media]
        head.append((row.key, _packed(row.specimen), media, row.mids, row.issues, row.search.columns, row.search.words))
        bodies.append(row.specimen.body)
        bodies += [item.draft.body for item in row.media]
    write_frame(stream, head, bodies)


def _packed(item: Draft) -> tuple[Any, ...]:
    return item.kind, item.iri, len(item.body), int(item.access), item.sensitive, item.source, item.aliases


def _draft(packed: Sequence[Any], body: bytes, at: int) -> tuple[Draft, int]:
    kind, iri, size, access, sensitive, source, aliases = packed
    end = at + size
    return Draft(kind, iri, body[at:end], AccessClass(access), sensitive, source, tuple(aliases)), end


def main() -> None:
    """Answers until the input ends."""
    die_with_parent()
    arrived: queue.Queue[tuple[Any, bytes] | None] = queue.Queue()

    def read() -> None:
        while True:
            frame = read_frame(sys.stdin.buffer)
            arrived.put(frame)
            if frame is None:
                return

    threading.Thread(target=read, daemon=True).start()
    first = arrived.get()
    if first is None:
        return
    rules, salt, checker = RowRules.from_json(first[0]), bytes.fromhex(first[0]["salt"]), Checker()
    while (frame := arrived.get()) is not None:
        (day, sizes, problems), body = frame
        today, at = date.fromisoformat(day), 0
        made: list[PreparedRow] = []
        for size, with_problem in zip(sizes, problems, strict=True):
            row = row_of(body[at : at + size])
            at += size
            made.append(prepare_row(row, rules, checker, today=today, salt=salt, with_problem=with_problem))
        _send_prepared(sys.stdout.buffer, made)


if __name__ == "__main__":
    main()
