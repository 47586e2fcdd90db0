"""A small reader of the openDS JSON schemas: which names and types differ, and what is required and missing."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TYPES = {"string": str, "integer": int, "boolean": bool, "object": dict, "array": list, "number": (int, float)}


class Shapes:
    """The schemas of a folder, by file name."""

    def __init__(self, folder: Path) -> None:
        self.files = {path.name: json.loads(path.read_text("utf-8")) for path in sorted(folder.rglob("*.json"))}

    def deviations(self, document: Any, name: str) -> set[str]:
        """``path: what`` for everything that does not fit the schema file ``name``."""
        return set(self._walk(document, self.files[name], ""))

    def _walk(self, value: Any, schema: dict[str, Any], path: str) -> Iterator[str]:
        if "$ref" in schema:
            schema = self.files[schema["$ref"].rsplit("/", 1)[-1]]
        kind = schema.get("type")
        if kind in TYPES and (not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")):
            yield f"{path}: not a {kind}"
            return
        if "const" in schema and value != schema["const"]:
            yield f"{path}: not {schema['const']}"
        if "enum" in schema and value not in schema["enum"]:
            yield f"{path}: not in the list"
        if isinstance(value, dict) and "properties" in schema:
            for member in schema.get("required", ()):
                if member not in value:
                    yield f"{path}/{member}: missing"
            for member, inner in value.items():
                if member in schema["properties"]:
                    yield from self._walk(inner, schema["properties"][member], f"{path}/{member}")
                else:
                    yield f"{path}/{member}: unknown"
        if isinstance(value, list) and isinstance(schema.get("items"), dict):
            for inner in value:
                yield from self._walk(inner, schema["items"], path)
