"""The secrets of an installation: certificates, the pepper that keys are hashed with, the demo's and the operator's key."""

from __future__ import annotations

import secrets
from datetime import datetime
from pathlib import Path

from headrace.cli import certificates
from headrace.cli.layout import Layout
from headrace.state import atomic, tenants

DEMO = "demo"
OPERATOR = "operator"


def ensure(layout: Layout, now: datetime) -> list[str]:
    """Makes what is not there yet; returns what was made, for a person. Raises ConfigError for unusable files."""
    layout.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = []
    if certificates.ensure(layout.tls, now):
        made.append("certificates")
    if not layout.pepper.exists():
        atomic.write(layout.pepper, secrets.token_hex(32).encode() + b"\n", mode=0o600)
        made.append("pepper")
    if _ensure_key(layout, layout.demo_key, DEMO, tenants.TenantSpec(pipelines=(tenants.ANY,)), now):
        made.append("demo key")
    if ensure_operator(layout, now):
        made.append("operator key")
    return made


def ensure_operator(layout: Layout, now: datetime) -> bool:
    """A tenant that may load and unload models, and nothing else, with its key. Raises OSError, ConfigError."""
    return _ensure_key(layout, layout.operator_key, OPERATOR, tenants.TenantSpec(scopes=("operate",)), now)


def _ensure_key(layout: Layout, path: Path, name: str, spec: tenants.TenantSpec, now: datetime) -> bool:
    """A tenant, `spec` if it is new, and its key in a file that only this user can read. Returns whether it was made."""
    pepper = tenants.read_pepper(layout.pepper)
    file = tenants.load(layout.tenants) if layout.tenants.exists() else tenants.TenantsFile()
    tenant = file.tenants.get(name, spec)
    known = {key.hash for key in tenant.keys}
    key = _key(path)
    if key is not None and tenants.hash_key(key, pepper) in known:
        return False
    text, kept = tenants.new_key(pepper, created=now)
    tenant = tenant.model_copy(update={"keys": (*tenant.keys, kept)})
    # The file that is read by the door comes last: a key it knows is one that we have.
    atomic.write(path, text.encode() + b"\n", mode=0o600)
    tenants.save(layout.tenants, file.with_tenant(name, tenant))
    return True


def demo_key(layout: Layout) -> str | None:
    """The demo tenant's key, if it was made."""
    return _key(layout.demo_key)


def _key(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return None
