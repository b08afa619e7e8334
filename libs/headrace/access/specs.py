"""What a tenant may use, how much, and what is stored of its keys: their SHA-256, as nobody guesses 256 random bits."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, field_validator

from headrace.hop.config import Settings

# What a credential allows: predictions, reading about pipelines, reporting outcomes of the tenant's own predictions, changing
# what is live and which models are loaded. `operate:PIPELINE` is that for what is live of one pipeline.
SCOPES = ("predict", "read", "outcomes", "operate")
OPERATE = "operate"
_OF_PIPELINE = re.compile(r"operate:[A-Za-z_][A-Za-z0-9_.-]{0,127}")


def check_scope(scope: str) -> str:
    """The scope. Raises ValueError: there is no such scope."""
    if scope in SCOPES or _OF_PIPELINE.fullmatch(scope):
        return scope
    raise ValueError(f"no scope {scope[:80]!r}; there are: {', '.join(SCOPES)}, {OPERATE}:PIPELINE")


Scope: TypeAlias = Annotated[str, AfterValidator(check_scope)]
# The scopes of a tenant that names none. `operate` is never a default.
DEFAULT_SCOPES: tuple[Scope, ...] = ("predict", "read", "outcomes")
ANY = "*"
_SCHEME = "sha256:"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def check_name(name: str) -> str:
    """The name of a tenant. Raises ValueError: none may have it."""
    if _NAME.fullmatch(name):
        return name
    raise ValueError(f"tenant {name[:80]!r}: use lower-case letters, digits, '.', '_' and '-', at most 63")


def check_key_id(identity: str) -> str:
    """The id of a key. Raises ValueError: none may have it."""
    if _KEY_ID.fullmatch(identity):
        return identity
    raise ValueError(f"key {identity[:80]!r}: use letters, digits, '.', '_' and '-', at most 64")


def narrowed(own: Iterable[str], wanted: Iterable[str]) -> frozenset[str]:
    """The scopes that both hold. `operate` holds `operate:PIPELINE` of each pipeline."""
    one, other = frozenset(own), frozenset(wanted)

    def held(scope: str, by: frozenset[str]) -> bool:
        return scope in by or scope.partition(":")[0] in by

    return frozenset(s for s in one if held(s, other)) | frozenset(s for s in other if held(s, one))


class QuotaSpec(Settings):
    """The limits of one tenant. Absent: no limit for this tenant."""

    rows_per_s: PositiveFloat | None = None
    # Rows that may come at once after an idle time; absent: the rows of one second. A larger request passes if the idle time
    # was long enough; the rows beyond the burst are taken from the quota of the time after it.
    rows_burst: PositiveFloat | None = None
    # The same for the bytes of the messages, after decompression.
    bytes_per_s: PositiveFloat | None = None
    bytes_burst: PositiveFloat | None = None
    # Requests in flight at once.
    concurrency: PositiveInt | None = None
    # The most rows of one request.
    max_rows: PositiveInt | None = None
    # Distinct rows that a tenant may send to each pipeline in one day (UTC), against copying a model by its answers. A row that
    # was sent before does not count. Each row takes 16 to 32 bytes of memory and disk.
    distinct_queries_per_day: int | None = Field(default=None, gt=0, le=1_000_000)


# The limits of a new tenant: enough for an application, too little to use up the capacity for the others.
NEW_LIMITS = QuotaSpec(
    rows_per_s=1_000,
    rows_burst=5_000,
    bytes_per_s=16 * 1024 * 1024,
    bytes_burst=64 * 1024 * 1024,
    concurrency=64,
    max_rows=1_024,
)


class KeySpec(Settings):
    """One API key, stored as its hash only."""

    id: Annotated[str, AfterValidator(check_key_id)]
    hash: str = Field(pattern=rf"^{_SCHEME}[0-9a-f]{{64}}$")
    # Absent: the tenant's.
    scopes: tuple[Scope, ...] | None = None
    created: datetime | None = None
    expires: datetime | None = None

    @field_validator("created", "expires")
    @classmethod
    def _with_zone(cls, value: datetime | None) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


class TenantSpec(Settings):
    """One tenant."""

    # Names of pipelines, or "*" for all.
    pipelines: tuple[str, ...] = ()
    scopes: tuple[Scope, ...] = DEFAULT_SCOPES
    limits: QuotaSpec = QuotaSpec()
    # The priority of its requests, which can only name a lower one. 1 to 10; lower is shed first.
    priority: int = Field(default=1, ge=1, le=10)
    # Whether the event of each of its predictions must be on the disk before the answer, whatever the pipeline.
    regulated: bool = False
    # Whether it is refused where nobody attests that all storage is encrypted (`encrypted_until` of the ingress).
    requires_encryption: bool = False


def hash_key(key: str) -> str:
    """What is stored of an API key: "sha256:" and 64 hexadecimal digits."""
    return _SCHEME + key_digest(key.encode()).hex()


def key_digest(key: bytes) -> bytes:
    """The 32 bytes that a key is looked up by.

    A plain hash and a dictionary are enough: who does not know a key can choose no digest, so the time that a look-up takes says
    nothing about the digests that are there, and 256 random bits can't be found from their hash.
    """
    return hashlib.sha256(key).digest()


def digest_of(key: KeySpec) -> bytes:
    """What `key_digest` gives of the key."""
    return bytes.fromhex(key.hash.removeprefix(_SCHEME))


def new_key(*, created: datetime, expires: datetime | None = None) -> tuple[str, KeySpec]:
    """A new key of 256 random bits: its text, to be shown once, and what is stored of it."""
    identity, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    text = f"hr_{identity}_{secret}"
    return text, KeySpec(id=identity, hash=hash_key(text), created=created, expires=expires)
