"""Typed keys under which the application holds what its handlers need; filled by ``node.app`` alone."""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

import jinja2
from aiohttp import web

from cas.store import BlobStore
from federation.identity import SigningKey
from node.config import Settings
from node.services.care import Care
from node.services.remote_media import RemoteMedia
from node.services.remote_needs import RemoteNeeds
from node.services.tiers import TierWork
from node.storage.db import Database
from node.web.previews import Previews
from runners.engine import Engine

if TYPE_CHECKING:
    from node.services.jobs import JobService

SETTINGS = web.AppKey("settings", Settings)
DATABASE = web.AppKey("database", Database)
BLOBS = web.AppKey("blobs", BlobStore)
IDENTITY = web.AppKey("identity", SigningKey)
CLOCK: "web.AppKey[Callable[[], datetime]]" = web.AppKey("clock")
"""The current time, UTC."""
JOBS: "web.AppKey[JobService]" = web.AppKey("jobs")
CARE = web.AppKey("care", Care)
REMOTE = web.AppKey("remote", RemoteMedia)
NEEDS = web.AppKey("needs", RemoteNeeds)
TIERS = web.AppKey("tiers", TierWork)
PREVIEWS = web.AppKey("previews", Previews)
ENVIRONMENT = web.AppKey("templates", jinja2.Environment)
ENGINE = web.AppKey("engine", Engine)
