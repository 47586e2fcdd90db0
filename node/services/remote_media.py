"""Images that lie at an address: fetched at first need, kept within a budget, fetched again when their copy went.

The order of a fetch, and what a kill leaves: the answer goes into a file without a name (nothing is left), the image
is stored durably (bytes that no record names yet, see ``vasculum gc``), the index notes address and id, one
transaction publishes the new version of the medium. The next fetch of the address goes on where that ended.

Invariants:
- Only addresses of records are asked, only of sources with ``fetch = "on-need"``, by the one ``SafeFetcher``.
- One host is asked by one at a time, in any number of processes (a lock that the kernel drops), with a pause after
  each answer; a failed address is left alone for longer and longer (``node.services.remote_rules``).
- A job waits for bytes that its snapshot named and that went to make room; nobody else waits for a fetch.
- Bytes that an address held before are never given out in the place of others, nor others in theirs.

It leaves out: who may cause a fetch (``node.services.remote_needs``), who may see an image (``node.access``).
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import secrets
import sqlite3
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import IO, Final, Literal, Protocol

from cas.errors import BlobWithdrawn
from cas.ids import ContentId
from cas.remote import NoRoom, RemoteBytes, RemoteRow, parse_stamp
from cas.store import BlobStore
from federation.errors import AnswerTooLarge, FetchRefused, TransportError
from federation.safe_fetch import Fetched, FetchLimits, SafeFetcher
from node.config import Settings
from node.services.intake_bytes import WITHDRAWN_PROBLEM, MediumBytes
from node.services.public_originals import PublicOriginals, keep, wanted_at
from node.services.publish_remote import close_media, media_at, publish_fetched
from node.services.remote_rules import Failure, host_of, judge_status, next_attempt, why_never_fetched
from node.storage.db import Database
from runners.decode import Limits, read_header
from runners.errors import ImageRefused

LONGEST_WAIT: Final = timedelta(seconds=60)
"""A host that wants to be left alone for longer is left to another time."""
SILENT_PAUSE: Final = timedelta(minutes=5)
"""How long a host that does not answer is left alone."""
MOST_FAILURES: Final = 5
"""After so many (85 minutes) nobody waits for an address any more: a dead host must not fill the line for ever."""
_LOCKS: Final = 64
_MIB: Final = 1 << 20
_GIB: Final = 1 << 30
_TYPES: Final = ("image/", "application/octet-stream")

OutcomeKind = Literal["fetched", "replaced", "unchanged", "kept", "failed", "later", "unknown", "barred"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an address."""

    url: str
    kind: OutcomeKind
    """``later``: its host or the address itself is left alone until ``until``. ``unknown``: no record names it.
    ``barred``: its bytes were withdrawn."""
    id: ContentId | None = None
    size: int = 0
    reason: str = ""
    until: datetime | None = None
    media: tuple[str, ...] = ()
    """Media that have a new version."""
    dropped: int = 0
    """Copies that went to make room."""


class Download(Protocol):
    """The network: a blocking fetch into a file."""

    def __call__(self, url: str, sink: Callable[[bytes], object], *, etag: str, modified: str) -> Fetched:
        """As ``SafeFetcher.stream``."""
        ...


def safe_download(settings: Settings) -> Download:
    """The real one."""
    fetcher = SafeFetcher(
        limits=FetchLimits(
            max_bytes=_largest(settings), timeout_s=float(settings.remote.timeout_s), content_types=_TYPES
        ),
        insecure_loopback=settings.federation.insecure_loopback,
    )

    def download(url: str, sink: Callable[[bytes], object], *, etag: str, modified: str) -> Fetched:
        return asyncio.run(fetcher.stream(url, sink, if_none_match=etag, if_modified_since=modified))

    return download


