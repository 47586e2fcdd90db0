"""``node.toml`` as typed settings.

Owns: reading the file, its defaults and its limits. ``node.toml`` at the top of the repository is the reference.

Invariants:
- An unknown key is an error that names the nearest known key; a wrong type names the key and what was expected.
- Settings are frozen; units are part of the names.
- Nothing here touches the network or creates a file.
- The list of sensitive taxa that the settings name is read with them; one that cannot be read is an error.

It leaves out: secrets (the keys folder) and everything that changes while the node runs (the database).
"""

import ipaddress
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from linkeddata import sensitive_list, sensitive_taxa
from linkeddata.variants import Policy
from node.config_pipelines import check_pipelines
from node.config_tables import ConfigError as ConfigError  # noqa: PLC0414 - whoever reads settings meets it here
from node.config_tables import build, nearest

MOST_PROCESSES: Final = 64
"""More than this is a mistake: each is an interpreter of about 100 MB, and one per core is enough."""
TILE_SIZES: Final = (256, 512, 1024)
"""Tiles of pyramids: viewers ask for one request per tile, and TIFF wants multiples of 16."""
MAX_TOML_BYTES: Final = 1_048_576
"""A settings file larger than this is a mistake (a data file was named)."""
MAX_LIST_BYTES: Final = 16_777_216
"""A list of 100,000 taxa has about 8 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSection:
    """Who this node is."""

    name: str
    public_url: str
    contact: str = ""
    organisation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSection:
    """Where it listens."""

    host: str = "127.0.0.1"
    port: int = 8080
    max_body_bytes: int = 1_048_576
    trusted_proxies: tuple[str, ...] = ()
    robots: Literal["polite", "none", "all"] = "polite"
    accel: Literal["", "nginx"] = ""
    processes: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsSection:
    """What strangers may take; 0 is no limit."""

    requests_per_minute: int = 1200
    bytes_per_day: int = 107_374_182_400
    concurrent: int = 32
    known_requests_per_minute: int = 6000
    all_requests_per_minute: int = 0
    all_bytes_per_day: int = 0
    all_concurrent: int = 1000
    at_work: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class FederationSection:
    """Whom it knows."""

    registries: tuple[str, ...] = ()
    insecure_loopback: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagesSection:
    """Limits for pictures."""

    max_pixels: int = 400_000_000
    max_file_bytes: int = 4_294_967_296
    preview_px: int = 1600
    anonymous_max_px: int = 0
    restricted_thumbnail_px: int = 0
    sensitive_images: Literal["none", "small", "redacted"] = "none"
    sensitive_px: int = 200
    originals_withheld_for: Literal["nothing", "places", "all"] = "places"
    max_output_pixels: int = 25_000_000
    tile_px: int = 512
    pyramids: Literal["first-zoom", "ingest"] = "first-zoom"
    pyramids_max_bytes: int = 200_000_000_000
    decoders: int = 2
    cutters: int = 2

    @property
    def most_of_sensitive_px(self) -> int:
        """The longest side at which images of sensitive taxa are shown; 0: they are not shown."""
        return self.sensitive_px if self.sensitive_images == "small" else 0

    @property
    def shows_redacted(self) -> bool:
        """Whether pictures of sensitive taxa are given out with their labels blacked out."""
        return self.sensitive_images == "redacted"


@dataclass(frozen=True, slots=True, kw_only=True)
class CareSection:
    """How the node looks after bytes in the background."""

    scrub_days: int = 90
    scrub_mib_s: int = 20
    leaf_tables: Literal["first-need", "background"] = "first-need"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteSection:
    """Images of sources with ``fetch = "on-need"``: kept as copies of what lies elsewhere."""

    budget_gib: int = 50
    max_file_mib: int = 512
    timeout_s: int = 120
    pause_s: int = 1
    anonymous_may_fetch: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsSection:
    """What it computes, and how."""

    pipelines: tuple[str, ...] = ("label-text", "barcode", "quality")
    on_new_images: tuple[str, ...] = ()
    rerun_hours: int = 0
    workers: int = 1
    batch: int = 4
    unit_timeout_s: int = 120
    lease_s: int = 600
    worker_memory_mib: int = 6144
    require_isolation: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRule:
    """One rule of the policy, as written."""

    decide: Literal["accept", "hold", "refuse"]
    requesters: tuple[str, ...] = ("enrolled",)
    steps: tuple[str, ...] = ()
    access: tuple[Literal["open", "restricted", "private"], ...] = ()
    max_images: int | None = None
    granularity: Literal["boolean", "count", "record"] = "record"
    publish: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySection:
    """What researchers may ask."""

    preset: Literal["closed", "reading", "open"] = "closed"
    hold_expires_s: int = 1_209_600
    rules: tuple[PolicyRule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRule:
    """Where the file of a media row lies."""

    match: str
    path: str
    field: Literal["identifier", "catalogNumber"] = "identifier"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRule:
    """The access class of records whose field matches."""

    field: str
    match: str
    access: Literal["open", "restricted", "private"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """One source of records."""

    path: str = ""
    licence: str = ""
    access: Literal["", "open", "restricted", "private"] = ""
    key: tuple[str, ...] = ()
    fetch: Literal[False, True, "on-need"] = False
    identity: Literal["inode", "size+mtime"] = "inode"
    every_hours: int = 0
    variants: Policy = "found"
    files: tuple[FileRule, ...] = ()
    rules: tuple[AccessRule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewSection:
    """How statements about images are looked at."""

    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectionColumn:
    """One column of the file for the collection system."""

    field: str
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectionsSection:
    """The file for the collection system."""

    columns: tuple[CorrectionColumn, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSettings:
    """A tree of the institution's files with a name of its own."""

    root: str
    identity: Literal["inode", "size+mtime"] = "inode"
    max_read_mib_s: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TierSettings:
    """Another place for own copies: a folder or a bucket, and what moves there by itself."""

    path: str = ""
    bucket: str = ""
    endpoint: str = ""
    region: str = "us-east-1"
    prefix: str = ""
    older_than_days: int = 0
    unused_days: int = 0
    larger_than_mib: int = 0
    scrub_days: int = 365
    max_mib_s: int = 0

    @property
    def moves_by_itself(self) -> bool:
        """Whether a rule is stated."""
        return bool(self.older_than_days or self.unused_days or self.larger_than_mib)


