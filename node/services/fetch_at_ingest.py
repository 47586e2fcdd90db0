"""Fetching images while an ingest runs, for sources with ``fetch = true``: through the one safe fetcher."""

import asyncio

from federation.errors import FederationError
from federation.safe_fetch import FetchLimits, SafeFetcher
from node.config import Settings
from node.services.intake_bytes import Fetch


def fetcher_of(settings: Settings) -> Fetch:
    """What fetches an address within the limits of the settings; blocking, never inside an event loop."""
    fetcher = SafeFetcher(
        limits=FetchLimits(
            max_bytes=min(settings.images.max_file_bytes, 512 * 1024 * 1024),
            timeout_s=120.0,
            content_types=("image/", "application/octet-stream"),
        ),
        insecure_loopback=settings.federation.insecure_loopback,
    )

    def fetch(url: str) -> bytes:
        try:
            answer = asyncio.run(fetcher.get(url))
        except FederationError as error:
            raise OSError(str(error)) from error
        if answer.status != 200:
            raise OSError(f"the server answered {answer.status}")
        return answer.body

    return fetch
