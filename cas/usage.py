"""How much a store holds, and where; counted from the index, so that no tree is walked."""

from dataclasses import dataclass

from cas.store import BlobStore
from cas.tier import TIER_VOLUME


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceUsage:
    """One volume, the owned bytes, or a tier."""

    name: str
    """Empty: owned; ``tier:NAME``: copies in a tier."""
    root: str
    files: int
    bytes: int
    unchecked: int
    """Files that were not read whole since they were indexed or moved."""
    quarantined: int
    listed: int
    listed_bytes: int


def usage(store: BlobStore) -> list[PlaceUsage]:
    """Owned bytes first, then every volume, then every tier."""
    counted = {
        row["volume"]: row
        for row in store.index.select(
            """SELECT volume, count(*) AS files, sum(size) AS bytes, sum(checked = '') AS unchecked
               FROM location GROUP BY 1"""
        )
    }
    bad = {row[0]: row[1] for row in store.index.select("SELECT volume, count(*) FROM quarantine GROUP BY 1")}
    listed = {
        row["volume"]: row
        for row in store.index.select("SELECT volume, count(*) AS files, sum(size) AS bytes FROM listed GROUP BY 1")
    }
    for row in store.index.select(
        """SELECT ? || tier AS volume, count(*) AS files, sum(size) AS bytes, 0 AS unchecked
           FROM tier_location WHERE stored <> '' GROUP BY 1""",
        TIER_VOLUME,
    ):
        counted[row["volume"]] = row
    roots = {"": str(store.folder / "owned")} | {
        name: str(volume.root) for name, volume in store.index.volumes().items()
    }
    for name in (*counted, *listed):
        roots.setdefault(name, "")
    return [
        PlaceUsage(
            name=name, root=root, files=counted[name]["files"] if name in counted else 0,
            bytes=counted[name]["bytes"] if name in counted else 0,
            unchecked=counted[name]["unchecked"] if name in counted else 0, quarantined=bad.get(name, 0),
            listed=listed[name]["files"] if name in listed else 0,
            listed_bytes=listed[name]["bytes"] if name in listed else 0,
        )
        for name, root in roots.items()
    ]  # fmt: skip