@dataclass(frozen=True, slots=True, kw_only=True)
class SensitiveTaxon:
    """One entry of the list of sensitive taxa."""

    value: str
    field: Literal["scientificName", "genus", "family", "order", "class"] = "scientificName"
    category: int = 2
    region: str = ""
    synonyms: tuple[str, ...] = ()
    reason: str = ""

    @property
    def rule(self) -> sensitive_taxa.SensitiveRule:
        """As what decides about rows."""
        return sensitive_taxa.SensitiveRule(
            term=f"dwc:{self.field}", value=self.value, category=self.category, synonyms=self.synonyms,
            region=self.region, reason=self.reason,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtectionSection:
    """Where the list of sensitive taxa is kept."""

    taxa_file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything in ``node.toml``, plus the folder it lies in."""

    folder: Path
    node: NodeSection
    server: ServerSection = field(default_factory=ServerSection)
    limits: LimitsSection = field(default_factory=LimitsSection)
    federation: FederationSection = field(default_factory=FederationSection)
    images: ImagesSection = field(default_factory=ImagesSection)
    care: CareSection = field(default_factory=CareSection)
    remote: RemoteSection = field(default_factory=RemoteSection)
    jobs: JobsSection = field(default_factory=JobsSection)
    policy: PolicySection = field(default_factory=PolicySection)
    review: ReviewSection = field(default_factory=ReviewSection)
    corrections: CorrectionsSection = field(default_factory=CorrectionsSection)
    volumes: Mapping[str, VolumeSettings] = field(default_factory=dict)
    tiers: Mapping[str, TierSettings] = field(default_factory=dict)
    sources: Mapping[str, SourceSettings] = field(default_factory=dict)
    protection: ProtectionSection = field(default_factory=ProtectionSection)
    sensitive: tuple[SensitiveTaxon, ...] = ()
    listed: tuple[sensitive_taxa.SensitiveRule, ...] = ()
    """Of the file that ``protection.taxa_file`` names; not a key of node.toml."""

    @property
    def sensitive_rules(self) -> tuple[sensitive_taxa.SensitiveRule, ...]:
        """Every rule about sensitive taxa, of node.toml and of the file it names."""
        return (*(taxon.rule for taxon in self.sensitive), *self.listed)

    @property
    def database_path(self) -> Path:
        """The node's database."""
        return self.folder / "data" / "node.sqlite"

    @property
    def blobs_path(self) -> Path:
        """The blob store."""
        return self.folder / "data" / "blobs"

    @property
    def models_path(self) -> Path:
        """Where plugged models lie, each in a folder of its name."""
        return self.folder / "models"

    @property
    def derived_path(self) -> Path:
        """Previews and other things that can be made again."""
        return self.folder / "data" / "derived"

    @property
    def key_path(self) -> Path:
        """The node's signing key."""
        return self.folder / "keys" / "node.key"

    @property
    def lock_path(self) -> Path:
        """Held by the serving process."""
        return self.folder / "data" / "lock"

    @property
    def channel_path(self) -> Path:
        """The folder of the socket by which the processes of the node speak with each other."""
        return self.folder / "data" / "channel"

    @property
    def origin(self) -> str:
        """The public origin without a trailing slash; the start of every IRI."""
        return self.node.public_url.rstrip("/")


def load_settings(folder: Path) -> Settings:
    """Reads ``folder/node.toml``.

    Raises:
        ConfigError: the file is missing or says something it must not.
    """
    path = folder / "node.toml"
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise ConfigError(f"{path} does not exist: run `vasculum init {folder}` first") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    if len(raw) > MAX_TOML_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_TOML_BYTES} bytes: this is not a settings file")
    try:
        document = tomllib.loads(raw.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    return parse_settings(document, folder.resolve())


def parse_settings(document: Mapping[str, Any], folder: Path) -> Settings:
    """A parsed TOML document as settings, checked as a whole."""
    if "node" not in document:
        raise ConfigError("node.toml needs a table [node] with name and public_url")
    settings: Settings = build(Settings, {"folder": folder, **document}, "")
    settings = replace(settings, listed=_read_list(settings))
    _check(settings)
    return settings


def _read_list(settings: Settings) -> tuple[sensitive_taxa.SensitiveRule, ...]:
    """The list of sensitive taxa that node.toml names: a node whose list cannot be read does not start."""
    if not settings.protection.taxa_file:
        return ()
    path = settings.folder / settings.protection.taxa_file
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_LIST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"[protection] taxa_file: {path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_LIST_BYTES:
        raise ConfigError(
            f"[protection] taxa_file: {path} is larger than {MAX_LIST_BYTES} bytes: this is no list of taxa"
        )
    try:
        return sensitive_list.parse_sensitive_list(data, str(path))
    except sensitive_list.SensitiveListError as error:
        raise ConfigError(f"[protection] taxa_file: {error}") from error


def _check_shown_sizes(images: ImagesSection) -> None:
    if images.restricted_thumbnail_px < 0:
        raise ConfigError("images.restricted_thumbnail_px must be 0 (none) or larger")
    if not 16 <= images.sensitive_px <= 400:
        raise ConfigError("[images] sensitive_px must be 16 to 400: on larger pictures labels can be read")


def _check(settings: Settings) -> None:
    _check_care(settings)
    _check_remote(settings.remote)
    _check_tiers(settings)
    check_public_url(settings.node.public_url, insecure_loopback=settings.federation.insecure_loopback)
    if settings.federation.insecure_loopback and not _is_loopback(settings.server.host):
        raise ConfigError('[federation] insecure_loopback binds to this machine only: set [server] host = "127.0.0.1"')
    if not 0 <= settings.server.port <= 65535:
        raise ConfigError("[server] port must be 0 to 65535")
    check_pipelines(settings.jobs, settings.models_path)
    positive = {
        "server.max_body_bytes": settings.server.max_body_bytes,
        "images.max_pixels": settings.images.max_pixels,
        "images.max_file_bytes": settings.images.max_file_bytes,
        "images.preview_px": settings.images.preview_px,
        "images.max_output_pixels": settings.images.max_output_pixels,
        "images.pyramids_max_bytes": settings.images.pyramids_max_bytes,
        "images.decoders": settings.images.decoders,
        "images.cutters": settings.images.cutters,
        "jobs.workers": settings.jobs.workers,
        "jobs.batch": settings.jobs.batch,
        "jobs.unit_timeout_s": settings.jobs.unit_timeout_s,
        "jobs.lease_s": settings.jobs.lease_s,
        "jobs.worker_memory_mib": settings.jobs.worker_memory_mib,
        "policy.hold_expires_s": settings.policy.hold_expires_s,
    }
    for key, value in positive.items():
        if value <= 0:
            raise ConfigError(f"{key} must be larger than 0")
    _check_visitors(settings)
    for name, source in settings.sources.items():
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name):
            raise ConfigError(f"[sources.{name}]: a source is named with lower-case letters, digits, - and _")
        for pattern in (*(rule.match for rule in source.files), *(rule.match for rule in source.rules)):
            _check_regex(pattern, f"sources.{name}")
        if source.every_hours < 0:
            raise ConfigError(f"sources.{name}.every_hours must be 0 (never by itself) or larger")
        if source.every_hours and not source.path:
            raise ConfigError(f"[sources.{name}] every_hours needs a path: what is to be read again")
    _check_columns(settings.corrections.columns)
    for taxon in settings.sensitive:
        try:
            sensitive_list.check_rule(taxon.rule, "[[sensitive]]")
        except sensitive_list.SensitiveListError as error:
            raise ConfigError(str(error)) from error


