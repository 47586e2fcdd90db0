"""Typed keys under which the application holds what its handlers need; filled by ``node.app`` alone."""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from aiohttp import web

from cas.store import BlobStore
from federation.identity import SigningKey
from node.config import Settings
from node.storage.db import Database

if TYPE_CHECKING:
    from node.services.jobs import JobService

SETTINGS = web.AppKey("settings", Settings)
DATABASE = web.AppKey("database", Database)
BLOBS = web.AppKey("blobs", BlobStore)
IDENTITY = web.AppKey("identity", SigningKey)
CLOCK = web.AppKey("clock", Callable[[], datetime])  # type: ignore[var-annotated]
"""The current time, UTC."""
JOBS: "web.AppKey[JobService]" = web.AppKey("jobs")  # type: ignore[assignment]
