"""The secrets of an installation: certificates, the salt of events, the demo's and the operator's key."""

from __future__ import annotations

import secrets
from datetime import datetime
from pathlib import Path

from headrace.cli.installation import certificates
from headrace.cli.installation.audit import audit_place
from headrace.cli.installation.layout import Layout
from headrace.state import atomic, tenants

DEMO = "demo"
# Finite, but more than one machine can do: load tests use the demo tenant.
DEMO_LIMITS = tenants.QuotaSpec(
    rows_per_s=200_000,
    rows_burst=400_000,
    bytes_per_s=1024**3,
    bytes_burst=2 * 1024**3,
    concurrency=4_096,
    max_rows=4_096,
)
OPERATOR = "operator"


def ensure(layout: Layout, now: datetime) -> list[str]:
    """Makes what is missing. Returns the names of what was made. Raises ConfigError for unusable files."""
    layout.make_home()
    made = []
    if certificates.ensure(layout.tls, now):
        made.append("certificates")
    # Two commands at the same time must not make two salts.
    with tenants.locked(layout.tenants):
        if not layout.events_salt.exists():
            atomic.write(layout.events_salt, secrets.token_hex(32).encode() + b"\n", mode=0o600)
    if _ensure_key(
        layout, layout.demo_key, DEMO, tenants.TenantSpec(pipelines=(tenants.ANY,), limits=DEMO_LIMITS), now
    ):
        made.append("demo key")
    if audit_place.ensure(layout):
        made.append("audit key")
    if ensure_operator(layout, now):
        made.append("operator key")
    return made


def ensure_operator(layout: Layout, now: datetime) -> bool:
    """Makes a tenant that may only load and unload models, and its key. Returns whether it made the key.

    Raises OSError, ConfigError.
    """
    return _ensure_key(layout, layout.operator_key, OPERATOR, tenants.TenantSpec(scopes=("operate",)), now)


def _ensure_key(layout: Layout, path: Path, name: str, spec: tenants.TenantSpec, now: datetime) -> bool:
    """Makes a tenant (`spec` if it is new) and its key, in a file that only this user can read. Returns whether it did."""
    key = _key(path)
    if key is not None and layout.tenants.exists():
        known = tenants.load(layout.tenants).tenants.get(name, spec).keys
        if tenants.hash_key(key) in {k.hash for k in known}:
            return False
    text, kept = tenants.new_key(created=now)
    # The tenants document, which the ingress reads, comes last: we have every key that it knows.
    atomic.write(path, text.encode() + b"\n", mode=0o600)

    def with_tenant(file: tenants.TenantsFile) -> tenants.TenantsFile:
        return file.with_tenant(name, file.tenants.get(name, spec)).with_key(name, kept)

    tenants.change(layout.tenants, with_tenant)
    return True


def demo_key(layout: Layout) -> str | None:
    """The demo tenant's key, if it was made."""
    return _key(layout.demo_key)


def _key(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return None