CORRECTION_FIELDS: Final = (
    "occurrenceID", "catalogNumber", "institutionCode", "collectionCode", "source", "key", "field", "old", "new",
    "evidence", "pipeline", "score", "reviewer", "date", "status", "annotation", "number",
)  # fmt: skip
"""What can stand in the file for the collection system, in the order of the file when nothing is set."""


def _check_columns(columns: tuple[CorrectionColumn, ...]) -> None:
    names = [column.name or column.field for column in columns]
    for column in columns:
        if column.field not in CORRECTION_FIELDS and not re.fullmatch(r"[a-z]+:[A-Za-z]+", column.field):
            raise ConfigError(
                f"[[corrections.columns]] field: {column.field!r} is not one of {', '.join(CORRECTION_FIELDS)}, "
                "nor a term such as dwc:recordNumber" + nearest(column.field, CORRECTION_FIELDS)
            )
    if len(set(names)) != len(names):
        raise ConfigError("[[corrections.columns]]: two columns have the same name")


def _check_remote(remote: RemoteSection) -> None:
    for key, value in (("budget_gib", remote.budget_gib), ("pause_s", remote.pause_s)):
        if value < 0:
            raise ConfigError(f"remote.{key} must be 0 or larger")
    for key, value in (("max_file_mib", remote.max_file_mib), ("timeout_s", remote.timeout_s)):
        if value <= 0:
            raise ConfigError(f"remote.{key} must be larger than 0")


