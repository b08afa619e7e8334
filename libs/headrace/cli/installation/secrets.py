"""The secrets of an installation: certificates, the salt of events, keys of control and audit; keys of demo and operator."""

from __future__ import annotations

import getpass
import secrets
from datetime import UTC, datetime
from pathlib import Path

from headrace.access import changes
from headrace.access.records import By
from headrace.access.specs import ANY, QuotaSpec, TenantSpec, hash_key, new_key
from headrace.catalog.access import Records
from headrace.catalog.errors import RecordsDivergedError
from headrace.cli.installation import certificates
from headrace.cli.installation.layout import Layout
from headrace.hop.config import ConfigError
from headrace.resources.manifest import new_keys, public_of
from headrace.state import atomic

DEMO = "demo"
# Finite, but more than one machine can do: load tests use the demo tenant.
DEMO_LIMITS = QuotaSpec(
    rows_per_s=200_000,
    rows_burst=400_000,
    bytes_per_s=1024**3,
    bytes_burst=2 * 1024**3,
    concurrency=4_096,
    max_rows=4_096,
)
OPERATOR = "operator"


def ensure(layout: Layout, now: datetime) -> list[str]:
    """Makes the files that are missing. Returns the names of what was made. Raises ConfigError for unusable files."""
    layout.make_home()
    made = []
    if certificates.ensure(layout.tls, now):
        made.append("certificates")
    atomic.write_first(layout.events_salt, secrets.token_hex(32).encode() + b"\n", mode=0o600)
    if atomic.write_first(layout.control_key, new_keys()[0], mode=0o600):
        made.append("control key")
    _publish(layout)
    return made


def _publish(layout: Layout) -> None:
    """Puts the public half of control's key where the data plane reads it. Raises ConfigError."""
    try:
        public = public_of(layout.control_key.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{layout.control_key}: {error}") from None
    if not layout.control_public_key.exists() or layout.control_public_key.read_bytes() != public:
        atomic.write(layout.control_public_key, public)


def ensure_keys(layout: Layout, records: Records) -> list[str]:
    """Makes the tenants of the demo and of operators with a key each, if they are missing. Returns the names of what was made.

    Raises OSError, AccessError, RecordsError.
    """
    demo = TenantSpec(pipelines=(ANY,), limits=DEMO_LIMITS)
    made = ["demo key"] if _ensure_key(records, layout.demo_key, DEMO, demo) else []
    if _ensure_key(records, layout.operator_key, OPERATOR, TenantSpec(scopes=("operate",))):
        made.append("operator key")
    return made


def _ensure_key(records: Records, path: Path, name: str, spec: TenantSpec) -> bool:
    """Makes a tenant (`spec` if it is new) and its key, in a file that only this user can read. Returns whether it did."""
    key = _key(path)
    if key is not None and hash_key(key) in {k.hash for k in changes.keys_of(records, name)}:
        return False
    text, made = new_key(created=datetime.now(UTC))
    # The record comes last: we have every key that it knows.
    atomic.write(path, text.encode() + b"\n", mode=0o600)
    try:
        changes.add_key(
            records, name, made, lambda found: found or spec, By(getpass.getuser(), "headrace up")
        )
    except RecordsDivergedError:
        if key is not None:  # which doors may know still
            atomic.write(path, key.encode() + b"\n", mode=0o600)
        raise
    return True


def demo_key(layout: Layout) -> str | None:
    """The demo tenant's key, if it was made."""
    return _key(layout.demo_key)


def _key(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return None
