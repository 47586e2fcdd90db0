"""The handle of a federated job: a small file from which any process with the key can take the job up again.

It holds the signed JobSpec, where the job stands at each node, and the node keys against which answers are checked.
It holds no secret; whoever has it but not the key can read what was collected, and ask nothing.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from federation.client import FederatedJob
from federation.dispatch import course_to_json, parse_course
from federation.errors import FederationError
from federation.merge import NotAsked, parse_not_asked
from linkeddata.envelope import parse_envelope
from linkeddata.errors import DocumentError
from linkeddata.job import parse_job_spec
from linkeddata.json_strict import Json, as_object, get_list, get_object, get_str, get_strings, parse_json

MAX_HANDLE_BYTES: Final = 2**30
"""Rows are kept in the handle: a million of them have a few hundred MB."""


class HandleError(FederationError):
    """A handle file cannot be used."""


@dataclass(slots=True, kw_only=True)
class Handle:
    """A job, the nodes that were not asked, and where they were looked for."""

    job: FederatedJob
    not_asked: tuple[NotAsked, ...] = ()
    registries: tuple[str, ...] = ()
    question: str = ""
    """The selection as typed, for people."""
    extra: dict[str, Json] = field(default_factory=dict)

    def to_json(self) -> dict[str, Json]:
        """The document in the file."""
        job = self.job
        return {
            "type": "vasculum:JobHandle",
            "schemaVersion": 1,
            "envelope": job.envelope.to_json(),
            "courses": [course_to_json(course) for course in job.courses.values()],
            "keys": {origin: list(kids) for origin, kids in job.keys.items()},
            "pipelines": {origin: list(digests) for origin, digests in job.pipelines.items()},
            "notAsked": [item.to_json() for item in self.not_asked],
            "registries": list(self.registries),
            "question": self.question,
        }


def parse_handle(value: Json) -> Handle:
    """The reverse of ``Handle.to_json``.

    Raises:
        DocumentError: the file was changed by hand, or is from another version.
    """
    document = as_object(value, "a handle")
    if document.get("type") != "vasculum:JobHandle" or document.get("schemaVersion") != 1:
        raise DocumentError("this is not a job handle of schemaVersion 1")
    envelope = parse_envelope(get_object(document, "envelope"))
    courses = [parse_course(item) for item in get_list(document, "courses", max_items=10_000)]
    job = FederatedJob(
        spec=parse_job_spec(parse_json(envelope.payload)),
        envelope=envelope,
        courses={course.origin: course for course in courses},
        keys=_lists(get_object(document, "keys")),
        pipelines=_lists(get_object(document, "pipelines")),
    )
    return Handle(
        job=job,
        not_asked=tuple(parse_not_asked(item) for item in get_list(document, "notAsked", max_items=20_000)),
        registries=get_strings(document, "registries", max_items=100),
        question=get_str(document, "question", max_chars=20_000, default=""),
    )


def load_handle(path: Path) -> Handle:
    """Reads a handle file.

    Raises:
        HandleError: it is missing or damaged.
    """
    try:
        return parse_handle(parse_json(path.read_bytes(), max_bytes=MAX_HANDLE_BYTES))
    except OSError as error:
        raise HandleError(f"{path} cannot be read: {error.strerror}") from error
    except DocumentError as error:
        raise HandleError(f"{path} is not a job handle: {error}") from error


def save_handle(handle: Handle, path: Path) -> None:
    """Writes the file whole or not at all.

    Raises:
        HandleError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(handle.to_json(), stream, ensure_ascii=False)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
    except OSError as error:
        raise HandleError(f"{path} cannot be written: {error.strerror}") from error


def _lists(value: dict[str, Json]) -> dict[str, tuple[str, ...]]:
    return {origin: get_strings(value, origin, max_items=200) for origin in value}