def _check_care(settings: Settings) -> None:
    if settings.care.scrub_days < 0 or settings.care.scrub_mib_s < 0:
        raise ConfigError("care.scrub_days and care.scrub_mib_s must be 0 (off) or larger")
    for name, volume in settings.volumes.items():
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name):
            raise ConfigError(f"[volumes.{name}]: a volume is named with lower-case letters, digits, - and _")
        if not volume.root or volume.max_read_mib_s < 0:
            raise ConfigError(f"[volumes.{name}] needs a root, and max_read_mib_s must be 0 (no limit) or larger")


def _check_tiers(settings: Settings) -> None:
    for name, tier in settings.tiers.items():
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name) or name == "active":
            raise ConfigError(
                f'[tiers.{name}]: a tier is named with lower-case letters, digits, - and _, and not "active"'
            )
        if bool(tier.path) == bool(tier.bucket):
            raise ConfigError(f"[tiers.{name}] needs either a path (a folder) or a bucket")
        for key in ("older_than_days", "unused_days", "larger_than_mib", "scrub_days", "max_mib_s"):
            if getattr(tier, key) < 0:
                raise ConfigError(f"tiers.{name}.{key} must be 0 (off) or larger")
        if tier.bucket:
            _check_bucket(name, tier)


def _check_bucket(name: str, tier: TierSettings) -> None:
    parts = urlsplit(tier.endpoint)
    try:
        has_port_problem = parts.port == 0
    except ValueError:
        has_port_problem = True
    if has_port_problem or parts.username or parts.query or not parts.hostname or parts.scheme not in ("http", "https"):
        raise ConfigError(
            f"[tiers.{name}] endpoint must be the address of the service, such as https://s3.example.org;"
            " access keys never stand in node.toml"
        )
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ConfigError(f"[tiers.{name}] endpoint must begin with https:// (http only for a service on this machine)")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", tier.bucket):
        raise ConfigError(f"[tiers.{name}] bucket: {tier.bucket!r} is not the name of a bucket")
    if tier.prefix and not re.fullmatch(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*", tier.prefix):
        raise ConfigError(f"[tiers.{name}] prefix is made of letters, digits, _ . - and / between them")


def _check_visitors(settings: Settings) -> None:
    for item in fields(LimitsSection):
        if getattr(settings.limits, item.name) < 0:
            raise ConfigError(f"limits.{item.name} must be 0 (no limit) or larger")
    for text in settings.server.trusted_proxies:
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError as error:
            raise ConfigError(
                f"[server] trusted_proxies: {text!r} is not an address or network such as 127.0.0.1 or 10.0.0.0/8"
            ) from error
    if settings.server.accel and not settings.server.trusted_proxies:
        raise ConfigError('[server] accel needs trusted_proxies: the address of your front server, such as "127.0.0.1"')
    if not 1 <= settings.server.processes <= MOST_PROCESSES:
        raise ConfigError(f"[server] processes must be 1 to {MOST_PROCESSES}")
    if settings.images.anonymous_max_px < 0:
        raise ConfigError("images.anonymous_max_px must be 0 (no limit) or larger")
    _check_shown_sizes(settings.images)
    if settings.images.tile_px not in TILE_SIZES:
        raise ConfigError("images.tile_px must be 256, 512 or 1024")


def check_public_url(url: str, *, insecure_loopback: bool) -> None:
    """Refuses an address that cannot be the start of an identifier.

    Raises:
        ConfigError: with what to write instead.
    """
    parts = urlsplit(url)
    if parts.path.strip("/") or parts.query or parts.fragment or parts.username or not parts.hostname:
        raise ConfigError("[node] public_url must be an origin such as https://images.example.org, without a path")
    if parts.scheme == "https":
        return
    if parts.scheme == "http" and insecure_loopback and _is_loopback(parts.hostname):
        return
    raise ConfigError(
        "[node] public_url must begin with https:// (for a trial on one machine: http://127.0.0.1:PORT "
        "with [federation] insecure_loopback = true)"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_regex(pattern: str, where: str) -> None:
    if len(pattern) > 500:
        raise ConfigError(f"{where}: a match longer than 500 characters is a mistake")
    try:
        re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"{where}: match = {pattern!r} is not a regular expression: {error}") from error
