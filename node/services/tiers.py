"""The tiers of a node: which places its settings name, and the work on them in the background.

Restores come first, because somebody waits for each; then the rules of the settings are applied; then copies are read
again. All of it lives from the index, so that a slice that is lost is done by a later one.

Credentials of a bucket come from ``keys/tier-NAME.toml`` (readable by its owner only) or from ``AWS_ACCESS_KEY_ID``,
``AWS_SECRET_ACCESS_KEY`` and ``AWS_SESSION_TOKEN`` of the environment, never from ``node.toml``, which is shown around.

It leaves out: what a move does (``cas.tiering``), when slices run (``node.app``).
"""

import threading
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cas.errors import BlobArchived, BlobNotFound, StoreFailed, TierFailed
from cas.ids import ContentId
from cas.pace import Pace
from cas.scrub import ScrubResult
from cas.store import BlobStore
from cas.tier import Tier, UnusableTier
from cas.tier_care import scrub_tier
from cas.tier_folder import FolderTier
from cas.tiering import Restore, Rule, Tiering
from cas.used import UsedDays
from node.config import ConfigError, Settings, TierSettings

_MIB: Final = 1 << 20
RETRY_AFTER_S: Final = 60
"""What a client that waits for a restore is told."""
FAILED_RETRY_S: Final = 3600
REST_AFTER_FAILURE_S: Final = 300.0
"""A tier that could not be used, and a full disk, are left alone for so long by the work in the background."""
_RESTORES: Final = ""
"""Stands for the store itself among the names of tiers."""


