"""The tenants document: who may call which pipelines, how much, and with which keys.

One YAML file, written by `headrace keys` and `headrace tenants`, read and watched by the ingress. It has no key, only the
SHA-256 of it: a key is 256 random bits, which nobody can guess.

    tenants:
      demo:
        pipelines: ["*"]
        limits: {rows_per_s: 1000, rows_burst: 5000, concurrency: 64}
        keys:
          - {id: 4f0c81aa, hash: "sha256:9b1d…", created: 2026-01-01T00:00:00Z}
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeAlias

import yaml
from pydantic import (
    AfterValidator,
    AliasChoices,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
)

from headrace.hop.config import ConfigError, Settings
from headrace.state import atomic, plain_files

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
# A command holds the lock for milliseconds; if it holds it for much longer, it hangs.
_LOCK_WAIT_S = 30.0
_LOCK_POLL_S = 0.02


def narrowed(own: Iterable[str], wanted: Iterable[str]) -> frozenset[str]:
    """The scopes that both hold. `operate` holds `operate:PIPELINE` of each pipeline."""
    one, other = frozenset(own), frozenset(wanted)

    def held(scope: str, by: frozenset[str]) -> bool:
        return scope in by or scope.partition(":")[0] in by

    return frozenset(s for s in one if held(s, other)) | frozenset(s for s in other if held(s, one))


class QuotaSpec(Settings):
    """The limits of one tenant. Absent: no limit for this tenant.

    `rate_per_s` and `burst` are older names of `rows_per_s` and `rows_burst` and still accepted.
    """

    rows_per_s: PositiveFloat | None = Field(
        default=None, validation_alias=AliasChoices("rows_per_s", "rate_per_s")
    )
    # Rows that may come at once after an idle time; absent: the rows of one second. A larger request passes if the idle time
    # was long enough; the rows beyond the burst are taken from the quota of the time after it.
    rows_burst: PositiveFloat | None = Field(
        default=None, validation_alias=AliasChoices("rows_burst", "burst")
    )
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

    id: str = Field(min_length=1, max_length=64)
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
    """One tenant of the file."""

    keys: tuple[KeySpec, ...] = ()
    # Names of pipelines, or "*" for all.
    pipelines: tuple[str, ...] = ()
    scopes: tuple[Scope, ...] = DEFAULT_SCOPES
    limits: QuotaSpec = QuotaSpec()
    # The priority of its requests, which can only name a lower one. 1 to 10; lower is shed first.
    priority: int = Field(default=1, ge=1, le=10)
    # Whether the event of each of its predictions must be on the disk before the answer, whatever the pipeline.
    regulated: bool = False


def _named(tenants: dict[str, TenantSpec]) -> dict[str, TenantSpec]:
    for name in tenants:
        if not _NAME.fullmatch(name):
            raise ValueError(f"tenant {name!r}: use lower-case letters, digits, '.', '_' and '-', at most 63")
    return tenants


class TenantsFile(Settings):
    """The whole file. It is immutable: a change returns a new one."""

    tenants: Annotated[dict[str, TenantSpec], AfterValidator(_named)] = Field(default_factory=dict)

    def tenant(self, name: str) -> TenantSpec:
        """The tenant of that name. Raises ConfigError that lists the names, if there is none."""
        try:
            return self.tenants[name]
        except KeyError:
            known = ", ".join(sorted(self.tenants)) or "none yet"
            raise ConfigError(f"no tenant {name!r}; there are: {known}") from None

    def with_tenant(self, name: str, tenant: TenantSpec) -> TenantsFile:
        """The file with this tenant added or replaced. Raises ConfigError for a name that is not allowed."""
        try:
            return TenantsFile(tenants={**self.tenants, name: tenant})
        except ValidationError as error:
            raise ConfigError("; ".join(e["msg"] for e in error.errors())) from error

    def without_tenant(self, name: str) -> TenantsFile:
        """The file without that tenant. Raises ConfigError if there is no such tenant."""
        self.tenant(name)
        return TenantsFile(tenants={n: t for n, t in self.tenants.items() if n != name})

    def with_key(self, name: str, key: KeySpec) -> TenantsFile:
        """The file with one more key for a tenant. Raises ConfigError if there is no such tenant."""
        tenant = self.tenant(name)
        return self.with_tenant(name, tenant.model_copy(update={"keys": (*tenant.keys, key)}))

    def without_key(self, name: str, identity: str) -> TenantsFile:
        """The file without that key of a tenant. Raises ConfigError if it is not there."""
        tenant = self.tenant(name)
        kept = tuple(key for key in tenant.keys if key.id != identity)
        if len(kept) == len(tenant.keys):
            known = ", ".join(key.id for key in tenant.keys) or "none"
            raise ConfigError(f"tenant {name!r} has no key {identity!r}; its keys: {known}")
        return self.with_tenant(name, tenant.model_copy(update={"keys": kept}))


def hash_key(key: str) -> str:
    """What the file stores of an API key: "sha256:" and 64 hexadecimal digits."""
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
    """A new key of 256 random bits: its text, to be shown once, and what the file stores of it."""
    identity, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    text = f"hr_{identity}_{secret}"
    return text, KeySpec(id=identity, hash=hash_key(text), created=created, expires=expires)


def load(path: Path) -> TenantsFile:
    """The tenants of a YAML or JSON file. Raises ConfigError saying what is wrong with it."""
    try:
        with plain_files.opened(path) as text:  # an error names the file, not its text
            return TenantsFile.model_validate(yaml.safe_load(text) or {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read tenants: {error}") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"tenants in {path}: {wrong}") from error


def change(
    path: Path, how: Callable[[TenantsFile], TenantsFile], *, wait_s: float = _LOCK_WAIT_S
) -> TenantsFile:
    """Replaces the file by `how(file)` and returns that: the only safe way to change a file that others change, too.

    A lock is held from reading to writing. Raises ConfigError, and so may `how`; then the file is unchanged.
    """
    with locked(path, wait_s=wait_s):
        changed = how(load(path) if path.exists() else TenantsFile())
        try:
            save(path, changed)
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}; nothing is changed") from error
    return changed


@contextmanager
def locked(path: Path, *, wait_s: float = _LOCK_WAIT_S) -> Iterator[None]:
    """Holds the lock of the tenants file `path`. The kernel releases it when the process ends. Raises ConfigError."""
    beside = path.with_name(f".{path.name}.lock")
    try:
        # The lock is a file of its own, because each change replaces the document by another file. It is never removed,
        # because a process may be waiting for it.
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"cannot lock {path}: {error.strerror}") from error
    try:
        _take(descriptor, path, time.monotonic() + wait_s)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path, end: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise ConfigError(f"another command is changing {path} and does not end") from None
            time.sleep(_LOCK_POLL_S)
        else:
            return


def save(path: Path, file: TenantsFile) -> None:
    """Writes the file in one step, readable by its owner only. To change an existing file, use `change`."""
    values = file.model_dump(mode="json", exclude_defaults=True)
    atomic.write(path, yaml.safe_dump(values, sort_keys=False).encode(), mode=0o600)
