"""The node's own descriptor: built from settings, database and running pipelines, signed, and kept.

Invariants:
- The sequence number never goes back, also not after a restore: it is at least the time in seconds since 1970.
- A new one is made when what it says has changed, or when half of its life is over; otherwise the old bytes are served.
"""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from federation.identity import SigningKey, kid_of, parse_kid
from linkeddata.canon import digest_text
from linkeddata.descriptor import Holdings, NodeDescriptor, NodeKey, PolicySummary, parse_node_descriptor
from linkeddata.envelope import NODE_DESCRIPTOR, Envelope, parse_envelope, seal
from linkeddata.errors import DocumentError
from linkeddata.json_strict import parse_json
from linkeddata.selection import Selection
from node.access import ANONYMOUS
from node.config import Settings
from node.services.job_rules import OfferedPipeline, policy_from
from node.storage.db import Database
from node.storage.search import count
from node.storage.search_index import HAS_IMAGE

LIFETIME: Final = timedelta(days=7)
"""A week: long enough for a registry that is down, short enough that a node that is gone disappears."""
_SEQ: Final = "descriptor_seq"
_ENVELOPE: Final = "descriptor"
_MAX_KINGDOMS: Final = 50


class DescriptorService:
    """Serves the current descriptor."""

    def __init__(
        self,
        *,
        database: Database,
        settings: Settings,
        identity: SigningKey,
        offers: Callable[[], Sequence[OfferedPipeline]],
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._settings = settings
        self._identity = identity
        self._offers = offers
        self._clock = clock

    async def current(self) -> Envelope:
        """The descriptor to serve now."""
        now = self._clock()
        draft = await self._database.read(lambda conn: self._draft(conn, now))
        kept = await self._database.read(_kept)
        if kept is not None and _still_good(kept, draft, self._identity.kid, now):
            return kept
        return await self._database.write(lambda conn: self._renew(conn, draft, now))

    def _renew(self, conn: sqlite3.Connection, draft: NodeDescriptor, now: datetime) -> Envelope:
        kept = _kept(conn)
        if kept is not None and _still_good(kept, draft, self._identity.kid, now):
            return kept  # another request was first
        row = conn.execute("SELECT value FROM meta WHERE key = ?", (_SEQ,)).fetchone()
        seq = max(int(row[0]) + 1 if row is not None else 1, int(now.timestamp()))
        envelope = seal(replace(draft, seq=seq).to_json(), payload_type=NODE_DESCRIPTOR, signers=[self._identity])
        text = _dump(envelope)
        conn.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", [(_SEQ, str(seq)), (_ENVELOPE, text)])
        return envelope

    def _draft(self, conn: sqlite3.Connection, now: datetime) -> NodeDescriptor:
        settings = self._settings
        policy = policy_from(settings.policy)
        keys = [NodeKey(kid=self._identity.kid, public_key=self._identity.public_key_b64, purpose="sign")]
        recovery = _recovery_key(settings)
        if recovery is not None:
            keys.append(recovery)
        return NodeDescriptor(
            origin=settings.origin,
            name=settings.node.name,
            contact=settings.node.contact,
            seq=1,
            issued=now,
            expires=now + LIFETIME,
            keys=tuple(keys),
            pipelines=tuple(offer.to_offer() for offer in self._offers()),
            policy=PolicySummary(preset=policy.preset, rules=tuple(text[:600] for text in policy.readable()[:100])),
            holdings=holdings(conn, now=now),
            insecure_loopback=settings.federation.insecure_loopback,
        )


def holdings(conn: sqlite3.Connection, *, now: datetime) -> Holdings:
    """Public numbers: private specimens and media are not in them."""
    specimens = count(conn, Selection(), ANONYMOUS)
    media = conn.execute(
        f"SELECT count(*) FROM medium m WHERE access < 2 AND state = 'active' AND {HAS_IMAGE}"  # noqa: S608 - a constant
    ).fetchone()[0]
    rows = conn.execute(
        """SELECT kingdom, count(*) FROM specimen_facet WHERE +n > 0 AND kingdom IS NOT NULL
           GROUP BY kingdom ORDER BY count(*) DESC LIMIT ?""",
        (_MAX_KINGDOMS,),
    ).fetchall()
    kingdoms = {str(row[0])[:100]: int(row[1]) for row in rows}
    digest = digest_text({"specimens": specimens, "media": media, "kingdoms": kingdoms})
    return Holdings(specimens=specimens, media=media, digest=digest, kingdoms=kingdoms, updated=now)


def _kept(conn: sqlite3.Connection) -> Envelope | None:
    row = conn.execute("SELECT value FROM meta WHERE key = ?", (_ENVELOPE,)).fetchone()
    if row is None:
        return None
    try:
        return parse_envelope(row[0])
    except DocumentError:
        return None


def _still_good(kept: Envelope, draft: NodeDescriptor, kid: str, now: datetime) -> bool:
    try:
        old = parse_node_descriptor(parse_json(kept.payload))
    except DocumentError:
        return False
    if all(signature.kid != kid for signature in kept.signatures):
        return False
    same = replace(
        draft, seq=old.seq, issued=old.issued, expires=old.expires,
        holdings=replace(draft.holdings, updated=old.holdings.updated),
    )  # fmt: skip
    return same == replace(old, extra={}) and old.issued <= now < old.issued + (old.expires - old.issued) / 2


def _recovery_key(settings: Settings) -> NodeKey | None:
    try:
        text = (settings.key_path.parent / "recovery.pub").read_text("ascii").strip()
        kid = f"ed25519:{text}"
        if kid_of(parse_kid(kid).public_bytes_raw()) != kid:
            return None
    except (OSError, UnicodeDecodeError, DocumentError):
        return None
    return NodeKey(kid=kid, public_key=text, purpose="recovery")


def _dump(envelope: Envelope) -> str:
    import json

    return json.dumps(envelope.to_json(), separators=(",", ":"))