class TierWorkStopped(Exception):
    """The node is ending: what is being copied is left for another time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TierSlice:
    """What one slice of work did."""

    moved: int
    bad: tuple[ScrubResult, ...]
    problems: tuple[str, ...]


def open_tiering(
    settings: Settings, store: BlobStore, *, clock: Callable[[], datetime], environ: Mapping[str, str]
) -> Tiering:
    """The tiers of these settings; connects to nothing yet.

    A bucket without credentials or library is there all the same, and says what it lacks when it is used.
    """
    return Tiering(
        store, {name: _open(settings, name, tier, environ) for name, tier in settings.tiers.items()}, clock=clock
    )


def rule_of(tier: TierSettings) -> Rule:
    """The rule as the store understands it."""
    return Rule(
        older_than=timedelta(days=tier.older_than_days) if tier.older_than_days else None,
        unused=timedelta(days=tier.unused_days) if tier.unused_days else None,
        larger_than=tier.larger_than_mib * _MIB,
    )


def _open(settings: Settings, name: str, tier: TierSettings, environ: Mapping[str, str]) -> Tier:
    if tier.path:
        return FolderTier(settings.folder / tier.path)
    try:
        from cas.tier_s3 import Bucket, S3Tier

        key_id, secret, token = _credentials(settings, name, environ)
        return S3Tier(
            Bucket(
                name=tier.bucket, endpoint=tier.endpoint.rstrip("/"), region=tier.region, prefix=tier.prefix,
                access_key_id=key_id, secret_access_key=secret, session_token=token,
            )
        )  # fmt: skip
    except (TierFailed, ConfigError) as error:
        return UnusableTier(f"s3://{tier.bucket} at {tier.endpoint}", str(error))


def _credentials(settings: Settings, name: str, environ: Mapping[str, str]) -> tuple[str, str, str]:
    path = settings.folder / "keys" / f"tier-{name}.toml"
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"{path} can be read by others: run chmod 600 {path}")
        found = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        found = {
            "access_key_id": environ.get("AWS_ACCESS_KEY_ID", ""),
            "secret_access_key": environ.get("AWS_SECRET_ACCESS_KEY", ""),
            "session_token": environ.get("AWS_SESSION_TOKEN", ""),
        }
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    values = [found.get(key, "") for key in ("access_key_id", "secret_access_key", "session_token")]
    if not all(isinstance(value, str) for value in values) or not (values[0] and values[1]):
        raise ConfigError(
            f"no credentials: write access_key_id and secret_access_key into {path} (chmod 600),"
            " or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return values[0], values[1], values[2]


def prepare(tiering: Tiering, store: BlobStore, name: str) -> None:
    """Readies a tier for copies: marks an empty folder at its first use, and removes what killed copies left in it.

    Raises:
        TierFailed: it cannot be used, or was in use and is not there now (a drive that is not mounted).
    """
    tier = tiering.tiers[name]
    if not isinstance(tier, FolderTier):
        return
    with tiering.lock():
        if not tier.is_marked() and not store.index.select("SELECT 1 FROM tier_location WHERE tier = ? LIMIT 1", name):
            tier.mark()
        tier.sweep_staging()


class TierWork:
    """What one process does about tiers while it serves."""

    def __init__(
        self,
        store: BlobStore,
        tiering: Tiering,
        settings: Settings,
        *,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self._store = store
        self.tiering = tiering
        self.used = UsedDays(store.index, clock=clock)
        self._settings = settings
        self._clock = clock
        self._monotonic = monotonic
        self._ending = threading.Event()
        self._sleep = wait or self._ending.wait
        self._resting: dict[str, float] = {}
        self._paces = {
            name: Pace(tier.max_mib_s * _MIB, clock=monotonic, wait=self._wait)
            for name, tier in settings.tiers.items()
        }  # fmt: skip

    def saw(self, cid: ContentId) -> None:
        """These bytes were asked for; returns at once."""
        if self._paces:
            self.used.saw(cid)

    def ask(self, cid: ContentId) -> Restore | None:
        """Asks for archived bytes; None when too many wait already. Blocking.

        Raises:
            StoreFailed: the index could not be written.
        """
        return self.tiering.ask(cid)

    def ask_for_job(self, cid: ContentId) -> None:
        """Asks for bytes that a job needs, and always raises: the reason why they cannot be read now.

        Raises:
            BlobArchived: they will come; the unit waits.
            TierFailed: they cannot be had.
        """
        asked = self.ask(cid)
        if asked is not None and asked.state == "failed":
            raise TierFailed(f"{cid} could not be brought back from the archive: {asked.reason}")
        raise BlobArchived(cid)

    def run_restores(self) -> TierSlice:
        """Brings back what was asked for; blocking. When the disk refuses, it stays asked for, after a rest.

        Raises:
            StoreFailed: the index cannot be read.
        """
        problems: list[str] = []
        moved = 0
        if self._monotonic() < self._resting.get(_RESTORES, 0.0):
            return TierSlice(moved=0, bad=(), problems=())
        try:
            for cid in self.tiering.due():
                try:
                    self.tiering.restore(cid, took=self._took_none)
                    moved += 1
                except TierFailed as error:
                    problems.append(f"{cid.hex} could not be brought back: {error}")
                except BlobNotFound:
                    continue  # it was collected or withdrawn since somebody asked
                except StoreFailed as error:
                    self._resting[_RESTORES] = self._monotonic() + REST_AFTER_FAILURE_S
                    problems.append(f"{cid.hex} could not be brought back, it is tried again: {error}")
                    break
        except TierWorkStopped:
            pass
        return TierSlice(moved=moved, bad=(), problems=tuple(problems))

    def run_slice(self, seconds: float) -> TierSlice:
        """Notes what was used, applies the rules, reads copies again, for about so long; blocking.

        Raises:
            StoreFailed: the index cannot be used.
        """
        until = self._monotonic() + seconds
        self.used.flush()
        moved, bad, problems = 0, list[ScrubResult](), list[str]()

        def is_over() -> bool:
            return self._ending.is_set() or self._monotonic() >= until

        try:
            for name, tier in self._settings.tiers.items():
                if is_over() or self._monotonic() < self._resting.get(name, 0.0):
                    continue
                try:
                    moved += self._apply_rule(name, tier, is_over)
                    bad += self._scrub(name, tier, is_over)
                except TierFailed as error:
                    self._resting[name] = self._monotonic() + REST_AFTER_FAILURE_S
                    problems.append(f"tier {name}: {error}")
        except TierWorkStopped:
            pass
        return TierSlice(moved=moved, bad=tuple(bad), problems=tuple(problems))

    def _apply_rule(self, name: str, tier: TierSettings, is_over: Callable[[], bool]) -> int:
        if not tier.moves_by_itself:
            return 0
        moved, is_ready = 0, False
        for cid, _ in self.tiering.candidates(rule_of(tier)):
            if is_over():
                break
            if not is_ready:
                prepare(self.tiering, self._store, name)
                is_ready = True
            moved += self.tiering.move(cid, name, took=self._paces[name].took) == "moved"
        return moved

    def _scrub(self, name: str, tier: TierSettings, is_over: Callable[[], bool]) -> list[ScrubResult]:
        if not tier.scrub_days:
            return []
        found = scrub_tier(
            self.tiering, self._store, name, clock=self._clock, took=self._paces[name].took, should_stop=is_over,
            older_than=self._clock() - timedelta(days=tier.scrub_days),
        )  # fmt: skip
        bad = [item for item in found if item.verdict != "good"]
        for item in bad:
            if item.verdict == "volume":
                raise TierFailed(item.reason)
        return bad

    def stop(self) -> None:
        """Ends a slice that is running soon."""
        self._ending.set()

    def _took_none(self, _count: int) -> None:
        """People wait for a restore: it has no limit, and ends when the node does."""
        if self._ending.is_set():
            raise TierWorkStopped

    def _wait(self, seconds: float) -> None:
        self._sleep(seconds)
        if self._ending.is_set():
            raise TierWorkStopped