class RemoteMedia:
    """The remote images of one node; thread-safe, blocking."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        blobs: BlobStore,
        *,
        clock: Callable[[], datetime],
        wait: Callable[[float], object],
        download: Download | None = None,
    ) -> None:
        self.bytes = RemoteBytes(blobs)
        self._settings = settings
        self._db = database
        self._blobs = blobs
        self._clock = clock
        self._wait = wait
        self._download = download or safe_download(settings)
        self._limits = Limits(max_pixels=settings.images.max_pixels, max_file_bytes=_largest(settings))
        self._locks = settings.folder / "data" / "fetching"
        self.sources = frozenset(name for name, source in settings.sources.items() if source.fetch == "on-need")

    # ------------------------------------------------------------------ asking
    def bring_back(self, cid: ContentId) -> bool:
        """Fetches bytes again that went to make room, for a job; waits. False when they cannot be had."""
        if self.bytes.is_here(cid):
            return True
        for source in self.bytes.sources_of(cid):
            for outcome in self.work([source.url]):
                if outcome.id == cid and outcome.kind in ("fetched", "kept"):
                    return True
        return False

    def addresses(self, source: str | None = None, *, kept: bool = False) -> Iterator[str]:
        """Addresses whose image is not here (or, with ``kept``, is), in the order of their media."""
        names = self.sources if source is None else self.sources & {source}
        seen: set[str] = set()
        last = ""
        while names:
            with self._db.reader(limit_s=None) as conn:
                rows = conn.execute(
                    """SELECT iri, source, locator, image, problem FROM medium WHERE iri > ? AND state = 'active'
                       AND locator LIKE 'http%' ORDER BY iri LIMIT 1000""",
                    (last,),
                ).fetchall()
            if not rows:
                return
            for row in rows:
                if row["source"] in names and row["locator"] not in seen and self.is_remote(row):
                    is_here = row["image"] is not None and self.bytes.is_here(ContentId.from_hex(row["image"]))
                    if is_here == kept:
                        seen.add(row["locator"])
                        yield row["locator"]
            last = rows[-1]["iri"]

    def is_remote(self, row: sqlite3.Row) -> bool:
        """Whether a medium lies at an address that may be asked, and its bytes, if known, came from there."""
        if row["source"] not in self.sources or row["problem"] is not None:
            return False
        if why_never_fetched(row["locator"], self._settings) or self._blobs.withdrawals.is_barred(row["locator"]):
            return False
        if row["image"] is None:
            return True
        cid = ContentId.from_hex(row["image"])
        known = self.bytes.find(row["locator"])
        return (known is not None and known.id is not None) or not self.bytes.is_here(cid)

    def is_left_alone(self, known: RemoteRow | None) -> bool:
        """Whether an address failed not long ago."""
        until = None if known is None else parse_stamp(known.not_before)
        return until is not None and until > self._clock()

    # ------------------------------------------------------------------ fetching
    def work(self, urls: Iterable[str], *, check: bool = False, again: bool = False) -> Iterator[Outcome]:
        """Fetches these addresses one after the other, hosts in turn; waits for their pauses up to a minute."""
        queues: dict[str, deque[str]] = {}
        for url in urls:
            queues.setdefault(host_of(url), deque()).append(url)
        ready: dict[str, datetime] = {}
        while queues:
            now = self._clock()
            host = min(queues, key=lambda name: ready.get(name, now))
            pause = ready.get(host, now) - now
            if pause > LONGEST_WAIT:
                for url in queues.pop(host):
                    yield Outcome(url=url, kind="later", reason=_PAUSED, until=ready[host])
                continue
            if pause > timedelta(0):
                self._wait(pause.total_seconds())
            url = queues[host].popleft()
            outcome = self.fetch(url, check=check, again=again)
            if outcome.kind == "later" and outcome.reason in (_BUSY, _PAUSED):
                queues[host].appendleft(url)
                ready[host] = outcome.until or now
                continue
            yield outcome
            until = parse_stamp(self.bytes.host_not_before(host))
            if until is not None:
                ready[host] = until
            if not queues[host]:
                del queues[host]

    def work_off_line(self, *, is_over: Callable[[], bool]) -> Iterator[Outcome]:
        """Fetches what somebody waits for, for as long as ``is_over`` says and somebody does; skips busy hosts."""
        while not is_over():
            paused: set[str] = set()
            progress = False
            for url in self.bytes.wanted(self._clock(), 1000):
                if is_over():
                    return
                if host_of(url) in paused:
                    continue
                outcome = self.fetch(url)
                if outcome.kind == "later":
                    paused.add(host_of(url))
                    continue
                progress = True
                paused.add(host_of(url))  # its pause begins
                yield outcome
            if not progress:
                return

    def fetch(self, url: str, *, check: bool = False, again: bool = False) -> Outcome:
        """Fetches one address if that may be done now.

        Args:
            url: the address.
            check: also if its image is here: is it still what the source holds?
            again: also if it failed not long ago.

        Raises:
            StoreFailed, DatabaseError: the disk refused; what is done stays done.
        """
        if self._blobs.withdrawals.is_barred(url):
            return Outcome(url=url, kind="barred", reason="its image was withdrawn")
        with self._db.reader(limit_s=None) as conn:
            media = [row for row in media_at(conn, url, self.sources) if self.is_remote(row)]
        if not media:
            self.bytes.forget([url])
            return Outcome(url=url, kind="unknown", reason="no record names this address")
        with self._host_lock(host_of(url)) as is_ours:
            now = self._clock()
            if not is_ours:
                return Outcome(url=url, kind="later", reason=_BUSY, until=now + timedelta(seconds=1))
            known = self.bytes.find(url)
            is_here = known is not None and known.id is not None and self.bytes.is_here(known.id)
            if is_here and not check:
                assert known is not None
                return self._publish_kept(url, known)
            until = parse_stamp(self.bytes.host_not_before(host_of(url)))
            if until is not None and until > now:
                return Outcome(url=url, kind="later", reason=_PAUSED, until=until)
            if known is not None and self.is_left_alone(known) and not again:
                until = parse_stamp(known.not_before)
                return Outcome(url=url, kind="later", reason=f"failed before: {known.reason}", until=until)
            return self._ask(url, known if is_here else None, failures=known.failures if known else 0)

    def _ask(self, url: str, kept: RemoteRow | None, *, failures: int) -> Outcome:
        """Asks the source; ``kept`` when its bytes are here, so that "unchanged" is an answer."""
        with tempfile.TemporaryFile(dir=self._blobs.folder / "staging") as file:
            pause = timedelta(seconds=self._settings.remote.pause_s)
            try:
                found = self._get(url, kept, file)
                outcome = self._store(url, found, file) if isinstance(found, Fetched) else found
            except NoRoom as error:
                outcome = Failure(reason=str(error), is_final=False)
            except BlobWithdrawn:
                self._bar(url)
                outcome = Outcome(url=url, kind="barred", reason="its image was withdrawn")
        now = self._clock()
        if isinstance(outcome, Failure):
            pause = max(pause, outcome.host_pause)
            until = next_attempt(outcome, failures=failures + 1, now=now)
            self.bytes.failed(
                url,
                reason=outcome.reason,
                not_before=until,
                keep_wanted=not outcome.is_final and failures + 1 < MOST_FAILURES,
            )
            outcome = Outcome(url=url, kind="failed", reason=outcome.reason, until=until)
        self.bytes.leave_host(host_of(url), until=now + pause, now=now)
        return outcome

    def _get(self, url: str, kept: RemoteRow | None, file: IO[bytes]) -> "Fetched | Failure | Outcome":
        try:
            answer = self._download(
                url, file.write, etag=kept.etag if kept else "", modified=kept.modified if kept else ""
            )
        except (FetchRefused, AnswerTooLarge) as error:
            return Failure(reason=str(error), is_final=True)
        except TransportError as error:
            is_silent = file.tell() == 0  # its other addresses would fare no better, each after the whole time limit
            return Failure(reason=str(error), is_final=False, host_pause=SILENT_PAUSE if is_silent else timedelta(0))
        verdict = judge_status(
            answer.status, retry_after=answer.headers.get("retry-after", ""), asked_whether_changed=kept is not None,
            now=self._clock(),
        )  # fmt: skip
        if isinstance(verdict, Failure):
            return verdict
        if verdict == "unchanged":
            assert kept is not None
            self.bytes.unchanged(url, now=self._clock())
            return Outcome(url=url, kind="unchanged", id=kept.id)
        return answer

    def _store(self, url: str, answer: Fetched, file: IO[bytes]) -> Outcome | Failure:
        size = file.tell()
        file.seek(0)
        try:
            read_header(file, size, self._limits)
        except ImageRefused as error:
            return Failure(reason=f"what the address gives is no image: {error}", is_final=True)
        file.seek(0)
        sha = hashlib.sha256()
        while chunk := file.read(_MIB):
            sha.update(chunk)
        cid = ContentId(sha.digest())
        with self._lock("room", wait=True):
            dropped = [] if self.bytes.is_here(cid) else self._keep(cid, size, file)
            before = self.bytes.fetched(
                url,
                cid,
                size,
                etag=answer.headers.get("etag", ""),
                modified=answer.headers.get("last-modified", ""),
                now=self._clock(),
            )
        media = self._publish(url, cid)
        return Outcome(
            url=url, kind="fetched" if before is None else "replaced", id=cid, size=size, media=media,
            dropped=len(dropped),
        )  # fmt: skip

    def _keep(self, cid: ContentId, size: int, file: IO[bytes]) -> list[ContentId]:
        dropped = self.bytes.make_room(self._settings.remote.budget_gib * _GIB, size, is_needed=self._is_needed)
        file.seek(0)
        chunks = iter(lambda: file.read(_MIB), b"")
        self._blobs.put_stream(chunks, now=self._clock(), max_bytes=_largest(self._settings), expected=cid)
        return dropped

    def _publish_kept(self, url: str, known: RemoteRow) -> Outcome:
        """The image is here: a kill may have come before it was published, or another medium names the address now."""
        assert known.id is not None
        media = self._publish(url, known.id)
        if known.wanted:
            self.bytes.unwant(url)
        return Outcome(url=url, kind="kept", id=known.id, size=known.size or 0, media=media)

    def _publish(self, url: str, cid: ContentId) -> tuple[str, ...]:
        def has_other_home(before: ContentId) -> bool:
            return self.bytes.is_here(before) and url not in self.bytes.former_sources(before)

        with self._db.reader(limit_s=None) as conn:
            media = media_at(conn, url, self.sources)
            if all(row["image"] == cid.hex for row in media):
                return ()
            wanted = [wanted_at(conn, cid, row["iri"]) for row in media]
        with self._blobs.open_blob(cid) as blob, open(blob.fd, "rb", closefd=False) as stream:
            header = read_header(stream, blob.size, self._limits)
            size = blob.size
        found = MediumBytes(
            content_id=cid, size_bytes=size, width=header.width, height=header.height, format=header.media_type
        )
        now = self._clock()
        looked = PublicOriginals(self._settings, self._db, self._blobs).look(wanted, now=now)
        with self._db.transaction() as conn:
            keep(conn, looked, now=now)
            return publish_fetched(
                conn, url, found, origin=self._settings.origin, sources=self.sources, has_other_home=has_other_home,
                withheld_for=self._settings.images.originals_withheld_for,
                queues=bool(self._settings.jobs.on_new_images), now=now,
            ).media  # fmt: skip

    def _bar(self, url: str) -> None:
        """The address gave bytes that were withdrawn under another name."""
        self._blobs.withdrawals.bar(url, new_key=secrets.token_bytes(32))
        with self._db.transaction() as conn:
            close_media(conn, url, WITHDRAWN_PROBLEM, origin=self._settings.origin, sources=self.sources,
                        now=self._clock())  # fmt: skip

    def _is_needed(self, cid: ContentId) -> bool:
        """Whether a medium that cannot be fetched again shows these bytes, now or in an older version."""
        addresses = {source.url for source in self.bytes.sources_of(cid)} | set(self.bytes.former_sources(cid))
        with self._db.reader(limit_s=None) as conn:
            rows = conn.execute(
                """SELECT source, locator FROM medium WHERE image = ?1 AND state = 'active'
                   UNION SELECT m.source, m.locator FROM medium_version v JOIN medium m ON m.iri = v.iri
                   WHERE v.image = ?1 AND m.state = 'active'""",
                (cid.hex,),
            ).fetchall()
        return any(row["source"] not in self.sources or row["locator"] not in addresses for row in rows)

    def _host_lock(self, host: str) -> contextlib.AbstractContextManager[bool]:
        """Held by one fetch of a host at a time; hosts that share a number wait for each other, which harms nobody."""
        number = int.from_bytes(hashlib.sha256(host.encode()).digest()[:4]) % _LOCKS
        return self._lock(f"{number:02d}", wait=False)

    @contextlib.contextmanager
    def _lock(self, name: str, *, wait: bool) -> Iterator[bool]:
        """One at a time over threads and processes; False when another has it and ``wait`` is off."""
        self._locks.mkdir(exist_ok=True)
        descriptor = os.open(self._locks / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(descriptor)


_BUSY: Final = "another fetch from this host is under way"
_PAUSED: Final = "the host is left alone for a while"


def _largest(settings: Settings) -> int:
    budget = settings.remote.budget_gib * _GIB or settings.images.max_file_bytes
    return min(settings.remote.max_file_mib * _MIB, settings.images.max_file_bytes, budget)


__all__ = ["Download", "Outcome", "RemoteMedia", "safe_download"]
